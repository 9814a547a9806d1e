//! Who left a room of late. A word that went into a connection which no longer led anywhere is said again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use livekit_protocol::ParticipantInfo;

/// Clients that cannot come back give up sooner: livekit-client after ten attempts.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// As many, the newest.
const DEPARTURES_MAX: usize = 1_000;
/// What was sent for so long before a client was last heard may have been lost as well: at the end of a slow link it waits in
/// our queue, in TCP's and in the network's. Whom a client does not know it ignores.
const LOST_BEFORE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Departures(VecDeque<(Instant, ParticipantInfo)>);

impl Departures {
    /// Keeps of a participant what says who it was.
    pub fn note(&mut self, now: Instant, info: &ParticipantInfo) {
        while self.0.front().is_some_and(|(left, _)| now.saturating_duration_since(*left) >= KEPT)
            || self.0.len() >= DEPARTURES_MAX
        {
            self.0.pop_front();
        }
        let info = ParticipantInfo {
            sid: info.sid.clone(),
            identity: info.identity.clone(),
            name: info.name.clone(),
            state: info.state,
            version: info.version,
            kind: info.kind,
            joined_at: info.joined_at,
            joined_at_ms: info.joined_at_ms,
            disconnect_reason: info.disconnect_reason,
            ..Default::default()
        };
        self.0.push_back((now, info));
    }

    /// Those of which a client need not know that was heard last at `heard`, in their order.
    pub fn unknown_to(&self, heard: Instant) -> impl Iterator<Item = &ParticipantInfo> {
        self.0.iter().filter(move |(left, _)| *left + LOST_BEFORE >= heard).map(|(_, info)| info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    fn info(sid: String) -> ParticipantInfo {
        ParticipantInfo { sid, metadata: "large".into(), ..Default::default() }
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let now = start().instant;
        let mut departures = Departures::default();
        for index in 0..=DEPARTURES_MAX {
            departures.note(now, &info(index.to_string()));
        }
        let kept: Vec<&ParticipantInfo> = departures.unknown_to(now).collect();
        assert_eq!((kept.len(), kept[0].sid.as_str(), kept[0].metadata.as_str()), (DEPARTURES_MAX, "1", ""));
        let later = now + KEPT;
        departures.note(later, &info("late".into()));
        assert_eq!(departures.unknown_to(now).count(), 1);
    }
}
