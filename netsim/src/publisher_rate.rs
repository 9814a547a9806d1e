//! What a browser does so that its uplink carries what it publishes: an estimate from the server's transport-wide feedback
//! (and its REMB), a pacer, and a rate for each encoding.
//!
//! After libwebrtc: audio is reserved first and never waits; what remains goes to the encodings of the camera from the
//! lowest on, and one that does not get its least rate is turned off. The part that retransmissions take is taken from the
//! encoders. The estimator is the server's own, which is of the same family.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sfu::Codec;
use sfu::congestion::{Burst, SendSide};
use sfu::rtcp::TransportFeedback;

use crate::sent_stream::{Encoded, SentStream};

/// Octets of IP, UDP, RTP with its extensions and SRTP's tag.
pub const HEADERS: usize = 72;
/// Between two looks at the estimate.
const TICK: Duration = Duration::from_millis(25);
/// The pacer lets go this much more than the estimate, and so much at once.
const PACING_FACTOR: f64 = 2.5;
const PACING_BURST: f64 = 0.04;
/// What the least encodings of libwebrtc's simulcast take, by picture height, in bit/s.
const LEAST_BPS: [(u16, f64); 3] = [(180, 30_000.0), (360, 150_000.0), (u16::MAX, 600_000.0)];
/// An encoding that is off comes back at this multiple of its least rate.
const HYSTERESIS: f64 = 1.2;
/// All video that is off comes back when there is this much more than the least, in bit/s.
const TOGGLE_BPS: f64 = 20_000.0;
/// The part of the encoders' rate that retransmissions may take.
const REPAIR_PART_MAX: f64 = 0.5;
/// Over so long it is measured.
const METER: Duration = Duration::from_secs(1);
/// The part of video's octets that is not headers.
const VIDEO_PART: f64 = 0.93;

/// A packet and its stream's SSRC.
type Waiting = (u32, Encoded);

pub struct PublisherRate {
    estimator: SendSide,
    remb_bps: Option<u64>,
    next_tick: Instant,
    /// Octets that the pacer has let go and that have not leaked.
    level: f64,
    leaked_at: Instant,
    repairs: VecDeque<Waiting>,
    frames: VecDeque<Waiting>,
    /// Octets of retransmissions and of everything, since a moment.
    meter: (Instant, usize, usize),
    repair_part: f64,
}

impl PublisherRate {
    pub fn new(now: Instant) -> PublisherRate {
        PublisherRate {
            estimator: SendSide::default(),
            remb_bps: None,
            next_tick: now,
            level: 0.0,
            leaked_at: now,
            repairs: VecDeque::new(),
            frames: VecDeque::new(),
            meter: (now, 0, 0),
            repair_part: 0.0,
        }
    }

    pub fn handle_feedback(&mut self, now: Instant, feedback: &TransportFeedback<'_>) {
        self.estimator.handle_feedback(now, feedback);
    }

    /// The server allows no more.
    pub fn handle_remb(&mut self, bitrate_bps: u64) {
        self.remb_bps = Some(bitrate_bps);
    }

    /// What may be sent, in bit/s with all headers.
    pub fn target_bps(&self) -> f64 {
        self.remb_bps.map_or(f64::INFINITY, |bps| bps as f64).min(self.estimator.target_bps())
    }

    /// The transport-wide number of a packet that leaves now.
    pub fn number(&mut self, now: Instant, encoded: &Encoded) -> u16 {
        let octets = encoded.payload.len() + HEADERS;
        self.leak(now);
        self.level += octets as f64;
        self.meter.1 += if encoded.rtx.is_some() { octets } else { 0 };
        self.meter.2 += octets;
        self.estimator.send(now, octets)
    }

    fn leak(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.leaked_at).as_secs_f64();
        self.leaked_at = now;
        self.level = (self.level - elapsed * self.pacing()).max(0.0);
    }

    /// Octets per second.
    fn pacing(&self) -> f64 {
        PACING_FACTOR * self.target_bps() / 8.0
    }

    /// What waits until the pacer lets it go.
    pub fn push(&mut self, ssrc: u32, encoded: Encoded) {
        let queue = if encoded.rtx.is_some() { &mut self.repairs } else { &mut self.frames };
        queue.push_back((ssrc, encoded));
    }

    /// What leaves now. To be numbered before the next is asked for.
    pub fn pop(&mut self, now: Instant) -> Option<Waiting> {
        self.leak(now);
        if self.level > PACING_BURST * self.pacing() {
            return None;
        }
        self.repairs.pop_front().or_else(|| self.frames.pop_front())
    }

    fn next_departure(&self) -> Option<Instant> {
        let waits = !self.repairs.is_empty() || !self.frames.is_empty();
        let over = (self.level - PACING_BURST * self.pacing()).max(0.0);
        // A nanosecond more, so that what is rounded does not stand in the way.
        waits.then(|| self.leaked_at + Duration::from_secs_f64(over / self.pacing()) + Duration::from_nanos(1))
    }

    pub fn poll_burst(&mut self, now: Instant) -> Option<Burst> {
        self.estimator.poll_burst(now)
    }

    pub fn finish_burst(&mut self, now: Instant) {
        self.estimator.finish_burst(now);
    }

    pub fn poll_timeout(&self) -> Instant {
        let other = self.next_departure().into_iter().chain(self.estimator.next_burst()).min();
        other.map_or(self.next_tick, |other| other.min(self.next_tick))
    }

    /// Shares what the link carries out among the encoders, when it is time.
    pub fn tick(&mut self, now: Instant, streams: &mut [SentStream]) {
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        let (since, repaired, sent) = self.meter;
        if now.saturating_duration_since(since) >= METER {
            self.repair_part = (repaired as f64 / sent.max(1) as f64).min(REPAIR_PART_MAX);
            self.meter = (now, 0, 0);
        }
        let wanted: f64 = streams.iter().filter(|stream| !stream.paused).map(wire_bps).sum();
        self.estimator.handle_timeout(now, wanted);
        let audio: f64 = streams.iter().filter(|stream| stream.spec.codec == Codec::Opus).map(wire_bps).sum();
        let video_bps = (self.target_bps() - audio).max(0.0) * VIDEO_PART * (1.0 - self.repair_part);
        share(video_bps, streams);
    }
}

fn wire_bps(stream: &SentStream) -> f64 {
    let bps = f64::from(stream.spec.bitrate_bps);
    if stream.spec.codec == Codec::Opus { bps + 50.0 * 8.0 * HEADERS as f64 } else { bps / VIDEO_PART }
}

/// From the lowest encoding on, each what it can use, as long as there is its least.
fn share(video_bps: f64, streams: &mut [SentStream]) {
    let mut videos: Vec<&mut SentStream> =
        streams.iter_mut().filter(|stream| stream.spec.codec != Codec::Opus && !stream.paused).collect();
    videos.sort_by_key(|stream| (stream.spec.encoding, stream.spec.track));
    let mut left = video_bps;
    let mut is_first = true;
    for stream in videos {
        let height = stream.spec.size.1;
        let (_, least) = LEAST_BPS.into_iter().find(|(limit, _)| height <= *limit).expect("the last has no limit");
        let least = least.min(f64::from(stream.spec.bitrate_bps));
        let needed = match stream.starved {
            false => least,
            true if is_first => least + TOGGLE_BPS,
            true => least * HYSTERESIS,
        };
        stream.starved = left < needed;
        if stream.starved {
            // What is larger gets nothing either.
            left = 0.0;
        } else {
            let rate = left.min(f64::from(stream.spec.bitrate_bps));
            stream.target_bps = rate as u32;
            left -= rate;
        }
        is_first = false;
    }
}
