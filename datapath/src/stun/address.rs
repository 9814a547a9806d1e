//! XOR-MAPPED-ADDRESS and its relatives (RFC 8489 §14.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{MAGIC_COOKIE, TransactionId};

/// Octets of the longest address value.
pub(super) const MAX_LEN: usize = 20;

/// `value` has the length that its family asks for (checked when the message was parsed).
pub(super) fn decode_xored(value: &[u8], transaction_id: TransactionId) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([*value.get(2)?, *value.get(3)?]) ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match value.get(1)? {
        1 => {
            let octets: [u8; 4] = value.get(4..8)?.try_into().ok()?;
            IpAddr::V4(Ipv4Addr::from(u32::from_be_bytes(octets) ^ MAGIC_COOKIE))
        }
        2 => {
            let octets: [u8; 16] = value.get(4..20)?.try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(u128::from_be_bytes(octets) ^ mask(transaction_id)))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Writes the value and returns its length.
pub(super) fn encode_xored(address: SocketAddr, transaction_id: TransactionId, value: &mut [u8; MAX_LEN]) -> usize {
    value[0] = 0;
    value[2..4].copy_from_slice(&(address.port() ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            value[1] = 1;
            value[4..8].copy_from_slice(&(u32::from(ip) ^ MAGIC_COOKIE).to_be_bytes());
            8
        }
        IpAddr::V6(ip) => {
            value[1] = 2;
            value[4..20].copy_from_slice(&(u128::from(ip) ^ mask(transaction_id)).to_be_bytes());
            20
        }
    }
}

/// RFC 8489 §14.1: an address that is not disguised, as ALTERNATE-SERVER has it.
pub(super) fn decode_plain(value: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([*value.get(2)?, *value.get(3)?]);
    let ip = match value.get(1)? {
        1 => IpAddr::from(<[u8; 4]>::try_from(value.get(4..8)?).ok()?),
        2 => IpAddr::from(<[u8; 16]>::try_from(value.get(4..20)?).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Writes the value and returns its length.
pub(super) fn encode_plain(address: SocketAddr, value: &mut [u8; MAX_LEN]) -> usize {
    value[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            value[..2].copy_from_slice(&[0, 1]);
            value[4..8].copy_from_slice(&ip.octets());
            8
        }
        IpAddr::V6(ip) => {
            value[..2].copy_from_slice(&[0, 2]);
            value[4..20].copy_from_slice(&ip.octets());
            20
        }
    }
}

fn mask(transaction_id: TransactionId) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&transaction_id.0);
    u128::from_be_bytes(mask)
}
