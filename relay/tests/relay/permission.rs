use std::time::Duration;

use datapath::stun::{AttributeType, Class, Method, TransactionId, Writer};
use datapath::{Discard, Endpoint, Order, SocketEvent};

use crate::client::{Client, assert_error, assert_success, parse};
use crate::world::{PEER, Sent, World, address};

#[test]
fn the_first_outside_peer_opens_the_socket_and_the_answer_waits_for_it() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    let relayed = bob.permit(&mut world, PEER).opens();
    assert_eq!(relayed, bob.relayed);
    // Another request waits with it, and a retransmission is not answered twice.
    let second = bob.request(Method::CREATE_PERMISSION, |writer| {
        writer.xor_peer_address(address("9.9.9.10:1"));
    });
    assert!(bob.send(&mut world, &second).is_silent());
    assert!(bob.send(&mut world, &second).is_silent());
    let turn = world.opened(relayed);
    assert_eq!(turn.sent.len(), 2);
    for sent in &turn.sent {
        assert_eq!(parse(sent).class(), Class::SuccessResponse);
        assert!(parse(sent).verify_integrity(&bob.key));
    }
    // From now on there is nothing to wait for.
    assert_success(&bob.permit(&mut world, "9.9.9.11:1"));
}

#[test]
fn a_socket_that_does_not_open_is_508_and_permits_nothing() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    let relayed = bob.permit(&mut world, PEER).opens();
    assert_error(&world.event(SocketEvent::Failed { relayed }), 508);
    assert!(bob.send_data(&mut world, PEER, b"x").is_silent());
    assert_eq!(world.discarded(Discard::NoPermission), 1);
    // The next request tries again.
    assert_eq!(bob.bind(&mut world, 0x4000, PEER).opens(), relayed);
    assert_error(&world.event(SocketEvent::Failed { relayed }), 508);
    assert!(bob.send_channel(&mut world, 0x4000, b"x").is_silent());
    assert_eq!(world.discarded(Discard::NoChannel), 1);
}

#[test]
fn send_and_data() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    let turn = bob.send_data(&mut world, PEER, b"hello");
    let expected =
        Sent { local: Endpoint::Relay { address: bob.relayed }, remote: address(PEER), payload: b"hello".to_vec() };
    assert_eq!(*turn.only(), expected);
    // RFC 8656 §9: a permission is for an address, whatever the port.
    let turn = world.deliver_outside(bob.relayed, "9.9.9.9:5000", b"hi");
    assert_eq!((turn.only().local, turn.only().remote), (bob.local, bob.address));
    let data = parse(turn.only());
    assert_eq!((data.class(), data.method()), (Class::Indication, Method::DATA));
    assert_eq!(data.data(), Some(&b"hi"[..]));
    assert_eq!(data.xor_peer_address(), Some(address("9.9.9.9:5000")));
}

#[test]
fn nothing_passes_without_a_permission() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    assert!(bob.send_data(&mut world, "9.9.9.8:4000", b"x").is_silent());
    assert_eq!(world.discarded(Discard::NoPermission), 1);
    assert!(world.deliver_outside(bob.relayed, "9.9.9.8:4000", b"x").is_silent());
    assert_eq!(world.discarded(Discard::UnsolicitedPeer), 1);
    let stranger = Client::named("bob", "builder", "7.7.7.7:1001");
    let mut stranger = stranger;
    assert!(stranger.send_data(&mut world, PEER, b"x").is_silent());
    assert_eq!(world.discarded(Discard::NoAllocation), 1);
}

#[test]
fn a_permission_lasts_five_minutes() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    world.pass(Duration::from_secs(299));
    assert_eq!(bob.send_data(&mut world, PEER, b"x").sent.len(), 1);
    assert_success(&bob.permit(&mut world, PEER));
    world.pass(Duration::from_millis(299_999));
    assert_eq!(bob.send_data(&mut world, PEER, b"x").sent.len(), 1);
    assert_eq!(world.deliver_outside(bob.relayed, PEER, b"x").sent.len(), 1);
    world.pass(Duration::from_millis(1));
    assert!(bob.send_data(&mut world, PEER, b"x").is_silent());
    assert!(world.deliver_outside(bob.relayed, PEER, b"x").is_silent());
}

#[test]
fn several_peers_are_permitted_together_or_not_at_all() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    let mut ask = |peers: &[&str]| {
        bob.ask(&mut world, Method::CREATE_PERMISSION, |writer| {
            for peer in peers {
                writer.xor_peer_address(address(peer));
            }
        })
    };
    assert_error(&ask(&["9.9.9.1:1", "10.0.0.1:1"]), 403);
    assert_error(&ask(&["9.9.9.1:1", "[2600::9]:1"]), 443);
    assert_error(&ask(&[]), 400);
    assert_success(&ask(&["9.9.9.2:1", "9.9.9.3:1"]));
    assert!(bob.send_data(&mut world, "9.9.9.1:1", b"x").is_silent());
    assert_eq!(bob.send_data(&mut world, "9.9.9.3:1", b"x").sent.len(), 1);
}

#[test]
fn permissions_are_limited_and_make_room_when_they_end() {
    let mut world = World::with(|settings| settings.limits.permissions = 2);
    let mut bob = Client::bob().permitted(&mut world);
    assert_success(&bob.permit(&mut world, "9.9.9.2:1"));
    assert_error(&bob.permit(&mut world, "9.9.9.3:1"), 508);
    assert_error(&bob.bind(&mut world, 0x4000, "9.9.9.3:1"), 508);
    assert_success(&bob.permit(&mut world, PEER));
    world.pass(Duration::from_secs(300));
    assert_success(&bob.permit(&mut world, "9.9.9.3:1"));
    assert_success(&bob.permit(&mut world, "9.9.9.4:1"));
    assert_error(&bob.permit(&mut world, PEER), 508);
}

#[test]
fn a_send_that_cannot_be_understood_goes_nowhere() {
    let mut world = World::new();
    let bob = Client::bob().permitted(&mut world);
    let mut send = |attributes: fn(&mut Writer<'_>)| {
        let mut buffer = [0; 200];
        let mut writer = Writer::new(&mut buffer, Class::Indication, Method::SEND, TransactionId::default());
        attributes(&mut writer);
        let length = writer.finish().unwrap();
        bob.send(&mut world, &buffer[..length]).sent.len()
    };

    assert_eq!(send(|writer| _ = writer.xor_peer_address(address(PEER)).data(b"x").priority(0).username(b"")), 0);
    assert_eq!(send(|writer| _ = writer.data(b"x")), 0);
    assert_eq!(send(|writer| _ = writer.xor_peer_address(address(PEER))), 0);
    assert_eq!(send(|writer| _ = writer.xor_peer_address(address(PEER)).data(b"")), 1, "empty datagrams are datagrams");
    assert_eq!(world.discarded(Discard::UnexpectedStun), 1);
    assert_eq!(world.discarded(Discard::MalformedStun), 2);
}

#[test]
fn an_icmp_error_reaches_the_client_of_a_permitted_peer() {
    let mut world = World::new();
    let bob = Client::bob().permitted(&mut world);
    let mut icmp = |remote: &str, kind| {
        let remote = address(remote);
        world.event(SocketEvent::IcmpError { relayed: bob.relayed, remote, kind, code: 3, mtu: 0 })
    };
    let turn = icmp(PEER, 3);
    let message = parse(turn.only());
    assert_eq!(message.method(), Method::DATA);
    assert_eq!(message.xor_peer_address(), Some(address(PEER)));
    assert_eq!(message.attribute(AttributeType::ICMP), Some(&[0, 0, 6, 3, 0, 0, 0, 0][..]));
    assert!(icmp(PEER, 8).is_silent());
    assert!(icmp("9.9.9.8:1", 3).is_silent());
}

/// RFC 8656 §7.2, §11.2 and §14.
#[test]
fn a_client_may_ask_for_datagrams_that_are_not_fragmented() {
    let mut world = World::new();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let turn = bob.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).dont_fragment();
    });
    bob.accept_allocation(&turn);
    let relayed = bob.permit(&mut world, PEER).opens();
    assert_success(&world.opened(relayed));
    let send = |world: &mut World, peer: &str, unfragmented: bool| {
        let mut buffer = [0; 200];
        let mut writer = Writer::new(&mut buffer, Class::Indication, Method::SEND, TransactionId::default());
        writer.xor_peer_address(address(peer)).data(b"whole");
        if unfragmented {
            writer.dont_fragment();
        }
        let length = writer.finish().unwrap();
        bob.send(world, &buffer[..length])
    };
    let turn = send(&mut world, PEER, true);
    let local = Endpoint::Relay { address: relayed };
    assert_eq!(turn.unfragmented, [Sent { local, remote: address(PEER), payload: b"whole".to_vec() }]);
    assert!(turn.sent.is_empty());
    let turn = send(&mut world, PEER, false);
    assert_eq!((turn.sent.len(), turn.unfragmented.len()), (1, 0));
    assert!(send(&mut world, "9.9.9.8:1", true).is_silent(), "it is no way around permissions");
    // The kernel says that one was too long, and how long it may be.
    let remote = address(PEER);
    let turn = world.event(SocketEvent::IcmpError { relayed, remote, kind: 3, code: 4, mtu: 1280 });
    let message = parse(turn.only());
    assert_eq!(message.xor_peer_address(), Some(remote));
    assert_eq!(message.attribute(AttributeType::ICMP), Some(&[0, 0, 6, 4, 0, 0, 5, 0][..]));
}

/// What another client of this server gets was never a packet.
#[test]
fn in_memory_nothing_is_fragmented() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    assert_success(&bob.permit(&mut world, "5.5.5.5:1"));
    let mut buffer = [0; 200];
    let mut writer = Writer::new(&mut buffer, Class::Indication, Method::SEND, TransactionId::default());
    writer.xor_peer_address(bob.relayed).data(b"whole").dont_fragment();
    let length = writer.finish().unwrap();
    let turn = bob.send(&mut world, &buffer[..length]);
    assert_eq!(turn.only().local, Endpoint::Memory { address: bob.relayed });
    assert!(turn.unfragmented.is_empty());
}

#[test]
fn a_socket_that_went_away_is_opened_again() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    let relayed = bob.relayed;
    assert!(world.event(SocketEvent::Closed { relayed }).is_silent());
    let turn = bob.send_data(&mut world, PEER, b"x");
    assert_eq!(turn.orders, [Order::OpenRelay { relayed }]);
    assert_eq!(turn.sent.len(), 1, "orders come before datagrams");
}
