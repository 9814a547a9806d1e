use std::time::Duration;

use datapath::stun::{AttributeType, Class, Method, TransactionId, Writer};
use datapath::{Discard, Endpoint, Node, Order, Traffic};

use crate::client::{Client, assert_error, assert_success, parse};
use crate::world::{UNIX, World, address};

#[test]
fn a_binding_request_is_answered_in_32_octets() {
    let mut world = World::new();
    let mut bob = Client::bob();
    let request = bob.plain(Method::BINDING);
    let turn = bob.send(&mut world, &request);
    assert_eq!(turn.only().payload.len(), 32);
    assert_eq!(turn.only().local, bob.local);
    assert_eq!(parse(turn.only()).xor_mapped_address(), Some(bob.address));
    bob.address = address("[2600::7]:9");
    let request = bob.plain(Method::BINDING);
    let turn = bob.send(&mut world, &request);
    assert_eq!(parse(turn.only()).xor_mapped_address(), Some(bob.address));
    assert_eq!(world.counters().sent[Traffic::Stun as usize].packets, 2);
}

#[test]
fn an_allocation_from_challenge_to_success() {
    let mut world = World::new();
    let mut bob = Client::bob();
    let request = bob.plain(Method::ALLOCATE);
    let turn = bob.send(&mut world, &request);
    assert_error(&turn, 401);
    let challenge = parse(turn.only());
    assert_eq!(challenge.realm(), Some(&b"hausruf"[..]));
    assert!(!challenge.has_integrity());
    bob.learn_nonce(&turn);

    let turn = bob.allocate(&mut world);
    let answer = parse(turn.only());
    assert_eq!(answer.class(), Class::SuccessResponse);
    assert!(answer.verify_integrity(&bob.key));
    assert_eq!(answer.xor_mapped_address(), Some(bob.address));
    assert_eq!(answer.lifetime(), Some(600));
    let relayed = answer.xor_relayed_address().unwrap();
    assert_eq!(relayed.ip(), address("5.5.5.5:0").ip());
    assert!((50_000..=50_099).contains(&relayed.port()));
    assert!(turn.orders.is_empty(), "no socket before an outside peer is named");
    assert_eq!(world.server.allocations(), 1);
}

#[test]
fn the_relayed_address_is_the_one_the_client_talks_to_if_it_can_be() {
    let mut world = World::with(|settings| {
        settings.relayed = ["5.5.5.5", "6.6.6.6"].map(|ip| ip.parse().unwrap()).to_vec();
    });
    let mut relayed_ip_at = |ip: &str, from: &str| {
        let mut bob = Client::named("bob", "builder", from);
        bob.local = Endpoint::Listener { index: 0, ip: ip.parse().unwrap() };
        bob.allocated(&mut world).relayed.ip().to_string()
    };
    assert_eq!(relayed_ip_at("6.6.6.6", "7.7.7.7:1"), "6.6.6.6");
    assert_eq!(relayed_ip_at("5.5.5.5", "7.7.7.7:2"), "5.5.5.5");
    assert_eq!(relayed_ip_at("10.0.0.1", "7.7.7.7:3"), "5.5.5.5", "behind a 1:1 NAT");
}

#[test]
fn a_retransmitted_allocate_gets_the_same_answer() {
    let mut world = World::new();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let request = bob.request(Method::ALLOCATE, |writer| {
        writer.requested_transport(17).lifetime(1200).even_port(true);
    });
    let first = bob.send(&mut world, &request);
    assert!(parse(first.only()).reservation_token().is_some());
    world.pass(Duration::from_secs(3));
    assert_eq!(bob.send(&mut world, &request), first);
    assert_eq!(world.server.allocations(), 1);
    // Another request is not a retransmission.
    assert_error(&bob.allocate(&mut world), 437);
}

#[test]
fn what_allocate_refuses() {
    let mut world = World::with(|settings| settings.relayed.truncate(1));
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    type Attributes = fn(&mut Writer<'_>);
    let cases: [(u16, Attributes); 8] = [
        (400, |_| ()),
        (442, |writer| {
            writer.requested_transport(6);
        }),
        (420, |writer| {
            writer.requested_transport(17).attribute(AttributeType(0x7FFF), &[]);
        }),
        (440, |writer| {
            writer.requested_transport(17).requested_address_family(2);
        }),
        (440, |writer| {
            writer.requested_transport(17).requested_address_family(3);
        }),
        (400, |writer| {
            writer.requested_transport(17).reservation_token([1; 8]).even_port(false);
        }),
        (400, |writer| {
            writer.requested_transport(17).reservation_token([1; 8]).requested_address_family(1);
        }),
        (508, |writer| {
            writer.requested_transport(17).reservation_token([1; 8]);
        }),
    ];
    for (code, attributes) in cases {
        let turn = bob.ask(&mut world, Method::ALLOCATE, attributes);
        assert_error(&turn, code);
        assert!(parse(turn.only()).verify_integrity(&bob.key), "an authenticated refusal is signed");
    }
    for method in [Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        assert_error(&bob.ask(&mut world, method, |_| ()), 437);
    }
    assert_eq!(world.server.allocations(), 0);
}

#[test]
fn unknown_attributes_are_named() {
    let mut world = World::new();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let turn = bob.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).attribute(AttributeType(0x7FFF), &[]);
    });
    assert!(parse(turn.only()).unknown_attributes().eq([AttributeType(0x7FFF)]));
}

#[test]
fn ipv6_where_it_is_asked_for() {
    let mut world = World::new();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let turn = bob.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).requested_address_family(2);
    });
    bob.accept_allocation(&turn);
    assert_eq!(bob.relayed.ip().to_string(), "2600::5");
    assert_error(&bob.permit(&mut world, "9.9.9.9:1"), 443);
    assert_error(&bob.bind(&mut world, 0x4000, "9.9.9.9:1"), 443);
    assert_eq!(bob.permit(&mut world, "[2600::9]:1").opens(), bob.relayed);
    let turn = bob.ask(&mut world, Method::REFRESH, |writer| {
        writer.requested_address_family(1);
    });
    assert_error(&turn, 443);
}

#[test]
fn even_port_and_the_reserved_next() {
    let mut world = World::new();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let turn = bob.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).even_port(true);
    });
    bob.accept_allocation(&turn);
    assert!(bob.relayed.port().is_multiple_of(2));
    let token = parse(turn.only()).reservation_token().unwrap();

    let claim = |writer: &mut Writer<'_>| {
        writer.requested_transport(17).reservation_token(token);
    };
    let mut eve = Client::rest("1900000000:eve", "8.8.8.8:1");
    eve.challenge(&mut world);
    assert_error(&eve.ask(&mut world, Method::ALLOCATE, claim), 508);
    let mut second = Client::named("bob", "builder", "7.7.7.7:1001");
    second.challenge(&mut world);
    let turn = second.ask(&mut world, Method::ALLOCATE, claim);
    second.accept_allocation(&turn);
    assert_eq!(second.relayed.port(), bob.relayed.port() + 1);
    let mut third = Client::named("bob", "builder", "7.7.7.7:1002");
    third.challenge(&mut world);
    assert_error(&third.ask(&mut world, Method::ALLOCATE, claim), 508);
    // The first may go, the second stays.
    assert_success(&bob.refresh(&mut world, 0));
    assert_success(&second.refresh(&mut world, 600));
}

#[test]
fn a_reservation_runs_out() {
    let mut world = World::with(|settings| settings.ports = 50_000..=50_001);
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let turn = bob.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).even_port(true);
    });
    bob.accept_allocation(&turn);
    let token = parse(turn.only()).reservation_token().unwrap();
    let mut second = Client::named("bob", "builder", "7.7.7.7:1001");
    second.challenge(&mut world);
    assert_error(&second.allocate(&mut world), 508);
    world.pass(Duration::from_secs(30));
    let claim = second.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).reservation_token(token);
    });
    assert_error(&claim, 508);
    let turn = second.allocate(&mut world);
    second.accept_allocation(&turn);
    assert_eq!(second.relayed.port(), 50_001);
    assert_error(&Client::named("bob", "builder", "7.7.7.7:1002").tap_challenge(&mut world).allocate(&mut world), 508);
}

#[test]
fn quotas() {
    let mut world = World::with(|settings| {
        settings.limits.allocations_per_user = 2;
        settings.limits.allocations_per_prefix = 3;
    });
    let mut of = |username: &str, from: &str| {
        let mut client = Client::rest(username, from).tap_challenge(&mut world);
        let turn = client.allocate(&mut world);
        parse(turn.only()).error_code().map(|code| code.0)
    };
    assert_eq!(of("1900000000:alice", "7.7.7.7:1"), None);
    assert_eq!(of("1900000009:alice", "7.7.7.7:2"), None);
    assert_eq!(of("1900000005:alice", "8.8.8.8:3"), Some(486), "another credential of the same user");
    assert_eq!(of("1900000000:carol", "7.7.7.8:4"), None);
    assert_eq!(of("1900000000:dave", "7.7.7.9:5"), Some(486), "the /24 is full");
    assert_eq!(of("1900000000:dave", "7.7.8.9:5"), None);
}

#[test]
fn a_deallocation_gives_its_share_back() {
    let mut world = World::with(|settings| settings.limits.allocations_per_user = 1);
    let mut bob = Client::bob().allocated(&mut world);
    for _ in 0..200 {
        assert_success(&bob.refresh(&mut world, 0));
        assert_error(&bob.refresh(&mut world, 0), 437);
        let turn = bob.allocate(&mut world);
        bob.accept_allocation(&turn);
    }
    assert_eq!(world.server.allocations(), 1);
}

#[test]
fn lifetimes_are_kept_within_bounds() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    for (asked, granted) in [(1, 600), (600, 600), (1000, 1000), (3600, 3600), (u32::MAX, 3600)] {
        assert_eq!(parse(bob.refresh(&mut world, asked).only()).lifetime(), Some(granted));
    }
}

#[test]
fn an_allocation_ends_with_its_lifetime_and_its_socket_with_it() {
    let mut world = World::new();
    let bob = Client::bob().permitted(&mut world);
    assert!(world.pass(Duration::from_secs(599)).is_silent());
    assert_eq!(world.server.allocations(), 1);
    let turn = world.pass(Duration::from_secs(1));
    assert_eq!(turn.orders, [Order::CloseRelay { relayed: bob.relayed }]);
    assert_eq!(world.server.allocations(), 0);
    assert!(world.server.poll_timeout().is_none());
    assert!(world.deliver_outside(bob.relayed, crate::world::PEER, b"late").is_silent());
    assert_eq!(world.discarded(Discard::NoAllocation), 1);
}

#[test]
fn a_late_wake_up_lengthens_nothing() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    world.advance(Duration::from_secs(600));
    let turn = bob.send_data(&mut world, crate::world::PEER, b"late");
    assert!(turn.sent.is_empty());
    assert_eq!(turn.orders, [Order::CloseRelay { relayed: bob.relayed }]);
}

#[test]
fn a_refresh_moves_the_end_both_ways() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    world.pass(Duration::from_secs(500));
    assert_success(&bob.refresh(&mut world, 1500));
    world.pass(Duration::from_secs(1499));
    assert_eq!(world.server.allocations(), 1);
    assert_success(&bob.refresh(&mut world, 1500));
    world.pass(Duration::from_secs(1));
    assert_success(&bob.refresh(&mut world, 600));
    world.pass(Duration::from_secs(599));
    assert_eq!(world.server.allocations(), 1);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.server.allocations(), 0);
}

#[test]
fn a_stale_nonce_is_replaced() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    world.pass(Duration::from_secs(300));
    assert_success(&bob.refresh(&mut world, 3600));
    world.pass(Duration::from_secs(3301));
    let turn = bob.refresh(&mut world, 3600);
    assert_error(&turn, 438);
    bob.learn_nonce(&turn);
    assert_success(&bob.refresh(&mut world, 3600));
}

#[test]
fn a_nonce_belongs_to_one_address() {
    let mut world = World::new();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    bob.address = address("7.7.7.7:1001");
    assert_error(&bob.allocate(&mut world), 438);
}

#[test]
fn credentials_that_do_not_do() {
    let mut world = World::new();
    let wrong = Client::named("bob", "breaker", "7.7.7.7:1").tap_challenge(&mut world).allocate(&mut world);
    assert_error(&wrong, 401);
    assert!(!parse(wrong.only()).has_integrity());
    let unknown = Client::named("eve", "builder", "7.7.7.7:1").tap_challenge(&mut world).allocate(&mut world);
    assert_error(&unknown, 401);
    let expired = Client::rest("1799999999:eve", "7.7.7.7:1").tap_challenge(&mut world).allocate(&mut world);
    assert_error(&expired, 401);
    let forged = Client::named("1900000000:eve", "guess", "7.7.7.7:1").tap_challenge(&mut world).allocate(&mut world);
    assert_error(&forged, 401);
    assert_eq!(world.server.allocations(), 0);
}

#[test]
fn a_request_lacks_username_realm_or_nonce() {
    let mut world = World::new();
    let bob = Client::bob();
    let mut buffer = [0; 200];
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, TransactionId::default());
    writer.requested_transport(17).username(b"bob");
    let length = writer.finish_with_integrity(&bob.key, false).unwrap();
    assert_error(&bob.send(&mut world, &buffer[..length]), 400);
}

#[test]
fn a_call_may_outlast_its_credential() {
    let mut world = World::new();
    let expiry = UNIX.as_secs() + 60;
    let mut alice = Client::rest(&format!("{expiry}:alice"), "7.7.7.7:1").allocated(&mut world);
    world.pass(Duration::from_secs(61));
    assert_success(&alice.refresh(&mut world, 600));
    assert_success(&alice.refresh(&mut world, 0));
    assert_error(&alice.allocate(&mut world), 401);
}

#[test]
fn unless_expiry_is_strict() {
    let mut world = World::with(|settings| {
        settings.credentials = settings.credentials.clone().with_expiry(Duration::ZERO);
    });
    let expiry = UNIX.as_secs() + 60;
    let mut alice = Client::rest(&format!("{expiry}:alice"), "7.7.7.7:1");
    alice.challenge(&mut world);
    let turn = alice.allocate(&mut world);
    assert_eq!(parse(turn.only()).lifetime(), Some(60));
    world.pass(Duration::from_secs(30));
    assert_eq!(parse(alice.refresh(&mut world, 600).only()).lifetime(), Some(30));
    world.pass(Duration::from_secs(30));
    assert_eq!(world.server.allocations(), 0);
    assert_error(&alice.refresh(&mut world, 600), 401);
}

#[test]
fn a_strict_expiry_may_have_a_grace() {
    let mut world = World::with(|settings| {
        settings.credentials = settings.credentials.clone().with_expiry(Duration::from_secs(30));
    });
    let expiry = UNIX.as_secs() + 60;
    let mut alice = Client::rest(&format!("{expiry}:alice"), "7.7.7.7:1").tap_challenge(&mut world);
    assert_eq!(parse(alice.allocate(&mut world).only()).lifetime(), Some(90));
    world.pass(Duration::from_secs(70));
    assert_eq!(parse(alice.refresh(&mut world, 600).only()).lifetime(), Some(20));
    let mut late = Client::rest(&format!("{expiry}:alice"), "7.7.7.7:2").tap_challenge(&mut world);
    assert_error(&late.allocate(&mut world), 401);
    world.pass(Duration::from_secs(20));
    assert_eq!(world.server.allocations(), 0);
}

#[test]
fn bandwidth_is_shared_by_both_ways() {
    let mut world = World::with(|settings| settings.limits.octets_per_second = 10_000);
    let bob = Client::bob().permitted(&mut world);
    let relayed = bob.relayed;
    let mut bob = bob;
    let mut relay = |world: &mut World| {
        (0..20).filter(|_| bob.send_data(world, crate::world::PEER, &[1; 460]).sent.len() == 1).count()
    };
    let sent = relay(&mut world);
    assert!((18..=20).contains(&sent), "{sent}");
    let received = (0..20).filter(|_| world.deliver_outside(relayed, crate::world::PEER, &[1; 500]).sent.len() == 1);
    assert!(received.count() <= 2);
    assert!(world.discarded(Discard::OverBandwidth) >= 18);
    world.pass(Duration::from_millis(500));
    let later = (0..20).filter(|_| world.deliver_outside(relayed, crate::world::PEER, &[1; 500]).sent.len() == 1);
    assert_eq!(later.count(), 10);
}

#[test]
fn an_allocation_belongs_to_its_user() {
    let mut world = World::new();
    let bob = Client::bob().allocated(&mut world);
    let mut eve = Client::rest("1900000000:eve", "7.7.7.7:1000").tap_challenge(&mut world);
    assert_error(&eve.refresh(&mut world, 0), 441);
    assert_error(&eve.permit(&mut world, "9.9.9.9:1"), 441);
    assert_error(&eve.allocate(&mut world), 437);
    assert_eq!(bob.address, eve.address);
}

#[test]
fn a_revoked_user_has_nothing_left() {
    let mut world = World::new();
    const HOUR: Duration = Duration::from_secs(3600);
    let mut bob = Client::bob().permitted(&mut world);
    let mut alice = Client::rest("1900000000:alice", "7.7.7.7:2").allocated(&mut world);
    assert_eq!(world.revoke(b"bob", HOUR).orders, [Order::CloseRelay { relayed: bob.relayed }]);
    assert_eq!(world.server.allocations(), 1);
    assert!(world.revoke(b"alice", HOUR).orders.is_empty());
    assert_eq!(world.server.allocations(), 0);

    // With a good credential, and with another one of the same user.
    assert_error(&bob.allocate(&mut world), 403);
    let mut elsewhere = Client::rest("1950000000:alice", "8.8.8.8:2").tap_challenge(&mut world);
    for client in [&mut alice, &mut elsewhere] {
        assert_error(&client.allocate(&mut world), 403);
    }
    world.revoke(b"alice", Duration::ZERO);
    elsewhere.allocated(&mut world);
    world.pass(HOUR);
    bob.tap_challenge(&mut world).allocated(&mut world);
}

#[test]
fn who_is_removed_from_a_call_has_nothing_left() {
    let mut world = World::new();
    const HOUR: Duration = Duration::from_secs(3600);
    let mut users = ["PA_anna", "PA_ben", "PA_clara"].into_iter().zip(2..).map(|(user, port)| {
        Client::rest(&format!("1900000000:{user}"), &format!("7.7.7.7:{port}")).allocated(&mut world)
    });
    let [mut anna, mut ben, mut clara] = std::array::from_fn(|_| users.next().unwrap());
    drop(users);
    assert_eq!(world.withdraw(&["PA_anna", "PA_ben", "PA_gone"], HOUR), 2);
    assert_eq!(world.server.allocations(), 1);
    for client in [&mut anna, &mut ben] {
        assert_error(&client.refresh(&mut world, 600), 437);
        assert_error(&client.allocate(&mut world), 403);
    }
    assert_success(&clara.refresh(&mut world, 600));
    // What the operator says of somebody else, or for less time, changes nothing.
    world.revoke(b"PA_anna", Duration::ZERO);
    assert_error(&anna.allocate(&mut world), 403);
    world.pass(HOUR);
    anna.tap_challenge(&mut world).allocated(&mut world);
}

#[test]
fn a_fingerprint_is_checked_and_given_back() {
    let mut world = World::new();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let mut buffer = [0; 500];
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, TransactionId([9; 12]));
    writer.requested_transport(17).username(b"bob").realm(b"hausruf").nonce(&bob.nonce);
    let length = writer.finish_with_integrity(&bob.key, true).unwrap();
    let request = buffer[..length].to_vec();
    let mut broken = request.clone();
    broken[length - 1] ^= 1;
    assert!(bob.send(&mut world, &broken).is_silent());
    assert_eq!(world.discarded(Discard::MalformedStun), 1);
    let turn = bob.send(&mut world, &request);
    assert!(parse(turn.only()).fingerprint_is_valid());
}

impl Client {
    fn tap_challenge(mut self, world: &mut World) -> Client {
        self.challenge(world);
        self
    }
}
