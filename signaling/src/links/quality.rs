//! How good a participant's connection is, both ways together.

use super::second::Second;

/// Seconds that a judgement rests on.
pub const WINDOW: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    Poor,
    Good,
    Excellent,
}

/// Scores below these are not excellent any more, and poor.
const EXCELLENT: f32 = 4.25;
const GOOD: f32 = 3.25;
/// To get better takes this much more, so that the word does not swing.
const HYSTERESIS: f32 = 0.25;

/// Silence of so many seconds is a bad connection, even if it is none.
const SILENT: u8 = 3;

/// From 1 (useless) to 5 (nothing to complain of); `None` without a measurement.
///
/// A point goes with each 5 % of packets lost on the worse way, with each 300 ms of round trip above 250 ms and each
/// 250 ms of a queue above 100 ms; one for pictures that are smaller than wanted and two for paused ones.
pub fn score<'a>(seconds: impl DoubleEndedIterator<Item = &'a Second>) -> Option<f32> {
    let mut seconds = seconds.rev().peekable();
    let last = *seconds.peek()?;
    let window: Vec<&Second> = seconds.take_while(|second| second.at + WINDOW > last.at).collect();
    let count = window.len() as f32;
    let mean = |value: fn(&Second) -> Option<f32>| {
        let known: Vec<f32> = window.iter().filter_map(|second| value(second)).collect();
        if known.is_empty() { 0.0 } else { known.iter().sum::<f32>() / known.len() as f32 }
    };
    let loss_up = mean(|second| second.loss_up.get().map(|part| part as f32));
    let loss_down = mean(|second| second.loss_down.get().map(|part| part as f32));
    let round_trip = mean(|second| second.round_trip_ms().map(f32::from));
    let queue = mean(|second| Some(f32::from(second.queue_ms)));
    let is_mostly = |bad: fn(&Second) -> bool| window.iter().filter(|second| bad(second)).count() as f32 * 2.0 > count;
    let mut points = 5.0;
    points -= loss_up.max(loss_down) * 20.0;
    points -= (round_trip - 250.0).max(0.0) / 300.0;
    points -= (queue - 100.0).max(0.0) / 250.0;
    if window.iter().any(|second| second.paused > 0 || second.unheard > 0) {
        points -= 2.0;
    } else if is_mostly(|second| second.lowered > 0) {
        points -= 1.0;
    }
    if is_mostly(|second| second.missing > 0) {
        points -= 1.0;
    }
    if last.silent >= SILENT {
        points = 1.0;
    }
    Some(points.clamp(1.0, 5.0))
}

/// The word for a score, after the one before.
pub fn judge(score: f32, before: Option<Quality>) -> Quality {
    let rises_to = |quality: Quality| if before.is_some_and(|before| before < quality) { HYSTERESIS } else { 0.0 };
    if score >= EXCELLENT + rises_to(Quality::Excellent) {
        Quality::Excellent
    } else if score >= GOOD + rises_to(Quality::Good) {
        Quality::Good
    } else {
        Quality::Poor
    }
}

#[cfg(test)]
mod tests {
    use super::super::second::Part;
    use super::*;

    fn quality(seconds: &[Second]) -> Quality {
        let seconds: Vec<Second> = (1..).zip(seconds).map(|(at, second)| Second { at, ..*second }).collect();
        judge(score(seconds.iter()).unwrap(), None)
    }

    fn second() -> Second {
        Second { round_trip_ms: 40, loss_down: Part::new(0.0), ..Second::default() }
    }

    #[test]
    fn either_way_counts() {
        assert_eq!(score([].iter()), None);
        assert_eq!(quality(&[second()]), Quality::Excellent);
        let lossy = |part| Second { loss_down: Part::new(part), ..second() };
        assert_eq!(quality(&[lossy(0.02)]), Quality::Excellent);
        assert_eq!(quality(&[lossy(0.05)]), Quality::Good);
        assert_eq!(quality(&[lossy(0.10)]), Quality::Poor);
        assert_eq!(quality(&[Second { loss_up: Part::new(0.3), ..second() }]), Quality::Poor);
        assert_eq!(quality(&[Second { round_trip_ms: 300, ..second() }]), Quality::Excellent);
        assert_eq!(quality(&[Second { round_trip_ms: 600, ..second() }]), Quality::Good);
        assert_eq!(quality(&[Second { queue_ms: 800, ..second() }]), Quality::Poor);
        assert_eq!(quality(&[Second { missing: 1, ..second() }]), Quality::Good);
        assert_eq!(quality(&[Second { silent: 9, ..second() }]), Quality::Poor);
    }

    #[test]
    fn a_pause_is_poor_and_a_moment_of_a_smaller_picture_is_nothing() {
        let paused = Second { paused: 1, ..second() };
        let lowered = Second { lowered: 1, ..second() };
        assert_eq!(quality(&[second(), paused, second(), second(), second()]), Quality::Poor);
        assert_eq!(quality(&[paused, second(), second(), second(), second(), second()]), Quality::Excellent);
        assert_eq!(quality(&[lowered, lowered, second(), second(), second()]), Quality::Excellent);
        assert_eq!(quality(&[lowered, lowered, lowered, second(), second()]), Quality::Good);
    }

    #[test]
    fn getting_better_takes_more_than_staying() {
        assert_eq!(judge(4.3, None), Quality::Excellent);
        assert_eq!(judge(4.3, Some(Quality::Good)), Quality::Good);
        assert_eq!(judge(4.5, Some(Quality::Good)), Quality::Excellent);
        assert_eq!(judge(3.3, Some(Quality::Poor)), Quality::Poor);
        assert_eq!(judge(5.0, Some(Quality::Poor)), Quality::Excellent);
        assert_eq!(judge(1.0, Some(Quality::Excellent)), Quality::Poor);
    }
}
