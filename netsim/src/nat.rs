//! A network address translator by the words of RFC 4787.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use datapath::{Datagram, Deadline, Endpoint, Node, Now, Outbox, SocketEvent};

/// What a mapping (RFC 4787 §4.1) or a filter (§5) depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependence {
    /// Nothing: one mapping for all peers, or everybody may use it.
    EndpointIndependent,
    /// The peer's address.
    AddressDependent,
    /// The peer's address and port.
    AddressAndPortDependent,
}

impl Dependence {
    /// Whether two peers are the same to this behaviour.
    fn same(self, a: SocketAddr, b: SocketAddr) -> bool {
        match self {
            Dependence::EndpointIndependent => true,
            Dependence::AddressDependent => a.ip() == b.ip(),
            Dependence::AddressAndPortDependent => a == b,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct NatSpec {
    /// Its address on the outer network.
    pub outside: Ipv4Addr,
    /// The inner network: address and prefix length.
    pub inside: (Ipv4Addr, u8),
    pub mapping: Dependence,
    pub filtering: Dependence,
    /// A mapping without an outbound packet for this long is gone (§4.3: REQ-5 wants 2 minutes at least, REQ-6 that
    /// outbound packets refresh it; inbound ones do not here).
    pub timeout: Duration,
    /// Whether inside hosts can reach each other by their outer addresses (§6, with the outer source: REQ-9a).
    pub hairpinning: bool,
}

impl NatSpec {
    fn is_inside(&self, address: SocketAddr) -> bool {
        let IpAddr::V4(ip) = address.ip() else {
            return false;
        };
        let (network, prefix) = self.inside;
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        (ip.to_bits() ^ network.to_bits()) & mask == 0
    }
}

#[derive(Clone, Debug)]
struct Mapping {
    inside: SocketAddr,
    /// The peer that it was made for.
    peer: SocketAddr,
    port: u16,
    refreshed: Instant,
    /// Peers that were sent to: whom the filter lets in.
    contacted: Vec<SocketAddr>,
}

/// As a [`Node`], a NAT stands between networks: a datagram's `local` is [`Endpoint::Relay`] with the address that it
/// is sent to, whatever that is, and what leaves has the address there that it is sent from.
#[derive(Debug)]
pub struct Nat {
    spec: NatSpec,
    mappings: Vec<Mapping>,
    next_port: u16,
    /// Packets that no mapping or filter let in.
    pub refused: u64,
}

impl Nat {
    pub fn new(spec: NatSpec) -> Nat {
        Nat { spec, mappings: Vec::new(), next_port: 20_000, refused: 0 }
    }

    /// Forgets every mapping, as after a power cut. The ports given out next are others.
    pub fn reboot(&mut self) {
        self.mappings.clear();
    }

    fn outer(&self, port: u16) -> SocketAddr {
        SocketAddrV4::new(self.spec.outside, port).into()
    }

    /// The mapping for a packet from inside to `peer`, made when there is none.
    fn map(&mut self, now: Instant, inside: SocketAddr, peer: SocketAddr) -> u16 {
        let NatSpec { mapping, timeout, .. } = self.spec;
        self.mappings.retain(|known| now.saturating_duration_since(known.refreshed) < timeout);
        let same = |known: &Mapping| known.inside == inside && mapping.same(known.peer, peer);
        let at = self.mappings.iter().position(same).unwrap_or_else(|| {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(20_000);
            self.mappings.push(Mapping { inside, peer, port, refreshed: now, contacted: Vec::new() });
            self.mappings.len() - 1
        });
        let known = &mut self.mappings[at];
        known.refreshed = now;
        if !known.contacted.contains(&peer) {
            known.contacted.push(peer);
        }
        known.port
    }

    /// The inside host that a packet from `peer` to our `port` goes to.
    fn admit(&self, now: Instant, peer: SocketAddr, port: u16) -> Option<SocketAddr> {
        let NatSpec { filtering, timeout, .. } = self.spec;
        let known = self.mappings.iter().find(|known| known.port == port)?;
        let alive = now.saturating_duration_since(known.refreshed) < timeout;
        let admitted = known.contacted.iter().any(|&contacted| filtering.same(contacted, peer));
        (alive && admitted).then_some(known.inside)
    }
}

impl Node for Nat {
    fn handle_batch(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        for datagram in batch {
            let Endpoint::Relay { address: destination } = datagram.local else {
                unreachable!("the world gives a gateway every packet as it is addressed");
            };
            let mut source = datagram.remote;
            let mut target = Some(destination);
            let for_us = destination.ip() == IpAddr::V4(self.spec.outside);
            if self.spec.is_inside(source) {
                let port = self.map(now.instant, source, destination);
                source = self.outer(port);
                if for_us && !self.spec.hairpinning {
                    target = None;
                }
            }
            if for_us {
                target = target.and_then(|target| self.admit(now.instant, source, target.port()));
            }
            match target {
                Some(target) => {
                    let all = 0..datagram.payload.len();
                    out.forward(Endpoint::Relay { address: source }, target, &[], datagram, all);
                }
                None => self.refused += 1,
            }
        }
    }

    fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}

    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}

    /// Mappings are looked at when a packet comes.
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}
