//! A call in which anna publishes to bert, packet by packet.

use sfu::rtcp::{ReportBlock, SenderInfo};
use sfu::vp8::{DESCRIPTOR_LEN_MAX, Descriptor};
use sfu::{Codec, Event, TrackId};

use crate::call::{AUDIO_MID, Call, Control, Media, OPUS, Rtp, VIDEO, VIDEO_MID, Who};

/// The SSRCs of the encoder before and after.
pub const BEFORE: u32 = 1000;
pub const AFTER: u32 = 2000;
pub const BEFORE_RTX: u32 = 1001;
/// Where the first one begins: close to the top, so that it wraps around.
pub const FIRST: u64 = 65_500;

/// A call in which anna publishes to bert.
pub struct Published {
    pub call: Call,
    pub anna: Who,
    pub bert: Who,
    pub track: TrackId,
    /// What bert is sent, and what he is sent again.
    pub ssrc: u32,
    pub rtx_ssrc: u32,
    /// −dBov of what anna says.
    pub audio_level: u8,
}

impl Published {
    pub fn new(codec: Codec) -> Published {
        let mut call = Call::new();
        let (anna, bert) = (call.join(), call.join());
        let track = call.publish(anna, codec);
        let (ssrc, rtx_ssrc) = call.subscribe(bert, track, false);
        call.run_for_ms(10);
        Published { call, anna, bert, track, ssrc, rtx_ssrc, audio_level: 20 }
    }

    pub fn received(&self) -> Vec<Media> {
        self.call.members[self.bert].media_of(self.ssrc).into_iter().cloned().collect()
    }

    /// A word of 20 ms.
    pub fn speak(&mut self, ssrc: u32, sequence: u64, timestamp: u32) {
        let mid = Some(AUDIO_MID);
        let payload = &sequence.to_be_bytes();
        let rtp =
            Rtp { ssrc, payload_type: OPUS, sequence, timestamp, mid, audio_level: Some(self.audio_level), payload };
        self.call.send(self.anna, rtp);
        self.call.run_for_ms(20);
    }

    /// So many words, of which these are the first number and timestamp.
    pub fn talk(&mut self, ssrc: u32, sequence: u64, timestamp: u32, words: u32) {
        for word in 0..words {
            self.speak(ssrc, sequence + u64::from(word), timestamp + word * 960);
        }
    }

    /// A frame of three packets, whose numbers begin at `sequence`; those at `lost` do not arrive.
    pub fn show(&mut self, ssrc: u32, sequence: u64, frame: u32, keyframe: bool, lost: &[usize]) {
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
    pub fn show_a_second(&mut self) {
        for frame in 0..30 {
            self.show(BEFORE, FIRST + 3 * u64::from(frame), frame, frame == 0, &[]);
        }
        assert_eq!(self.received().len(), 90);
    }

    pub fn reports(&self) -> Vec<ReportBlock> {
        let controls = self.call.members[self.anna].control.iter();
        controls
            .filter_map(|(_, control)| match control {
                Control::Report(block) => Some(*block),
                _ => None,
            })
            .collect()
    }

    /// Anna's sender report.
    pub fn report(&mut self, ssrc: u32, ntp_s: u64, rtp_timestamp: u32) {
        let info = SenderInfo { ntp: ntp_s << 32, rtp_timestamp, packets: 1, octets: 1 };
        self.call.send_control(self.anna, |writer| _ = writer.sender_report(ssrc, &info));
    }

    /// The sender reports that bert was sent.
    pub fn reported(&self) -> Vec<SenderInfo> {
        let controls = self.call.members[self.bert].control.iter();
        controls
            .filter_map(|(_, control)| match control {
                Control::SenderReport { info, .. } => Some(*info),
                _ => None,
            })
            .collect()
    }

    /// What was told of anna, one change after the other: whether she speaks.
    pub fn spoken(&self) -> Vec<bool> {
        let levels = self.call.events.iter().filter_map(|event| match event {
            Event::Speakers { speakers, .. } => Some(speakers[0].level > 0.0),
            _ => None,
        });
        levels.collect()
    }

    pub fn packets_asked(&self) -> Vec<u16> {
        let anna = &self.call.members[self.anna];
        [anna.packets_asked(BEFORE), anna.packets_asked(AFTER)].concat()
    }
}

pub fn vp8(picture_id: u16, keyframe: bool, start: bool) -> Vec<u8> {
    let descriptor =
        Descriptor { start, picture_id: Some(picture_id), picture_id_is_long: true, ..Descriptor::default() };
    let mut buffer = [0; DESCRIPTOR_LEN_MAX];
    let length = descriptor.write(&mut buffer);
    let mut payload = buffer[..length].to_vec();
    // RFC 7741 §4.3: the lowest bit is P, the inverse of "key frame".
    payload.extend([u8::from(!keyframe), 1, 2, 3]);
    payload
}

pub fn picture_id(media: &Media) -> u16 {
    Descriptor::parse(&media.payload).and_then(|descriptor| descriptor.picture_id).expect("a picture id")
}

/// One number after the other, and later each time, by `step` units.
pub fn assert_goes_on(media: &[Media], step: std::ops::RangeInclusive<u32>) {
    for pair in media.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1, "{pair:?}");
        let elapsed = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!(elapsed == 0 || step.contains(&elapsed), "{elapsed} units in {pair:?}");
    }
}
