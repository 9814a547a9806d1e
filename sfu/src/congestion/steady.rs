//! What an estimate has held for a while: going up relies on this, going down on the estimate itself.
//!
//! For what everybody sees, another encoding or a video that was paused, that while grows with each step up that had to be
//! taken back soon after, and so does the room it needs: pictures that come and go are worse than pictures that come late.
//! What a probe has proved needs neither.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// An estimate counts for more when it has been as high for so long.
const HOLD: Duration = Duration::from_secs(5);
/// Longer by this factor, up to the second, after each step up that was taken back.
const BACK_OFF: u32 = 4;
const HOLD_MAX: Duration = Duration::from_secs(120);
/// A step up was too early when one down follows within this time.
const TAKEN_BACK: Duration = Duration::from_secs(240);
/// After so long without a step the hold is halved.
const CALM: Duration = Duration::from_secs(480);
/// An estimate counts for this part of itself at least, in proportion as the hold is longer.
const PART_MIN: f64 = 0.45;
/// Values this close to each other are kept as the least of them.
const BUCKET: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Steady {
    /// When a bucket began, and the least of it. Ascending in time and in value: the least of all stands first.
    values: VecDeque<(Instant, u64)>,
    newest: Option<(Instant, u64)>,
    hold: Duration,
    /// When something last went up and was not taken back yet, and by which estimate.
    raised: Option<(Instant, u64)>,
    /// The last step, or when the hold was last made shorter.
    changed: Option<Instant>,
}

impl Default for Steady {
    fn default() -> Steady {
        Steady { values: VecDeque::new(), newest: None, hold: HOLD, raised: None, changed: None }
    }
}

impl Steady {
    pub fn take(&mut self, now: Instant, bps: u64) {
        self.newest = Some((now, bps));
        let bucket = self.values.back().filter(|(began, _)| now.saturating_duration_since(*began) < BUCKET).copied();
        if bucket.is_none_or(|(_, least)| bps < least) {
            while self.values.back().is_some_and(|(_, known)| *known >= bps) {
                self.values.pop_back();
            }
            self.values.push_back((bucket.map_or(now, |(began, _)| began), bps));
        }
        while self.values.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > HOLD_MAX) {
            self.values.pop_front();
        }
    }

    /// A probe has shown that there is more: what was before does not count, steps taken back included.
    pub fn prove(&mut self, now: Instant, bps: u64) {
        let changed = self.changed;
        *self = Steady { changed, ..Steady::default() };
        self.take(now, bps);
    }

    /// What was chosen by it: whether something went up visibly, and whether something went down. A step down at an estimate
    /// that is as high as it was for the step up has other reasons, like a publisher who sends less.
    pub fn note_steps(&mut self, now: Instant, is_up: bool, is_down: bool) {
        let bps = self.newest.map_or(0, |(_, bps)| bps);
        let is_early =
            |(at, raised_by): (Instant, u64)| now.saturating_duration_since(at) < TAKEN_BACK && bps < raised_by;
        if is_down && self.raised.take().is_some_and(is_early) {
            self.hold = (self.hold * BACK_OFF).min(HOLD_MAX);
        }
        if is_up {
            self.raised = Some((now, bps));
        }
        let changed = *self.changed.get_or_insert(now);
        let is_calm = now.saturating_duration_since(changed) > CALM;
        if is_calm {
            self.hold = (self.hold / 2).max(HOLD);
        }
        if is_up || is_down || is_calm {
            self.changed = Some(now);
        }
    }

    /// The least of a few seconds.
    pub fn bps(&self) -> u64 {
        self.least_of(HOLD)
    }

    /// What a visible step up may rely on.
    pub fn held_bps(&self) -> u64 {
        (self.least_of(self.hold) as f64 * self.part()) as u64
    }

    /// What the estimate must be, for as long as it must, before a visible step up may rely on `bps`.
    pub fn needed_bps(&self, bps: u64) -> u64 {
        (bps as f64 / self.part()).ceil() as u64
    }

    fn part(&self) -> f64 {
        HOLD.div_duration_f64(self.hold).max(PART_MIN)
    }

    fn least_of(&self, time: Duration) -> u64 {
        let is_of_it = |at: &Instant| self.newest.is_some_and(|(now, _)| now.saturating_duration_since(*at) <= time);
        self.values.iter().find(|(at, _)| is_of_it(at)).map_or(0, |(_, bps)| *bps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes the same value four times a second for so long.
    fn stay(steady: &mut Steady, now: &mut Instant, seconds: u32, bps: u64) {
        for _ in 0..4 * seconds {
            *now += SECOND / 4;
            steady.take(*now, bps);
        }
    }

    #[test]
    fn a_fall_counts_at_once_and_a_rise_when_it_has_held() {
        let (mut steady, mut now) = (Steady::default(), start());
        stay(&mut steady, &mut now, 10, 300_000);
        stay(&mut steady, &mut now, 4, 900_000);
        assert_eq!(steady.bps(), 300_000);
        stay(&mut steady, &mut now, 3, 900_000);
        assert_eq!(steady.bps(), 900_000);
        steady.take(now, 200_000);
        assert_eq!(steady.bps(), 200_000);
    }

    #[test]
    fn steps_taken_back_make_the_next_ones_rarer() {
        let (mut steady, mut now) = (Steady::default(), start());
        stay(&mut steady, &mut now, 1, 900_000);
        for hold in [20, 80, 120, 120] {
            steady.note_steps(now, true, false);
            stay(&mut steady, &mut now, 30, 900_000);
            stay(&mut steady, &mut now, 1, 300_000);
            steady.note_steps(now, false, true);
            stay(&mut steady, &mut now, hold - 2, 900_000);
            assert_eq!((steady.bps(), steady.held_bps()), (900_000, 135_000), "{hold}");
            stay(&mut steady, &mut now, 4, 900_000);
            assert_eq!(steady.held_bps(), 405_000, "{hold}");
        }
        // One that lasted was not too early.
        let (mut steady, mut now) = (Steady::default(), start());
        steady.note_steps(now, true, false);
        stay(&mut steady, &mut now, 241, 900_000);
        steady.take(now, 300_000);
        steady.note_steps(now, false, true);
        assert_eq!(steady.hold, HOLD);
        // Nor was one of which the estimate is not the reason.
        steady.note_steps(now, true, false);
        steady.note_steps(now, false, true);
        assert_eq!(steady.hold, HOLD);
    }

    #[test]
    fn calm_and_a_probe_forgive() {
        let (mut steady, mut now) = (Steady::default(), start());
        steady.take(now, 900_000);
        steady.note_steps(now, true, false);
        steady.take(now, 300_000);
        steady.note_steps(now, false, true);
        assert_eq!(steady.hold, 4 * HOLD);
        for _ in 0..481 {
            stay(&mut steady, &mut now, 1, 300_000);
            steady.note_steps(now, false, false);
        }
        assert_eq!(steady.hold, 2 * HOLD);
        steady.prove(now, 900_000);
        assert_eq!((steady.bps(), steady.held_bps()), (900_000, 900_000));
    }

    #[test]
    fn what_is_needed_can_be_relied_on_when_it_has_held() {
        let (mut steady, mut now) = (Steady::default(), start());
        assert_eq!(steady.needed_bps(500_000), 500_000);
        for _ in 0..4 {
            steady.take(now, 600_000);
            steady.note_steps(now, true, false);
            steady.take(now, 300_000);
            steady.note_steps(now, false, true);
            let needed = steady.needed_bps(500_000);
            stay(&mut steady, &mut now, 122, needed);
            assert!(steady.held_bps() >= 499_999, "{needed} for {}", steady.held_bps());
        }
        assert_eq!(steady.needed_bps(450_000), 1_000_000);
    }

    #[test]
    fn what_it_remembers_is_bounded() {
        let mut steady = Steady::default();
        for index in 0..100_000 {
            steady.take(start() + SECOND / 100 * index, u64::from(index));
        }
        assert!(steady.values.len() <= 122, "{}", steady.values.len());
    }
}
