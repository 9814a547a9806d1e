//! How long packets wait in a queue on the way: the delay of now above the smallest of the last while.
//!
//! A trend says nothing once a queue is full, since its delay stays the same; this does.

use std::collections::VecDeque;

/// The smallest delay of so long is the path's own.
const BASE_US: i64 = 30_000_000;
const BUCKET_US: i64 = 500_000;
/// The smallest delay of so long is that of now: single packets that were held up do not count.
const RECENT_US: i64 = 150_000;
/// A queue that changes by less than this stands still.
const STILL_US: i64 = 15_000;

#[derive(Clone, Debug, Default)]
pub struct StandingQueue {
    /// When a bucket began, and its smallest delay. Those of which a later one has no larger delay are left out, so the
    /// first is the smallest.
    base: VecDeque<(i64, i64)>,
    recent: VecDeque<(i64, i64)>,
    /// Since when, by sending, the queue has not left the surroundings of a length.
    still: Option<(i64, i64)>,
}

impl StandingQueue {
    pub fn receive(&mut self, sent_us: i64, arrival_us: i64) {
        let delay = arrival_us - sent_us;
        let bucket = self.base.back().copied().filter(|(began, _)| sent_us < began + BUCKET_US);
        let (began, least) = bucket.map_or((sent_us, delay), |(began, least)| (began, least.min(delay)));
        while self.base.back().is_some_and(|(_, known)| *known >= least) {
            self.base.pop_back();
        }
        self.base.push_back((began, least));
        while self.base.front().is_some_and(|(began, _)| *began < sent_us - BASE_US) {
            self.base.pop_front();
        }
        while self.recent.back().is_some_and(|(_, known)| *known >= delay) {
            self.recent.pop_back();
        }
        self.recent.push_back((sent_us, delay));
        while self.recent.front().is_some_and(|(at, _)| *at < sent_us - RECENT_US) {
            self.recent.pop_front();
        }
        let length = self.queue_us();
        if self.still.is_none_or(|(_, known)| (length - known).abs() > STILL_US) {
            self.still = Some((sent_us, length));
        }
    }

    /// How long the queue has been as long as it is.
    pub fn still_for_us(&self) -> i64 {
        let newest = self.recent.back().map(|(at, _)| *at);
        newest.zip(self.still).map_or(0, |(now, (since, _))| now - since)
    }

    /// How much longer a packet took than the path itself does.
    pub fn waited_us(&self, sent_us: i64, arrival_us: i64) -> i64 {
        self.base.front().map_or(0, |(_, least)| arrival_us - sent_us - least)
    }

    pub fn queue_us(&self) -> i64 {
        let base = self.base.front().map(|(_, least)| *least);
        let now = self.recent.front().map(|(_, delay)| *delay);
        now.zip(base).map_or(0, |(now, base)| (now - base).max(0))
    }

    /// The delay of now is the path's own: what was taken for a queue does not drain.
    pub fn forget_base(&mut self) {
        let newest = self.recent.back().copied();
        self.base.clear();
        self.base.extend(newest);
    }

    /// Another path, another clock, or nothing was sent for so long that it is empty.
    pub fn clear(&mut self) {
        self.base.clear();
        self.recent.clear();
        self.still = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_what_stands_above_the_least_delay() {
        let mut queue = StandingQueue::default();
        for index in 0..100 {
            queue.receive(index * 20_000, index * 20_000 - 7_000_000);
        }
        assert_eq!(queue.queue_us(), 0, "whatever the clocks are");
        // One packet held up, then all of them.
        queue.receive(2_000_000, 2_000_000 - 6_500_000);
        assert_eq!(queue.queue_us(), 0);
        for index in 101..120 {
            queue.receive(index * 20_000, index * 20_000 - 6_800_000);
        }
        assert_eq!(queue.queue_us(), 200_000);
        queue.forget_base();
        assert_eq!(queue.queue_us(), 0);
    }
}
