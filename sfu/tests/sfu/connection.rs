//! TCP connections that carry a transport (RFC 6544) are kept while they do, and no longer.

use std::net::{IpAddr, Ipv4Addr};

use datapath::{Discard, Endpoint, Order};
use sfu::Codec;

use crate::call::{AUDIO_MID, Call, OPUS, Rtp, Who};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const STREAM: Endpoint = Endpoint::Stream { id: 7, ip: SERVER };
const LISTENER: Endpoint = Endpoint::Listener { index: 0, ip: SERVER };
const KEPT: Order = Order::KeepStream { local: STREAM, keep: true };
const LET_GO: Order = Order::KeepStream { local: STREAM, keep: false };

/// A call with a member who has come over TCP.
fn over_tcp() -> (Call, Who) {
    let mut call = Call::new();
    let anna = call.enter();
    call.check(anna, STREAM, ([10, 0, 1, 1], 50_000).into());
    assert_eq!(call.orders, [KEPT]);
    (call, anna)
}

#[test]
fn it_is_let_go_when_its_participant_leaves() {
    let (mut call, anna) = over_tcp();
    call.run_for_ms(60_000);
    assert_eq!(call.orders, [KEPT]);
    call.leave(anna);
    assert_eq!(call.orders, [KEPT, LET_GO]);
}

#[test]
fn it_is_let_go_when_newer_addresses_have_displaced_it() {
    let (mut call, anna) = over_tcp();
    call.publish(anna, Codec::Opus);
    // The selected pair moves to UDP, from one network to the next.
    for port in 1..8 {
        call.check(anna, LISTENER, ([10, 0, 1, 1], port).into());
    }
    assert_eq!(call.orders, [KEPT], "it may yet be gone back to");
    call.check(anna, LISTENER, ([10, 0, 1, 1], 8).into());
    assert_eq!(call.orders, [KEPT, LET_GO]);
    let payload = &[1, 2, 3];
    let rtp = Rtp {
        ssrc: 1,
        payload_type: OPUS,
        sequence: 1,
        timestamp: 0,
        mid: Some(AUDIO_MID),
        audio_level: None,
        payload,
    };
    call.send(anna, rtp);
    assert_eq!(call.discarded(Discard::UnknownFiveTuple), 0);
    call.come_from(anna, STREAM, ([10, 0, 1, 1], 50_000).into());
    call.send(anna, Rtp { sequence: 2, ..rtp });
    assert_eq!(call.discarded(Discard::UnknownFiveTuple), 1, "nothing comes over it any more");
    // Over UDP there is nothing to let go.
    call.leave(anna);
    assert_eq!(call.orders, [KEPT, LET_GO]);
}
