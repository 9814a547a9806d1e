//! When which participant wants to be woken.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// What a wake-up is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Datagrams that were put off to let media through first.
    Backlog,
    /// Audio levels of all rooms.
    Speakers,
    /// The share of the server's uplink that everybody has.
    Uplink,
    /// A participant, by slab key.
    Participant(usize),
    /// Its regular work.
    Regular(usize),
    /// What waits to leave for a participant, by slab key: its pacer, copies of audio, probes.
    Departures(usize),
}

/// A heap of wake-ups. Every timer's owner keeps its own due time; an entry that does not agree with it is stale and is
/// dropped when it comes up, so nothing is ever searched for.
#[derive(Default)]
pub struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
}

impl Deadlines {
    pub fn push(&mut self, at: Instant, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    /// The earliest, which may be stale: waking early is harmless.
    pub fn next(&self) -> Option<(Instant, Timer)> {
        self.heap.peek().map(|&Reverse(next)| next)
    }

    /// Takes the earliest if it is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        let &Reverse((at, _)) = self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(next)| next)
    }
}

/// The due time of one timer. Scheduling it earlier pushes a new entry; later ones wait for the earlier.
#[derive(Clone, Copy, Debug, Default)]
pub struct Due(Option<Instant>);

impl Due {
    /// Makes the timer due at `at`, unless it is due earlier.
    pub fn schedule(&mut self, at: Instant, timer: Timer, deadlines: &mut Deadlines) {
        if self.0.is_none_or(|due| at < due) {
            self.0 = Some(at);
            deadlines.push(at, timer);
        }
    }

    /// Whether the heap's entry for `at` is the one that counts; if so the timer is idle until scheduled again.
    pub fn take(&mut self, at: Instant) -> bool {
        let counts = self.0 == Some(at);
        if counts {
            self.0 = None;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;
    use std::time::Duration;

    #[test]
    fn an_earlier_time_makes_the_later_entry_stale() {
        let now = start();
        let (soon, later) = (now + Duration::from_millis(1), now + Duration::from_millis(2));
        let mut deadlines = Deadlines::default();
        let mut due = Due::default();
        due.schedule(later, Timer::Speakers, &mut deadlines);
        due.schedule(soon, Timer::Speakers, &mut deadlines);
        due.schedule(later, Timer::Speakers, &mut deadlines);
        assert_eq!(deadlines.pop_due(now), None);
        let (at, _) = deadlines.pop_due(later).unwrap();
        assert_eq!(at, soon);
        assert!(due.take(at));
        let (at, _) = deadlines.pop_due(later).unwrap();
        assert!(!due.take(at));
        assert_eq!(deadlines.next(), None);
    }
}
