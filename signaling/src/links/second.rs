//! One second of a participant's link, packed: ten minutes of it are kept for everybody.

use std::time::Duration;

use sfu::{Kind, LinkStatistics, Portion, Tally};

/// A client that is there sends something more often.
const SILENCE: Duration = Duration::from_secs(4);

/// A part of packets, in half percents; the largest value stands for *not known*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part(u8);

impl Part {
    pub const UNKNOWN: Part = Part(u8::MAX);

    /// From 0 to 1.
    pub fn new(part: f64) -> Part {
        Part((part.clamp(0.0, 1.0) * 200.0).round() as u8)
    }

    pub fn get(self) -> Option<f64> {
        (self != Part::UNKNOWN).then(|| f64::from(self.0) / 200.0)
    }
}

impl From<Option<f64>> for Part {
    fn from(part: Option<f64>) -> Part {
        part.map_or(Part::UNKNOWN, Part::new)
    }
}

/// A bitrate in kbit/s, up to 65 Mbit/s; the largest value stands for *not known* or *not bounded*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u16);

impl Rate {
    pub const UNKNOWN: Rate = Rate(u16::MAX);

    pub fn of_bps(bps: u64) -> Rate {
        Rate((bps / 1000).min(u64::from(u16::MAX) - 1) as u16)
    }

    pub fn kbps(self) -> Option<u32> {
        (self != Rate::UNKNOWN).then_some(self.0.into())
    }
}

impl From<Option<u64>> for Rate {
    fn from(bps: Option<u64>) -> Rate {
        bps.map_or(Rate::UNKNOWN, Rate::of_bps)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Second {
    /// Unix time.
    pub at: u32,
    /// What the link towards the participant is believed to carry.
    pub estimate: Rate,
    /// What it would be sent if everything fitted.
    pub wanted: Rate,
    /// What the server's own uplink has for it.
    pub share: Rate,
    pub sent: Rate,
    pub acknowledged: Rate,
    /// What it sends.
    pub up: Rate,
    pub queue_ms: u16,
    /// The largest value: not known.
    pub round_trip_ms: u16,
    /// At first, before anything is repaired.
    pub loss_down: Part,
    pub loss_up: Part,
    /// Of the audio towards it, after repair.
    pub audio_lost: Part,
    pub audio_copies: u8,
    /// Packets and keyframes that it asked for, and those that we asked it for.
    pub asked: (u8, u8),
    pub requested: (u8, u8),
    /// Seconds since its last packet.
    pub silent: u8,
    /// It sent nothing and got nothing, and was there.
    pub is_idle: bool,
    /// How many videos towards it are paused, and how many are less than wanted.
    pub paused: u8,
    pub lowered: u8,
    /// Audio left out, since not even that fits.
    pub unheard: u8,
    /// Encodings that are wanted of it and do not come.
    pub missing: u8,
}

impl Default for Second {
    fn default() -> Second {
        Second {
            at: 0,
            estimate: Rate::UNKNOWN,
            wanted: Rate(0),
            share: Rate::UNKNOWN,
            sent: Rate(0),
            acknowledged: Rate::UNKNOWN,
            up: Rate(0),
            queue_ms: 0,
            round_trip_ms: u16::MAX,
            loss_down: Part::UNKNOWN,
            loss_up: Part::UNKNOWN,
            audio_lost: Part::UNKNOWN,
            audio_copies: 0,
            asked: (0, 0),
            requested: (0, 0),
            silent: 0,
            is_idle: false,
            paused: 0,
            lowered: 0,
            unheard: 0,
            missing: 0,
        }
    }
}

impl Second {
    /// What two measurements say of the time between them; `at` is Unix time.
    pub fn between(before: &LinkStatistics, now: &LinkStatistics, at: u32) -> Second {
        let up = now.received.iter().enumerate().filter_map(|(index, stream)| {
            let key = (stream.track, stream.encoding);
            let old = same(&before.received, index, |old| (old.track, old.encoding) == key)?;
            Some((old.tally, stream.tally))
        });
        let reported = |wanted: Option<Kind>| {
            let streams =
                now.sent.iter().enumerate().filter(move |(_, stream)| wanted.is_none_or(|kind| stream.kind == kind));
            streams.filter_map(|(index, stream)| {
                let old = same(&before.sent, index, |old| old.track == stream.track)?;
                old.tally.zip(stream.tally)
            })
        };
        let count = |kind, portion| {
            let mut streams = 0u8;
            for stream in now.sent.iter().filter(|stream| (stream.kind, stream.portion) == (kind, portion)) {
                streams = streams.saturating_add(u8::from(stream.portion == portion));
            }
            streams
        };
        Second {
            at,
            estimate: now.estimate_bps.into(),
            wanted: Rate::of_bps(now.wanted_bps),
            share: now.uplink_share_bps.into(),
            sent: Rate::of_bps(now.sent_bps),
            acknowledged: now.acknowledged_bps.into(),
            up: Rate::of_bps(now.received.iter().map(|stream| stream.bitrate_bps).sum()),
            queue_ms: milliseconds(now.queue),
            round_trip_ms: now.round_trip.map_or(u16::MAX, milliseconds),
            loss_down: now.loss.or_else(|| loss(reported(None))).into(),
            loss_up: loss(up).into(),
            audio_lost: loss(reported(Some(Kind::Audio))).into(),
            audio_copies: now.audio_copies,
            asked: (more(before.asked.packets, now.asked.packets), more(before.asked.keyframes, now.asked.keyframes)),
            requested: (
                more(before.requested.packets, now.requested.packets),
                more(before.requested.keyframes, now.requested.keyframes),
            ),
            silent: now.silent.as_secs().min(u8::MAX.into()) as u8,
            is_idle: now.sent.is_empty() && now.received.is_empty() && now.silent < SILENCE,
            paused: count(Kind::Video, Portion::Paused),
            lowered: count(Kind::Video, Portion::Lowered),
            unheard: count(Kind::Audio, Portion::Paused),
            missing: now.received.iter().filter(|stream| stream.is_missing).count().min(u8::MAX.into()) as u8,
        }
    }

    pub fn round_trip_ms(&self) -> Option<u16> {
        (self.round_trip_ms != u16::MAX).then_some(self.round_trip_ms)
    }
}

/// The entry of before that is the same stream: most often at the same place.
pub fn same<T>(before: &[T], index: usize, is_same: impl Fn(&T) -> bool) -> Option<&T> {
    before.get(index).filter(|old| is_same(old)).or_else(|| before.iter().find(|old| is_same(old)))
}

/// `None` if nothing was expected: nothing was sent, or no report has come since.
fn loss(pairs: impl Iterator<Item = (Tally, Tally)>) -> Option<f64> {
    let (mut lost, mut expected) = (0, 0);
    for (before, now) in pairs {
        expected += now.expected.saturating_sub(before.expected);
        lost += now.lost.saturating_sub(before.lost);
    }
    (expected > 0).then(|| (lost as f64 / expected as f64).min(1.0))
}

fn more(before: u32, now: u32) -> u8 {
    now.wrapping_sub(before).min(u8::MAX.into()) as u8
}

fn milliseconds(duration: Duration) -> u16 {
    duration.as_millis().min(u128::from(u16::MAX) - 1) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu::{ReceivedStatistics, RepairRequests, SentStatistics, TrackId};

    fn statistics(up: (u64, u64), down: Option<(u64, u64)>) -> LinkStatistics {
        let tally = |(expected, lost)| Tally { expected, lost };
        LinkStatistics {
            received: vec![ReceivedStatistics {
                track: TrackId(1),
                kind: Kind::Video,
                encoding: 0,
                bitrate_bps: 64_999,
                is_missing: true,
                tally: tally(up),
            }],
            sent: vec![SentStatistics {
                track: TrackId(2),
                kind: Kind::Audio,
                encoding: None,
                portion: Portion::Paused,
                tally: down.map(tally),
            }],
            ..LinkStatistics::default()
        }
    }

    #[test]
    fn loss_is_what_was_lost_between_two_measurements() {
        let parts = |before: &LinkStatistics, now: &LinkStatistics| {
            let second = Second::between(before, now, 7);
            (second.loss_up.get(), second.loss_down.get(), second.audio_lost.get())
        };
        let first = statistics((1_000, 500), None);
        assert_eq!(parts(&LinkStatistics::default(), &first), (None, None, None));
        let next = statistics((1_100, 505), Some((70_000, 10)));
        assert_eq!(parts(&first, &next), (Some(0.05), None, None));
        let last = statistics((1_100, 505), Some((70_200, 60)));
        assert_eq!(parts(&next, &last), (None, Some(0.25), Some(0.25)));
        let by_feedback = LinkStatistics { loss: Some(0.1), ..last };
        assert_eq!(parts(&next, &by_feedback), (None, Some(0.1), Some(0.25)), "before repair, and after it");
        // A stream that began anew.
        assert_eq!(parts(&next, &statistics((50, 0), None)), (None, None, None));
    }

    #[test]
    fn a_second_is_small_and_holds_what_was_measured() {
        assert!(size_of::<Second>() <= 36, "{}", size_of::<Second>());
        let mut now = statistics((0, 0), None);
        now.estimate_bps = Some(180_400);
        now.queue = Duration::from_secs(100);
        now.round_trip = Some(Duration::from_micros(42_700));
        now.asked = RepairRequests { packets: 1_000, keyframes: 3 };
        now.silent = Duration::from_millis(22_900);
        let second = Second::between(&LinkStatistics::default(), &now, 1_000_000_000);
        assert_eq!((second.at, second.estimate.kbps(), second.up.kbps()), (1_000_000_000, Some(180), Some(64)));
        assert_eq!((second.acknowledged.kbps(), second.sent.kbps()), (None, Some(0)));
        assert_eq!((second.queue_ms, second.round_trip_ms()), (u16::MAX - 1, Some(42)));
        assert_eq!((second.asked, second.silent), ((255, 3), 22));
        assert_eq!((second.paused, second.unheard, second.missing), (0, 1, 1));
    }
}
