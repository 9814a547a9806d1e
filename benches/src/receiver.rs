//! What a subscriber does with the streams it receives: counts, notices loss, reports.

use std::time::{Duration, Instant};

use crate::rtcp::{self, ReportBlock};
use crate::sdp::{self, Kind, extension};
use crate::srtp::{Srtp, rtp_header_length};
use crate::vp8;

/// One packet of this many is opened, so that its tag is verified.
const VERIFIED_OF: u64 = 64;
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const TRANSPORT_FEEDBACK_INTERVAL: Duration = Duration::from_millis(100);
const NACK_RETRY: Duration = Duration::from_millis(60);
const NACK_TRIES: u8 = 8;

/// Counts over all streams of a run.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Totals {
    pub video_packets: u64,
    pub audio_packets: u64,
    /// With RTP header and SRTP tag.
    pub bytes: u64,
    pub retransmissions: u64,
    pub recovered: u64,
    /// Given up after every retry.
    pub lost: u64,
    pub duplicates: u64,
    pub nacks: u64,
    pub verified: u64,
    pub bad_tags: u64,
    pub unknown_ssrc: u64,
    /// Video streams whose first packet did not start a keyframe.
    pub bad_starts: u64,
    pub keyframes_requested: u64,
    /// Packets that asked for a retransmission of ours.
    pub nacks_received: u64,
    pub rtcp_received: u64,
}

impl Totals {
    /// What came since `earlier`.
    pub fn since(&self, earlier: &Totals) -> Totals {
        Totals {
            video_packets: self.video_packets - earlier.video_packets,
            audio_packets: self.audio_packets - earlier.audio_packets,
            bytes: self.bytes - earlier.bytes,
            retransmissions: self.retransmissions - earlier.retransmissions,
            recovered: self.recovered - earlier.recovered,
            lost: self.lost - earlier.lost,
            duplicates: self.duplicates - earlier.duplicates,
            nacks: self.nacks - earlier.nacks,
            verified: self.verified - earlier.verified,
            bad_tags: self.bad_tags - earlier.bad_tags,
            unknown_ssrc: self.unknown_ssrc - earlier.unknown_ssrc,
            bad_starts: self.bad_starts - earlier.bad_starts,
            keyframes_requested: self.keyframes_requested - earlier.keyframes_requested,
            nacks_received: self.nacks_received - earlier.nacks_received,
            rtcp_received: self.rtcp_received - earlier.rtcp_received,
        }
    }
}

struct Missing {
    number: u64,
    tries: u8,
    next: Instant,
}

struct IncomingStream {
    kind: Kind,
    ssrc: u32,
    rtx_ssrc: Option<u32>,
    transport_cc: bool,
    /// Extended sequence numbers: rollover counter and number.
    first: u64,
    highest: Option<u64>,
    received: u64,
    reported: (u64, u64),
    missing: Vec<Missing>,
    sender_report: Option<(u32, Instant)>,
}

/// The receiving half of one transport.
pub struct Receiver {
    ssrc: u32,
    streams: Vec<IncomingStream>,
    remb: bool,
    next_report: Instant,
    next_feedback: Instant,
    epoch: Instant,
    arrivals: Vec<(i64, i64)>,
    last_transport: i64,
    feedback_count: u8,
}

impl Receiver {
    pub fn new(ssrc: u32, now: Instant) -> Receiver {
        Receiver {
            ssrc,
            streams: Vec::new(),
            remb: false,
            next_report: now + REPORT_INTERVAL,
            next_feedback: now + TRANSPORT_FEEDBACK_INTERVAL,
            epoch: now,
            arrivals: Vec::new(),
            last_transport: 0,
            feedback_count: 0,
        }
    }

    /// Takes over what an answer says that the server sends.
    pub fn negotiated(&mut self, sections: &[(sdp::Section, sdp::AnswerSection)]) {
        let sent = || sections.iter().filter(|(_, answered)| answered.sends);
        self.remb = sent().any(|(_, answered)| answered.remb);
        self.streams.retain(|stream| sent().any(|(_, answered)| answered.ssrcs.contains(&stream.ssrc)));
        for (section, answered) in sent() {
            for &ssrc in &answered.ssrcs {
                if self.streams.iter().any(|stream| stream.ssrc == ssrc) {
                    continue;
                }
                let repair = answered.repair.iter().find(|(media, _)| *media == ssrc);
                self.streams.push(IncomingStream {
                    kind: section.kind,
                    ssrc,
                    rtx_ssrc: repair.map(|(_, rtx)| *rtx),
                    transport_cc: answered.extensions.contains(&extension::TRANSPORT_CC),
                    first: 0,
                    highest: None,
                    received: 0,
                    reported: (0, 0),
                    missing: Vec::new(),
                    sender_report: None,
                });
            }
        }
    }

    /// Tracks that the server sends, and those of them from which packets came.
    pub fn tracks(&self) -> (usize, usize) {
        let flowing = self.streams.iter().filter(|stream| stream.received > 0);
        (self.streams.len(), flowing.count())
    }

    pub fn handle_rtp(&mut self, now: Instant, packet: &mut [u8], srtp: &Srtp, totals: &mut Totals) {
        let Some(ssrc) = packet.get(8..12) else {
            return;
        };
        let ssrc = u32::from_be_bytes([ssrc[0], ssrc[1], ssrc[2], ssrc[3]]);
        let number = u16::from_be_bytes([packet[2], packet[3]]);
        let matches = |stream: &&mut IncomingStream| stream.ssrc == ssrc || stream.rtx_ssrc == Some(ssrc);
        let Some(stream) = self.streams.iter_mut().find(matches) else {
            totals.unknown_ssrc += 1;
            return;
        };
        totals.bytes += packet.len() as u64;
        if stream.transport_cc
            && let Some(transport) = transport_sequence(packet)
        {
            let step = transport.wrapping_sub(self.last_transport as u16) as i16;
            self.last_transport += i64::from(step);
            let at = now.duration_since(self.epoch).as_micros() as i64 / 250;
            self.arrivals.push((self.last_transport, at));
        }
        if stream.ssrc != ssrc {
            totals.retransmissions += 1;
            stream.handle_retransmission(packet, srtp, totals);
            return;
        }
        match stream.kind {
            Kind::Audio => totals.audio_packets += 1,
            Kind::Video => totals.video_packets += 1,
        }
        let extended = stream.note(now, number, totals);
        if stream.received == 1 || stream.received.is_multiple_of(VERIFIED_OF) {
            match srtp.open_rtp(packet, (extended >> 16) as u32) {
                Some(payload) => {
                    totals.verified += 1;
                    if stream.received == 1
                        && stream.kind == Kind::Video
                        && vp8::starts_keyframe(&packet[payload]) != Some(true)
                    {
                        totals.bad_starts += 1;
                    }
                }
                None => totals.bad_tags += 1,
            }
        }
    }

    pub fn handle_sender_report(&mut self, now: Instant, ssrc: u32, ntp_middle: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
            stream.sender_report = Some((ntp_middle, now));
        }
    }

    /// Compound packets that are due, each handed to `send` unprotected.
    pub fn poll_feedback(&mut self, now: Instant, totals: &mut Totals, mut send: impl FnMut(Vec<u8>)) {
        let sender = self.ssrc;
        for stream in &mut self.streams {
            let missing = stream.due(now, totals);
            if !missing.is_empty() {
                totals.nacks += missing.len() as u64;
                let mut packet = Vec::with_capacity(64);
                rtcp::nack(&mut packet, sender, stream.ssrc, &missing);
                send(packet);
            }
        }
        if now >= self.next_feedback {
            self.next_feedback = now + TRANSPORT_FEEDBACK_INTERVAL;
            if let Some(packet) = self.transport_feedback() {
                send(packet);
            }
        }
        if now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            let flowing = || self.streams.iter().filter(|stream| stream.highest.is_some());
            let video: Vec<u32> = flowing().filter(|s| s.kind == Kind::Video).map(|s| s.ssrc).collect();
            let blocks: Vec<_> = self.streams.iter_mut().filter_map(|stream| stream.report(now)).collect();
            for (index, blocks) in blocks.chunks(31).enumerate() {
                let mut packet = Vec::with_capacity(128);
                rtcp::receiver_report(&mut packet, sender, blocks);
                rtcp::cname(&mut packet, sender, "generator");
                if index == 0 && self.remb && !video.is_empty() {
                    rtcp::remb(&mut packet, sender, 50_000_000, &video[..video.len().min(255)]);
                }
                send(packet);
            }
        }
    }

    fn transport_feedback(&mut self) -> Option<Vec<u8>> {
        self.arrivals.sort_unstable();
        self.arrivals.dedup_by_key(|(sequence, _)| *sequence);
        let arrivals: Vec<_> = self.arrivals.drain(..).map(|(sequence, at)| (sequence as u16, at)).collect();
        if arrivals.is_empty() {
            return None;
        }
        let media = self.streams.iter().find(|stream| stream.transport_cc)?.ssrc;
        let mut packet = Vec::with_capacity(64 + arrivals.len() * 2);
        let count = self.feedback_count;
        self.feedback_count = count.wrapping_add(1);
        rtcp::transport_feedback(&mut packet, self.ssrc, media, count, &arrivals);
        Some(packet)
    }
}

impl IncomingStream {
    /// Takes note of a received number and returns it extended.
    fn note(&mut self, now: Instant, number: u16, totals: &mut Totals) -> u64 {
        self.received += 1;
        let Some(highest) = self.highest else {
            self.first = u64::from(number);
            self.highest = Some(self.first);
            return self.first;
        };
        let step = number.wrapping_sub(highest as u16) as i16;
        let extended = highest.saturating_add_signed(i64::from(step));
        if step > 0 {
            self.highest = Some(extended);
            // A jump of hundreds is a switch of the source, not loss.
            if step < 300 {
                self.missing.extend((highest + 1..extended).map(|number| Missing { number, tries: 0, next: now }));
            }
        } else {
            self.found(extended, totals);
        }
        extended
    }

    fn found(&mut self, extended: u64, totals: &mut Totals) {
        match self.missing.iter().position(|missing| missing.number == extended) {
            Some(index) => {
                self.missing.swap_remove(index);
                totals.recovered += 1;
            }
            None => totals.duplicates += 1,
        }
    }

    fn handle_retransmission(&mut self, packet: &mut [u8], srtp: &Srtp, totals: &mut Totals) {
        // The repair stream's rollover counter stays 0 as long as the run is short.
        let Some(payload) = srtp.open_rtp(packet, 0) else {
            totals.bad_tags += 1;
            return;
        };
        let (Some(number), Some(highest)) = (packet[payload].first_chunk(), self.highest) else {
            // Padding probes carry no original.
            return;
        };
        let number = u16::from_be_bytes(*number);
        let step = number.wrapping_sub(highest as u16) as i16;
        self.found(highest.saturating_add_signed(i64::from(step)), totals);
    }

    /// The numbers to ask for now, ascending; forgets those asked for too often.
    fn due(&mut self, now: Instant, totals: &mut Totals) -> Vec<u16> {
        if self.missing.is_empty() {
            return Vec::new();
        }
        let before = self.missing.len();
        self.missing.retain(|missing| missing.tries < NACK_TRIES || now < missing.next);
        totals.lost += (before - self.missing.len()) as u64;
        let mut due: Vec<u64> = Vec::new();
        for missing in &mut self.missing {
            if missing.next <= now {
                missing.tries += 1;
                missing.next = now + NACK_RETRY;
                due.push(missing.number);
            }
        }
        due.sort_unstable();
        due.into_iter().map(|number| number as u16).collect()
    }

    fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let highest = self.highest?;
        let expected = highest - self.first + 1;
        let (expected_before, received_before) = self.reported;
        let expected_now = expected - expected_before;
        let lost_now = expected_now.saturating_sub(self.received - received_before);
        self.reported = (expected, self.received);
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255);
        let (last, delay) = match self.sender_report {
            Some((middle, at)) => (middle, (now.duration_since(at).as_micros() * 65_536 / 1_000_000) as u32),
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: fraction as u8,
            lost_total: expected.saturating_sub(self.received) as u32,
            highest_sequence: highest as u32,
            last_sender_report: last,
            delay_since_sender_report: delay,
        })
    }
}

/// The transport-wide sequence number in a one-byte-header extension (RFC 8285 §4.2).
fn transport_sequence(packet: &[u8]) -> Option<u16> {
    if packet[0] & 0x10 == 0 {
        return None;
    }
    let end = rtp_header_length(packet)?;
    let start = 12 + 4 * usize::from(packet[0] & 0xF);
    if packet[start..start + 2] != [0xBE, 0xDE] {
        return None;
    }
    let mut elements = &packet[start + 4..end];
    while let Some((&head, rest)) = elements.split_first() {
        if head == 0 {
            elements = rest;
            continue;
        }
        let length = usize::from(head & 0xF) + 1;
        if head >> 4 == extension::TRANSPORT_CC {
            return rest.first_chunk().map(|number| u16::from_be_bytes(*number));
        }
        elements = rest.get(length..)?;
    }
    None
}
