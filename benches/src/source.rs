//! What a publisher sends: VP8 and Opus, recorded or made up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::clip::{PERIOD, Playback};
use crate::sdp::{self, Kind, extension};
use crate::srtp::{Srtp, TAG};
use crate::vp8::{self, Picture, Temporal};

/// Octets of a video packet on the wire, with its SRTP tag, without UDP and IP.
pub const VIDEO_PACKET: usize = 1200;
const FRAME_INTERVAL: Duration = Duration::from_nanos(33_333_333);
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// Packets kept for retransmission.
const HISTORY: usize = 256;
/// Packets that carry mid and rid; browsers stop at the first report about the SSRC.
const NAMED_PACKETS: u32 = 300;

/// How the packets of a frame leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pacing {
    /// All at once, as one GSO train.
    Train,
    /// Evenly over the frame's interval, one datagram each.
    Spread,
}

/// What a stream consists of.
#[derive(Debug)]
pub enum Content {
    /// VP8 frames of a fixed number of packets of one size.
    Steady {
        height: u16,
        packets_per_frame: usize,
    },
    /// Opus packets of one size with noise in them.
    Noise,
    Recorded(Playback),
}

impl Content {
    /// Made up, of so many bit/s.
    pub fn steady(height: u32, bitrate: u32) -> Content {
        let frame_octets = bitrate as usize / 8 / 30;
        Content::Steady { height: height as u16, packets_per_frame: frame_octets.div_ceil(VIDEO_PACKET).max(1) }
    }
}

/// One RTP stream that is sent, with its repair stream.
pub struct OutgoingStream {
    pub kind: Kind,
    pub ssrc: u32,
    pub rtx_ssrc: u32,
    mid: String,
    rid: Option<&'static str>,
    /// The answer kept the extension.
    transport_cc: bool,
    audio_level: bool,
    content: Content,
    sequence: Sequence,
    rtx_sequence: Sequence,
    started: Instant,
    timestamp_base: u32,
    next_frame: Instant,
    frames: u32,
    /// TL0PICIDX of the latest picture.
    tl0: u8,
    keyframe_due: bool,
    pub sent_packets: u32,
    pub sent_octets: u32,
    pub last_timestamp: u32,
    /// Unprotected packets, for retransmission: (sequence number, packet).
    history: VecDeque<(u16, Vec<u8>)>,
    /// Protected packets that leave one by one.
    waiting: VecDeque<(Instant, Vec<u8>)>,
}

/// A sequence number with its rollover counter (RFC 3711 §3.3.1).
#[derive(Clone, Copy)]
struct Sequence(u64);

impl Sequence {
    fn number(self) -> u16 {
        self.0 as u16
    }

    fn rollover(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// What the streams of one transport share.
pub struct Outgoing<'a> {
    pub srtp: &'a Srtp,
    pub transport_sequence: &'a mut u16,
}

impl OutgoingStream {
    pub fn new(
        section: &sdp::Section,
        answered: &sdp::AnswerSection,
        encoding: &sdp::OutgoingEncoding,
        content: Content,
        now: Instant,
        phase: Duration,
    ) -> OutgoingStream {
        OutgoingStream {
            kind: section.kind,
            ssrc: encoding.ssrc,
            rtx_ssrc: encoding.rtx_ssrc,
            mid: section.mid.clone(),
            rid: encoding.rid,
            transport_cc: answered.extensions.contains(&extension::TRANSPORT_CC),
            audio_level: answered.extensions.contains(&extension::AUDIO_LEVEL),
            content,
            sequence: Sequence(u64::from(encoding.ssrc & 0x3FFF)),
            rtx_sequence: Sequence(u64::from(encoding.rtx_ssrc & 0x3FFF)),
            started: now,
            timestamp_base: encoding.ssrc,
            next_frame: now + phase,
            frames: 0,
            tl0: 0,
            keyframe_due: true,
            sent_packets: 0,
            sent_octets: 0,
            last_timestamp: encoding.ssrc,
            history: VecDeque::with_capacity(HISTORY),
            waiting: VecDeque::new(),
        }
    }

    pub fn request_keyframe(&mut self) {
        self.keyframe_due = true;
    }

    pub fn next_send(&self) -> Instant {
        match self.waiting.front() {
            Some((at, _)) => self.next_frame.min(*at),
            None => self.next_frame,
        }
    }

    /// Sends what is due: `send` gets datagrams of one size (the last perhaps shorter) one behind the other, and the
    /// size.
    pub fn send_due(
        &mut self,
        now: Instant,
        pacing: Pacing,
        out: &mut Outgoing<'_>,
        mut send: impl FnMut(&[u8], usize),
    ) {
        while self.waiting.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, packet)) = self.waiting.pop_front() {
                send(&packet, packet.len());
            }
        }
        if now < self.next_frame {
            return;
        }
        let interval = match self.kind {
            Kind::Audio => AUDIO_INTERVAL,
            Kind::Video => FRAME_INTERVAL,
        };
        let at = self.next_frame;
        self.next_frame += interval;
        if self.next_frame < now {
            // The machine held us up: leave the missed frames out rather than burst.
            self.next_frame = now + interval;
        }
        let clock_rate = if self.kind == Kind::Audio { 48_000 } else { 90_000 };
        let elapsed = at.duration_since(self.started).as_nanos();
        let ticks = elapsed * clock_rate / 1_000_000_000;
        self.last_timestamp = self.timestamp_base.wrapping_add(ticks as u32);
        match self.kind {
            Kind::Audio => {
                let packet = self.audio_packet(out);
                send(&packet, packet.len());
            }
            Kind::Video => {
                let packets = self.frame(out);
                if pacing == Pacing::Train {
                    send(&packets, VIDEO_PACKET);
                } else {
                    let gap = interval / packets.len().div_ceil(VIDEO_PACKET).max(1) as u32;
                    let spaced = packets.chunks(VIDEO_PACKET).zip(0..);
                    self.waiting.extend(spaced.map(|(packet, index)| (at + gap * index, packet.to_vec())));
                }
            }
        }
        self.frames += 1;
    }

    fn frame(&mut self, out: &mut Outgoing<'_>) -> Vec<u8> {
        let keyframe = std::mem::take(&mut self.keyframe_due);
        match &mut self.content {
            Content::Steady { height, packets_per_frame } => {
                let (height, count) = (*height, *packets_per_frame);
                let temporal = Temporal { layer: 0, sync: keyframe, discardable: false };
                self.packets(vp8::frame(height, keyframe), temporal, Some(count), out)
            }
            Content::Recorded(playback) => {
                if keyframe {
                    playback.rewind();
                }
                let (clip, index) = playback.advance();
                let mut temporal = vp8::L1T3[index % PERIOD];
                temporal.sync |= keyframe;
                self.packets(&clip.frames[index], temporal, None, out)
            }
            Content::Noise => unreachable!("only audio is noise"),
        }
    }

    /// A VP8 frame in so many full packets, or in as many as it needs.
    fn packets(&mut self, frame: &[u8], temporal: Temporal, count: Option<usize>, out: &mut Outgoing<'_>) -> Vec<u8> {
        self.tl0 = self.tl0.wrapping_add(u8::from(temporal.layer == 0));
        let picture = Picture { id: self.frames, tl0: self.tl0, temporal };
        let mut rest = frame;
        let mut train = Vec::with_capacity(count.unwrap_or(frame.len() / 1000 + 1) * VIDEO_PACKET);
        let mut index = 0;
        loop {
            let mut packet = Vec::with_capacity(VIDEO_PACKET);
            self.header(&mut packet, false, sdp::VP8, out.transport_sequence);
            vp8::descriptor(&mut packet, &picture, index == 0);
            let room = VIDEO_PACKET - TAG - packet.len();
            let (part, behind) = rest.split_at(room.min(rest.len()));
            packet.extend_from_slice(part);
            rest = behind;
            index += 1;
            if count.is_some() {
                // What the frame does not fill is octets behind its last partition, which decoders do not read.
                packet.resize(VIDEO_PACKET - TAG, 0x5A);
            }
            let last = count.map_or(rest.is_empty(), |count| index >= count);
            packet[1] |= u8::from(last) << 7;
            self.protect(packet, out.srtp, &mut train);
            if last {
                return train;
            }
        }
    }

    fn audio_packet(&mut self, out: &mut Outgoing<'_>) -> Vec<u8> {
        let mut packet = Vec::with_capacity(192);
        self.header(&mut packet, self.frames == 0, sdp::OPUS, out.transport_sequence);
        if let Content::Recorded(playback) = &mut self.content {
            let (clip, index) = playback.advance();
            packet.extend_from_slice(&clip.frames[index]);
        } else {
            // RFC 6716 §3.1: CELT, fullband, 20 ms, mono, one frame of 80 octets (32 kbit/s); its content is noise.
            packet.push(0xF8);
            let mut noise = self.frames.wrapping_mul(2_654_435_761) | 1;
            packet.extend((0..79).map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 17;
                noise ^= noise << 5;
                noise as u8
            }));
        }
        let mut protected = Vec::with_capacity(packet.len() + TAG);
        self.protect(packet, out.srtp, &mut protected);
        protected
    }

    fn header(&self, packet: &mut Vec<u8>, marker: bool, payload_type: u8, transport: &mut u16) {
        packet.extend_from_slice(&[0x90, payload_type | u8::from(marker) << 7]);
        packet.extend_from_slice(&self.sequence.number().to_be_bytes());
        packet.extend_from_slice(&self.last_timestamp.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        packet.extend_from_slice(&[0xBE, 0xDE, 0, 0]);
        let start = packet.len();
        let mut element = |id: u8, value: &[u8]| {
            packet.push(id << 4 | (value.len() as u8 - 1));
            packet.extend_from_slice(value);
        };
        if self.transport_cc {
            element(extension::TRANSPORT_CC, &transport.to_be_bytes());
            *transport = transport.wrapping_add(1);
        }
        if self.kind == Kind::Audio && self.audio_level {
            // RFC 6464 §3: voice at -20 dBov, all the time in a recording, else for three seconds of six.
            let speaks = matches!(self.content, Content::Recorded(_)) || (self.frames / 150).is_multiple_of(2);
            let level = if speaks { 0x80 | 20 } else { 127 };
            element(extension::AUDIO_LEVEL, &[level]);
        }
        if self.sent_packets < NAMED_PACKETS {
            element(extension::MID, self.mid.as_bytes());
            if let Some(rid) = self.rid {
                element(extension::RID, rid.as_bytes());
            }
        }
        while !(packet.len() - start).is_multiple_of(4) {
            packet.push(0);
        }
        let words = ((packet.len() - start) / 4) as u16;
        packet[start - 2..start].copy_from_slice(&words.to_be_bytes());
    }

    /// Appends the protected packet to `out` and remembers the plain one.
    fn protect(&mut self, packet: Vec<u8>, srtp: &Srtp, out: &mut Vec<u8>) {
        let (start, length) = (out.len(), packet.len());
        out.extend_from_slice(&packet);
        out.resize(start + length + TAG, 0);
        srtp.protect_rtp(&mut out[start..], length, self.sequence.rollover()).expect("our own packets are well formed");
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((self.sequence.number(), packet));
        self.sequence.0 += 1;
        self.sent_packets += 1;
        self.sent_octets = self.sent_octets.wrapping_add(length as u32);
    }

    /// The retransmission of `number` (RFC 4588), if it is still known: on the repair stream for video, as it was for
    /// audio.
    pub fn retransmission(&mut self, number: u16, srtp: &Srtp) -> Option<Vec<u8>> {
        let found = self.history.iter().find(|(known, _)| *known == number);
        let (_, original) = found?;
        let mut packet;
        let rollover;
        if self.kind == Kind::Video {
            let header = crate::srtp::rtp_header_length(original)?;
            packet = original[..header].to_vec();
            packet[1] = original[1] & 0x80 | sdp::RTX;
            packet[2..4].copy_from_slice(&self.rtx_sequence.number().to_be_bytes());
            packet[8..12].copy_from_slice(&self.rtx_ssrc.to_be_bytes());
            packet.extend_from_slice(&number.to_be_bytes());
            packet.extend_from_slice(&original[header..]);
            rollover = self.rtx_sequence.rollover();
            self.rtx_sequence.0 += 1;
        } else {
            packet = original.clone();
            let behind = self.sequence.number().wrapping_sub(number);
            rollover = Sequence(self.sequence.0 - u64::from(behind)).rollover();
        }
        let length = packet.len();
        packet.resize(length + TAG, 0);
        srtp.protect_rtp(&mut packet, length, rollover)?;
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clip::Clip;

    #[test]
    fn a_recording_says_where_its_frames_stand_and_begins_anew_when_asked() {
        let frames = (0..12).map(|index| vec![u8::from(index > 0); if index == 0 { 3000 } else { 700 }]).collect();
        let clip = Arc::new(Clip { frames, width: 320, height: 180, bitrate: 150_000 });
        let section = sdp::Section { mid: "7".into(), kind: Kind::Video, track: None };
        let encoding = sdp::OutgoingEncoding { rid: Some("q"), ssrc: 5, rtx_ssrc: 6 };
        let (answered, srtp) = (sdp::AnswerSection::default(), Srtp::new(&[3; 32], &[5; 12]).unwrap());
        #[allow(clippy::disallowed_methods)] // where the test's time begins
        let start = Instant::now();
        let content = Content::Recorded(Playback::of_video(clip));
        let mut stream = OutgoingStream::new(&section, &answered, &encoding, content, start, Duration::ZERO);
        let mut transport_sequence = 0;
        // Of each frame: marker bits and descriptors of its packets.
        let mut frame = |stream: &mut OutgoingStream| {
            let mut seen = Vec::new();
            let mut out = Outgoing { srtp: &srtp, transport_sequence: &mut transport_sequence };
            stream.send_due(stream.next_send(), Pacing::Train, &mut out, |train, size| {
                for packet in train.chunks(size) {
                    let mut packet = packet.to_vec();
                    let marker = packet[1] >> 7;
                    let payload = srtp.open_rtp(&mut packet, 0).unwrap();
                    seen.push((marker, packet[payload][..6].to_vec()));
                }
            });
            seen
        };
        let key = frame(&mut stream);
        assert_eq!(key[0], (0, vec![0x90, 0xE0, 0x80, 0, 1, 0x20]));
        assert_eq!(key[1], (0, vec![0x80, 0xE0, 0x80, 0, 1, 0x20]));
        assert_eq!((key.len(), key[2].0), (3, 1));
        for (id, first, tl0, temporal) in
            [(1, 0xB0, 1, 0xA0), (2, 0x90, 1, 0x60), (3, 0xB0, 1, 0x80), (4, 0x90, 2, 0x00), (5, 0xB0, 2, 0xA0)]
        {
            assert_eq!(frame(&mut stream), [(1, vec![first, 0xE0, 0x80, id, tl0, temporal])]);
        }
        stream.request_keyframe();
        assert_eq!(frame(&mut stream)[0].1, [0x90, 0xE0, 0x80, 6, 3, 0x20]);
    }
}
