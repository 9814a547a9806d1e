//! What is kept of one participant's link: ten minutes, a second each, and what changed when.
//!
//! Bounded: 600 seconds of 36 octets, 512 changes of 16, 64 tracks and 64 occurrences are some 45 kB at most with the
//! names of the tracks' publishers, and about 4 kB after the first two minutes of a call. Who
//! neither sends nor gets anything takes less than one.

use std::collections::VecDeque;

use sfu::{Kind, LinkStatistics, Portion, TrackId};

use super::second::{Second, same};

/// Seconds that are kept.
pub const SECONDS_MAX: usize = 600;
/// Memory comes in pieces of this many seconds, as the call goes on.
const SECONDS_PIECE: usize = 60;
const CHANGES_MAX: usize = 512;
const TRACKS_MAX: usize = 64;
const OCCURRENCES_MAX: usize = 64;
/// Longer names are cut.
const NAME_MAX: usize = 64;

/// Something that happened to a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence {
    Joined,
    /// Its transport is up, for the first time or again.
    Connected,
    /// Its transport fell silent.
    Silent,
    /// Its socket is gone without a word.
    SocketLost,
    /// It came back over another socket.
    Resumed,
    /// Its packets come from elsewhere: another network.
    AddressChanged,
    Left,
}

impl Occurrence {
    pub fn word(self) -> &'static str {
        match self {
            Occurrence::Joined => "joined",
            Occurrence::Connected => "connected",
            Occurrence::Silent => "silent",
            Occurrence::SocketLost => "socket_lost",
            Occurrence::Resumed => "resumed",
            Occurrence::AddressChanged => "address_changed",
            Occurrence::Left => "left",
        }
    }
}

/// What a track is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackName {
    pub track: TrackId,
    pub kind: Kind,
    /// Sid of its publisher.
    pub publisher: Box<str>,
    /// What the publisher is called.
    pub name: Box<str>,
    /// `camera`, `screen_share`, …
    pub source: &'static str,
}

/// From `at` on the participant gets so much of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Unix time.
    pub at: u32,
    pub track: TrackId,
    /// From 1; 0: none.
    pub layer: u8,
    /// `None`: the subscription is over.
    pub portion: Option<Portion>,
}

#[derive(Clone, Debug, Default)]
pub struct LinkLog {
    pub sid: String,
    pub name: String,
    pub seconds: VecDeque<Second>,
    pub changes: VecDeque<Change>,
    pub tracks: VecDeque<TrackName>,
    /// With the Unix time of each.
    pub occurrences: VecDeque<(u32, Occurrence)>,
}

impl LinkLog {
    pub fn new(sid: &str, name: &str) -> LinkLog {
        LinkLog {
            sid: sid.to_owned(),
            name: name.to_owned(),
            seconds: VecDeque::new(),
            changes: VecDeque::new(),
            tracks: VecDeque::new(),
            occurrences: VecDeque::new(),
        }
    }

    pub fn note(&mut self, at: u32, occurrence: Occurrence) {
        push(&mut self.occurrences, (at, occurrence), OCCURRENCES_MAX, 1);
    }

    /// Takes a measurement beside the one before it. `name_of` knows what tracks are called.
    pub fn record(
        &mut self,
        at: u32,
        before: &LinkStatistics,
        now: &LinkStatistics,
        name_of: impl Fn(TrackId) -> Option<TrackName>,
    ) {
        let second = Second::between(before, now, at);
        // Who neither sends nor gets anything has nothing to be explained: of such a time its ends are kept.
        let idle = self.seconds.iter().rev().take(2).filter(|second| second.is_idle).count();
        if second.is_idle && idle == 2 {
            self.seconds.pop_back();
        }
        push(&mut self.seconds, second, SECONDS_MAX, SECONDS_PIECE);
        if before.remote.is_some() && now.remote.is_some() && before.remote != now.remote {
            self.note(at, Occurrence::AddressChanged);
        }
        for (index, sent) in now.sent.iter().enumerate() {
            let got = |encoding: Option<u8>| encoding.map_or(0, |encoding| encoding + 1);
            let old = same(&before.sent, index, |old| old.track == sent.track);
            let is_same = old.is_some_and(|old| (old.encoding, old.portion) == (sent.encoding, sent.portion));
            if is_same {
                continue;
            }
            if old.is_none()
                && let Some(name) = name_of(sent.track)
            {
                push(&mut self.tracks, name.shortened(), TRACKS_MAX, 4);
            }
            let change = Change { at, track: sent.track, layer: got(sent.encoding), portion: Some(sent.portion) };
            push(&mut self.changes, change, CHANGES_MAX, 16);
        }
        for (index, old) in before.sent.iter().enumerate() {
            if same(&now.sent, index, |sent| sent.track == old.track).is_none() {
                let change = Change { at, track: old.track, layer: 0, portion: None };
                push(&mut self.changes, change, CHANGES_MAX, 16);
            }
        }
    }

    pub fn track(&self, track: TrackId) -> Option<&TrackName> {
        self.tracks.iter().find(|name| name.track == track)
    }

    /// Octets of memory, about.
    pub fn size(&self) -> usize {
        let names = self.tracks.iter().map(|name| name.publisher.len() + name.name.len());
        self.seconds.capacity() * size_of::<Second>()
            + self.changes.capacity() * size_of::<Change>()
            + self.tracks.capacity() * size_of::<TrackName>()
            + self.occurrences.capacity() * size_of::<(u32, Occurrence)>()
            + names.sum::<usize>()
            + self.sid.len()
            + self.name.len()
    }
}

impl TrackName {
    fn shortened(mut self) -> TrackName {
        if self.name.len() > NAME_MAX {
            let end = (0..=NAME_MAX).rev().find(|&end| self.name.is_char_boundary(end)).unwrap_or(0);
            self.name = self.name[..end].into();
        }
        self
    }
}

/// Appends to a list that forgets its oldest entries, and whose memory grows by `piece` entries at a time.
fn push<T>(list: &mut VecDeque<T>, entry: T, max: usize, piece: usize) {
    if list.len() >= max {
        list.pop_front();
    } else if list.len() == list.capacity() {
        list.reserve_exact(piece.min(list.len().max(4)));
    }
    list.push_back(entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu::SentStatistics;

    fn gets(track: u64, encoding: Option<u8>, portion: Portion) -> SentStatistics {
        SentStatistics { track: TrackId(track), kind: Kind::Video, encoding, portion, tally: None }
    }

    fn link(sent: Vec<SentStatistics>) -> LinkStatistics {
        LinkStatistics { sent, ..LinkStatistics::default() }
    }

    fn called(track: TrackId) -> Option<TrackName> {
        Some(TrackName {
            track,
            kind: Kind::Video,
            publisher: "PA_123456789012".into(),
            name: "ä".repeat(200).into(),
            source: "camera",
        })
    }

    #[test]
    fn changes_alone_are_kept_of_what_is_sent() {
        let mut log = LinkLog::new("PA_1", "Bob");
        let steps = [
            link(vec![gets(1, Some(2), Portion::Whole), gets(2, Some(0), Portion::Whole)]),
            link(vec![gets(1, Some(2), Portion::Whole), gets(2, None, Portion::Paused)]),
            link(vec![gets(2, None, Portion::Paused)]),
        ];
        let mut before = LinkStatistics::default();
        for (at, now) in (100..).zip(steps) {
            log.record(at, &before, &now, called);
            before = now;
        }
        let change = |at, track, layer, portion| Change { at, track: TrackId(track), layer, portion };
        let expected = [
            change(100, 1, 3, Some(Portion::Whole)),
            change(100, 2, 1, Some(Portion::Whole)),
            change(101, 2, 0, Some(Portion::Paused)),
            change(102, 1, 0, None),
        ];
        assert_eq!(log.changes, expected);
        assert_eq!(log.seconds.iter().map(|second| second.paused).collect::<Vec<_>>(), [0, 1, 1]);
        assert_eq!(log.track(TrackId(2)).map(|track| track.source), Some("camera"));
    }

    #[test]
    fn an_idle_time_is_kept_by_its_ends() {
        let mut log = LinkLog::new("PA_1", "Bob");
        let busy = link(vec![gets(1, Some(0), Portion::Whole)]);
        let silent = LinkStatistics { silent: std::time::Duration::from_secs(4), ..LinkStatistics::default() };
        let mut before = LinkStatistics::default();
        for at in 0..100 {
            let now = match at {
                40 => busy.clone(),
                70 => silent.clone(),
                _ => LinkStatistics::default(),
            };
            log.record(at, &before, &now, called);
            before = now;
        }
        let kept: Vec<u32> = log.seconds.iter().map(|second| second.at).collect();
        assert_eq!(kept, [0, 39, 40, 41, 69, 70, 71, 99]);
    }

    #[test]
    fn another_address_is_noted() {
        let mut log = LinkLog::new("PA_1", "Bob");
        let at = |address: &str| LinkStatistics { remote: address.parse().ok(), ..LinkStatistics::default() };
        let (none, home, away) = (at(""), at("192.0.2.1:5"), at("198.51.100.1:5"));
        for (second, pair) in (0..).zip([none, home.clone(), home, away].windows(2)) {
            log.record(second, &pair[0], &pair[1], |_| None);
        }
        assert_eq!(log.occurrences, [(2, Occurrence::AddressChanged)]);
    }

    #[test]
    fn a_log_stays_below_its_bound() {
        let mut log = LinkLog::new("PA_123456789012", &"n".repeat(256));
        let mut before = LinkStatistics::default();
        for at in 0..2_000 {
            let portion = if at % 2 == 0 { Portion::Whole } else { Portion::Lowered };
            let now = link((0..5).map(|track| gets(u64::from(at / 7) * 5 + track, Some(1), portion)).collect());
            log.record(at, &before, &now, called);
            log.note(at, Occurrence::Resumed);
            before = now;
            assert!(at != 60 || log.size() < 20 << 10, "{} after a minute of flicker", log.size());
        }
        assert_eq!(log.seconds.len(), SECONDS_MAX);
        assert_eq!(log.seconds.front().map(|second| second.at), Some(1_400));
        assert!(log.size() < 56 << 10, "{}", log.size());
    }
}
