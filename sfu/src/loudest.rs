//! Which voices a subscriber hears when not even audio fits through its link: the loudest.
//!
//! - [`choose`] is the choice for so much room.
//! - [`Trial`] says when one voice more is tried: without video there is nothing else that could prove more room.

use std::time::{Duration, Instant};

/// Who is heard stays unless somebody is so much louder: 4 dB, and a word is not cut for a breath.
const HEARD_BONUS: f32 = 1.6;
/// Who is not heard comes in when there is so much more room than it takes, so that voices do not come and go.
const HEADROOM: f64 = 1.15;

/// Between two trials, if they go well.
const TRIAL: Duration = Duration::from_secs(2);
/// And at most, if they do not.
const TRIAL_MAX: Duration = Duration::from_secs(32);
/// Congestion within this after a trial is its doing.
const TRIAL_ECHO: Duration = Duration::from_secs(4);

/// One voice, as plain numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Voice {
    /// The caller's name for it.
    pub key: usize,
    /// 0 (does not speak) to 1, linear.
    pub level: f32,
    /// It was loud within the last seconds: people pause.
    pub spoke: bool,
    /// What it takes, copies included, in bit/s.
    pub cost_bps: u64,
    /// It is forwarded now.
    pub is_heard: bool,
    /// The answer.
    pub chosen: bool,
}

impl Voice {
    fn rank(&self) -> (bool, f32) {
        // Between two who say nothing now, the one who spoke last is likelier to go on.
        let floor = if self.spoke { 0.001 } else { 0.000_1 };
        (self.spoke, self.level.max(floor) * if self.is_heard { HEARD_BONUS } else { 1.0 })
    }
}

/// Chooses all voices if they fit into `room_bps`, else the loudest that do; the very loudest always. Returns what the
/// chosen ones take.
pub fn choose(room_bps: u64, voices: &mut [Voice]) -> u64 {
    let mut order: Vec<usize> = Vec::new();
    let needs = |voice: &Voice| if voice.is_heard { voice.cost_bps as f64 } else { voice.cost_bps as f64 * HEADROOM };
    if voices.iter().map(needs).sum::<f64>() > room_bps as f64 {
        order.extend(0..voices.len());
        order.sort_by(|&a, &b| {
            let ((a_spoke, a_level), (b_spoke, b_level)) = (voices[a].rank(), voices[b].rank());
            b_spoke.cmp(&a_spoke).then(b_level.total_cmp(&a_level))
        });
    }
    if order.is_empty() {
        voices.iter_mut().for_each(|voice| voice.chosen = true);
    }
    let mut used = 0.0;
    for (rank, &index) in order.iter().enumerate() {
        let voice = &mut voices[index];
        voice.chosen = rank == 0 || used + needs(voice) <= room_bps as f64;
        if voice.chosen {
            used += needs(voice);
        }
    }
    voices.iter().filter(|voice| voice.chosen).map(|voice| voice.cost_bps).sum()
}

/// When the next voice is let in although nothing shows that there is room.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trial {
    tried: Option<Instant>,
    due: Option<Instant>,
    wait: Duration,
}

impl Trial {
    /// To be asked a few times a second; true: now.
    pub fn is_due(&mut self, now: Instant, any_left_out: bool, is_congested: bool) -> bool {
        if !any_left_out {
            *self = Trial::default();
            return false;
        }
        if is_congested {
            let is_echo = self.tried.take().is_some_and(|at| now.saturating_duration_since(at) < TRIAL_ECHO);
            if is_echo {
                self.wait = (self.wait * 2).min(TRIAL_MAX);
            }
            self.due = None;
            return false;
        }
        let wait = self.wait.max(TRIAL);
        if *self.due.get_or_insert(now + wait) > now {
            return false;
        }
        if self.tried.is_some_and(|at| now.saturating_duration_since(at) >= TRIAL_ECHO) {
            self.wait = TRIAL;
        }
        self.wait = self.wait.max(TRIAL);
        self.tried = Some(now);
        self.due = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    const SPEAKING: Voice = Voice { key: 0, level: 0.1, spoke: true, cost_bps: 50_000, is_heard: true, chosen: false };
    const LISTENING: Voice = Voice { level: 0.0, spoke: false, ..SPEAKING };

    fn chosen(room_bps: u64, voices: &[Voice]) -> Vec<bool> {
        let mut voices = voices.to_vec();
        let used = choose(room_bps, &mut voices);
        let costs: u64 = voices.iter().filter(|voice| voice.chosen).map(|voice| voice.cost_bps).sum();
        assert_eq!(used, costs);
        voices.iter().map(|voice| voice.chosen).collect()
    }

    #[test]
    fn all_that_fit_are_heard_and_else_the_loudest() {
        let loud = Voice { level: 0.5, ..SPEAKING };
        assert_eq!(chosen(150_000, &[LISTENING, SPEAKING, loud]), [true; 3]);
        assert_eq!(chosen(149_000, &[LISTENING, SPEAKING, loud]), [false, true, true]);
        assert_eq!(chosen(99_000, &[LISTENING, SPEAKING, loud]), [false, false, true]);
        assert_eq!(chosen(0, &[LISTENING, SPEAKING, loud]), [false, false, true], "somebody is always heard");
        assert_eq!(chosen(0, &[]), []);
    }

    #[test]
    fn who_is_heard_stays_until_somebody_is_clearly_louder() {
        let outside = |level| Voice { level, is_heard: false, ..SPEAKING };
        assert_eq!(chosen(60_000, &[SPEAKING, outside(0.15)]), [true, false]);
        assert_eq!(chosen(60_000, &[SPEAKING, outside(0.17)]), [false, true]);
        // A pause between words is no reason either, against somebody who has not spoken.
        let pausing = Voice { level: 0.0, ..SPEAKING };
        assert_eq!(chosen(60_000, &[pausing, Voice { is_heard: false, ..LISTENING }]), [true, false]);
        assert_eq!(chosen(60_000, &[pausing, outside(0.05)]), [false, true]);
    }

    #[test]
    fn coming_in_needs_more_room_than_staying() {
        let outside = Voice { is_heard: false, ..LISTENING };
        assert_eq!(chosen(100_000, &[SPEAKING, LISTENING]), [true, true]);
        assert_eq!(chosen(100_000, &[SPEAKING, outside]), [true, false]);
        assert_eq!(chosen(108_000, &[SPEAKING, outside]), [true, true]);
    }

    #[test]
    fn a_voice_more_is_tried_and_less_often_when_that_was_too_much() {
        let mut trial = Trial::default();
        let ms = |ms| start() + Duration::from_millis(ms);
        assert!(!trial.is_due(ms(0), false, true));
        assert!(!trial.is_due(ms(0), true, true));
        assert!(!trial.is_due(ms(1_000), true, false));
        assert!(!trial.is_due(ms(2_750), true, false));
        assert!(trial.is_due(ms(3_000), true, false));
        assert!(!trial.is_due(ms(3_250), true, false));
        assert!(trial.is_due(ms(5_500), true, false), "and one more");
        assert!(!trial.is_due(ms(6_500), true, true), "that was too much");
        assert!(!trial.is_due(ms(7_000), true, false));
        assert!(!trial.is_due(ms(10_900), true, false));
        assert!(trial.is_due(ms(11_000), true, false));
        assert!(!trial.is_due(ms(12_000), false, false), "all are heard: it begins anew");
        assert!(!trial.is_due(ms(13_000), true, false));
        assert!(trial.is_due(ms(15_000), true, false));
    }

    #[test]
    fn who_is_silent_on_the_wire_takes_no_room() {
        let silent = Voice { cost_bps: 1_000, ..LISTENING };
        assert_eq!(chosen(52_000, &[SPEAKING, silent, SPEAKING]), [true, true, false]);
    }
}
