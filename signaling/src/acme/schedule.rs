use std::time::Duration;

use datapath::Entropy;
use serde::{Deserialize, Serialize};

use crate::tcp::Validity;

/// After the first failure without a certificate, and at most after any.
const RETRY: Duration = Duration::from_secs(120);
const RETRY_MAX: Duration = Duration::from_secs(6 * 3600);
/// Who signs for minutes only expects to be asked every few of them.
const RETRY_MIN: Duration = Duration::from_secs(5);
/// No ACME server's wish for patience is heeded for longer.
const PATIENCE_MAX: Duration = Duration::from_secs(8 * 24 * 3600);

/// When the next certificate is to be asked for. It has no clock: all times are Unix times from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Of the certificate in use.
    held: Option<Validity>,
    renew_at: Duration,
    retry: Retry,
}

/// What an attempt leaves behind for the next, across a restart too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts in a row that came to nothing.
    pub failures: u32,
    /// Nothing is asked before this.
    pub not_before: Duration,
}

impl Schedule {
    /// `held`: of the stored certificate, if it is of use; `retry`: what an earlier run left.
    pub fn new(now: Duration, held: Option<Validity>, retry: Retry, entropy: &mut Entropy) -> Schedule {
        // The clock may have been wrong when it was written.
        let not_before = retry.not_before.min(now + PATIENCE_MAX);
        let renew_at = held.map_or(Duration::ZERO, |validity| renewal(validity, entropy));
        Schedule { held, renew_at, retry: Retry { not_before, ..retry } }
    }

    /// The time of the next attempt; now, if it is past.
    pub fn next(&self) -> Duration {
        self.renew_at.max(self.retry.not_before)
    }

    /// Of the certificate in use.
    pub fn held(&self) -> Option<Validity> {
        self.held
    }

    /// A certificate that is not for every wanted name is replaced at once.
    pub fn renew_now(&mut self) {
        self.renew_at = Duration::ZERO;
    }

    /// An attempt begins. What is returned is to be stored before anything is sent: an attempt counts as failed until it
    /// has succeeded, so that a program that dies in every attempt does not ask again at every start.
    pub fn begin(&mut self, now: Duration, entropy: &mut Entropy) -> Retry {
        self.retry.failures = self.retry.failures.saturating_add(1);
        self.retry.not_before = now + self.pause(entropy);
        self.retry
    }

    /// The attempt failed; the ACME server may have said how long it wants to be left alone. To be stored.
    pub fn handle_failure(&mut self, now: Duration, retry_after: Option<Duration>, entropy: &mut Entropy) -> Retry {
        let pause = self.pause(entropy).max(retry_after.unwrap_or_default().min(PATIENCE_MAX));
        self.retry.not_before = now + pause;
        self.retry
    }

    /// A certificate was issued and is in use.
    pub fn handle_success(&mut self, now: Duration, validity: Validity, entropy: &mut Entropy) {
        self.held = Some(validity);
        self.retry = Retry { failures: 1, not_before: Duration::ZERO };
        // One that is due as soon as it is there (a clock is wrong) must not be replaced over and over.
        let left = validity.not_after.saturating_sub(now);
        self.renew_at = renewal(validity, entropy).max(now + left / 2).max(now + self.pause(entropy));
        self.retry.failures = 0;
    }

    /// Twice as long after each failure, give or take a quarter. A certificate of a short life is worth quicker attempts.
    fn pause(&self, entropy: &mut Entropy) -> Duration {
        let (first, longest) = match self.held {
            None => (RETRY, RETRY_MAX),
            Some(validity) => {
                let first = (validity.length() / 60).clamp(RETRY_MIN, RETRY);
                (first, (validity.length() / 30).clamp(first, RETRY_MAX))
            }
        };
        let doublings = self.retry.failures.saturating_sub(1).min(16);
        let pause = (first * (1 << doublings)).min(longest);
        pause * 3 / 4 + fraction(pause / 2, entropy)
    }
}

/// Two thirds of the life are over; a little later, so that not everybody who began together comes back together.
fn renewal(validity: Validity, entropy: &mut Entropy) -> Duration {
    let life = validity.length();
    validity.not_before + life * 2 / 3 + fraction(life / 30, entropy)
}

/// Up to `whole`.
fn fraction(whole: Duration, entropy: &mut Entropy) -> Duration {
    Duration::from_millis(entropy.below(u64::try_from(whole.as_millis()).unwrap_or(u64::MAX).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: Duration = Duration::from_secs(1_795_824_000);

    fn life(from: Duration, length: Duration) -> Validity {
        Validity { not_before: from, not_after: from + length }
    }

    fn within(found: Duration, from: Duration, to: Duration) {
        assert!((from..=to).contains(&found), "{found:?} is not from {from:?} to {to:?}");
    }

    /// An ACME server that answers as told, asked for a virtual time; answers the times of the attempts.
    fn attempts(
        schedule: &mut Schedule,
        from: Duration,
        until: Duration,
        mut ask: impl FnMut(Duration) -> Option<Validity>,
    ) -> Vec<Duration> {
        let mut entropy = Entropy::from_seed([7; 32]);
        let (mut now, mut times) = (from, Vec::new());
        while schedule.next() <= until {
            now = now.max(schedule.next());
            times.push(now);
            schedule.begin(now, &mut entropy);
            match ask(now) {
                Some(validity) => schedule.handle_success(now, validity, &mut entropy),
                None => drop(schedule.handle_failure(now, None, &mut entropy)),
            }
        }
        times
    }

    fn new(held: Option<Validity>, retry: Retry) -> Schedule {
        Schedule::new(NOW, held, retry, &mut Entropy::from_seed([1; 32]))
    }

    #[test]
    fn without_a_certificate_one_is_asked_for_at_once() {
        assert!(new(None, Retry::default()).next() <= NOW);
    }

    #[test]
    fn renewal_comes_after_two_thirds_of_the_life() {
        let schedule = new(Some(life(NOW, 90 * DAY)), Retry::default());
        within(schedule.next(), NOW + 60 * DAY, NOW + 63 * DAY);
        // One that is stored and overdue.
        assert!(new(Some(life(NOW - 80 * DAY, 90 * DAY)), Retry::default()).next() <= NOW);
    }

    #[test]
    fn a_year_of_90_days_takes_six_certificates() {
        let mut schedule = new(None, Retry::default());
        let times = attempts(&mut schedule, NOW, NOW + 365 * DAY, |now| Some(life(now, 90 * DAY)));
        assert_eq!(times.len(), 6, "{times:?}");
        for pair in times.windows(2) {
            within(pair[1] - pair[0], 60 * DAY, 63 * DAY);
        }
    }

    #[test]
    fn failures_come_less_and_less_often() {
        let mut schedule = new(None, Retry::default());
        let times = attempts(&mut schedule, NOW, NOW + DAY, |_| None);
        let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        within(pauses[0], RETRY * 3 / 4, RETRY * 5 / 4);
        within(pauses[1], RETRY * 3 / 2, RETRY * 5 / 2);
        within(*pauses.last().unwrap(), RETRY_MAX * 3 / 4, RETRY_MAX * 5 / 4);
        // Let's Encrypt lets a name fail five times an hour.
        for &from in &times {
            let hour = times.iter().filter(|time| (from..from + Duration::from_secs(3600)).contains(*time)).count();
            assert!(hour <= 5, "{hour} attempts in the hour from {from:?}");
        }
        within(Duration::from_secs(times.len() as u64), Duration::from_secs(9), Duration::from_secs(14));
    }

    #[test]
    fn a_renewal_that_fails_has_a_third_of_the_life_to_succeed() {
        let mut schedule = new(Some(life(NOW, 90 * DAY)), Retry::default());
        let times = attempts(&mut schedule, NOW, NOW + 90 * DAY, |_| None);
        assert!(times.len() > 80, "{}", times.len());
        // And one that lives for a minute.
        let minute = Duration::from_secs(60);
        let mut schedule = new(Some(life(NOW, minute)), Retry::default());
        let times = attempts(&mut schedule, NOW, NOW + minute, |_| None);
        assert!((3..=6).contains(&times.len()), "{times:?}");
    }

    #[test]
    fn an_attempt_that_dies_is_a_failure_for_the_next_start() {
        let mut entropy = Entropy::from_seed([2; 32]);
        let mut stored = Retry::default();
        let (mut now, mut starts) = (NOW, 0);
        // It dies in every attempt and is started again every two seconds, for a day.
        while now < NOW + DAY {
            let mut schedule = Schedule::new(now, None, stored, &mut entropy);
            if schedule.next() <= now {
                stored = schedule.begin(now, &mut entropy);
                starts += 1;
            }
            now += Duration::from_secs(2);
        }
        assert!((9..=14).contains(&starts), "{starts} attempts in a day");
    }

    #[test]
    fn the_acme_servers_wish_is_heeded() {
        let mut entropy = Entropy::from_seed([3; 32]);
        let mut schedule = new(None, Retry::default());
        schedule.begin(NOW, &mut entropy);
        let retry = schedule.handle_failure(NOW, Some(2 * DAY), &mut entropy);
        assert_eq!(retry, Retry { failures: 1, not_before: NOW + 2 * DAY });
        assert_eq!(schedule.next(), NOW + 2 * DAY);
        // Not for ever, though; and not less than the pause that a failure brings anyway.
        schedule.handle_failure(NOW, Some(1000 * DAY), &mut entropy);
        assert_eq!(schedule.next(), NOW + PATIENCE_MAX);
        schedule.handle_failure(NOW, Some(Duration::from_secs(1)), &mut entropy);
        within(schedule.next(), NOW + RETRY * 3 / 4, NOW + RETRY * 5 / 4);
    }

    #[test]
    fn a_time_from_a_clock_that_was_wrong_passes() {
        let retry = Retry { failures: 1, not_before: NOW + 5000 * DAY };
        assert_eq!(new(None, retry).next(), NOW + PATIENCE_MAX);
    }

    #[test]
    fn a_certificate_that_is_due_at_once_makes_no_loop() {
        // The ACME server's clock is three months behind, say.
        let mut schedule = new(None, Retry::default());
        let times = attempts(&mut schedule, NOW, NOW + 10 * DAY, |now| Some(life(now - 89 * DAY, 90 * DAY)));
        assert!((20..=21).contains(&times.len()), "{}", times.len());
    }

    #[test]
    fn success_forgets_the_failures() {
        let mut schedule = new(None, Retry { failures: 9, not_before: Duration::ZERO });
        let mut entropy = Entropy::from_seed([4; 32]);
        schedule.begin(NOW, &mut entropy);
        schedule.handle_success(NOW, life(NOW, 90 * DAY), &mut entropy);
        let due = schedule.next();
        schedule.begin(due, &mut entropy);
        within(schedule.next() - due, RETRY * 3 / 4, RETRY * 5 / 4);
    }
}
