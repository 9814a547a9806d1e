//! How much of TCP (RFC 6062) a client can have, and how fast.

use std::time::Duration;

use datapath::counters::PacketsAndBytes;
use datapath::stun::Method;
use datapath::{Carried, Discard, Node, Order, PeerChange};
use relay::{Limits, Relayed, Settings, TcpLimits, Terms};

use crate::client::{Client, assert_error};
use crate::tcp::{OTHER, allocated, bind, bob, change, closes, connect, connected, data_of, over, permitted, world};
use crate::world::{PEER, World, settings};

#[test]
fn names_cannot_be_tried_one_after_the_other() {
    let mut world = world();
    let mut bob = allocated(bob(1), &mut world);
    connected(&mut bob, &mut world, PEER);
    let mut data = data_of(&bob, 2);
    data.challenge(&mut world);
    let mut guess = |name| data.ask(&mut world, Method::CONNECTION_BIND, |writer| _ = writer.connection_id(name));
    let answered = (0..5_000).filter(|name| !guess(*name).sent.is_empty()).count();
    assert!(answered < 500, "{answered}");
    assert!(world.discarded(Discard::RateLimited) > 4_500);
}

#[test]
fn so_many_connections_and_no_more() {
    let limits =
        TcpLimits { connections: 5, connections_per_user: 4, connections_per_allocation: 3, ..TcpLimits::default() };
    let mut world = World::with(|settings| settings.limits.tcp = Some(limits));
    let mut first = permitted(bob(1), &mut world);
    for port in 1..=3 {
        connect(&mut first, &mut world, &format!("9.9.9.9:{port}"));
    }
    assert_error(&connect(&mut first, &mut world, PEER), 486);
    let turn = change(&mut world, first.relayed, PEER, PeerChange::Accepted);
    assert_eq!((&turn.sent[..], &turn.orders[..]), (&[][..], &[closes(&first, PEER)][..]));
    assert_eq!(world.discarded(Discard::LimitReached), 1);
    let mut second = allocated(bob(2), &mut world);
    connect(&mut second, &mut world, PEER);
    assert_error(&connect(&mut second, &mut world, OTHER), 486);
    let mut anna = allocated(over(Client::rest("1900000000:anna", "8.8.8.8:3"), 3), &mut world);
    connect(&mut anna, &mut world, PEER);
    assert_error(&connect(&mut anna, &mut world, OTHER), 486);
    assert_eq!(world.server.connections(), 5);
    // Whatever is given back can be had again.
    change(&mut world, first.relayed, "9.9.9.9:1", PeerChange::Failed);
    connect(&mut anna, &mut world, OTHER);
    world.pass(Duration::from_secs(31));
    assert_eq!(world.server.connections(), 0);
    for port in 1..=3 {
        connect(&mut first, &mut world, &format!("9.9.9.9:{port}"));
    }
    assert_eq!(world.server.connections(), 3);
}

#[test]
fn a_client_that_connects_all_day_does_not_fill_the_memory() {
    let mut world = world();
    let mut bob = allocated(bob(1), &mut world);
    for _ in 0..10_000 {
        assert_eq!(connect(&mut bob, &mut world, PEER).sent, []);
        assert_error(&change(&mut world, bob.relayed, PEER, PeerChange::Failed), 447);
        world.pass(Duration::from_millis(50));
    }
    assert_eq!(world.server.connections(), 0);
    assert!(world.pass(Duration::from_secs(1)).is_silent(), "no deadline is left behind");
}

/// A connection that fails is given back at once, so the limits of connections alone would let a client try every port.
#[test]
fn ports_cannot_be_scanned() {
    let mut world = world();
    let mut bob = allocated(bob(1), &mut world);
    let tried = |client: &mut Client, world: &mut World| {
        let scanned = (1..=1_000).filter(|port| {
            let peer = format!("9.9.9.9:{port}");
            let turn = connect(client, world, &peer);
            let is_tried = !turn.orders.is_empty();
            if is_tried {
                change(world, client.relayed, &peer, PeerChange::Failed);
            } else {
                assert_error(&turn, 486);
            }
            is_tried
        });
        scanned.count()
    };
    assert_eq!(tried(&mut bob, &mut world), 100);
    assert_eq!(world.discarded(Discard::RateLimited), 900);
    // Not from an allocation of its own either, nor for another user behind the same prefix.
    let mut eve = allocated(over(Client::rest("1900000000:eve", "7.7.7.200:2"), 2), &mut world);
    assert_eq!(tried(&mut eve, &mut world), 0);
    let mut anna = allocated(over(Client::rest("1900000000:anna", "8.8.8.8:3"), 3), &mut world);
    assert_eq!(tried(&mut anna, &mut world), 100);
    world.pass(Duration::from_secs(1));
    assert_eq!(tried(&mut bob, &mut world), 20);
}

/// A client with a TCP allocation over which data passes.
fn joined(client: Client, id: u64, world: &mut World) -> Client {
    let mut client = allocated(over(client, id), world);
    let name = connected(&mut client, world, PEER);
    let turn = bind(&client, world, 1000 + id, name);
    assert!(turn.orders.iter().any(|order| matches!(order, Order::SplicePeer { .. })), "{turn:?}");
    client
}

fn rest(user: &str, address: &str) -> Client {
    Client::rest(&format!("1900000000:{user}"), address)
}

/// Octets that pass for each of these clients in so many seconds. Each has as many connections over which there is
/// always more to come, and asks as the driver does: every five milliseconds until nothing may pass.
fn passed(
    world: &mut World,
    clients: &[(&Client, usize)],
    seconds: u64,
    mut beside: impl FnMut(&mut World),
) -> Vec<u64> {
    let mut passed = vec![0; clients.len()];
    let mut moved_at: Vec<Vec<_>> = clients.iter().map(|(_, count)| vec![world.now.instant; *count]).collect();
    for _ in 0..seconds * 200 {
        for (at, (client, _)) in clients.iter().enumerate() {
            for moved_at in &mut moved_at[at] {
                loop {
                    let has_waited = world.now.instant - *moved_at >= Duration::from_secs(1);
                    let count = world.server.allowance(world.now, client.relayed, has_waited).min(64 << 10) as u64;
                    if count == 0 {
                        break;
                    }
                    let carried = Carried { to_peer: count / 2, to_client: count - count / 2 };
                    world.server.handle_carried(world.now, client.relayed, carried);
                    passed[at] += count;
                    *moved_at = world.now.instant;
                }
            }
        }
        beside(world);
        world.advance(Duration::from_millis(5));
    }
    passed
}

/// So many seconds at this rate, and as much as half a second's worth at the beginning.
#[track_caller]
fn assert_rate(octets: u64, octets_per_second: u64, seconds: u64) {
    let least = octets_per_second * seconds;
    assert!((least * 98 / 100..=least + octets_per_second * 55 / 100).contains(&octets), "{octets} in {seconds} s");
}

#[test]
fn the_bandwidth_of_a_user_is_of_all_its_connections_together() {
    for seed in 1..=4 {
        let mut world = World::seeded(seed, |settings| {
            settings.limits.tcp = Some(TcpLimits::default());
            settings.limits.octets_per_second_of_user = Some(100_000);
        });
        let of_anna = [1, 2, 3].map(|id| joined(rest("anna", &format!("7.7.{id}.7:{id}")), id, &mut world));
        let of_ben = joined(rest("ben", "8.8.8.8:4"), 4, &mut world);
        let clients = [(&of_anna[0], 5), (&of_anna[1], 5), (&of_anna[2], 5), (&of_ben, 1)];
        let passed = passed(&mut world, &clients, 20, |_| ());
        assert_rate(passed[..3].iter().sum(), 100_000, 20);
        assert_rate(passed[3], 100_000, 20);
        // All connections wait alike, but that who asks first in each five milliseconds has a sixth more.
        assert!(passed[..3].iter().all(|of_one| (510_000..=850_000).contains(of_one)), "{passed:?}");
    }
}

#[test]
fn the_bandwidth_of_a_source_and_in_total_is_of_all_connections_together() {
    for in_total in [false, true] {
        let mut world = World::with(|settings| {
            let limits = &mut settings.limits;
            limits.tcp = Some(TcpLimits::default());
            let limit =
                if in_total { &mut limits.octets_per_second_in_total } else { &mut limits.octets_per_second_of_prefix };
            *limit = Some(1_000_000);
        });
        let anna = joined(rest("anna", "7.7.7.7:1"), 1, &mut world);
        let ben = joined(rest("ben", if in_total { "8.8.8.8:2" } else { "7.7.7.8:2" }), 2, &mut world);
        let passed = passed(&mut world, &[(&anna, 1), (&ben, 1)], 10, |_| ());
        assert_rate(passed[0] + passed[1], 1_000_000, 10);
        assert!(passed.iter().all(|of_one| *of_one > 4_000_000), "{passed:?}");
    }
}

#[test]
fn connections_of_one_allocation_wait_alike() {
    let mut world = World::with(|settings| {
        settings.limits.tcp = Some(TcpLimits::default());
        settings.limits.octets_per_second = 100_000;
    });
    let anna = joined(rest("anna", "7.7.7.7:1"), 1, &mut world);
    let passed = passed(&mut world, &[(&anna, 4), (&anna, 4)], 10, |_| ());
    assert_rate(passed[0] + passed[1], 100_000, 10);
    assert!(passed.iter().all(|of_half| *of_half > 400_000), "{passed:?}");
}

/// A datagram that finds nothing left is dropped, and a connection waits: so the connections have what datagrams leave.
#[test]
fn datagrams_come_before_connections_and_do_not_stop_them() {
    let mut world = World::with(|settings| {
        settings.limits.tcp = Some(TcpLimits::default());
        settings.limits.octets_per_second_of_user = Some(100_000);
    });
    let udp = rest("anna", "7.7.7.7:1").permitted(&mut world);
    let tcp = joined(rest("anna", "7.7.7.7:2"), 2, &mut world);
    let (relayed, mut sent, mut arrived) = (udp.relayed, 0, 0);
    let mut datagrams = |world: &mut World, octets: usize, of: &mut u64| {
        sent += octets as u64;
        arrived += (octets * world.deliver_outside(relayed, PEER, &vec![7; octets]).sent.len()) as u64;
        *of = sent - arrived;
    };
    // At half of the rate: none is dropped, and the connections have the other half.
    let mut dropped = 0;
    let of_tcp = passed(&mut world, &[(&tcp, 10)], 10, |world| datagrams(world, 250, &mut dropped));
    assert_eq!(dropped, 0);
    assert_rate(of_tcp[0] + 500_000, 100_000, 10);
    // At twice the rate: the connections have little, but each has something.
    let of_tcp = passed(&mut world, &[(&tcp, 1); 10], 10, |world| datagrams(world, 1000, &mut dropped));
    assert!(of_tcp.iter().all(|of_one| (1_200..15_000).contains(of_one)), "{of_tcp:?}");
    assert!((950_000..1_200_000).contains(&dropped), "{dropped}");
}

#[test]
fn what_came_before_it_was_allowed_is_owed() {
    let mut world = World::with(|settings| {
        settings.limits.tcp = Some(TcpLimits::default());
        settings.limits.octets_per_second_of_user = Some(100_000);
    });
    let anna = joined(rest("anna", "7.7.7.7:1"), 1, &mut world);
    let unread = Carried { to_peer: 500_000, to_client: 0 };
    world.server.handle_carried(world.now, anna.relayed, unread);
    assert_eq!(passed(&mut world, &[(&anna, 1)], 4, |_| ()), [0]);
    assert_rate(500_000 + passed(&mut world, &[(&anna, 1)], 10, |_| ())[0], 100_000, 14);
}

#[test]
fn an_operator_sees_what_passes() {
    let mut world = world();
    let anna = joined(rest("anna", "7.7.7.7:1"), 1, &mut world);
    for carried in [Carried { to_peer: 10, to_client: 0 }, Carried { to_peer: 1, to_client: 200 }] {
        world.server.handle_carried(world.now, anna.relayed, carried);
    }
    let [usage] = &world.server.usage(world.now, 0).usages[..] else { panic!() };
    assert_eq!(
        usage.data,
        Relayed {
            to_peers: PacketsAndBytes { packets: 0, bytes: 11 },
            to_client: PacketsAndBytes { packets: 0, bytes: 200 }
        }
    );
}

#[test]
fn other_limits_of_bandwidth_hold_at_once_for_connections_too() {
    let mut world = world();
    let anna = joined(rest("anna", "7.7.7.7:1"), 1, &mut world);
    assert!(passed(&mut world, &[(&anna, 1)], 1, |_| ())[0] > 50_000_000);
    let terms = |octets_per_second_of_user| {
        let Settings { credentials, peer_policy, alternate_server, limits, .. } = settings();
        let limits = Limits { tcp: Some(TcpLimits::default()), octets_per_second_of_user, ..limits };
        Terms { credentials, peer_policy, alternate_server, limits }
    };
    world.server.reload(world.now, terms(Some(100_000)));
    assert_rate(passed(&mut world, &[(&anna, 1)], 10, |_| ())[0], 100_000, 10);
    world.server.reload(world.now, terms(None));
    assert!(passed(&mut world, &[(&anna, 1)], 1, |_| ())[0] > 50_000_000);
}
