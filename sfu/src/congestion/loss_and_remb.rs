//! How much a subscriber's link carries, by two signs alone: loss in its receiver reports, and its REMB.
//!
//! Nothing bounds a link until it shows that it is full. A receiver's REMB follows what it is sent, so a low one says
//! something only when it is below what we send. Once bounded, the bound grows again after a while without signs, and
//! that while becomes longer each time growing was wrong.

use std::time::{Duration, Instant};

/// Loss up to this is noise (as in draft-ietf-rmcat-gcc-02 §6), and above that is congestion.
const LOSS_LOW: f32 = 0.02;
const LOSS_HIGH: f32 = 0.10;
/// A REMB below this part of what is sent is a sign of congestion if it lasts for so long.
const REMB_LOW: f64 = 0.95;
const REMB_LASTS: Duration = Duration::from_millis(600);
/// The bound grows by this part in a second, after so long without signs.
const GROWTH_PER_SECOND: f64 = 0.08;
const HOLD_MIN: Duration = Duration::from_secs(3);
const HOLD_MAX: Duration = Duration::from_secs(30);
/// A sign within this time after the last growth means that growing was wrong.
const GROWTH_JUDGED: Duration = Duration::from_secs(6);
/// No bound is lower, in bit/s: audio and the lowest layer must live.
const BOUND_MIN: f64 = 50_000.0;
/// A bound above this bounds nothing.
const BOUND_MAX: f64 = 100_000_000.0;
/// Some loss stops the growth for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// Loss in less than this time after a decrease is of what was sent before it.
const REACTION: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub struct LossAndRemb {
    bound_bps: Option<f64>,
    updated: Option<Instant>,
    decreased: Option<Instant>,
    /// Not before this may the bound grow.
    grows_from: Option<Instant>,
    grown: Option<Instant>,
    hold: Duration,
    remb_low_since: Option<Instant>,
    remb_bps: u64,
}

impl Default for LossAndRemb {
    fn default() -> LossAndRemb {
        LossAndRemb {
            bound_bps: None,
            updated: None,
            decreased: None,
            grows_from: None,
            grown: None,
            hold: HOLD_MIN,
            remb_low_since: None,
            remb_bps: 0,
        }
    }
}

impl LossAndRemb {
    /// What may be sent now, in bit/s; `u64::MAX` while nothing bounds it.
    pub fn available_bps(&self) -> u64 {
        self.bound_bps.map_or(u64::MAX, |bound| bound as u64)
    }

    /// The loss of what was sent to the subscriber since its last report (0 to 1), over all its SSRCs, while `sent_bps`
    /// was sent.
    pub fn handle_loss(&mut self, now: Instant, lost: f32, sent_bps: u64) {
        self.handle_timeout(now);
        if lost > LOSS_HIGH {
            let reacts = self.decreased.is_none_or(|at| now.saturating_duration_since(at) >= REACTION);
            if reacts {
                // draft-ietf-rmcat-gcc-02 §6: half of the loss.
                let from = self.bound_bps.unwrap_or(f64::MAX).min(sent_bps as f64);
                self.decrease(now, from * (1.0 - 0.5 * f64::from(lost.min(1.0))));
            }
        } else if lost > LOSS_LOW && self.bound_bps.is_some() {
            // Between the two the bound stays.
            self.grows_from = self.grows_from.max(Some(now + PAUSE));
        }
    }

    /// The subscriber's REMB in bit/s, while `sent_bps` was sent.
    pub fn handle_remb(&mut self, now: Instant, remb_bps: u64, sent_bps: u64) {
        self.handle_timeout(now);
        let before = std::mem::replace(&mut self.remb_bps, remb_bps);
        // One that rises follows what is sent, by 8 % a second (draft-ietf-rmcat-gcc-02 §5.5): after a larger encoding
        // was chosen it stays below for many seconds, and nothing is wrong.
        let rises = before > 0 && remb_bps > before;
        if rises || remb_bps as f64 >= sent_bps as f64 * REMB_LOW {
            self.remb_low_since = None;
            return;
        }
        let since = *self.remb_low_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= REMB_LASTS {
            self.decrease(now, remb_bps as f64);
        }
    }

    fn decrease(&mut self, now: Instant, to_bps: f64) {
        let is_lower = self.bound_bps.is_none_or(|bound| to_bps < bound);
        if is_lower {
            self.bound_bps = Some(to_bps.max(BOUND_MIN));
        }
        if let Some(grown) = self.grown.take() {
            self.hold = if now.saturating_duration_since(grown) < GROWTH_JUDGED {
                (self.hold * 2).min(HOLD_MAX)
            } else {
                HOLD_MIN
            };
        }
        self.decreased = Some(now);
        self.grows_from = Some(now + self.hold);
    }

    /// Lets the bound grow by the time that passed. Called before every allocation.
    pub fn handle_timeout(&mut self, now: Instant) {
        let since = self.updated.replace(now);
        let Some(bound) = self.bound_bps else {
            return;
        };
        let begins = self.grows_from.unwrap_or(now);
        if now <= begins {
            return;
        }
        let elapsed = now.saturating_duration_since(since.map_or(begins, |since| since.max(begins)));
        let grown = bound * (1.0 + GROWTH_PER_SECOND).powf(elapsed.as_secs_f64());
        self.grown = Some(now);
        self.bound_bps = (grown < BOUND_MAX).then_some(grown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_bounds_a_clean_link() {
        let now = start();
        let mut estimate = LossAndRemb::default();
        estimate.handle_loss(now, 0.0, 1_000_000);
        estimate.handle_loss(now + SECOND, 0.05, 1_000_000);
        // A REMB that follows what is sent.
        for second in 0..10 {
            estimate.handle_remb(now + SECOND * second, 1_500_000, 1_000_000);
        }
        assert_eq!(estimate.available_bps(), u64::MAX);
    }

    #[test]
    fn loss_lowers_the_bound_and_time_raises_it() {
        let now = start();
        let mut estimate = LossAndRemb::default();
        estimate.handle_loss(now, 0.25, 2_000_000);
        assert_eq!(estimate.available_bps(), 1_750_000);
        // A report about what was sent before.
        estimate.handle_loss(now + REACTION / 2, 0.2, 2_000_000);
        assert_eq!(estimate.available_bps(), 1_750_000);
        estimate.handle_timeout(now + HOLD_MIN);
        assert_eq!(estimate.available_bps(), 1_750_000);
        estimate.handle_timeout(now + HOLD_MIN + SECOND);
        assert!((1_889_000..1_891_000).contains(&estimate.available_bps()));
        // Some loss: it stays.
        let at = now + HOLD_MIN + SECOND;
        let bound = estimate.available_bps();
        estimate.handle_loss(at, 0.05, 1_000_000);
        estimate.handle_timeout(at + PAUSE);
        assert_eq!(estimate.available_bps(), bound);
        estimate.handle_timeout(at + PAUSE + SECOND);
        assert!(estimate.available_bps() > bound);
        for second in 0..120 {
            estimate.handle_timeout(at + SECOND * second);
        }
        assert_eq!(estimate.available_bps(), u64::MAX);
    }

    #[test]
    fn a_low_remb_counts_when_it_lasts() {
        let now = start();
        let mut estimate = LossAndRemb::default();
        estimate.handle_remb(now, 400_000, 1_000_000);
        assert_eq!(estimate.available_bps(), u64::MAX);
        estimate.handle_remb(now + REMB_LASTS, 380_000, 1_000_000);
        assert_eq!(estimate.available_bps(), 380_000);
        // One that fits ends it.
        estimate.handle_remb(now + SECOND, 380_000, 300_000);
        estimate.handle_remb(now + SECOND, 280_000, 300_000);
        assert_eq!(estimate.available_bps(), 380_000);
    }

    #[test]
    fn a_low_remb_that_rises_is_catching_up() {
        let now = start();
        let mut estimate = LossAndRemb::default();
        for second in 0..8u32 {
            estimate.handle_remb(now + SECOND * second, 400_000 + 32_000 * u64::from(second), 1_000_000);
        }
        assert_eq!(estimate.available_bps(), u64::MAX);
        // It stops rising far below.
        estimate.handle_remb(now + SECOND * 8, 600_000, 1_000_000);
        estimate.handle_remb(now + SECOND * 9, 600_000, 1_000_000);
        assert_eq!(estimate.available_bps(), 600_000);
    }

    #[test]
    fn growing_into_congestion_waits_longer_the_next_time() {
        let mut now = start();
        let mut estimate = LossAndRemb::default();
        let mut waits = Vec::new();
        for _ in 0..5 {
            estimate.handle_loss(now, 0.5, 1_000_000);
            let bound = estimate.available_bps();
            let began = now;
            while estimate.available_bps() == bound {
                now += Duration::from_millis(100);
                estimate.handle_timeout(now);
            }
            waits.push((now - began).as_secs());
        }
        assert_eq!(waits, [3, 6, 12, 24, 30]);
    }

    #[test]
    fn the_bound_has_a_floor() {
        let mut now = start();
        let mut estimate = LossAndRemb::default();
        for _ in 0..100 {
            estimate.handle_loss(now, 1.0, 0);
            now += SECOND;
        }
        assert!(estimate.available_bps() >= BOUND_MIN as u64);
    }
}
