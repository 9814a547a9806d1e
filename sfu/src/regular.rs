//! What everybody is due again and again, and none of it to the millisecond: encodings, feedback, reports, measurements.
//!
//! A worker that slept comes back to cold caches, which costs more than most of what it is woken for. So regular work falls on
//! the same moments for all, and what is soon due is done when a packet has woken the worker anyhow: of the thirty such
//! wake-ups a second that a room of fifty once had, few are left.

use std::time::{Duration, Instant};

use datapath::{Now, Outbox};

use crate::command::{Event, TransportEnd};
use crate::deadlines::Timer;
use crate::participant::{Connection, Participant};
use crate::sfu::{Sfu, TICK_MIN};

/// Reports are sent this often: RFC 3550 §6.2 allows it at our bandwidths, and browsers do the same.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How often a participant's link is measured.
const MEASUREMENT_INTERVAL: Duration = Duration::from_secs(1);
/// Measurements wake the control plane, for each moment once.
const MEASUREMENT_GRID: Duration = Duration::from_millis(250);
/// How often the videos of a subscriber are given their encodings anew.
const ALLOCATION_INTERVAL: Duration = Duration::from_millis(250);
/// A participant without a transport is looked at this often.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Regular work happens at multiples of this,
const GRID: Duration = Duration::from_millis(50);
/// or so much earlier in a turn that takes place anyhow. Frames and words come often enough for nearly all of it.
const EARLY: Duration = Duration::from_millis(30);
/// So many participants are looked at early in a turn, so that what came in it is not held up.
const EARLY_MAX: usize = 64;

/// The first moment on the grid that is at least `after` from now.
fn on_grid(now: Now, after: Duration) -> Instant {
    on(GRID, now, after)
}

fn on(grid: Duration, now: Now, after: Duration) -> Instant {
    let past = (now.unix + after).as_nanos() % grid.as_nanos();
    let missing = (grid.as_nanos() - past) % grid.as_nanos();
    now.instant + after + Duration::from_nanos(missing as u64)
}

impl Participant {
    /// When some of its regular work is due; `None` while it has no transport.
    fn next_regular(&self) -> Option<Instant> {
        self.sender.as_ref()?;
        let allocation = (!self.sinks.is_empty()).then_some(self.allocation_due);
        let due = [Some(self.report_due), Some(self.measurement_due), allocation, self.arrivals.next_feedback()];
        due.into_iter().flatten().min()
    }
}

impl Sfu {
    /// In a turn that takes place anyhow.
    pub(crate) fn do_regular_work_early(&mut self, now: Now, out: &mut Outbox) {
        self.do_regular_work(now, now.instant + EARLY, EARLY_MAX, out);
    }

    /// For at most so many participants, what is due by then.
    pub(crate) fn do_regular_work(&mut self, now: Now, by: Instant, most: usize, out: &mut Outbox) {
        for _ in 0..most {
            let Some((at, timer)) = self.regular.pop_due(by) else { return };
            if let Timer::Regular(key) = timer
                && self.participants.get_mut(key).is_some_and(|participant| participant.regular_due.take(at))
            {
                self.tick_regularly(now, by, key, out);
            }
        }
    }

    /// The participant's, if it is due now; else it is scheduled.
    pub(crate) fn do_or_schedule_regular_work(&mut self, now: Now, key: usize, out: &mut Outbox) {
        if self.participants[key].next_regular().is_some_and(|at| at <= now.instant) {
            self.tick_regularly(now, now.instant, key, out);
        } else {
            self.schedule_regular(now, key);
        }
    }

    fn schedule_regular(&mut self, now: Now, key: usize) {
        let participant = &mut self.participants[key];
        let next = participant.next_regular().unwrap_or_else(|| on_grid(now, IDLE_INTERVAL));
        // Never at once again: whatever cannot be done now would be tried for ever within this turn.
        participant.regular_due.schedule(next.max(now.instant + TICK_MIN), Timer::Regular(key), &mut self.regular);
    }

    fn tick_regularly(&mut self, now: Now, by: Instant, key: usize, out: &mut Outbox) {
        self.note_silence(now, key);
        self.let_go_unused(now, key, out);
        if self.participants[key].sender.is_some() {
            self.send_what_is_due(now, by, key, out);
        }
        self.schedule_regular(now, key);
    }

    fn note_silence(&mut self, now: Now, key: usize) {
        let limit = self.settings.limits.transport_timeout;
        let participant = &mut self.participants[key];
        if participant.connection == Connection::Connected
            && now.instant.saturating_duration_since(participant.heard) >= limit
        {
            participant.connection = Connection::Silent;
            let end = TransportEnd::Silent;
            self.events.push_back(Event::Disconnected { participant: participant.id, end });
        }
    }

    fn send_what_is_due(&mut self, now: Now, by: Instant, key: usize, out: &mut Outbox) {
        if !self.participants[key].sinks.is_empty() && self.participants[key].allocation_due <= by {
            self.participants[key].allocation_due = on_grid(now, ALLOCATION_INTERVAL);
            self.allocate(now, key, out);
        }
        if self.participants[key].arrivals.next_feedback().is_some_and(|at| at <= by) {
            self.send_transport_feedback(now, key, out);
        }
        if self.participants[key].report_due <= by {
            self.participants[key].report_due = on_grid(now, REPORT_INTERVAL);
            self.send_sender_reports(now, key, out);
            self.send_receiver_report(now, key, out);
            self.leave_shared_link_if_silent(now, key);
        }
        if self.participants[key].measurement_due <= by {
            let next = on(MEASUREMENT_GRID, now, MEASUREMENT_INTERVAL - MEASUREMENT_GRID / 2);
            self.participants[key].measurement_due = next;
            let link = (self.participants[key].id, Box::new(self.measure(now, key)));
            match self.events.back_mut() {
                Some(Event::Measured { links }) => links.push(link),
                _ => self.events.push_back(Event::Measured { links: vec![link] }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    #[test]
    fn regular_work_of_all_falls_on_the_same_moments() {
        let start = test_clock::start();
        let at =
            |ms: u64| Now { instant: start + Duration::from_millis(ms), unix: Duration::from_millis(1_000_003 + ms) };
        let after = Duration::from_millis(250);
        assert_eq!(on_grid(at(0), after), start + Duration::from_millis(297), "1,000,300 ms since the epoch");
        assert_eq!(on_grid(at(47), after), start + Duration::from_millis(297), "exactly on it");
        assert_eq!(on_grid(at(48), after), start + Duration::from_millis(347));
    }
}
