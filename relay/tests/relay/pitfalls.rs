//! What goes wrong with TURN servers on the open internet, each carried out. What is done elsewhere is named here, so that
//! the list stays whole:
//!
//! 1. The relay as a way into the house: `attack::the_relay_is_no_way_into_the_house`, `every_address_of_this_host` here.
//! 2. Denied addresses written otherwise: `attack::the_relay_is_no_way_into_the_house`.
//! 3. IPv4 inside of IPv6: the same, and `peer_policy`'s property test.
//! 4. Ranges compared per octet: `peer_policy`'s `a_prefix_is_compared_bit_by_bit`.
//! 5. Checks at some entries only: `every_entry_asks_the_policy` here.
//! 6. Amplification before authentication: `attack::the_relay_is_a_poor_amplifier`,
//!    `attack::a_source_prefix_gets_only_so_many_answers`.
//! 7. State before proof of address: `a_hundred_thousand_spoofed_sources` here.
//! 8. DTLS state before a cookie: `a_client_hello_is_nobody_s` here; the relay serves no DTLS.
//! 9. Predictable nonces and ports: `nothing_is_predictable` here.
//! 10. Attributes behind the seal: `attack::a_peer_smuggled_in_behind_the_seal_is_not_seen`.
//! 11. Comparison that takes longer for better guesses, secrets in logs: `secrets_are_not_shown` here; `aws_lc_rs` compares.
//! 12. Lengths that lie, padding that tells: `attack::garbage`, `padding_tells_nothing` here, the fuzz targets.
//! 13. Evaded quotas: `allocate::quotas`, `mobility::moving_evades_no_quota`, all of `quota` (`coming_back_fills_no_bucket`),
//!     `a_reserved_port_is_no_second_share` and `what_may_come_back_counts_as_long_as_it_lives` here.
//! 14. Floods of permissions and channels: `floods_end_at_the_limits`, `what_waits_for_a_socket_is_bounded` here,
//!     `quota::permissions_of_a_user_of_a_source_and_in_total`, `quota::channels_of_a_user_of_a_source_and_in_total`.
//! 15. CONNECT as a port scanner: `tcp_allocations_are_not_to_be_had` here;
//!     where they are on, `tcp_bounds::ports_cannot_be_scanned`.
//! 16. Stolen mobility tickets: `mobility::a_ticket_is_worth_nothing_to_another_user`.
//! 17. Injection through names: `a_name_is_octets_and_nothing_more` here; there is no database and no telnet.
//! 18. Metrics through the relay: `attack::send_asks_the_policy_too`; labels are enumerations (`datapath::counters`).
//! 19. Loops, answers to answers: `attack::responses_and_foreign_indications_are_never_answered`, `turn_inside_of_turn` here.
//! 20. Nonces and realms nobody checks: `allocate::a_nonce_belongs_to_one_address`, `allocate::a_stale_nonce_is_replaced`;
//!     FINGERPRINT: `allocate::a_fingerprint_is_checked_and_given_back`; retransmissions:
//!     `allocate::a_retransmitted_allocate_gets_the_same_answer`; lifetimes without end:
//!     `allocate::lifetimes_are_kept_within_bounds`.
//! 21. Credentials that never end: `allocate::unless_expiry_is_strict`, `allocate::a_revoked_user_has_nothing_left`,
//!     `allocate::who_is_removed_from_a_call_has_nothing_left`.
//! 22. The server's own trusted address as the source: `every_address_of_this_host` here: a relayed address may be one that
//!     nothing trusts, and reaches no other address of this host.

use std::time::Duration;

use datapath::stun::{AttributeType, Class, Method, TransactionId, Writer};
use datapath::{Discard, Endpoint, Node, SocketEvent};
use relay::{Credentials, PeerPolicy};

use crate::client::{Client, assert_error, assert_success, parse};
use crate::world::{PEER, World, address};

#[test]
fn every_address_of_this_host() {
    let own = ["1.2.3.4", "1.2.3.5", "5.5.5.5"].map(|ip| ip.parse().unwrap());
    let mut world = World::with(|settings| settings.peer_policy = PeerPolicy::new(vec![], vec![], own.to_vec()));
    let mut bob = Client::bob().allocated(&mut world);
    for peer in ["1.2.3.4:22", "1.2.3.5:8008", "5.5.5.5:8448"] {
        assert_error(&bob.bind(&mut world, 0x4000, peer), 403);
        assert!(bob.send_data(&mut world, peer, b"x").sent.is_empty());
    }
    assert_success(&bob.permit(&mut world, "5.5.5.5:1"));
    assert!(bob.send_data(&mut world, "5.5.5.5:8448", b"x").is_silent());
    // The same written as IPv6: mapped, compatible, NAT64, 6to4 and Teredo.
    let mut v6 = Client::named("bob", "builder", "7.7.7.7:1001");
    v6.challenge(&mut world);
    let turn = v6.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).requested_address_family(2);
    });
    v6.accept_allocation(&turn);
    for own in ["::ffff:1.2.3.4", "::1.2.3.4", "64:ff9b::1.2.3.4", "2002:102:304::1", "2001::fefd:fcfb"] {
        let peer = format!("[{own}]:22");
        assert_error(&v6.permit(&mut world, &peer), 403);
        assert_error(&v6.bind(&mut world, 0x4000, &peer), 403);
        assert!(v6.send_data(&mut world, &peer, b"x").is_silent(), "{peer}");
    }
}

#[test]
fn every_entry_asks_the_policy() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    assert_error(&bob.permit(&mut world, "10.0.0.1:1"), 403);
    assert_error(&bob.bind(&mut world, 0x4000, "10.0.0.1:1"), 403);
    assert!(bob.send_data(&mut world, "10.0.0.1:1", b"x").is_silent());
    assert!(bob.send_channel(&mut world, 0x4000, b"x").is_silent());
    let mixed = bob.ask(&mut world, Method::CREATE_PERMISSION, |writer| {
        writer.xor_peer_address(address(PEER)).xor_peer_address(address("10.0.0.1:1"));
    });
    assert_error(&mixed, 403);
    assert!(mixed.orders.is_empty(), "nor does the good one of a pair open a socket");
}

/// Forged requests of every kind, and one that replays a nonce from elsewhere.
#[test]
fn a_hundred_thousand_spoofed_sources() {
    let mut world = World::new();
    let mut forger = Client::bob();
    forger.challenge(&mut world);
    for host in 0..100_000u32 {
        let [_, a, b, c] = host.to_be_bytes();
        forger.address = format!("77.{a}.{b}.{c}:1").parse().unwrap();
        match host % 3 {
            0 => _ = forger.allocate(&mut world),
            1 => _ = forger.refresh(&mut world, 600),
            _ => {
                let plain = forger.plain(Method::ALLOCATE);
                forger.send(&mut world, &plain);
            }
        }
    }
    assert_eq!(world.server.allocations(), 0);
    assert!(world.server.poll_timeout().is_none());
    world.pass(Duration::from_secs(10));
    // Sealed with the right password, but with a nonce that this address was never sent.
    assert_error(&forger.allocate(&mut world), 438);
}

#[test]
fn a_client_hello_is_nobody_s() {
    let mut world = World::new();
    let bob = Client::bob();
    let hello = [&[22, 0xFE, 0xFD][..], &[0; 60]].concat();
    for _ in 0..1000 {
        assert!(bob.send(&mut world, &hello).is_silent());
    }
    assert_eq!(world.discarded(Discard::UnknownProtocol), 1000);
}

#[test]
fn nothing_is_predictable() {
    let ports = |key: u8, entropy: u8| {
        let mut world = World::seeded(entropy, |settings| {
            settings.nonce_key = [key; 32];
            settings.limits.allocations_per_user = 50;
        });
        let mut nonces = Vec::new();
        let ports: Vec<u16> = (0..20)
            .map(|from| {
                let bob = Client::named("bob", "builder", &format!("7.7.{from}.7:1")).allocated(&mut world);
                nonces.push(bob.nonce[13..].to_vec());
                bob.relayed.port()
            })
            .collect();
        nonces.sort_unstable();
        nonces.dedup();
        assert_eq!(nonces.len(), 20, "another nonce for each address");
        (ports, nonces)
    };
    let (ports_1, nonces_1) = ports(1, 1);
    let (ports_2, nonces_2) = ports(2, 2);
    assert_ne!(ports_1, ports_2);
    assert!(nonces_1.iter().all(|nonce| !nonces_2.contains(nonce)));
    assert!(ports_1.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() < 5);
}

#[test]
fn secrets_are_not_shown() {
    let credentials = Credentials::new("hausruf").with_user("bob", "builder").with_secret(b"northern-light");
    let shown = format!("{credentials:?}");
    assert!(!shown.contains("builder") && !shown.contains("northern") && !shown.contains("bob"), "{shown}");
    let world = World::new();
    let shown = format!("{:?}", world.server);
    assert!(!shown.contains("builder"), "{shown}");
    let (builder, ascii) = (format!("{:?}", b"builder"), format!("{:?}", b"north"));
    assert!(!shown.contains(builder.trim_matches(['[', ']'])) && !shown.contains(ascii.trim_matches(['[', ']'])));
}

/// The padding of an answer is zero, whatever was written where it lies before.
#[test]
fn padding_tells_nothing() {
    let mut world = World::new();
    let mut bob = Client::bob().permitted(&mut world);
    for length in [1usize, 2, 3, 5, 6, 7] {
        world.deliver_outside(bob.relayed, PEER, &[0xEE; 64]);
        let turn = world.deliver_outside(bob.relayed, PEER, &vec![7; length]);
        let payload = &turn.only().payload;
        let padding = &payload[payload.len() - (length.next_multiple_of(4) - length)..];
        assert!(padding.iter().all(|octet| *octet == 0), "{payload:?}");
    }
    let request = bob.plain(Method::ALLOCATE);
    let challenge = bob.send(&mut world, &request);
    // ERROR-CODE, then REALM "hausruf": one octet of padding.
    assert_eq!(challenge.only().payload[20 + 8 + 4 + 7], 0);
}

#[test]
fn a_reserved_port_is_no_second_share() {
    let mut world = World::with(|settings| settings.limits.allocations_per_user = 1);
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let pair = bob.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).even_port(true);
    });
    let token = parse(pair.only()).reservation_token().unwrap();
    let mut second = Client::named("bob", "builder", "7.7.7.7:1001");
    second.challenge(&mut world);
    let claim = second.ask(&mut world, Method::ALLOCATE, |writer| {
        writer.requested_transport(17).reservation_token(token);
    });
    assert_error(&claim, 486);
    // An allocation and its end, over and over, leave nothing taken.
    for _ in 0..100 {
        assert_success(&bob.refresh(&mut world, 0));
        let turn = bob.ask(&mut world, Method::ALLOCATE, |writer| {
            writer.requested_transport(17).even_port(true);
        });
        bob.accept_allocation(&turn);
        world.pass(Duration::from_secs(1));
    }
}

/// A connection breaks, and its allocation waits for whoever has the ticket: each takes its share until it ends.
#[test]
fn what_may_come_back_counts_as_long_as_it_lives() {
    let mut world = World::with(|settings| settings.limits.allocations_per_user = 2);
    let begin = |world: &mut World, id| {
        let local = Endpoint::Stream { id, ip: [5, 5, 5, 5].into() };
        let mut bob = Client { local, ..Client::bob() };
        bob.challenge(world);
        let turn = bob.ask(world, Method::ALLOCATE, |writer| {
            writer.requested_transport(17).mobility_ticket(&[]);
        });
        world.event(SocketEvent::StreamClosed { local, remote: bob.address });
        parse(turn.only()).error_code().map(|code| code.0)
    };
    assert_eq!([1, 2, 3, 4].map(|id| begin(&mut world, id)), [None, None, Some(486), Some(486)]);
    world.pass(Duration::from_secs(600));
    assert_eq!(begin(&mut world, 5), None);
}

/// Before the kernel has answered whether the relay socket is there.
#[test]
fn what_waits_for_a_socket_is_bounded() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    assert_eq!(bob.permit(&mut world, PEER).opens(), bob.relayed);
    for _ in 0..1000 {
        assert!(bob.permit(&mut world, PEER).is_silent());
    }
    assert_eq!(world.discarded(Discard::LimitReached), 1001 - 64);
    assert_eq!(world.opened(bob.relayed).sent.len(), 64);
}

#[test]
fn floods_end_at_the_limits() {
    let mut world = World::with(|settings| {
        (settings.limits.permissions, settings.limits.channels) = (10, 5);
    });
    let mut bob = Client::bob().permitted(&mut world);
    let refused = |turn: &crate::world::Turn| parse(turn.only()).error_code().is_some();
    let permitted = (0..100).filter(|host| !refused(&bob.permit(&mut world, &format!("9.9.8.{host}:1")))).count();
    assert_eq!(permitted, 9, "and the peer there was");
    let bound =
        (0..100u16).filter(|n| !refused(&bob.bind(&mut world, 0x4000 + n, &format!("9.9.9.9:{}", n + 1)))).count();
    assert_eq!(bound, 5);
    let crowd = bob.ask(&mut world, Method::CREATE_PERMISSION, |writer| {
        (0..60).for_each(|host| _ = writer.xor_peer_address(([9, 9, 7, host], 1).into()));
    });
    assert_error(&crowd, 508);
}

#[test]
fn tcp_allocations_are_not_to_be_had() {
    let mut world = World::new();
    let mut bob = Client::bob();
    bob.challenge(&mut world);
    let turn = bob.ask(&mut world, Method::ALLOCATE, |writer| _ = writer.requested_transport(6));
    assert_error(&turn, 442);
    let mut bob = bob.allocated(&mut world);
    // Connect, ConnectionBind, ConnectionAttempt.
    for method in [0x00A, 0x00B, 0x00C] {
        let turn = bob.ask(&mut world, Method(method), |writer| _ = writer.xor_peer_address(address(PEER)));
        assert!(turn.is_silent());
    }
}

#[test]
fn a_name_is_octets_and_nothing_more() {
    let mut world = World::new();
    for name in ["' OR 1=1 --", "%s%s%n", "bob\0", "../../etc/passwd", "bob\r\nQUIT", "", "1900000000:%n'"] {
        let mut eve = Client::named(name, "builder", "7.7.7.7:1000");
        eve.challenge(&mut world);
        assert_error(&eve.allocate(&mut world), 401);
    }
    let mut long = Client::named(&"x".repeat(600), "builder", "7.7.7.7:1000");
    long.challenge(&mut world);
    assert!(long.allocate(&mut world).is_silent(), "longer than a name can be: no STUN at all");
}

/// A client names the relay itself as its peer, or its own relayed address.
#[test]
fn turn_inside_of_turn() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    assert_success(&bob.permit(&mut world, "5.5.5.5:3479"));
    let mut inner = [0; 64];
    let writer = Writer::new(&mut inner, Class::Request, Method::ALLOCATE, TransactionId::default());
    let length = writer.finish().unwrap();
    assert!(bob.send_data(&mut world, "5.5.5.5:3479", &inner[..length]).is_silent(), "a listener is no peer");
    let own = bob.relayed.to_string();
    let turn = bob.send_data(&mut world, &own, b"x");
    let back = world.deliver_memory(bob.relayed, &own, &turn.only().payload);
    assert_eq!(back.sent.len(), 1, "his own datagram comes back to him once");
    assert_eq!(parse(back.only()).attribute(AttributeType::DATA), Some(&b"x"[..]));
}
