//! What an operator is shown of the rooms: plain values.

use serde::Serialize;
use sfu::{Kind, LinkStatistics, TrackId};

use super::measuring::source;
use super::room::Room;
use super::rooms::Rooms;
use super::session::{Session, TransportState};
use crate::links::{self, Part, Second};
use crate::matrix::Member;

/// Rooms told of at once; the largest come first.
const ROOMS_MAX: usize = 200;
/// Seconds for which a report counts.
const LATELY: usize = 10;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Survey {
    /// Of all rooms with somebody in them, shown or not.
    pub room_count: usize,
    pub participant_count: usize,
    pub rooms: Vec<RoomView>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoomView {
    pub sid: String,
    /// The room's name at the SFU.
    pub name: String,
    /// Of the Matrix room, where there is one.
    pub matrix_room: Option<String>,
    /// What the Matrix room is called, where known.
    pub title: Option<String>,
    /// Unix seconds.
    pub since: u64,
    pub participant_count: usize,
    /// Of a room that was asked for; empty in others.
    pub participants: Vec<ParticipantView>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParticipantView {
    pub sid: String,
    pub identity: String,
    pub name: String,
    pub member: Option<Member>,
    /// Unix seconds.
    pub since: u64,
    /// `connecting`, `connected`, `silent` (no media) or `lost` (told to resume).
    pub transport: &'static str,
    /// Whether its socket is open.
    pub socket: bool,
    pub tracks: Vec<TrackView>,
    pub link: Option<LinkView>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrackView {
    pub sid: String,
    /// `microphone`, `camera`, `screen_share`, `screen_share_audio` or `unknown`.
    pub source: String,
    pub video: bool,
    pub muted: bool,
    /// Bitrate of each encoding, lowest quality first.
    pub encodings_bps: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkView {
    pub round_trip_ms: Option<f64>,
    pub up_bps: u64,
    pub down_bps: u64,
    /// What is believed to fit towards it; `None`: nothing bounds it.
    pub estimate_bps: Option<u64>,
    /// What it would be sent if everything fitted.
    pub wanted_bps: u64,
    pub queue_ms: u16,
    /// 0-1.
    pub loss_up: Option<f64>,
    pub loss_down: Option<f64>,
    /// Of the audio towards it, after repair.
    pub audio_lost: Option<f64>,
    pub audio_copies: u8,
    pub videos: Vec<VideoView>,
}

/// A video that a participant gets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VideoView {
    /// Sid of its publisher.
    pub publisher: String,
    pub source: String,
    /// Which encoding it gets, from 1; none: it gets nothing.
    pub layer: Option<u8>,
    /// How many there are.
    pub layers: usize,
    /// `whole`, `lowered` or `paused` (for want of bandwidth), or `idle`.
    pub portion: &'static str,
}

impl Rooms {
    /// All rooms with somebody in them; participants of those in `sids` alone. `title` knows what Matrix rooms are called.
    pub fn survey(&self, sids: &[&str], title: impl Fn(&str) -> Option<String>) -> Survey {
        // A room that waits for its first participant is no call.
        let mut rooms: Vec<&Room> = self.rooms.values().filter(|room| !room.sessions.is_empty()).collect();
        let room_count = rooms.len();
        rooms.sort_by_key(|room| std::cmp::Reverse(room.sessions.len()));
        let shown = rooms.into_iter().take(ROOMS_MAX);
        Survey {
            room_count,
            participant_count: self.participant_count(),
            rooms: shown.map(|room| room.view(sids.contains(&room.sid.as_str()), &title)).collect(),
        }
    }
}

impl Room {
    fn view(&self, is_asked_for: bool, title: &impl Fn(&str) -> Option<String>) -> RoomView {
        let member = self.sessions.values().find_map(|session| session.claims.matrix.as_ref());
        let matrix_room = member.map(|member| member.room_id.clone());
        let participants = self.sessions.values().filter(|_| is_asked_for);
        RoomView {
            sid: self.sid.clone(),
            name: self.name.clone(),
            title: matrix_room.as_deref().and_then(title),
            matrix_room,
            since: self.created.as_secs(),
            participant_count: self.sessions.len(),
            participants: participants.map(|session| self.participant_view(session)).collect(),
        }
    }

    fn participant_view(&self, session: &Session) -> ParticipantView {
        let statistics = session.link.statistics.as_deref();
        let live = session.publications.values().filter(|publication| publication.live.is_some());
        ParticipantView {
            sid: session.sid.clone(),
            identity: session.identity.clone(),
            name: session.name.clone(),
            member: session.claims.matrix.clone(),
            since: session.joined.as_secs(),
            transport: match session.transport {
                TransportState::Connecting => "connecting",
                TransportState::Connected => "connected",
                TransportState::Silent => "silent",
                TransportState::Failed => "lost",
            },
            socket: session.connection.is_some(),
            tracks: live
                .map(|publication| TrackView {
                    sid: publication.info.sid.clone(),
                    source: source(publication.info.source).to_owned(),
                    video: publication.kind == Kind::Video,
                    muted: publication.info.muted,
                    encodings_bps: statistics.map(|link| encodings(link, publication.id)).unwrap_or_default(),
                })
                .collect(),
            link: statistics.map(|link| self.link_view(session, link)),
        }
    }

    fn link_view(&self, session: &Session, link: &LinkStatistics) -> LinkView {
        // Of a stream that has paused, or is seldom reported on, the last word counts.
        let lately = |part: fn(&Second) -> Part| {
            session.link.log.seconds.iter().rev().take(LATELY).find_map(|second| part(second).get())
        };
        LinkView {
            round_trip_ms: link.round_trip.map(|time| (time.as_secs_f64() * 10_000.0).round() / 10.0),
            up_bps: link.received.iter().map(|stream| stream.bitrate_bps).sum(),
            down_bps: link.sent_bps,
            estimate_bps: link.estimate_bps,
            wanted_bps: link.wanted_bps,
            queue_ms: link.queue.as_millis().min(u128::from(u16::MAX)) as u16,
            loss_up: lately(|second| second.loss_up),
            loss_down: lately(|second| second.loss_down),
            audio_lost: lately(|second| second.audio_lost),
            audio_copies: link.audio_copies,
            videos: self.videos(link),
        }
    }

    fn videos(&self, link: &LinkStatistics) -> Vec<VideoView> {
        let views = link.sent.iter().filter_map(|sent| {
            let publisher = self.sessions.values().find(|session| session.publications.contains_key(&sent.track))?;
            let publication = publisher.publications.get(&sent.track).filter(|known| known.kind == Kind::Video)?;
            Some(VideoView {
                publisher: publisher.sid.clone(),
                source: source(publication.info.source).to_owned(),
                layer: sent.encoding.map(|encoding| encoding + 1),
                layers: publication.live.as_ref().map_or(0, |live| live.spec.encodings.len()),
                portion: links::word(sent.portion),
            })
        });
        views.collect()
    }
}

fn encodings(link: &LinkStatistics, track: TrackId) -> Vec<u64> {
    link.received.iter().filter(|stream| stream.track == track).map(|stream| stream.bitrate_bps).collect()
}
