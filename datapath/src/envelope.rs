use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::Endpoint;

/// What two workers have for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// A datagram, which follows.
    Datagram { ecn: u8 },
    /// The sender has what comes from the five-tuple.
    Claim(Side),
}

/// The two ownerships of a five-tuple: a browser uses one socket for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Relay,
    Media,
}

/// What stands before a datagram, or alone, on the way from worker to worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub matter: Matter,
    pub local: Endpoint,
    pub remote: SocketAddr,
}

/// Octets of an address: family, IP address, port, scope.
const ADDRESS_LEN: usize = 1 + 16 + 2 + 4;

impl Envelope {
    pub const LEN: usize = 4 + 2 * ADDRESS_LEN;

    /// Panics for a TCP connection and an open relay socket: their descriptors are of one worker alone.
    pub fn encode(&self) -> [u8; Envelope::LEN] {
        let (matter, ecn) = match self.matter {
            Matter::Datagram { ecn } => (0, ecn),
            Matter::Claim(Side::Relay) => (1, 0),
            Matter::Claim(Side::Media) => (2, 0),
        };
        let (kind, index, address) = match self.local {
            Endpoint::Listener { index, ip } => (0, index, SocketAddr::new(ip, 0)),
            Endpoint::Memory { address } => (1, 0, address),
            Endpoint::Stream { .. } | Endpoint::Relay { .. } => unreachable!("passed on by nobody"),
        };
        let mut octets = [0; Envelope::LEN];
        octets[..4].copy_from_slice(&[matter, ecn, kind, index]);
        let (local, remote) = octets[4..].split_at_mut(ADDRESS_LEN);
        encode_address(address, local);
        encode_address(self.remote, remote);
        octets
    }

    pub fn decode(octets: &[u8; Envelope::LEN]) -> Envelope {
        let [matter, ecn, kind, index, ..] = *octets;
        let (local, remote) = octets[4..].split_at(ADDRESS_LEN);
        let address = decode_address(local);
        Envelope {
            matter: match matter {
                0 => Matter::Datagram { ecn },
                1 => Matter::Claim(Side::Relay),
                _ => Matter::Claim(Side::Media),
            },
            local: match kind {
                0 => Endpoint::Listener { index, ip: address.ip() },
                _ => Endpoint::Memory { address },
            },
            remote: decode_address(remote),
        }
    }
}

fn encode_address(address: SocketAddr, octets: &mut [u8]) {
    match address {
        SocketAddr::V4(address) => {
            octets[0] = 4;
            octets[1..5].copy_from_slice(&address.ip().octets());
        }
        SocketAddr::V6(address) => {
            octets[0] = 6;
            octets[1..17].copy_from_slice(&address.ip().octets());
            // A link-local address means nothing without it.
            octets[19..].copy_from_slice(&address.scope_id().to_be_bytes());
        }
    }
    octets[17..19].copy_from_slice(&address.port().to_be_bytes());
}

fn decode_address(octets: &[u8]) -> SocketAddr {
    let port = u16::from_be_bytes([octets[17], octets[18]]);
    if octets[0] == 4 {
        return (IpAddr::from([octets[1], octets[2], octets[3], octets[4]]), port).into();
    }
    let ip: [u8; 16] = octets[1..17].try_into().expect("sixteen octets");
    let scope = octets[19..].try_into().expect("four octets");
    SocketAddrV6::new(ip.into(), port, 0, u32::from_be_bytes(scope)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let v4 = SocketAddr::from(([192, 0, 2, 1], 40_000));
        let v6 = SocketAddr::from(SocketAddrV6::new([0xfe80, 0, 0, 0, 1, 2, 3, 4].into(), 50_000, 0, 7));
        for local in [
            Endpoint::Listener { index: 3, ip: v4.ip() },
            Endpoint::Listener { index: 0, ip: v6.ip() },
            Endpoint::Memory { address: v4 },
            Endpoint::Memory { address: v6 },
        ] {
            for (remote, matter) in [
                (v4, Matter::Datagram { ecn: 2 }),
                (v6, Matter::Datagram { ecn: 0 }),
                (v6, Matter::Claim(Side::Relay)),
                (v4, Matter::Claim(Side::Media)),
            ] {
                let envelope = Envelope { matter, local, remote };
                assert_eq!(Envelope::decode(&envelope.encode()), envelope);
            }
        }
    }
}
