use std::time::Duration;

use datapath::stun::{AttributeType, ChannelData, Method};
use datapath::{Discard, Endpoint, Traffic};

use crate::client::{Client, assert_error, assert_success};
use crate::world::{PEER, Sent, World, address};

#[test]
fn data_passes_both_ways() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    assert_eq!(bob.bind(&mut world, 0x4001, PEER).opens(), bob.relayed);
    assert_success(&world.opened(bob.relayed));
    let expected =
        Sent { local: Endpoint::Relay { address: bob.relayed }, remote: address(PEER), payload: b"hello".to_vec() };
    assert_eq!(*bob.send_channel(&mut world, 0x4001, b"hello").only(), expected);
    let expected = Sent { local: bob.local, remote: bob.address, payload: b"\x40\x01\x00\x02hi".to_vec() };
    assert_eq!(*world.deliver_outside(bob.relayed, PEER, b"hi").only(), expected);
    // The channel's permission is for the address: other ports come as Data indications.
    let turn = world.deliver_outside(bob.relayed, "9.9.9.9:1", b"hi");
    assert_eq!(ChannelData::parse(&turn.only().payload), None);
    let counters = world.counters();
    assert_eq!(counters.received[Traffic::ChannelData as usize].bytes, 9);
    assert_eq!(counters.sent[Traffic::ChannelData as usize].bytes, 6);
}

#[test]
fn what_channel_bind_refuses() {
    let mut world = World::with(|settings| settings.limits.channels = 2);
    let mut bob = Client::bob().permitted(&mut world);
    for number in [0, 0x3FFF, 0x7FFF, 0x8000, 0xFFFF] {
        assert_error(&bob.bind(&mut world, number, PEER), 400);
    }
    assert_error(&bob.ask(&mut world, Method::CHANNEL_BIND, |writer| _ = writer.channel_number(0x4000)), 400);
    assert_error(&bob.ask(&mut world, Method::CHANNEL_BIND, |writer| _ = writer.xor_peer_address(address(PEER))), 400);
    assert_error(&bob.bind(&mut world, 0x4000, "9.9.9.9:0"), 403);
    assert_success(&bob.bind(&mut world, 0x4000, PEER));
    assert_success(&bob.bind(&mut world, 0x4000, PEER));
    assert_error(&bob.bind(&mut world, 0x4001, PEER), 400);
    assert_error(&bob.bind(&mut world, 0x4000, "9.9.9.9:4001"), 400);
    // RFC 5766's upper half.
    assert_success(&bob.bind(&mut world, 0x7FFE, "9.9.9.9:4001"));
    assert_error(&bob.bind(&mut world, 0x4002, "9.9.9.9:4002"), 508);
}

#[test]
fn a_channel_lasts_ten_minutes_and_its_permission_five() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    assert_success(&bob.bind(&mut world, 0x4000, PEER));
    assert_success(&bob.refresh(&mut world, 3600));
    let passes = |bob: &mut Client, world: &mut World| {
        let out = bob.send_channel(world, 0x4000, b"x").sent.len();
        let back = world.deliver_outside(bob.relayed, PEER, b"x").sent.len();
        assert_eq!(out, back);
        out == 1
    };
    world.pass(Duration::from_millis(299_999));
    assert!(passes(&mut bob, &mut world));
    world.pass(Duration::from_millis(1));
    assert!(!passes(&mut bob, &mut world), "the permission has ended");
    assert_eq!(world.discarded(Discard::NoPermission), 1);
    assert_success(&bob.permit(&mut world, PEER));
    assert!(passes(&mut bob, &mut world), "and is there again");
    world.pass(Duration::from_millis(299_999));
    assert!(passes(&mut bob, &mut world));
    assert_success(&bob.permit(&mut world, PEER));
    world.pass(Duration::from_millis(1));
    assert!(bob.send_channel(&mut world, 0x4000, b"x").is_silent(), "the channel has ended");
    assert_eq!(world.discarded(Discard::NoChannel), 1);
    let turn = world.deliver_outside(bob.relayed, PEER, b"x");
    assert_eq!(ChannelData::parse(&turn.only().payload), None, "a Data indication now");
    // The number may stand for another peer now.
    assert_success(&bob.bind(&mut world, 0x4000, "9.9.9.9:4001"));
}

#[test]
fn data_for_a_channel_that_nobody_bound() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    assert!(bob.send_channel(&mut world, 0x4000, b"x").is_silent());
    assert_eq!(world.discarded(Discard::NoChannel), 1);
    for malformed in [&[0x40][..], &[0x40, 0, 0], &[0x40, 0, 0, 5, 1, 2, 3, 4]] {
        assert!(bob.send(&mut world, malformed).is_silent());
    }
    assert_eq!(world.discarded(Discard::MalformedChannelData), 3);
    bob.address = address("7.7.7.7:1001");
    assert!(bob.send_channel(&mut world, 0x4000, b"x").is_silent());
    assert_eq!(world.discarded(Discard::NoAllocation), 1);
}

#[test]
fn an_unknown_attribute_refuses_the_binding() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    let turn = bob.ask(&mut world, Method::CHANNEL_BIND, |writer| {
        writer.channel_number(0x4000).xor_peer_address(address(PEER)).attribute(AttributeType(0x7001), b"?");
    });
    assert_error(&turn, 420);
}
