//! A publisher's encoder starts over under another SSRC on the same mid (RFC 8843 §9.2).

use datapath::Discard;
use sfu::Codec;

use crate::call::{AUDIO_MID, OPUS, Rtp, VIDEO_MID, VIDEO_RTX};
use crate::published::{AFTER, BEFORE, BEFORE_RTX, FIRST, Published, assert_goes_on, picture_id, vp8};

/// Where the second one begins, beside the next number of the first: as near behind as a late packet would be, as near
/// ahead as a gap would be, or anywhere.
const BEGINNINGS: [i64; 6] = [-1000, -2, 0, 200, 2500, 20_000];

#[test]
fn a_voice_goes_on_at_once() {
    for beginning in BEGINNINGS {
        let mut published = Published::new(Codec::Opus);
        published.talk(BEFORE, FIRST, 0, 50);
        let first = (FIRST + 50).wrapping_add_signed(beginning) & 0xFFFF;
        published.talk(AFTER, first, 3_000_000_000, 60);
        let received = published.received();
        assert_eq!(received.len(), 110, "beginning at {beginning}");
        assert_goes_on(&received, 960..=960);
        assert_eq!(received[50].payload, first.to_be_bytes());
        assert_eq!(published.packets_asked(), [], "beginning at {beginning}: nothing is missing");
        let report = published.reports().pop().unwrap();
        assert_eq!((report.ssrc, report.cumulative_lost, report.fraction_lost), (AFTER, 0, 0));
        assert!((first..first + 60).contains(&report.extended_highest_sequence.into()), "{report:?}");
        assert_eq!(report.jitter, 0, "the clocks of two sources are no jitter");
    }
}

#[test]
fn who_falls_silent_under_another_ssrc_is_no_speaker_any_more() {
    let mut published = Published::new(Codec::Opus);
    published.talk(BEFORE, 500, 1_000_000, 50);
    published.audio_level = 127;
    published.talk(AFTER, 500, 0, 50);
    assert_eq!(published.spoken(), [true, false]);
}

#[test]
fn a_picture_goes_on_with_the_keyframe_of_the_new_encoder() {
    for beginning in BEGINNINGS {
        let mut published = Published::new(Codec::Vp8);
        published.show_a_second();
        let asked = published.call.members[published.anna].keyframes_asked(BEFORE).len();
        let first = (FIRST + 90).wrapping_add_signed(beginning) & 0xFFFF;
        for frame in 0..40 {
            published.show(AFTER, first + 3 * u64::from(frame), 700_000 + frame, frame == 0, &[]);
        }
        let received = published.received();
        assert_eq!(received.len(), 210, "beginning at {beginning}");
        // Time is told by the arrival at first: 33 ms.
        assert_goes_on(&received, 2970..=3000);
        let pictures: Vec<u16> = received.iter().step_by(3).map(picture_id).collect();
        assert!(pictures.windows(2).all(|pair| pair[1] == pair[0] + 1), "{pictures:?}");
        assert_eq!(published.packets_asked(), [], "beginning at {beginning}: nothing is missing");
        let anna = &published.call.members[published.anna];
        assert_eq!((anna.keyframes_asked(BEFORE).len(), anna.keyframes_asked(AFTER)), (asked, vec![]));
        let report = published.reports().pop().unwrap();
        assert_eq!((report.ssrc, report.cumulative_lost, report.fraction_lost), (AFTER, 0, 0));
    }
}

#[test]
fn a_keyframe_that_was_lost_is_asked_for_at_once() {
    let mut published = Published::new(Codec::Vp8);
    published.show_a_second();
    let first = FIRST + 90 - 1000;
    // All of the keyframe is lost.
    let began = published.call.at_ms();
    published.show(AFTER, first + 3, 700_001, false, &[]);
    assert_eq!(published.call.members[published.anna].keyframes_asked(AFTER), [began]);
    assert_eq!(published.received().len(), 90, "nothing can be shown of it");
    published.show(AFTER, first + 6, 700_002, true, &[]);
    assert_eq!(published.received().len(), 93);
    assert_goes_on(&published.received()[87..], 5900..=6000);
}

#[test]
fn what_the_old_encoder_sends_yet_changes_nothing() {
    let mut published = Published::new(Codec::Opus);
    published.talk(BEFORE, 500, 0, 10);
    for word in 0..100 {
        published.speak(AFTER, 400 + u64::from(word), word * 960);
        // Both say that they are the microphone.
        published.speak(BEFORE, 510 + u64::from(word), (10 + word) * 960);
    }
    let words: Vec<Vec<u8>> = published.received().into_iter().skip(10).map(|media| media.payload).collect();
    assert_eq!(words, (400..500).map(|word: u64| word.to_be_bytes().to_vec()).collect::<Vec<_>>());
    assert_eq!(published.call.discarded(Discard::UnknownSsrc), 100);
    // When the new one has been silent for two seconds, the stream is free.
    published.call.run_for_ms(1_900);
    published.speak(BEFORE, 610, 110 * 960);
    assert_eq!(published.received().len(), 110);
    published.call.run_for_ms(100);
    for word in 611..620 {
        published.speak(BEFORE, word, word as u32 * 960);
    }
    let received = published.received();
    assert_eq!(received.len(), 119);
    assert_eq!(received[110].sequence, received[109].sequence + 1);
}

#[test]
fn a_repair_of_the_old_encoder_is_none_of_the_new_one() {
    let mut published = Published::new(Codec::Vp8);
    published.show_a_second();
    let next = FIRST + 90;
    published.show(BEFORE, next, 30, false, &[1]);
    published.show(BEFORE, next + 3, 31, false, &[]);
    assert_eq!(published.call.members[published.anna].packets_asked(BEFORE), [(next + 1) as u16]);
    let before = published.received().len();
    // The number that was asked for is 200 ahead of the new one's.
    let first = (next - 200) & 0xFFFF;
    published.show(AFTER, first, 700_000, true, &[]);
    let mut repair = ((next + 1) as u16).to_be_bytes().to_vec();
    repair.extend(vp8(30, false, false));
    let rtp = Rtp {
        ssrc: BEFORE_RTX,
        payload_type: VIDEO_RTX,
        sequence: 7,
        timestamp: 30 * 3000,
        mid: Some(VIDEO_MID),
        audio_level: None,
        payload: &repair,
    };
    published.call.send(published.anna, rtp);
    published.show(AFTER, first + 3, 700_001, false, &[]);
    published.call.run_for_ms(500);
    assert_eq!(published.received().len(), before + 6);
    assert_eq!(published.call.discarded(Discard::StrayRepair), 1);
    assert_eq!(published.call.members[published.anna].packets_asked(AFTER), []);
    // One of its own is taken.
    published.show(AFTER, first + 6, 700_002, false, &[1]);
    published.show(AFTER, first + 9, 700_003, false, &[]);
    let lost = first + 7;
    assert_eq!(published.call.members[published.anna].packets_asked(AFTER), [lost as u16]);
    let mut repair = (lost as u16).to_be_bytes().to_vec();
    repair.extend(vp8(11, false, false));
    published.call.send(published.anna, Rtp { sequence: 8, payload: &repair, ..rtp });
    assert_eq!(published.received().len(), before + 12);
}

#[test]
fn what_came_before_can_still_be_asked_for() {
    let mut published = Published::new(Codec::Opus);
    published.talk(BEFORE, 500, 0, 10);
    published.speak(AFTER, 505, 960);
    let received = published.received();
    let (ssrc, lost) = (published.ssrc, received[6].sequence as u16);
    published.call.send_control(published.bert, |writer| _ = writer.nack(1, ssrc, &[lost]));
    let again = published.call.members[published.bert].media_of(published.rtx_ssrc);
    let payload = [&lost.to_be_bytes()[..], &506u64.to_be_bytes()].concat();
    assert_eq!(again.iter().map(|media| &media.payload).collect::<Vec<_>>(), [&payload]);
}

/// RFC 3550 §6.4.1: a sender report says which timestamp belongs to which moment.
#[test]
fn sender_reports_are_about_the_new_clock() {
    let mut published = Published::new(Codec::Opus);
    published.talk(BEFORE, 500, 0, 10);
    published.report(BEFORE, 1000, 10 * 960);
    published.talk(AFTER, 505, 3_000_000_000, 10);
    let before = published.reported().len();
    assert!(before > 0);
    published.call.run_for_ms(3_000);
    // One of the old SSRC comes late.
    published.report(BEFORE, 1002, 110 * 960);
    published.call.run_for_ms(1_000);
    assert_eq!(published.reported().len(), before, "nothing is known of the new clock");
    published.report(AFTER, 1005, 3_000_000_000 + 10 * 960);
    published.call.run_for_ms(50);
    let info = published.reported()[before];
    assert_eq!(info.ntp >> 32, 1005);
    // Twenty words had been said then.
    let first = published.received()[0].timestamp;
    let elapsed = info.rtp_timestamp.wrapping_sub(first.wrapping_add(20 * 960));
    assert!(elapsed <= 50 * 48, "{elapsed} units");
}

#[test]
fn new_ssrcs_without_end_are_bounded_and_counted() {
    let mut published = Published::new(Codec::Opus);
    for ssrc in 0..1000 {
        let payload = &[1, 2, 3];
        let (payload_type, mid) = (OPUS, Some(AUDIO_MID));
        let rtp = Rtp { ssrc, payload_type, sequence: 7, timestamp: 0, mid, audio_level: None, payload };
        published.call.send(published.anna, rtp);
    }
    assert_eq!(published.received().len(), 33);
    assert_eq!(published.call.discarded(Discard::LimitReached), 967);
    assert_goes_on(&published.received(), 1..=1);
    // The stream has the last one that was taken.
    published.speak(32, 8, 960);
    assert_eq!(published.received().len(), 34);
    published.call.run_for_ms(10_000);
    published.speak(5000, 1, 960);
    assert_eq!(published.received().len(), 35, "an encoder may start over again");
}

#[test]
fn what_is_sent_beside_a_picture_does_not_take_its_place() {
    let mut published = Published::new(Codec::Vp8);
    published.show_a_second();
    // As forward error correction would be: another payload type, an SSRC of its own, the same mid.
    let rtp = Rtp {
        ssrc: AFTER,
        payload_type: 98,
        sequence: 1,
        timestamp: 0,
        mid: Some(VIDEO_MID),
        audio_level: None,
        payload: &[1, 2, 3],
    };
    published.call.send(published.anna, rtp);
    assert_eq!(published.call.discarded(Discard::UnknownPayloadType), 1);
    published.show(BEFORE, FIRST + 90, 30, false, &[]);
    assert_eq!(published.received().len(), 93);
    let (bert, track) = (published.call.id_of(published.bert), published.track);
    assert_eq!(published.call.sfu.forwarded_encoding(bert, track), Some(0));
}
