//! Both address families with one Allocate (RFC 8656 §5, ADDITIONAL-ADDRESS-FAMILY).

use std::net::SocketAddr;
use std::time::Duration;

use datapath::Order;
use datapath::stun::{ErrorCode, Method, Writer};

use crate::client::{Client, assert_error, assert_success, parse};
use crate::world::{PEER, World, address};

const PEER_V6: &str = "[2600::9]:4000";

/// Bob with both relayed addresses.
fn both(world: &mut World) -> (Client, SocketAddr, SocketAddr) {
    let mut bob = Client::bob();
    bob.challenge(world);
    let turn = ask(&mut bob, world);
    assert_success(&turn);
    let relayed: Vec<SocketAddr> = parse(turn.only()).xor_relayed_addresses().collect();
    assert!(relayed[0].is_ipv4() && relayed[1].is_ipv6(), "{relayed:?}");
    (bob, relayed[0], relayed[1])
}

fn ask(bob: &mut Client, world: &mut World) -> crate::world::Turn {
    bob.ask(world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).additional_address_family(2);
    })
}

#[test]
fn one_request_gives_both_and_a_retransmission_the_same() {
    let mut world = World::new();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let request = bob.request(Method::ALLOCATE, |writer| {
        writer.requested_transport(17).additional_address_family(2);
    });
    let first = bob.send(&mut world, &request);
    assert_eq!(parse(first.only()).xor_relayed_addresses().count(), 2);
    assert_eq!(world.server.allocations(), 2);
    assert_eq!(bob.send(&mut world, &request), first);
    assert_error(&bob.allocate(&mut world), 437);
}

#[test]
fn peers_of_both_families_are_reached_through_their_own_address() {
    let mut world = World::new();
    let (mut bob, v4, v6) = both(&mut world);
    let turn = bob.ask(&mut world, Method::CREATE_PERMISSION, |writer| {
        writer.xor_peer_address(address(PEER_V6)).xor_peer_address(address(PEER));
    });
    assert_eq!(turn.opens(), v6);
    assert_eq!(world.opened(v6).opens(), v4, "then the other's");
    assert_success(&world.opened(v4));
    assert_eq!(bob.send_data(&mut world, PEER, b"4").only().local, datapath::Endpoint::Relay { address: v4 });
    assert_eq!(bob.send_data(&mut world, PEER_V6, b"6").only().local, datapath::Endpoint::Relay { address: v6 });

    assert_success(&bob.bind(&mut world, 0x4000, PEER));
    assert_error(&bob.bind(&mut world, 0x4000, PEER_V6), 400);
    assert_success(&bob.bind(&mut world, 0x4001, PEER_V6));
    assert_error(&bob.bind(&mut world, 0x4001, PEER), 400);
    assert_eq!(bob.send_channel(&mut world, 0x4000, b"4").only().remote, address(PEER));
    assert_eq!(bob.send_channel(&mut world, 0x4001, b"6").only().remote, address(PEER_V6));
    assert_eq!(world.deliver_outside(v6, PEER_V6, b"6").only().payload, b"\x40\x01\x00\x016");
}

#[test]
fn a_forbidden_peer_of_either_family_refuses_the_whole_request() {
    let mut world = World::new();
    let (mut bob, ..) = both(&mut world);
    for (good, bad) in [(PEER, "[::1]:1"), (PEER_V6, "127.0.0.1:1")] {
        let turn = bob.ask(&mut world, Method::CREATE_PERMISSION, |writer| {
            writer.xor_peer_address(address(good)).xor_peer_address(address(bad));
        });
        assert_error(&turn, 403);
    }
}

#[test]
fn a_refresh_concerns_both_or_the_one_it_names() {
    let mut world = World::new();
    let (mut bob, v4, v6) = both(&mut world);
    assert_eq!(bob.permit(&mut world, PEER).opens(), v4);
    assert_success(&world.opened(v4));
    let refresh = |bob: &mut Client, world: &mut World, seconds, family: Option<u8>| {
        bob.ask(world, Method::REFRESH, |writer| {
            writer.lifetime(seconds);
            if let Some(family) = family {
                writer.requested_address_family(family);
            }
        })
    };
    assert_success(&refresh(&mut bob, &mut world, 1200, None));
    assert_success(&refresh(&mut bob, &mut world, 2400, Some(2)));
    world.pass(Duration::from_secs(1201));
    assert_eq!(world.server.allocations(), 1, "IPv4 has ended");
    assert_error(&refresh(&mut bob, &mut world, 600, Some(1)), 443);
    assert_error(&bob.permit(&mut world, PEER), 443);
    assert_eq!(bob.permit(&mut world, PEER_V6).opens(), v6);
    assert_success(&world.opened(v6));
    let turn = refresh(&mut bob, &mut world, 0, None);
    assert_eq!(turn.orders, [Order::CloseRelay { relayed: v6 }]);
    assert_eq!(world.server.allocations(), 0);
    both(&mut world);
}

#[test]
fn where_one_family_is_missing_the_other_is_a_success() {
    let mut world = World::with(|settings| settings.relayed.truncate(1));
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let turn = ask(&mut bob, &mut world);
    assert_success(&turn);
    let answer = parse(turn.only());
    assert_eq!(answer.xor_relayed_addresses().count(), 1);
    assert_eq!(answer.address_error_code(), Some((2, ErrorCode(440))));

    let mut world = World::with(|settings| settings.limits.allocations_per_user = 1);
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let turn = ask(&mut bob, &mut world);
    assert_eq!(parse(turn.only()).address_error_code(), Some((2, ErrorCode(486))), "each counts");
}

#[test]
fn where_neither_can_be_had_there_is_one_refusal() {
    let mut world = World::new();
    world.taken = (50_000..=50_099).collect();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    assert_error(&ask(&mut bob, &mut world), 508);
    assert_eq!(world.server.allocations(), 0);
}

#[test]
fn what_does_not_go_together() {
    let mut world = World::new();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    type Attributes = fn(&mut Writer<'_>);
    let cases: [Attributes; 4] = [
        |writer| _ = writer.additional_address_family(1),
        |writer| _ = writer.additional_address_family(2).requested_address_family(1),
        |writer| _ = writer.additional_address_family(2).reservation_token([1; 8]),
        |writer| _ = writer.additional_address_family(2).even_port(true),
    ];
    for attributes in cases {
        let turn = bob.ask(&mut world, Method::ALLOCATE, |writer| {
            writer.requested_transport(17);
            attributes(writer);
        });
        assert_error(&turn, 400);
    }
}
