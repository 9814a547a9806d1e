//! The world itself: delivery, NATs and determinism, with the smallest programs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use datapath::{Datagram, Deadline, Endpoint, Node, Now, Outbox, SocketEvent};
use netsim::link::Settings;
use netsim::loss::Loss;
use netsim::nat::{Dependence, Nat, NatSpec};
use netsim::world::{HostId, HostSpec, World};

use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};

/// Keeps what it receives; sends back what does not begin with `!`.
#[derive(Default)]
struct Echo {
    received: Vec<(SocketAddr, Vec<u8>)>,
}

impl Node for Echo {
    fn handle_batch(&mut self, _: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        for datagram in batch {
            self.received.push((datagram.remote, datagram.payload.to_vec()));
            if datagram.payload.first() != Some(&b'!') {
                out.send(datagram.local, datagram.remote, &[b"!", &*datagram.payload].concat());
            }
        }
    }
    fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}
    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn delay(ms: u64) -> Settings {
    Settings { delay: Duration::from_millis(ms), ..Settings::default() }
}

fn spec(name: &'static str, address: [u8; 4], gateway: Option<HostId>) -> HostSpec {
    HostSpec {
        name,
        addresses: vec![IpAddr::from(address)],
        listeners: vec![5000, 5001],
        gateway,
        up: delay(10),
        down: delay(20),
    }
}

fn send(world: &mut World, host: HostId, from: [u8; 4], to: ([u8; 4], u16), payload: &[u8]) {
    let local = Endpoint::Listener { index: 0, ip: from.into() };
    world.act(host, |_: &mut Echo, _, out| out.send(local, to.into(), payload));
}

fn received(world: &mut World, host: HostId) -> Vec<(SocketAddr, Vec<u8>)> {
    world.program::<Echo>(host).received.clone()
}

#[test]
fn a_datagram_crosses_both_links_and_the_answer_comes_back() {
    let mut world = World::new(1);
    let a = world.add_host(spec("a", [10, 0, 0, 1], None), Echo::default());
    let b = world.add_host(spec("b", [10, 0, 0, 2], None), Echo::default());
    send(&mut world, a, [10, 0, 0, 1], ([10, 0, 0, 2], 5001), b"hello");
    send(&mut world, a, [10, 0, 0, 1], ([10, 0, 0, 2], 9), b"nobody");
    send(&mut world, a, [10, 0, 0, 1], ([10, 0, 0, 9], 9), b"nowhere");
    world.run_for(ms(29));
    assert_eq!(received(&mut world, b), []);
    world.run_for(ms(1));
    let from_a = SocketAddr::from(([10, 0, 0, 1], 5000));
    assert_eq!(received(&mut world, b), [(from_a, b"hello".to_vec())]);
    world.run_for(ms(30));
    let from_b = SocketAddr::from(([10, 0, 0, 2], 5001));
    assert_eq!(received(&mut world, a), [(from_b, b"!hello".to_vec())]);
    assert_eq!(world.elapsed(), ms(60));
    assert_eq!(world.unreachable(), 2);
}

const HOME: [u8; 4] = [192, 168, 0, 2];
const NEIGHBOUR: [u8; 4] = [192, 168, 0, 3];
const OUTER: [u8; 4] = [203, 0, 113, 1];
const PEER: [u8; 4] = [198, 51, 100, 1];
const OTHER: [u8; 4] = [198, 51, 100, 2];

struct Street {
    world: World,
    nat: HostId,
    home: HostId,
    neighbour: HostId,
    peer: HostId,
    other: HostId,
}

fn street(mapping: Dependence, filtering: Dependence) -> Street {
    let mut world = World::new(1);
    let nat = Nat::new(NatSpec {
        outside: OUTER.into(),
        inside: (Ipv4Addr::new(192, 168, 0, 0), 24),
        mapping,
        filtering,
        timeout: Duration::from_secs(120),
        hairpinning: true,
    });
    let gateway = HostSpec { listeners: Vec::new(), ..spec("nat", OUTER, None) };
    let nat = world.add_host(gateway, nat);
    Street {
        home: world.add_host(spec("home", HOME, Some(nat)), Echo::default()),
        neighbour: world.add_host(spec("neighbour", NEIGHBOUR, Some(nat)), Echo::default()),
        peer: world.add_host(spec("peer", PEER, None), Echo::default()),
        other: world.add_host(spec("other", OTHER, None), Echo::default()),
        nat,
        world,
    }
}

impl Street {
    /// Home sends to a place; the source that is seen there.
    fn seen(&mut self, host: HostId, to: ([u8; 4], u16)) -> SocketAddr {
        send(&mut self.world, self.home, HOME, to, b"!");
        self.world.run_for(ms(200));
        received(&mut self.world, host).last().unwrap().0
    }

    /// Whether a packet from a peer to home's outer address arrives.
    fn lets_in(&mut self, host: HostId, from: [u8; 4], to: SocketAddr) -> bool {
        let before = received(&mut self.world, self.home).len();
        let local = Endpoint::Listener { index: 0, ip: from.into() };
        self.world.act(host, |_: &mut Echo, _, out| out.send(local, to, b"!in"));
        self.world.run_for(ms(200));
        received(&mut self.world, self.home).len() > before
    }
}

#[test]
fn mappings_depend_on_what_rfc_4787_says() {
    for (mapping, same_address, same_host) in
        [(EndpointIndependent, true, true), (AddressDependent, true, false), (AddressAndPortDependent, false, false)]
    {
        let mut street = street(mapping, EndpointIndependent);
        let first = street.seen(street.peer, (PEER, 5000));
        assert_eq!(first.ip(), IpAddr::from(OUTER));
        assert_eq!(street.seen(street.peer, (PEER, 5000)), first);
        assert_eq!(street.seen(street.peer, (PEER, 5001)) == first, same_address, "{mapping:?}");
        assert_eq!(street.seen(street.other, (OTHER, 5000)) == first, same_host, "{mapping:?}");
    }
}

#[test]
fn filters_depend_on_what_rfc_4787_says() {
    for (filtering, other_port, other_host) in
        [(EndpointIndependent, true, true), (AddressDependent, true, false), (AddressAndPortDependent, false, false)]
    {
        let mut street = street(EndpointIndependent, filtering);
        // Home contacts the peer's second port; then the peer answers from its first.
        let outer = street.seen(street.peer, (PEER, 5001));
        let peer = street.peer;
        assert_eq!(street.lets_in(peer, PEER, outer), other_port, "{filtering:?}");
        let other = street.other;
        assert_eq!(street.lets_in(other, OTHER, outer), other_host, "{filtering:?}");
    }
}

#[test]
fn a_mapping_ends_without_outbound_packets_and_at_a_reboot() {
    let mut street = street(EndpointIndependent, EndpointIndependent);
    let (peer, nat) = (street.peer, street.nat);
    let outer = street.seen(peer, (PEER, 5000));
    street.world.run_for(Duration::from_secs(119));
    assert!(street.lets_in(peer, PEER, outer));
    street.world.run_for(Duration::from_secs(1));
    assert!(!street.lets_in(peer, PEER, outer));
    let second = street.seen(peer, (PEER, 5000));
    assert_ne!(second, outer);
    street.world.program::<Nat>(nat).reboot();
    assert!(!street.lets_in(peer, PEER, second));
    assert_ne!(street.seen(peer, (PEER, 5000)), second);
    assert_eq!(street.world.program::<Nat>(nat).refused, 2);
}

#[test]
fn neighbours_meet_by_their_outer_addresses() {
    let mut street = street(EndpointIndependent, EndpointIndependent);
    let outer = street.seen(street.peer, (PEER, 5000));
    let neighbour = street.neighbour;
    assert!(street.lets_in(neighbour, NEIGHBOUR, outer));
    let (from, _) = received(&mut street.world, street.home).pop().unwrap();
    assert_eq!(from.ip(), IpAddr::from(OUTER), "the outer source is shown");
}

#[test]
fn one_seed_is_one_digest() {
    let run = |seed| {
        let mut world = World::new(seed);
        let lossy = Settings { loss: Loss::Bernoulli(0.3), jitter: ms(3), ..delay(10) };
        let near = HostSpec { up: lossy, ..spec("a", [10, 0, 0, 1], None) };
        let a = world.add_host(near, Echo::default());
        world.add_host(spec("b", [10, 0, 0, 2], None), Echo::default());
        for number in 0..50 {
            send(&mut world, a, [10, 0, 0, 1], ([10, 0, 0, 2], 5000), &[number]);
            world.run_for(ms(5));
        }
        (world.digest(), world.link_counters(a).0.lost)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
    assert!((5..=25).contains(&run(1).1));
}
