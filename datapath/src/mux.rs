//! One port for everything: the relay and the SFU behind it, and what passes between them in memory.

use std::net::SocketAddr;
use std::ops::Range;

use crate::datagram::recycled;
use crate::neighbours::{Inbox, Neighbours, Owner, Side};
use crate::{Carried, Datagram, Deadline, Discard, Endpoint, Entry, Node, Now, Outbox, SocketEvent};

/// How often one datagram may be handed over in memory within a turn: client → relay → SFU → relay → client is two.
const HOPS_MAX: usize = 2;

/// Datagrams that one hop of one turn may hand over in memory.
const HANDOVERS_MAX: usize = 16_384;

/// Sorts what arrives at the shared port by its first byte (RFC 7983 §7) and hands over in memory what the relay and
/// the SFU, or two clients of the relay, have for each other.
///
/// An entry whose local end is [`Endpoint::Memory`] never reaches the kernel. It arrives, within the same turn, as a
/// datagram whose `local` is `Memory` with the entry's remote address and whose `remote` is the sender's own address.
#[derive(Debug)]
pub struct Mux<R, S> {
    pub relay: R,
    pub sfu: S,
    /// Our ICE candidates: a handful, so a look-up walks them.
    candidates: Vec<SocketAddr>,
    /// Reused for each hop.
    queue: Vec<Entry>,
    /// Where a handed-over datagram lies that is not one range of the received batch.
    scratch: Vec<u8>,
    /// `None`: this worker is the only one.
    neighbours: Option<Box<Neighbours>>,
    /// Reused for what each neighbour has passed on.
    inbox: Inbox,
    /// The allocation of the last inbox's datagrams; empty between turns.
    datagrams: Vec<Datagram<'static>>,
}

/// Whom a datagram concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Relay,
    Media,
    Unknown,
    /// Another worker.
    Elsewhere(Owner),
}

impl<R: Node, S: Node> Mux<R, S> {
    /// `candidates` are the transport addresses of the SFU's ICE candidates, as the clients see them.
    pub fn new(relay: R, sfu: S, candidates: Vec<SocketAddr>) -> Mux<R, S> {
        Mux {
            relay,
            sfu,
            candidates,
            queue: Vec::new(),
            scratch: Vec::new(),
            neighbours: None,
            inbox: Inbox::default(),
            datagrams: Vec::new(),
        }
    }

    /// Other workers serve the same port.
    pub fn with_neighbours(mut self, neighbours: Neighbours) -> Mux<R, S> {
        self.neighbours = Some(Box::new(neighbours));
        self
    }

    pub fn neighbours(&self) -> Option<&Neighbours> {
        self.neighbours.as_deref()
    }

    /// Lets the SFU act outside of a batch (a command of the control plane) and hands over what it has for the relay.
    pub fn with_sfu<T>(&mut self, now: Now, out: &mut Outbox, act: impl FnOnce(&mut S, &mut Outbox) -> T) -> T {
        let result = act(&mut self.sfu, out);
        self.finish(now, &mut [], out);
        result
    }

    /// Gives a batch to whom it concerns. `from`: the worker that has passed it on; then it stays here.
    fn sort(&mut self, now: Now, batch: &mut [Datagram<'_>], from: Option<u8>, out: &mut Outbox) {
        // What follows each other and is of one class goes on as one batch.
        let mut start = 0;
        let mut next = batch.first().map(|datagram| self.class_of(datagram, from));
        while let Some(class) = next {
            let mut end = start + 1;
            loop {
                next = batch.get(end).map(|datagram| self.class_of(datagram, from));
                if next != Some(class) {
                    break;
                }
                end += 1;
            }
            let run = &mut batch[start..end];
            match class {
                Class::Relay => {
                    self.relay.handle_batch(now, run, out);
                    self.settle(Side::Relay, from, out);
                }
                Class::Media => {
                    self.sfu.handle_batch(now, run, out);
                    self.settle(Side::Media, from, out);
                }
                Class::Unknown => {
                    for _ in run {
                        out.counters.discard(Discard::UnknownProtocol);
                    }
                }
                Class::Elsewhere(owner) => {
                    if let Some(neighbours) = &mut self.neighbours {
                        run.iter().for_each(|datagram| neighbours.pass(owner, datagram, &mut out.counters));
                    }
                }
            }
            start = end;
        }
    }

    fn class_of(&mut self, datagram: &Datagram<'_>, from: Option<u8>) -> Class {
        let class = match datagram.local {
            Endpoint::Listener { .. } | Endpoint::Stream { .. } => classify(datagram.payload),
            Endpoint::Memory { address } if self.candidates.contains(&address) => Class::Media,
            Endpoint::Relay { .. } | Endpoint::Memory { .. } => Class::Relay,
        };
        let Some(neighbours) = &mut self.neighbours else {
            return class;
        };
        // A TCP connection and a relay socket are where their worker is.
        let may_be_passed = from.is_none() && matches!(datagram.local, Endpoint::Listener { .. });
        let side = match class {
            Class::Relay if may_be_passed => Side::Relay,
            Class::Media if may_be_passed => Side::Media,
            _ => return class,
        };
        let owner = neighbours.owner(side, datagram.local, datagram.remote, datagram.payload);
        owner.map_or(class, Class::Elsewhere)
    }

    /// Tells the neighbours what the last batch has proved.
    fn settle(&mut self, side: Side, from: Option<u8>, out: &mut Outbox) {
        if let Some(neighbours) = &mut self.neighbours {
            neighbours.settle(side, from, out.take_proved());
        }
    }

    /// Takes what other workers have passed on.
    fn take_passed(&mut self, now: Now, out: &mut Outbox) {
        let Some(neighbours) = &self.neighbours else { return };
        for from in neighbours.others() {
            let Some(neighbours) = &mut self.neighbours else { return };
            if !neighbours.receive(from, &mut self.inbox, now.instant) {
                continue;
            }
            let mut inbox = std::mem::take(&mut self.inbox);
            let mut batch = recycled(std::mem::take(&mut self.datagrams));
            inbox.datagrams(now.instant, &mut batch);
            self.sort(now, &mut batch, Some(from), out);
            self.datagrams = recycled(batch);
            self.inbox = inbox;
        }
    }

    /// Ends a turn: what it has for other parts and other workers goes there.
    fn finish(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        self.hand_over(now, batch, out);
        if let Some(neighbours) = &mut self.neighbours {
            neighbours.rouse();
        }
    }

    /// Delivers the memory entries, and those that their delivery makes, until the hops are spent.
    fn hand_over(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        for _ in 0..HOPS_MAX {
            if out.memory_entries().is_empty() {
                return;
            }
            let mut queue = std::mem::take(&mut self.queue);
            out.swap_memory_entries(&mut queue);
            let mut near = 0;
            for (index, entry) in queue.iter().enumerate() {
                if index < HANDOVERS_MAX {
                    self.deliver(now, entry, batch, &mut near, out);
                } else {
                    out.counters.discard(Discard::LimitReached);
                }
            }
            queue.clear();
            self.queue = queue;
        }
        let mut queue = std::mem::take(&mut self.queue);
        out.swap_memory_entries(&mut queue);
        for _ in &queue {
            out.counters.discard(Discard::MemoryLoop);
        }
        queue.clear();
        self.queue = queue;
    }

    /// Delivers one entry. `near` remembers which datagram of the batch held the last body: bodies come in its order.
    fn deliver(&mut self, now: Now, entry: &Entry, batch: &mut [Datagram<'_>], near: &mut usize, out: &mut Outbox) {
        let Endpoint::Memory { address: sender } = entry.local else {
            unreachable!("Outbox keeps only memory entries in this list");
        };
        let holder = if entry.body.is_empty() {
            None
        } else {
            let found = holder_of(batch, &entry.body, near);
            assert!(found.is_some(), "a body outside of the received batch");
            found
        };
        let (payload, origin) = match holder {
            Some((index, range)) if entry.head.is_empty() => (&mut batch[index].payload[range], Some(entry.body.start)),
            holder => {
                self.scratch.clear();
                let head = entry.head.start as usize..entry.head.end as usize;
                self.scratch.extend_from_slice(&out.arena()[head]);
                if let Some((index, range)) = holder {
                    self.scratch.extend_from_slice(&batch[index].payload[range]);
                }
                (&mut self.scratch[..], None)
            }
        };
        let to_sfu = self.candidates.contains(&entry.remote);
        // The relay's own listener is no peer: TURN inside of TURN would loop (RFC 8656 §21.1.5).
        if to_sfu && classify(payload) != Class::Media {
            out.counters.discard(Discard::UnexpectedStun);
            return;
        }
        let mut datagram = [Datagram {
            local: Endpoint::Memory { address: entry.remote },
            remote: sender,
            ecn: entry.tos & 0b11,
            received_at: now.instant,
            payload,
            origin,
        }];
        out.counters.memory_handovers += 1;
        let [only] = &datagram;
        if let Some(neighbours) = &mut self.neighbours {
            let owner = match to_sfu {
                true => neighbours.owner(Side::Media, only.local, only.remote, only.payload),
                false => neighbours.owner_of_relayed(entry.remote),
            };
            if let Some(owner) = owner {
                return neighbours.pass(owner, only, &mut out.counters);
            }
        }
        if to_sfu {
            self.sfu.handle_batch(now, &mut datagram, out);
            self.settle(Side::Media, None, out);
        } else {
            self.relay.handle_batch(now, &mut datagram, out);
        }
    }
}

/// The datagram of the batch whose payload holds `body`, and the range of the payload.
fn holder_of(batch: &[Datagram<'_>], body: &Range<u32>, near: &mut usize) -> Option<(usize, Range<usize>)> {
    let within = |index: usize| {
        let datagram = batch.get(index)?;
        let start = body.start.checked_sub(datagram.origin?)? as usize;
        let range = start..start + body.len();
        (range.end <= datagram.payload.len()).then_some((index, range))
    };
    let found = (*near..batch.len()).chain(0..*near).find_map(within)?;
    *near = found.0;
    Some(found)
}

/// RFC 7983 §7, with STUN's Binding requests that carry a USERNAME (ICE checks) on the media side.
fn classify(payload: &[u8]) -> Class {
    match payload.first() {
        Some(0..=3) if is_ice_check(payload) => Class::Media,
        Some(0..=3) => Class::Relay,
        Some(20..=63) => Class::Media,
        Some(64..=127) => Class::Relay,
        Some(128..=191) => Class::Media,
        _ => Class::Unknown,
    }
}

/// Whether this is a Binding request with a USERNAME attribute (RFC 8445 §7.1.1). Says no when it is cut short: the
/// relay's reader then refuses it.
fn is_ice_check(payload: &[u8]) -> bool {
    const BINDING_REQUEST: [u8; 2] = [0, 1];
    const USERNAME: u16 = 0x0006;
    if payload.len() < 20 || payload[..2] != BINDING_REQUEST {
        return false;
    }
    let mut rest = &payload[20..];
    while let [type_high, type_low, length_high, length_low, value @ ..] = rest {
        if u16::from_be_bytes([*type_high, *type_low]) == USERNAME {
            return true;
        }
        // RFC 8489 §14: values are padded to a multiple of four.
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        match value.get(length.next_multiple_of(4)..) {
            Some(next) => rest = next,
            None => return false,
        }
    }
    false
}

impl<R: Node, S: Node> Node for Mux<R, S> {
    fn handle_batch(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        // First: whoever got another worker's answer may have sent what is in the batch, and that worker has told us
        // before whose it is.
        self.take_passed(now, out);
        self.sort(now, batch, None, out);
        self.finish(now, batch, out);
    }

    fn handle_event(&mut self, now: Now, event: SocketEvent, out: &mut Outbox) {
        self.relay.handle_event(now, event, out);
        // The TCP connections of both end.
        self.sfu.handle_event(now, event, out);
        self.finish(now, &mut [], out);
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.take_passed(now, out);
        self.sfu.handle_timeout(now, out);
        self.relay.handle_timeout(now, out);
        self.finish(now, &mut [], out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let passed = self.neighbours.as_ref().and_then(|neighbours| neighbours.poll_timeout());
        let own = Deadline::earlier(self.relay.poll_timeout(), self.sfu.poll_timeout());
        Deadline::earlier(passed, own)
    }

    fn allowance(&mut self, now: Now, relayed: SocketAddr, has_waited: bool) -> usize {
        self.relay.allowance(now, relayed, has_waited)
    }

    fn handle_carried(&mut self, now: Now, relayed: SocketAddr, carried: Carried) {
        self.relay.handle_carried(now, relayed, carried);
    }
}

#[cfg(test)]
mod tests;
