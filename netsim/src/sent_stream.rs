//! A simulated encoder and the RTP stream that carries it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datapath::{Entropy, Now};
use sfu::rtcp::SenderInfo;
use sfu::rtp::{HeaderWriter, abs_send_time};
use sfu::transport::SrtpSender;
use sfu::transport::srtp::RTP_OVERHEAD;
use sfu::vp8::{DESCRIPTOR_LEN_MAX, Descriptor};
use sfu::{Codec, ExtensionIds};

use crate::dependency_descriptor::Position;
use crate::loss::unit;
use crate::opus_fec::OpusFec;
use crate::picture::{MARK, Mark};
use crate::publisher_rate::HEADERS;

/// NAL unit headers (RFC 6184 §1.3): a sequence parameter set, with which a keyframe begins, and a slice.
const SPS: u8 = 0x67;
const SLICE: u8 = 0x41;
/// Packets kept for retransmission.
const HISTORY: usize = 1000;
/// Octets of one packet's payload at most.
const PAYLOAD_MAX: usize = 1150;
/// How much larger a keyframe is.
const KEYFRAME_FACTOR: u32 = 4;
/// Size of a frame of each temporal layer beside the mean one: the base layer has 40 % of the bits, the middle one 30.
const LAYER_PERCENT: [usize; 3] = [160, 120, 60];
/// Encoders meet their rate on average: the size of one frame is off by up to this part, either way.
const VARIATION: f64 = 0.15;

/// What a stream is made with.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    pub room: u64,
    pub track: u64,
    pub encoding: u8,
    pub codec: Codec,
    pub mid: String,
    pub rid: Option<String>,
    pub ssrc: u32,
    pub payload_type: u8,
    /// SSRC and payload type of the retransmissions.
    pub rtx: Option<(u32, u8)>,
    pub extensions: ExtensionIds,
    pub bitrate_bps: u32,
    pub size: (u16, u16),
    /// Three temporal layers in the pattern 0 2 1 2, else one.
    pub temporal: bool,
    /// Its dependency descriptors are cut off.
    pub cut_descriptors: bool,
    pub first_sequence: u16,
    /// When the first frame is captured, from the publishing on: all encodings of a camera have the same.
    pub phase: Duration,
    /// Octets that end-to-end encryption adds to each frame.
    pub encryption: usize,
}

/// Between two frames.
pub fn interval(codec: Codec) -> Duration {
    match codec {
        Codec::Opus => Duration::from_millis(20),
        Codec::Vp8 | Codec::H264 => Duration::from_nanos(33_333_333),
    }
}

/// A packet as the encoder made it, not yet numbered for the transport nor protected.
#[derive(Clone, Debug)]
pub struct Encoded {
    sequence: u64,
    marker: bool,
    timestamp: u32,
    pub payload: Arc<[u8]>,
    /// The dependency descriptor; empty where there is none.
    descriptor: Arc<[u8]>,
    /// Its number on the stream of retransmissions (RFC 4588), if it is one.
    pub rtx: Option<u64>,
}

pub struct SentStream {
    pub spec: StreamSpec,
    sequence: u64,
    rtx_sequence: u64,
    first_timestamp: u32,
    started: Instant,
    next_frame: Instant,
    frame: u32,
    /// The last frame of each temporal layer that others are predicted from: 0, and 1.
    last_base: u32,
    last_middle: u32,
    picture_id: u16,
    tl0_picture_index: u8,
    since_keyframe: u32,
    keyframe_wanted: bool,
    history: VecDeque<Encoded>,
    /// Of the sizes.
    chance: Entropy,
    /// Nothing is encoded (dynacast, mute).
    pub paused: bool,
    /// What the encoder is to make of it now, in bit/s; and whether there is too little to make anything.
    pub target_bps: u32,
    pub starved: bool,
    /// Of audio: whether a packet repeats the one before it.
    pub fec: OpusFec,
    /// The server has reported about it. Until then its packets carry the mid and the rid, as a browser's do.
    pub acknowledged: bool,
    /// −dBov of what the microphone hears.
    pub audio_level: u8,
    pub packets: u32,
    pub octets: u32,
    pub keyframes: u32,
    pub retransmitted: u32,
}

impl SentStream {
    pub fn new(spec: StreamSpec, now: Instant, entropy: &mut Entropy) -> SentStream {
        SentStream {
            sequence: u64::from(spec.first_sequence),
            rtx_sequence: entropy.below(1 << 15),
            first_timestamp: entropy.u32(),
            started: now,
            next_frame: now + spec.phase,
            frame: 0,
            last_base: 0,
            last_middle: 0,
            picture_id: 0x7FF0,
            tl0_picture_index: 250,
            since_keyframe: 0,
            keyframe_wanted: true,
            history: VecDeque::new(),
            chance: entropy.fork(),
            paused: false,
            target_bps: spec.bitrate_bps,
            starved: false,
            fec: OpusFec::default(),
            acknowledged: false,
            audio_level: 30,
            packets: 0,
            octets: 0,
            keyframes: 0,
            retransmitted: 0,
            spec,
        }
    }

    pub fn request_keyframe(&mut self) {
        self.keyframe_wanted = true;
    }

    /// The encoder starts over under other SSRCs. What it numbers begins anew; its packets' numbers this far behind those
    /// before, so that they could be taken for late ones.
    pub fn start_over(&mut self, behind: u64, entropy: &mut Entropy) {
        self.spec.ssrc = entropy.u32();
        self.spec.rtx = self.spec.rtx.map(|(_, payload_type)| (entropy.u32(), payload_type));
        self.sequence = self.sequence.wrapping_sub(behind) & 0xFFFF;
        self.rtx_sequence = entropy.below(1 << 15);
        self.first_timestamp = entropy.u32();
        self.picture_id = entropy.below(1 << 15) as u16;
        self.tl0_picture_index = entropy.below(1 << 8) as u8;
        self.keyframe_wanted = true;
        self.history.clear();
        self.acknowledged = false;
        (self.packets, self.octets) = (0, 0);
    }

    pub fn poll_timeout(&self) -> Instant {
        self.next_frame
    }

    fn timestamp(&self, at: Instant) -> u32 {
        let elapsed = at.saturating_duration_since(self.started);
        let units = elapsed.as_nanos() * u128::from(self.spec.codec.clock_rate()) / 1_000_000_000;
        self.first_timestamp.wrapping_add(units as u32)
    }

    pub fn sender_info(&self, now: Now) -> SenderInfo {
        SenderInfo {
            ntp: ntp(now.unix),
            rtp_timestamp: self.timestamp(now.instant),
            packets: self.packets,
            octets: self.octets,
        }
    }

    /// The packets of the frame that is due, if one is.
    pub fn poll_frame(&mut self, now: Now) -> Vec<Encoded> {
        let mut made = Vec::new();
        if now.instant < self.next_frame {
            return made;
        }
        // Frames that were due while nothing could be sent are not made up for.
        self.next_frame =
            (self.next_frame + interval(self.spec.codec)).max(now.instant + interval(self.spec.codec) / 2);
        if self.paused || self.starved {
            // What comes back after a pause begins anew.
            self.keyframe_wanted = true;
            return made;
        }
        let bits = u64::from(self.target_bps) * interval(self.spec.codec).as_micros() as u64 / 1_000_000;
        let mut octets = (bits / 8) as usize;
        let video = self.spec.codec != Codec::Opus;
        let keyframe = video && std::mem::take(&mut self.keyframe_wanted);
        if keyframe {
            octets *= KEYFRAME_FACTOR as usize;
            self.keyframes += 1;
            self.since_keyframe = 0;
        }
        let (layer, reference) = self.predict(keyframe);
        if self.spec.temporal && !keyframe {
            octets = octets * LAYER_PERCENT[usize::from(layer)] / 100;
        }
        octets = (octets as f64 * (1.0 + VARIATION * (2.0 * unit(&mut self.chance) - 1.0))) as usize;
        octets += self.spec.encryption;
        let timestamp = self.timestamp(now.instant);
        let packets = octets.div_ceil(PAYLOAD_MAX).max(1);
        for packet in 0..packets {
            let mark = Mark {
                room: self.spec.room,
                track: self.spec.track,
                encoding: self.spec.encoding,
                keyframe,
                frame: self.frame,
                reference,
                packet: packet as u8,
                packets: packets as u8,
                captured: now.unix,
                repeats: !video && self.frame > 0 && self.fec.is_on(),
            };
            let mut payload = Vec::new();
            let mut described = Vec::new();
            if self.spec.codec == Codec::H264 {
                let (is_first, is_last) = (packet == 0, packet + 1 == packets);
                payload.push(if keyframe && is_first { SPS } else { SLICE });
                if self.spec.temporal {
                    described = Position { frame: self.frame, keyframe, layer, is_first, is_last }.write();
                    described.truncate(if self.spec.cut_descriptors { 2 } else { described.len() });
                }
            } else if video {
                let descriptor = Descriptor {
                    start: packet == 0,
                    non_reference: layer == 2,
                    picture_id: Some(self.picture_id),
                    picture_id_is_long: true,
                    tl0_picture_index: self.spec.temporal.then_some(self.tl0_picture_index),
                    temporal_layer: self.spec.temporal.then_some(layer),
                    // Y: predicted from the base layer alone (RFC 7741 §4.2).
                    layer_sync: layer > 0 && reference == self.last_base,
                    ..Descriptor::default()
                };
                let mut buffer = [0; DESCRIPTOR_LEN_MAX];
                let length = descriptor.write(&mut buffer);
                payload.extend_from_slice(&buffer[..length]);
            }
            payload.extend(mark.write((octets / packets).max(MARK), self.spec.size));
            let encoded = Encoded {
                sequence: self.sequence,
                // Video: the frame's last packet (RFC 7741 §4.1). Audio: none without DTX.
                marker: video && packet + 1 == packets,
                timestamp,
                payload: payload.into(),
                descriptor: described.into(),
                rtx: None,
            };
            self.sequence += 1;
            self.packets += 1;
            self.octets += encoded.payload.len() as u32;
            made.push(encoded.clone());
            self.history.push_back(encoded);
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
        self.frame += 1;
        self.picture_id = (self.picture_id + 1) & 0x7FFF;
        made
    }

    /// The temporal layer of the next frame and the frame that it is predicted from.
    fn predict(&mut self, keyframe: bool) -> (u8, u32) {
        let position = self.since_keyframe % 4;
        self.since_keyframe += 1;
        let layer = match position {
            _ if !self.spec.temporal => 0,
            0 => 0,
            2 => 1,
            _ => 2,
        };
        let reference = match (layer, position) {
            _ if keyframe => self.frame,
            (2, 3) => self.last_middle,
            _ => self.last_base,
        };
        if layer == 0 {
            self.last_base = self.frame;
            self.tl0_picture_index = self.tl0_picture_index.wrapping_add(1);
        } else if layer == 1 {
            self.last_middle = self.frame;
        }
        (layer, reference)
    }

    /// The retransmission that answers a NACK (RFC 4588).
    pub fn retransmit(&mut self, sequence_number: u16) -> Option<Encoded> {
        let kept = self.history.iter().rev().find(|kept| kept.sequence as u16 == sequence_number)?.clone();
        let again = self.again(kept)?;
        self.retransmitted += 1;
        Some(again)
    }

    /// Retransmissions of what was sent last, newest first, that nobody has asked for: padding that probes.
    pub fn padding(&mut self, octets: usize) -> Vec<Encoded> {
        let mut made = 0;
        let enough = |kept: &&Encoded| {
            let more = made < octets;
            made += kept.payload.len() + HEADERS;
            more
        };
        let kept: Vec<Encoded> = self.history.iter().rev().take_while(enough).cloned().collect();
        kept.into_iter().filter_map(|kept| self.again(kept)).collect()
    }

    fn again(&mut self, kept: Encoded) -> Option<Encoded> {
        self.spec.rtx?;
        let number = self.rtx_sequence;
        self.rtx_sequence += 1;
        Some(Encoded { rtx: Some(number), ..kept })
    }

    /// The protected packet. `number`: the transport-wide one.
    pub fn write(&self, now: Now, encoded: &Encoded, number: u16, sender: &SrtpSender) -> Vec<u8> {
        let rtx = encoded.rtx.zip(self.spec.rtx).map(|(sequence, (ssrc, payload_type))| (ssrc, payload_type, sequence));
        let (ssrc, payload_type, sequence) = rtx.unwrap_or((self.spec.ssrc, self.spec.payload_type, encoded.sequence));
        let ids = &self.spec.extensions;
        let mut buffer = vec![0; 128 + encoded.payload.len() + RTP_OVERHEAD];
        let mut header = HeaderWriter::new(
            &mut buffer,
            payload_type,
            encoded.marker,
            sequence as u16,
            encoded.timestamp,
            ssrc,
            // RFC 8285 §4.3: more than 16 octets need the long form.
            encoded.descriptor.len() > 16,
        )
        .expect("128 octets hold a header");
        if let Some(id) = ids.transport_cc {
            header.extension(id, &number.to_be_bytes());
        }
        if let Some(id) = ids.abs_send_time {
            header.extension(id, &abs_send_time(now.unix));
        }
        if !self.acknowledged || rtx.is_some() {
            if let Some(id) = ids.mid {
                header.extension(id, self.spec.mid.as_bytes());
            }
            let id = if rtx.is_some() { ids.repaired_rid } else { ids.rid };
            if let Some((id, rid)) = id.zip(self.spec.rid.as_ref()) {
                header.extension(id, rid.as_bytes());
            }
        }
        if let Some(id) = ids.audio_level.filter(|_| self.spec.codec == Codec::Opus) {
            header.extension(id, &[0x80 | self.audio_level]);
        }
        if let Some(id) = ids.dependency_descriptor.filter(|_| !encoded.descriptor.is_empty()) {
            header.extension(id, &encoded.descriptor);
        }
        let header_length = header.finish();
        let mut length = header_length;
        if rtx.is_some() {
            buffer[length..length + 2].copy_from_slice(&(encoded.sequence as u16).to_be_bytes());
            length += 2;
        }
        buffer[length..length + encoded.payload.len()].copy_from_slice(&encoded.payload);
        length += encoded.payload.len();
        // RFC 3711 §3.3.1: the index is the sequence number with its rollovers, which begin at zero.
        let index = sequence;
        let length = sender.protect_rtp(&mut buffer, header_length, length, ssrc, index);
        buffer.truncate(length);
        buffer
    }
}

/// NTP time (RFC 5905, seconds since 1900) as 32.32 fixed point.
pub fn ntp(unix: Duration) -> u64 {
    const FROM_1900_TO_1970: u64 = 2_208_988_800;
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    (unix.as_secs() + FROM_1900_TO_1970) << 32 | fraction
}
