//! The rate that delay allows: multiplicative increase far from the link's capacity, additive near it, decrease when a
//! queue grows (draft-ietf-rmcat-gcc-02 §5.5).
//!
//! Beyond the draft, a queue that stands is drained faster the longer it is, and afterwards the rate goes back to what
//! the link was seen to carry meanwhile.

use super::trendline::Usage;

pub const RATE_MIN: f64 = 30_000.0;
pub const RATE_MAX: f64 = 100_000_000.0;
const BETA: f64 = 0.85;
const GROWTH_PER_SECOND: f64 = 1.08;
/// What is estimated is at most this much above what arrives.
const AHEAD: f64 = 1.5;
const AHEAD_BPS: f64 = 10_000.0;
/// A queue from this on counts as overuse; at the second it is drained fast, at the third as fast as audio allows.
const QUEUE_US: i64 = 70_000;
const LONG_QUEUE_US: i64 = 130_000;
const VERY_LONG_QUEUE_US: i64 = 250_000;
/// On a link that others share, whose queues come on top, one from this on counts as overuse, and says that what a probe
/// has found was not for one alone.
const SHARED_QUEUE_US: i64 = 40_000;
/// A queue up to this may be that of a burst; on a link that others share, only if it has not stood for long.
const BURST_QUEUE_US: i64 = 150_000;
const BURST_STANDS_US: i64 = 50_000;
/// A queue below this is drained.
const DRAINED_US: i64 = 35_000;
/// A cluster is a few packets, so what it finds is inexact: the weight of one beside those before it, unless they are further
/// apart than this part.
const CEILING_WEIGHT: f64 = 0.3;
const CEILING_DEVIATION: f64 = 0.3;
/// The part of what comes through a link that became narrower that is sent until its queue is empty.
const DRAINING: f64 = 0.5;
/// What a probe has found to be all is not exceeded by growth for so long.
const CEILING_US: i64 = 20_000_000;
/// What arrives may be more than the ceiling, since probes fill what it leaves free; from so much more on the link is wider.
const BEYOND: f64 = 1.1;
/// Sending less than this part of what was carried while a queue stood would drain it.
const DRAINS: f64 = 0.6;
/// The part of what the link was seen to carry that is tried after a queue was drained.
const AFTER_DRAINING: f64 = 0.92;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Hold,
    Increase,
}

/// Mean and variance of the rates at which queues grew.
#[derive(Clone, Copy, Debug, Default)]
struct LinkCapacity {
    mean_kbps: Option<f64>,
    /// Relative to the mean.
    variance: f64,
}

impl LinkCapacity {
    fn bounds_bps(&self) -> Option<(f64, f64)> {
        let mean = self.mean_kbps?;
        let deviation = 3.0 * (self.variance * mean).sqrt();
        Some(((mean - deviation).max(0.0) * 1e3, (mean + deviation) * 1e3))
    }

    fn take(&mut self, bps: f64) {
        let sample = bps / 1e3;
        let mean = self.mean_kbps.map_or(sample, |mean| 0.95 * mean + 0.05 * sample);
        let error = (mean - sample).powi(2) / mean.max(1.0);
        self.variance = (0.95 * self.variance + 0.05 * error).clamp(0.4, 2.5);
        self.mean_kbps = Some(mean);
    }
}

/// What the rate follows in one step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observation {
    pub usage: Usage,
    pub queue_us: i64,
    pub acknowledged_bps: Option<f64>,
    /// What the link carries while a queue stands, by the packets that waited.
    pub busy_bps: Option<f64>,
    pub round_trip_us: i64,
    /// Less is sent than the rate allows, so that it proves nothing.
    pub application_limited: bool,
    /// Where others share the link: up to what the rate may grow.
    pub shared_bound_bps: Option<f64>,
}

impl Observation {
    /// What the link carries: where packets do not tell, what arrives.
    fn carried_bps(&self) -> Option<f64> {
        self.busy_bps.or(self.acknowledged_bps)
    }
}

#[derive(Clone, Debug)]
pub struct Aimd {
    rate: f64,
    state: State,
    capacity: LinkCapacity,
    updated_us: Option<i64>,
    decreased_us: Option<i64>,
    /// Most that arrived while a queue stood.
    drained_bps: Option<f64>,
    stood_since_us: Option<i64>,
    /// The most of what arrived since then.
    carried_bps: f64,
    /// All that the link carried when a probe last met its capacity, and when that was.
    ceiling: Option<(f64, i64)>,
}

impl Aimd {
    pub fn new(rate_bps: f64) -> Aimd {
        Aimd {
            rate: rate_bps,
            state: State::Increase,
            capacity: LinkCapacity::default(),
            updated_us: None,
            decreased_us: None,
            drained_bps: None,
            stood_since_us: None,
            carried_bps: 0.0,
            ceiling: None,
        }
    }

    pub fn rate_bps(&self) -> f64 {
        self.rate
    }

    /// A probe has shown what the link carries.
    pub fn set_rate(&mut self, now_us: i64, bps: f64) {
        self.rate = bps.clamp(RATE_MIN, RATE_MAX);
        self.updated_us = Some(now_us);
        self.drained_bps = None;
        if self.capacity.bounds_bps().is_some_and(|(_, upper)| bps > upper) {
            self.capacity = LinkCapacity::default();
        }
    }

    /// The link has become much narrower: this is what still came through, and there is a queue to drain.
    pub fn collapse(&mut self, now_us: i64, carried_bps: f64) {
        let lower = (carried_bps * DRAINING).max(RATE_MIN);
        if lower < self.rate {
            self.rate = lower;
            self.state = State::Hold;
            self.decreased_us = Some(now_us);
            self.capacity = LinkCapacity::default();
            self.ceiling = None;
        }
    }

    /// A probe has met the link's capacity. Returns what this and those before it say together.
    pub fn meet_ceiling(&mut self, now_us: i64, bps: f64) -> f64 {
        let known = self.ceiling_bps(now_us).filter(|known| (bps - known).abs() < CEILING_DEVIATION * known);
        let together = known.map_or(bps, |known| known + CEILING_WEIGHT * (bps - known));
        self.ceiling = Some((together, now_us));
        together
    }

    /// A probe has come out as fast as it was sent.
    pub fn lift_ceiling(&mut self) {
        self.ceiling = None;
    }

    fn ceiling_bps(&self, now_us: i64) -> Option<f64> {
        self.ceiling.filter(|(_, at)| now_us - at < CEILING_US).map(|(bps, _)| bps)
    }

    /// Whether a queue that stands would become shorter at the rate that is sent.
    pub fn drains_at(&self, sent_bps: f64) -> bool {
        self.stood_since_us.is_some() && sent_bps < DRAINS * self.carried_bps
    }

    /// How long a queue has stood in one piece.
    pub fn stood_us(&self, now_us: i64) -> i64 {
        self.stood_since_us.map_or(0, |since| now_us - since)
    }

    /// What was taken for a queue was none.
    pub fn forgive(&mut self) {
        self.stood_since_us = None;
        self.drained_bps = None;
    }

    pub fn decreased_us(&self) -> Option<i64> {
        self.decreased_us
    }

    pub fn update(&mut self, now_us: i64, seen: &Observation) {
        let elapsed = self.updated_us.map_or(0, |at| now_us - at).clamp(0, 1_000_000) as f64 / 1e6;
        self.updated_us = Some(now_us);
        let stands = seen.queue_us > if seen.shared_bound_bps.is_some() { SHARED_QUEUE_US } else { QUEUE_US };
        // What arrives says nothing about a link that is not used: a burst made this queue, and it drains by itself. But
        // others may use it, and then it stands.
        let is_theirs = seen.shared_bound_bps.is_some() && self.stood_us(now_us) >= BURST_STANDS_US;
        let is_burst = seen.application_limited && seen.queue_us < BURST_QUEUE_US && !is_theirs;
        let carried = seen.carried_bps();
        if stands {
            if self.stood_since_us.is_none() {
                self.stood_since_us = Some(now_us);
                self.carried_bps = 0.0;
            }
            self.carried_bps = self.carried_bps.max(carried.unwrap_or(0.0));
            self.drained_bps = match (self.drained_bps, carried) {
                (Some(known), Some(carried)) => Some(known * 0.8 + carried * 0.2),
                (known, carried) => known.or(carried),
            };
        } else if seen.queue_us < DRAINED_US {
            self.stood_since_us = None;
            if let Some(carried) = self.drained_bps.take() {
                let limit = seen.shared_bound_bps.unwrap_or(RATE_MAX).min(RATE_MAX);
                self.rate = self.rate.max((carried * AFTER_DRAINING).min(limit));
            }
        }
        if is_burst && (seen.usage == Usage::Over || stands) {
            self.state = State::Hold;
        } else if seen.usage == Usage::Over || stands {
            self.decrease(now_us, seen);
        } else if seen.usage == Usage::Under || self.stood_since_us.is_some() {
            self.state = State::Hold;
        } else {
            self.state = State::Increase;
        }
        if self.state == State::Increase && !seen.application_limited {
            self.increase(now_us, elapsed, seen);
        }
        self.rate = self.rate.clamp(RATE_MIN, RATE_MAX);
    }

    fn increase(&mut self, now_us: i64, elapsed: f64, seen: &Observation) {
        let Some(acknowledged) = seen.acknowledged_bps else { return };
        let ceiling = self.ceiling_bps(now_us).map(|bps| if acknowledged > BEYOND * bps { acknowledged } else { bps });
        let shared = seen.shared_bound_bps.map(|bps| bps.max(acknowledged));
        let limit = [ceiling, shared].into_iter().flatten().fold(AHEAD * acknowledged + AHEAD_BPS, f64::min);
        if self.rate >= limit {
            return;
        }
        let bounds = self.capacity.bounds_bps();
        if bounds.is_some_and(|(_, upper)| acknowledged > upper) {
            self.capacity = LinkCapacity::default();
        }
        let is_near = self.capacity.bounds_bps().is_some_and(|(lower, _)| acknowledged > lower);
        let grown = if is_near {
            // About a packet per response time.
            let response = (seen.round_trip_us as f64 / 1e6 + 0.1).max(0.1);
            let packet_bits = (self.rate / 30.0).clamp(1_000.0 * 8.0, 1_200.0 * 8.0);
            self.rate + (packet_bits / response).max(4_000.0) * elapsed
        } else {
            self.rate * GROWTH_PER_SECOND.powf(elapsed) + 1_000.0 * elapsed
        };
        self.rate = grown.min(limit);
    }

    fn decrease(&mut self, now_us: i64, seen: &Observation) {
        self.state = State::Hold;
        let Some(carried) = seen.carried_bps() else {
            // Before anything is known: half, once in a while.
            if self.decreased_us.is_none_or(|at| now_us - at > 200_000) {
                self.rate *= 0.5;
                self.decreased_us = Some(now_us);
            }
            return;
        };
        let beta = match seen.queue_us {
            VERY_LONG_QUEUE_US.. => 0.5,
            LONG_QUEUE_US.. => 0.7,
            _ => BETA,
        };
        // Where less is sent than the link takes, what arrives says little about it; what a probe has just found says more,
        // unless the queue says that it is no longer so.
        let doubt_us = if seen.shared_bound_bps.is_some() { SHARED_QUEUE_US } else { LONG_QUEUE_US };
        let known = self.ceiling_bps(now_us).filter(|_| seen.queue_us < doubt_us).unwrap_or(0.0);
        let lower = carried.max(known) * beta;
        if lower < self.rate {
            self.rate = lower;
            self.decreased_us = Some(now_us);
            if self.capacity.bounds_bps().is_some_and(|(least, _)| carried < least) {
                self.capacity = LinkCapacity::default();
            }
            self.capacity.take(carried);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Observation = Observation {
        usage: Usage::Normal,
        queue_us: 0,
        acknowledged_bps: Some(1e6),
        busy_bps: None,
        round_trip_us: 50_000,
        application_limited: false,
        shared_bound_bps: None,
    };

    #[test]
    fn it_grows_by_eight_percent_a_second_and_not_far_beyond_what_arrives() {
        let mut aimd = Aimd::new(1e6);
        for step in 0..=10 {
            aimd.update(step * 100_000, &CLEAN);
        }
        assert!((1.07e6..1.09e6).contains(&aimd.rate_bps()), "{}", aimd.rate_bps());
        for step in 11..=1000 {
            aimd.update(step * 100_000, &CLEAN);
        }
        assert!((1.5e6..1.52e6).contains(&aimd.rate_bps()), "{}", aimd.rate_bps());
        let before = aimd.rate_bps();
        aimd.update(200_000_000, &Observation { application_limited: true, acknowledged_bps: Some(9e6), ..CLEAN });
        assert_eq!(aimd.rate_bps(), before);
    }

    #[test]
    fn a_queue_that_others_made_is_yielded_to_although_little_is_sent() {
        let little = Observation { application_limited: true, queue_us: 100_000, ..CLEAN };
        let [alone, beside_others] = [None, Some(f64::INFINITY)].map(|shared_bound_bps| {
            let mut aimd = Aimd::new(3e6);
            for at in [0, 100_000] {
                aimd.update(at, &Observation { shared_bound_bps, ..little });
            }
            aimd.rate_bps()
        });
        assert_eq!((alone, beside_others), (3e6, 0.85e6));
    }

    #[test]
    fn it_does_not_grow_beyond_its_part_of_a_shared_link() {
        let mut aimd = Aimd::new(1e6);
        for step in 0..=50 {
            aimd.update(step * 100_000, &Observation { shared_bound_bps: Some(1.2e6), ..CLEAN });
        }
        assert_eq!(aimd.rate_bps(), 1.2e6);
    }

    #[test]
    fn it_grows_up_to_what_probes_have_found_unless_far_more_arrives() {
        let mut aimd = Aimd::new(1e6);
        assert_eq!(aimd.meet_ceiling(0, 1.2e6), 1.2e6);
        let mut grow = |acknowledged_bps: f64| {
            (0..50).for_each(|step| {
                aimd.update(step * 100_000, &Observation { acknowledged_bps: Some(acknowledged_bps), ..CLEAN });
            });
            aimd.rate_bps()
        };
        assert_eq!(grow(1.3e6), 1.2e6, "probes arrive as well");
        assert_eq!(grow(1.4e6), 1.4e6, "the link is wider");
    }

    #[test]
    fn what_waited_tells_more_than_what_arrived_before() {
        let mut aimd = Aimd::new(2.1e6);
        aimd.update(0, &Observation { usage: Usage::Over, busy_bps: Some(2e6), ..CLEAN });
        assert_eq!(aimd.rate_bps(), 1.7e6);
    }

    #[test]
    fn a_queue_is_drained_and_then_the_link_is_used_again() {
        let mut aimd = Aimd::new(2e6);
        aimd.update(0, &Observation { usage: Usage::Over, ..CLEAN });
        assert_eq!(aimd.rate_bps(), 0.85e6);
        aimd.update(100_000, &Observation { queue_us: 300_000, ..CLEAN });
        assert_eq!(aimd.rate_bps(), 0.5e6);
        aimd.update(200_000, &Observation { queue_us: 50_000, ..CLEAN });
        assert_eq!(aimd.rate_bps(), 0.5e6, "it holds while it drains");
        aimd.update(300_000, &Observation { queue_us: 10_000, ..CLEAN });
        assert!((0.9e6..0.94e6).contains(&aimd.rate_bps()), "{}", aimd.rate_bps());
    }
}
