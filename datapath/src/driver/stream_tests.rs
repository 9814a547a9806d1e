//! TCP connections on loopback, from their hand-over to their end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::ServerConnection;

use super::*;
use crate::stream::Framing;
use crate::{Deadline, Endpoint, Order};

const PATIENCE: Duration = Duration::from_secs(5);

/// Sends everything back, and remembers what it saw.
#[derive(Default)]
struct Echo {
    seen: Vec<Vec<u8>>,
    locals: Vec<Endpoint>,
    events: Vec<SocketEvent>,
    keep: bool,
    times: usize,
}

impl Node for Echo {
    fn handle_batch(&mut self, _: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        for datagram in batch {
            self.seen.push(datagram.payload.to_vec());
            self.locals.push(datagram.local);
            if self.keep {
                out.order(Order::KeepStream { local: datagram.local, keep: true });
            }
            for _ in 0..self.times {
                let all = 0..datagram.payload.len();
                out.forward(datagram.local, datagram.remote, &[], datagram, all);
            }
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

struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A driver, a client, and whether the connection's share was given back.
fn connected(framing: Framing, unread: &[u8]) -> (Driver, TcpStream, Arc<AtomicBool>) {
    connected_over(None, framing, unread)
}

fn connected_over(
    tls: Option<Box<ServerConnection>>,
    framing: Framing,
    unread: &[u8],
) -> (Driver, TcpStream, Arc<AtomicBool>) {
    let mut driver = bound();
    let (mut stream, client, freed) = accepted(unread);
    (stream.tls, stream.framing) = (tls, framing);
    driver.add_stream(stream).unwrap();
    (driver, client, freed)
}

fn bound() -> Driver {
    Driver::bind(&Settings::new(vec!["127.0.0.1:0".parse().unwrap()])).unwrap()
}

/// A connection, of which so much was received already, and its client.
fn accepted(unread: &[u8]) -> (Stream, TcpStream, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (socket, remote) = listener.accept().unwrap();
    let freed = Arc::new(AtomicBool::new(false));
    let local = socket.local_addr().unwrap();
    let guard = Box::new(Guard(freed.clone()));
    let (tls, framing, unread) = (None, Framing::Turn, unread.to_vec());
    (Stream { socket, tls, framing, unread, remote, local, guard }, client, freed)
}

fn run(driver: &mut Driver, node: &mut Echo, mut done: impl FnMut(&Echo) -> bool) {
    let started = driver.clock.instant();
    while !done(node) {
        driver.turn(node, Duration::from_millis(20)).unwrap();
        assert!(driver.clock.instant() - started < PATIENCE, "saw {:?}", node.seen.len());
    }
}

#[test]
fn datagrams_come_in_pieces_and_go_back_whole() {
    let message = [&[0, 1, 0, 4, 0x21, 0x12, 0xA4, 0x42][..], &[7; 16]].concat();
    let channel = [0x40, 0, 0, 3, 1, 2, 3, 0];
    let (mut driver, mut client, freed) = connected(Framing::Turn, &message[..5]);
    let mut node = Echo { times: 1, ..Echo::default() };
    client.write_all(&message[5..]).unwrap();
    for octet in channel {
        client.write_all(&[octet]).unwrap();
        driver.turn(&mut node, Duration::from_millis(1)).unwrap();
    }
    run(&mut driver, &mut node, |node| node.seen.len() == 2);
    assert_eq!(node.seen, [message.clone(), channel[..7].to_vec()]);
    assert!(matches!(node.locals[0], Endpoint::Stream { ip, .. } if ip.is_loopback()));
    let mut answer = vec![0; message.len() + channel.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [&message[..], &channel].concat());

    let (local, remote) = (node.locals[0], client.local_addr().unwrap());
    drop(client);
    run(&mut driver, &mut node, |node| !node.events.is_empty());
    assert_eq!(node.events, [SocketEvent::StreamClosed { local, remote }]);
    assert!(freed.load(Ordering::Relaxed));
}

#[test]
fn a_stream_that_cannot_be_read_is_closed() {
    let (mut driver, mut client, _) = connected(Framing::Turn, &[]);
    let mut node = Echo::default();
    client.write_all(b"\x16\x03\x01 no STUN").unwrap();
    run(&mut driver, &mut node, |node| !node.events.is_empty());
    assert_eq!(client.read(&mut [0; 10]).unwrap_or(0), 0);
    assert_eq!(driver.out.counters.discarded(Discard::Unframed), 1);
}

/// Thousands of records, or of new keys, may come to a few octets.
#[test]
fn what_is_to_be_decrypted_has_a_share_of_a_turn_as_well() {
    const FRAMES: usize = 500;
    let (mut sealer, opener) = streams::tests::connected();
    let (mut driver, mut client, _) = connected_over(Some(Box::new(opener)), Framing::Turn, &[]);
    let mut sealed = Vec::new();
    for octet in [0x40, 0, 0, 0].repeat(FRAMES) {
        sealer.writer().write_all(&[octet]).unwrap();
        while sealer.wants_write() {
            sealer.write_tls(&mut sealed).unwrap();
        }
    }
    client.write_all(&sealed).unwrap();
    let mut node = Echo::default();
    driver.turn(&mut node, PATIENCE).unwrap();
    assert!(node.seen.len() < FRAMES / 2, "{} in a turn", node.seen.len());
    run(&mut driver, &mut node, |node| node.seen.len() == FRAMES);
}

/// A record is decrypted whole, so more than a turn's share may wait where no poll sees it.
#[test]
fn what_is_decrypted_beyond_a_turns_share_comes_by_itself() {
    let frame = [&[0x40, 0, 0x04, 0xAC][..], &[7; 1196]].concat();
    for tls in [true, false] {
        for count in 50..60 {
            let (mut sealer, opener) = streams::tests::connected();
            let opener = tls.then(|| Box::new(opener));
            let (mut driver, mut client, _) = connected_over(opener, Framing::Turn, &[]);
            let mut octets = frame.repeat(count);
            if tls {
                let mut sealed = Vec::new();
                for frame in octets.chunks(frame.len()) {
                    sealer.writer().write_all(frame).unwrap();
                    while sealer.wants_write() {
                        sealer.write_tls(&mut sealed).unwrap();
                    }
                }
                octets = sealed;
            }
            client.write_all(&octets).unwrap();
            let mut node = Echo::default();
            run(&mut driver, &mut node, |node| node.seen.len() == count);
            assert!(node.seen.iter().all(|seen| *seen == frame));
            assert!(!driver.ports.streams.is_waiting(), "and then there is nothing left to look at");
        }
    }
}

#[test]
fn a_client_that_does_not_read_costs_no_more_than_its_queue() {
    let mut media = vec![128; 1000];
    let (mut driver, mut client, _) = connected(Framing::Ice, &[]);
    let mut node = Echo { times: 2_000, ..Echo::default() };
    for number in 0..10 {
        media[10] = number;
        client.write_all(&[&1000u16.to_be_bytes()[..], &media].concat()).unwrap();
    }
    run(&mut driver, &mut node, |node| node.seen.len() == 10);
    assert!(driver.out.counters.discarded(Discard::StreamFull) > 1_000);
    // Everything that did leave can be read, and the newest did.
    let mut frames = Vec::new();
    let mut length = [0; 2];
    while frames.last() != Some(&9) {
        for _ in 0..10 {
            driver.turn(&mut node, Duration::ZERO).unwrap();
        }
        client.read_exact(&mut length).unwrap();
        assert_eq!(u16::from_be_bytes(length), 1000);
        let mut frame = vec![0; 1000];
        client.read_exact(&mut frame).unwrap();
        assert!(frame[0] == 128 && frame[999] == 128);
        frames.push(frame[10]);
    }
    assert!(frames.is_sorted());
}

#[test]
fn a_connection_that_nobody_keeps_ends() {
    let message = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    for keep in [false, true] {
        let (mut driver, _client, _) = connected(Framing::Turn, &message);
        let mut node = Echo { keep, ..Echo::default() };
        run(&mut driver, &mut node, |node| node.seen.len() == 1);
        let now = driver.clock.instant();
        driver.ports.streams.end_idle(now + Duration::from_secs(29));
        assert_eq!(driver.ports.streams.len(), 1);
        driver.ports.streams.end_idle(now + Duration::from_secs(60));
        assert_eq!(driver.ports.streams.len(), usize::from(keep));
        driver.ports.streams.end_idle(now + Duration::from_secs(3_600));
        assert_eq!(driver.ports.streams.len(), usize::from(keep), "an allocation may last an hour without a word");
        driver.ports.streams.end_idle(now + Duration::from_secs(4_000));
        assert_eq!(driver.ports.streams.len(), 0);
    }
}

#[test]
fn a_connection_that_is_kept_no_longer_ends() {
    let message = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    let (mut driver, _client, freed) = connected(Framing::Turn, &message);
    let mut node = Echo { keep: true, ..Echo::default() };
    run(&mut driver, &mut node, |node| node.seen.len() == 1);
    let now = driver.clock.instant() + Duration::from_secs(3_600);
    driver.ports.streams.keep(node.locals[0], false, now);
    driver.ports.streams.end_idle(now + Duration::from_secs(29));
    assert_eq!(driver.ports.streams.len(), 1, "another node may want it yet");
    driver.ports.streams.end_idle(now + Duration::from_secs(30));
    assert_eq!(driver.ports.streams.len(), 0);
    assert!(freed.load(Ordering::Relaxed));
}

#[test]
fn what_could_join_connections_and_does_not_is_read_in_one_turn() {
    let bind = [&[0, 0x0B, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    let (mut driver, _client, _) = connected(Framing::Turn, &bind.repeat(200));
    let mut node = Echo::default();
    driver.turn(&mut node, Duration::ZERO).unwrap();
    assert_eq!(node.seen.len(), 200);
    assert!(!driver.ports.streams.is_waiting());
}

#[test]
fn a_stranger_lets_no_long_frame_wait() {
    let header = [0, 1, 0xFF, 0xF0, 0x21, 0x12, 0xA4, 0x42];
    for (octets, stays) in [(4000, true), (4200, false)] {
        let begun = [&header[..], &vec![7; octets - header.len()]].concat();
        let (mut driver, _client, _) = connected(Framing::Turn, &begun);
        driver.turn(&mut Echo::default(), Duration::ZERO).unwrap();
        assert_eq!(driver.ports.streams.len(), usize::from(stays), "{octets}");
    }
    // Who has shown who it is may.
    let message = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    let (mut driver, mut client, _) = connected(Framing::Turn, &message);
    let mut node = Echo { keep: true, ..Echo::default() };
    run(&mut driver, &mut node, |node| node.seen.len() == 1);
    let whole = [&header[..], &vec![7; 0xFFF0 + 20 - header.len()]].concat();
    client.write_all(&whole).unwrap();
    run(&mut driver, &mut node, |node| node.seen.len() == 2);
    assert_eq!(node.seen[1], whole);
}

#[test]
fn a_turn_has_time_for_some_connections_and_the_next_for_the_others() {
    let message = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    let (mut driver, mut node, mut clients) = (bound(), Echo::default(), Vec::new());
    for _ in 0..100 {
        let (stream, client, _) = accepted(&message);
        driver.add_stream(stream).unwrap();
        clients.push(client);
    }
    driver.turn(&mut node, Duration::ZERO).unwrap();
    assert_eq!(node.seen.len(), 64);
    // More of those that were served already does not come before the others.
    for client in &mut clients[..64] {
        client.write_all(&message).unwrap();
    }
    driver.turn(&mut node, Duration::from_secs(5)).unwrap();
    let mut served: Vec<Endpoint> = node.locals.clone();
    served.sort_unstable_by_key(|local| format!("{local:?}"));
    served.dedup();
    assert_eq!(served.len(), 100);
    run(&mut driver, &mut node, |node| node.seen.len() == 164);
}
