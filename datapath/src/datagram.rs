//! What arrives, and where.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Instant;

/// The local end of a datagram: which socket it came through or leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A shared listening port: the index in the configured list of UDP listeners, and the local address that the
    /// peer sees (a wildcard socket serves many).
    Listener { index: u8, ip: IpAddr },
    /// One TCP connection of a client: its number, which no other has or had, and the local address that the client
    /// sees.
    Stream { id: u64, ip: IpAddr },
    /// A relayed transport address, open at the kernel.
    Relay { address: SocketAddr },
    /// A relayed transport address or a media candidate of this very program: handed over inside [`crate::mux::Mux`],
    /// never through the kernel.
    Memory { address: SocketAddr },
}

/// One received datagram. The payload is lent until the turn's output has been sent.
#[derive(Debug)]
pub struct Datagram<'a> {
    pub local: Endpoint,
    pub remote: SocketAddr,
    /// The two ECN bits of the IP header (RFC 3168).
    pub ecn: u8,
    pub received_at: Instant,
    pub payload: &'a mut [u8],
    /// Where `payload` begins in the driver's receive arena, so that an [`crate::Outbox`] entry can name a range of it
    /// instead of copying. `None` for a datagram handed over in memory: its bytes are gone when the call returns.
    pub origin: Option<u32>,
}

impl Datagram<'_> {
    /// The range of the receive arena that `range` of the payload occupies.
    pub fn received_range(&self, range: Range<usize>) -> Option<Range<u32>> {
        debug_assert!(range.end <= self.payload.len());
        let origin = self.origin?;
        Some(origin + range.start as u32..origin + range.end as u32)
    }
}

/// The same allocation for datagrams of another lifetime: `collect` reuses it.
pub(crate) fn recycled<'b>(mut datagrams: Vec<Datagram<'_>>) -> Vec<Datagram<'b>> {
    datagrams.clear();
    datagrams.into_iter().map(|_| unreachable!("cleared")).collect()
}
