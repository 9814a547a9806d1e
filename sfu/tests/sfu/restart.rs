//! A publisher's encoder starts over under the same SSRC: two packets in a row confirm it (RFC 3550 A.1).

use datapath::Discard;
use sfu::Codec;

use crate::published::{BEFORE, FIRST, Published, assert_goes_on, picture_id};

/// How far the new numbers are ahead. Fewer are taken for a loss, and more for numbers from before by SRTP (RFC 3711
/// §3.3.1).
const JUMPS: [u64; 3] = [3_000, 20_000, 32_000];

/// The timestamps of the second encoder begin anywhere: behind those of the first, or ahead of them.
const CLOCKS: [u32; 2] = [7, 3_000_000_000];

#[test]
fn a_voice_goes_on_with_the_packet_that_confirms_it() {
    for (jump, clock) in JUMPS.into_iter().zip(CLOCKS.into_iter().cycle()) {
        let mut published = Published::new(Codec::Opus);
        published.talk(BEFORE, FIRST, 1_000_000, 50);
        let first = FIRST + 49 + jump;
        published.talk(BEFORE, first, clock, 60);
        let received = published.received();
        assert_eq!(received.len(), 109, "{jump} ahead");
        assert_eq!(received[50].payload, (first + 1).to_be_bytes());
        // The time goes by the arrival, and one packet is held back.
        assert_goes_on(&received, 960..=1920);
        assert_eq!(published.call.discarded(Discard::MalformedRtp), 1);
        assert_eq!(published.packets_asked(), [], "{jump} ahead: nothing is missing");
    }
}

#[test]
fn who_falls_silent_meanwhile_is_no_speaker_any_more() {
    for clock in CLOCKS {
        let mut published = Published::new(Codec::Opus);
        published.talk(BEFORE, FIRST, 1_000_000, 50);
        published.audio_level = 127;
        published.talk(BEFORE, FIRST + 20_000, clock, 50);
        assert_eq!(published.spoken(), [true, false], "timestamps from {clock} on");
    }
}

#[test]
fn a_keyframe_is_asked_for_at_once_and_the_picture_goes_on_with_it() {
    let mut published = Published::new(Codec::Vp8);
    published.show_a_second();
    let asked = published.call.members[published.anna].keyframes_asked(BEFORE);
    let first = FIRST + 90 + 20_000;
    // The packet in which the new encoder's keyframe begins is the one that is held back.
    let confirmed_ms = published.call.at_ms();
    published.show(BEFORE, first, 7_000, true, &[]);
    let again = published.call.members[published.anna].keyframes_asked(BEFORE);
    assert_eq!(again, [&asked[..], &[confirmed_ms]].concat());
    assert_eq!(published.received().len(), 90, "nothing can be shown of it");
    assert_eq!(published.packets_asked(), []);
    published.show(BEFORE, first + 3, 7_001, false, &[]);
    for frame in 2..12 {
        published.show(BEFORE, first + 3 * u64::from(frame), 7_000 + frame, frame == 2, &[]);
    }
    let received = published.received();
    assert_eq!(received.len(), 120);
    assert_goes_on(&received[87..], 2970..=9000);
    let pictures: Vec<u16> = received.iter().step_by(3).map(picture_id).collect();
    assert!(pictures.windows(2).all(|pair| pair[1] == pair[0] + 1), "{pictures:?}");
}

/// RFC 3550 §6.4.1: a sender report says which timestamp belongs to which moment.
#[test]
fn sender_reports_wait_for_the_new_clock() {
    let mut published = Published::new(Codec::Opus);
    published.talk(BEFORE, 500, 0, 10);
    published.report(BEFORE, 1000, 10 * 960);
    published.call.run_for_ms(1_000);
    let before = published.reported().len();
    assert!(before > 0);
    published.talk(BEFORE, 20_000, 3_000_000_000, 10);
    published.call.run_for_ms(3_000);
    assert_eq!(published.reported().len(), before, "nothing is known of the new clock");
    published.report(BEFORE, 1005, 3_000_000_000 + 10 * 960);
    published.call.run_for_ms(50);
    let info = published.reported()[before];
    assert_eq!(info.ntp >> 32, 1005);
    let last = published.received().pop().unwrap().timestamp;
    let elapsed = info.rtp_timestamp.wrapping_sub(last.wrapping_add(960));
    assert!(elapsed <= 50 * 48, "{elapsed} units");
}
