//! Who is speaking, from the audio levels in header extensions (RFC 6464).
//!
//! - [`AudioActivity`], one per audio track, smooths the levels of its packets over windows of 400 ms of audio.
//! - [`SpeakerLevels`], one per room, compares the participants' levels each [`INTERVAL`] and gives those whose
//!   quantised level changed.

use std::time::{Duration, Instant};

use crate::command::{ParticipantId, Speaker};

/// How often a room's speakers are compared, and the audio that one judgement rests on.
pub const INTERVAL: Duration = Duration::from_millis(400);
/// A frame at this level (in −dBov) or louder counts as active.
const ACTIVE_LEVEL: u8 = 35;
/// This part of a window must be active.
const ACTIVE_PERCENT: u32 = 40;
/// The window's length in milliseconds.
const WINDOW_MS: u32 = 400;
/// Smoothing over two windows: 2 / (2 + 1).
const SMOOTHING: f32 = 2.0 / 3.0;
/// Without packets for this long (discontinuous transmission, a dead publisher) nobody speaks.
const STALE: Duration = Duration::from_millis(800);
/// Who spoke within this time is still a speaker: people pause.
const LATELY: Duration = Duration::from_secs(10);
/// Levels are quantised upwards to this many steps.
const STEPS: f32 = 8.0;
/// A frame's duration when the timestamps do not tell it, and the longest that is believed: Opus has 2.5 to 120 ms.
const FRAME_MS: u32 = 20;
const FRAME_MS_MAX: u32 = 120;
/// How far back the timestamp of a late or repeated packet may be: a jitter buffer would not wait longer.
const LATE_MS_MAX: u32 = 1000;

/// The loudness of one audio track.
#[derive(Clone, Debug)]
pub struct AudioActivity {
    clock_rate: u32,
    smoothed: f32,
    loudest: u8,
    active_ms: u32,
    observed_ms: u32,
    last_timestamp: Option<u32>,
    last_packet: Option<Instant>,
    last_active: Option<Instant>,
}

impl AudioActivity {
    /// `clock_rate` in RTP timestamp units per second.
    pub fn new(clock_rate: u32) -> AudioActivity {
        AudioActivity {
            clock_rate,
            smoothed: 0.0,
            loudest: 127,
            active_ms: 0,
            observed_ms: 0,
            last_timestamp: None,
            last_packet: None,
            last_active: None,
        }
    }

    /// Takes the level of a packet: 0 is loudest, 127 silent, in −dBov.
    pub fn receive(&mut self, now: Instant, timestamp: u32, level: u8) {
        if self.last_packet.is_some_and(|last| now.saturating_duration_since(last) > STALE) {
            self.clear();
        }
        self.last_packet = Some(now);
        let per_ms = (self.clock_rate / 1000).max(1);
        let frame_ms = match self.last_timestamp.map(|last| timestamp.wrapping_sub(last) as i32) {
            // Late or repeated. What is further back is of a clock that was set back: waiting until it has come here again
            // would leave this speaker as he is.
            Some(elapsed) if elapsed <= 0 && elapsed.unsigned_abs() / per_ms <= LATE_MS_MAX => return,
            // A pause in transmission is no long frame.
            Some(elapsed) if elapsed > 0 && elapsed as u32 / per_ms <= FRAME_MS_MAX => elapsed as u32 / per_ms,
            _ => FRAME_MS,
        };
        self.last_timestamp = Some(timestamp);
        self.observed_ms += frame_ms;
        if level <= ACTIVE_LEVEL {
            self.active_ms += frame_ms;
            self.loudest = self.loudest.min(level);
        }
        if self.observed_ms < WINDOW_MS {
            return;
        }
        if self.active_ms * 100 >= WINDOW_MS * ACTIVE_PERCENT {
            // The level of a window in which less is active counts less.
            let active = self.active_ms.min(WINDOW_MS) as f32 / WINDOW_MS as f32;
            let adjusted = f32::from(self.loudest) - 20.0 * active.log10();
            self.smoothed += (linear(adjusted) - self.smoothed) * SMOOTHING;
            self.last_active = Some(now);
        } else {
            self.smoothed = 0.0;
        }
        self.loudest = 127;
        self.active_ms = 0;
        self.observed_ms = 0;
    }

    /// The timestamps are those of another source from now on.
    pub fn begin_source(&mut self) {
        self.last_timestamp = None;
    }

    /// Whether it was somebody's turn to be looked at within the last seconds.
    pub fn spoke(&self, now: Instant) -> bool {
        self.last_active.is_some_and(|at| now.saturating_duration_since(at) < LATELY)
    }

    /// 0 (does not speak) to 1, linear.
    pub fn level(&self, now: Instant) -> f32 {
        let is_stale = self.last_packet.is_none_or(|last| now.saturating_duration_since(last) > STALE);
        if is_stale || self.smoothed < linear(f32::from(ACTIVE_LEVEL)) { 0.0 } else { self.smoothed.min(1.0) }
    }

    /// Forgets what was heard: the track is muted.
    pub fn clear(&mut self) {
        *self = AudioActivity::new(self.clock_rate);
    }
}

/// The amplitude of a level in −dBov.
fn linear(level: f32) -> f32 {
    10f32.powf(-level / 20.0)
}

/// The levels of a room as they were last reported. At most one entry per speaking participant.
#[derive(Clone, Debug, Default)]
pub struct SpeakerLevels {
    /// Ascending by participant; only those above 0.
    reported: Vec<(ParticipantId, u8)>,
    compared: Option<Instant>,
}

impl SpeakerLevels {
    /// When to compare next; at once in a new room.
    pub fn next_comparison(&self, now: Instant) -> Instant {
        self.compared.map_or(now, |at| at + INTERVAL)
    }

    /// Compares with the levels now: each participant of the room once, with the loudest of its audio tracks (see
    /// [`AudioActivity::level`]). Who is not among them has left. Changes are appended to `changes`.
    pub fn compare(
        &mut self,
        now: Instant,
        levels: impl Iterator<Item = (ParticipantId, f32)>,
        changes: &mut Vec<Speaker>,
    ) {
        self.compared = Some(now);
        let mut speaking: Vec<(ParticipantId, u8)> = levels
            .map(|(participant, level)| (participant, (level * STEPS).ceil().clamp(0.0, STEPS) as u8))
            .filter(|(_, steps)| *steps > 0)
            .collect();
        speaking.sort_unstable();
        // Of two entries for one participant the louder one.
        speaking.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = kept.1.max(later.1);
            }
            same
        });
        for (participant, steps) in &speaking {
            let before = self.reported.binary_search_by_key(participant, |(known, _)| *known);
            if before.ok().is_none_or(|index| self.reported[index].1 != *steps) {
                changes.push(Speaker { participant: *participant, level: f32::from(*steps) / STEPS });
            }
        }
        for (participant, _) in &self.reported {
            if speaking.binary_search_by_key(participant, |(known, _)| *known).is_err() {
                changes.push(Speaker { participant: *participant, level: 0.0 });
            }
        }
        self.reported = speaking;
    }

    /// All who speak now, as last reported: for somebody who has just come.
    pub fn current(&self) -> impl Iterator<Item = Speaker> {
        self.reported
            .iter()
            .map(|(participant, steps)| Speaker { participant: *participant, level: f32::from(*steps) / STEPS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    /// Feeds 20 ms frames; returns the time after them.
    fn talk(activity: &mut AudioActivity, now: Instant, from: u32, levels: impl Iterator<Item = u8>) -> Instant {
        let mut at = now;
        for (index, level) in levels.enumerate() {
            activity.receive(at, (from + index as u32) * 960, level);
            at += Duration::from_millis(20);
        }
        at
    }

    #[test]
    fn a_loud_window_speaks_and_a_quiet_one_ends_it() {
        let now = start();
        let mut activity = AudioActivity::new(48_000);
        let at = talk(&mut activity, now, 0, std::iter::repeat_n(20, 19));
        assert_eq!(activity.level(at), 0.0, "the window is not over");
        let at = talk(&mut activity, at, 19, std::iter::once(20));
        let level = activity.level(at);
        assert!((level - 0.1 * 2.0 / 3.0).abs() < 1e-6, "{level}");
        let at = talk(&mut activity, at, 20, std::iter::repeat_n(20, 20));
        assert!(activity.level(at) > level && activity.level(at) < 0.1);
        let at = talk(&mut activity, at, 40, std::iter::repeat_n(127, 20));
        assert_eq!(activity.level(at), 0.0);
    }

    #[test]
    fn two_fifths_of_a_window_must_be_active() {
        let now = start();
        let speaks = |active: usize, level: u8| {
            let mut activity = AudioActivity::new(48_000);
            let at = talk(
                &mut activity,
                now,
                0,
                std::iter::repeat_n(level, active).chain(std::iter::repeat_n(100, 20 - active)),
            );
            activity.level(at)
        };
        assert_eq!(speaks(7, 10), 0.0);
        let part = speaks(8, 10);
        assert!(part > 0.0 && part < speaks(20, 10));
        assert_eq!(speaks(20, 36), 0.0);
        assert_eq!(speaks(20, 35), 0.0, "after smoothing it is below the threshold");
        assert!(speaks(20, 0) <= 1.0);
    }

    #[test]
    fn silence_on_the_wire_is_silence() {
        let now = start();
        let mut activity = AudioActivity::new(48_000);
        let at = talk(&mut activity, now, 0, std::iter::repeat_n(5, 40));
        let last = at - Duration::from_millis(20);
        assert!(activity.level(last + STALE) > 0.0);
        assert_eq!(activity.level(last + STALE + Duration::from_millis(1)), 0.0);
        activity.clear();
        assert_eq!(activity.level(last), 0.0);
    }

    #[test]
    fn repeated_and_jumping_timestamps_do_not_fill_windows() {
        let now = start();
        let mut activity = AudioActivity::new(48_000);
        for _ in 0..100 {
            activity.receive(now, 960, 0);
        }
        for index in 1..19 {
            activity.receive(now, index << 20, 0);
        }
        assert_eq!(activity.level(now), 0.0);
        activity.receive(now, 19 << 20, 0);
        assert!(activity.level(now) > 0.0);
    }

    #[test]
    fn another_source_speaks_on_whatever_its_timestamps() {
        let mut activity = AudioActivity::new(48_000);
        let at = talk(&mut activity, start(), 2_000_000, std::iter::repeat_n(20, 20));
        let level = activity.level(at);
        activity.begin_source();
        let at = talk(&mut activity, at, 1, std::iter::repeat_n(20, 20));
        assert!(activity.level(at) > level, "its timestamps are far below");
    }

    #[test]
    fn a_clock_that_is_set_back_neither_keeps_nor_silences_a_speaker() {
        let mut activity = AudioActivity::new(48_000);
        let at = talk(&mut activity, start(), 2_000_000, std::iter::repeat_n(20, 20));
        let level = activity.level(at);
        let mut silent = activity.clone();
        let end = talk(&mut silent, at, 1, std::iter::repeat_n(127, 20));
        assert_eq!(silent.level(end), 0.0);
        let end = talk(&mut activity, at, 1, std::iter::repeat_n(20, 20));
        assert!(activity.level(end) > level);
    }

    #[test]
    fn changes_alone_are_reported() {
        let now = start();
        let (a, b) = (ParticipantId(1), ParticipantId(2));
        let mut room = SpeakerLevels::default();
        let mut compare = |levels: &[(ParticipantId, f32)]| {
            let mut changes = Vec::new();
            room.compare(now, levels.iter().copied(), &mut changes);
            changes
        };
        assert_eq!(compare(&[(b, 0.0), (a, 0.0)]), []);
        assert_eq!(compare(&[(b, 0.01), (a, 0.0)]), [Speaker { participant: b, level: 0.125 }]);
        assert_eq!(compare(&[(b, 0.12), (a, 0.0)]), []);
        assert_eq!(
            compare(&[(b, 0.126), (a, 1.0)]),
            [Speaker { participant: a, level: 1.0 }, Speaker { participant: b, level: 0.25 }]
        );
        assert_eq!(compare(&[(a, 1.0), (a, 0.1)]), [Speaker { participant: b, level: 0.0 }]);
        assert_eq!(compare(&[]), [Speaker { participant: a, level: 0.0 }]);
        assert_eq!(room.current().count(), 0);
        assert_eq!(room.next_comparison(now), now + INTERVAL);
    }
}
