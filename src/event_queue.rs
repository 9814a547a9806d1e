//! The bounded way from a worker to the control plane.

use std::collections::{BTreeMap, BTreeSet};

use sfu::{Event, ParticipantId, Refusal, TrackId};
use tokio::sync::mpsc;

/// Hands events to the control plane without ever waiting for it.
///
/// When the queue is full, a session that missed something it cannot do without is ended: its participant is reported
/// as refused as soon as there is room again, so that the client comes back and starts afresh. What is only the latest
/// state of something is kept and sent later; speakers speak again, and links are measured again.
#[derive(Debug)]
pub struct EventQueue {
    queue: mpsc::Sender<Event>,
    /// Participants whose events were lost.
    lost: BTreeSet<ParticipantId>,
    /// The latest wish for each track whose event found no room.
    encodings: BTreeMap<TrackId, Option<u8>>,
}

impl EventQueue {
    pub fn new(queue: mpsc::Sender<Event>) -> EventQueue {
        EventQueue { queue, lost: BTreeSet::new(), encodings: BTreeMap::new() }
    }

    /// Whether something waits for room.
    pub fn is_waiting(&self) -> bool {
        !self.lost.is_empty() || !self.encodings.is_empty()
    }

    /// Returns `false` when the event was lost or put off.
    pub fn send(&mut self, event: Event) -> bool {
        if let Event::EncodingsWanted { track, highest } = event
            && let Some(waiting) = self.encodings.get_mut(&track)
        {
            *waiting = highest;
            return false;
        }
        let Err(error) = self.queue.try_send(event) else {
            return true;
        };
        match error.into_inner() {
            Event::EncodingsWanted { track, highest } => {
                self.encodings.insert(track, highest);
            }
            Event::Connected { participant, .. }
            | Event::Disconnected { participant, .. }
            | Event::SubscriptionPaused { participant, .. }
            | Event::Data { participant, .. }
            | Event::Refused { participant, .. } => {
                self.lost.insert(participant);
            }
            Event::Speakers { .. } | Event::Measured { .. } => {}
        }
        false
    }

    /// Sends what waits for room, as far as there is some.
    pub fn catch_up(&mut self) {
        while let Some(&participant) = self.lost.first() {
            let refused = Event::Refused { participant, reason: Refusal::LimitReached };
            if self.queue.try_send(refused).is_err() {
                return;
            }
            self.lost.pop_first();
        }
        while let Some((&track, &highest)) = self.encodings.first_key_value() {
            if self.queue.try_send(Event::EncodingsWanted { track, highest }).is_err() {
                return;
            }
            self.encodings.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(participant: u64) -> Event {
        Event::Data { participant: ParticipantId(participant), label: "_reliable".into(), payload: Default::default() }
    }

    fn wanted(track: u64, highest: u8) -> Event {
        Event::EncodingsWanted { track: TrackId(track), highest: Some(highest) }
    }

    #[test]
    fn a_session_that_missed_an_event_is_ended_when_there_is_room() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut queue = EventQueue::new(sender);
        assert!(queue.send(data(1)));
        assert!(!queue.send(data(2)));
        assert!(!queue.send(data(2)));
        queue.catch_up();
        assert!(queue.is_waiting());
        assert_eq!(receiver.try_recv(), Ok(data(1)));
        queue.catch_up();
        let refused = Event::Refused { participant: ParticipantId(2), reason: Refusal::LimitReached };
        assert_eq!(receiver.try_recv(), Ok(refused));
        assert!(!queue.is_waiting());
    }

    #[test]
    fn the_latest_wish_for_a_track_arrives_in_the_end() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut queue = EventQueue::new(sender);
        assert!(queue.send(data(1)));
        assert!(!queue.send(wanted(7, 0)));
        assert!(!queue.send(wanted(7, 1)));
        assert_eq!(receiver.try_recv(), Ok(data(1)));
        // Although there is room, the older wish must not come after this one.
        assert!(!queue.send(wanted(7, 2)));
        queue.catch_up();
        assert_eq!(receiver.try_recv(), Ok(wanted(7, 2)));
        assert!(!queue.is_waiting());
    }
}
