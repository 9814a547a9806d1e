//! Lets packets to one subscriber leave no faster than its link takes them: a leaky bucket with queues before it.
//!
//! Audio and RTCP never wait; they are counted, and what comes after them waits instead. While nothing waits and the
//! bucket has room, a packet leaves in the turn in which it came, so that a frame is still one GSO train. What waits
//! leaves in trains too: every few milliseconds as much as the bucket lets go at once. In the first moment of a link everything
//! waits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What the bucket lets go at once, in time at its rate.
const DEPTH: Duration = Duration::from_millis(40);
/// The same at low rates: a packet must always fit.
const DEPTH_MIN: f64 = 1_500.0;
/// The bucket leaks faster than the estimate, by more where the estimate is high: bursts of a good link are short.
const FACTOR: f64 = 2.5;
const FACTOR_LOW: f64 = 1.1;
const LOW_BPS: f64 = 400_000.0;
const HIGH_BPS: f64 = 2_000_000.0;
/// What waits is to be gone after this: else the bucket leaks faster, within what a link bears for a moment.
const WAIT_GOAL: f64 = 0.3;
const HASTE_MAX: f64 = 1.5;
/// What has waited for so long does not leave any more: it would come too late, and at the cost of what comes after it.
const WAIT_MAX: Duration = Duration::from_millis(1_000);
const WAITING_MAX: usize = 2_000;
/// When a link opens the first words go ahead of the first picture: on a narrow link that is in front of those that follow.
const FIRST_WORDS: Duration = Duration::from_millis(60);

/// What goes first. Audio does not wait at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    Repair,
    /// A video that is shown large, is a screen, or whose publisher speaks.
    Stage,
    Rest,
}

#[derive(Clone, Debug)]
struct Waiting<T> {
    item: T,
    octets: usize,
    since: Instant,
}

#[derive(Clone, Debug)]
pub struct Pacer<T> {
    /// Octets per second; infinite where nothing is known of the link.
    estimate: f64,
    /// The same that leak.
    rate: f64,
    /// What has left and not yet leaked.
    level: f64,
    /// Until then everything waits.
    shut_until: Option<Instant>,
    updated: Option<Instant>,
    queues: [VecDeque<Waiting<T>>; 3],
    /// What waits in each.
    octets: [usize; 3],
}

impl<T> Default for Pacer<T> {
    fn default() -> Pacer<T> {
        Pacer {
            estimate: f64::INFINITY,
            rate: f64::INFINITY,
            level: 0.0,
            shut_until: None,
            updated: None,
            queues: Default::default(),
            octets: [0; 3],
        }
    }
}

impl<T> Pacer<T> {
    /// The link is there from now on.
    pub fn open(&mut self, now: Instant) {
        self.shut_until = Some(now + FIRST_WORDS);
    }

    fn is_shut(&mut self, now: Instant) -> bool {
        self.shut_until = self.shut_until.filter(|until| now < *until);
        self.shut_until.is_some()
    }

    /// Infinite: nothing waits, once it is open.
    pub fn set_estimate(&mut self, bps: f64) {
        let share = ((bps - LOW_BPS) / (HIGH_BPS - LOW_BPS)).clamp(0.0, 1.0);
        self.estimate = bps / 8.0;
        self.rate = self.estimate * (FACTOR_LOW + (FACTOR - FACTOR_LOW) * share);
    }

    fn depth(&self) -> f64 {
        (self.rate * DEPTH.as_secs_f64()).max(DEPTH_MIN)
    }

    /// Octets per second that leak now.
    fn leak(&self) -> f64 {
        self.rate.max((self.waiting_octets() as f64 / WAIT_GOAL).min(self.rate * HASTE_MAX))
    }

    fn advance(&mut self, now: Instant) {
        // Packets of one turn come at one instant.
        if self.updated == Some(now) {
            return;
        }
        let elapsed = self.updated.replace(now).map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.level = (self.level - self.leak() * elapsed).max(0.0);
    }

    /// What does not wait: it is counted. Octets with IP headers.
    pub fn spend(&mut self, now: Instant, octets: usize) {
        if self.rate.is_finite() {
            self.advance(now);
            self.level += octets as f64;
        }
    }

    /// Whether a packet may leave now; if so it is counted.
    pub fn admits(&mut self, now: Instant, octets: usize) -> bool {
        if self.is_shut(now) {
            return false;
        }
        if self.rate.is_infinite() {
            return self.waiting_octets() == 0;
        }
        self.advance(now);
        let admits = self.waiting_octets() == 0 && self.level < self.depth();
        if admits {
            self.level += octets as f64;
        }
        admits
    }

    /// False when too much waits already.
    pub fn push(&mut self, now: Instant, priority: Priority, octets: usize, item: T) -> bool {
        let queue = &mut self.queues[priority as usize];
        if queue.len() >= WAITING_MAX {
            return false;
        }
        self.updated.get_or_insert(now);
        self.octets[priority as usize] += octets;
        queue.push_back(Waiting { item, octets, since: now });
        true
    }

    /// What leaves now.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        self.advance(now);
        if self.is_shut(now) || (self.rate.is_finite() && self.level > self.depth() / 2.0) {
            return None;
        }
        for (queue, octets) in self.queues.iter_mut().zip(&mut self.octets) {
            while let Some(waiting) = queue.pop_front() {
                *octets -= waiting.octets;
                if now.saturating_duration_since(waiting.since) < WAIT_MAX {
                    self.level += waiting.octets as f64;
                    return Some(waiting.item);
                }
            }
        }
        None
    }

    /// How long what comes now would wait behind what waits and goes first.
    pub fn wait(&self, priority: Priority) -> Duration {
        if self.waiting_octets() == 0 {
            return Duration::ZERO;
        }
        let over = (self.level - self.depth() / 2.0).max(0.0);
        let behind: usize = self.octets[priority as usize + 1..].iter().sum();
        let until_all_is_gone = self.time_to_leak(self.waiting_octets() as f64 + over);
        let seconds = (until_all_is_gone - self.time_to_leak(behind as f64)).max(0.0);
        Duration::from_secs_f64(seconds).min(WAIT_MAX)
    }

    /// In seconds, for so many octets that wait and leak. The bucket leaks more slowly as less waits: first at the most, then
    /// in proportion to what still waits, and what is gone within the goal anyhow at its rate.
    fn time_to_leak(&self, octets: f64) -> f64 {
        let rate = self.rate.max(1.0);
        let goal = rate * WAIT_GOAL;
        let in_haste = (octets - goal * HASTE_MAX).max(0.0) / (rate * HASTE_MAX);
        let easing = WAIT_GOAL * (octets / goal).clamp(1.0, HASTE_MAX).ln();
        let at_rate = octets.min(goal) / rate;
        in_haste + easing + at_rate
    }

    /// How long the link takes for the repairs that wait, if it carries nothing else.
    pub fn repair_time(&self) -> Duration {
        let octets = self.octets[Priority::Repair as usize] as f64;
        Duration::from_secs_f64(octets / self.estimate.max(1.0)).min(WAIT_MAX)
    }

    /// When something of what waits may leave.
    pub fn next_departure(&self) -> Option<Instant> {
        if self.waiting_octets() == 0 {
            return None;
        }
        let over = (self.level - self.depth() / 4.0).max(0.0);
        let leaked = self.updated.map(|at| at + Duration::from_secs_f64(over / self.leak().max(1.0)));
        leaked.max(self.shut_until)
    }

    /// What waits as [`Priority::Rest`] and is meant waits as [`Priority::Stage`] from now on, in its order.
    pub fn promote(&mut self, is_meant: impl Fn(&T) -> bool) {
        let [_, stage, rest] = &mut self.queues;
        let [_, stage_octets, rest_octets] = &mut self.octets;
        let (meant, others) =
            std::mem::take(rest).into_iter().partition::<VecDeque<_>, _>(|waiting| is_meant(&waiting.item));
        let octets: usize = meant.iter().map(|waiting| waiting.octets).sum();
        (*stage_octets, *rest_octets) = (*stage_octets + octets, *rest_octets - octets);
        stage.extend(meant);
        *rest = others;
    }

    /// Takes out what is not to leave any more.
    pub fn retain(&mut self, mut stays: impl FnMut(&T) -> bool) {
        for (queue, octets) in self.queues.iter_mut().zip(&mut self.octets) {
            queue.retain(|waiting| {
                let stays = stays(&waiting.item);
                *octets -= if stays { 0 } else { waiting.octets };
                stays
            });
        }
    }

    pub fn waiting_octets(&self) -> usize {
        self.octets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    const MS: Duration = Duration::from_millis(1);

    /// Lets everything out by the pacer's own deadlines; when each item left.
    fn departures(pacer: &mut Pacer<u32>, from: Instant) -> Vec<(u128, u32)> {
        let mut departures = Vec::new();
        let mut now = from;
        while let Some(at) = pacer.next_departure() {
            now = now.max(at);
            while let Some(item) = pacer.pop(now) {
                departures.push(((now - from).as_millis(), item));
            }
        }
        departures
    }

    #[test]
    fn without_an_estimate_nothing_waits() {
        let mut pacer = Pacer::<u32>::default();
        assert!((0..10_000).all(|_| pacer.admits(start(), 1200)));
    }

    #[test]
    fn a_frame_leaves_at_once_and_a_burst_does_not() {
        let mut pacer = Pacer::<u32>::default();
        pacer.set_estimate(2e6);
        let now = start();
        // 5 Mbit/s for 40 ms are 25,000 octets.
        let admitted = (0..100).take_while(|_| pacer.admits(now, 1200)).count();
        assert_eq!(admitted, 21);
        assert!(!pacer.admits(now, 1200) && pacer.admits(now + MS, 1200) && !pacer.admits(now + MS, 1200));
    }

    #[test]
    fn the_first_words_go_ahead_of_the_first_picture() {
        for estimate in [f64::INFINITY, 300_000.0] {
            let mut pacer = Pacer::<u32>::default();
            pacer.set_estimate(estimate);
            let now = start();
            pacer.open(now);
            assert!(!pacer.admits(now, 1200));
            pacer.push(now, Priority::Stage, 1200, 1);
            pacer.push(now + 20 * MS, Priority::Stage, 300, 2);
            let left = departures(&mut pacer, now);
            assert_eq!(left[0], (FIRST_WORDS.as_millis(), 1), "{left:?}");
            pacer.open(now);
            pacer.push(now, Priority::Stage, 1200, 3);
            assert!(!pacer.admits(now + FIRST_WORDS, 1200), "nothing overtakes what has waited");
            assert_eq!(pacer.pop(now + Duration::from_millis(500)), Some(3));
            assert!(pacer.admits(now + Duration::from_secs(1), 1200));
        }
    }

    #[test]
    fn the_order_is_strict_and_the_rate_is_kept() {
        let mut pacer = Pacer::<u32>::default();
        pacer.set_estimate(200_000.0);
        let now = start();
        while pacer.admits(now, 500) {}
        for item in 0..4 {
            assert!(pacer.push(now, Priority::Rest, 500, item));
        }
        pacer.push(now, Priority::Stage, 500, 10);
        pacer.push(now, Priority::Repair, 500, 20);
        let left = departures(&mut pacer, now);
        assert_eq!(left.iter().map(|(_, item)| *item).collect::<Vec<_>>(), [20, 10, 0, 1, 2, 3]);
        // 3000 octets at 220 kbit/s.
        assert!((80..=140).contains(&left[5].0), "{left:?}");
        assert_eq!(pacer.waiting_octets(), 0);
    }

    #[test]
    fn nothing_stands_in_it() {
        let mut pacer = Pacer::<u32>::default();
        pacer.set_estimate(100_000.0);
        let now = start();
        assert!(pacer.admits(now, 1200));
        for item in 0..100 {
            pacer.push(now, Priority::Rest, 1200, item);
        }
        let left = departures(&mut pacer, now);
        assert!(left.last().is_some_and(|(at, _)| *at <= 1_000), "{left:?}");
        assert!((15..30).contains(&left.len()), "150 kbit/s for a second: {left:?}");
        assert_eq!(pacer.waiting_octets(), 0);
        pacer.push(now, Priority::Rest, 1200, 7);
        pacer.retain(|item| *item != 7);
        assert_eq!(pacer.next_departure(), None);
    }

    #[test]
    fn how_long_something_waits_is_known_beforehand() {
        for (bps, packets) in [(100_000.0, 5), (300_000.0, 10), (300_000.0, 16), (300_000.0, 40), (3e6, 300)] {
            let mut pacer = Pacer::<u32>::default();
            pacer.set_estimate(bps);
            let now = start();
            while pacer.admits(now, 1000) {}
            assert_eq!(pacer.wait(Priority::Repair), Duration::ZERO);
            let waits: Vec<u128> = (0..packets)
                .map(|item| {
                    pacer.push(now, Priority::Repair, 1000, item);
                    pacer.wait(Priority::Repair).as_millis()
                })
                .collect();
            pacer.push(now, Priority::Repair, 1000, packets);
            let left = departures(&mut pacer, now);
            for (wait, (at, item)) in waits.iter().zip(&left[1..]) {
                assert!(*at <= wait + 20, "{item} of {packets} at {bps} bit/s left at {at} ms, expected {wait}");
            }
            let (at, last) = (left[packets as usize].0, waits[packets as usize - 1]);
            assert!(at.abs_diff(last) <= 20, "{packets} at {bps} bit/s left at {at} ms, expected {last}");
        }
    }

    #[test]
    fn who_comes_on_stage_brings_along_what_waits() {
        let mut pacer = Pacer::<u32>::default();
        pacer.set_estimate(300_000.0);
        let now = start();
        while pacer.admits(now, 1000) {}
        for (priority, item) in [(Priority::Rest, 1), (Priority::Stage, 5), (Priority::Rest, 10), (Priority::Rest, 2)] {
            pacer.push(now, priority, 1000, item);
        }
        pacer.promote(|item| *item < 5);
        pacer.push(now, Priority::Stage, 1000, 3);
        assert_eq!(pacer.waiting_octets(), 5000);
        let left: Vec<u32> = departures(&mut pacer, now).into_iter().map(|(_, item)| item).collect();
        assert_eq!(left, [5, 1, 2, 3, 10]);
        assert_eq!(pacer.waiting_octets(), 0);
    }

    #[test]
    fn a_repair_waits_for_no_picture() {
        let mut pacer = Pacer::<u32>::default();
        pacer.set_estimate(300_000.0);
        let now = start();
        while pacer.admits(now, 1000) {}
        for item in 0..20 {
            pacer.push(now, Priority::Stage, 1000, item);
        }
        pacer.push(now, Priority::Repair, 1000, 20);
        let expected = pacer.wait(Priority::Repair).as_millis();
        pacer.push(now, Priority::Repair, 1000, 21);
        let behind_all = pacer.wait(Priority::Rest).as_millis();
        let left = departures(&mut pacer, now);
        assert_eq!((left[0].1, left[1].1), (20, 21));
        assert!(left[1].0.abs_diff(expected) <= 20, "left at {} ms, expected {expected}", left[1].0);
        assert!(left.last().is_some_and(|(at, _)| at.abs_diff(behind_all) <= 40), "{left:?}, expected {behind_all}");
    }

    #[test]
    fn how_long_repairs_take_the_link_is_known() {
        let mut pacer = Pacer::<u32>::default();
        pacer.open(start());
        pacer.push(start(), Priority::Repair, 1000, 0);
        assert_eq!(pacer.repair_time(), Duration::ZERO, "nothing is known of it");
        pacer.set_estimate(2e6);
        pacer.push(start(), Priority::Repair, 1000, 1);
        pacer.push(start(), Priority::Stage, 1000, 2);
        assert_eq!(pacer.repair_time(), Duration::from_millis(8));
        pacer.set_estimate(0.0);
        assert_eq!(pacer.repair_time(), WAIT_MAX);
    }
}
