//! How many messages a participant may send.

use std::time::{Duration, Instant};

/// What applications need that send positions or strokes, several of them at once. Each message goes to everybody in the room.
const PER_SECOND: f64 = 1_000.0;
const BURST: f64 = 2_000.0;

#[derive(Clone, Debug)]
pub struct Allowance {
    left: f64,
    refilled: Option<Instant>,
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance { left: BURST, refilled: None }
    }
}

impl Allowance {
    /// Whether one more message is taken now, if there is one.
    pub fn admits(&mut self, now: Instant) -> bool {
        let passed = self.refilled.replace(now).map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.left = (self.left + passed * PER_SECOND).min(BURST);
        self.left >= 1.0
    }

    /// One was taken.
    pub fn spend(&mut self) {
        self.left -= 1.0;
    }

    /// When the next one is taken, after one was not: some at a time.
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
        let mut allowance = Allowance::default();
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
