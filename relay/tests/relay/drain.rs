//! A server that goes sends new clients elsewhere (RFC 8489 §10), and keeps those whom it has.

use datapath::Endpoint;
use datapath::stun::Method;
use relay::TcpLimits;

use crate::client::{Client, assert_error, assert_success, parse};
use crate::world::{PEER, World, address};

#[test]
fn a_server_that_drains_sends_new_clients_elsewhere() {
    let mut world = World::new();
    let mut bob = Client::bob().allocated(&mut world);
    world.server.drain();
    assert_success(&bob.refresh(&mut world, 600));
    assert_eq!(bob.permit(&mut world, PEER).opens(), bob.relayed);
    let mut carol = Client::rest("1900000000:carol", "8.8.8.1:1");
    carol.challenge(&mut world);
    let turn = carol.allocate(&mut world);
    assert_error(&turn, 300);
    let answer = parse(turn.only());
    assert_eq!(answer.alternate_server(), Some(address("198.51.100.7:3478")));
    assert!(answer.verify_integrity(&carol.key), "nobody else can send clients away");
}

/// RFC 8489 §14.15: the address has the family of the request's transport address, or none is told.
#[test]
fn nobody_is_sent_to_an_address_of_the_other_family() {
    let (ipv4, ipv6) = ("198.51.100.7:3478", "[2001:db8::7]:3478");
    for (there, from, code) in
        [(ipv4, "8.8.8.1:1", 300), (ipv4, "[2600::8]:1", 508), (ipv6, "8.8.8.1:1", 508), (ipv6, "[2600::8]:1", 300)]
    {
        let mut world = World::with(|settings| {
            settings.alternate_server = Some(address(there));
            settings.limits.tcp = Some(TcpLimits::default());
        });
        world.server.drain();
        let mut carol = Client::rest("1900000000:carol", from);
        carol.challenge(&mut world);
        let turn = carol.allocate(&mut world);
        assert_error(&turn, code);
        assert_eq!(parse(turn.only()).alternate_server(), (code == 300).then(|| address(there)));
        // RFC 6062 §4.1: over a connection, an allocation of TCP.
        carol.local = Endpoint::Stream { id: 1, ip: [5, 5, 5, 5].into() };
        carol.challenge(&mut world);
        let turn = carol.ask(&mut world, Method::ALLOCATE, |writer| _ = writer.requested_transport(6));
        assert_error(&turn, code);
        assert_eq!(parse(turn.only()).alternate_server(), (code == 300).then(|| address(there)));
    }
}
