//! One port for everything: the relay and the SFU behind it, and what passes between them in memory.

use std::net::SocketAddr;
use std::ops::Range;

use crate::{Datagram, Deadline, Discard, Endpoint, Entry, Node, Now, Outbox, SocketEvent};

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
}

/// Whom a datagram on a shared port concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Relay,
    Media,
    Unknown,
}

impl<R: Node, S: Node> Mux<R, S> {
    /// `candidates` are the transport addresses of the SFU's ICE candidates, as the clients see them.
    pub fn new(relay: R, sfu: S, candidates: Vec<SocketAddr>) -> Mux<R, S> {
        Mux { relay, sfu, candidates, queue: Vec::new(), scratch: Vec::new() }
    }

    /// Lets the SFU act outside of a batch (a command of the control plane) and hands over what it has for the relay.
    pub fn with_sfu<T>(&mut self, now: Now, out: &mut Outbox, act: impl FnOnce(&mut S, &mut Outbox) -> T) -> T {
        let result = act(&mut self.sfu, out);
        self.hand_over(now, &mut [], out);
        result
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
        if to_sfu {
            self.sfu.handle_batch(now, &mut datagram, out);
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

fn class_of(datagram: &Datagram<'_>) -> Class {
    match datagram.local {
        Endpoint::Listener { .. } | Endpoint::Stream { .. } => classify(datagram.payload),
        Endpoint::Relay { .. } | Endpoint::Memory { .. } => Class::Relay,
    }
}

impl<R: Node, S: Node> Node for Mux<R, S> {
    fn handle_batch(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        // Neighbours of one class go on as one batch.
        let mut start = 0;
        let mut next = batch.first().map(class_of);
        while let Some(class) = next {
            let mut end = start + 1;
            loop {
                next = batch.get(end).map(class_of);
                if next != Some(class) {
                    break;
                }
                end += 1;
            }
            let run = &mut batch[start..end];
            match class {
                Class::Relay => self.relay.handle_batch(now, run, out),
                Class::Media => self.sfu.handle_batch(now, run, out),
                Class::Unknown => {
                    for _ in run {
                        out.counters.discard(Discard::UnknownProtocol);
                    }
                }
            }
            start = end;
        }
        self.hand_over(now, batch, out);
    }

    fn handle_event(&mut self, now: Now, event: SocketEvent, out: &mut Outbox) {
        self.relay.handle_event(now, event, out);
        self.hand_over(now, &mut [], out);
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.sfu.handle_timeout(now, out);
        self.relay.handle_timeout(now, out);
        self.hand_over(now, &mut [], out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        Deadline::earlier(self.relay.poll_timeout(), self.sfu.poll_timeout())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    use super::*;

    const LISTENER: Endpoint = Endpoint::Listener { index: 0, ip: IpAddr::V4(Ipv4Addr::LOCALHOST) };

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn memory(port: u16) -> Endpoint {
        Endpoint::Memory { address: address(port) }
    }

    #[expect(clippy::disallowed_methods, reason = "a monotonic time to start from")]
    fn now() -> Now {
        Now { instant: Instant::now(), unix: Duration::ZERO }
    }

    /// Local end, remote end, payload, origin.
    type Seen = (Endpoint, SocketAddr, Vec<u8>, Option<u32>);

    /// Remembers what it was given, and does what the test says with each datagram.
    struct Recorder {
        batches: Vec<Vec<Seen>>,
        act: fn(&mut Datagram<'_>, &mut Outbox),
    }

    impl Recorder {
        fn new(act: fn(&mut Datagram<'_>, &mut Outbox)) -> Recorder {
            Recorder { batches: Vec::new(), act }
        }
    }

    impl Node for Recorder {
        fn handle_batch(&mut self, _: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
            let seen = |d: &Datagram<'_>| (d.local, d.remote, d.payload.to_vec(), d.origin);
            self.batches.push(batch.iter().map(seen).collect());
            for datagram in batch {
                (self.act)(datagram, out);
            }
        }
        fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}
        fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
        fn poll_timeout(&self) -> Option<Deadline> {
            None
        }
    }

    const CANDIDATE: u16 = 3478;
    const RELAYED: u16 = 50_000;

    fn mux(
        relay: fn(&mut Datagram<'_>, &mut Outbox),
        sfu: fn(&mut Datagram<'_>, &mut Outbox),
    ) -> Mux<Recorder, Recorder> {
        let candidates = vec![address(CANDIDATE)];
        Mux::new(Recorder::new(relay), Recorder::new(sfu), candidates)
    }

    /// Gives the payloads to the mux as one batch, as a driver would: one behind the other in one arena.
    fn receive(mux: &mut Mux<Recorder, Recorder>, payloads: &[&[u8]], out: &mut Outbox) {
        let now = now();
        let mut owned: Vec<Vec<u8>> = payloads.iter().map(|p| p.to_vec()).collect();
        let mut origin = 0;
        let mut batch: Vec<Datagram<'_>> = Vec::new();
        for payload in &mut owned {
            let length = payload.len() as u32;
            batch.push(Datagram {
                local: LISTENER,
                remote: address(1000),
                ecn: 0,
                received_at: now.instant,
                payload,
                origin: Some(origin),
            });
            origin += length;
        }
        mux.handle_batch(now, &mut batch, out);
    }

    fn binding(attributes: &[u8]) -> Vec<u8> {
        let mut message = vec![0, 1, 0, attributes.len() as u8, 0x21, 0x12, 0xA4, 0x42];
        message.extend_from_slice(&[7; 12]);
        message.extend_from_slice(attributes);
        message
    }

    #[test]
    fn the_first_byte_decides_and_neighbours_stay_together() {
        let mut mux = mux(|_, _| (), |_, _| ());
        let mut out = Outbox::new();
        let packets: [&[u8]; 7] = [&[64], &[127], &[0, 3], &[20], &[191], &[192], &[]];
        receive(&mut mux, &packets, &mut out);
        let sizes = |r: &Recorder| r.batches.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(&mux.relay), [3]);
        assert_eq!(sizes(&mux.sfu), [2]);
        assert_eq!(out.counters.discarded(Discard::UnknownProtocol), 2);
    }

    #[test]
    fn a_binding_request_with_a_username_is_an_ice_check() {
        let priority = [0x00, 0x24, 0, 4, 1, 2, 3, 4];
        let padded_username = [0x00, 0x06, 0, 3, b'a', b':', b'b', 0];
        let check = binding(&[priority, padded_username].concat());
        assert_eq!(classify(&check), Class::Media);
        assert_eq!(classify(&binding(&priority)), Class::Relay);
        assert_eq!(classify(&binding(&[])), Class::Relay);
        let mut allocate = check.clone();
        allocate[1] = 3;
        assert_eq!(classify(&allocate), Class::Relay);
        for length in 0..check.len() {
            let class = classify(&check[..length]);
            // Up to the USERNAME's own header nothing tells that it is a check.
            assert_eq!(class == Class::Media, length >= 32, "{length}");
        }
        let endless = binding(&[0x00, 0x24, 0xff, 0xff]);
        assert_eq!(classify(&endless), Class::Relay);
    }

    #[test]
    fn a_relayed_range_reaches_the_sfu_in_place_and_the_answer_goes_back() {
        let mut mux = mux(
            |datagram, out| match datagram.local {
                Endpoint::Memory { .. } => {
                    let all = 0..datagram.payload.len();
                    out.forward(LISTENER, address(1000), &[0x40, 0, 0, 1], datagram, all);
                }
                _ => out.forward(memory(RELAYED), address(CANDIDATE), &[], datagram, 4..7),
            },
            |datagram, out| {
                datagram.payload[1] += 1;
                out.send(datagram.local, datagram.remote, &[128, 9]);
            },
        );
        let mut out = Outbox::new();
        receive(&mut mux, &[&[0x40, 0, 0, 3, 128, 5, 6], &[0x40, 0, 0, 3, 128, 7, 8]], &mut out);
        let seen =
            |payload: [u8; 3], origin| vec![(memory(CANDIDATE), address(RELAYED), payload.to_vec(), Some(origin))];
        assert_eq!(mux.sfu.batches, [seen([128, 5, 6], 4), seen([128, 7, 8], 11)]);
        let back = vec![(memory(RELAYED), address(CANDIDATE), vec![128, 9], None)];
        assert_eq!(mux.relay.batches[1..], [back.clone(), back]);
        assert_eq!(out.counters.memory_handovers, 4);
        assert!(out.memory_entries().is_empty());
        assert_eq!(out.entries().len(), 2);
        assert_eq!(out.arena()[out.entries()[0].head.end as usize - 1], 9);
    }

    #[test]
    fn a_head_and_a_body_arrive_as_one_payload() {
        let mut mux = mux(
            |datagram, out| {
                if datagram.origin.is_some() {
                    out.forward(memory(RELAYED), address(RELAYED + 2), &[1, 2], datagram, 1..3);
                }
            },
            |_, _| (),
        );
        let mut out = Outbox::new();
        receive(&mut mux, &[&[64, 3, 4]], &mut out);
        let seen = (memory(RELAYED + 2), address(RELAYED), vec![1, 2, 3, 4], None);
        assert_eq!(mux.relay.batches[1], [seen]);
    }

    #[test]
    fn a_loop_ends_after_two_hops() {
        let mut mux = mux(|datagram, out| out.send(memory(RELAYED), address(RELAYED), datagram.payload), |_, _| ());
        let mut out = Outbox::new();
        receive(&mut mux, &[&[64]], &mut out);
        assert_eq!(mux.relay.batches.len(), 3);
        assert_eq!(out.counters.discarded(Discard::MemoryLoop), 1);
        assert!(out.is_empty());
    }

    #[test]
    fn a_turn_message_to_a_candidate_goes_nowhere() {
        let mut mux = mux(|datagram, out| out.send(memory(RELAYED), address(CANDIDATE), datagram.payload), |_, _| ());
        let mut out = Outbox::new();
        receive(&mut mux, &[&[64, 0, 0, 0]], &mut out);
        assert!(mux.sfu.batches.is_empty());
        assert_eq!(mux.relay.batches.len(), 1);
        assert_eq!(out.counters.discarded(Discard::UnexpectedStun), 1);
    }
}
