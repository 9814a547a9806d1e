//! The rate that loss allows.
//!
//! Loss has two causes: a link loses some packets whatever is sent (its inherent loss), and all that exceeds its
//! capacity. Both are fitted to the last seconds by maximum likelihood: of the pairs (capacity, inherent loss) that explain
//! the losses at the rates at which they happened about equally well, the one with the highest capacity holds. So loss
//! that stays the same at every rate bounds nothing, and loss that comes with a higher rate does.

use std::collections::VecDeque;

use super::aimd::RATE_MIN;

/// An observation is at least so long and has so many packets.
const OBSERVATION_US: i64 = 250_000;
const OBSERVATION_PACKETS: u32 = 10;
const OBSERVATIONS: usize = 20;
/// The weight of an observation beside the one after it.
const AGEING: f64 = 0.92;
/// The most inherent loss that is believed: while no queue stands, and while one does.
const INHERENT_MAX: f64 = 0.25;
const INHERENT_MAX_QUEUE: f64 = 0.06;
const INHERENT_STEPS: usize = 25;
/// An explanation may be so much less likely (in the logarithm) than the best one and still hold.
const TOLERANCE: f64 = 3.5;
/// What is tried: these parts of the rates at which there was loss.
const PARTS: [f64; 7] = [1.0, 0.9, 0.8, 0.65, 0.5, 0.3, 0.12];
/// A bound grows by this part with each observation that does not confirm it, and bounds nothing beyond this multiple
/// of what is sent.
const GROWTH: f64 = 1.03;
const BEYOND: f64 = 2.0;
/// What is lost while a queue stands says less about what the link loses of its own: it counts for this part.
const WEIGHT_QUEUE: f64 = 0.3;
/// Less loss than this is none.
const NOISE: f64 = 0.02;

#[derive(Clone, Copy, Debug)]
struct Observation {
    bps: f64,
    lost: f64,
    packets: f64,
}

#[derive(Clone, Debug, Default)]
pub struct LossBased {
    observations: VecDeque<Observation>,
    began_us: Option<i64>,
    octets: u64,
    packets: u32,
    lost: u32,
    bound_bps: Option<f64>,
    /// Of all packets, smoothed over seconds.
    loss: f64,
}

impl LossBased {
    /// One packet about which the first feedback came, in the order of sending.
    pub fn receive(&mut self, sent_us: i64, octets: u32, is_lost: bool, queue_stands: bool) {
        let began = *self.began_us.get_or_insert(sent_us);
        if sent_us - began >= OBSERVATION_US && self.packets >= OBSERVATION_PACKETS {
            self.observe(sent_us - began, queue_stands);
            self.began_us = Some(sent_us);
            (self.octets, self.packets, self.lost) = (0, 0, 0);
        }
        self.octets += u64::from(octets);
        self.packets += 1;
        self.lost += u32::from(is_lost);
    }

    fn observe(&mut self, elapsed_us: i64, queue_stands: bool) {
        let newest = Observation {
            bps: self.octets as f64 * 8e6 / elapsed_us as f64,
            lost: f64::from(self.lost),
            packets: f64::from(self.packets),
        };
        let weight = (newest.packets / 250.0).clamp(0.04, 0.2) * if queue_stands { WEIGHT_QUEUE } else { 1.0 };
        self.loss += (newest.lost / newest.packets - self.loss) * weight;
        self.observations.push_front(newest);
        self.observations.truncate(OBSERVATIONS);
        let sent = self.observations.iter().map(|seen| seen.bps).fold(0.0, f64::max);
        self.bound_bps = match (self.fit(queue_stands), self.bound_bps) {
            (Some(fitted), Some(bound)) => Some(if fitted < bound { fitted } else { (bound * GROWTH).min(fitted) }),
            (Some(fitted), None) => Some(fitted),
            (None, Some(bound)) => Some(bound * GROWTH * GROWTH),
            (None, None) => None,
        };
        // Where all was lost the fit is nothing at all, from which no growth would lead away.
        self.bound_bps = self.bound_bps.map(|bound| bound.max(RATE_MIN)).filter(|bound| *bound < sent * BEYOND);
    }

    /// The highest capacity that explains what was seen; `None` when any does.
    fn fit(&self, queue_stands: bool) -> Option<f64> {
        let share = |seen: &Observation| seen.lost / seen.packets;
        if self.observations.iter().all(|seen| share(seen) <= NOISE) {
            return None;
        }
        let inherent_max = if queue_stands { INHERENT_MAX_QUEUE } else { INHERENT_MAX };
        let mut capacities: Vec<f64> = self
            .observations
            .iter()
            .filter(|seen| share(seen) > NOISE)
            .flat_map(|seen| PARTS.map(|part| part * seen.bps).into_iter().chain([seen.bps * (1.0 - share(seen))]))
            .collect();
        capacities.sort_by(|a, b| b.total_cmp(a));
        let unbounded = self.likelihood(f64::INFINITY, inherent_max);
        let best = capacities.iter().map(|&capacity| self.likelihood(capacity, inherent_max)).fold(unbounded, f64::max);
        if unbounded >= best - TOLERANCE {
            return None;
        }
        capacities.into_iter().find(|&capacity| self.likelihood(capacity, inherent_max) >= best - TOLERANCE)
    }

    /// With the inherent loss that suits the capacity best.
    fn likelihood(&self, capacity_bps: f64, inherent_max: f64) -> f64 {
        let mut best = f64::MIN;
        for step in 0..=INHERENT_STEPS {
            let inherent = inherent_max * step as f64 / INHERENT_STEPS as f64;
            let mut sum = 0.0;
            let mut weight = 1.0;
            for seen in &self.observations {
                let excess = (1.0 - capacity_bps / seen.bps.max(1.0)).max(0.0);
                let loss = (inherent + (1.0 - inherent) * excess).clamp(0.002, 0.998);
                sum += weight * (seen.lost * loss.ln() + (seen.packets - seen.lost) * (1.0 - loss).ln());
                weight *= AGEING;
            }
            if sum < best {
                // It has one maximum.
                break;
            }
            best = sum;
        }
        best
    }

    /// In bit/s; `None` while loss bounds nothing.
    pub fn bound_bps(&self) -> Option<f64> {
        self.bound_bps
    }

    /// The part of the packets that is lost at first, from 0 to 1.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// Another path.
    pub fn clear(&mut self) {
        *self = LossBased { loss: self.loss.min(INHERENT_MAX), ..LossBased::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends packets of 1000 octets for ten seconds at the rate that `rate_bps` says of each, over a link that loses
    /// `inherent` and all above `capacity_bps`.
    fn run(inherent: f64, capacity_bps: f64, rate_bps: impl Fn(f64, &LossBased) -> f64) -> LossBased {
        let mut loss_based = LossBased::default();
        let mut state = 1u64;
        let mut now = 0.0;
        while now < 10.0 {
            let rate = rate_bps(now, &loss_based);
            let loss = inherent + (1.0 - inherent) * (1.0 - capacity_bps / rate).max(0.0);
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let is_lost = ((state >> 33) as f64 / f64::from(1u32 << 31)) < loss;
            loss_based.receive((now * 1e6) as i64, 1000, is_lost, false);
            now += 8000.0 / rate;
        }
        loss_based
    }

    #[test]
    fn loss_that_is_there_at_every_rate_bounds_nothing() {
        for inherent in [0.0, 0.05, 0.1, 0.2] {
            let rising = run(inherent, f64::INFINITY, |now, _| 3e5 + 4e5 * now);
            assert_eq!(rising.bound_bps(), None, "{inherent}");
            assert!((rising.loss() - inherent).abs() < 0.06, "{} for {inherent}", rising.loss());
        }
    }

    #[test]
    fn loss_that_comes_with_the_rate_bounds_it() {
        let bound = run(0.0, 1e6, |now, _| if now < 5.0 { 5e5 } else { 2e6 }).bound_bps();
        assert!(bound.is_some_and(|bound| (0.8e6..1.4e6).contains(&bound)), "{bound:?}");
        let bound = run(0.1, 1e6, |now, _| if now < 5.0 { 5e5 } else { 2e6 }).bound_bps();
        assert!(bound.is_some_and(|bound| (0.7e6..1.5e6).contains(&bound)), "{bound:?}");
    }

    #[test]
    fn a_link_that_lost_everything_is_given_back() {
        let mut loss_based = LossBased::default();
        let mut now_us = 0;
        let mut send = |seconds: i64, is_lost: bool, loss_based: &mut LossBased| {
            for _ in 0..seconds * 100 {
                now_us += 10_000;
                loss_based.receive(now_us, 1000, is_lost, false);
            }
        };
        send(5, false, &mut loss_based);
        send(5, true, &mut loss_based);
        assert!(loss_based.bound_bps().is_some_and(|bound| bound >= RATE_MIN));
        send(30, false, &mut loss_based);
        assert_eq!(loss_based.bound_bps(), None);
    }

    #[test]
    fn more_loss_than_any_link_has_of_its_own_is_congestion() {
        let bound = run(0.0, 5e5, |_, _| 1e6).bound_bps();
        assert!(bound.is_some_and(|bound| bound < 8e5), "{bound:?}");
    }
}
