//! How much of something a participant may do: so often at once, and so often a second.

use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub struct Allowance {
    per_second: f64,
    at_once: f64,
    left: f64,
    refilled: Option<Instant>,
}

impl Allowance {
    pub fn new(per_second: f64, at_once: f64) -> Allowance {
        Allowance { per_second, at_once, left: at_once, refilled: None }
    }

    /// Whether one more is allowed now, if there is one.
    pub fn admits(&mut self, now: Instant) -> bool {
        let passed = self.refilled.replace(now).map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.left = (self.left + passed * self.per_second).min(self.at_once);
        self.left >= 1.0
    }

    /// So many are allowed now, if there were fewer.
    pub fn grant(&mut self, at_least: f64) {
        self.left = self.left.max(at_least);
    }

    /// One was taken.
    pub fn spend(&mut self) {
        self.left -= 1.0;
    }

    /// When to ask again, after one was not allowed: then there are some at a time.
    pub fn next(&self) -> Option<Instant> {
        Some(self.refilled? + Duration::from_millis(20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let mut allowance = Allowance::new(1_000.0, 2_000.0);
        let mut taken = |at: Instant| {
            let one = |_: &i32| {
                let is_taken = allowance.admits(at);
                if is_taken {
                    allowance.spend();
                }
                is_taken
            };
            (0..10_000).take_while(one).count()
        };
        assert_eq!(taken(start()), 2_000);
        assert_eq!(taken(start() + Duration::from_millis(20)), 20);
        assert_eq!(taken(start() + Duration::from_secs(1)), 980);
        assert_eq!(taken(start() + Duration::from_secs(100)), 2_000);
        let next = allowance.next().unwrap();
        assert!(next > start() + Duration::from_secs(100) && allowance.admits(next));
    }
}
