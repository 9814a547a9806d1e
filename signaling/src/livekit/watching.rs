//! Links of participants, measured while somebody watches their room.

use std::time::Duration;

use datapath::Now;
use sfu::{Command, LinkStatistics, ParticipantId, Tally};

use super::room::{Context, Room};
use super::rooms::Rooms;
use super::session::TransportState;
use super::timers::Timer;

const INTERVAL: Duration = Duration::from_secs(1);
/// Who watches says so again within this.
const WATCH: Duration = Duration::from_secs(5);

/// The last measurement of a participant's link, and what it says beside the one before.
#[derive(Clone, Debug, Default)]
pub struct Link {
    pub statistics: LinkStatistics,
    /// Lost packets of those expected (0-1), from the participant to us and from us to it; `None` until two measurements
    /// or reports tell.
    pub loss_up: Option<f32>,
    pub loss_down: Option<f32>,
}

impl Link {
    pub fn update(&mut self, statistics: LinkStatistics) {
        let before = std::mem::replace(&mut self.statistics, statistics);
        let now = &self.statistics;
        let up = now.received.iter().filter_map(|stream| {
            let key = (stream.track, stream.encoding);
            let old = before.received.iter().find(|old| (old.track, old.encoding) == key)?;
            Some((old.tally, stream.tally))
        });
        self.loss_up = loss(up).or(self.loss_up);
        let down = now.sent.iter().filter_map(|stream| {
            let old = before.sent.iter().find(|old| old.track == stream.track)?;
            old.tally.zip(stream.tally)
        });
        self.loss_down = loss(down).or(self.loss_down);
    }
}

/// `None` if nothing was expected: nothing was sent, or no report has come since.
fn loss(pairs: impl Iterator<Item = (Tally, Tally)>) -> Option<f32> {
    let (mut lost, mut expected) = (0, 0);
    for (before, now) in pairs {
        expected += now.expected.saturating_sub(before.expected);
        lost += now.lost.saturating_sub(before.lost);
    }
    (expected > 0).then(|| (lost as f32 / expected as f32).min(1.0))
}

impl Rooms {
    /// Has the links of rooms (by sid) measured for the next seconds.
    pub fn watch(&mut self, now: Now, sids: &[&str]) {
        let (mut ctx, rooms) = self.at(now);
        for room in rooms.values_mut().filter(|room| sids.contains(&room.sid.as_str())) {
            if room.watched_until.replace(now.instant + WATCH).is_none() {
                room.measure(&mut ctx);
            }
        }
    }
}

impl Room {
    /// Measures, or stops when nobody watches any more.
    pub fn measure(&mut self, ctx: &mut Context<'_>) {
        let watched = self.watched_until.is_some_and(|until| ctx.now.instant < until);
        if !watched {
            self.watched_until = None;
            self.sessions.values_mut().for_each(|session| session.link = None);
            return;
        }
        let connected = self.sessions.values().filter(|session| session.transport == TransportState::Connected);
        for session in connected {
            self.command(ctx, Command::Measure { participant: session.id });
        }
        ctx.timers.set(Timer::Measure(self.id), ctx.now.instant + INTERVAL);
    }

    pub fn handle_measured(&mut self, participant: ParticipantId, statistics: LinkStatistics) {
        if self.watched_until.is_some()
            && let Some(session) = self.sessions.get_mut(&participant)
        {
            session.link.get_or_insert_default().update(statistics);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu::{ReceivedStatistics, SentStatistics, TrackId};

    fn statistics(up: (u64, u64), down: Option<(u64, u64)>) -> LinkStatistics {
        let tally = |(expected, lost)| Tally { expected, lost };
        let track = TrackId(1);
        LinkStatistics {
            received: vec![ReceivedStatistics { track, encoding: 0, bitrate_bps: 1, tally: tally(up) }],
            sent: vec![SentStatistics { track: TrackId(2), encoding: None, tally: down.map(tally) }],
            ..LinkStatistics::default()
        }
    }

    #[test]
    fn loss_is_what_was_lost_between_two_measurements() {
        let mut link = Link::default();
        link.update(statistics((1_000, 500), None));
        assert_eq!((link.loss_up, link.loss_down), (None, None));
        link.update(statistics((1_100, 505), Some((70_000, 10))));
        assert_eq!((link.loss_up, link.loss_down), (Some(0.05), None));
        link.update(statistics((1_100, 505), Some((70_200, 60))));
        assert_eq!((link.loss_up, link.loss_down), (Some(0.05), Some(0.25)), "of a silent stream the last word counts");
        // A stream that began anew.
        link.update(statistics((50, 0), Some((70_200, 60))));
        assert_eq!(link.loss_up, Some(0.05));
    }
}
