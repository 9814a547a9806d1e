//! Which packets of a publisher's RTP stream are missing, and when to ask for them (RFC 4585 §6.2.1).
//!
//! - [`NackTracker::receive`] takes every packet, original or repaired, by its unwrapped number.
//! - [`NackTracker::poll`] gives the numbers that are to be requested now: first after a short tolerance for
//!   reordering, then once per round trip, until too old or too often.
//! - [`NackTracker::take_gave_up`] says that something will not come any more: video needs a keyframe then.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A packet that this many later ones overtook is lost, not late.
const OVERTAKEN: u64 = 3;
/// As is one that was missing for this long.
const TOLERANCE: Duration = Duration::from_millis(10);
/// Round trips shorter than this are taken for this.
const INTERVAL_MIN: Duration = Duration::from_millis(20);
const TRIES_MAX: u8 = 10;
/// A larger gap is not repaired, nor are more than so many packets at a time.
const MISSING_MAX: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Missing {
    sequence: u64,
    noticed: Instant,
    requested: Option<Instant>,
    tries: u8,
}

#[derive(Clone, Debug)]
pub struct NackTracker {
    age_max: Duration,
    highest: Option<u64>,
    /// Ascending. Never more than [`MISSING_MAX`].
    missing: VecDeque<Missing>,
    gave_up: bool,
    next_poll: Option<Instant>,
}

impl NackTracker {
    /// `age_max`: what is missing for longer is of no use any more.
    pub fn new(age_max: Duration) -> NackTracker {
        NackTracker { age_max, highest: None, missing: VecDeque::new(), gave_up: false, next_poll: None }
    }

    pub fn receive(&mut self, sequence: u64, now: Instant) {
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return;
        };
        if sequence <= highest {
            if let Ok(index) = self.missing.binary_search_by_key(&sequence, |missing| missing.sequence) {
                self.missing.remove(index);
                if self.missing.is_empty() {
                    self.next_poll = None;
                }
            }
            return;
        }
        self.highest = Some(sequence);
        let gap = sequence - highest - 1;
        if gap == 0 {
            return;
        }
        if gap > (MISSING_MAX - self.missing.len()) as u64 {
            self.clear();
            self.gave_up = true;
            return;
        }
        for sequence in highest + 1..sequence {
            self.missing.push_back(Missing { sequence, noticed: now, requested: None, tries: 0 });
        }
        let first_request = now + TOLERANCE;
        self.next_poll = Some(self.next_poll.map_or(first_request, |at| at.min(first_request)));
    }

    /// Nothing before a keyframe is needed any more.
    pub fn handle_keyframe(&mut self, sequence: u64) {
        while self.missing.front().is_some_and(|missing| missing.sequence < sequence) {
            self.missing.pop_front();
        }
        self.gave_up = false;
    }

    /// Forgets what is missing: nobody is forwarded the stream.
    pub fn clear(&mut self) {
        self.missing.clear();
        self.next_poll = None;
        self.gave_up = false;
    }

    /// Numbers begin anew: nothing of those before is asked for.
    pub fn begin_source(&mut self) {
        *self = NackTracker::new(self.age_max);
    }

    /// Fills `due` with the sequence numbers to request now, ascending, and returns how many.
    pub fn poll(&mut self, now: Instant, round_trip: Duration, due: &mut [u16]) -> usize {
        let age_max = self.age_max;
        let before = self.missing.len();
        self.missing
            .retain(|missing| missing.tries < TRIES_MAX && now.saturating_duration_since(missing.noticed) < age_max);
        self.gave_up |= self.missing.len() < before;
        let highest = self.highest.unwrap_or_default();
        let interval = round_trip.max(INTERVAL_MIN);
        let mut count = 0;
        let mut is_full = false;
        let mut next = None;
        for missing in &mut self.missing {
            let is_due = match missing.requested {
                Some(at) => now.saturating_duration_since(at) >= interval,
                None => {
                    highest - missing.sequence >= OVERTAKEN
                        || now.saturating_duration_since(missing.noticed) >= TOLERANCE
                }
            };
            if is_due {
                let Some(place) = due.get_mut(count) else {
                    is_full = true;
                    break;
                };
                *place = missing.sequence as u16;
                count += 1;
                missing.requested = Some(now);
                missing.tries += 1;
            }
            let at = missing.requested.map_or(missing.noticed + TOLERANCE, |at| at + interval);
            next = Some(next.map_or(at, |next: Instant| next.min(at)));
        }
        self.next_poll = if is_full { Some(now) } else { next };
        count
    }

    /// When to poll again; `None` while nothing is missing. Never later than anything is due.
    pub fn next_poll(&self) -> Option<Instant> {
        self.next_poll
    }

    /// True once after a packet was given up, or a gap too large to repair.
    pub fn take_gave_up(&mut self) -> bool {
        std::mem::take(&mut self.gave_up)
    }

    pub fn missing_count(&self) -> usize {
        self.missing.len()
    }

    /// When what has been missing for longest has had the time for two requests; `None` when nothing is missing, or that
    /// was in vain.
    pub fn repaired_by(&self, now: Instant, round_trip: Duration) -> Option<Instant> {
        let oldest = self.missing.front()?.noticed;
        Some(oldest + TOLERANCE + 2 * round_trip.max(INTERVAL_MIN)).filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;
    use proptest::prelude::*;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    fn due(tracker: &mut NackTracker, now: Instant) -> Vec<u16> {
        let mut due = [0; 300];
        let count = tracker.poll(now, ROUND_TRIP, &mut due);
        due[..count].to_vec()
    }

    fn tracker() -> NackTracker {
        NackTracker::new(Duration::from_secs(1))
    }

    #[test]
    fn of_another_source_only_its_own_is_asked_for() {
        let now = start();
        let mut tracker = tracker();
        [10, 12].into_iter().for_each(|sequence| tracker.receive(sequence, now));
        tracker.begin_source();
        [5000, 5002].into_iter().for_each(|sequence| tracker.receive(sequence, now));
        assert_eq!(due(&mut tracker, now + TOLERANCE), [5001]);
        assert!(!tracker.take_gave_up(), "the numbers between are nobody's");
    }

    #[test]
    fn reordering_is_tolerated_and_loss_is_requested_once_per_round_trip() {
        let now = start();
        let ms = Duration::from_millis;
        let mut tracker = tracker();
        tracker.receive(0x1_FFFE, now);
        tracker.receive(0x2_0001, now);
        assert_eq!(tracker.missing_count(), 2);
        assert!(due(&mut tracker, now).is_empty());
        assert_eq!(tracker.next_poll(), Some(now + ms(10)));
        tracker.receive(0x1_FFFF, now + ms(5));
        assert_eq!(due(&mut tracker, now + ms(10)), [0]);
        assert!(due(&mut tracker, now + ms(109)).is_empty());
        assert_eq!(tracker.next_poll(), Some(now + ms(110)));
        assert_eq!(due(&mut tracker, now + ms(110)), [0]);
        tracker.receive(0x2_0000, now + ms(111));
        assert_eq!(tracker.next_poll(), None, "nothing is missing");
        assert!(!tracker.take_gave_up());
    }

    #[test]
    fn overtaken_packets_are_requested_at_once() {
        let now = start();
        let mut tracker = tracker();
        for sequence in [65_536, 65_538, 65_539] {
            tracker.receive(sequence, now);
        }
        assert!(due(&mut tracker, now).is_empty());
        tracker.receive(65_540, now);
        assert_eq!(due(&mut tracker, now), [1]);
    }

    #[test]
    fn old_ones_and_great_gaps_are_given_up() {
        let now = start();
        let mut tracker = tracker();
        tracker.receive(65_536, now);
        tracker.receive(65_538, now);
        assert!(due(&mut tracker, now + Duration::from_secs(1)).is_empty());
        assert!(tracker.take_gave_up() && !tracker.take_gave_up());
        tracker.receive(65_538 + MISSING_MAX as u64 + 2, now);
        assert_eq!(tracker.missing_count(), 0);
        assert!(tracker.take_gave_up());
        tracker.receive(65_538 + 2 * MISSING_MAX as u64 + 3, now);
        assert_eq!(tracker.missing_count(), MISSING_MAX);
        assert!(!tracker.take_gave_up());
    }

    #[test]
    fn what_is_missing_has_time_for_two_requests() {
        let now = start();
        let mut tracker = tracker();
        tracker.receive(65_536, now);
        assert_eq!(tracker.repaired_by(now, ROUND_TRIP), None);
        tracker.receive(65_538, now);
        assert_eq!(tracker.repaired_by(now, ROUND_TRIP), Some(now + Duration::from_millis(210)));
        assert_eq!(tracker.repaired_by(now + Duration::from_millis(210), ROUND_TRIP), None);
    }

    #[test]
    fn ten_tries_are_enough() {
        let mut now = start();
        let mut tracker = NackTracker::new(Duration::from_secs(60));
        tracker.receive(65_536, now);
        tracker.receive(65_538, now);
        let mut tries = 0;
        for _ in 0..30 {
            now += ROUND_TRIP;
            tries += due(&mut tracker, now).len();
        }
        assert_eq!(tries, usize::from(TRIES_MAX));
        assert!(tracker.take_gave_up());
    }

    #[test]
    fn a_keyframe_makes_what_was_before_it_needless() {
        let now = start();
        let mut tracker = tracker();
        tracker.receive(65_536, now);
        tracker.receive(65_540, now);
        tracker.receive(65_542, now);
        tracker.handle_keyframe(65_540);
        assert_eq!(tracker.missing_count(), 1);
        assert_eq!(due(&mut tracker, now + Duration::from_millis(10)), [5]);
    }

    #[test]
    fn a_full_list_goes_on_the_next_time() {
        let now = start();
        let mut tracker = tracker();
        tracker.receive(65_536, now);
        tracker.receive(65_546, now);
        let mut due = [0; 4];
        assert_eq!(tracker.poll(now, ROUND_TRIP, &mut due), 4);
        assert_eq!(due, [1, 2, 3, 4]);
        assert_eq!(tracker.poll(now, ROUND_TRIP, &mut due), 3, "the last two are only just overtaken");
    }

    proptest! {
        #[test]
        fn asks_for_what_is_missing_alone(steps in proptest::collection::vec((0u64..600, 0u64..50), 1..100)) {
            let mut now = start();
            let mut tracker = tracker();
            let mut received = std::collections::BTreeSet::new();
            let mut base = 65_536u64;
            for (step, wait) in steps {
                now += Duration::from_millis(wait);
                base += 2;
                let sequence = base + step % 40 + if step > 590 { 300 } else { 0 };
                tracker.receive(sequence, now);
                received.insert(sequence);
                prop_assert!(tracker.missing_count() <= MISSING_MAX);
                for number in due(&mut tracker, now) {
                    let sequence = crate::sequence::unwrap_16(base, number);
                    prop_assert!(!received.contains(&sequence));
                    prop_assert!(sequence < *received.last().unwrap());
                }
                prop_assert_eq!(tracker.next_poll().is_some(), tracker.missing_count() > 0);
                // Polled then, and not before, nothing is late.
                if let Some(next) = tracker.next_poll() {
                    prop_assert!(next <= now + ROUND_TRIP);
                    let mut early = tracker.clone();
                    if next > now {
                        prop_assert!(due(&mut early, next - Duration::from_nanos(1)).is_empty());
                    }
                }
            }
        }
    }
}
