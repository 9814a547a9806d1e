use std::net::SocketAddr;

use super::address::{self, decode_xored};
use super::attribute::{Attribute, AttributeType};
use super::integrity::{self, Key, KeySha256, TAG_LEN};
use super::message_type::{self, Class, Method, TransactionId};
use super::{ErrorCode, HEADER_LEN, MAGIC_COOKIE};

/// Why octets are not a STUN message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Shorter than a header, first two bits set, or another cookie: perhaps not STUN at all.
    NotStun,
    /// The length field is no multiple of four or does not fit the datagram.
    Length,
    /// An attribute runs over the end, or a known one has an impossible value.
    Attribute,
    /// RFC 8489 §14.7: FINGERPRINT must be the last attribute.
    AfterFingerprint,
}

/// A well-formed STUN message over the octets it was received in.
///
/// Only the attributes before MESSAGE-INTEGRITY are seen: what follows is not authenticated, and RFC 8489 §14.5 has it
/// ignored (but for MESSAGE-INTEGRITY-SHA256 and FINGERPRINT). Of an attribute that stands there twice, the first
/// counts (RFC 8489 §14).
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Where the visible attributes end.
    attributes_end: u16,
    /// Where MESSAGE-INTEGRITY begins (its type field).
    integrity: Option<u16>,
    /// Where MESSAGE-INTEGRITY-SHA256 begins.
    integrity_sha256: Option<u16>,
    fingerprint: Option<u16>,
}

/// The first comprehension-required attributes that nobody here understands: the value of UNKNOWN-ATTRIBUTES.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnknownAttributes {
    types: [u16; UnknownAttributes::MAX],
    length: u8,
}

impl UnknownAttributes {
    /// More are not reported: the answer stays small.
    pub const MAX: usize = 8;

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn types(&self) -> &[u16] {
        &self.types[..usize::from(self.length)]
    }

    fn push(&mut self, kind: u16) {
        if usize::from(self.length) < Self::MAX && !self.types().contains(&kind) {
            self.types[usize::from(self.length)] = kind;
            self.length += 1;
        }
    }
}

impl<'a> Message<'a> {
    /// Reads one whole message: `bytes` must end where the message ends.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, ParseError> {
        if bytes.len() < HEADER_LEN || bytes[0] & 0xC0 != 0 || bytes[4..8] != MAGIC_COOKIE.to_be_bytes() {
            return Err(ParseError::NotStun);
        }
        let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        // What fits no UDP datagram comes over TCP only, and from nobody who means it; places in a message are 16 bits here.
        if !length.is_multiple_of(4) || HEADER_LEN + length != bytes.len() || bytes.len() > usize::from(u16::MAX) {
            return Err(ParseError::Length);
        }
        let mut message = Message {
            bytes,
            attributes_end: bytes.len() as u16,
            integrity: None,
            integrity_sha256: None,
            fingerprint: None,
        };
        message.walk()?;
        Ok(message)
    }

    /// Checks every attribute once, so that the getters need not.
    fn walk(&mut self) -> Result<(), ParseError> {
        let mut at = HEADER_LEN;
        let mut authenticated_end = None;
        while at < self.bytes.len() {
            if self.fingerprint.is_some() {
                return Err(ParseError::AfterFingerprint);
            }
            let attribute = attribute_at(self.bytes, at).ok_or(ParseError::Attribute)?;
            let next = at + 4 + padded(attribute.value.len());
            if next > self.bytes.len() {
                return Err(ParseError::Attribute);
            }
            let seals = match attribute.kind {
                AttributeType::FINGERPRINT => {
                    self.fingerprint = Some(at as u16);
                    true
                }
                AttributeType::MESSAGE_INTEGRITY if authenticated_end.is_none() => {
                    self.integrity = Some(at as u16);
                    true
                }
                AttributeType::MESSAGE_INTEGRITY_SHA256 => {
                    self.integrity_sha256 = self.integrity_sha256.or(Some(at as u16));
                    true
                }
                _ => false,
            };
            if (seals || authenticated_end.is_none()) && !attribute.kind.admits(attribute.value) {
                return Err(ParseError::Attribute);
            }
            if seals && authenticated_end.is_none() {
                authenticated_end = Some(at as u16);
            }
            at = next;
        }
        self.attributes_end = authenticated_end.unwrap_or(at as u16);
        Ok(())
    }

    /// The octets of the message.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn class(&self) -> Class {
        message_type::decode(u16::from_be_bytes([self.bytes[0], self.bytes[1]])).0
    }

    pub fn method(&self) -> Method {
        message_type::decode(u16::from_be_bytes([self.bytes[0], self.bytes[1]])).1
    }

    pub fn transaction_id(&self) -> TransactionId {
        let mut id = [0; 12];
        id.copy_from_slice(&self.bytes[8..20]);
        TransactionId(id)
    }

    /// The attributes before MESSAGE-INTEGRITY, in order.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let bytes = &self.bytes[..usize::from(self.attributes_end)];
        let mut at = HEADER_LEN;
        std::iter::from_fn(move || {
            let attribute = attribute_at(bytes, at)?;
            at += 4 + padded(attribute.value.len());
            Some(attribute)
        })
    }

    /// The value of the first attribute of this type.
    pub fn attribute(&self, kind: AttributeType) -> Option<&'a [u8]> {
        self.attributes().find(|attribute| attribute.kind == kind).map(|attribute| attribute.value)
    }

    /// The comprehension-required attributes for which `known` is false.
    pub fn unknown_required(&self, known: impl Fn(AttributeType) -> bool) -> UnknownAttributes {
        let mut unknown = UnknownAttributes::default();
        for attribute in self.attributes() {
            if attribute.kind.is_comprehension_required() && !known(attribute.kind) {
                unknown.push(attribute.kind.0);
            }
        }
        unknown
    }

    pub fn has_integrity(&self) -> bool {
        self.integrity.is_some()
    }

    /// Whether MESSAGE-INTEGRITY is there and was made with `key`. The comparison takes constant time.
    pub fn verify_integrity(&self, key: &Key) -> bool {
        let Some(at) = self.integrity.map(usize::from) else {
            return false;
        };
        key.verifies(&self.bytes[..at], &self.bytes[at + 4..at + 4 + TAG_LEN])
    }

    pub fn has_integrity_sha256(&self) -> bool {
        self.integrity_sha256.is_some()
    }

    /// Whether MESSAGE-INTEGRITY-SHA256 is there, whole, and was made with `key`. The comparison takes constant time.
    pub fn verify_integrity_sha256(&self, key: &KeySha256) -> bool {
        let Some(at) = self.integrity_sha256.map(usize::from) else {
            return false;
        };
        let length = usize::from(u16::from_be_bytes([self.bytes[at + 2], self.bytes[at + 3]]));
        key.verifies(&self.bytes[..at], &self.bytes[at + 4..at + 4 + length])
    }

    pub fn has_fingerprint(&self) -> bool {
        self.fingerprint.is_some()
    }

    /// Whether FINGERPRINT is there and right.
    pub fn fingerprint_is_valid(&self) -> bool {
        let Some(at) = self.fingerprint.map(usize::from) else {
            return false;
        };
        integrity::fingerprint(&self.bytes[..at]).to_be_bytes() == self.bytes[at + 4..at + 8]
    }

    pub fn username(&self) -> Option<&'a [u8]> {
        self.attribute(AttributeType::USERNAME)
    }

    /// SHA-256 of `username ":" realm`, in place of the name.
    pub fn userhash(&self) -> Option<[u8; 32]> {
        self.attribute(AttributeType::USERHASH)?.try_into().ok()
    }

    pub fn realm(&self) -> Option<&'a [u8]> {
        self.attribute(AttributeType::REALM)
    }

    pub fn nonce(&self) -> Option<&'a [u8]> {
        self.attribute(AttributeType::NONCE)
    }

    /// A zero-length ticket asks for one (RFC 8016 §3.1.1).
    pub fn mobility_ticket(&self) -> Option<&'a [u8]> {
        self.attribute(AttributeType::MOBILITY_TICKET)
    }

    pub fn data(&self) -> Option<&'a [u8]> {
        self.attribute(AttributeType::DATA)
    }

    /// Where DATA's value lies in [`Message::bytes`].
    pub fn data_range(&self) -> Option<std::ops::Range<usize>> {
        let data = self.data()?;
        let start = data.as_ptr() as usize - self.bytes.as_ptr() as usize;
        Some(start..start + data.len())
    }

    pub fn priority(&self) -> Option<u32> {
        self.u32(AttributeType::PRIORITY)
    }

    pub fn use_candidate(&self) -> bool {
        self.attribute(AttributeType::USE_CANDIDATE).is_some()
    }

    /// The tie-breaker of a controlling agent.
    pub fn ice_controlling(&self) -> Option<u64> {
        self.u64(AttributeType::ICE_CONTROLLING)
    }

    /// The tie-breaker of a controlled agent.
    pub fn ice_controlled(&self) -> Option<u64> {
        self.u64(AttributeType::ICE_CONTROLLED)
    }

    pub fn xor_mapped_address(&self) -> Option<SocketAddr> {
        self.address(AttributeType::XOR_MAPPED_ADDRESS)
    }

    pub fn xor_relayed_address(&self) -> Option<SocketAddr> {
        self.address(AttributeType::XOR_RELAYED_ADDRESS)
    }

    /// The first XOR-PEER-ADDRESS.
    pub fn xor_peer_address(&self) -> Option<SocketAddr> {
        self.address(AttributeType::XOR_PEER_ADDRESS)
    }

    /// Every XOR-PEER-ADDRESS: CreatePermission may carry many (RFC 8656 §9).
    pub fn xor_peer_addresses(&self) -> impl Iterator<Item = SocketAddr> + use<'a> {
        let id = self.transaction_id();
        self.attributes()
            .filter(|attribute| attribute.kind == AttributeType::XOR_PEER_ADDRESS)
            .filter_map(move |attribute| decode_xored(attribute.value, id))
    }

    /// Seconds.
    pub fn lifetime(&self) -> Option<u32> {
        self.u32(AttributeType::LIFETIME)
    }

    pub fn channel_number(&self) -> Option<u16> {
        self.u32(AttributeType::CHANNEL_NUMBER).map(|word| (word >> 16) as u16)
    }

    /// Names a connection to a peer (RFC 6062 §6.2.1).
    pub fn connection_id(&self) -> Option<u32> {
        self.u32(AttributeType::CONNECTION_ID)
    }

    /// The IP protocol number that the relayed transport address shall speak (17 is UDP, 6 is TCP).
    pub fn requested_transport(&self) -> Option<u8> {
        self.u32(AttributeType::REQUESTED_TRANSPORT).map(|word| (word >> 24) as u8)
    }

    /// 1 is IPv4, 2 is IPv6; other values reach the caller as they are.
    pub fn requested_address_family(&self) -> Option<u8> {
        self.u32(AttributeType::REQUESTED_ADDRESS_FAMILY).map(|word| (word >> 24) as u8)
    }

    pub fn additional_address_family(&self) -> Option<u8> {
        self.u32(AttributeType::ADDITIONAL_ADDRESS_FAMILY).map(|word| (word >> 24) as u8)
    }

    /// The R bit: whether the next higher port shall be reserved.
    pub fn even_port(&self) -> Option<bool> {
        self.attribute(AttributeType::EVEN_PORT).map(|value| value[0] & 0x80 != 0)
    }

    pub fn dont_fragment(&self) -> bool {
        self.attribute(AttributeType::DONT_FRAGMENT).is_some()
    }

    pub fn reservation_token(&self) -> Option<[u8; 8]> {
        self.attribute(AttributeType::RESERVATION_TOKEN)?.try_into().ok()
    }

    pub fn error_code(&self) -> Option<ErrorCode> {
        let value = self.attribute(AttributeType::ERROR_CODE)?;
        Some(ErrorCode(u16::from(value[2] & 7) * 100 + u16::from(value[3])))
    }

    pub fn alternate_server(&self) -> Option<SocketAddr> {
        address::decode_plain(self.attribute(AttributeType::ALTERNATE_SERVER)?)
    }

    /// ADDRESS-ERROR-CODE: a family (1 is IPv4, 2 is IPv6) and why there is no relayed address of it.
    pub fn address_error_code(&self) -> Option<(u8, ErrorCode)> {
        let value = self.attribute(AttributeType::ADDRESS_ERROR_CODE)?;
        Some((value[0], ErrorCode(u16::from(value[2] & 7) * 100 + u16::from(value[3]))))
    }

    /// Every XOR-RELAYED-ADDRESS: two where both families were asked for (RFC 8656 §7.3).
    pub fn xor_relayed_addresses(&self) -> impl Iterator<Item = SocketAddr> + use<'a> {
        let id = self.transaction_id();
        self.attributes()
            .filter(|attribute| attribute.kind == AttributeType::XOR_RELAYED_ADDRESS)
            .filter_map(move |attribute| decode_xored(attribute.value, id))
    }

    /// The types in UNKNOWN-ATTRIBUTES.
    pub fn unknown_attributes(&self) -> impl Iterator<Item = AttributeType> + use<'a> {
        self.attribute(AttributeType::UNKNOWN_ATTRIBUTES)
            .unwrap_or_default()
            .chunks_exact(2)
            .map(|pair| AttributeType(u16::from_be_bytes([pair[0], pair[1]])))
    }

    pub(super) fn exercise_getters(&self) {
        let _ = (self.username(), self.realm(), self.nonce(), self.data_range(), self.priority());
        let _ = (self.use_candidate(), self.ice_controlling(), self.ice_controlled(), self.even_port());
        let _ = (self.xor_mapped_address(), self.xor_relayed_address(), self.xor_peer_address());
        let _ = (self.lifetime(), self.channel_number(), self.requested_transport(), self.dont_fragment());
        let _ = (self.requested_address_family(), self.additional_address_family(), self.reservation_token());
        let _ = (self.error_code(), self.unknown_attributes().count(), self.xor_peer_addresses().count());
        let _ = (self.userhash(), self.mobility_ticket(), self.alternate_server());
        let _ = (self.address_error_code(), self.xor_relayed_addresses().count());
        let _ = self.unknown_required(|_| false);
    }

    fn u32(&self, kind: AttributeType) -> Option<u32> {
        Some(u32::from_be_bytes(self.attribute(kind)?.try_into().ok()?))
    }

    fn u64(&self, kind: AttributeType) -> Option<u64> {
        Some(u64::from_be_bytes(self.attribute(kind)?.try_into().ok()?))
    }

    fn address(&self, kind: AttributeType) -> Option<SocketAddr> {
        decode_xored(self.attribute(kind)?, self.transaction_id())
    }
}

fn attribute_at(bytes: &[u8], at: usize) -> Option<Attribute<'_>> {
    let head = bytes.get(at..at + 4)?;
    let kind = AttributeType(u16::from_be_bytes([head[0], head[1]]));
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let value = bytes.get(at + 4..at + 4 + length)?;
    Some(Attribute { kind, value })
}

/// RFC 8489 §14: values are padded to a multiple of four octets; the length field does not count the padding.
pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}
