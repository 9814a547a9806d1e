//! Connections of peers on loopback: listened for, connected, and joined to clients'.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustls::{ClientConnection, ServerConnection};

use super::*;
use crate::stream::Framing;
use crate::{Carried, Deadline, Order, PeerChange};

const PATIENCE: Duration = Duration::from_secs(10);

/// A ConnectionBind request without attributes: the node takes everybody's word.
const BIND: [u8; 20] = [0, 0x0B, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
/// Its success response, as far as anyone looks.
const BOUND: [u8; 20] = [1, 0x0B, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// Answers each ConnectionBind, and joins the connection that it came over to the one of `target`.
struct Joiner {
    target: Option<(SocketAddr, SocketAddr)>,
    /// How many octets may pass over the connections that it joins, and how many did.
    allowance: usize,
    carried: Carried,
    seen: Vec<Vec<u8>>,
    events: Vec<SocketEvent>,
}

impl Joiner {
    fn changes(&self) -> Vec<PeerChange> {
        let change = |event: &SocketEvent| match event {
            SocketEvent::Peer { change, .. } => Some(*change),
            _ => None,
        };
        self.events.iter().filter_map(change).collect()
    }
}

impl Node for Joiner {
    fn handle_batch(&mut self, _: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        for datagram in batch {
            self.seen.push(datagram.payload.to_vec());
            if datagram.payload[1] == 0x0B {
                if let Some((relayed, peer)) = self.target {
                    out.order(Order::SplicePeer { relayed, peer, client: datagram.local });
                }
                out.send(datagram.local, datagram.remote, &BOUND);
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
    fn allowance(&mut self, _: Now, _: SocketAddr, _: bool) -> usize {
        self.allowance
    }
    fn handle_carried(&mut self, _: Now, _: SocketAddr, Carried { to_peer, to_client }: Carried) {
        self.carried.to_peer += to_peer;
        self.carried.to_client += to_client;
        self.allowance = self.allowance.saturating_sub((to_peer + to_client) as usize);
    }
}

struct World {
    driver: Driver,
    node: Joiner,
    relayed: SocketAddr,
}

impl World {
    /// A relayed address that listens.
    fn new() -> World {
        let driver = Driver::bind(&Settings::new(vec!["127.0.0.1:0".parse().unwrap()])).unwrap();
        // A port that is free now, and as good as certainly still is a moment later.
        let relayed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let node = Joiner {
            target: None,
            allowance: usize::MAX,
            carried: Carried::default(),
            seen: Vec::new(),
            events: Vec::new(),
        };
        let mut world = World { driver, node, relayed };
        world.order(Order::ProbeTcpRelay { relayed });
        world.order(Order::ListenTcp { relayed });
        world.run(|world| world.node.events.len() == 2);
        assert_eq!(world.node.events, [SocketEvent::Free { relayed }, SocketEvent::Opened { relayed }]);
        world.node.events.clear();
        world
    }

    fn order(&mut self, order: Order) {
        self.driver.act(&mut self.node, |_, _, out| out.order(order));
    }

    fn turn(&mut self, wait: Duration) {
        self.driver.turn(&mut self.node, wait).unwrap();
    }

    #[track_caller]
    fn run(&mut self, mut done: impl FnMut(&mut World) -> bool) {
        let started = self.driver.clock.instant();
        while !done(self) {
            self.turn(Duration::from_millis(5));
            assert!(self.driver.clock.instant() - started < PATIENCE, "{:?}", self.node.events);
        }
    }

    /// A peer that has connected to the relayed address.
    fn accepted(&mut self) -> TcpStream {
        let peer = TcpStream::connect(self.relayed).unwrap();
        self.run(|world| world.node.changes() == [PeerChange::Accepted]);
        self.node.events.clear();
        self.node.target = Some((self.relayed, peer.local_addr().unwrap()));
        peer.set_nonblocking(true).unwrap();
        peer
    }

    /// A client's connection, as it is handed over.
    fn client(&mut self, framing: Framing, unread: &[u8]) -> TcpStream {
        self.client_over(None, framing, unread)
    }

    fn client_over(&mut self, tls: Option<Box<ServerConnection>>, framing: Framing, unread: &[u8]) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, remote) = listener.accept().unwrap();
        let local = socket.local_addr().unwrap();
        let stream = Stream { socket, tls, framing, unread: unread.to_vec(), remote, local, guard: Box::new(()) };
        self.driver.add_stream(stream).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    /// Both ends of a splice, the answer read.
    fn spliced(&mut self) -> (TcpStream, TcpStream) {
        let peer = self.accepted();
        let mut client = self.client(Framing::Turn, &BIND);
        assert_eq!(self.receive(&mut client, BOUND.len()), BOUND);
        (client, peer)
    }

    #[track_caller]
    fn receive(&mut self, from: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut received = Vec::new();
        self.run(|_| {
            let mut buffer = vec![0; count - received.len()];
            match from.read(&mut buffer) {
                Ok(0) => panic!("it ended after {} octets", received.len()),
                Ok(read) => received.extend_from_slice(&buffer[..read]),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            received.len() == count
        });
        received
    }

    #[track_caller]
    fn ends(&mut self, from: &mut TcpStream) {
        self.run(|_| match from.read(&mut [0; 10]) {
            Ok(0) => true,
            Ok(_) => panic!("octets instead of an end"),
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        });
    }

    fn counters(&self) -> &Counters {
        &self.driver.out.counters
    }
}

/// Octets that differ from place to place.
fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index % 251) as u8).collect()
}

#[test]
fn what_comes_with_the_request_and_before_it_is_not_lost() {
    let mut world = World::new();
    let mut peer = world.accepted();
    peer.write_all(b"the peer speaks first").unwrap();
    // The first octets behind the request look like no datagram, and like one that is not whole.
    for tail in [&b"\xFF\xFF no STUN"[..], &[0, 1, 0x10, 0, 0x21, 0x12, 0xA4, 0x42]] {
        let mut client = world.client(Framing::Turn, &[&BIND[..], tail].concat());
        assert_eq!(world.receive(&mut client, BOUND.len()), BOUND);
        assert_eq!(world.receive(&mut client, 21), b"the peer speaks first");
        assert_eq!(world.receive(&mut peer, tail.len()), tail);
        client.write_all(b"more").unwrap();
        assert_eq!(world.receive(&mut peer, 4), b"more");
        drop(client);
        world.ends(&mut peer);
        drop(peer);
        world.run(|world| world.node.changes() == [PeerChange::Closed]);
        world.node.events.clear();
        peer = world.accepted();
        peer.write_all(b"the peer speaks first").unwrap();
    }
    assert_eq!(world.counters().discarded(Discard::Unframed), 0);
}

#[test]
fn a_request_that_joins_nothing_leaves_the_datagrams_behind_it_readable() {
    let mut world = World::new();
    let channel = [0x40, 0, 0, 4, 1, 2, 3, 4];
    let mut client = world.client(Framing::Turn, &[&BIND[..], &BIND, &channel].concat());
    assert_eq!(world.receive(&mut client, 40), [BOUND, BOUND].concat());
    world.run(|world| world.node.seen.len() == 3);
    assert_eq!(world.node.seen[2], channel);
    let junk = [&BIND[..], b"\xFF\xFF"].concat();
    client.write_all(&junk).unwrap();
    assert_eq!(world.receive(&mut client, 20), BOUND);
    world.ends(&mut client);
    assert_eq!(world.counters().discarded(Discard::Unframed), 1);
}

#[test]
fn connects_from_the_address_that_listens_and_tells_of_failure() {
    let mut world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (relayed, peer) = (world.relayed, listener.local_addr().unwrap());
    world.order(Order::ConnectPeer { relayed, peer });
    world.run(|world| world.node.changes() == [PeerChange::Connected]);
    let (mut there, from) = listener.accept().unwrap();
    there.set_nonblocking(true).unwrap();
    assert_eq!(from, relayed);
    // The same again: there is one already.
    world.order(Order::ConnectPeer { relayed, peer });
    world.run(|world| world.node.changes().len() == 2);
    drop(listener);
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    world.order(Order::ConnectPeer { relayed, peer: closed });
    world.run(|world| world.node.changes().len() == 3);
    assert_eq!(world.node.changes()[1..], [PeerChange::Failed, PeerChange::Failed]);
    assert_eq!(world.counters().peer_connections_opened, 1);
    assert_eq!(world.driver.ports.peers.len(), 1);
    world.order(Order::ClosePeer { relayed, peer });
    world.ends(&mut there);
    assert_eq!(world.driver.ports.peers.len(), 0);
    assert_eq!(world.node.changes().len(), 3, "who ordered it knows");
}

#[test]
fn each_direction_ends_for_itself() {
    let mut world = World::new();
    let (mut client, mut peer) = world.spliced();
    client.write_all(b"a question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(world.receive(&mut peer, 10), b"a question");
    world.ends(&mut peer);
    assert_eq!(world.node.changes(), []);
    let answer = pattern(1000);
    peer.write_all(&answer).unwrap();
    assert_eq!(world.receive(&mut client, answer.len()), answer);
    drop(peer);
    world.ends(&mut client);
    world.run(|world| world.node.changes() == [PeerChange::Closed]);
    assert_eq!((world.counters().octets_to_peers, world.counters().octets_to_clients), (10, 1000));
}

#[test]
fn a_splice_half_of_which_is_over_does_not_idle_for_ever() {
    let mut world = World::new();
    let (client, mut peer) = world.spliced();
    let now = world.driver.clock.instant();
    world.driver.ports.peers.end_idle(now + Duration::from_secs(100_000));
    assert_eq!(world.driver.ports.peers.len(), 1, "both are open");
    client.shutdown(Shutdown::Write).unwrap();
    world.ends(&mut peer);
    world.driver.ports.peers.end_idle(now + Duration::from_secs(800));
    assert_eq!(world.driver.ports.peers.len(), 1);
    world.driver.ports.peers.end_idle(now + Duration::from_secs(1000));
    assert_eq!(world.driver.ports.peers.len(), 0);
    world.run(|world| world.node.changes() == [PeerChange::Closed]);
}

/// Writes until the whole chain is full, then reads all of it.
fn fill_and_drain(world: &mut World, from: &mut TcpStream, to: &mut TcpStream) {
    let octets = pattern(64 << 20);
    let (mut written, mut stuck) = (0, 0);
    while stuck < 20 {
        match from.write(&octets[written..]) {
            Ok(count) => (written, stuck) = (written + count, 0),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                world.turn(Duration::from_millis(5));
                stuck += 1;
            }
        }
        assert!(world.driver.ports.peers.waiting() <= 2 * splice::CHUNK);
        assert!(written < octets.len(), "nobody reads, but everything was taken");
    }
    // Nothing moves, so the loop sleeps.
    let started = world.driver.clock.instant();
    world.turn(Duration::from_millis(50));
    assert!(world.driver.clock.instant() - started >= Duration::from_millis(40), "a busy loop");
    assert_eq!(world.receive(to, written), octets[..written]);
    assert_eq!(world.driver.ports.peers.waiting(), 0);
}

#[test]
fn who_does_not_read_makes_the_other_wait() {
    let mut world = World::new();
    let (mut client, mut peer) = world.spliced();
    fill_and_drain(&mut world, &mut client, &mut peer);
    fill_and_drain(&mut world, &mut peer, &mut client);
    // An end behind a jam arrives behind it.
    drop(client);
    world.ends(&mut peer);
}

#[test]
fn a_connection_that_no_client_binds_is_not_read() {
    let mut world = World::new();
    let mut peer = world.accepted();
    let octets = vec![7; 1 << 20];
    let (mut written, mut stuck) = (0, 0);
    while stuck < 5 {
        match peer.write(&octets) {
            Ok(count) => (written, stuck) = (written + count, 0),
            Err(_) => {
                world.turn(Duration::from_millis(5));
                stuck += 1;
            }
        }
        assert!(written < 64 << 20);
    }
    // A peer that ends it meanwhile is still heard by whoever binds it then.
    drop(peer);
    world.turn(Duration::from_millis(5));
    let mut client = world.client(Framing::Turn, &BIND);
    assert_eq!(world.receive(&mut client, 20), BOUND);
    assert_eq!(world.receive(&mut client, written), vec![7; written]);
    world.ends(&mut client);
}

#[test]
fn a_broken_connection_takes_the_other_along() {
    for break_client in [true, false] {
        let mut world = World::new();
        let (client, peer) = world.spliced();
        let (broken, mut other) = if break_client { (client, peer) } else { (peer, client) };
        // What is closed without lingering is reset.
        socket2::SockRef::from(&broken).set_linger(Some(Duration::ZERO)).unwrap();
        drop(broken);
        world.ends(&mut other);
        world.run(|world| world.node.changes() == [PeerChange::Closed]);
        assert_eq!(world.driver.ports.peers.len(), 0);
    }
}

#[test]
fn a_peer_that_is_gone_before_the_client_comes_ends_the_clients_connection() {
    let mut world = World::new();
    let peer = world.accepted();
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    world.run(|world| world.node.changes() == [PeerChange::Closed]);
    let mut client = world.client(Framing::Turn, &BIND);
    assert_eq!(world.receive(&mut client, 20), BOUND);
    world.ends(&mut client);
    world.run(|world| world.node.changes() == [PeerChange::Closed, PeerChange::Closed]);
}

/// Reads what is there and decrypts it; says whether that was all there will be.
fn decrypt(client: &mut ClientConnection, mut socket: &TcpStream, plain: &mut Vec<u8>) -> bool {
    loop {
        let over = match client.read_tls(&mut socket) {
            Ok(count) => count == 0,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(error) => panic!("{error}"),
        };
        client.process_new_packets().unwrap();
        let mut buffer = [0; 32 << 10];
        while let Ok(count @ 1..) = client.reader().read(&mut buffer) {
            plain.extend_from_slice(&buffer[..count]);
        }
        if over {
            return true;
        }
    }
}

#[test]
fn a_client_with_tls_is_joined_as_well() {
    let mut world = World::new();
    let mut peer = world.accepted();
    let (mut sealer, opener) = streams::tests::connected();
    let client = world.client_over(Some(Box::new(opener)), Framing::Turn, &[]);
    let octets = pattern(300_000);
    // The request and what is for the peer, in records as they come.
    let (mut rest, mut sealed) = ([&BIND[..], &octets].concat(), Vec::new());
    while !rest.is_empty() || sealer.wants_write() {
        let count = sealer.writer().write(&rest[..rest.len().min(16_000)]).unwrap();
        rest.drain(..count);
        while sealer.wants_write() {
            sealer.write_tls(&mut sealed).unwrap();
        }
    }
    sealer.send_close_notify();
    sealer.write_tls(&mut sealed).unwrap();
    let mut received = Vec::new();
    world.run(|_| {
        if let Ok(count) = (&client).write(&sealed) {
            sealed.drain(..count);
        }
        let mut buffer = [0; 32 << 10];
        if let Ok(count) = peer.read(&mut buffer) {
            received.extend_from_slice(&buffer[..count]);
        }
        received.len() == octets.len()
    });
    assert_eq!(received, octets);
    world.ends(&mut peer);
    // And back, while nobody reads for a while.
    let mut rest = &octets[..];
    let mut plain = Vec::new();
    world.run(|_| {
        if let Ok(count) = peer.write(rest) {
            rest = &rest[count..];
        }
        if rest.is_empty() { true } else { decrypt(&mut sealer, &client, &mut plain) }
    });
    drop(peer);
    world.run(|_| decrypt(&mut sealer, &client, &mut plain));
    assert_eq!(plain, [&BOUND[..], &octets].concat());
    world.run(|world| world.node.changes() == [PeerChange::Closed]);
}

#[test]
fn a_connection_of_framed_datagrams_is_not_joined() {
    let mut world = World::new();
    let mut peer = world.accepted();
    let mut client = world.client(Framing::Ice, &[&[0, 20][..], &BIND].concat());
    world.ends(&mut peer);
    assert_eq!(world.receive(&mut client, 22)[2..], BOUND);
    world.ends(&mut client);
}

#[test]
fn a_relayed_address_that_is_closed_takes_everything_along() {
    let mut world = World::new();
    let (mut client, mut peer) = world.spliced();
    let mut waiting = world.accepted();
    let relayed = world.relayed;
    world.order(Order::ProbeTcpRelay { relayed });
    world.run(|world| world.node.events == [SocketEvent::Taken { relayed }]);
    world.order(Order::CloseTcpRelay { relayed });
    for stream in [&mut client, &mut peer, &mut waiting] {
        world.ends(stream);
    }
    assert_eq!(world.driver.ports.peers.len(), 0);
    assert!(TcpStream::connect(relayed).is_err(), "nobody listens");
    world.order(Order::ListenTcp { relayed });
    world.run(|world| world.node.events.contains(&SocketEvent::Opened { relayed }));
}

/// What is there to be read.
fn read_some(from: &mut TcpStream) -> usize {
    match from.read(&mut [0; 64 << 10]) {
        Ok(count) => count,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            0
        }
    }
}

#[test]
fn no_more_passes_than_the_node_allows_and_the_rest_waits() {
    let mut world = World::new();
    world.node.allowance = 0;
    // What comes along with the request is told, but not held back.
    let mut peer = world.accepted();
    let mut client = world.client(Framing::Turn, &[&BIND[..], b"unread"].concat());
    assert_eq!(world.receive(&mut client, BOUND.len()), BOUND);
    assert_eq!(world.receive(&mut peer, 6), b"unread");
    let octets = pattern(20_000);
    client.write_all(&octets).unwrap();
    peer.write_all(&octets).unwrap();
    (0..5).for_each(|_| world.turn(Duration::from_millis(5)));
    assert_eq!(world.node.carried, Carried { to_peer: 6, to_client: 0 });
    // Of what is allowed both directions get half, though each could use all of it.
    world.node.allowance = 10_001;
    let mut received = [0, 0];
    world.run(|_| {
        received[0] += read_some(&mut peer);
        received[1] += read_some(&mut client);
        received[0] + received[1] == 10_001
    });
    assert!(received[0].abs_diff(received[1]) <= 1, "{received:?}");
    // Until there is more the loop sleeps most of the time.
    let started = world.driver.clock.instant();
    (0..10).for_each(|_| world.turn(Duration::from_millis(50)));
    assert!(world.driver.clock.instant() - started >= Duration::from_millis(30), "a busy loop");
    world.node.allowance = usize::MAX;
    assert_eq!(world.receive(&mut peer, octets.len() - received[0]), octets[received[0]..]);
    assert_eq!(world.receive(&mut client, octets.len() - received[1]), octets[received[1]..]);
    assert_eq!(world.node.carried, Carried { to_peer: 20_006, to_client: 20_000 });
}
