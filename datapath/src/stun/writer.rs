use std::net::SocketAddr;

use super::address::{self, encode_xored};
use super::integrity::{self, Key, KeySha256, TAG_LEN};
use super::message::padded;
use super::message_type::{self, Class, Method, TransactionId};
use super::{AttributeType, ErrorCode, HEADER_LEN, MAGIC_COOKIE, UnknownAttributes};

/// Writes one message into the caller's buffer, attribute by attribute.
///
/// What does not fit makes `finish` return `None`, so a caller checks once. Padding is zeroed.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    length: usize,
    overflow: bool,
    transaction_id: TransactionId,
}

impl<'a> Writer<'a> {
    pub fn new(buffer: &'a mut [u8], class: Class, method: Method, transaction_id: TransactionId) -> Writer<'a> {
        let overflow = buffer.len() < HEADER_LEN;
        if !overflow {
            buffer[..2].copy_from_slice(&message_type::encode(class, method).to_be_bytes());
            buffer[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            buffer[8..20].copy_from_slice(&transaction_id.0);
        }
        Writer { buffer, length: HEADER_LEN, overflow, transaction_id }
    }

    /// Appends an attribute with this value.
    pub fn attribute(&mut self, kind: AttributeType, value: &[u8]) -> &mut Self {
        let end = self.length + 4 + padded(value.len());
        if self.overflow || end > self.buffer.len() || end - HEADER_LEN > usize::from(u16::MAX) {
            self.overflow = true;
            return self;
        }
        let slot = &mut self.buffer[self.length..end];
        slot[..2].copy_from_slice(&kind.0.to_be_bytes());
        slot[2..4].copy_from_slice(&(value.len() as u16).to_be_bytes());
        slot[4..4 + value.len()].copy_from_slice(value);
        slot[4 + value.len()..].fill(0);
        self.length = end;
        self
    }

    pub fn username(&mut self, username: &[u8]) -> &mut Self {
        self.attribute(AttributeType::USERNAME, username)
    }

    /// SHA-256 of `username ":" realm`.
    pub fn userhash(&mut self, hash: [u8; 32]) -> &mut Self {
        self.attribute(AttributeType::USERHASH, &hash)
    }

    pub fn mobility_ticket(&mut self, ticket: &[u8]) -> &mut Self {
        self.attribute(AttributeType::MOBILITY_TICKET, ticket)
    }

    pub fn alternate_server(&mut self, address: SocketAddr) -> &mut Self {
        let mut value = [0; address::MAX_LEN];
        let length = address::encode_plain(address, &mut value);
        self.attribute(AttributeType::ALTERNATE_SERVER, &value[..length])
    }

    pub fn realm(&mut self, realm: &[u8]) -> &mut Self {
        self.attribute(AttributeType::REALM, realm)
    }

    pub fn nonce(&mut self, nonce: &[u8]) -> &mut Self {
        self.attribute(AttributeType::NONCE, nonce)
    }

    pub fn data(&mut self, data: &[u8]) -> &mut Self {
        self.attribute(AttributeType::DATA, data)
    }

    pub fn priority(&mut self, priority: u32) -> &mut Self {
        self.attribute(AttributeType::PRIORITY, &priority.to_be_bytes())
    }

    pub fn use_candidate(&mut self) -> &mut Self {
        self.attribute(AttributeType::USE_CANDIDATE, &[])
    }

    pub fn ice_controlling(&mut self, tie_breaker: u64) -> &mut Self {
        self.attribute(AttributeType::ICE_CONTROLLING, &tie_breaker.to_be_bytes())
    }

    pub fn ice_controlled(&mut self, tie_breaker: u64) -> &mut Self {
        self.attribute(AttributeType::ICE_CONTROLLED, &tie_breaker.to_be_bytes())
    }

    pub fn xor_mapped_address(&mut self, address: SocketAddr) -> &mut Self {
        self.address(AttributeType::XOR_MAPPED_ADDRESS, address)
    }

    pub fn xor_relayed_address(&mut self, address: SocketAddr) -> &mut Self {
        self.address(AttributeType::XOR_RELAYED_ADDRESS, address)
    }

    pub fn xor_peer_address(&mut self, address: SocketAddr) -> &mut Self {
        self.address(AttributeType::XOR_PEER_ADDRESS, address)
    }

    /// Seconds.
    pub fn lifetime(&mut self, seconds: u32) -> &mut Self {
        self.attribute(AttributeType::LIFETIME, &seconds.to_be_bytes())
    }

    pub fn channel_number(&mut self, number: u16) -> &mut Self {
        self.attribute(AttributeType::CHANNEL_NUMBER, &(u32::from(number) << 16).to_be_bytes())
    }

    /// Names a connection to a peer (RFC 6062 §6.2.1).
    pub fn connection_id(&mut self, id: u32) -> &mut Self {
        self.attribute(AttributeType::CONNECTION_ID, &id.to_be_bytes())
    }

    /// An IP protocol number; 17 is UDP, 6 is TCP.
    pub fn requested_transport(&mut self, protocol: u8) -> &mut Self {
        self.attribute(AttributeType::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0])
    }

    /// 1 is IPv4, 2 is IPv6.
    pub fn requested_address_family(&mut self, family: u8) -> &mut Self {
        self.attribute(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0])
    }

    pub fn even_port(&mut self, reserve_next: bool) -> &mut Self {
        self.attribute(AttributeType::EVEN_PORT, &[u8::from(reserve_next) << 7])
    }

    pub fn dont_fragment(&mut self) -> &mut Self {
        self.attribute(AttributeType::DONT_FRAGMENT, &[])
    }

    pub fn reservation_token(&mut self, token: [u8; 8]) -> &mut Self {
        self.attribute(AttributeType::RESERVATION_TOKEN, &token)
    }

    /// Without a reason phrase: it would only make the answer larger than the request.
    pub fn error_code(&mut self, code: ErrorCode) -> &mut Self {
        let value = [0, 0, (code.0 / 100) as u8, (code.0 % 100) as u8];
        self.attribute(AttributeType::ERROR_CODE, &value)
    }

    /// Why there is no relayed address of this family (1 is IPv4, 2 is IPv6), without a reason phrase.
    pub fn address_error_code(&mut self, family: u8, code: ErrorCode) -> &mut Self {
        let value = [family, 0, (code.0 / 100) as u8, (code.0 % 100) as u8];
        self.attribute(AttributeType::ADDRESS_ERROR_CODE, &value)
    }

    /// 1 is IPv4, 2 is IPv6.
    pub fn additional_address_family(&mut self, family: u8) -> &mut Self {
        self.attribute(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[family, 0, 0, 0])
    }

    pub fn unknown_attributes(&mut self, unknown: &UnknownAttributes) -> &mut Self {
        let mut value = [0; 2 * UnknownAttributes::MAX];
        let types = unknown.types();
        for (slot, kind) in value.chunks_exact_mut(2).zip(types) {
            slot.copy_from_slice(&kind.to_be_bytes());
        }
        self.attribute(AttributeType::UNKNOWN_ATTRIBUTES, &value[..2 * types.len()])
    }

    /// The length of the whole message, or `None` if it did not fit.
    pub fn finish(mut self) -> Option<usize> {
        self.seal()
    }

    /// Appends FINGERPRINT.
    pub fn finish_with_fingerprint(mut self) -> Option<usize> {
        self.fingerprint();
        self.seal()
    }

    /// Appends MESSAGE-INTEGRITY and, if asked, FINGERPRINT.
    pub fn finish_with_integrity(mut self, key: &Key, fingerprint: bool) -> Option<usize> {
        if !self.overflow {
            let tag: [u8; TAG_LEN] = key.tag(&self.buffer[..self.length]);
            self.attribute(AttributeType::MESSAGE_INTEGRITY, &tag);
        }
        if fingerprint {
            self.fingerprint();
        }
        self.seal()
    }

    /// Appends MESSAGE-INTEGRITY-SHA256 and, if asked, FINGERPRINT.
    pub fn finish_with_integrity_sha256(mut self, key: &KeySha256, fingerprint: bool) -> Option<usize> {
        if !self.overflow {
            let tag = key.tag(&self.buffer[..self.length]);
            self.attribute(AttributeType::MESSAGE_INTEGRITY_SHA256, &tag);
        }
        if fingerprint {
            self.fingerprint();
        }
        self.seal()
    }

    fn fingerprint(&mut self) {
        if !self.overflow {
            let crc = integrity::fingerprint(&self.buffer[..self.length]);
            self.attribute(AttributeType::FINGERPRINT, &crc.to_be_bytes());
        }
    }

    fn seal(&mut self) -> Option<usize> {
        if self.overflow {
            return None;
        }
        let length = (self.length - HEADER_LEN) as u16;
        self.buffer[2..4].copy_from_slice(&length.to_be_bytes());
        Some(self.length)
    }

    fn address(&mut self, kind: AttributeType, address: SocketAddr) -> &mut Self {
        let mut value = [0; address::MAX_LEN];
        let length = encode_xored(address, self.transaction_id, &mut value);
        self.attribute(kind, &value[..length])
    }
}
