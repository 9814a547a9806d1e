//! What has been done to other relays.

use std::time::Duration;

use datapath::stun::{AttributeType, Class, Method, TransactionId, Writer};
use datapath::{Discard, Endpoint};

use crate::client::{Client, assert_error, assert_success, parse};
use crate::world::{World, address};

/// Loopback, metadata services and private networks, in IPv4 and in every IPv6 disguise.
#[test]
fn the_relay_is_no_way_into_the_house() {
    let mut world = World::new();
    let mut v4 = Client::bob().allocated(&mut world);
    let mut v6 = Client::named("bob", "builder", "7.7.7.7:1001");
    v6.challenge(&mut world);
    let turn = v6.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).requested_address_family(2);
    });
    v6.accept_allocation(&turn);
    let of_v4 = [
        "0.0.0.0:1",
        "127.0.0.1:1",
        "127.8.8.8:1",
        "10.0.0.1:1",
        "172.20.0.1:1",
        "192.168.0.1:1",
        "169.254.169.254:80",
        "100.64.0.1:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
    ];
    let of_v6 = [
        "[::]:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "[::127.0.0.1]:1",
        "[::ffff:0:127.0.0.1]:1",
        "[64:ff9b::127.0.0.1]:1",
        "[64:ff9b::169.254.169.254]:80",
        "[64:ff9b:1::10.0.0.1]:1",
        "[2002:7f00:1::1]:1",
        "[2002:a00:1::]:1",
        "[2001:0:7f00:1::]:1",
        "[2001:0:808:808:0:0:80ff:fffe]:1",
        "[fe80::1]:1",
        "[fc00::1]:1",
        "[fec0::1]:1",
        "[ff02::1]:1",
    ];
    let mut judge = |client: &mut Client, peers: &[&str]| {
        for peer in peers {
            assert_error(&client.permit(&mut world, peer), 403);
            assert_error(&client.bind(&mut world, 0x4000, peer), 403);
            assert!(client.send_data(&mut world, peer, b"x").is_silent(), "{peer}");
        }
    };
    judge(&mut v4, &of_v4);
    judge(&mut v6, &of_v6);
}

/// A permission does not help where only the port is forbidden, nor when it was given before the policy knew better.
#[test]
fn send_asks_the_policy_too() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    assert_success(&bob.permit(&mut world, "5.5.5.5:3478"));
    assert!(bob.send_data(&mut world, "5.5.5.5:9090", b"GET /metrics").is_silent());
    assert_eq!(world.discarded(Discard::ForbiddenPeer), 1);
}

#[test]
fn spoofed_sources_leave_nothing_behind() {
    let mut world = World::new();
    let mut forger = Client::bob();
    forger.challenge(&mut world);
    for host in 0..50_000u32 {
        let [_, a, b, c] = host.to_be_bytes();
        forger.address = format!("77.{a}.{b}.{c}:1").parse().unwrap();
        forger.allocate(&mut world);
    }
    assert_eq!(world.server.allocations(), 0);
    assert!(datapath::Node::poll_timeout(&world.server).is_none());
}

/// Answers to what anybody can send: how many octets for how many.
#[test]
fn the_relay_is_a_poor_amplifier() {
    let mut world = World::with(|settings| {
        settings.credentials = relay::Credentials::new("sixteen-octets-r");
    });
    let mut client = Client::bob();
    let mut octets = |method| {
        let request = client.plain(method);
        client.send(&mut world, &request).sent.iter().map(|sent| sent.payload.len()).sum::<usize>()
    };
    assert_eq!(octets(Method::BINDING), 32);
    assert!(octets(Method::ALLOCATE) <= 92);
    assert!(octets(Method::REFRESH) <= 92);
    assert_eq!(octets(Method(0x00B)), 0, "a method that is not ours");
    assert_eq!(octets(Method(0xFFF)), 0);
    // The one answer that grows with the request: it names what nobody understands, up to a limit.
    for count in 1..40 {
        let mut request = [0; 200];
        let mut writer = Writer::new(&mut request, Class::Request, Method::BINDING, TransactionId::default());
        (0..count).for_each(|kind| _ = writer.attribute(AttributeType(0x7F00 + kind), &[]));
        let length = writer.finish().unwrap();
        let turn = client.send(&mut world, &request[..length]);
        assert_error(&turn, 420);
        let answered = turn.only().payload.len();
        assert!(answered <= 48 && 2 * answered <= 3 * length, "{answered} for {length}");
    }
}

#[test]
fn a_source_prefix_gets_only_so_many_answers() {
    let mut world = World::new();
    let mut client = Client::bob();
    let mut answers = |count: u32, world: &mut World| {
        (0..count)
            .filter(|host| {
                client.address = format!("7.7.7.{}:1", host % 256).parse().unwrap();
                let method = if host % 2 == 0 { Method::BINDING } else { Method::ALLOCATE };
                let request = client.plain(method);
                !client.send(world, &request).is_silent()
            })
            .count()
    };
    assert_eq!(answers(1000, &mut world), 400);
    assert_eq!(world.discarded(Discard::RateLimited), 600);
    world.pass(Duration::from_secs(1));
    assert_eq!(answers(1000, &mut world), 50);
}

/// Whoever has shown to receive what we send is not held back by the flood of others behind the same prefix.
#[test]
fn authenticated_requests_need_no_token() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    for _ in 0..1000 {
        let request = bob.plain(Method::BINDING);
        bob.send(&mut world, &request);
    }
    assert_success(&bob.refresh(&mut world, 600));
}

/// TCP has proved its client's address, and a nonce of ours that of whoever brings it back.
#[test]
fn a_flood_of_forged_sources_silences_nobody_whose_address_is_proved() {
    let mut world = World::with(|settings| settings.limits.nonce_lifetime = Duration::from_secs(60));
    let mut bob = Client::bob().allocated(&mut world);
    world.pass(Duration::from_secs(61));
    let mut forger = Client::bob();
    let binding = forger.plain(Method::BINDING);
    for net in 0..50_000_u32 {
        let [_, _, a, b] = net.to_be_bytes();
        forger.address = format!("77.{a}.{b}.1:1").parse().unwrap();
        forger.send(&mut world, &binding);
    }
    let mut anna = Client::named("bob", "builder", "8.8.8.8:1000");
    let request = anna.plain(Method::ALLOCATE);
    assert!(anna.send(&mut world, &request).is_silent());
    anna.local = Endpoint::Stream { id: 1, ip: [5, 5, 5, 5].into() };
    anna = anna.allocated(&mut world);
    assert_success(&anna.refresh(&mut world, 600));
    let turn = bob.refresh(&mut world, 600);
    assert_error(&turn, 438);
    bob.learn_nonce(&turn);
    assert_success(&bob.refresh(&mut world, 600));
}

#[test]
fn responses_and_foreign_indications_are_never_answered() {
    let mut world = World::new();
    let bob = Client::bob().allocated(&mut world);
    for class in [Class::SuccessResponse, Class::ErrorResponse, Class::Indication] {
        for method in 0..0x40 {
            let mut buffer = [0; 20];
            let writer = Writer::new(&mut buffer, class, Method(method), TransactionId::default());
            writer.finish().unwrap();
            assert!(bob.send(&mut world, &buffer).is_silent(), "{class:?} {method}");
        }
    }
}

/// Attributes behind MESSAGE-INTEGRITY are nobody's word.
#[test]
fn a_peer_smuggled_in_behind_the_seal_is_not_seen() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    let mut request = bob.request(Method::CREATE_PERMISSION, |_| ());
    let mut smuggled = [0; 64];
    let mut writer = Writer::new(&mut smuggled, Class::Request, Method::BINDING, TransactionId::default());
    writer.xor_peer_address(address("9.9.9.50:1"));
    let length = writer.finish().unwrap();
    request.extend_from_slice(&smuggled[20..length]);
    let total = (request.len() - 20) as u16;
    request[2..4].copy_from_slice(&total.to_be_bytes());
    assert_error(&bob.send(&mut world, &request), 400);
}

#[test]
fn a_tampered_request_changes_nothing() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    let request = bob.request(Method::REFRESH, |writer| _ = writer.lifetime(0));
    for index in 20..request.len() {
        let mut tampered = request.clone();
        tampered[index] ^= 1;
        let turn = bob.send(&mut world, &tampered);
        // The padding is covered by the seal too.
        assert!(turn.sent.iter().all(|sent| parse(sent).class() == Class::ErrorResponse), "octet {index}");
    }
    assert_eq!(world.server.allocations(), 1);
    assert_success(&bob.send(&mut world, &request));
    assert_eq!(world.server.allocations(), 0);
}

#[test]
fn relayed_ports_are_spread_and_never_shared() {
    let mut world = World::with(|settings| settings.limits.allocations_per_user = 200);
    let mut ports = Vec::new();
    for from in 0..100 {
        ports.push(Client::named("bob", "builder", &format!("7.7.{from}.7:1")).allocated(&mut world).relayed.port());
    }
    assert_ne!(ports[..4], [50_000, 50_001, 50_002, 50_003]);
    ports.sort_unstable();
    assert!(ports.iter().copied().eq(50_000..=50_099));
    let mut late = Client::named("bob", "builder", "7.7.200.7:1");
    late.challenge(&mut world);
    assert_error(&late.allocate(&mut world), 508);
}

#[test]
fn garbage() {
    let mut world = World::new();
    let bob = Client::bob().permitted(&mut world);
    for length in 0..64 {
        for first in 0..=255 {
            let mut payload = vec![first; length];
            if length >= 8 {
                payload[4..8].copy_from_slice(&datapath::stun::MAGIC_COOKIE.to_be_bytes());
            }
            assert!(bob.send(&mut world, &payload).is_silent());
        }
    }
}
