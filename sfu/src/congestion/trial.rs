//! Whether what a probe has found is believed.
//!
//! A probe is over in a moment. On a link that others use too it may find a gap between their packets, and what is then
//! sent at that rate fills the queue. So a rate is on trial at first; when it fails, what is no better is not tried again
//! for a while, each time for longer. Far more than what failed is: the link may be another one by then.

/// A rate that is followed by a decrease within this time has failed.
const TRIAL_US: i64 = 4_000_000;
/// It is not tried again for so long; doubled with each failure in a row, up to the second.
const HOLD_US: i64 = 8_000_000;
const HOLD_MAX_US: i64 = 64_000_000;
/// So much more than what has failed is tried at once.
const FAR_MORE: f64 = 1.5;

#[derive(Clone, Debug, Default)]
pub struct Trial {
    /// Since when a rate is tried, and which.
    running: Option<(i64, f64)>,
    failed_bps: f64,
    failures: u32,
    held_until_us: i64,
}

impl Trial {
    /// Whether to send at what was found; its trial begins then.
    pub fn begin(&mut self, now_us: i64, bps: f64) -> bool {
        if now_us < self.held_until_us && bps < FAR_MORE * self.failed_bps {
            return false;
        }
        self.running = Some((now_us, bps));
        true
    }

    /// To be told of each moment; `has_decreased`: what may be sent was lowered in it.
    pub fn update(&mut self, now_us: i64, has_decreased: bool) {
        let Some((began_us, bps)) = self.running else { return };
        if now_us - began_us >= TRIAL_US {
            self.running = None;
            self.failures = 0;
        } else if has_decreased {
            self.running = None;
            self.failed_bps = bps;
            self.held_until_us = now_us + (HOLD_US << self.failures.min(8)).min(HOLD_MAX_US);
            self.failures += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn what_failed_is_not_tried_again_for_longer_each_time() {
        let mut trial = Trial::default();
        assert!(trial.begin(0, 2e6));
        trial.update(SECOND, true);
        assert!(!trial.begin(8 * SECOND, 2.4e6));
        assert!(trial.begin(9 * SECOND, 2e6));
        trial.update(10 * SECOND, true);
        assert!(!trial.begin(25 * SECOND, 2e6));
        assert!(trial.begin(26 * SECOND, 2e6));
        trial.update(30 * SECOND, true);
        assert!(trial.begin(30 * SECOND, 2e6), "four seconds later it was not the probe's fault");
        trial.update(31 * SECOND, true);
        assert!(!trial.begin(38 * SECOND, 2e6) && trial.begin(39 * SECOND, 2e6), "and it is forgiven");
    }

    #[test]
    fn far_more_is_another_link() {
        let mut trial = Trial::default();
        assert!(trial.begin(0, 2e5));
        trial.update(SECOND, true);
        assert!(!trial.begin(2 * SECOND, 2.9e5));
        assert!(trial.begin(2 * SECOND, 3e5));
    }
}
