//! Other terms while the server serves.

use std::time::Duration;

use datapath::Discard;
use relay::{Credentials, PeerPolicy, Settings, Terms, rest_password};

use crate::client::{Client, assert_error, assert_success, parse};
use crate::world::{PEER, SECRET, World, address, settings};

/// The terms of the world with one change.
fn terms(change: impl FnOnce(&mut Terms)) -> Terms {
    let Settings { credentials, peer_policy, alternate_server, limits, .. } = settings();
    let mut terms = Terms { credentials, peer_policy, alternate_server, limits };
    change(&mut terms);
    terms
}

fn denying(prefix: &str) -> Terms {
    terms(|terms| terms.peer_policy = PeerPolicy::new(vec![], vec![prefix.parse().unwrap()], vec![]))
}

#[test]
fn a_new_secret_works_and_one_that_is_gone_refuses_while_its_allocation_lives_on() {
    let mut world = World::new();
    let mut old = Client::rest("1900000000:alice", "7.7.7.7:1").permitted(&mut world);
    world.server.reload(
        world.now,
        terms(|terms| {
            terms.credentials = Credentials::new("hausruf").with_user("bob", "builder").with_secret(b"south");
        }),
    );
    let password = rest_password(b"south", "1900000000:carol");
    Client::named("1900000000:carol", &password, "8.8.8.1:1").allocated(&mut world);
    assert_error(&old.refresh(&mut world, 600), 401);
    let mut again = Client::rest("1900000000:dora", "8.8.8.2:1");
    again.challenge(&mut world);
    assert_error(&again.allocate(&mut world), 401);
    // What it has goes on until its lifetime is over.
    assert_eq!(old.send_data(&mut world, PEER, b"still here").only().payload, b"still here");
    world.pass(Duration::from_secs(601));
    assert_eq!(world.server.allocations(), 0);
}

#[test]
fn a_user_who_is_gone_is_refused() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    world
        .server
        .reload(world.now, terms(|terms| terms.credentials = Credentials::new("hausruf").with_secret(b"north")));
    assert_error(&bob.refresh(&mut world, 600), 401);
    assert_error(&bob.permit(&mut world, PEER), 401);
    assert_eq!(bob.send_data(&mut world, PEER, b"x").only().payload, b"x");
    let mut again = Client::named("bob", "builder", "7.7.7.7:2");
    again.challenge(&mut world);
    assert_error(&again.allocate(&mut world), 401);
}

#[test]
fn where_expiry_is_strict_what_lost_its_user_or_secret_ends_after_the_grace() {
    let mut world = World::new();
    let mut alice = Client::rest("1900000000:alice", "7.7.7.7:1").permitted(&mut world);
    let mut bob = Client::bob().permitted(&mut world);
    let with = |secret: &[u8], password: &str, grace| {
        let credentials = Credentials::new("hausruf").with_user("bob", password).with_secret(secret);
        terms(|terms| terms.credentials = credentials.with_expiry(Duration::from_secs(grace)))
    };
    // Both are as they were.
    world.server.reload(world.now, with(SECRET, "builder", 0));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.server.allocations(), 2);
    // Bob has another password, alice's secret is a second one now.
    let mut another = with(b"south", "digger", 30);
    another.credentials = another.credentials.with_secret(SECRET);
    world.server.reload(world.now, another);
    assert_eq!(bob.send_data(&mut world, PEER, b"x").only().payload, b"x");
    world.pass(Duration::from_secs(29));
    assert_eq!(world.server.allocations(), 2);
    world.pass(Duration::from_secs(1));
    assert!(bob.send_data(&mut world, PEER, b"x").is_silent());
    assert_success(&alice.refresh(&mut world, 600));
    // Gone, and no grace.
    world.server.reload(world.now, with(b"south", "digger", 0));
    world.pass(Duration::ZERO);
    assert_eq!(world.server.allocations(), 0);
}

/// Without secrets the nonce offers hashed names; with the first one it no longer may.
#[test]
fn a_nonce_that_offers_what_has_ended_is_replaced() {
    let mut world = World::with(|settings| {
        settings.credentials = Credentials::new("hausruf").with_user("bob", "builder");
    });
    let mut bob = Client::bob().allocated(&mut world);
    world.server.reload(world.now, terms(|_| ()));
    let turn = bob.refresh(&mut world, 600);
    assert_error(&turn, 438);
    bob.learn_nonce(&turn);
    assert_success(&bob.refresh(&mut world, 600));
}

#[test]
fn a_peer_that_is_forbidden_now_is_cut_off_both_ways() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    assert_success(&bob.bind(&mut world, 0x4000, PEER));
    assert_success(&bob.permit(&mut world, "8.8.8.8:1"));
    world.server.reload(world.now, denying("9.9.9.0/24"));
    assert!(bob.send_channel(&mut world, 0x4000, b"x").is_silent());
    assert!(bob.send_data(&mut world, PEER, b"x").is_silent());
    assert!(world.deliver_outside(bob.relayed, PEER, b"x").is_silent());
    assert_eq!(world.discarded(Discard::UnsolicitedPeer), 1);
    assert_error(&bob.permit(&mut world, PEER), 403);
    assert_error(&bob.bind(&mut world, 0x4000, PEER), 403);
    assert_eq!(bob.send_data(&mut world, "8.8.8.8:1", b"x").only().remote, address("8.8.8.8:1"));

    world.server.reload(world.now, terms(|_| ()));
    assert!(world.deliver_outside(bob.relayed, PEER, b"x").is_silent(), "the client has to ask again");
    assert_success(&bob.permit(&mut world, PEER));
    assert_eq!(bob.send_data(&mut world, PEER, b"x").only().remote, address(PEER));
}

#[test]
fn a_request_that_waits_for_its_socket_meets_the_new_policy() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    let relayed = bob.permit(&mut world, PEER).opens();
    world.server.reload(world.now, denying("9.9.9.9/32"));
    assert_error(&world.opened(relayed), 403);
}

#[test]
fn addresses_of_this_host_stay_forbidden() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    world.server.reload(world.now, terms(|_| ()));
    assert_error(&bob.bind(&mut world, 0x4000, "5.5.5.5:22"), 403);
}

#[test]
fn an_address_that_becomes_ours_is_reached_no_longer() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    assert_success(&bob.bind(&mut world, 0x4000, PEER));
    world.server.note_own_addresses(&[address(PEER).ip()]);
    for terms in [None, Some(terms(|_| ()))] {
        if let Some(terms) = terms {
            world.server.reload(world.now, terms);
        }
        assert!(bob.send_channel(&mut world, 0x4000, b"x").is_silent());
        assert!(world.deliver_outside(bob.relayed, PEER, b"x").is_silent());
        assert_error(&bob.permit(&mut world, PEER), 403);
    }
}

#[test]
fn limits_and_where_clients_are_sent_change_too() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    world.server.reload(
        world.now,
        terms(|terms| {
            terms.limits.allocations_per_user = 1;
            terms.alternate_server = Some(address("198.51.100.8:3478"));
        }),
    );
    let mut second = Client::named("bob", "builder", "7.7.7.7:2");
    second.challenge(&mut world);
    assert_error(&second.allocate(&mut world), 486);
    assert_success(&bob.refresh(&mut world, 0));
    second.challenge(&mut world);
    assert_success(&second.allocate(&mut world));
    world.server.drain();
    let mut carol = Client::rest("1900000000:carol", "8.8.8.1:1");
    carol.challenge(&mut world);
    let turn = carol.allocate(&mut world);
    assert_error(&turn, 300);
    assert_eq!(parse(turn.only()).alternate_server(), Some(address("198.51.100.8:3478")));
}
