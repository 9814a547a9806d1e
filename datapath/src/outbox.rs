//! What leaves in a turn: an arena that the driver owns and reuses.

use std::net::SocketAddr;
use std::ops::Range;

use crate::{Counters, Datagram, Endpoint};

/// One datagram to send: a head in the arena, then (where it can) a range of a received buffer, so that relaying a
/// ChannelData copies no payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub local: Endpoint,
    pub remote: SocketAddr,
    /// The IP header's DSCP and ECN byte (TOS or traffic class).
    pub tos: u8,
    /// Range of [`Outbox::arena`].
    pub head: Range<u32>,
    /// Range of the driver's receive arena; empty when there is none.
    pub body: Range<u32>,
}

impl Entry {
    /// Octets on the wire, without IP and UDP headers.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a node orders of the driver besides sending. Carried out before this turn's datagrams are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Bind a relay socket to this address and report [`crate::SocketEvent::Opened`] or `Failed`.
    OpenRelay {
        relayed: SocketAddr,
    },
    CloseRelay {
        relayed: SocketAddr,
    },
    /// Whether this TCP connection ([`Endpoint::Stream`]) is worth keeping. One that no node keeps ends soon.
    KeepStream {
        local: Endpoint,
        keep: bool,
    },
    /// Find out whether this address could be bound now, and report [`crate::SocketEvent::Free`] or `Taken`: other
    /// programs have ports too, and a client must not be told of one that is theirs.
    ProbeRelay {
        relayed: SocketAddr,
        /// The next higher port is needed as well.
        with_next: bool,
    },
    /// The same for TCP.
    ProbeTcpRelay {
        relayed: SocketAddr,
    },
    /// Accept TCP connections of peers at this address, and report [`crate::SocketEvent::Opened`] or `Failed`.
    ListenTcp {
        relayed: SocketAddr,
    },
    /// Listen there no longer, and end every connection between this address and a peer.
    CloseTcpRelay {
        relayed: SocketAddr,
    },
    /// Connect from this address to a peer, and report [`crate::PeerChange::Connected`] or `Failed`.
    ConnectPeer {
        relayed: SocketAddr,
        peer: SocketAddr,
    },
    /// End the connection; nothing is reported.
    ClosePeer {
        relayed: SocketAddr,
        peer: SocketAddr,
    },
    /// Join the connection to a client's ([`Endpoint::Stream`]), when what this turn has for the client is on its way: from
    /// there on octets pass as they are, as many as [`crate::Node::allowance`] says. [`crate::PeerChange::Closed`]
    /// tells when both are over.
    SplicePeer {
        relayed: SocketAddr,
        peer: SocketAddr,
        client: Endpoint,
    },
}

/// The output of a turn.
#[derive(Debug, Default)]
pub struct Outbox {
    arena: Vec<u8>,
    /// Octets of `arena` that this turn has written. What lies beyond is of earlier turns: clearing it for every packet
    /// would cost a tenth of protecting one.
    used: usize,
    entries: Vec<Entry>,
    /// Entries whose local end is [`Endpoint::Memory`]: they never reach a driver.
    memory: Vec<Entry>,
    /// Entries that must not be fragmented on their way. Few clients ask for it: kept apart, they cost the others nothing.
    unfragmented: Vec<Entry>,
    /// Whether the entry pushed last went to `memory`.
    last_in_memory: bool,
    orders: Vec<Order>,
    /// Five-tuples that have proved themselves in this turn.
    proved: Vec<(Endpoint, SocketAddr)>,
    /// Everything that this worker counts; plain numbers, published by the driver about once a second.
    pub counters: Counters,
}

impl Outbox {
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// Sends `payload`, copied into the arena.
    pub fn send(&mut self, local: Endpoint, remote: SocketAddr, payload: &[u8]) {
        self.write(local, remote, payload.len(), |buffer| {
            buffer.copy_from_slice(payload);
            Some(payload.len())
        });
    }

    /// Sends what `fill` writes into a buffer of `capacity` octets: the octets up to the length it returns, or nothing for
    /// `None`. The buffer holds remains of earlier packets: `fill` writes every octet that it says it wrote. This is how
    /// a packet is protected straight into the arena.
    pub fn write(
        &mut self,
        local: Endpoint,
        remote: SocketAddr,
        capacity: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let start = self.used;
        let Some(length) = fill(self.room(capacity)) else { return false };
        assert!(length <= capacity, "more than the buffer holds");
        self.used += length;
        self.push(local, remote, start as u32..self.used as u32, 0..0);
        true
    }

    /// The next `capacity` octets of the arena.
    fn room(&mut self, capacity: usize) -> &mut [u8] {
        let end = self.used + capacity;
        if self.arena.len() < end {
            self.arena.resize(end.next_power_of_two(), 0);
        }
        &mut self.arena[self.used..end]
    }

    fn append(&mut self, octets: &[u8]) {
        self.room(octets.len()).copy_from_slice(octets);
        self.used += octets.len();
    }

    fn push(&mut self, local: Endpoint, remote: SocketAddr, head: Range<u32>, body: Range<u32>) {
        let entry = Entry { local, remote, tos: 0, head, body };
        self.last_in_memory = matches!(local, Endpoint::Memory { .. });
        if self.last_in_memory {
            self.memory.push(entry);
        } else {
            self.entries.push(entry);
        }
    }

    /// Sends `head` followed by `range` of the datagram's payload. The payload is not copied when it lies in the
    /// receive arena.
    pub fn forward(
        &mut self,
        local: Endpoint,
        remote: SocketAddr,
        head: &[u8],
        datagram: &Datagram<'_>,
        range: Range<usize>,
    ) {
        let start = self.used;
        self.append(head);
        let body = match datagram.received_range(range.clone()) {
            Some(body) => body,
            None => {
                self.append(&datagram.payload[range]);
                0..0
            }
        };
        let head = start as u32..self.used as u32;
        self.push(local, remote, head, body);
    }

    /// Sets the TOS byte of the entry pushed last.
    pub fn set_tos(&mut self, tos: u8) {
        let list = if self.last_in_memory { &mut self.memory } else { &mut self.entries };
        if let Some(entry) = list.last_mut() {
            entry.tos = tos;
        }
    }

    /// The entry pushed last leaves whole or not at all, now that all else is said about it. One for this very program is
    /// whole anyway.
    pub fn dont_fragment(&mut self) {
        if !self.last_in_memory {
            self.unfragmented.extend(self.entries.pop());
        }
    }

    pub fn order(&mut self, order: Order) {
        self.orders.push(order);
    }

    /// What comes from this five-tuple is the node's from now on: a check or a request from there has verified. It is
    /// said again whenever that happens again.
    pub fn prove(&mut self, local: Endpoint, remote: SocketAddr) {
        self.proved.push((local, remote));
    }

    pub fn take_proved(&mut self) -> impl Iterator<Item = (Endpoint, SocketAddr)> + '_ {
        self.proved.drain(..)
    }

    /// What this turn has written.
    pub fn arena(&self) -> &[u8] {
        &self.arena[..self.used]
    }

    /// What the driver sends, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What the driver sends with the DF bit set, and reports as an ICMP error when it is too long ([`Outbox::dont_fragment`]).
    pub fn unfragmented_entries(&self) -> &[Entry] {
        &self.unfragmented
    }

    /// What waits to be handed over in memory, in order ([`Endpoint::Memory`]).
    pub fn memory_entries(&self) -> &[Entry] {
        &self.memory
    }

    /// Exchanges the entries to hand over in memory with `entries`, so that [`crate::mux::Mux`] takes them without
    /// allocating.
    pub fn swap_memory_entries(&mut self, entries: &mut Vec<Entry>) {
        std::mem::swap(&mut self.memory, entries);
        self.last_in_memory = false;
    }

    /// Whether a client's connection is to be joined to that of a peer.
    pub fn splices(&self, local: Endpoint) -> bool {
        self.orders.iter().any(|order| matches!(order, Order::SplicePeer { client, .. } if *client == local))
    }

    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.memory.is_empty() && self.unfragmented.is_empty() && self.orders.is_empty()
    }

    /// Forgets what was sent, keeping the allocations and the counters.
    pub fn clear(&mut self) {
        self.used = 0;
        self.entries.clear();
        self.memory.clear();
        self.unfragmented.clear();
        self.orders.clear();
        self.proved.clear();
    }
}
