//! A client that comes back from another address (RFC 8016).

use std::time::Duration;

use datapath::stun::Method;
use datapath::{Endpoint, Order, SocketEvent};

use crate::client::{Client, assert_error, assert_success, parse};
use crate::world::{PEER, Turn, World, address};

/// Bob with an allocation that may move, a permission, and his ticket.
fn mobile(world: &mut World) -> (Client, Vec<u8>) {
    let mut bob = Client::bob();
    bob.challenge(world);
    let turn = bob.ask(world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).mobility_ticket(&[]);
    });
    bob.accept_allocation(&turn);
    let relayed = bob.permit(world, PEER).opens();
    assert_success(&world.opened(relayed));
    (bob, ticket(&turn))
}

fn ticket(turn: &Turn) -> Vec<u8> {
    parse(turn.only()).mobility_ticket().expect("a ticket").to_vec()
}

fn come(client: &mut Client, world: &mut World, ticket: &[u8]) -> Turn {
    client.challenge(world);
    client.ask(world, Method::REFRESH, |writer| _ = writer.lifetime(600).mobility_ticket(ticket))
}

#[test]
fn the_allocation_follows_its_client() {
    let mut world = World::new();
    let (bob, ticket_1) = mobile(&mut world);
    let mut moved = Client { address: address("8.8.8.8:9"), ..bob.clone() };
    let turn = come(&mut moved, &mut world, &ticket_1);
    assert_success(&turn);
    let ticket_2 = ticket(&turn);
    assert_ne!(ticket_1, ticket_2);
    assert_eq!(world.deliver_outside(bob.relayed, PEER, b"x").only().remote, moved.address);
    assert_eq!(moved.send_data(&mut world, PEER, b"x").sent.len(), 1);
    assert!(bob.clone().send_data(&mut world, PEER, b"x").is_silent(), "the old address has nothing any more");

    // A ticket takes its client to one place; the same request again is a refresh.
    let mut third = Client { address: address("8.8.4.4:9"), ..bob.clone() };
    assert_error(&come(&mut third, &mut world, &ticket_1), 437);
    assert_eq!(ticket(&come(&mut moved, &mut world, &ticket_1)), ticket_2);
    assert_success(&come(&mut third, &mut world, &ticket_2));
}

#[test]
fn a_ticket_is_worth_nothing_to_another_user() {
    let mut world = World::new();
    let (bob, stolen) = mobile(&mut world);
    let mut eve = Client::rest("1900000000:eve", "6.6.6.6:6");
    assert_error(&come(&mut eve, &mut world, &stolen), 400);
    let mut guessed = stolen.clone();
    for index in 0..stolen.len() {
        guessed[index] ^= 1;
        let mut moved = Client { address: address("8.8.8.8:9"), ..bob.clone() };
        assert_error(&come(&mut moved, &mut world, &guessed), 400);
        guessed[index] ^= 1;
    }
    assert_eq!(world.deliver_outside(bob.relayed, PEER, b"x").only().remote, bob.address);
}

#[test]
fn an_allocate_asks_for_a_ticket_and_brings_none() {
    let mut world = World::new();
    let (bob, ticket) = mobile(&mut world);
    let mut second = Client { address: address("7.7.7.7:1001"), ..bob };
    second.challenge(&mut world);
    for ticket in [&ticket[..], b"x"] {
        let turn = second.ask(&mut world, Method::ALLOCATE, |writer| {
            writer.requested_transport(17).mobility_ticket(ticket);
        });
        assert_error(&turn, 400);
    }
    assert_eq!(world.server.allocations(), 1);
    assert_success(&second.allocate(&mut world));
}

#[test]
fn one_of_two_address_families_that_is_left_may_move() {
    let mut world = World::new();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    bob.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).additional_address_family(2).mobility_ticket(&[]);
    });
    assert_eq!(world.server.allocations(), 2);
    let turn = bob.ask(&mut world, Method::REFRESH, |writer| _ = writer.lifetime(0).requested_address_family(1));
    assert_eq!(world.server.allocations(), 1);
    let mut moved = Client { address: address("8.8.8.8:9"), ..bob };
    assert_success(&come(&mut moved, &mut world, &ticket(&turn)));
}

#[test]
fn who_asked_for_no_ticket_stays() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    assert_eq!(parse(bob.refresh(&mut world, 600).only()).mobility_ticket(), None);
}

/// The share of the quota goes along, so that moving makes no room behind.
#[test]
fn moving_evades_no_quota() {
    let mut world = World::with(|settings| settings.limits.allocations_per_prefix = 1);
    let (bob, ticket_1) = mobile(&mut world);
    let mut carol = Client::rest("1900000000:carol", "8.8.8.1:1").allocated(&mut world);
    let mut moved = Client { address: address("8.8.8.8:9"), ..bob.clone() };
    assert_error(&come(&mut moved, &mut world, &ticket_1), 486);
    assert_success(&carol.refresh(&mut world, 0));
    assert_success(&come(&mut moved, &mut world, &ticket_1));
    let mut dave = Client::rest("1900000000:dave", "8.8.8.2:1");
    dave.challenge(&mut world);
    assert_error(&dave.allocate(&mut world), 486);
    Client::rest("1900000000:erna", "7.7.7.8:1").allocated(&mut world);
}

#[test]
fn a_connection_that_broke_does_not_end_what_may_move() {
    let mut world = World::new();
    let stream = |id| Endpoint::Stream { id, ip: [5, 5, 5, 5].into() };
    let mut bob = Client { local: stream(1), ..Client::bob() };
    bob.challenge(&mut world);
    let turn = bob.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).mobility_ticket(&[]);
    });
    assert_eq!(turn.orders, [Order::KeepStream { local: stream(1), keep: true }]);
    let ticket = ticket(&turn);
    world.event(SocketEvent::StreamClosed { local: stream(1), remote: bob.address });
    assert_eq!(world.server.allocations(), 1);
    let mut again = Client { local: stream(2), ..bob };
    assert_success(&come(&mut again, &mut world, &ticket));
    world.pass(Duration::from_secs(600));
    assert_eq!(world.server.allocations(), 0);
}

#[test]
fn without_a_ticket_a_connection_takes_its_allocation_along() {
    let mut world = World::new();
    let local = Endpoint::Stream { id: 1, ip: [5, 5, 5, 5].into() };
    let bob = Client { local, ..Client::bob() }.allocated(&mut world);
    world.event(SocketEvent::StreamClosed { local, remote: bob.address });
    assert_eq!(world.server.allocations(), 0);
}
