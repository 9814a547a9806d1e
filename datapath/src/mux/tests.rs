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
    events: Vec<SocketEvent>,
    act: fn(&mut Datagram<'_>, &mut Outbox),
}

impl Recorder {
    fn new(act: fn(&mut Datagram<'_>, &mut Outbox)) -> Recorder {
        Recorder { batches: Vec::new(), events: Vec::new(), act }
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
    fn handle_event(&mut self, _: Now, event: SocketEvent, _: &mut Outbox) {
        self.events.push(event);
    }
    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

const CANDIDATE: u16 = 3478;
const RELAYED: u16 = 50_000;

fn mux(relay: fn(&mut Datagram<'_>, &mut Outbox), sfu: fn(&mut Datagram<'_>, &mut Outbox)) -> Mux<Recorder, Recorder> {
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
    let seen = |payload: [u8; 3], origin| vec![(memory(CANDIDATE), address(RELAYED), payload.to_vec(), Some(origin))];
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

#[test]
fn both_are_told_that_a_connection_has_ended() {
    let mut mux = mux(|_, _| {}, |_, _| {});
    let local = Endpoint::Stream { id: 1, ip: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let closed = SocketEvent::StreamClosed { local, remote: address(1000) };
    mux.handle_event(now(), closed, &mut Outbox::new());
    assert_eq!((mux.relay.events, mux.sfu.events), (vec![closed], vec![closed]));
}
