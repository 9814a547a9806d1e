//! Links of participants, as the SFU measures them every second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use datapath::Now;
use livekit_protocol::TrackSource;
use serde::Serialize;
use sfu::{LinkStatistics, ParticipantId, TrackId};

use super::room::{Context, Room};
use super::rooms::Rooms;
use super::session::Session;
use crate::links::{LinkAnswer, LinkCensus, LinkLog, Occurrence, RoomName, TrackName};

/// The last measurement of a participant's link, and what is kept of those before it.
#[derive(Clone, Debug, Default)]
pub struct Link {
    pub statistics: Option<Box<LinkStatistics>>,
    pub log: LinkLog,
}

/// The logs of who left are kept for so long.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// As many, the newest.
const DEPARTED_MAX: usize = 500;

/// What is kept of participants who left: it is often asked afterwards what was wrong.
#[derive(Debug, Default)]
pub struct Departed {
    logs: VecDeque<(Instant, DepartedLink)>,
}

#[derive(Debug)]
pub struct DepartedLink {
    pub room: RoomName,
    pub log: LinkLog,
}

/// Whose log there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkEntry {
    pub sid: String,
    pub name: String,
    pub room: RoomName,
    /// Not, if it has left.
    pub present: bool,
    /// Unix seconds of the first and the last measurement.
    pub from: Option<u32>,
    pub to: Option<u32>,
}

impl Departed {
    fn keep(&mut self, now: Instant, link: DepartedLink) {
        self.forget(now);
        if self.logs.len() >= DEPARTED_MAX {
            self.logs.pop_front();
        }
        self.logs.push_back((now, link));
    }

    /// Forgets what is too old.
    pub fn forget(&mut self, now: Instant) {
        while self.logs.front().is_some_and(|(left, _)| now.saturating_duration_since(*left) >= KEPT) {
            self.logs.pop_front();
        }
    }

    /// The newest first.
    pub fn links(&self) -> impl Iterator<Item = &DepartedLink> {
        self.logs.iter().rev().map(|(_, link)| link)
    }
}

impl Session {
    /// What its operator calls it.
    pub fn label(&self) -> &str {
        match &self.claims.matrix {
            Some(member) => &member.user_id,
            None if self.name.is_empty() => &self.identity,
            None => &self.name,
        }
    }

    pub fn note(&mut self, ctx: &Context<'_>, occurrence: Occurrence) {
        self.link.log.note(unix_seconds(ctx), occurrence);
    }
}

impl Rooms {
    /// Everybody's log: of those who are here, then of those who left, the latest first.
    pub fn links(&mut self, now: Now) -> Vec<LinkEntry> {
        let (ctx, _) = self.at(now);
        ctx.directory.departed.forget(ctx.now.instant);
        let logs = self.logs();
        let entries = logs.map(|(room, log, present)| LinkEntry {
            sid: log.sid.clone(),
            name: log.name.clone(),
            room,
            present,
            from: log.seconds.front().map(|second| second.at),
            to: log.seconds.back().map(|second| second.at),
        });
        entries.collect()
    }

    /// What a participant's link did, by the participant's sid. Times of day are so many seconds east of UTC.
    pub fn link(&mut self, now: Now, sid: &str, utc_offset: i32) -> Option<LinkAnswer> {
        let (ctx, _) = self.at(now);
        ctx.directory.departed.forget(ctx.now.instant);
        let (room, log, _) = self.logs().find(|(_, log, _)| log.sid == sid)?;
        let mut publishers: Vec<&LinkLog> = Vec::new();
        for (_, other, _) in self.logs() {
            if other.sid != sid && log.tracks.iter().any(|track| *track.publisher == other.sid) {
                publishers.push(other);
            }
        }
        Some(LinkAnswer::new(room, log, &publishers, utc_offset))
    }

    pub fn link_census(&self) -> LinkCensus {
        let mut census = LinkCensus { distributions: self.directory.distributions.clone(), ..LinkCensus::default() };
        for session in self.rooms.values().flat_map(|room| room.sessions.values()) {
            session.link.statistics.iter().for_each(|link| census.count(link));
            session.quality.iter().for_each(|(quality, _)| census.count_quality(*quality));
        }
        census
    }

    fn logs(&self) -> impl Iterator<Item = (RoomName, &LinkLog, bool)> {
        let present = self
            .rooms
            .values()
            .flat_map(|room| room.sessions.values().map(|session| (room.room_name(), &session.link.log, true)));
        let departed = self.directory.departed.links().map(|link| (link.room.clone(), &link.log, false));
        present.chain(departed)
    }
}

impl Room {
    fn room_name(&self) -> RoomName {
        RoomName { sid: self.sid.clone(), name: self.name.clone() }
    }

    pub fn handle_measured(
        &mut self,
        ctx: &mut Context<'_>,
        participant: ParticipantId,
        statistics: Box<LinkStatistics>,
    ) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        let mut link = std::mem::take(&mut session.link);
        let before = link.statistics.take().unwrap_or_default();
        link.log.record(unix_seconds(ctx), &before, &statistics, |track| self.track_name(track));
        link.log.seconds.back().into_iter().for_each(|second| ctx.directory.distributions.take(second));
        link.statistics = Some(statistics);
        if let Some(session) = self.sessions.get_mut(&participant) {
            session.link = link;
        }
    }

    fn track_name(&self, track: TrackId) -> Option<TrackName> {
        let publisher = self.sessions.values().find(|session| session.publications.contains_key(&track))?;
        let publication = publisher.publications.get(&track)?;
        Some(TrackName {
            track,
            kind: publication.kind,
            publisher: publisher.sid.as_str().into(),
            name: publisher.label().into(),
            source: source(publication.info.source),
        })
    }

    /// The log of a participant who leaves outlives it.
    pub fn keep_log(&self, ctx: &mut Context<'_>, mut session: Session) {
        session.note(ctx, Occurrence::Left);
        let link = DepartedLink { room: self.room_name(), log: session.link.log };
        ctx.directory.departed.keep(ctx.now.instant, link);
    }
}

fn unix_seconds(ctx: &Context<'_>) -> u32 {
    u32::try_from(ctx.now.unix.as_secs()).unwrap_or(u32::MAX)
}

pub fn source(source: i32) -> &'static str {
    match TrackSource::try_from(source) {
        Ok(TrackSource::Microphone) => "microphone",
        Ok(TrackSource::Camera) => "camera",
        Ok(TrackSource::ScreenShare) => "screen_share",
        Ok(TrackSource::ScreenShareAudio) => "screen_share_audio",
        Ok(TrackSource::Unknown) | Err(_) => "unknown",
    }
}
