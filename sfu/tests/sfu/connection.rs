//! TCP connections that carry a transport (RFC 6544) are kept while they do, and no longer; when one has ended nothing is
//! sent to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use datapath::{Discard, Endpoint, Order};
use sfu::rtcp::SenderInfo;
use sfu::{Codec, Event, TransportEnd};

use crate::call::{AUDIO_MID, Call, OPUS, Rtp, Who};

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const STREAM: Endpoint = Endpoint::Stream { id: 7, ip: SERVER };
const LISTENER: Endpoint = Endpoint::Listener { index: 0, ip: SERVER };
const KEPT: Order = Order::KeepStream { local: STREAM, keep: true };
const LET_GO: Order = Order::KeepStream { local: STREAM, keep: false };

const STREAM_REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)), 50_000);
const UDP_REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 2, 1)), 40_000);

/// A call with a member who has come over TCP.
fn over_tcp() -> (Call, Who) {
    let mut call = Call::new();
    let anna = call.enter();
    call.check(anna, STREAM, STREAM_REMOTE);
    assert_eq!(call.orders, [KEPT]);
    (call, anna)
}

fn word(sequence: u64) -> Rtp<'static> {
    let timestamp = sequence as u32 * 960;
    let (mid, payload) = (Some(AUDIO_MID), &[1, 2, 3]);
    Rtp { ssrc: 1, payload_type: OPUS, sequence, timestamp, mid, audio_level: None, payload }
}

/// Somebody who is heard by a member.
struct Speaker {
    who: Who,
    said: u64,
}

impl Speaker {
    fn heard_by(call: &mut Call, listener: Who) -> Speaker {
        let who = call.join();
        let track = call.publish(who, Codec::Opus);
        call.subscribe(listener, track, false);
        Speaker { who, said: 0 }
    }

    /// Says so many words of 20 ms, and returns how many the listener hears. If it is none, the listener is sent nothing
    /// else either.
    fn say(&mut self, call: &mut Call, listener: Who, words: u64) -> usize {
        let before = call.members[listener].media.len();
        let reports = call.members[listener].control.len();
        for _ in 0..words {
            self.said += 1;
            call.send(self.who, word(self.said));
            call.run_for_ms(20);
        }
        let heard = call.members[listener].media.len() - before;
        assert!(heard > 0 || call.members[listener].control.len() == reports);
        heard
    }
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
    for port in 1..32 {
        call.check(anna, LISTENER, ([10, 0, 1, 1], port).into());
    }
    assert_eq!(call.orders, [KEPT], "it may yet be gone back to");
    call.check(anna, LISTENER, ([10, 0, 1, 1], 32).into());
    assert_eq!(call.orders, [KEPT, LET_GO]);
    call.send(anna, word(1));
    assert_eq!(call.discarded(Discard::UnknownFiveTuple), 0);
    call.come_from(anna, STREAM, STREAM_REMOTE);
    call.send(anna, word(2));
    assert_eq!(call.discarded(Discard::UnknownFiveTuple), 1, "nothing comes over it any more");
    // Over UDP there is nothing to let go.
    call.leave(anna);
    assert_eq!(call.orders, [KEPT, LET_GO]);
}

#[test]
fn nothing_is_sent_to_one_that_has_ended() {
    let (mut call, anna) = over_tcp();
    let mut bert = Speaker::heard_by(&mut call, anna);
    assert_eq!(bert.say(&mut call, anna, 50), 50);
    let report = SenderInfo { ntp: 1000 << 32, rtp_timestamp: 50 * 960, packets: 1, octets: 1 };
    call.send_control(bert.who, |writer| _ = writer.sender_report(1, &report));
    assert_eq!(bert.say(&mut call, anna, 50), 50);
    assert!(!call.members[anna].control.is_empty());
    call.close(STREAM, STREAM_REMOTE);
    // Two seconds, in which reports are due as before.
    assert_eq!(bert.say(&mut call, anna, 100), 0);
    // She comes by another.
    let next = Endpoint::Stream { id: 8, ip: SERVER };
    call.check(anna, next, STREAM_REMOTE);
    assert_eq!(bert.say(&mut call, anna, 100), 100);
    // The one that is gone is not let go once more.
    call.leave(anna);
    let kept = |local, keep| Order::KeepStream { local, keep };
    assert_eq!(call.orders, [KEPT, kept(next, true), kept(next, false)]);
}

#[test]
fn who_comes_back_over_the_same_one_has_it_kept() {
    let (mut call, anna) = over_tcp();
    call.close(STREAM, STREAM_REMOTE);
    call.check(anna, STREAM, STREAM_REMOTE);
    assert_eq!(call.orders, [KEPT, KEPT]);
}

#[test]
fn a_pair_that_was_checked_lately_takes_its_place() {
    for (before_ms, heard) in [(29_000, 50), (29_990, 0)] {
        let (mut call, anna) = over_tcp();
        let mut bert = Speaker::heard_by(&mut call, anna);
        for remote in [UDP_REMOTE, ([10, 0, 2, 1], 39_999).into(), UDP_REMOTE] {
            call.check(anna, LISTENER, remote);
            call.run_for_ms(10);
        }
        call.check(anna, STREAM, STREAM_REMOTE);
        call.run_for_ms(before_ms);
        call.close(STREAM, STREAM_REMOTE);
        call.come_from(anna, LISTENER, UDP_REMOTE);
        assert_eq!(bert.say(&mut call, anna, 50), heard, "{before_ms} ms after its check");
        // What is nominated decides.
        call.check(anna, LISTENER, ([10, 0, 2, 1], 40_001).into());
        assert_eq!(bert.say(&mut call, anna, 50), 50);
    }
}

#[test]
fn the_end_of_one_that_is_not_selected_changes_nothing() {
    let (mut call, anna) = over_tcp();
    let mut bert = Speaker::heard_by(&mut call, anna);
    call.check(anna, LISTENER, UDP_REMOTE);
    call.run_for_ms(30_000);
    // Somebody else's, or one that carries TURN.
    call.close(Endpoint::Stream { id: 9, ip: SERVER }, STREAM_REMOTE);
    call.close(STREAM, STREAM_REMOTE);
    assert_eq!(bert.say(&mut call, anna, 50), 50);
    call.publish(anna, Codec::Opus);
    call.come_from(anna, STREAM, STREAM_REMOTE);
    call.send(anna, word(1));
    assert_eq!(call.discarded(Discard::UnknownFiveTuple), 1);
}

#[test]
fn its_end_is_not_yet_that_of_its_participant() {
    let (mut call, anna) = over_tcp();
    call.close(STREAM, STREAM_REMOTE);
    let end = Event::Disconnected { participant: call.id_of(anna), end: TransportEnd::Silent };
    call.run_for_ms(9_000);
    assert!(!call.events.contains(&end));
    call.run_for_ms(2_000);
    assert!(call.events.contains(&end));
    let connected = |call: &Call| call.events.iter().filter(|event| matches!(event, Event::Connected { .. })).count();
    assert_eq!(connected(&call), 1);
    call.check(anna, LISTENER, UDP_REMOTE);
    assert_eq!(connected(&call), 2);
}

#[test]
fn one_that_carries_another_participant_now_ends_with_that_one() {
    let (mut call, anna) = over_tcp();
    let mut bert = Speaker::heard_by(&mut call, anna);
    // A client that joins again from where it is.
    let again = call.enter();
    call.check(again, STREAM, STREAM_REMOTE);
    assert_eq!(bert.say(&mut call, anna, 50), 0);
    call.leave(anna);
    assert_eq!(call.orders, [KEPT, KEPT]);
    call.leave(again);
    assert_eq!(call.orders, [KEPT, KEPT, LET_GO]);
}

#[test]
fn an_address_of_udp_that_another_has_now_is_sent_nothing_for_who_had_it() {
    let (mut call, anna) = over_tcp();
    let mut bert = Speaker::heard_by(&mut call, anna);
    call.check(anna, LISTENER, UDP_REMOTE);
    assert_eq!(bert.say(&mut call, anna, 50), 50);
    call.run_for_ms(60_000);
    let newcomer = call.enter();
    call.check(newcomer, LISTENER, UDP_REMOTE);
    assert_eq!(bert.say(&mut call, anna, 50), 0);
    // She is there after all.
    call.check(anna, LISTENER, UDP_REMOTE);
    assert_eq!(bert.say(&mut call, anna, 50), 50);
}

#[test]
fn it_is_kept_in_reserve_while_it_is_checked() {
    let (mut call, anna) = over_tcp();
    call.check(anna, LISTENER, UDP_REMOTE);
    // Nothing but media comes over UDP, and a check over TCP twice a minute.
    for _ in 0..10 {
        call.run_for_ms(30_000);
        call.check_in_reserve(anna, STREAM, STREAM_REMOTE);
    }
    assert_eq!(call.orders, [KEPT]);
    call.run_for_ms(58_000);
    assert_eq!(call.orders, [KEPT]);
    call.run_for_ms(3_000);
    assert_eq!(call.orders, [KEPT, LET_GO]);
    call.come_from(anna, STREAM, STREAM_REMOTE);
    call.send(anna, word(1));
    assert_eq!(call.discarded(Discard::UnknownFiveTuple), 1);
    // It is not over yet, and a check brings it back.
    call.check(anna, STREAM, STREAM_REMOTE);
    assert_eq!(call.orders, [KEPT, LET_GO, KEPT]);
    // What is selected stays, checked or not.
    call.run_for_ms(120_000);
    assert_eq!(call.orders, [KEPT, LET_GO, KEPT]);
}

#[test]
fn an_address_of_udp_costs_nothing_and_is_kept() {
    let (mut call, anna) = over_tcp();
    call.publish(anna, Codec::Opus);
    call.check(anna, LISTENER, UDP_REMOTE);
    call.check(anna, STREAM, STREAM_REMOTE);
    call.run_for_ms(120_000);
    call.come_from(anna, LISTENER, UDP_REMOTE);
    call.send(anna, word(1));
    assert_eq!(call.discarded(Discard::UnknownFiveTuple), 0);
}
