//! What receivers ask for is bounded: a few octets may name thousands of packets, each of them work.

use datapath::Discard;
use sfu::Codec;
use sfu::rtcp::Writer;

use crate::call::{Call, Rtp, VIDEO, VIDEO_MID, Who, h264};

/// A packet with its payload takes a thousand octets of the budget.
const OCTETS: usize = 1_000;

/// A call in which bert has been sent so many packets of video, from the returned number on.
fn shown(packets: u64, transport_cc: bool) -> (Call, Who, Who, u16, [u32; 2]) {
    let mut call = Call::new();
    let (anna, bert) = (call.join(), call.join());
    let track = call.publish(anna, Codec::H264);
    let (ssrc, rtx_ssrc) = call.subscribe(bert, track, transport_cc);
    call.run_for_ms(10);
    show(&mut call, anna, 0..packets);
    call.run_for_ms(1_000);
    let sent = call.members[bert].media_of(ssrc);
    assert_eq!(sent.len() as u64, packets);
    let first = sent[0].sequence as u16;
    (call, anna, bert, first, [ssrc, rtx_ssrc])
}

fn show(call: &mut Call, anna: Who, sequences: std::ops::Range<u64>) {
    show_with(call, anna, sequences, 0);
}

fn show_with(call: &mut Call, anna: Who, sequences: std::ops::Range<u64>, keyframe: u64) {
    for sequence in sequences {
        let payload = &h264(sequence == keyframe, OCTETS);
        let (mid, timestamp) = (Some(VIDEO_MID), sequence as u32 * 3000);
        let rtp = Rtp { ssrc: 1, payload_type: VIDEO, sequence, timestamp, mid, audio_level: None, payload };
        call.send(anna, rtp);
        call.run_for_ms(1);
    }
}

fn nack(call: &mut Call, who: Who, ssrc: u32, first: u16, count: u16) {
    let lost: Vec<u16> = (0..count).map(|index| first.wrapping_add(index)).collect();
    call.send_control(who, |writer| assert_eq!(writer.nack(1, ssrc, &lost), lost.len()));
}

/// How many packets the member has asked for, as last measured.
fn asked(call: &mut Call, who: Who) -> u32 {
    call.run_for_ms(1_500);
    let id = call.id_of(who);
    let measured = call.events.iter().rev().find_map(|event| event.link_of(id));
    measured.expect("a measurement each second").asked.packets
}

#[test]
fn one_datagram_names_a_thousand_packets_at_most() {
    let (mut call, _, bert, first, [ssrc, _]) = shown(100, false);
    nack(&mut call, bert, ssrc, first, 1_000);
    assert_eq!(asked(&mut call, bert), 1_000);
    nack(&mut call, bert, ssrc, first, 3_000);
    assert_eq!(asked(&mut call, bert), 1_000 + 1_024);
    // Of several requests in one datagram together.
    let lost: Vec<u16> = (0..600).map(|index| first.wrapping_add(index)).collect();
    call.send_control(bert, |writer| (0..5).for_each(|_| assert_eq!(writer.nack(1, ssrc, &lost), 600)));
    assert_eq!(asked(&mut call, bert), 1_000 + 2 * 1_024);
}

/// draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1: a run of packets that did not arrive, in two octets.
fn not_arrived(writer: &mut Writer<'_>, count: u16) {
    let fixed = [&[0, 0][..], &count.to_be_bytes(), &[0, 0, 0, 0], &count.to_be_bytes()].concat();
    assert!(writer.transport_feedback(1, 1, |body| {
        body[..fixed.len()].copy_from_slice(&fixed);
        Some(fixed.len())
    }));
}

#[test]
fn one_datagram_speaks_of_eight_thousand_arrivals_at_most() {
    let (mut call, _, bert, ..) = shown(1, false);
    call.send_control(bert, |writer| (0..2).for_each(|_| not_arrived(writer, 4_096)));
    assert_eq!(call.discarded(Discard::LimitReached), 0);
    call.send_control(bert, |writer| {
        (0..2).for_each(|_| not_arrived(writer, 4_096));
        not_arrived(writer, 1);
    });
    assert_eq!(call.discarded(Discard::LimitReached), 1);
    call.send_control(bert, |writer| {
        not_arrived(writer, 5_000);
        not_arrived(writer, 5_000);
        // There is room for this one yet.
        not_arrived(writer, 3_000);
    });
    assert_eq!(call.discarded(Discard::LimitReached), 2);
}

#[test]
fn no_more_is_sent_again_than_was_sent() {
    let (mut call, anna, bert, first, [ssrc, rtx_ssrc]) = shown(100, false);
    let again = |call: &Call| call.members[bert].media_of(rtx_ssrc).len();
    for _ in 0..30 {
        nack(&mut call, bert, ssrc, first, 100);
        call.run_for_ms(300);
    }
    // A MiB to begin with; what was sent meanwhile comes on top of what is left of it.
    let credit = (1 << 20) / OCTETS;
    assert_eq!(again(&call), credit);
    show(&mut call, anna, 100..110);
    for _ in 0..10 {
        nack(&mut call, bert, ssrc, first, 100);
        call.run_for_ms(300);
    }
    assert_eq!(again(&call), credit + 10);
}

/// Nothing is known of bert's link, so 300 kbit/s are assumed of it: these take a third of a second. A round trip is taken for
/// 100 ms.
const WAITING: u16 = 12;

/// How often each of the first packets was sent again.
fn copies(call: &Call, who: Who, first: u16, rtx_ssrc: u32) -> [usize; WAITING as usize] {
    let again = call.members[who].media_of(rtx_ssrc);
    // RFC 4588 §4: the number of the original comes first.
    let of = |number: u16| again.iter().filter(|media| media.payload[..2] == number.to_be_bytes()).count();
    std::array::from_fn(|index| of(first.wrapping_add(index as u16)))
}

#[test]
fn what_waits_for_the_link_is_under_way() {
    let (mut call, _, bert, first, [ssrc, rtx_ssrc]) = shown(WAITING.into(), true);
    let mut requests = 0;
    // He asks for what has not come, once in a round trip.
    while let Some(come) = copies(&call, bert, first, rtx_ssrc).iter().position(|&copies| copies == 0) {
        nack(&mut call, bert, ssrc, first + come as u16, WAITING - come as u16);
        call.run_for_ms(110);
        requests += 1;
    }
    assert_eq!(requests, 3, "until the last one has come");
    call.run_for_ms(2_000);
    assert_eq!(copies(&call, bert, first, rtx_ssrc), [1; WAITING as usize]);
}

#[test]
fn what_has_left_does_not_wait_for_what_came_after_it() {
    let (mut call, _, bert, first, [ssrc, rtx_ssrc]) = shown(WAITING.into(), true);
    nack(&mut call, bert, ssrc, first, WAITING);
    assert_eq!(copies(&call, bert, first, rtx_ssrc)[..3], [1, 1, 0], "the first ones leave at once");
    // Too early: the copy may yet come.
    call.run_for_ms(99);
    nack(&mut call, bert, ssrc, first, 1);
    // It has not, although the others still wait.
    call.run_for_ms(1);
    nack(&mut call, bert, ssrc, first + 1, 1);
    assert_eq!(copies(&call, bert, first, rtx_ssrc)[WAITING as usize - 1], 0);
    call.run_for_ms(2_000);
    assert_eq!(copies(&call, bert, first, rtx_ssrc)[..3], [1, 2, 1]);
}

#[test]
fn what_takes_longer_to_repair_than_a_keyframe_is_begun_again() {
    let (mut call, anna, bert, first, [ssrc, rtx_ssrc]) = shown(30, true);
    let asked_for = |call: &Call| call.members[anna].keyframes_asked(1).len();
    let before = asked_for(&call);
    // 800 ms of his link, of which the first packets leave at once.
    nack(&mut call, bert, ssrc, first, 30);
    assert_eq!(asked_for(&call), before + 1);
    call.run_for_ms(1_000);
    let again = call.members[bert].media_of(rtx_ssrc).len();
    assert!(again <= 3, "{again} sent again");
    // What follows is of no use without a keyframe, nor is what came before it afterwards.
    show_with(&mut call, anna, 30..40, 35);
    call.run_for_ms(1_000);
    let numbers: Vec<u16> = call.members[bert].media_of(ssrc).iter().map(|media| media.sequence as u16).collect();
    assert_eq!(numbers, (first..first + 35).collect::<Vec<_>>(), "five of the ten, without a gap");
    nack(&mut call, bert, ssrc, first, 33);
    call.run_for_ms(1_000);
    assert_eq!(call.members[bert].media_of(rtx_ssrc).len(), again + 3);
}
