//! The one seam of the packet plane.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::{Datagram, Endpoint, Outbox};

/// The moment at which a turn happens. The driver reads the clocks once per turn.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic time: every timer and every interval.
    pub instant: Instant,
    /// Time since the Unix epoch: expiry of credentials, NTP time of sender reports.
    pub unix: Duration,
}

/// When a node wants to be woken, and what for (a word for the operator who asks why the loop is busy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    pub at: Instant,
    pub reason: &'static str,
}

impl Deadline {
    /// The earlier of two optional deadlines.
    pub fn earlier(a: Option<Deadline>, b: Option<Deadline>) -> Option<Deadline> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// What the driver reports about a socket that a node ordered, or that the kernel told it about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketEvent {
    /// The relay socket ordered with [`crate::Order::OpenRelay`] is bound.
    Opened { relayed: SocketAddr },
    /// It could not be bound.
    Failed { relayed: SocketAddr },
    /// An ICMP error arrived for a datagram sent from `relayed` to `remote` (types and codes of RFC 792 / RFC 4443), or
    /// this host is the router that would send it. `mtu`: octets of an IP packet that the next link takes, where the
    /// error is that one was too long; else 0.
    IcmpError { relayed: SocketAddr, remote: SocketAddr, kind: u8, code: u8, mtu: u32 },
    /// The address asked about with [`crate::Order::ProbeRelay`] can be bound.
    Free { relayed: SocketAddr },
    /// It cannot.
    Taken { relayed: SocketAddr },
    /// A client's TCP connection has ended. `local` is its [`Endpoint::Stream`].
    StreamClosed { local: Endpoint, remote: SocketAddr },
    /// The relay socket is gone.
    Closed { relayed: SocketAddr },
    /// What became of the TCP connection between a relayed address and a peer: there is one at most.
    Peer { relayed: SocketAddr, peer: SocketAddr, change: PeerChange },
}

/// See [`SocketEvent::Peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// The one ordered with [`crate::Order::ConnectPeer`] stands.
    Connected,
    /// It does not: it was refused, timed out, or there was no socket for it.
    Failed,
    /// The peer has connected to a relayed address that listens.
    Accepted,
    /// It is over.
    Closed,
}

/// Octets that have passed over a TCP connection that was joined to a client's ([`crate::Order::SplicePeer`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    pub to_peer: u64,
    pub to_client: u64,
}

/// A thing that datagrams and time go into, and datagrams, socket orders and a deadline come out of.
///
/// There is no `Result`: a bad packet is the peer's fault and becomes a counted [`crate::Discard`].
pub trait Node {
    /// Takes a batch as it was received. Payloads may be changed in place; they are lent until `out` has been sent.
    fn handle_batch(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox);

    fn handle_event(&mut self, now: Now, event: SocketEvent, out: &mut Outbox);

    /// Called at or after the deadline of [`Node::poll_timeout`]. May be called early; then it does nothing.
    fn handle_timeout(&mut self, now: Now, out: &mut Outbox);

    /// The next deadline. O(1): it runs with every batch.
    fn poll_timeout(&self) -> Option<Deadline>;

    /// How many octets may pass now over the joined TCP connections of a relayed address
    /// ([`crate::Order::SplicePeer`]), both ways together. If it is none, they wait for a moment. The one that wants to
    /// know `has_waited` if nothing has passed over it for a second. A node that joins none is not asked.
    fn allowance(&mut self, now: Now, relayed: SocketAddr, has_waited: bool) -> usize {
        let _ = (now, relayed, has_waited);
        usize::MAX
    }

    /// So many have passed: as many as were allowed, and once what had come along with the request to join.
    fn handle_carried(&mut self, now: Now, relayed: SocketAddr, carried: Carried) {
        let _ = (now, relayed, carried);
    }
}
