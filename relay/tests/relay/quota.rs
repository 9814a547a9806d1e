//! Limits of a user, a source and all together; what ends makes room, whoever comes back gets nothing twice.

use std::time::Duration;

use datapath::Discard;
use datapath::stun::Method;
use relay::{Limits, Terms};

use crate::client::{Client, assert_error, assert_success, parse};
use crate::world::{PEER, Turn, World, address, settings};

fn alice(from: &str) -> Client {
    Client::rest("1900000000:alice", from)
}

fn peer(host: u8) -> String {
    format!("9.9.9.{host}:1")
}

/// With the sockets of its clients open.
fn permitted(world: &mut World, client: Client, host: u8) -> Client {
    let mut client = client.allocated(world);
    let relayed = client.permit(world, &peer(host)).opens();
    assert_success(&world.opened(relayed));
    client
}

fn with_limits(change: impl FnOnce(&mut Limits)) -> World {
    World::with(|settings| change(&mut settings.limits))
}

fn reload(world: &mut World, change: impl FnOnce(&mut Terms)) {
    let relay::Settings { credentials, peer_policy, alternate_server, limits, .. } = settings();
    let mut terms = Terms { credentials, peer_policy, alternate_server, limits };
    change(&mut terms);
    world.server.reload(world.now, terms);
}

#[test]
fn the_server_that_is_full_says_so() {
    let mut world = with_limits(|limits| limits.allocations = 1);
    Client::bob().allocated(&mut world);
    let mut alice = alice("8.8.8.8:1");
    alice.challenge(&mut world);
    assert_error(&alice.allocate(&mut world), 508);
    assert_eq!(world.counters().over_quota, [0, 0, 1]);
}

#[test]
fn permissions_of_a_user_of_a_source_and_in_total() {
    let mut world = with_limits(|limits| {
        (limits.permissions_per_user, limits.permissions_per_prefix, limits.permissions_in_total) = (3, 4, 5);
    });
    let mut first = permitted(&mut world, alice("7.7.7.7:1"), 1);
    let mut second = permitted(&mut world, alice("8.8.8.8:1"), 1);
    assert_success(&first.permit(&mut world, &peer(2)));
    assert_error(&second.permit(&mut world, &peer(2)), 508);
    assert_error(&second.bind(&mut world, 0x4000, &peer(2)), 508);
    // A refresh needs nothing more.
    assert_success(&first.permit(&mut world, &peer(2)));
    assert_success(&second.bind(&mut world, 0x4000, &peer(1)));
    let mut bob = permitted(&mut world, Client::named("bob", "builder", "7.7.7.9:1"), 1);
    assert_success(&bob.permit(&mut world, &peer(2)));
    assert_error(&bob.permit(&mut world, &peer(3)), 508);
    let mut carol = Client::rest("1900000000:carol", "6.6.6.6:1").allocated(&mut world);
    let turn = carol.permit(&mut world, &peer(1));
    assert_error(&turn, 508);
    assert!(turn.orders.is_empty(), "nor does it open a socket");
    assert_eq!(world.counters().over_quota, [2, 1, 1]);
    // What goes makes room.
    assert_success(&bob.refresh(&mut world, 0));
    assert_eq!(carol.permit(&mut world, &peer(1)).opens(), carol.relayed);
}

#[test]
fn several_permissions_at_once_or_none() {
    let mut world = with_limits(|limits| limits.permissions_per_user = 3);
    let mut first = permitted(&mut world, alice("7.7.7.7:1"), 1);
    let mut ask = |hosts: &[u8]| {
        first.ask(&mut world, Method::CREATE_PERMISSION, |writer| {
            hosts.iter().for_each(|host| _ = writer.xor_peer_address(address(&peer(*host))));
        })
    };
    assert_error(&ask(&[1, 2, 3, 4]), 508);
    assert_success(&ask(&[1, 2, 2, 3, 3]));
    assert_error(&ask(&[4]), 508);
}

/// Nobody's packet is needed for that, nor anybody's wake-up but the one that the server asks for.
#[test]
fn what_has_ended_makes_room_at_that_moment() {
    let mut world = with_limits(|limits| {
        (limits.permissions_per_user, limits.channels_per_user) = (1, 1);
    });
    let mut first = permitted(&mut world, alice("7.7.7.7:1"), 1);
    let mut second = alice("7.7.7.8:1").allocated(&mut world);
    world.pass(Duration::from_millis(299_999));
    assert_error(&second.permit(&mut world, &peer(2)), 508);
    world.pass(Duration::from_millis(1));
    let relayed = second.bind(&mut world, 0x4000, &peer(2)).opens();
    assert_success(&world.opened(relayed));
    assert_error(&first.permit(&mut world, &peer(1)), 508);
    world.pass(Duration::from_secs(299));
    assert_success(&second.permit(&mut world, &peer(2)));
    assert_error(&first.bind(&mut world, 0x4000, &peer(2)), 508);
    // The channel ends, ten minutes after it was bound; its allocation would too.
    assert_success(&first.refresh(&mut world, 3600));
    assert_success(&second.refresh(&mut world, 3600));
    world.pass(Duration::from_secs(301));
    assert_success(&first.bind(&mut world, 0x4000, &peer(2)));
    assert_error(&second.bind(&mut world, 0x4000, &peer(2)), 508);
}

#[test]
fn channels_of_a_user_of_a_source_and_in_total() {
    let mut world = with_limits(|limits| {
        (limits.channels_per_user, limits.channels_per_prefix, limits.channels_in_total) = (2, 3, 4);
    });
    let mut clients = [
        permitted(&mut world, alice("7.7.7.7:1"), 1),
        permitted(&mut world, alice("8.8.8.8:1"), 1),
        permitted(&mut world, Client::named("bob", "builder", "7.7.7.9:1"), 1),
        permitted(&mut world, Client::rest("1900000000:carol", "6.6.6.6:1"), 1),
    ];
    let mut bind = |client: usize, number, port: u16| {
        let turn = clients[client].bind(&mut world, number, &format!("9.9.9.1:{port}"));
        parse(turn.only()).error_code().map(|code| code.0)
    };
    assert_eq!([bind(0, 0x4000, 1), bind(1, 0x4000, 1)], [None, None]);
    assert_eq!([bind(0, 0x4001, 2), bind(1, 0x4001, 2)], [Some(508), Some(508)], "of a user");
    assert_eq!(bind(0, 0x4000, 1), None, "a refresh needs nothing more");
    assert_eq!([bind(2, 0x4000, 1), bind(2, 0x4001, 2)], [None, None]);
    assert_eq!(bind(2, 0x4002, 3), Some(508), "of a user");
    assert_eq!(bind(3, 0x4000, 1), Some(508), "in total");
}

#[test]
fn a_client_that_moves_takes_its_permissions_along() {
    let mut world = with_limits(|limits| limits.permissions_per_prefix = 2);
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let turn = bob.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).mobility_ticket(&[]);
    });
    bob.accept_allocation(&turn);
    let ticket = parse(turn.only()).mobility_ticket().unwrap().to_vec();
    let relayed = bob.permit(&mut world, PEER).opens();
    assert_success(&world.opened(relayed));
    let mut carol = Client::rest("1900000000:carol", "8.8.8.1:1");
    carol = permitted(&mut world, carol, 1);
    assert_success(&carol.permit(&mut world, &peer(2)));
    let mut moved = Client { address: address("8.8.8.8:9"), ..bob };
    moved.challenge(&mut world);
    let come = |moved: &mut Client, world: &mut World| {
        moved.ask(world, Method::REFRESH, |writer| _ = writer.lifetime(600).mobility_ticket(&ticket))
    };
    assert_error(&come(&mut moved, &mut world), 486);
    assert_success(&carol.refresh(&mut world, 0));
    assert_success(&come(&mut moved, &mut world));
    let mut dave = permitted(&mut world, Client::rest("1900000000:dave", "8.8.8.2:1"), 1);
    assert_error(&dave.permit(&mut world, &peer(2)), 508);
    let mut erna = permitted(&mut world, Client::rest("1900000000:erna", "7.7.7.8:1"), 1);
    assert_success(&erna.permit(&mut world, &peer(2)));
}

#[test]
fn a_peer_that_is_forbidden_now_counts_no_more() {
    let mut world = with_limits(|limits| limits.permissions_per_user = 1);
    let mut first = permitted(&mut world, alice("7.7.7.7:1"), 1);
    reload(&mut world, |terms| {
        terms.limits.permissions_per_user = 1;
        terms.peer_policy = relay::PeerPolicy::new(vec![], vec!["9.9.9.1/32".parse().unwrap()], vec![]);
    });
    assert_success(&first.permit(&mut world, &peer(2)));
    assert_error(&first.permit(&mut world, &peer(3)), 508);
}

/// Octets that pass of `packets` datagrams of a thousand each, in turns from each of these clients, in so many milliseconds.
fn passed(world: &mut World, clients: &mut [Client], packets: u32, ms: u64) -> usize {
    let mut octets = 0;
    for _ in 0..packets {
        for client in &mut *clients {
            let turn: Turn = world.deliver_outside(client.relayed, &peer(1), &[7; 1000]);
            octets += 1000 * turn.sent.len();
        }
        world.advance(Duration::from_micros(1000 * ms / u64::from(packets)));
    }
    octets
}

/// So many seconds at this rate, and half a second's worth to a whole one.
#[track_caller]
fn assert_rate(octets: usize, octets_per_second: usize, seconds: usize) {
    let [least, most] = [1, 2].map(|halves| octets_per_second * (2 * seconds + halves) / 2);
    assert!((least - 2000..=most + 2000).contains(&octets), "{octets}: {least} to {most}");
}

#[test]
fn bandwidth_of_a_user() {
    let mut world = with_limits(|limits| limits.octets_per_second_of_user = Some(100_000));
    let mut both = [permitted(&mut world, alice("7.7.7.7:1"), 1), permitted(&mut world, alice("8.8.8.8:1"), 1)];
    let octets = passed(&mut world, &mut both, 1000, 5000);
    assert_rate(octets, 100_000, 5);
    assert_eq!(world.discarded(Discard::OverBandwidth) as usize, 2000 - octets / 1000);
    // Both ways, and both ways of sending.
    let [first, _] = &mut both;
    assert_success(&first.bind(&mut world, 0x4000, &peer(1)));
    assert!((0..20).any(|_| first.send_channel(&mut world, 0x4000, &[7; 1000]).is_silent()));
    assert!(first.send_data(&mut world, &peer(1), &[7; 1000]).is_silent());
    // Another user is another user.
    let mut bob = permitted(&mut world, Client::bob(), 1);
    assert_eq!(bob.send_data(&mut world, &peer(1), &[7; 1000]).sent.len(), 1);
}

#[test]
fn bandwidth_of_a_source_and_in_total() {
    for in_total in [false, true] {
        let mut world = with_limits(|limits| {
            let limit =
                if in_total { &mut limits.octets_per_second_in_total } else { &mut limits.octets_per_second_of_prefix };
            *limit = Some(200_000);
        });
        let near = if in_total { "8.8.8.8:1" } else { "7.7.7.8:1" };
        let mut both = [
            permitted(&mut world, alice("7.7.7.7:1"), 1),
            permitted(&mut world, Client::rest("1900000000:carol", near), 1),
        ];
        let octets = passed(&mut world, &mut both, 1000, 3000);
        assert_rate(octets, 200_000, 3);
        let mut far = [permitted(&mut world, Client::rest("1900000000:dora", "6.6.6.6:1"), 1)];
        assert_eq!(passed(&mut world, &mut far, 100, 100) == 100_000, !in_total);
    }
}

/// Who allocates anew gets no second's worth anew.
#[test]
fn coming_back_fills_no_bucket() {
    let mut world = with_limits(|limits| limits.octets_per_second_of_user = Some(100_000));
    let mut octets = 0;
    for from in 0..50 {
        let mut one = [permitted(&mut world, alice(&format!("7.7.{from}.7:1")), 1)];
        octets += passed(&mut world, &mut one, 200, 20);
        assert_success(&one[0].refresh(&mut world, 0));
    }
    assert_rate(octets, 100_000, 1);
}

#[test]
fn other_limits_of_bandwidth_hold_at_once() {
    let mut world = World::new();
    let mut one = [permitted(&mut world, alice("7.7.7.7:1"), 1)];
    assert_eq!(passed(&mut world, &mut one, 1000, 1000), 1_000_000);
    reload(&mut world, |terms| terms.limits.octets_per_second_in_total = Some(50_000));
    let octets = passed(&mut world, &mut one, 2000, 4000);
    assert_rate(octets, 50_000, 4);
    reload(&mut world, |_| ());
    assert_eq!(passed(&mut world, &mut one, 1000, 1000), 1_000_000);
}
