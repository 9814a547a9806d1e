//! Real sockets on loopback.

use std::net::{SocketAddr, UdpSocket as PlainSocket};
use std::time::Duration;

use super::*;
use crate::sockets::UdpSocket;
use crate::{Deadline, Endpoint, Entry, Order};

/// Calls that must come arrive long before this; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(5);

type Act = Box<dyn FnMut(&mut Datagram<'_>, &mut Outbox)>;

/// A node that does what the test says with each datagram.
struct Scripted {
    act: Act,
    batches: Vec<usize>,
    seen: Vec<(Endpoint, SocketAddr, u8, Vec<u8>)>,
    events: Vec<SocketEvent>,
    deadline: Option<Deadline>,
    timeouts: usize,
    on_timeout: Box<dyn FnMut()>,
}

impl Scripted {
    fn new(act: impl FnMut(&mut Datagram<'_>, &mut Outbox) + 'static) -> Scripted {
        Scripted {
            act: Box::new(act),
            batches: Vec::new(),
            seen: Vec::new(),
            events: Vec::new(),
            deadline: None,
            timeouts: 0,
            on_timeout: Box::new(|| ()),
        }
    }
}

impl Node for Scripted {
    fn handle_batch(&mut self, _: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        self.batches.push(batch.len());
        for datagram in batch {
            let payload = datagram.payload.to_vec();
            let seen = (datagram.local, datagram.remote, datagram.ecn, payload);
            self.seen.push(seen);
            (self.act)(datagram, out);
        }
    }
    fn handle_event(&mut self, _: Now, event: SocketEvent, _: &mut Outbox) {
        self.events.push(event);
    }
    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {
        self.timeouts += 1;
        (self.on_timeout)();
        self.deadline = None;
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        self.deadline
    }
}

fn driver(listener: &str) -> (Driver, SocketAddr) {
    let settings = Settings::new(vec![listener.parse().unwrap()]);
    let driver = Driver::bind(&settings).unwrap();
    let (_, address) = driver.listeners().next().unwrap();
    (driver, address)
}

fn plain() -> PlainSocket {
    let socket = PlainSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn listener() -> UdpSocket {
    UdpSocket::listener("127.0.0.1:0".parse().unwrap(), 1 << 20, false).unwrap()
}

/// Turns until `done` says so.
fn run(driver: &mut Driver, node: &mut Scripted, mut done: impl FnMut(&Scripted) -> bool) {
    let started = driver.clock.instant();
    while !done(node) {
        driver.turn(node, PATIENCE).unwrap();
        let waited = driver.clock.instant() - started;
        assert!(waited < PATIENCE, "saw {:?}", node.batches);
    }
}

/// Sends `payloads` from `socket` to `remote` as the driver would.
fn send(socket: &UdpSocket, remote: SocketAddr, tos: u8, payloads: &[Vec<u8>]) {
    let mut heads = Vec::new();
    let mut entries = Vec::new();
    for payload in payloads {
        let start = heads.len() as u32;
        heads.extend_from_slice(payload);
        entries.push(Entry {
            local: Endpoint::Listener { index: 0, ip: socket.address().ip() },
            remote,
            tos,
            head: start..heads.len() as u32,
            body: 0..0,
        });
    }
    let mut trains = Trains::new();
    trains.form(&entries);
    let chosen: Vec<u32> = (0..trains.trains().len() as u32).collect();
    let payloads = Payloads { entries: &entries, heads: &heads, bodies: &[] };
    let refused = SendBatch::new().send(socket, &trains, &chosen, payloads);
    assert_eq!(refused, 0);
}

fn frame() -> Vec<Vec<u8>> {
    (0..7).map(|index| vec![index; if index == 6 { 500 } else { 1200 }]).collect()
}

#[test]
fn an_echo_comes_from_the_address_it_was_sent_to() {
    let (mut driver, bound) = driver("[::]:0");
    let mut node = Scripted::new(|datagram, out| {
        out.send(datagram.local, datagram.remote, datagram.payload);
    });
    let client = plain();
    let mut buffer = [0; 100];
    for ip in [[127, 0, 0, 1], [127, 1, 2, 3]] {
        let server = SocketAddr::from((ip, bound.port()));
        client.send_to(b"hello", server).unwrap();
        node.batches.clear();
        run(&mut driver, &mut node, |node| !node.batches.is_empty());
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"hello"[..], server));
    }
    if let Ok(client) = PlainSocket::bind("[::1]:0") {
        let server = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], bound.port()));
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(b"hello", server).unwrap();
        node.batches.clear();
        run(&mut driver, &mut node, |node| !node.batches.is_empty());
        assert_eq!(client.recv_from(&mut buffer).unwrap().1, server);
    }
}

#[test]
fn a_train_stays_a_train_through_the_driver() {
    let (mut driver, bound) = driver("127.0.0.1:0");
    let subscribers = [listener(), listener()];
    let addresses = subscribers.each_ref().map(UdpSocket::address);
    let mut node = Scripted::new(move |datagram, out| {
        for address in addresses {
            // A head of our own before a body that stays where it was received.
            let all = 0..datagram.payload.len();
            out.forward(datagram.local, address, &[0xAA, 0xBB], datagram, all);
        }
    });
    let publisher = listener();
    send(&publisher, bound, 0, &frame());
    run(&mut driver, &mut node, |node| node.seen.len() == 7);
    assert_eq!(node.batches, [7], "one wake-up for the frame");
    let payloads: Vec<_> = node.seen.iter().map(|seen| seen.3.clone()).collect();
    assert_eq!(payloads, frame());

    for subscriber in &subscribers {
        let mut batch = ReceiveBatch::new();
        assert_eq!(batch.receive(subscriber, 7, 8).unwrap(), 1);
        let (messages, arena) = batch.parts();
        assert_eq!((messages[0].length, messages[0].segment), (6 * 1202 + 502, 1202));
        let received: Vec<_> = messages[0]
            .segments()
            .map(|(offset, length)| arena[offset as usize..][..length as usize].to_vec())
            .collect();
        let expected: Vec<_> = frame().into_iter().map(|payload| [vec![0xAA, 0xBB], payload].concat()).collect();
        assert_eq!(received, expected);
        assert_eq!((messages[0].tag, messages[0].remote), (7, bound));
    }
}

#[test]
fn datagrams_of_all_sizes_arrive_in_order() {
    let (mut driver, bound) = driver("127.0.0.1:0");
    let client = plain();
    let to = client.local_addr().unwrap();
    let mut node = Scripted::new(move |datagram, out| {
        for length in 0..60usize {
            let payload = [&[length as u8][..], &vec![7; length * 131 % 1300]].concat();
            out.send(datagram.local, to, &payload);
            out.send(datagram.local, datagram.remote, &[]);
        }
    });
    let other = plain();
    other.send_to(b"go", bound).unwrap();
    run(&mut driver, &mut node, |node| !node.batches.is_empty());
    let mut buffer = [0; 2000];
    for expected in 0..60usize {
        let (length, _) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((buffer[0], length), (expected as u8, expected * 131 % 1300 + 1));
        assert_eq!(other.recv_from(&mut buffer).unwrap().0, 0);
    }
    assert_eq!(driver.out.counters.discarded(Discard::SendFailed), 0);
}

#[test]
fn tos_is_sent_and_ecn_is_received() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(client) = UdpSocket::listener(listen.parse().unwrap(), 1 << 20, false) else {
            continue;
        };
        let (mut driver, bound) = driver(listen);
        let mut node = Scripted::new(|datagram, out| {
            out.send(datagram.local, datagram.remote, datagram.payload);
            out.set_tos(0xB8 | 0b10);
        });
        send(&client, bound, 0b01, &[vec![1], vec![2]]);
        run(&mut driver, &mut node, |node| node.seen.len() == 2);
        assert!(node.seen.iter().all(|seen| seen.2 == 0b01));
        let mut batch = ReceiveBatch::new();
        batch.receive(&client, 0, 8).unwrap();
        assert!(batch.parts().0.iter().all(|message| message.ecn == 0b10));
    }
}

#[test]
fn a_relay_socket_opens_works_and_closes() {
    let (mut driver, _) = driver("127.0.0.1:0");
    let relayed = plain().local_addr().unwrap();
    let peer = plain();
    let to = peer.local_addr().unwrap();
    let mut node = Scripted::new(|_, _| ());
    driver.act(&mut node, |_, _, out| {
        out.order(Order::OpenRelay { relayed });
        // Orders come first, so this finds the socket open.
        out.send(Endpoint::Relay { address: relayed }, to, b"out");
    });
    assert_eq!(node.events, [SocketEvent::Opened { relayed }]);
    let mut buffer = [0; 10];
    let (length, from) = peer.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (&b"out"[..], relayed));

    peer.send_to(b"in", relayed).unwrap();
    run(&mut driver, &mut node, |node| !node.seen.is_empty());
    let local = Endpoint::Relay { address: relayed };
    assert_eq!(node.seen, [(local, to, 0, b"in".to_vec())]);

    let taken = to;
    node.events.clear();
    driver.act(&mut node, |_, _, out| {
        out.order(Order::OpenRelay { relayed: taken });
        out.order(Order::CloseRelay { relayed });
        out.send(local, to, b"late");
    });
    assert_eq!(node.events, [SocketEvent::Failed { relayed: taken }, SocketEvent::Closed { relayed }]);
    node.events.clear();

    // Whether a port is free is known without opening it; of a pair, both must be.
    let before = SocketAddr::new(taken.ip(), taken.port() - 1);
    driver.act(&mut node, |_, _, out| {
        out.order(Order::ProbeRelay { relayed, with_next: false });
        out.order(Order::ProbeRelay { relayed: taken, with_next: false });
        out.order(Order::ProbeRelay { relayed: before, with_next: true });
    });
    let expected =
        [SocketEvent::Free { relayed }, SocketEvent::Taken { relayed: taken }, SocketEvent::Taken { relayed: before }];
    assert_eq!(node.events, expected);
    assert_eq!(driver.out.counters.discarded(Discard::NoRelaySocket), 1);
    assert_eq!(driver.out.counters.relay_sockets_opened, 1);
    PlainSocket::bind(relayed).expect("the port is free again");
}

#[test]
fn an_icmp_error_reaches_the_node() {
    let (mut driver, _) = driver("127.0.0.1:0");
    let relayed = plain().local_addr().unwrap();
    let nobody = plain().local_addr().unwrap();
    let peer = plain();
    let to = peer.local_addr().unwrap();
    let mut node = Scripted::new(|_, _| ());
    driver.act(&mut node, |_, _, out| {
        out.order(Order::OpenRelay { relayed });
        out.send(Endpoint::Relay { address: relayed }, nobody, b"?");
    });
    run(&mut driver, &mut node, |node| node.events.len() > 1);
    let unreachable = SocketEvent::IcmpError { relayed, remote: nobody, kind: 3, code: 3, mtu: 0 };
    assert_eq!(node.events[1], unreachable);
    // Nobody else's datagrams suffer.
    driver.act(&mut node, |_, _, out| {
        out.send(Endpoint::Relay { address: relayed }, nobody, b"?");
        out.send(Endpoint::Relay { address: relayed }, to, b"!");
    });
    driver.act(&mut node, |_, _, out| {
        out.send(Endpoint::Relay { address: relayed }, to, b"!");
    });
    let mut buffer = [0; 10];
    for _ in 0..2 {
        assert_eq!(peer.recv_from(&mut buffer).unwrap().0, 1);
    }
    assert_eq!(driver.out.counters.discarded(Discard::SendFailed), 0);
}

/// The loopback device takes IPv6 packets of 65,536 octets: the longest datagram needs two.
#[test]
fn what_must_not_be_fragmented_leaves_whole_or_not_at_all() {
    let (mut driver, _) = driver("127.0.0.1:0");
    let Ok(peer) = PlainSocket::bind("[::1]:0") else { return };
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let relayed = PlainSocket::bind("[::1]:0").unwrap().local_addr().unwrap();
    let to = peer.local_addr().unwrap();
    let mut node = Scripted::new(|_, _| ());
    let fits = 65_536 - 40 - 8;
    driver.act(&mut node, |_, _, out| out.order(Order::OpenRelay { relayed }));
    driver.act(&mut node, |_, _, out| {
        for length in [fits, fits + 1] {
            out.send(Endpoint::Relay { address: relayed }, to, &vec![5; length]);
            out.dont_fragment();
        }
        // Others are fragmented as ever.
        out.send(Endpoint::Relay { address: relayed }, to, &vec![6; fits + 1]);
    });
    run(&mut driver, &mut node, |node| node.events.len() > 1);
    assert_eq!(node.events[1..], [SocketEvent::IcmpError { relayed, remote: to, kind: 2, code: 0, mtu: 65_536 }]);
    assert_eq!(driver.out.counters.discarded(Discard::SendFailed), 1);
    let mut buffer = vec![0; 70_000];
    let mut received: Vec<(usize, u8)> = (0..2).map(|_| (peer.recv_from(&mut buffer).unwrap().0, buffer[0])).collect();
    received.sort_unstable();
    assert_eq!(received, [(fits, 5), (fits + 1, 6)]);
    driver.act(&mut node, |_, _, out| {
        out.send(Endpoint::Relay { address: relayed }, to, &vec![7; fits + 1]);
    });
    assert_eq!((peer.recv_from(&mut buffer).unwrap().0, buffer[0]), (fits + 1, 7), "the socket is as it was");
    driver.act(&mut node, |_, _, out| {
        out.send(Endpoint::Relay { address: to }, to, b"no such socket");
        out.dont_fragment();
    });
    assert_eq!(driver.out.counters.discarded(Discard::NoRelaySocket), 1);
}

#[test]
fn the_deadline_and_the_waker_end_a_turn() {
    let (mut driver, _) = driver("127.0.0.1:0");
    let mut node = Scripted::new(|_, _| ());
    let at = driver.clock.instant() + Duration::from_millis(2);
    node.deadline = Some(Deadline { at, reason: "test" });
    run(&mut driver, &mut node, |node| node.timeouts == 1);
    assert!(driver.clock.instant() >= at);

    let waker = driver.waker();
    let started = driver.clock.instant();
    let thread = std::thread::spawn(move || waker.wake());
    driver.turn(&mut node, PATIENCE).unwrap();
    thread.join().unwrap();
    assert!(driver.clock.instant() - started < PATIENCE);
    assert_eq!(node.timeouts, 1);
}

#[test]
fn a_second_listener_has_the_second_index() {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut driver = Driver::bind(&Settings::new(vec![any, any])).unwrap();
    let second = driver.listeners().find(|(index, _)| *index == 1).unwrap().1;
    let mut node = Scripted::new(|datagram, out| {
        out.send(datagram.local, datagram.remote, datagram.payload);
    });
    let client = plain();
    client.send_to(b"x", second).unwrap();
    run(&mut driver, &mut node, |node| !node.seen.is_empty());
    assert!(matches!(node.seen[0].0, Endpoint::Listener { index: 1, .. }));
    assert_eq!(client.recv_from(&mut [0; 10]).unwrap().1, second);
}

#[test]
fn a_listener_that_cannot_be_bound_is_named() {
    let foreign: SocketAddr = "192.0.2.1:3478".parse().unwrap();
    let error = Driver::bind(&Settings::new(vec![foreign])).err().unwrap();
    assert!(error.to_string().contains("192.0.2.1:3478"), "{error}");
}

#[test]
fn counters_are_published_and_the_list_of_datagrams_is_kept() {
    let (mut driver, bound) = driver("127.0.0.1:0");
    let shared = driver.shared_counters();
    let mut node = Scripted::new(|datagram, out| {
        let length = datagram.payload.len();
        out.counters.received(crate::Traffic::Rtp, length);
    });
    send(&listener(), bound, 0, &frame());
    run(&mut driver, &mut node, |node| !node.batches.is_empty());
    driver.publish();
    let rtp = shared.snapshot().counters.received[crate::Traffic::Rtp as usize];
    assert_eq!((rtp.packets, rtp.bytes), (7, 6 * 1200 + 500));
    assert!(driver.datagrams.capacity() >= 7);
}

#[test]
fn a_second_instance_on_the_same_port_fails() {
    let (_driver, bound) = driver("127.0.0.1:0");
    let error = Driver::bind(&Settings::new(vec![bound])).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_relayed_address_that_a_nat_owns_is_opened_at_its_port() {
    let (mut driver, _) = driver("127.0.0.1:0");
    let port = plain().local_addr().unwrap().port();
    let relayed = SocketAddr::from(([192, 0, 2, 1], port));
    let local = Endpoint::Relay { address: relayed };
    let peer = plain();
    let to = peer.local_addr().unwrap();
    let mut node = Scripted::new(|_, _| ());
    driver.act(&mut node, |_, _, out| {
        out.order(Order::OpenRelay { relayed });
        out.send(local, to, b"out");
    });
    assert_eq!(node.events, [SocketEvent::Opened { relayed }]);
    let (_, from) = peer.recv_from(&mut [0; 10]).unwrap();
    assert_eq!(from.port(), port);
    peer.send_to(b"in", from).unwrap();
    run(&mut driver, &mut node, |node| !node.seen.is_empty());
    assert_eq!(node.seen[0].0, local);
}

#[test]
fn media_is_out_before_the_work_of_a_deadline() {
    let (mut driver, bound) = driver("127.0.0.1:0");
    let client = plain();
    client.send_to(b"media", bound).unwrap();
    let mut node = Scripted::new(|datagram, out| out.send(datagram.local, datagram.remote, datagram.payload));
    node.deadline = Some(Deadline { at: driver.clock.instant(), reason: "test" });
    node.on_timeout = Box::new(move || assert_eq!(client.recv_from(&mut [0; 10]).unwrap().0, 5));
    run(&mut driver, &mut node, |node| node.timeouts == 1);
    assert_eq!(node.batches, [1]);
}
