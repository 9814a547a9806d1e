//! The few STUN and TURN messages that a client needs (RFC 8489, RFC 8656, RFC 8445), written apart from the server's
//! reader and writer, so that one mistake is not on both sides.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use aws_lc_rs::hmac;

pub const BINDING: u16 = 0x001;
pub const ALLOCATE: u16 = 0x003;
pub const REFRESH: u16 = 0x004;
pub const CHANNEL_BIND: u16 = 0x009;

const MAGIC_COOKIE: u32 = 0x2112_A442;
const FINGERPRINT_XOR: u32 = 0x5354_554E;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const CHANNEL_NUMBER: u16 = 0x000C;
const LIFETIME: u16 = 0x000D;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_TRANSPORT: u16 = 0x0019;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802A;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

pub type TransactionId = [u8; 12];

/// A message under construction.
pub struct Writer {
    bytes: Vec<u8>,
    transaction: TransactionId,
}

impl Writer {
    pub fn new(class: Class, method: u16, transaction: TransactionId) -> Writer {
        // RFC 8489 §5: the class bits sit between the method's bits.
        let class_bits = match class {
            Class::Request => 0x000,
            Class::Indication => 0x010,
            Class::Success => 0x100,
            Class::Error => 0x110,
        };
        let kind = (method & 0xF) | ((method & 0x70) << 1) | ((method & 0xF80) << 2) | class_bits;
        let mut bytes = Vec::with_capacity(160);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        bytes.extend_from_slice(&transaction);
        Writer { bytes, transaction }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(value);
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    fn xor_address(&mut self, kind: u16, address: SocketAddr) {
        let port = address.port() ^ (MAGIC_COOKIE >> 16) as u16;
        let mut value = vec![0, if address.is_ipv4() { 1 } else { 2 }];
        value.extend_from_slice(&port.to_be_bytes());
        let mask: Vec<u8> = MAGIC_COOKIE.to_be_bytes().into_iter().chain(self.transaction).collect();
        let octets = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        value.extend(octets.iter().zip(&mask).map(|(a, b)| a ^ b));
        self.attribute(kind, &value);
    }

    /// An ICE check of a controlling agent that nominates at once, as one does towards ICE-lite (RFC 8445 §8.1).
    pub fn ice_check(mut self, username: &str, tie_breaker: u64, password: &[u8]) -> Vec<u8> {
        self.attribute(USERNAME, username.as_bytes());
        self.attribute(ICE_CONTROLLING, &tie_breaker.to_be_bytes());
        self.attribute(USE_CANDIDATE, &[]);
        self.attribute(PRIORITY, &0x6E00_1EFFu32.to_be_bytes());
        self.integrity(password);
        self.fingerprint();
        self.bytes
    }

    /// The answer to a check of a full ICE agent.
    pub fn mapped_address(mut self, address: SocketAddr, password: &[u8]) -> Vec<u8> {
        self.xor_address(XOR_MAPPED_ADDRESS, address);
        self.integrity(password);
        self.fingerprint();
        self.bytes
    }

    pub fn requested_transport_udp(mut self) -> Writer {
        self.attribute(REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        self
    }

    pub fn lifetime(mut self, seconds: u32) -> Writer {
        self.attribute(LIFETIME, &seconds.to_be_bytes());
        self
    }

    pub fn peer(mut self, address: SocketAddr) -> Writer {
        self.xor_address(XOR_PEER_ADDRESS, address);
        self
    }

    pub fn channel(mut self, number: u16) -> Writer {
        let [a, b] = number.to_be_bytes();
        self.attribute(CHANNEL_NUMBER, &[a, b, 0, 0]);
        self
    }

    pub fn unauthenticated(mut self) -> Vec<u8> {
        self.set_length(0);
        self.bytes
    }

    /// RFC 8489 §9.2.4: long-term credentials.
    pub fn authenticated(mut self, user: &str, realm: &str, nonce: &[u8], key: &[u8]) -> Vec<u8> {
        self.attribute(USERNAME, user.as_bytes());
        self.attribute(REALM, realm.as_bytes());
        self.attribute(NONCE, nonce);
        self.integrity(key);
        self.bytes
    }

    fn set_length(&mut self, following: usize) {
        let length = (self.bytes.len() - 20 + following) as u16;
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
    }

    fn integrity(&mut self, key: &[u8]) {
        self.set_length(24);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        let tag = hmac::sign(&key, &self.bytes);
        self.attribute(MESSAGE_INTEGRITY, tag.as_ref());
        self.set_length(0);
    }

    fn fingerprint(&mut self) {
        self.set_length(8);
        let crc = crc32fast::hash(&self.bytes) ^ FINGERPRINT_XOR;
        self.attribute(FINGERPRINT, &crc.to_be_bytes());
        self.set_length(0);
    }
}

/// What a client looks at in a received message. A server under test is trusted: nothing here verifies integrity.
#[derive(Debug)]
pub struct Message {
    pub class: Class,
    pub method: u16,
    pub transaction: TransactionId,
    /// ERROR-CODE, 300-699.
    pub error: Option<u16>,
    pub realm: Option<String>,
    pub nonce: Option<Vec<u8>>,
    pub relayed: Option<SocketAddr>,
}

impl Message {
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let header = bytes.first_chunk::<20>()?;
        if header[0] > 3 || header[4..8] != MAGIC_COOKIE.to_be_bytes() {
            return None;
        }
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let class = match kind & 0x110 {
            0x000 => Class::Request,
            0x010 => Class::Indication,
            0x100 => Class::Success,
            _ => Class::Error,
        };
        let method = (kind & 0xF) | ((kind >> 1) & 0x70) | ((kind >> 2) & 0xF80);
        let mut message = Message {
            class,
            method,
            transaction: *header.last_chunk()?,
            error: None,
            realm: None,
            nonce: None,
            relayed: None,
        };
        let mut rest = bytes.get(20..)?;
        while let Some((head, tail)) = rest.split_first_chunk::<4>() {
            let kind = u16::from_be_bytes([head[0], head[1]]);
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = tail.get(..length)?;
            match kind {
                ERROR_CODE => {
                    message.error = Some(u16::from(*value.get(2)? & 7) * 100 + u16::from(*value.get(3)?));
                }
                REALM => message.realm = String::from_utf8(value.to_vec()).ok(),
                NONCE => message.nonce = Some(value.to_vec()),
                XOR_RELAYED_ADDRESS => message.relayed = xor_ipv4(value),
                _ => {}
            }
            rest = tail.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        }
        Some(message)
    }
}

fn xor_ipv4(value: &[u8]) -> Option<SocketAddr> {
    let [_, 1, port_high, port_low, ip @ ..] = value else {
        return None;
    };
    let port = u16::from_be_bytes([*port_high, *port_low]) ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = u32::from_be_bytes(*ip.first_chunk()?) ^ MAGIC_COOKIE;
    Some(SocketAddr::from((Ipv4Addr::from(ip), port)))
}

pub fn transaction_id() -> TransactionId {
    let mut id = [0; 12];
    getrandom::fill(&mut id).expect("the system has entropy");
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_and_method_survive_their_interleaving() {
        for (class, method) in [
            (Class::Request, BINDING),
            (Class::Success, ALLOCATE),
            (Class::Error, CHANNEL_BIND),
            (Class::Indication, 0x07F),
        ] {
            let bytes = Writer::new(class, method, [7; 12]).unauthenticated();
            let message = Message::parse(&bytes).unwrap();
            assert_eq!((message.class, message.method), (class, method));
            assert_eq!(message.transaction, [7; 12]);
        }
    }

    #[test]
    fn an_ice_check_has_the_length_that_its_fingerprint_covers() {
        let bytes = Writer::new(Class::Request, BINDING, [1; 12]).ice_check("a:b", 9, b"password");
        let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        assert_eq!(length + 20, bytes.len());
        let (covered, tail) = bytes.split_at(bytes.len() - 8);
        let crc = u32::from_be_bytes(*tail.last_chunk().unwrap());
        assert_eq!(crc32fast::hash(covered) ^ FINGERPRINT_XOR, crc);
    }
}
