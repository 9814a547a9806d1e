//! A log as an operator downloads it: JSON, with what it means in sentences.

use serde::Serialize;
use sfu::{Portion, TrackId};

use super::log::LinkLog;
use super::second::Second;
use super::sentences::explain;

/// Times are Unix seconds, bitrates kbit/s, parts 0-1; what is not known is `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkAnswer {
    pub sid: String,
    pub name: String,
    pub room: RoomName,
    /// What was wrong, in order.
    pub sentences: Vec<String>,
    pub seconds: Vec<SecondView>,
    pub tracks: Vec<TrackView>,
    /// What it got of each track from when on.
    pub changes: Vec<ChangeView>,
    pub events: Vec<EventView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoomName {
    pub sid: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SecondView {
    pub at: u32,
    /// What the link towards it is believed to carry; `null`: nothing bounds it.
    pub estimate_kbps: Option<u32>,
    /// What it would be sent if everything fitted.
    pub target_kbps: Option<u32>,
    /// What the server's own uplink has for it; `null`: enough.
    pub share_kbps: Option<u32>,
    pub sent_kbps: Option<u32>,
    pub acknowledged_kbps: Option<u32>,
    pub up_kbps: Option<u32>,
    pub queue_ms: u16,
    pub round_trip_ms: Option<u16>,
    /// Before repair.
    pub loss_down: Option<f64>,
    pub loss_up: Option<f64>,
    /// After it.
    pub audio_lost: Option<f64>,
    pub audio_copies: u8,
    /// Packets and keyframes that it asked us for, and we it.
    pub nacks_from: u8,
    pub plis_from: u8,
    pub nacks_to: u8,
    pub plis_to: u8,
    pub silent_s: u8,
    pub videos_paused: u8,
    pub videos_lowered: u8,
    pub voices_left_out: u8,
    pub encodings_missing: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackView {
    pub track: u64,
    pub publisher: String,
    pub name: String,
    pub source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangeView {
    pub at: u32,
    pub track: u64,
    /// From 1; 0: none.
    pub layer: u8,
    /// `whole`, `lowered` or `paused` for want of bandwidth, `idle`, or `over`.
    pub portion: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventView {
    pub at: u32,
    pub event: &'static str,
}

impl LinkAnswer {
    /// `publishers` are the logs of those that it listened to; times of day in the sentences are so many seconds east of
    /// UTC.
    pub fn new(room: RoomName, log: &LinkLog, publishers: &[&LinkLog], utc_offset: i32) -> LinkAnswer {
        let id = |TrackId(id): TrackId| id;
        let track = |name: &super::TrackName| TrackView {
            track: id(name.track),
            publisher: name.publisher.to_string(),
            name: name.name.to_string(),
            source: name.source,
        };
        let changes = log.changes.iter().map(|change| ChangeView {
            at: change.at,
            track: id(change.track),
            layer: change.layer,
            portion: change.portion.map_or("over", word),
        });
        LinkAnswer {
            sid: log.sid.clone(),
            name: log.name.clone(),
            room,
            sentences: explain(log, publishers, utc_offset),
            seconds: log.seconds.iter().map(SecondView::from).collect(),
            tracks: log.tracks.iter().map(track).collect(),
            changes: changes.collect(),
            events: log.occurrences.iter().map(|&(at, event)| EventView { at, event: event.word() }).collect(),
        }
    }
}

impl From<&Second> for SecondView {
    fn from(second: &Second) -> SecondView {
        SecondView {
            at: second.at,
            estimate_kbps: second.estimate.kbps(),
            target_kbps: second.wanted.kbps(),
            share_kbps: second.share.kbps(),
            sent_kbps: second.sent.kbps(),
            acknowledged_kbps: second.acknowledged.kbps(),
            up_kbps: second.up.kbps(),
            queue_ms: second.queue_ms,
            round_trip_ms: second.round_trip_ms(),
            loss_down: second.loss_down.get(),
            loss_up: second.loss_up.get(),
            audio_lost: second.audio_lost.get(),
            audio_copies: second.audio_copies,
            nacks_from: second.asked.0,
            plis_from: second.asked.1,
            nacks_to: second.requested.0,
            plis_to: second.requested.1,
            silent_s: second.silent,
            videos_paused: second.paused,
            videos_lowered: second.lowered,
            voices_left_out: second.unheard,
            encodings_missing: second.missing,
        }
    }
}

pub fn word(portion: Portion) -> &'static str {
    match portion {
        Portion::Idle => "idle",
        Portion::Whole => "whole",
        Portion::Lowered => "lowered",
        Portion::Paused => "paused",
    }
}
