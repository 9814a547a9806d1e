//! When packets find the queue that a probe makes.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// The queue is gone after this.
const GONE: Duration = Duration::from_millis(300);

/// Of the last probe, or of those that followed each other so closely that their queues are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeQueue {
    /// From when to when packets that leave find it.
    span: Option<(Instant, Instant)>,
}

impl ProbeQueue {
    /// A burst of a probe leaves.
    pub fn note_burst(&mut self, now: Instant) {
        let from = self.span.filter(|(_, until)| now <= *until).map_or(now, |(from, _)| from);
        self.span = Some((from, now + GONE));
    }

    /// The times of sending, in microseconds since `epoch`, of the packets that found it.
    pub fn found_us(&self, epoch: Instant) -> RangeInclusive<i64> {
        let us = |at: Instant| at.saturating_duration_since(epoch).as_micros() as i64;
        self.span.map_or(i64::MIN..=i64::MIN, |(from, until)| us(from)..=us(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_bursts_of_a_probe_are_one() {
        let (now, mut queue) = (crate::test_clock::start(), ProbeQueue::default());
        assert!(!queue.found_us(now).contains(&0));
        queue.note_burst(now);
        queue.note_burst(now + GONE);
        assert_eq!(queue.found_us(now), 0..=600_000);
        queue.note_burst(now + S);
        assert_eq!(queue.found_us(now), 1_000_000..=1_300_000);
    }
}
