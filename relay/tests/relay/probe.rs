//! Other programs have ports too.

use datapath::Node;
use datapath::stun::Method;

use crate::client::{Client, assert_error, assert_success, parse};
use crate::world::{PEER, World};

#[test]
fn a_port_of_another_program_is_passed_over() {
    let mut world = World::new();
    world.taken = (50_000..=50_099).filter(|port| port % 7 != 0).collect();
    let mut clients = Vec::new();
    for from in 0..8 {
        let mut bob = Client::named("bob", "builder", &format!("7.7.7.7:{}", 1000 + from));
        bob.challenge(&mut world);
        let turn = bob.allocate(&mut world);
        if parse(turn.only()).error_code().is_none() {
            bob.accept_allocation(&turn);
            assert!(!world.taken.contains(&bob.relayed.port()));
            clients.push(bob);
        }
    }
    assert!(clients.len() >= 4, "seven of eight tries find one port in seven");
    assert!(world.probed.len() > 8);
    let bob = &mut clients[0];
    let relayed = bob.permit(&mut world, PEER).opens();
    assert_eq!(relayed, bob.relayed);
    assert_success(&world.opened(relayed));
    assert_eq!(world.deliver_outside(relayed, PEER, b"x").sent.len(), 1);
}

#[test]
fn eight_taken_ports_are_enough() {
    let mut world = World::new();
    world.taken = (50_000..=50_099).collect();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    assert_error(&bob.allocate(&mut world), 508);
    assert_eq!(world.probed.len(), 8);
    assert_eq!(world.server.allocations(), 0, "and its share is given back");
    assert!(world.server.poll_timeout().is_none());
    world.taken.clear();
    assert_success(&bob.allocate(&mut world));
}

#[test]
fn of_a_pair_both_ports_are_free() {
    let mut world = World::with(|settings| settings.ports = 50_000..=50_009);
    world.taken = vec![50_001, 50_003, 50_004, 50_009];
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let pair = bob.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).even_port(true);
    });
    bob.accept_allocation(&pair);
    assert_eq!(bob.relayed.port(), 50_006);
    let token = parse(pair.only()).reservation_token().unwrap();

    let mut other = Client::named("bob", "builder", "7.7.7.7:1001");
    other.challenge(&mut world);
    world.taken.push(50_007);
    let claim = |client: &mut Client, world: &mut World| {
        client.ask(world, Method::ALLOCATE, |writer| {
            writer.requested_transport(17).reservation_token(token);
        })
    };
    assert_error(&claim(&mut other, &mut world), 508);
}
