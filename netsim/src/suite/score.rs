//! Figures of a run.

use std::time::Duration;

use super::call::{Poor, Record, SAMPLE, Sample};
use super::scenario::Scenario;

#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    /// Audio that was made up, in percent.
    pub concealed: f64,
    /// More than 200 ms without a sound, per minute.
    pub gaps_per_minute: f64,
    /// Frames of the speaker per second.
    pub frames_per_second: f64,
    /// The share of time in which the speaker's picture stood, in percent: gaps above the larger of three mean frames
    /// and 150 ms above one.
    pub frozen: f64,
    /// From the viewer's coming.
    pub first_audio_s: Option<f64>,
    pub first_frame_s: Option<f64>,
    /// From the end of a drop until a second's mean rate is 90 % of that of the ten seconds before the drop, and stays
    /// for five.
    pub recovered_s: Option<f64>,
    /// Of the queue before the poor link.
    pub queue_p95_ms: f64,
    /// What arrived of media (repairs and padding included) beside the smaller of the link's rate and of what the media
    /// can use (all of it while something is downloaded); of a poor viewer's link alone.
    pub utilisation: Option<f64>,
    /// Visible changes of any video's encoding, pauses included, per minute.
    pub switches_per_minute: f64,
    /// When the speaker's largest encoding was first shown, from the viewer's coming.
    pub top_layer_s: Option<f64>,
    pub keyframes_per_minute: f64,
    /// What does not come from a poor publisher: bit/s, and the first two videos' frames per second.
    pub apart: [f64; 3],
    /// Jain's index of the flows through one link while all are there.
    pub fairness: Option<f64>,
    /// The call's part of what passes through the link while something is downloaded.
    pub beside_tcp: Option<f64>,
}

pub fn score(scenario: &Scenario, record: &Record) -> Score {
    let (from, to) = (scenario.scored.start, scenario.scored.end);
    let seconds = (to - from).as_secs_f64();
    let (concealed, pieces, gaps) = record.net_eq.heard.between(record.began + from, record.began + to);
    let shown = record.shown.first().map(Vec::as_slice).unwrap_or_default();
    let frames: Vec<Duration> = shown.iter().map(|(at, _)| *at).filter(|at| (from..to).contains(at)).collect();
    let samples = record.between(from, to);
    let mut queues: Vec<f64> = samples.iter().map(|sample| sample.queue.as_secs_f64() * 1e3).collect();
    queues.sort_by(f64::total_cmp);
    let switches: usize = (0..3)
        .map(|video| samples.windows(2).filter(|pair| pair[0].layers[video] != pair[1].layers[video]).count())
        .sum();
    let beside = &scenario.call.beside;
    let through = |sample: &Sample| sample.received_bps + sample.beside_bps.iter().sum::<u64>();
    let carried: f64 = samples.iter().map(|sample| (through(sample) + sample.tcp_bps) as f64).sum();
    let downloading = || samples.iter().filter(|sample| sample.is_downloading);
    let tcp: f64 = downloading().map(|sample| sample.tcp_bps as f64).sum();
    let call: f64 = downloading().map(|sample| through(sample) as f64).sum();
    let media = scenario.call.media_bps();
    let moments = (0..).map(|index| from + SAMPLE * index);
    let watching = |at: Duration| beside.iter().filter(|beside| beside.watches(at)).count();
    let usable: f64 = moments
        .clone()
        .zip(samples)
        .map(|(at, sample)| {
            let wanted = if sample.is_downloading { u64::MAX } else { media * (1 + watching(at)) as u64 };
            sample.capacity_bps.min(wanted) as f64
        })
        .sum();
    let together = moments.zip(samples).filter(|(at, _)| watching(*at) == beside.len()).map(|(_, sample)| sample);
    let apart: f64 = samples.iter().map(|sample| sample.apart_bps as f64).sum();
    let rate_of = |video: usize| {
        let shown = record.shown.get(video).map(Vec::as_slice).unwrap_or_default();
        shown.iter().filter(|(at, _)| (from..to).contains(at)).count() as f64 / seconds
    };
    let heard = record.net_eq.heard.began.map(|at| at.saturating_duration_since(record.began).as_secs_f64());
    let whole = record.samples.len() as f64 / 600.0;
    Score {
        concealed: if pieces == 0 { 100.0 } else { 100.0 * f64::from(concealed) / f64::from(pieces) },
        gaps_per_minute: f64::from(gaps) * 60.0 / seconds,
        frames_per_second: frames.len() as f64 / seconds,
        frozen: 100.0 * frozen(&frames, from, to) / seconds,
        first_audio_s: heard,
        first_frame_s: shown.first().map(|(at, _)| at.as_secs_f64()),
        recovered_s: scenario.drop.as_ref().and_then(|drop| recovery(record, drop.start, drop.end)),
        queue_p95_ms: queues.get(queues.len() * 95 / 100).copied().unwrap_or(0.0),
        utilisation: (scenario.call.poor == Poor::Viewer && usable > 0.0).then(|| carried / usable),
        switches_per_minute: switches as f64 * 60.0 / seconds,
        top_layer_s: shown.iter().find(|(_, frame)| frame.encoding == 2).map(|(at, _)| at.as_secs_f64()),
        keyframes_per_minute: record.keyframes_asked as f64 / whole.max(1e-9),
        apart: [apart / samples.len().max(1) as f64, rate_of(0), rate_of(1)],
        fairness: (!beside.is_empty()).then(|| fairness(together, beside.len())),
        beside_tcp: (tcp > 0.0).then(|| call / (call + tcp)),
    }
}

/// Seconds in which the picture stood.
fn frozen(frames: &[Duration], from: Duration, to: Duration) -> f64 {
    let mean = (to - from).as_secs_f64() / frames.len().max(1) as f64;
    // With hardly a frame there is no rhythm to measure by.
    let mean = mean.min(0.5);
    let limit = (3.0 * mean).max(mean + 0.15);
    let ends = [from].into_iter().chain(frames.iter().copied()).chain([to]);
    let moments: Vec<Duration> = ends.collect();
    moments
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .filter(|gap| *gap > limit)
        .fold(0.0, |sum, gap| sum + gap)
}

/// (Σ rate)² / (n · Σ rate²): 1 when all have the same.
fn fairness<'a>(samples: impl Iterator<Item = &'a Sample>, beside: usize) -> f64 {
    let mut rates = vec![0.0; 1 + beside];
    for sample in samples {
        let of_sample = [sample.received_bps].into_iter().chain(sample.beside_bps);
        rates.iter_mut().zip(of_sample).for_each(|(rate, bps)| *rate += bps as f64);
    }
    let (sum, squares) = (rates.iter().sum::<f64>(), rates.iter().map(|rate| rate * rate).sum::<f64>());
    sum * sum / (rates.len() as f64 * squares).max(f64::MIN_POSITIVE)
}

fn recovery(record: &Record, from: Duration, to: Duration) -> Option<f64> {
    let mean = |from: Duration, to: Duration| {
        let samples = record.between(from, to);
        samples.iter().map(|sample| sample.received_bps as f64).sum::<f64>() / samples.len().max(1) as f64
    };
    let second = Duration::from_secs(1);
    let before = mean(from.saturating_sub(10 * second), from);
    let mut end = to + second;
    let last = SAMPLE * record.samples.len() as u32;
    while end + 5 * second <= last {
        let holds = (0..=5).all(|later| mean(end + second * later - second, end + second * later) >= 0.9 * before);
        if holds {
            return Some((end - to).as_secs_f64());
        }
        end += SAMPLE;
    }
    None
}
