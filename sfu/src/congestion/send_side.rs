//! What a subscriber's link carries, by transport-wide feedback: delay, loss and probes together.

use std::time::{Duration, Instant};

use datapath::prefetch;

use super::acknowledged_rate::AcknowledgedRate;
use super::aimd::{self, Aimd, RATE_MIN};
use super::busy_rate::BusyRate;
use super::collapse::Collapse;
use super::loss_based::LossBased;
use super::probe_queue::ProbeQueue;
use super::probing::{Burst, Found, Prober};
use super::sending::Sending;
use super::sent_history::Acknowledged;
use super::standing_queue::StandingQueue;
use super::trendline::{Trendline, Usage};
use super::trial::Trial;
use crate::rtcp::TransportFeedback;

/// Before anything is known.
pub const START_BPS: f64 = 300_000.0;
/// Without feedback about what was sent for so long the rate falls, and again as often.
const FEEDBACK_LATE: Duration = Duration::from_millis(1_200);
const FEEDBACK_LATE_FACTOR: f64 = 0.6;
/// Less sent than this part of the rate proves nothing about it.
const APPLICATION_LIMITED: f64 = 0.8;
/// A queue that stands for so long although little is sent is none: the path has become longer.
const NO_QUEUE_US: i64 = 3_000_000;
/// A queue that stays as it is for so long, although it would drain at what is sent, is none either.
const STILL_US: i64 = 700_000;
/// A queue is gone when nothing has been sent for so long beyond its length.
const DRAINED_US: i64 = 500_000;
/// Loss counts as that of a queue while one of this length stands.
const QUEUE_STANDS_US: i64 = 100_000;
/// What still comes through a link that became narrower is less than this part of the rate.
const COLLAPSED: f64 = 0.5;
/// A packet that arrived so much later than the one after it was overtaken, or is a copy of one that was lost.
const OVERTAKEN_TICKS: i64 = 60;
/// The queue that a probe makes is shorter than this; on a link that others share, whose queues come on top, than the second.
const PROBE_QUEUE_US: i64 = 150_000;
const SHARED_PROBE_QUEUE_US: i64 = 50_000;

/// The estimator of one subscriber. Times come in; what may be sent, and what is to be probed, comes out.
#[derive(Clone, Debug)]
pub struct SendSide {
    sending: Sending,
    acknowledged: AcknowledgedRate,
    busy: BusyRate,
    trendline: Trendline,
    queue: StandingQueue,
    collapse: Collapse,
    aimd: Aimd,
    loss: LossBased,
    prober: Prober,
    trial: Trial,
    /// The highest number about which feedback came.
    newest: Option<u64>,
    feedback_at: Option<Instant>,
    lowered_at: Option<Instant>,
    round_trip_us: i64,
    probe_queue: ProbeQueue,
    /// Where others share the link: up to what the estimate may rise.
    shared_bound_bps: Option<f64>,
    /// That of anybody's probe who shares it.
    shared_probe_queue: ProbeQueue,
    /// The last feedback has lowered it.
    has_yielded: bool,
    /// What the probe has found that the last feedback ended.
    found_bps: Option<f64>,
    /// Memory for one feedback.
    batch: Vec<Acknowledged>,
}

impl Default for SendSide {
    fn default() -> SendSide {
        SendSide {
            sending: Sending::default(),
            acknowledged: AcknowledgedRate::default(),
            busy: BusyRate::default(),
            trendline: Trendline::default(),
            queue: StandingQueue::default(),
            collapse: Collapse::default(),
            aimd: Aimd::new(START_BPS),
            loss: LossBased::default(),
            prober: Prober::default(),
            trial: Trial::default(),
            newest: None,
            feedback_at: None,
            lowered_at: None,
            round_trip_us: 100_000,
            probe_queue: ProbeQueue::default(),
            shared_bound_bps: None,
            shared_probe_queue: ProbeQueue::default(),
            has_yielded: false,
            found_bps: None,
            batch: Vec::new(),
        }
    }
}

impl SendSide {
    /// Has in the cache soon what sending needs.
    pub fn prefetch(&self) {
        prefetch(&self.sending);
        prefetch(&self.prober);
    }

    /// And where the next packets are written down; what [`SendSide::prefetch`] fetches is needed for it.
    pub fn prefetch_history(&self) {
        self.sending.history.prefetch();
    }

    /// The transport-wide number of a packet of so many octets (IP header included) that leaves now.
    pub fn send(&mut self, now: Instant, octets: usize) -> u16 {
        let sent = self.sending.send(now, octets);
        self.prober.note_sent(sent.sequence, sent.us, sent.octets as u32);
        sent.sequence as u16
    }

    /// Octets of the same transport that carry no number of their own: copies of audio. They count as arrived with the
    /// next packet that does.
    pub fn send_unnumbered(&mut self, now: Instant, octets: usize) {
        self.sending.send_unnumbered(now, octets);
    }

    /// Up to what the estimate may rise where others share the link, in bit/s: infinite where it is not known, and `None`
    /// where nobody does. And the queue of anybody's probe there.
    pub fn set_shared(&mut self, bound_bps: Option<f64>, probe_queue: ProbeQueue) {
        self.shared_bound_bps = bound_bps;
        self.shared_probe_queue = probe_queue;
    }

    pub fn handle_feedback(&mut self, now: Instant, feedback: &TransportFeedback<'_>) {
        let us = self.sending.us(now);
        self.has_yielded = false;
        self.found_bps = None;
        let was_silent = self.lowered_at.is_some();
        if was_silent {
            self.begin_anew();
        }
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        let shares_link = self.shared_bound_bps.is_some();
        let epoch = *self.sending.epoch.get_or_insert(now);
        let probed_us = self.probe_queue.found_us(epoch);
        let SendSide { sending, acknowledged, busy, trendline, queue, collapse, loss, prober, newest, aimd, .. } = self;
        let queue_stands = queue.queue_us() >= QUEUE_STANDS_US;
        let estimate = aimd.rate_bps();
        let mut found: Option<Found> = None;
        let mut last_sent = None;
        // Of the packet before: a train that arrives at once says one thing about delay, however many it is of.
        let mut said = None;
        sending.history.acknowledge(us, feedback, |packet| batch.push(packet));
        // What was sent into a silence says nothing about how much a link loses.
        let told_from = if was_silent { batch.iter().position(|packet| packet.arrival.is_some()) } else { Some(0) };
        for (at, packet) in batch.iter().enumerate().skip(told_from.unwrap_or(batch.len())) {
            // Looked for behind an arrived packet only, so that the whole is walked once: a feedback of missing packets
            // alone would else cost their square.
            let overtaken = packet.arrival.is_some_and(|this| {
                let next = batch[at + 1..].iter().find_map(|packet| packet.arrival);
                next.is_some_and(|next| this > next + OVERTAKEN_TICKS)
            });
            let sent_us = packet.sent_us;
            let arrival_us = packet.arrival.map(|ticks| ticks * 250);
            let octets = u32::from(packet.octets);
            // A packet that comes after it was missed is a copy, or was overtaken: it says nothing about delay.
            let in_order = newest.is_none_or(|newest| packet.sequence > newest);
            if in_order {
                loss.receive(sent_us, octets, arrival_us.is_none() || overtaken, queue_stands);
                *newest = Some(packet.sequence);
                found = prober.acknowledge(packet.sequence, arrival_us, estimate).or(found);
            }
            let Some(arrival_us) = arrival_us else { continue };
            acknowledged.receive(arrival_us, octets);
            if in_order && !overtaken {
                // The queue of a probe is of our own making, and the trend would remember it for longer than it stands. Where
                // others share the link it may be theirs.
                if said.replace((sent_us, arrival_us)) != Some((sent_us, arrival_us)) {
                    if shares_link || !probed_us.contains(&sent_us) {
                        trendline.receive(sent_us, arrival_us);
                    }
                    queue.receive(sent_us, arrival_us);
                }
                busy.receive(arrival_us, octets, queue.waited_us(sent_us, arrival_us));
                collapse.receive(sent_us, arrival_us, octets);
                last_sent = Some(sent_us);
            }
        }
        self.batch = batch;
        if self.batch.is_empty() {
            return;
        }
        if was_silent && last_sent.is_none() {
            // Of before the silence: it goes on.
            return;
        }
        self.feedback_at = Some(now);
        self.lowered_at = None;
        self.sending.awaiting_since = None;
        if let Some(sent_us) = last_sent {
            self.round_trip_us = (self.round_trip_us * 7 + us - sent_us) / 8;
        }
        let mut usage = self.trendline.usage();
        let mut queue_us = self.queue.queue_us();
        let sent_us = last_sent.unwrap_or(us);
        let of_probe_us = if shares_link { SHARED_PROBE_QUEUE_US } else { PROBE_QUEUE_US };
        let is_probed = probed_us.contains(&sent_us) || self.shared_probe_queue.found_us(epoch).contains(&sent_us);
        if is_probed && queue_us < of_probe_us {
            // Of our own making.
            usage = Usage::Normal;
            queue_us = 0;
        }
        let seen = aimd::Observation {
            usage,
            queue_us,
            acknowledged_bps: self.acknowledged.bps(),
            busy_bps: self.busy.bps(),
            round_trip_us: self.round_trip_us,
            application_limited: self.sending.sent_bps < APPLICATION_LIMITED * self.aimd.rate_bps(),
            shared_bound_bps: self.shared_bound_bps,
        };
        self.aimd.update(us, &seen);
        if let Some(carried) = self.collapse.carried_bps().filter(|bps| *bps < COLLAPSED * self.aimd.rate_bps()) {
            self.aimd.collapse(us, carried);
        }
        self.has_yielded = self.aimd.decreased_us() == Some(us);
        self.trial.update(us, self.has_yielded);
        let is_still = self.queue.still_for_us() > STILL_US && self.aimd.drains_at(self.sending.sent_bps);
        if self.aimd.stood_us(us) > NO_QUEUE_US || is_still {
            self.queue.forget_base();
            self.aimd.forgive();
        }
        if let Some(found) = found {
            self.found_bps = Some(found.bps);
            self.take_found(us, found, usage);
        }
    }

    fn take_found(&mut self, us: i64, found: Found, usage: Usage) {
        let bound = self.shared_bound_bps.filter(|bound| *bound < found.bps);
        let bps = if let Some(bound) = bound {
            // Of now, and not the link's: as the others need less, there is more.
            bound
        } else if found.is_all {
            self.aimd.meet_ceiling(us, found.bps).min(found.bps)
        } else {
            self.aimd.lift_ceiling();
            found.bps
        };
        let is_more = bps > self.aimd.rate_bps() || self.acknowledged.bps().is_none();
        if usage != Usage::Over && is_more && self.trial.begin(us, bps) {
            self.aimd.set_rate(us, bps);
        }
    }

    /// After a silence the path may be another one: what was learned of it is forgotten.
    fn begin_anew(&mut self) {
        self.trendline = Trendline::default();
        self.queue.clear();
        self.busy.clear();
        self.collapse.clear();
        self.acknowledged = AcknowledgedRate::default();
        self.loss.clear();
        self.prober.restart();
        self.trial = Trial::default();
        self.aimd = Aimd::new(START_BPS);
    }

    /// To be called a few times a second. `wanted_bps`: what the subscriber could use.
    pub fn handle_timeout(&mut self, now: Instant, wanted_bps: f64) {
        let us = self.sending.us(now);
        self.prober.set_wanted(wanted_bps);
        if self.sending.awaiting_since.is_none() && us - self.sending.sent_us > self.queue.queue_us() + DRAINED_US {
            // No feedback will tell, since there is nothing that it could tell of. What comes next meets no queue of ours.
            self.queue.clear();
            self.busy.clear();
            self.trendline = Trendline::default();
        }
        let is_calm = self.trendline.usage() == Usage::Normal && self.queue.queue_us() < 50_000;
        let awaited = self.sending.awaiting_since.map(|since| now.saturating_duration_since(since));
        let patience = FEEDBACK_LATE + Duration::from_micros(self.round_trip_us as u64);
        if awaited.is_some_and(|awaited| awaited > patience) {
            if self.feedback_at.is_some()
                && self.lowered_at.is_none_or(|at| now.saturating_duration_since(at) > FEEDBACK_LATE / 2)
            {
                self.lowered_at = Some(now);
                let lower = (self.aimd.rate_bps() * FEEDBACK_LATE_FACTOR).max(RATE_MIN * 2.0);
                self.aimd.set_rate(us, lower.min(self.aimd.rate_bps()));
            }
            if self.feedback_at.is_some() {
                self.prober.knock(us);
            }
            return;
        }
        self.prober.plan(us, self.target_bps(), is_calm);
    }

    /// What may be sent now, in bit/s, IP headers included.
    pub fn target_bps(&self) -> f64 {
        self.loss.bound_bps().map_or(self.aimd.rate_bps(), |bound| bound.min(self.aimd.rate_bps())).max(RATE_MIN)
    }

    /// When the next burst of a probe is due.
    pub fn next_burst(&self) -> Option<Instant> {
        let us = self.prober.next_burst_us()?;
        Some(self.sending.epoch? + Duration::from_micros(us.max(0) as u64))
    }

    pub fn poll_burst(&mut self, now: Instant) -> Option<Burst> {
        let us = self.sending.us(now);
        let burst = self.prober.poll(us)?;
        self.probe_queue.note_burst(now);
        Some(burst)
    }

    pub fn finish_burst(&mut self, now: Instant) {
        let us = self.sending.us(now);
        self.prober.finish_burst(us);
    }

    /// The part of the packets that does not come at first, from 0 to 1, smoothed over seconds.
    pub fn loss(&self) -> f64 {
        self.loss.loss()
    }

    /// Whether the last feedback has lowered the estimate because of a queue.
    pub fn has_yielded(&self) -> bool {
        self.has_yielded
    }

    /// What the probe has found that the last feedback ended, in bit/s.
    pub fn found_bps(&self) -> Option<f64> {
        self.found_bps
    }

    /// The queue that stands on the way.
    pub fn queue(&self) -> Duration {
        Duration::from_micros(self.queue.queue_us() as u64)
    }

    /// From sending a packet to the feedback about it, smoothed.
    pub fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_us.max(0) as u64)
    }

    pub fn acknowledged_bps(&self) -> Option<f64> {
        self.acknowledged.bps()
    }

    /// Since when feedback is awaited.
    pub fn awaiting_since(&self) -> Option<Instant> {
        self.sending.awaiting_since
    }

    /// Whether feedback has come at all.
    pub fn has_feedback(&self) -> bool {
        self.feedback_at.is_some()
    }
}
