//! `datapath::stun` beside `stun-rs`: the same fields give the same octets, and each reads what the other wrote.

use std::net::SocketAddr;

use datapath::stun::{self, Class, Key, KeySha256, Message, Method, Writer};
use proptest::prelude::*;
use stun_rs::attributes::ice::{IceControlled, IceControlling, Priority, UseCandidate};
use stun_rs::attributes::stun as theirs;
use stun_rs::attributes::turn::{
    ChannelNumber, Data, DontFragment, EvenPort, LifeTime, RequestedAddressFamily, RequestedTrasport, ReservationToken,
    XorPeerAddress, XorRelayedAddress,
};
use stun_rs::{
    AddressFamily, Algorithm, AlgorithmId, DecoderContextBuilder, HMACKey, MessageClass, MessageDecoderBuilder,
    MessageEncoderBuilder, MessageMethod, StunAttributeType, StunMessage, StunMessageBuilder, TransactionId,
};

#[derive(Clone, Debug)]
enum Field {
    Username(String),
    Realm(String),
    Nonce(String),
    ErrorCode(u16),
    UnknownAttribute(u16),
    XorMappedAddress(SocketAddr),
    XorPeerAddress(SocketAddr),
    XorRelayedAddress(SocketAddr),
    ChannelNumber(u16),
    Lifetime(u32),
    Data(Vec<u8>),
    RequestedAddressFamily(bool),
    RequestedTransport,
    EvenPort(bool),
    DontFragment,
    ReservationToken([u8; 8]),
    Priority(u32),
    UseCandidate,
    IceControlled(u64),
    IceControlling(u64),
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![any::<([u8; 4], u16)>().prop_map(SocketAddr::from), any::<([u8; 16], u16)>().prop_map(SocketAddr::from),]
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        "[a-z0-9:@.]{1,40}".prop_map(Field::Username),
        "[a-z0-9.]{1,16}".prop_map(Field::Realm),
        "[a-zA-Z0-9]{1,40}".prop_map(Field::Nonce),
        (300u16..699).prop_map(Field::ErrorCode),
        any::<u16>().prop_map(Field::UnknownAttribute),
        address().prop_map(Field::XorMappedAddress),
        address().prop_map(Field::XorPeerAddress),
        address().prop_map(Field::XorRelayedAddress),
        any::<u16>().prop_map(Field::ChannelNumber),
        any::<u32>().prop_map(Field::Lifetime),
        prop::collection::vec(any::<u8>(), 0..50).prop_map(Field::Data),
        any::<bool>().prop_map(Field::RequestedAddressFamily),
        Just(Field::RequestedTransport),
        any::<bool>().prop_map(Field::EvenPort),
        Just(Field::DontFragment),
        any::<[u8; 8]>().prop_map(Field::ReservationToken),
        any::<u32>().prop_map(Field::Priority),
        Just(Field::UseCandidate),
        any::<u64>().prop_map(Field::IceControlled),
        any::<u64>().prop_map(Field::IceControlling),
    ]
}

/// Ours.
fn write(field: &Field, writer: &mut Writer<'_>) {
    match field {
        Field::Username(text) => writer.username(text.as_bytes()),
        Field::Realm(text) => writer.realm(text.as_bytes()),
        Field::Nonce(text) => writer.nonce(text.as_bytes()),
        Field::ErrorCode(code) => writer.error_code(stun::ErrorCode(*code)),
        Field::UnknownAttribute(kind) => writer.attribute(stun::AttributeType::UNKNOWN_ATTRIBUTES, &kind.to_be_bytes()),
        Field::XorMappedAddress(address) => writer.xor_mapped_address(*address),
        Field::XorPeerAddress(address) => writer.xor_peer_address(*address),
        Field::XorRelayedAddress(address) => writer.xor_relayed_address(*address),
        Field::ChannelNumber(number) => writer.channel_number(*number),
        Field::Lifetime(seconds) => writer.lifetime(*seconds),
        Field::Data(data) => writer.data(data),
        Field::RequestedAddressFamily(six) => writer.requested_address_family(if *six { 2 } else { 1 }),
        Field::RequestedTransport => writer.requested_transport(17),
        Field::EvenPort(reserve) => writer.even_port(*reserve),
        Field::DontFragment => writer.dont_fragment(),
        Field::ReservationToken(token) => writer.reservation_token(*token),
        Field::Priority(priority) => writer.priority(*priority),
        Field::UseCandidate => writer.use_candidate(),
        Field::IceControlled(number) => writer.ice_controlled(*number),
        Field::IceControlling(number) => writer.ice_controlling(*number),
    };
}

/// Theirs.
fn add(field: &Field, builder: StunMessageBuilder) -> StunMessageBuilder {
    match field {
        Field::Username(text) => builder.with_attribute(theirs::UserName::new(text).unwrap()),
        Field::Realm(text) => builder.with_attribute(theirs::Realm::new(text).unwrap()),
        Field::Nonce(text) => builder.with_attribute(theirs::Nonce::new(text).unwrap()),
        Field::ErrorCode(code) => {
            builder.with_attribute(theirs::ErrorCode::new(stun_rs::ErrorCode::new(*code, "").unwrap()))
        }
        Field::UnknownAttribute(kind) => {
            let mut unknown = theirs::UnknownAttributes::default();
            unknown.add(*kind);
            builder.with_attribute(unknown)
        }
        Field::XorMappedAddress(address) => builder.with_attribute(theirs::XorMappedAddress::from(*address)),
        Field::XorPeerAddress(address) => builder.with_attribute(XorPeerAddress::from(*address)),
        Field::XorRelayedAddress(address) => builder.with_attribute(XorRelayedAddress::from(*address)),
        Field::ChannelNumber(number) => builder.with_attribute(ChannelNumber::new(*number)),
        Field::Lifetime(seconds) => builder.with_attribute(LifeTime::new(*seconds)),
        Field::Data(data) => builder.with_attribute(Data::new(data)),
        Field::RequestedAddressFamily(six) => {
            let family = if *six { AddressFamily::IPv6 } else { AddressFamily::IPv4 };
            builder.with_attribute(RequestedAddressFamily::new(family))
        }
        Field::RequestedTransport => builder.with_attribute(RequestedTrasport::new(stun_rs::protocols::UDP)),
        Field::EvenPort(reserve) => builder.with_attribute(EvenPort::new(*reserve)),
        Field::DontFragment => builder.with_attribute(DontFragment::default()),
        Field::ReservationToken(token) => builder.with_attribute(ReservationToken::from(*token)),
        Field::Priority(priority) => builder.with_attribute(Priority::new(*priority)),
        Field::UseCandidate => builder.with_attribute(UseCandidate::default()),
        Field::IceControlled(number) => builder.with_attribute(IceControlled::new(*number)),
        Field::IceControlling(number) => builder.with_attribute(IceControlling::new(*number)),
    }
}

/// Whether our reader finds the field as it was meant.
fn is_read(field: &Field, message: &Message<'_>) -> bool {
    match field {
        Field::Username(text) => message.username() == Some(text.as_bytes()),
        Field::Realm(text) => message.realm() == Some(text.as_bytes()),
        Field::Nonce(text) => message.nonce() == Some(text.as_bytes()),
        Field::ErrorCode(code) => message.error_code() == Some(stun::ErrorCode(*code)),
        Field::UnknownAttribute(kind) => message.unknown_attributes().eq([stun::AttributeType(*kind)]),
        Field::XorMappedAddress(address) => message.xor_mapped_address() == Some(*address),
        Field::XorPeerAddress(address) => message.xor_peer_address() == Some(*address),
        Field::XorRelayedAddress(address) => message.xor_relayed_address() == Some(*address),
        Field::ChannelNumber(number) => message.channel_number() == Some(*number),
        Field::Lifetime(seconds) => message.lifetime() == Some(*seconds),
        Field::Data(data) => message.data() == Some(data),
        Field::RequestedAddressFamily(six) => message.requested_address_family() == Some(1 + u8::from(*six)),
        Field::RequestedTransport => message.requested_transport() == Some(17),
        Field::EvenPort(reserve) => message.even_port() == Some(*reserve),
        Field::DontFragment => message.dont_fragment(),
        Field::ReservationToken(token) => message.reservation_token() == Some(*token),
        Field::Priority(priority) => message.priority() == Some(*priority),
        Field::UseCandidate => message.use_candidate(),
        Field::IceControlled(number) => message.ice_controlled() == Some(*number),
        Field::IceControlling(number) => message.ice_controlling() == Some(*number),
    }
}

/// One field of a kind, as a message has them.
fn distinct(fields: Vec<Field>) -> Vec<Field> {
    let mut seen = Vec::new();
    fields
        .into_iter()
        .filter(|field| {
            let kind = std::mem::discriminant(field);
            let is_new = !seen.contains(&kind);
            seen.push(kind);
            is_new
        })
        .collect()
}

fn key_of_theirs(long_term: bool) -> HMACKey {
    if long_term {
        let algorithm = Algorithm::from(AlgorithmId::MD5);
        HMACKey::new_long_term("bob", "hausruf", "builder", algorithm).unwrap()
    } else {
        HMACKey::new_short_term("builder").unwrap()
    }
}

fn decode(octets: &[u8], key: &HMACKey) -> Result<StunMessage, String> {
    let context = DecoderContextBuilder::default().with_key(key.clone()).with_validation().build();
    let decoder = MessageDecoderBuilder::default().with_context(context).build();
    let (message, length) = decoder.decode(octets).map_err(|error| error.to_string())?;
    if length == octets.len() { Ok(message) } else { Err(format!("read {length} octets")) }
}

proptest! {
    #[test]
    fn both_write_the_same_octets_and_read_each_other(
        fields in prop::collection::vec(field(), 0..12).prop_map(distinct),
        id: [u8; 12],
        method in 0u16..0x1000,
        class in 0usize..4,
        long_term: bool,
    ) {
        let their_key = key_of_theirs(long_term);
        let key = Key::new(their_key.as_bytes());
        let (class, their_class) = [
            (Class::Request, MessageClass::Request),
            (Class::Indication, MessageClass::Indication),
            (Class::SuccessResponse, MessageClass::SuccessResponse),
            (Class::ErrorResponse, MessageClass::ErrorResponse),
        ][class];

        let mut ours = [0; 1500];
        let mut writer = Writer::new(&mut ours, class, Method(method), stun::TransactionId(id));
        for field in &fields {
            write(field, &mut writer);
        }
        let length = writer.finish_with_integrity(&key, true).unwrap();
        let ours = &ours[..length];

        let their_method = MessageMethod::try_from(method).unwrap();
        let builder = StunMessageBuilder::new(their_method, their_class).with_transaction_id(TransactionId::from(id));
        let message = fields
            .iter()
            .fold(builder, |builder, field| add(field, builder))
            .with_attribute(theirs::MessageIntegrity::new(their_key.clone()))
            .with_attribute(theirs::Fingerprint::default())
            .build();
        let mut their_octets = [0; 1500];
        let length = MessageEncoderBuilder::default().build().encode(&mut their_octets, &message).unwrap();
        prop_assert_eq!(ours, &their_octets[..length]);

        // They verify both seals as they read.
        let read = decode(ours, &their_key).unwrap();
        prop_assert_eq!(read.method(), their_method);
        prop_assert_eq!(read.attributes().len(), fields.len() + 2);
        prop_assert!(read.get::<theirs::Fingerprint>().is_some());

        let message = Message::parse(&their_octets[..length]).unwrap();
        prop_assert!(message.verify_integrity(&key) && message.fingerprint_is_valid());
        prop_assert_eq!((message.class(), message.method()), (class, Method(method)));
        for field in &fields {
            prop_assert!(is_read(field, &message), "{:?}", field);
        }
    }

    /// The seal of RFC 8489, over keys of both password algorithms.
    #[test]
    fn both_seal_alike_with_sha256(
        fields in prop::collection::vec(field(), 0..12).prop_map(distinct),
        id: [u8; 12],
        sha256: bool,
    ) {
        let algorithm = Algorithm::from(if sha256 { AlgorithmId::SHA256 } else { AlgorithmId::MD5 });
        let their_key = HMACKey::new_long_term("bob", "hausruf", "builder", algorithm).unwrap();
        let key = KeySha256::new(their_key.as_bytes());
        let mut ours = [0; 1500];
        let mut writer = Writer::new(&mut ours, Class::Request, Method::ALLOCATE, stun::TransactionId(id));
        for field in &fields {
            write(field, &mut writer);
        }
        let length = writer.finish_with_integrity_sha256(&key, true).unwrap();
        let ours = &ours[..length];

        let method = MessageMethod::try_from(Method::ALLOCATE.0).unwrap();
        let builder = StunMessageBuilder::new(method, MessageClass::Request).with_transaction_id(TransactionId::from(id));
        let message = fields
            .iter()
            .fold(builder, |builder, field| add(field, builder))
            .with_attribute(theirs::MessageIntegritySha256::new(their_key.clone()))
            .with_attribute(theirs::Fingerprint::default())
            .build();
        let mut their_octets = [0; 1500];
        let length = MessageEncoderBuilder::default().build().encode(&mut their_octets, &message).unwrap();
        prop_assert_eq!(ours, &their_octets[..length]);
        prop_assert!(decode(ours, &their_key).is_ok());
        let message = Message::parse(&their_octets[..length]).unwrap();
        prop_assert!(message.verify_integrity_sha256(&key) && !message.has_integrity());
        prop_assert!(!message.verify_integrity_sha256(&KeySha256::new(b"another")));
    }

    /// What is damaged, neither takes for a message from who knows the key.
    #[test]
    fn neither_accepts_a_damaged_message(at in 0usize..68, bit in 0u8..8) {
        let their_key = key_of_theirs(true);
        let key = Key::new(their_key.as_bytes());
        let mut octets = [0; 100];
        let mut writer = Writer::new(&mut octets, Class::Request, Method::REFRESH, stun::TransactionId([5; 12]));
        writer.lifetime(600).username(b"bob");
        let length = writer.finish_with_integrity(&key, true).unwrap();
        prop_assert_eq!(length, 68);
        prop_assert!(decode(&octets[..length], &their_key).is_ok());
        octets[at] ^= 1 << bit;
        let ours = Message::parse(&octets[..length]);
        prop_assert!(!ours.is_ok_and(|message| message.verify_integrity(&key) && message.fingerprint_is_valid()));
        let read = decode(&octets[..length], &their_key);
        let sealed = |message: StunMessage| {
            message.get::<theirs::MessageIntegrity>().is_some() && message.get::<theirs::Fingerprint>().is_some()
        };
        prop_assert!(!read.is_ok_and(sealed));
    }
}

#[test]
fn both_hash_a_name_alike() {
    let theirs = theirs::UserHash::new("bob", "hausruf").unwrap();
    let mut buffer = [0; 100];
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, stun::TransactionId([5; 12]));
    writer.userhash(theirs.hash().try_into().unwrap());
    let length = writer.finish().unwrap();
    assert_eq!(Message::parse(&buffer[..length]).unwrap().userhash().unwrap(), theirs.hash());
    // printf 'bob:hausruf' | sha256sum
    let known = "b059dc8d8659b341245d1613e4bd129a610908ebda79cfd9f1d4fdf581200d19";
    assert_eq!(theirs.hash().iter().map(|octet| format!("{octet:02x}")).collect::<String>(), known);
}

#[test]
fn types_have_the_same_numbers() {
    use stun_rs::attributes::turn::{AdditionalAddressFamily, AddressErrorCode, Icmp};
    let pairs = [
        (stun::AttributeType::ADDITIONAL_ADDRESS_FAMILY, AdditionalAddressFamily::get_type()),
        (stun::AttributeType::ADDRESS_ERROR_CODE, AddressErrorCode::get_type()),
        (stun::AttributeType::ICMP, Icmp::get_type()),
        (stun::AttributeType::SOFTWARE, theirs::Software::get_type()),
        (stun::AttributeType::MAPPED_ADDRESS, theirs::MappedAddress::get_type()),
        (stun::AttributeType::MESSAGE_INTEGRITY_SHA256, theirs::MessageIntegritySha256::get_type()),
        (stun::AttributeType::PASSWORD_ALGORITHM, theirs::PasswordAlgorithm::get_type()),
        (stun::AttributeType::PASSWORD_ALGORITHMS, theirs::PasswordAlgorithms::get_type()),
        (stun::AttributeType::USERHASH, theirs::UserHash::get_type()),
    ];
    for (ours, theirs) in pairs {
        assert_eq!(ours.0, theirs.as_u16());
    }
}
