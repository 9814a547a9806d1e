//! Peers within this program: the SFU's candidates and other clients' relayed addresses.

use datapath::{Discard, Endpoint};

use crate::client::{Client, assert_error, assert_success, parse};
use crate::world::{CANDIDATE, PEER, Sent, World, address};

#[test]
fn a_candidate_is_reached_in_memory_and_no_socket_is_opened() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    assert_success(&bob.permit(&mut world, CANDIDATE));
    let memory = |payload: &[u8]| Sent {
        local: Endpoint::Memory { address: bob.relayed },
        remote: address(CANDIDATE),
        payload: payload.to_vec(),
    };
    let (check, media) = (memory(b"\x00\x01check"), memory(b"\x80media"));
    assert_eq!(*bob.send_data(&mut world, CANDIDATE, b"\x00\x01check").only(), check);
    assert_success(&bob.bind(&mut world, 0x4000, CANDIDATE));
    assert_eq!(*bob.send_channel(&mut world, 0x4000, b"\x80media").only(), media);
    let turn = world.deliver_memory(bob.relayed, CANDIDATE, b"back");
    assert_eq!(turn.only().payload, b"\x40\x00\x00\x04back");
    assert_eq!(turn.only().remote, bob.address);
}

#[test]
fn other_ports_of_our_addresses_are_not_reached() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    assert_success(&bob.permit(&mut world, "5.5.5.5:22"));
    assert!(bob.send_data(&mut world, "5.5.5.5:22", b"x").is_silent());
    assert_eq!(world.discarded(Discard::ForbiddenPeer), 1);
    assert_error(&bob.bind(&mut world, 0x4000, "5.5.5.5:22"), 403);
    assert_error(&bob.bind(&mut world, 0x4000, "5.5.5.5:50099"), 403);
}

#[test]
fn two_clients_reach_each_other_where_both_permit_it() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    let mut alice = Client::rest("1900000000:alice", "8.8.8.8:1").allocated(&mut world);
    let (to_alice, to_bob) = (alice.relayed.to_string(), bob.relayed.to_string());
    assert_success(&bob.bind(&mut world, 0x4000, &to_alice));
    let turn = bob.send_channel(&mut world, 0x4000, b"hello");
    let expected =
        Sent { local: Endpoint::Memory { address: bob.relayed }, remote: alice.relayed, payload: b"hello".to_vec() };
    assert_eq!(*turn.only(), expected);
    assert!(world.deliver_memory(alice.relayed, &to_bob, b"hello").is_silent());
    assert_eq!(world.discarded(Discard::UnsolicitedPeer), 1);
    assert_success(&alice.permit(&mut world, &to_bob));
    let turn = world.deliver_memory(alice.relayed, &to_bob, b"hello");
    assert_eq!(parse(turn.only()).data(), Some(&b"hello"[..]));
    // Her allocation ends: nobody is reached there any more.
    assert_success(&alice.refresh(&mut world, 0));
    assert_eq!(bob.send_channel(&mut world, 0x4000, b"x").sent.len(), 1);
    assert!(world.deliver_memory(alice.relayed, &to_bob, b"x").is_silent());
    assert!(bob.send_data(&mut world, &to_alice, b"x").is_silent());
    assert_eq!(world.discarded(Discard::ForbiddenPeer), 1);
}

#[test]
fn a_packet_from_outside_cannot_pass_for_one_of_ours() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    assert_success(&bob.permit(&mut world, CANDIDATE));
    assert!(world.deliver_outside(bob.relayed, CANDIDATE, b"forged").is_silent());
    assert_success(&bob.bind(&mut world, 0x4000, CANDIDATE));
    assert!(world.deliver_outside(bob.relayed, CANDIDATE, b"forged").is_silent());
    assert_eq!(world.discarded(Discard::UnsolicitedPeer), 2);
    assert_eq!(world.deliver_outside(bob.relayed, PEER, b"real").sent.len(), 1);
}

#[test]
fn an_address_of_ours_that_the_policy_allows_is_reached_through_the_kernel() {
    let mut world = World::with(|settings| {
        let allow = vec!["5.5.5.5/32".parse().unwrap()];
        settings.peer_policy = relay::PeerPolicy::new(allow, vec![], vec![]);
    });
    let mut bob = Client::bob().allocated(&mut world);
    assert_success(&bob.permit(&mut world, "5.5.5.5:4000"));
    let turn = bob.send_data(&mut world, "5.5.5.5:4000", b"x");
    assert_eq!(turn.orders.len(), 1, "the first Send opens the socket");
    assert_eq!(turn.only().local, Endpoint::Relay { address: bob.relayed });
    let turn = bob.send_data(&mut world, CANDIDATE, b"x");
    assert_eq!(turn.only().local, Endpoint::Memory { address: bob.relayed });
    assert!(world.opened(bob.relayed).is_silent());
    assert_success(&bob.bind(&mut world, 0x4000, "5.5.5.5:4000"));
    let turn = bob.send_channel(&mut world, 0x4000, b"x");
    assert_eq!(turn.only().local, Endpoint::Relay { address: bob.relayed });
}
