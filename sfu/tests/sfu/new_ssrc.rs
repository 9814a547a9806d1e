//! A publisher's encoder starts over under another SSRC on the same mid (RFC 8843 §9.2).

use datapath::Discard;
use sfu::rtcp::SenderInfo;
use sfu::vp8::{DESCRIPTOR_LEN_MAX, Descriptor};
use sfu::{Codec, Event, TrackId};

use crate::call::{AUDIO_MID, Call, Control, Media, OPUS, Rtp, VIDEO, VIDEO_MID, VIDEO_RTX, Who};

/// The SSRCs of the encoder before and after.
const BEFORE: u32 = 1000;
const AFTER: u32 = 2000;
const BEFORE_RTX: u32 = 1001;
/// Where the first one begins: close to the top, so that it wraps around.
const FIRST: u64 = 65_500;

/// A call in which anna publishes to bert.
struct Published {
    call: Call,
    anna: Who,
    bert: Who,
    track: TrackId,
    /// What bert is sent, and what he is sent again.
    ssrc: u32,
    rtx_ssrc: u32,
    /// −dBov of what anna says.
    audio_level: u8,
}

impl Published {
    fn new(codec: Codec) -> Published {
        let mut call = Call::new();
        let (anna, bert) = (call.join(), call.join());
        let track = call.publish(anna, codec);
        let (ssrc, rtx_ssrc) = call.subscribe(bert, track, false);
        call.run_for_ms(10);
        Published { call, anna, bert, track, ssrc, rtx_ssrc, audio_level: 20 }
    }

    fn received(&self) -> Vec<Media> {
        self.call.members[self.bert].media_of(self.ssrc).into_iter().cloned().collect()
    }

    /// A word of 20 ms.
    fn speak(&mut self, ssrc: u32, sequence: u64, timestamp: u32) {
        let mid = Some(AUDIO_MID);
        let payload = &sequence.to_be_bytes();
        let rtp =
            Rtp { ssrc, payload_type: OPUS, sequence, timestamp, mid, audio_level: Some(self.audio_level), payload };
        self.call.send(self.anna, rtp);
        self.call.run_for_ms(20);
    }

    /// A frame of three packets, whose numbers begin at `sequence`; those at `lost` do not arrive.
    fn show(&mut self, ssrc: u32, sequence: u64, frame: u32, keyframe: bool, lost: &[usize]) {
        let payloads: Vec<Vec<u8>> = (0..3).map(|index| vp8(frame as u16, keyframe, index == 0)).collect();
        let packets = (sequence..).zip(&payloads).enumerate().filter(|(index, _)| !lost.contains(index));
        let packets: Vec<Rtp<'_>> = packets
            .map(|(_, (sequence, payload))| {
                let (mid, timestamp) = (Some(VIDEO_MID), frame.wrapping_mul(3000));
                Rtp { ssrc, payload_type: VIDEO, sequence, timestamp, mid, audio_level: None, payload }
            })
            .collect();
        self.call.send_batch(self.anna, &packets);
        self.call.run_for_ms(33);
    }

    /// 30 frames from [`FIRST`] on.
    fn show_a_second(&mut self) {
        for frame in 0..30 {
            self.show(BEFORE, FIRST + 3 * u64::from(frame), frame, frame == 0, &[]);
        }
        assert_eq!(self.received().len(), 90);
    }

    fn reports(&self) -> Vec<sfu::rtcp::ReportBlock> {
        let controls = self.call.members[self.anna].control.iter();
        controls
            .filter_map(|(_, control)| match control {
                Control::Report(block) => Some(*block),
                _ => None,
            })
            .collect()
    }

    fn packets_asked(&self) -> Vec<u16> {
        let anna = &self.call.members[self.anna];
        [anna.packets_asked(BEFORE), anna.packets_asked(AFTER)].concat()
    }
}

fn vp8(picture_id: u16, keyframe: bool, start: bool) -> Vec<u8> {
    let descriptor =
        Descriptor { start, picture_id: Some(picture_id), picture_id_is_long: true, ..Descriptor::default() };
    let mut buffer = [0; DESCRIPTOR_LEN_MAX];
    let length = descriptor.write(&mut buffer);
    let mut payload = buffer[..length].to_vec();
    // RFC 7741 §4.3: the lowest bit is P, the inverse of "key frame".
    payload.extend([u8::from(!keyframe), 1, 2, 3]);
    payload
}

fn picture_id(media: &Media) -> u16 {
    Descriptor::parse(&media.payload).and_then(|descriptor| descriptor.picture_id).expect("a picture id")
}

/// One number after the other, and later each time, by `step` units.
fn assert_goes_on(media: &[Media], step: std::ops::RangeInclusive<u32>) {
    for pair in media.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1, "{pair:?}");
        let elapsed = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!(elapsed == 0 || step.contains(&elapsed), "{elapsed} units in {pair:?}");
    }
}

/// Where the second one begins, beside the next number of the first: as near behind as a late packet would be, as near
/// ahead as a gap would be, or anywhere.
const BEGINNINGS: [i64; 6] = [-1000, -2, 0, 200, 2500, 20_000];

#[test]
fn a_voice_goes_on_at_once() {
    for beginning in BEGINNINGS {
        let mut published = Published::new(Codec::Opus);
        for word in 0..50 {
            published.speak(BEFORE, FIRST + u64::from(word), word * 960);
        }
        let first = (FIRST + 50).wrapping_add_signed(beginning) & 0xFFFF;
        for word in 0..60 {
            published.speak(AFTER, first + u64::from(word), 3_000_000_000 + word * 960);
        }
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
    for word in 0..50 {
        published.speak(BEFORE, 500 + u64::from(word), 1_000_000 + word * 960);
    }
    published.audio_level = 127;
    for word in 0..50 {
        published.speak(AFTER, 500 + u64::from(word), word * 960);
    }
    let levels = published.call.events.iter().filter_map(|event| match event {
        Event::Speakers { speakers, .. } => Some(speakers[0].level > 0.0),
        _ => None,
    });
    assert_eq!(levels.collect::<Vec<_>>(), [true, false]);
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
    for word in 0..10 {
        published.speak(BEFORE, 500 + u64::from(word), word * 960);
    }
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
    for word in 0..10 {
        published.speak(BEFORE, 500 + u64::from(word), word * 960);
    }
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
    let report = |published: &mut Published, ssrc, ntp_s: u64, rtp_timestamp| {
        let info = SenderInfo { ntp: ntp_s << 32, rtp_timestamp, packets: 1, octets: 1 };
        published.call.send_control(published.anna, |writer| _ = writer.sender_report(ssrc, &info));
    };
    for word in 0..10 {
        published.speak(BEFORE, 500 + u64::from(word), word * 960);
    }
    report(&mut published, BEFORE, 1000, 10 * 960);
    for word in 0..10 {
        published.speak(AFTER, 505 + u64::from(word), 3_000_000_000 + word * 960);
    }
    let reported = |published: &Published| -> Vec<(u64, SenderInfo)> {
        let controls = published.call.members[published.bert].control.iter();
        controls
            .filter_map(|(at_ms, control)| match control {
                Control::SenderReport { info, .. } => Some((*at_ms, *info)),
                _ => None,
            })
            .collect()
    };
    let before = reported(&published).len();
    assert!(before > 0);
    published.call.run_for_ms(3_000);
    // One of the old SSRC comes late.
    report(&mut published, BEFORE, 1002, 110 * 960);
    published.call.run_for_ms(1_000);
    assert_eq!(reported(&published).len(), before, "nothing is known of the new clock");
    report(&mut published, AFTER, 1005, 3_000_000_000 + 10 * 960);
    published.call.run_for_ms(50);
    let (_, info) = reported(&published)[before];
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
