//! What an estimate has held for a while: going up relies on this, going down on the estimate itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// An estimate counts for more when it has been as high for so long.
const WINDOW: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Default)]
pub struct Steady {
    /// Ascending in time and in value: the least of the window stands first.
    values: VecDeque<(Instant, u64)>,
    began: Option<Instant>,
}

impl Steady {
    pub fn take(&mut self, now: Instant, bps: u64) {
        self.began.get_or_insert(now);
        while self.values.back().is_some_and(|(_, known)| *known >= bps) {
            self.values.pop_back();
        }
        self.values.push_back((now, bps));
        while self.values.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW) {
            self.values.pop_front();
        }
    }

    /// A probe has shown that there is more: what was before does not count.
    pub fn prove(&mut self, now: Instant, bps: u64) {
        self.values.clear();
        self.values.push_back((now, bps));
        self.began = Some(now - WINDOW);
    }

    /// The least of the window.
    pub fn bps(&self) -> u64 {
        self.values.front().map_or(0, |(_, bps)| *bps)
    }
}
