//! RFC 5769 §2, and what must hold for any message.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// §2.1.
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae
    802200105354554e207465737420636c69656e74
    002400046e0001ff80290008932ff9b151263b36
    00060009 6576746a3a683676592020 20
    00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
    80280004 e57a3bcf";
/// §2.2.
const RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae
    8022000b7465737420766563746f7220
    002000080001a147e112a643
    000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7
    80280004c07d4c96";
/// §2.3.
const RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae
    8022000b7465737420766563746f7220
    002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9
    00080014a382954e4be67bf11784c97c8292c275bfe3ed41
    80280004c8fb0b4c";
/// §2.4.
const LONG_TERM: &str = "000100602112a44278ad3433c6ad72c029da412e
    00060012e3839ee38388e383aae38383e382afe382b90000
    0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473 41
    0014000b6578616d706c652e6f726700
    00080014f67024656dd64a3e02b8e0712e85c9a28ca89666";

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

#[test]
fn sample_request() {
    let bytes = hex(REQUEST);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Request, Method::BINDING));
    assert_eq!(message.username(), Some(&b"evtj:h6vY"[..]));
    assert_eq!(message.priority(), Some(0x6E00_01FF));
    assert_eq!(message.ice_controlled(), Some(0x932F_F9B1_5126_3B36));
    assert_eq!(message.ice_controlling(), None);
    assert!(!message.use_candidate());
    assert!(message.verify_integrity(&Key::new(PASSWORD)));
    assert!(!message.verify_integrity(&Key::new(b"another")));
    assert!(message.fingerprint_is_valid());
}

#[test]
fn sample_responses() {
    for (text, address) in
        [(RESPONSE_V4, "192.0.2.1:32853"), (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
    {
        let bytes = hex(text);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.class(), Class::SuccessResponse);
        assert_eq!(message.xor_mapped_address(), Some(address.parse().unwrap()));
        assert!(message.verify_integrity(&Key::new(PASSWORD)));
        assert!(message.fingerprint_is_valid());
    }
}

#[test]
fn sample_long_term_request() {
    let bytes = hex(LONG_TERM);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.realm(), Some(&b"example.org"[..]));
    assert_eq!(message.nonce(), Some(&b"f//499k954d6OL34oL9FSTvy64sA"[..]));
    // MD5("マトリックス:example.org:TheMatrIX").
    let key = Key::new(&hex("e8ca7ad59d5eb0518e312911d2dab2a9"));
    assert!(message.verify_integrity(&key));
}

#[test]
fn attributes_after_integrity_are_not_seen() {
    let key = Key::new(b"k");
    let mut buffer = [0; 200];
    let length = Writer::new(&mut buffer, Class::Request, Method::BINDING, TransactionId([1; 12]))
        .finish_with_integrity(&key, false)
        .unwrap();
    // USE-CANDIDATE smuggled in behind the seal, with the header length made to match.
    buffer[length..length + 4].copy_from_slice(&[0x00, 0x25, 0, 0]);
    buffer[3] += 4;
    let message = Message::parse(&buffer[..length + 4]).unwrap();
    assert!(message.verify_integrity(&key));
    assert!(!message.use_candidate());
    assert_eq!(message.attributes().count(), 0);
}

#[test]
fn refusals() {
    let good = hex(REQUEST);
    assert_eq!(Message::parse(&[]).unwrap_err(), ParseError::NotStun);
    assert_eq!(Message::parse(&good[..good.len() - 4]).unwrap_err(), ParseError::Length);
    let mut behind_fingerprint = good.clone();
    behind_fingerprint.extend([0x80, 0x22, 0, 0]);
    behind_fingerprint[3] += 4;
    assert_eq!(Message::parse(&behind_fingerprint).unwrap_err(), ParseError::AfterFingerprint);
    let mut attribute_over_the_end = good.clone();
    attribute_over_the_end[23] = 0xFF;
    assert_eq!(Message::parse(&attribute_over_the_end).unwrap_err(), ParseError::Attribute);
    let mut rfc3489 = good;
    rfc3489[4] = 0;
    assert_eq!(Message::parse(&rfc3489).unwrap_err(), ParseError::NotStun);
}

#[test]
fn a_message_that_does_not_fit_is_not_written() {
    let mut buffer = [0; 40];
    let key = Key::new(b"k");
    let id = TransactionId::default();
    assert_eq!(Writer::new(&mut buffer, Class::Request, Method::BINDING, id).finish_with_integrity(&key, true), None);
    assert_eq!(Writer::new(&mut buffer[..19], Class::Request, Method::BINDING, id).finish(), None);
}

#[test]
fn padding_is_zeroed() {
    let mut buffer = [0xAA; 64];
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, TransactionId::default());
    writer.username(b"abcde");
    let length = writer.finish().unwrap();
    assert_eq!(&buffer[24..length], b"abcde\0\0\0");
}

#[test]
fn unknown_comprehension_required_attributes() {
    let mut buffer = [0; 128];
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, TransactionId::default());
    writer.attribute(AttributeType(0x7F01), b"x").attribute(AttributeType(0xC057), b"y");
    writer.priority(1).attribute(AttributeType(0x7F01), b"z").attribute(AttributeType(0x0033), &[]);
    let length = writer.finish().unwrap();
    let message = Message::parse(&buffer[..length]).unwrap();
    let unknown = message.unknown_required(|kind| kind == AttributeType::PRIORITY);
    assert_eq!(unknown.types(), [0x7F01, 0x0033]);
    let mut answer = [0; 128];
    let mut writer = Writer::new(&mut answer, Class::ErrorResponse, Method::BINDING, TransactionId::default());
    writer.error_code(ErrorCode::UNKNOWN_ATTRIBUTE).unknown_attributes(&unknown);
    let length = writer.finish().unwrap();
    let answer = Message::parse(&answer[..length]).unwrap();
    assert_eq!(answer.error_code(), Some(ErrorCode::UNKNOWN_ATTRIBUTE));
    assert!(answer.unknown_attributes().map(|kind| kind.0).eq([0x7F01, 0x0033]));
}

#[derive(Clone, Debug)]
enum Written {
    Username(Vec<u8>),
    Peer(SocketAddr),
    Lifetime(u32),
    Channel(u16),
    Data(Vec<u8>),
    Unknown(u16, Vec<u8>),
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![any::<([u8; 4], u16)>().prop_map(SocketAddr::from), any::<([u8; 16], u16)>().prop_map(SocketAddr::from),]
}

fn written() -> impl Strategy<Value = Written> {
    let octets = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        octets().prop_map(Written::Username),
        address().prop_map(Written::Peer),
        any::<u32>().prop_map(Written::Lifetime),
        any::<u16>().prop_map(Written::Channel),
        octets().prop_map(Written::Data),
        (0xC000u16.., octets()).prop_map(|(kind, value)| Written::Unknown(kind, value)),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(id: [u8; 12], method in 0u16..0x1000, attributes in proptest::collection::vec(written(), 0..12)) {
        let key = Key::new(b"password");
        let mut buffer = [0xFF; 2048];
        let id = TransactionId(id);
        let mut writer = Writer::new(&mut buffer, Class::Request, Method(method), id);
        for attribute in &attributes {
            match attribute {
                Written::Username(value) => writer.username(value),
                Written::Peer(value) => writer.xor_peer_address(*value),
                Written::Lifetime(value) => writer.lifetime(*value),
                Written::Channel(value) => writer.channel_number(*value),
                Written::Data(value) => writer.data(value),
                Written::Unknown(kind, value) => writer.attribute(AttributeType(*kind), value),
            };
        }
        let length = writer.finish_with_integrity(&key, true).unwrap();
        let message = Message::parse(&buffer[..length]).unwrap();
        prop_assert!(message.verify_integrity(&key) && message.fingerprint_is_valid());
        prop_assert_eq!(message.method(), Method(method));
        prop_assert_eq!(message.transaction_id(), id);
        prop_assert_eq!(message.attributes().count(), attributes.len());
        let first = |wanted: fn(&Written) -> bool| attributes.iter().find(|a| wanted(a));
        if let Some(Written::Username(value)) = first(|a| matches!(a, Written::Username(_))) {
            prop_assert_eq!(message.username(), Some(&value[..]));
        }
        if let Some(Written::Lifetime(value)) = first(|a| matches!(a, Written::Lifetime(_))) {
            prop_assert_eq!(message.lifetime(), Some(*value));
        }
        if let Some(Written::Channel(value)) = first(|a| matches!(a, Written::Channel(_))) {
            prop_assert_eq!(message.channel_number(), Some(*value));
        }
        if let Some(Written::Data(value)) = first(|a| matches!(a, Written::Data(_))) {
            prop_assert_eq!(&message.bytes()[message.data_range().unwrap()], &value[..]);
        }
        let peers: Vec<_> = attributes.iter().filter_map(|a| if let Written::Peer(p) = a { Some(*p) } else { None }).collect();
        prop_assert_eq!(message.xor_peer_addresses().collect::<Vec<_>>(), peers);
    }

    /// One flipped bit anywhere is noticed, by the parser or by one of the two seals.
    #[test]
    fn a_flipped_bit_is_noticed(at in 0usize..108, bit in 0u8..8) {
        let mut bytes = hex(REQUEST);
        bytes[at] ^= 1 << bit;
        let sound = Message::parse(&bytes).is_ok_and(|m| m.verify_integrity(&Key::new(PASSWORD)) && m.fingerprint_is_valid());
        prop_assert!(!sound);
    }

    #[test]
    fn nothing_panics(data in proptest::collection::vec(any::<u8>(), 0..200), header: bool) {
        let mut data = data;
        if header && data.len() >= 20 {
            let length = ((data.len() - 20) & !3) as u16;
            data.truncate(20 + usize::from(length));
            data[0] &= 0x3F;
            data[2..4].copy_from_slice(&length.to_be_bytes());
            data[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        }
        fuzz_stun(&data);
    }
}

/// The length of the header counts to 65,532, and over TCP all of that can come.
#[test]
fn a_message_that_no_datagram_holds_is_refused() {
    let long = |padding: u16| {
        let length = padding + 4 + 8;
        let mut bytes = [&[0, 3][..], &length.to_be_bytes(), &MAGIC_COOKIE.to_be_bytes(), &[7; 12]].concat();
        bytes.extend_from_slice(&[&[0xC0, 1][..], &padding.to_be_bytes(), &vec![0; padding.into()]].concat());
        bytes.extend_from_slice(&[0x80, 0x28, 0, 4, 0, 0, 0, 0]);
        bytes
    };
    // FINGERPRINT stands at 65,536.
    let bytes = long(0xFFE8);
    assert_eq!(bytes.len(), 65_544);
    assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::Length);
    let bytes = long(0xFFE0 - 12);
    assert!(!Message::parse(&bytes).unwrap().fingerprint_is_valid());
}
