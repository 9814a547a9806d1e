//! Deadlines by name: setting one again moves it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use sfu::{ParticipantId, RoomId, TrackId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Ask the participant for the offer that its changed subscriptions need.
    Negotiate(ParticipantId),
    RefreshToken(ParticipantId),
    /// The participant has to be connected by then.
    Activate(ParticipantId),
    /// The next step after its transport fell silent.
    TransportLost(ParticipantId),
    /// A participant whose transport is silent is away, unless its socket is alive.
    Away(ParticipantId),
    /// A simulated speaker falls silent.
    SimulatedSpeaker(ParticipantId),
    /// Fewer encodings of the track are wanted.
    Dynacast(TrackId),
    /// The numbers of participants and publishers changed.
    RoomUpdate(RoomId),
    CloseRoom(RoomId),
    /// Tell how good connections are.
    Quality(RoomId),
}

#[derive(Debug, Default)]
pub struct Timers {
    at: BTreeMap<Timer, Instant>,
    order: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    pub fn set(&mut self, timer: Timer, at: Instant) {
        self.cancel(timer);
        self.at.insert(timer, at);
        self.order.insert((at, timer));
    }

    /// Sets the timer unless it is set already.
    pub fn set_if_idle(&mut self, timer: Timer, at: Instant) {
        if !self.at.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    pub fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.at.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// The earliest timer that is due, which is thereby over.
    pub fn pop(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }
}
