//! TCP allocations (RFC 6062).

use std::net::SocketAddr;
use std::time::Duration;

use datapath::stun::{Class, ErrorCode, Method};
use datapath::{Discard, Endpoint, Order, PeerChange, SocketEvent};
use relay::{PeerPolicy, Settings, Share, TcpLimits, Terms};

use crate::client::{Client, assert_error, assert_success, parse};
use crate::world::{PEER, Turn, World, address, settings};

const TCP: u8 = 6;
pub const OTHER: &str = "9.9.9.10:4000";

pub fn world() -> World {
    World::with(|settings| settings.limits.tcp = Some(TcpLimits::default()))
}

fn stream(id: u64) -> Endpoint {
    Endpoint::Stream { id, ip: [5, 5, 5, 5].into() }
}

/// A client over a TCP connection.
pub fn over(client: Client, id: u64) -> Client {
    Client { local: stream(id), ..client }
}

pub fn bob(id: u64) -> Client {
    over(Client::named("bob", "builder", &format!("7.7.7.7:{id}")), id)
}

fn allocate(client: &mut Client, world: &mut World) -> Turn {
    client.challenge(world);
    client.ask(world, Method::ALLOCATE, |writer| _ = writer.requested_transport(TCP))
}

pub fn allocated(mut client: Client, world: &mut World) -> Client {
    let turn = allocate(&mut client, world);
    client.accept_allocation(&turn);
    client
}

/// Also with a permission for [`PEER`].
pub fn permitted(client: Client, world: &mut World) -> Client {
    let mut client = allocated(client, world);
    let turn = client.permit(world, PEER);
    let relayed = client.relayed;
    assert_eq!(turn.orders, [Order::ListenTcp { relayed }]);
    assert_success(&world.opened(relayed));
    client
}

pub fn connect(client: &mut Client, world: &mut World, peer: &str) -> Turn {
    let peer = address(peer);
    client.ask(world, Method::CONNECT, |writer| _ = writer.xor_peer_address(peer))
}

pub fn change(world: &mut World, relayed: SocketAddr, peer: &str, change: PeerChange) -> Turn {
    world.event(SocketEvent::Peer { relayed, peer: address(peer), change })
}

/// A connection to the peer, and its name.
pub fn connected(client: &mut Client, world: &mut World, peer: &str) -> u32 {
    let (relayed, to) = (client.relayed, address(peer));
    let turn = connect(client, world, peer);
    assert_eq!((&turn.sent[..], &turn.orders[..]), (&[][..], &[Order::ConnectPeer { relayed, peer: to }][..]));
    let turn = change(world, relayed, peer, PeerChange::Connected);
    assert_success(&turn);
    parse(turn.only()).connection_id().unwrap()
}

/// A client's connection for data, with the nonce of the one that has the allocation.
pub fn data_of(client: &Client, id: u64) -> Client {
    Client { local: stream(id), address: SocketAddr::new(client.address.ip(), id as u16), ..client.clone() }
}

/// A ConnectionBind over a connection of its own. Where the other one's nonce is not good, with one for it.
pub fn bind(client: &Client, world: &mut World, id: u64, name: u32) -> Turn {
    let mut data = data_of(client, id);
    let turn = data.ask(world, Method::CONNECTION_BIND, |writer| _ = writer.connection_id(name));
    if turn.sent.is_empty() || error_code(&turn) != Some(ErrorCode(438)) {
        return turn;
    }
    data.learn_nonce(&turn);
    data.ask(world, Method::CONNECTION_BIND, |writer| _ = writer.connection_id(name))
}

fn error_code(turn: &Turn) -> Option<ErrorCode> {
    parse(turn.only()).error_code()
}

fn joins(client: &Client, peer: &str, id: u64) -> Order {
    let (relayed, peer) = (client.relayed, address(peer));
    Order::SplicePeer { relayed, peer, client: stream(id) }
}

pub fn closes(client: &Client, peer: &str) -> Order {
    Order::ClosePeer { relayed: client.relayed, peer: address(peer) }
}

#[test]
fn without_the_setting_there_are_none() {
    let mut world = World::new();
    let mut bob = bob(1);
    assert_error(&allocate(&mut bob, &mut world), 442);
    assert!(connect(&mut bob, &mut world, PEER).is_silent());
    assert!(bind(&bob, &mut world, 2, 7).is_silent());
    assert_eq!(world.discarded(Discard::UnexpectedStun), 2);
}

#[test]
fn only_over_tcp_and_without_what_datagrams_need() {
    let mut world = world();
    assert_error(&allocate(&mut Client::bob(), &mut world), 400);
    let mut bob = bob(1);
    bob.challenge(&mut world);
    let mut ask = |attributes: &dyn Fn(&mut datapath::stun::Writer<'_>)| {
        bob.ask(&mut world, Method::ALLOCATE, |writer| {
            writer.requested_transport(TCP);
            attributes(writer);
        })
    };
    assert_error(&ask(&|writer| _ = writer.even_port(false)), 400);
    assert_error(&ask(&|writer| _ = writer.reservation_token([1; 8])), 400);
    assert_error(&ask(&|writer| _ = writer.dont_fragment()), 400);
    assert_error(&ask(&|writer| _ = writer.requested_address_family(3)), 440);
    // What a server without mobility and a second family ignores.
    let turn = ask(&|writer| _ = writer.mobility_ticket(&[]).additional_address_family(2));
    assert_success(&turn);
    let response = parse(turn.only());
    assert_eq!((response.xor_relayed_addresses().count(), response.mobility_ticket()), (1, None));
    assert_eq!(turn.orders, [Order::KeepStream { local: stream(1), keep: true }]);
}

#[test]
fn a_client_connects_and_binds() {
    let mut world = world();
    let mut bob = allocated(bob(1), &mut world);
    let name = connected(&mut bob, &mut world, PEER);
    assert_eq!(name >> 24, 0, "this worker's");
    let turn = bind(&bob, &mut world, 2, name);
    assert_success(&turn);
    assert_eq!((turn.only().local, &turn.orders[..]), (stream(2), &[joins(&bob, PEER, 2)][..]));
    // Half a minute later both go on.
    assert!(world.pass(Duration::from_secs(60)).is_silent());
    assert_error(&bind(&bob, &mut world, 3, name), 400);
    assert_eq!(world.server.connections(), 1);
    assert!(change(&mut world, bob.relayed, PEER, PeerChange::Closed).is_silent());
    assert_eq!(world.server.connections(), 0);
    // And again, now that it is over.
    connected(&mut bob, &mut world, PEER);
}

#[test]
fn one_connection_to_a_peer() {
    let mut world = world();
    let mut bob = allocated(bob(1), &mut world);
    assert_eq!(connect(&mut bob, &mut world, PEER).sent, []);
    assert_error(&connect(&mut bob, &mut world, PEER), 446);
    change(&mut world, bob.relayed, PEER, PeerChange::Connected);
    assert_error(&connect(&mut bob, &mut world, PEER), 446);
    // Another port is another peer, and another client's relayed address another connection.
    connected(&mut bob, &mut world, "9.9.9.9:4001");
    let mut second = allocated(self::bob(2), &mut world);
    connected(&mut second, &mut world, PEER);
}

#[test]
fn a_peer_that_does_not_answer_or_refuses() {
    let mut world = world();
    let mut bob = allocated(bob(1), &mut world);
    assert_eq!(connect(&mut bob, &mut world, PEER).sent, []);
    assert_error(&change(&mut world, bob.relayed, PEER, PeerChange::Failed), 447);
    assert_eq!(connect(&mut bob, &mut world, PEER).sent, []);
    assert!(world.pass(Duration::from_secs(29)).is_silent());
    let turn = world.pass(Duration::from_secs(2));
    assert_error(&turn, 447);
    assert_eq!(turn.orders, [closes(&bob, PEER)]);
    assert_eq!(world.server.connections(), 0);
    assert!(change(&mut world, bob.relayed, PEER, PeerChange::Connected).is_silent(), "too late");
}

#[test]
fn who_does_not_bind_within_half_a_minute_loses_the_connection() {
    let mut world = world();
    let mut bob = allocated(bob(1), &mut world);
    world.pass(Duration::from_secs(20));
    let name = connected(&mut bob, &mut world, PEER);
    assert!(world.pass(Duration::from_secs(29)).is_silent());
    let turn = world.pass(Duration::from_secs(2));
    assert_eq!((&turn.sent[..], &turn.orders[..]), (&[][..], &[closes(&bob, PEER)][..]));
    assert_error(&bind(&bob, &mut world, 2, name), 400);
}

#[test]
fn what_connect_refuses() {
    let mut world = world();
    let mut bob = allocated(bob(1), &mut world);
    assert_error(&bob.ask(&mut world, Method::CONNECT, |_| ()), 400);
    assert_error(&connect(&mut bob, &mut world, "[2600::9]:4000"), 443);
    assert_error(&connect(&mut self::bob(9), &mut world, PEER), 438);
    let mut nobody = self::bob(9);
    nobody.challenge(&mut world);
    assert_error(&connect(&mut nobody, &mut world, PEER), 437);
    // One for datagrams has no connections.
    let mut datagrams = over(Client::named("bob", "builder", "7.7.7.7:8"), 8).allocated(&mut world);
    assert_error(&connect(&mut datagrams, &mut world, PEER), 437);
    let mut eve = over(Client { username: "eve".into(), ..bob.clone() }, 1);
    assert_error(&connect(&mut eve, &mut world, PEER), 401);
    let mut anna = Client::rest("1900000000:anna", "7.7.7.7:1");
    (anna.local, anna.nonce) = (bob.local, bob.nonce.clone());
    assert_error(&connect(&mut anna, &mut world, PEER), 441);
}

/// The pitfalls of a relay that is a port scanner and a proxy into the house.
#[test]
fn no_address_of_the_house_is_connected_to() {
    let mut world = world();
    let mut bob = allocated(bob(1), &mut world);
    let own = bob.relayed.to_string();
    let inside = [
        "127.0.0.1:22",
        "0.0.0.0:80",
        "10.0.0.1:80",
        "192.168.1.1:80",
        "172.16.0.1:80",
        "100.64.0.1:80",
        "169.254.169.254:80",
        // Its own addresses: listeners, candidates, ports of other programs, its very own port, and none at all.
        "5.5.5.5:22",
        "5.5.5.5:3478",
        "5.5.5.5:50001",
        &own,
        "9.9.9.9:0",
    ];
    for peer in inside {
        assert_error(&connect(&mut bob, &mut world, peer), 403);
    }
    assert_eq!(world.discarded(Discard::ForbiddenPeer), inside.len() as u64);
    assert_eq!(world.server.connections(), 0);

    let mut six = self::bob(2);
    six.challenge(&mut world);
    let turn = six.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(TCP).requested_address_family(2);
    });
    six.accept_allocation(&turn);
    let inside = [
        "[::1]:22",
        "[::]:22",
        "[::ffff:127.0.0.1]:22",
        "[64:ff9b::7f00:1]:22",
        "[2002:7f00:1::]:22",
        "[fe80::1]:22",
        "[fd00::1]:22",
        "[2600::5]:22",
    ];
    for peer in inside {
        assert_error(&connect(&mut six, &mut world, peer), 403);
    }
}

#[test]
fn a_peer_connects_where_it_is_permitted() {
    let mut world = world();
    let bob = permitted(bob(1), &mut world);
    let turn = change(&mut world, bob.relayed, OTHER, PeerChange::Accepted);
    assert_eq!((&turn.sent[..], &turn.orders[..]), (&[][..], &[closes(&bob, OTHER)][..]));
    assert_eq!(world.discarded(Discard::UnsolicitedPeer), 1);

    // Whatever its port.
    let peer = "9.9.9.9:5555";
    let turn = change(&mut world, bob.relayed, peer, PeerChange::Accepted);
    let attempt = parse(turn.only());
    assert_eq!((turn.only().local, turn.only().remote), (bob.local, bob.address));
    assert_eq!((attempt.class(), attempt.method()), (Class::Indication, Method::CONNECTION_ATTEMPT));
    assert_eq!(attempt.xor_peer_address(), Some(address(peer)));
    let name = attempt.connection_id().unwrap();
    let turn = bind(&bob, &mut world, 2, name);
    assert_success(&turn);
    assert_eq!(turn.orders, [joins(&bob, peer, 2)]);

    // A permission that has run out lets nobody in, and what stands goes on.
    world.pass(Duration::from_secs(301));
    let turn = change(&mut world, bob.relayed, PEER, PeerChange::Accepted);
    assert_eq!(turn.orders, [closes(&bob, PEER)]);
    assert_eq!(world.server.connections(), 1);
}

#[test]
fn a_peer_whom_no_client_fetches_is_sent_away() {
    let mut world = world();
    let bob = permitted(bob(1), &mut world);
    let turn = change(&mut world, bob.relayed, PEER, PeerChange::Accepted);
    let name = parse(turn.only()).connection_id().unwrap();
    assert_eq!(world.pass(Duration::from_secs(31)).orders, [closes(&bob, PEER)]);
    assert_error(&bind(&bob, &mut world, 2, name), 400);
}

#[test]
fn a_peer_and_its_client_that_connect_at_once() {
    let mut world = world();
    let mut bob = permitted(bob(1), &mut world);
    assert_eq!(connect(&mut bob, &mut world, PEER).sent, []);
    // The driver has accepted one before it was told to connect: it cannot do both.
    assert_eq!(change(&mut world, bob.relayed, PEER, PeerChange::Accepted).orders, [closes(&bob, PEER)]);
    assert_error(&change(&mut world, bob.relayed, PEER, PeerChange::Failed), 447);
    connected(&mut bob, &mut world, PEER);
}

#[test]
fn what_connection_bind_refuses() {
    let mut world = world();
    let mut bob = allocated(bob(1), &mut world);
    let name = connected(&mut bob, &mut world, PEER);
    let mut data = data_of(&bob, 2);
    data.challenge(&mut world);
    assert_error(&data.ask(&mut world, Method::CONNECTION_BIND, |_| ()), 400);
    assert_error(&bind(&bob, &mut world, 2, name ^ 1), 400);
    // Not yet connected.
    connect(&mut bob, &mut world, OTHER);
    // Over UDP, and over a connection that has an allocation.
    let mut datagrams = Client::bob();
    datagrams.challenge(&mut world);
    assert_error(&datagrams.ask(&mut world, Method::CONNECTION_BIND, |writer| _ = writer.connection_id(name)), 400);
    assert_error(&bob.ask(&mut world, Method::CONNECTION_BIND, |writer| _ = writer.connection_id(name)), 400);
    // Another user does not learn that there is one.
    let mut anna = over(Client::rest("1900000000:anna", "8.8.8.8:3"), 3);
    anna.challenge(&mut world);
    assert_error(&anna.ask(&mut world, Method::CONNECTION_BIND, |writer| _ = writer.connection_id(name)), 400);
    // Without credentials, and with a nonce of somebody else's.
    let stranger = over(Client::named("bob", "builder", "7.7.7.7:4"), 4).plain(Method::CONNECTION_BIND);
    assert_error(&world.deliver(stream(4), address("7.7.7.7:4"), &stranger), 401);
    data.nonce = anna.nonce.clone();
    assert_error(&data.ask(&mut world, Method::CONNECTION_BIND, |writer| _ = writer.connection_id(name)), 438);
    // With its own connection's nonce, which a server that is asked without one gives.
    let mut fresh = over(Client::named("bob", "builder", "7.7.7.7:5"), 5);
    fresh.challenge(&mut world);
    assert_success(&fresh.ask(&mut world, Method::CONNECTION_BIND, |writer| _ = writer.connection_id(name)));
}

#[test]
fn the_end_of_an_allocation_ends_its_connections() {
    type End = fn(&mut World, &mut Client) -> Turn;
    let ends: [End; 4] = [
        |world, bob| bob.refresh(world, 0),
        |world, _| world.pass(Duration::from_secs(601)),
        |world, bob| world.event(SocketEvent::StreamClosed { local: bob.local, remote: bob.address }),
        |world, _| world.revoke(b"bob", Duration::ZERO),
    ];
    for end in ends {
        let mut world = world();
        let mut bob = allocated(bob(1), &mut world);
        let name = connected(&mut bob, &mut world, PEER);
        bind(&bob, &mut world, 2, name);
        let waiting = connected(&mut bob, &mut world, OTHER);
        let turn = end(&mut world, &mut bob);
        assert!(turn.orders.contains(&Order::CloseTcpRelay { relayed: bob.relayed }));
        assert_eq!((world.server.connections(), world.server.allocations()), (0, 0));
        assert_error(&bind(&bob, &mut world, 3, waiting), 400);
        assert!(world.pass(Duration::from_secs(60)).is_silent());
    }
}

#[test]
fn two_clients_reach_each_other_and_nobody_beside_us_reaches_them() {
    let mut world = world();
    let mut bob = allocated(bob(1), &mut world);
    let mut anna = allocated(over(Client::rest("1900000000:anna", "8.8.8.8:3"), 3), &mut world);
    let (of_bob, of_anna) = (bob.relayed.to_string(), anna.relayed.to_string());
    // Nobody listens there yet: some other program might.
    assert_error(&connect(&mut bob, &mut world, &of_anna), 403);
    let relayed = anna.permit(&mut world, &of_bob).opens();
    assert_success(&world.opened(relayed));
    connected(&mut bob, &mut world, &of_anna);
    let turn = change(&mut world, anna.relayed, &of_bob, PeerChange::Accepted);
    assert_eq!(parse(turn.only()).xor_peer_address(), Some(bob.relayed));
    // The permission is for the address, but only clients come from it.
    let beside = "5.5.5.5:40000";
    assert_eq!(change(&mut world, anna.relayed, beside, PeerChange::Accepted).orders, [closes(&anna, beside)]);
    // When she is gone, so is the way to her.
    anna.refresh(&mut world, 0);
    change(&mut world, bob.relayed, &of_anna, PeerChange::Closed);
    assert_error(&connect(&mut bob, &mut world, &of_anna), 403);
}

#[test]
fn two_workers_know_of_each_others_addresses() {
    let shares: Vec<Share> = Share::among(2).collect();
    let [mut here, mut there] = [0, 1].map(|worker| {
        World::seeded(worker as u8, |settings| {
            settings.share = shares[worker].clone();
            settings.limits.tcp = Some(TcpLimits { connections: 1, ..TcpLimits::default() });
        })
    });
    let mut bob = allocated(bob(1), &mut here);
    let mut anna = allocated(over(Client::rest("1900000000:anna", "8.8.8.8:3"), 3), &mut there);
    let of_anna = anna.relayed.to_string();
    assert_error(&connect(&mut bob, &mut here, &of_anna), 403);
    let relayed = anna.permit(&mut there, "5.5.5.5:1").opens();
    there.opened(relayed);
    connected(&mut bob, &mut here, &of_anna);
    // The limit is one for both.
    assert_error(&connect(&mut anna, &mut there, PEER), 486);
    bob.refresh(&mut here, 0);
    let name = connected(&mut anna, &mut there, PEER);
    assert_eq!(name >> 24, 1, "the worker's number");
}

#[test]
fn datagrams_and_channels_have_no_part_in_it() {
    let mut world = world();
    let mut bob = permitted(bob(1), &mut world);
    assert_error(&bob.bind(&mut world, 0x4000, PEER), 400);
    assert!(bob.send_data(&mut world, PEER, b"x").is_silent());
    assert!(bob.send_channel(&mut world, 0x4000, b"x").is_silent());
    assert!(world.deliver_memory(bob.relayed, PEER, b"x").is_silent());
    assert_eq!(world.discarded(Discard::NoAllocation), 2);
}

#[test]
fn a_port_that_cannot_be_listened_on() {
    let mut world = world();
    let mut bob = allocated(bob(1), &mut world);
    let relayed = bob.permit(&mut world, PEER).opens();
    assert_error(&world.event(SocketEvent::Failed { relayed }), 508);
    let turn = bob.permit(&mut world, PEER);
    assert_eq!(turn.orders, [Order::ListenTcp { relayed }]);
}

#[test]
fn a_port_that_another_program_has_is_not_told() {
    let mut world = world();
    world.taken = (50_000..50_099).collect();
    world.taken.retain(|port| port % 2 == 0);
    let bob = allocated(bob(1), &mut world);
    assert_eq!(bob.relayed.port() % 2, 1);
}

#[test]
fn a_peer_that_is_forbidden_now_is_cut_off() {
    let mut world = world();
    let mut bob = permitted(bob(1), &mut world);
    let name = connected(&mut bob, &mut world, PEER);
    bind(&bob, &mut world, 2, name);
    connected(&mut bob, &mut world, "8.8.8.8:80");
    let Settings { credentials, alternate_server, mut limits, .. } = settings();
    limits.tcp = Some(TcpLimits::default());
    let peer_policy = PeerPolicy::new(vec![], vec!["9.9.9.0/24".parse().unwrap()], vec![]);
    world.server.reload(world.now, Terms { credentials, peer_policy, alternate_server, limits });
    assert_eq!(world.pass(Duration::ZERO).orders, [closes(&bob, PEER)]);
    assert_eq!(world.server.connections(), 1);
    assert_error(&connect(&mut bob, &mut world, PEER), 403);
}
