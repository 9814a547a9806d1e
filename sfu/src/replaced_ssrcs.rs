//! The SSRCs of a publisher whose stream another SSRC has taken over.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many are remembered, and
const REPLACED_MAX: usize = 32;
/// how long at least: an encoder starts over once in a while, and no network delays a packet for as long.
const REMEMBERED_MIN: Duration = Duration::from_secs(10);

/// Remembers them, so that a packet which comes late does not take the stream back.
#[derive(Clone, Debug, Default)]
pub struct ReplacedSsrcs {
    /// With the moment of the change, oldest first. Never more than [`REPLACED_MAX`].
    list: VecDeque<(u32, Instant)>,
}

impl ReplacedSsrcs {
    pub fn contains(&self, ssrc: u32) -> bool {
        self.list.iter().any(|&(known, _)| known == ssrc)
    }

    /// Whether one more can be remembered. If not, a stream keeps the SSRC that it has: whoever changes it with every
    /// packet makes no more work and no more state than this.
    pub fn has_room(&self, now: Instant) -> bool {
        self.list.len() < REPLACED_MAX
            || self.list.front().is_some_and(|&(_, at)| now.saturating_duration_since(at) >= REMEMBERED_MIN)
    }

    /// There is room.
    pub fn push(&mut self, ssrc: u32, now: Instant) {
        assert!(self.has_room(now), "more SSRCs were replaced than can be remembered");
        if self.list.len() == REPLACED_MAX {
            self.list.pop_front();
        }
        self.list.push_back((ssrc, now));
    }

    /// The SSRC has a stream again.
    pub fn remove(&mut self, ssrc: u32) {
        self.list.retain(|&(known, _)| known != ssrc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    #[test]
    fn what_is_remembered_is_bounded_and_none_is_forgotten_early() {
        let now = start();
        let mut replaced = ReplacedSsrcs::default();
        for ssrc in 0..REPLACED_MAX as u32 {
            assert!(replaced.has_room(now));
            replaced.push(ssrc, now);
        }
        assert!(!replaced.has_room(now));
        assert!(!replaced.has_room(now + REMEMBERED_MIN - Duration::from_millis(1)));
        assert!(replaced.contains(0) && replaced.contains(31) && !replaced.contains(32));
        assert!(replaced.has_room(now + REMEMBERED_MIN));
        replaced.push(32, now + REMEMBERED_MIN);
        assert!(!replaced.contains(0) && replaced.contains(32));
        assert_eq!(replaced.list.len(), REPLACED_MAX);
        replaced.remove(5);
        assert!(!replaced.contains(5));
        assert!(replaced.has_room(now));
    }
}
