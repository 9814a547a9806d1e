//! How good everybody's connection is, as clients are told.

use std::collections::BTreeSet;
use std::time::Duration;

use livekit_protocol::signal_response::Message;
use livekit_protocol::{ConnectionQuality, ConnectionQualityInfo, ConnectionQualityUpdate, participant_info::State};
use sfu::ParticipantId;

use super::room::{Context, Room};
use super::timers::Timer;
use crate::links::{Quality, judge, score};

/// As the reference does.
const INTERVAL: Duration = Duration::from_secs(5);

impl Room {
    pub fn schedule_qualities(&mut self, ctx: &mut Context<'_>) {
        ctx.timers.set_if_idle(Timer::Quality(self.id), ctx.now.instant + INTERVAL);
    }

    /// Judges all connections. Everybody hears of its own and of those that it is subscribed to, if that is news to it.
    pub fn judge_qualities(&mut self, ctx: &mut Context<'_>) {
        let active = self.sessions.values_mut().filter(|session| session.state == State::Active);
        for session in active {
            if let Some(score) = score(session.link.log.seconds.iter()) {
                session.quality = Some((judge(score, session.quality.map(|(quality, _)| quality)), score));
            }
        }
        let known: Vec<_> = self
            .sessions
            .values()
            .filter_map(|session| Some((session.id, session.sid.clone(), session.quality?)))
            .collect();
        for listener in self.sessions.values_mut().filter(|session| session.connection.is_some()) {
            let mut heard: BTreeSet<ParticipantId> =
                listener.subscriptions.values().map(|subscription| subscription.publisher).collect();
            heard.insert(listener.id);
            let told = &mut listener.qualities_told;
            // Who left, or is not listened to any more, would be news again.
            told.retain(|id, _| heard.contains(id));
            let updates: Vec<ConnectionQualityInfo> = known
                .iter()
                .filter(|(id, _, (quality, _))| heard.contains(id) && told.insert(*id, *quality) != Some(*quality))
                .map(|(_, sid, (quality, score))| info(sid, *quality, *score))
                .collect();
            if !updates.is_empty() {
                let message = Message::ConnectionQuality(ConnectionQualityUpdate { updates });
                ctx.send(listener.connection, message);
            }
        }
        if !self.sessions.is_empty() {
            self.schedule_qualities(ctx);
        }
    }
}

/// `LOST` is never said: a client that hears it of itself for ten seconds begins anew, and would come too late anyway.
fn info(sid: &str, quality: Quality, score: f32) -> ConnectionQualityInfo {
    let quality = match quality {
        Quality::Poor => ConnectionQuality::Poor,
        Quality::Good => ConnectionQuality::Good,
        Quality::Excellent => ConnectionQuality::Excellent,
    };
    ConnectionQualityInfo { participant_sid: sid.to_owned(), quality: quality as i32, score }
}
