//! What an operator sees of the allocations.

use std::time::Duration;

use datapath::counters::PacketsAndBytes;
use relay::{Limits, Relayed, Usage};

use crate::client::{Client, assert_success};
use crate::world::{PEER, World, address};

/// All pages, one after the other.
fn all(world: &World) -> Vec<Usage> {
    let (mut usages, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        let page = world.server.usage(world.now, place);
        usages.extend(page.usages);
        from = page.next;
    }
    usages
}

#[test]
fn an_allocation_tells_whose_it_is_how_long_it_lasts_and_what_it_relayed() {
    let mut world = World::new();
    assert_eq!(all(&world), []);
    let mut alice = Client::rest("1900000000:alice", "7.7.7.7:1").permitted(&mut world);
    assert_success(&alice.bind(&mut world, 0x4000, PEER));
    world.pass(Duration::from_secs(60));
    alice.send_channel(&mut world, 0x4000, b"seven o");
    alice.send_data(&mut world, PEER, b"and three");
    world.deliver_outside(alice.relayed, PEER, b"back");
    // Without a channel: a Data indication.
    assert_success(&alice.permit(&mut world, "8.8.8.8:1"));
    world.deliver_outside(alice.relayed, "8.8.8.8:5", b"again");
    // What does not pass is not counted.
    alice.send_channel(&mut world, 0x4001, b"x");
    world.deliver_outside(alice.relayed, "8.8.4.4:5", b"x");

    let usages = all(&world);
    let expected = Usage {
        user: b"alice"[..].into(),
        client: address("7.7.7.7:1"),
        local: alice.local,
        relayed: alice.relayed,
        age: Duration::from_secs(60),
        remaining: Duration::from_secs(540),
        permissions: 2,
        channels: 1,
        data: Relayed {
            to_peers: PacketsAndBytes { packets: 2, bytes: 16 },
            to_client: PacketsAndBytes { packets: 2, bytes: 9 },
        },
    };
    assert_eq!(usages, [expected]);

    // Permissions last five minutes, channels ten; a Refresh keeps the allocation.
    assert_success(&alice.refresh(&mut world, 3600));
    world.pass(Duration::from_secs(300));
    let [usage] = &all(&world)[..] else { panic!() };
    assert_eq!((usage.permissions, usage.channels), (0, 1));
    assert_eq!((usage.age, usage.remaining), (Duration::from_secs(360), Duration::from_secs(3300)));
    assert_success(&alice.refresh(&mut world, 0));
    assert_eq!(all(&world), []);
}

#[test]
fn many_allocations_come_in_pages_each_once() {
    let mut world = World::with(|settings| {
        settings.ports = 50_000..=51_000;
        settings.limits = Limits { allocations_per_prefix: 1000, ..Limits::default() };
    });
    let mut clients = Vec::new();
    for port in 1..=600 {
        let client = Client::rest(&format!("1900000000:user{port}"), &format!("7.7.{}.7:{port}", port % 8));
        clients.push(client.allocated(&mut world));
    }
    for client in clients.iter_mut().step_by(3) {
        assert_success(&client.refresh(&mut world, 0));
    }
    let first = world.server.usage(world.now, 0);
    assert!(first.usages.len() < 257 && first.next.is_some(), "a page is bounded");
    let mut told: Vec<u16> = all(&world).iter().map(|usage| usage.client.port()).collect();
    told.sort_unstable();
    let expected: Vec<u16> = (1..=600).filter(|port| port % 3 != 1).collect();
    assert_eq!(told, expected);
    assert_eq!(world.server.usage(world.now, usize::MAX), Default::default());
}
