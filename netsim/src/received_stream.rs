//! The receiving side of one RTP stream at a simulated subscriber: repair, and a decoder that judges what it is given.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use sfu::Codec;
use sfu::h264;
use sfu::rtcp::{ReportBlock, SenderInfo};
use sfu::rtp::RtpHeader;
use sfu::sequence::{unwrap_16, unwrap_32};
use sfu::vp8::{Descriptor, picture_id_distance};

use crate::net_eq::NetEq;
use crate::picture::Mark;

/// A missing packet is asked for at once, again after this long, and this many times at most.
const ASK_AGAIN: Duration = Duration::from_millis(150);
const ASKS_MAX: u32 = 10;
/// Without a decoded frame for this long a keyframe is asked for, and again as often.
const KEYFRAME_PATIENCE: Duration = Duration::from_millis(500);
/// So long a frame waits for its packets while later ones could be shown.
const JITTER_BUFFER: Duration = Duration::from_millis(250);
/// Frames remembered as references.
const DECODED_MAX: usize = 64;
/// Frames waiting for packets or references.
const WAITING_MAX: usize = 200;

#[derive(Clone, Debug)]
pub struct ReceptionSpec {
    pub room: u64,
    pub track: u64,
    pub codec: Codec,
    pub ssrc: u32,
    pub payload_type: u8,
    pub rtx: Option<(u32, u8)>,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    asked: Option<Instant>,
    asks: u32,
}

/// A frame whose packets are arriving.
#[derive(Clone, Debug)]
struct Waiting {
    mark: Mark,
    picture_id: Option<u16>,
    packets: BTreeSet<u8>,
    since: Instant,
}

/// What the decoder has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    pub at: Instant,
    pub encoding: u8,
    pub frame: u32,
    pub keyframe: bool,
}

/// What happened to a stream; the fields that a faultless run leaves at zero stand last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reception {
    pub packets: u64,
    pub octets: u64,
    pub keyframe_requests: u64,
    /// Packets that were seen to be missing, those of them that came late by themselves (repaired upstream, or
    /// overtaken), that a retransmission brought, and that were given up.
    pub missed: u64,
    pub late: u64,
    pub repaired: u64,
    pub abandoned: u64,
    /// The same packet twice, past SRTP's replay protection.
    pub duplicates: u64,
}

pub struct ReceivedStream {
    pub spec: ReceptionSpec,
    pub reception: Reception,
    highest: Option<u64>,
    first: u64,
    missing: BTreeMap<u64, Missing>,
    /// Frames by their unwrapped timestamp.
    waiting: BTreeMap<u64, Waiting>,
    references: VecDeque<(u8, u32)>,
    /// Timestamp and picture id of the frame decoded last.
    last_decoded: Option<(u64, Option<u16>)>,
    pub shown: Vec<Shown>,
    first_at: Option<Instant>,
    keyframe_asked: Option<Instant>,
    /// Of the first packet: whether a keyframe begins with it.
    pub began_with_keyframe: Option<bool>,
    sender_info: Option<SenderInfo>,
    /// Capture time by the sender reports less the true one, of the frame decoded last.
    pub clock_offset_us: Option<i64>,
    reported: (u64, u64),
    /// Of audio.
    pub net_eq: NetEq,
    /// How long a decoder that has shown something waits before it asks for a keyframe.
    pub keyframe_patience: Duration,
    /// Octets of both streams on the wire, for its share of the link.
    pub wire_octets: u64,
}

impl ReceivedStream {
    pub fn new(spec: ReceptionSpec) -> ReceivedStream {
        ReceivedStream {
            spec,
            reception: Reception::default(),
            highest: None,
            first: 0,
            missing: BTreeMap::new(),
            waiting: BTreeMap::new(),
            references: VecDeque::new(),
            last_decoded: None,
            shown: Vec::new(),
            first_at: None,
            keyframe_asked: None,
            began_with_keyframe: None,
            sender_info: None,
            clock_offset_us: None,
            reported: (0, 0),
            net_eq: NetEq::default(),
            keyframe_patience: KEYFRAME_PATIENCE,
            wire_octets: 0,
        }
    }

    fn is_video(&self) -> bool {
        self.spec.codec != Codec::Opus
    }

    /// The encodings shown, each once in a row.
    pub fn layers(&self) -> Vec<u8> {
        let mut layers: Vec<u8> = self.shown.iter().map(|shown| shown.encoding).collect();
        layers.dedup();
        layers
    }

    /// Packets that have arrived of frames that are not whole.
    pub fn packets_waiting(&self) -> usize {
        self.waiting.values().map(|frame| frame.packets.len()).sum()
    }

    pub fn handle_sender_report(&mut self, info: SenderInfo) {
        self.sender_info = Some(info);
    }

    /// Takes a plain packet: of the stream itself, or of its repair stream.
    pub fn handle(&mut self, now: Instant, header: &RtpHeader, payload: &[u8]) {
        if header.ssrc == self.spec.ssrc {
            assert_eq!(header.payload_type, self.spec.payload_type, "payload type of the section");
            self.reception.packets += 1;
            self.reception.octets += payload.len() as u64;
            let sequence = match self.highest {
                Some(highest) => unwrap_16(highest, header.sequence_number),
                // One cycle of head room, for packets before the first.
                None => 1 << 16 | u64::from(header.sequence_number),
            };
            self.note_arrival(now, sequence, header, payload);
        } else {
            let repair = self.spec.rtx.map(|(_, payload_type)| payload_type);
            assert_eq!(Some(header.payload_type), repair, "payload type of the repair stream");
            // Without the number of a packet it is padding that probes.
            let Some((original, payload)) = payload.split_first_chunk::<2>() else { return };
            let Some(highest) = self.highest else { return };
            let sequence = unwrap_16(highest, u16::from_be_bytes(*original));
            if self.missing.remove(&sequence).is_none() {
                return;
            }
            self.reception.repaired += 1;
            self.take(now, header.timestamp, payload);
        }
    }

    fn note_arrival(&mut self, now: Instant, sequence: u64, header: &RtpHeader, payload: &[u8]) {
        match self.highest {
            None => {
                self.first = sequence;
                self.first_at = Some(now);
                self.began_with_keyframe = match self.spec.codec {
                    Codec::Opus => None,
                    Codec::Vp8 => Descriptor::parse(payload).map(|it| it.is_keyframe_start(payload)),
                    Codec::H264 => Some(h264::is_keyframe_start(payload)),
                };
            }
            Some(highest) if sequence > highest => {
                for missing in highest + 1..sequence {
                    self.reception.missed += 1;
                    self.missing.insert(missing, Missing { asked: None, asks: 0 });
                }
            }
            Some(_) => {
                if self.missing.remove(&sequence).is_none() {
                    self.reception.duplicates += 1;
                    return;
                }
                self.reception.late += 1;
            }
        }
        self.highest = self.highest.max(Some(sequence));
        if !self.is_video() {
            // One packet is 20 ms, so sequence numbers count time as timestamps do.
            self.net_eq.receive(now, sequence);
            if Mark::read(payload).is_some_and(|mark| mark.repeats) {
                self.net_eq.receive_copy(sequence - 1);
            }
        }
        self.take(now, header.timestamp, payload);
    }

    /// What the payload is.
    fn take(&mut self, now: Instant, timestamp: u32, payload: &[u8]) {
        if payload.is_empty() {
            return;
        }
        let (descriptor, body) = match self.spec.codec {
            Codec::Opus => (None, payload),
            Codec::Vp8 => {
                let descriptor = Descriptor::parse(payload).expect("a VP8 payload descriptor");
                (Some(descriptor), &payload[usize::from(descriptor.len)..])
            }
            // Behind the NAL unit header.
            Codec::H264 => (None, &payload[1..]),
        };
        let mark = Mark::read(body).expect("a payload as a simulated encoder made it");
        assert_eq!(mark.room, self.spec.room, "a packet crossed from one room to another");
        assert_eq!(mark.track, self.spec.track, "a packet of another track");
        let reference = self.last_decoded.map_or(1 << 32 | u64::from(timestamp), |(last, _)| last);
        let timestamp = unwrap_32(reference, timestamp);
        if self.last_decoded.is_some_and(|(last, _)| timestamp <= last) {
            return;
        }
        let picture_id = descriptor.and_then(|descriptor| descriptor.picture_id);
        let frame = self.waiting.entry(timestamp).or_insert_with(|| Waiting {
            mark,
            picture_id,
            packets: BTreeSet::new(),
            since: now,
        });
        assert_eq!(
            (frame.mark.encoding, frame.mark.frame, frame.picture_id),
            (mark.encoding, mark.frame, picture_id),
            "one timestamp, two frames"
        );
        frame.packets.insert(mark.packet);
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_first();
        }
        while self.decode(now) {}
    }

    /// Whether a frame is whole and its reference is there.
    fn is_ready(&self, frame: &Waiting) -> bool {
        let mark = frame.mark;
        let whole = frame.packets.len() == usize::from(mark.packets);
        let known = self.references.contains(&(mark.encoding, mark.reference));
        whole && (!self.is_video() || mark.keyframe || known)
    }

    /// Decodes the first frame that is ready. Those before it are waited for, so that they can be repaired.
    fn decode(&mut self, now: Instant) -> bool {
        let is_due = |frame: &Waiting| now.saturating_duration_since(frame.since) >= JITTER_BUFFER;
        let next = self.waiting.iter().find(|(_, frame)| self.is_ready(frame) || !is_due(frame));
        let Some((&timestamp, frame)) = next.filter(|(_, frame)| self.is_ready(frame)) else { return false };
        let (mark, picture_id) = (frame.mark, frame.picture_id);
        if mark.keyframe {
            // A decoder keeps nothing of what was before: so a switch of layers can happen at a keyframe alone.
            self.references.clear();
        }
        if let Some((_, Some(before))) = self.last_decoded {
            let next = picture_id.expect("the stream has had picture ids");
            let distance = picture_id_distance(next, before);
            assert!(distance > 0, "picture ids go up: {before} then {next}");
            // A decoder waits for each picture id, so that where nothing was lost none may be left out: but for a frame that was
            // cut when its encoding was paused, which a keyframe follows.
            let cut = self.waiting.range(..timestamp).count();
            let is_explained = usize::from(distance.unsigned_abs()) <= 1 + if mark.keyframe { cut } else { 0 };
            assert!(is_explained || self.reception.missed > 0, "a picture id was left out: {before} then {next}");
        }
        self.references.push_back((mark.encoding, mark.frame));
        if self.references.len() > DECODED_MAX {
            self.references.pop_front();
        }
        self.last_decoded = Some((timestamp, picture_id));
        self.shown.push(Shown { at: now, encoding: mark.encoding, frame: mark.frame, keyframe: mark.keyframe });
        if let Some(info) = self.sender_info {
            let units = (timestamp as u32).wrapping_sub(info.rtp_timestamp) as i32;
            let since_report = i64::from(units) * 1_000_000 / i64::from(self.spec.codec.clock_rate());
            let reported = ((u128::from(info.ntp) * 1_000_000) >> 32) as i64;
            let captured = ((u128::from(crate::sent_stream::ntp(mark.captured)) * 1_000_000) >> 32) as i64;
            self.clock_offset_us = Some(reported + since_report - captured);
        }
        self.waiting = self.waiting.split_off(&(timestamp + 1));
        true
    }

    /// The sequence numbers to ask for now.
    pub fn poll_nack(&mut self, now: Instant) -> Vec<u16> {
        if self.spec.rtx.is_none() {
            return Vec::new();
        }
        let mut wanted = Vec::new();
        let mut abandoned = Vec::new();
        for (&sequence, missing) in &mut self.missing {
            if missing.asked.is_some_and(|at| now.saturating_duration_since(at) < ASK_AGAIN) {
                continue;
            }
            if missing.asks == ASKS_MAX {
                abandoned.push(sequence);
                continue;
            }
            missing.asked = Some(now);
            missing.asks += 1;
            wanted.push(sequence as u16);
        }
        for sequence in abandoned {
            self.missing.remove(&sequence);
            self.reception.abandoned += 1;
        }
        wanted
    }

    /// Whether to ask for a keyframe now.
    pub fn poll_keyframe_request(&mut self, now: Instant) -> bool {
        let Some(began) = self.first_at.filter(|_| self.is_video()) else { return false };
        let alive = self.shown.last().map_or(began, |shown| shown.at).max(self.keyframe_asked.unwrap_or(began));
        let patience = if self.shown.is_empty() { KEYFRAME_PATIENCE } else { self.keyframe_patience };
        let waits = !self.waiting.is_empty() && now.saturating_duration_since(alive) >= patience;
        if waits {
            self.keyframe_asked = Some(now);
            self.reception.keyframe_requests += 1;
        }
        waits
    }

    /// The report block since the last one (RFC 3550 §6.4.1).
    pub fn report(&mut self) -> Option<ReportBlock> {
        let highest = self.highest?;
        let expected = highest - self.first + 1;
        let (expected_before, received_before) = self.reported;
        // As a browser counts: a retransmission fills no hole in the stream's own statistics.
        let received = self.reception.packets - self.reception.duplicates;
        self.reported = (expected, received);
        let expected_now = expected - expected_before;
        let lost_now = expected_now.saturating_sub(received - received_before);
        Some(ReportBlock {
            ssrc: self.spec.ssrc,
            fraction_lost: (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255) as u8,
            cumulative_lost: expected.saturating_sub(received) as i32,
            extended_highest_sequence: (highest - (1 << 16)) as u32,
            ..ReportBlock::default()
        })
    }
}
