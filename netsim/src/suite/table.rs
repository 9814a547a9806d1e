//! The scores as a table.

use std::fmt::Write;

use super::call::Policy;
use super::score::Score;

#[derive(Clone, Debug)]
pub struct Row {
    pub scenario: String,
    pub policy: Policy,
    /// One per seed.
    pub scores: Vec<Score>,
}

/// What stands before the columns, per policy.
pub fn name(policy: Policy) -> &'static str {
    match policy {
        Policy::Ours => "Hausruf",
        Policy::Remb => "REMB, no pause (model)",
        Policy::Unadapted => "no adaptation",
    }
}

fn worst(scores: &[Score], figure: impl Fn(&Score) -> f64, higher_is_worse: bool) -> (f64, f64) {
    let mean = scores.iter().map(&figure).sum::<f64>() / scores.len().max(1) as f64;
    let pick = |a: f64, b: f64| if higher_is_worse { a.max(b) } else { a.min(b) };
    (mean, scores.iter().map(&figure).reduce(pick).unwrap_or(0.0))
}

fn maybe(scores: &[Score], figure: impl Fn(&Score) -> Option<f64>) -> String {
    let known: Vec<f64> = scores.iter().filter_map(&figure).collect();
    if known.len() < scores.len() {
        return if known.is_empty() { "–".into() } else { "– (some)".into() };
    }
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    let worst = known.iter().copied().fold(0.0, f64::max);
    format!("{mean:.1} ({worst:.1})")
}

/// A figure of which less is worse and that not every scenario has.
fn least(scores: &[Score], figure: impl Fn(&Score) -> Option<f64>, digits: usize) -> String {
    let known: Vec<f64> = scores.iter().filter_map(&figure).collect();
    if known.is_empty() {
        return "–".into();
    }
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    format!("{mean:.digits$} ({:.digits$})", known.iter().copied().fold(f64::INFINITY, f64::min))
}

/// Means over the seeds, and in brackets the worst seed.
pub fn markdown(rows: &[Row]) -> String {
    let mut out = String::from(
        "| scenario | server | audio concealed % | gaps > 200 ms /min | speaker's frames/s | frozen % | first audio s | \
         first frame s | top layer s | recovered s | queue p95 ms | of the usable rate % | switches/min | keyframes/min | fairness | beside TCP % |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        let scores = &row.scores;
        let figure = |figure: fn(&Score) -> f64, higher_is_worse, digits: usize| {
            let (mean, worst) = worst(scores, figure, higher_is_worse);
            format!("{mean:.digits$} ({worst:.digits$})")
        };
        let cells = [
            figure(|score| score.concealed, true, 1),
            figure(|score| score.gaps_per_minute, true, 1),
            figure(|score| score.frames_per_second, false, 1),
            figure(|score| score.frozen, true, 0),
            maybe(scores, |score| score.first_audio_s),
            maybe(scores, |score| score.first_frame_s),
            maybe(scores, |score| score.top_layer_s),
            maybe(scores, |score| score.recovered_s),
            figure(|score| score.queue_p95_ms, true, 0),
            least(scores, |score| score.utilisation.map(|share| 100.0 * share), 0),
            figure(|score| score.switches_per_minute, true, 0),
            figure(|score| score.keyframes_per_minute, true, 0),
            least(scores, |score| score.fairness, 2),
            least(scores, |score| score.beside_tcp.map(|share| 100.0 * share), 0),
        ];
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| {} | {} | {} |", row.scenario, name(row.policy), cells.join(" | "));
    }
    out
}

/// How far a publisher's poor link changes what everybody else sends to the viewer: per policy the largest change of a
/// figure against the faultless run, the worst seed.
pub fn publisher_apart(rows: &[Row]) -> String {
    let mut out = String::new();
    let of = |name: &str, policy| rows.iter().find(|row| row.scenario == name && row.policy == policy);
    for poor in rows.iter().filter(|row| row.scenario == "P6") {
        let Some(whole) = of("P6 faultless", poor.policy) else { continue };
        let pairs = || poor.scores.iter().zip(&whole.scores);
        let change = |figure: usize| {
            let of_seed =
                |(poor, whole): (&Score, &Score)| 100.0 * (poor.apart[figure] / whole.apart[figure] - 1.0).abs();
            pairs().map(of_seed).fold(0.0, f64::max)
        };
        let concealed = pairs().map(|(poor, whole)| (poor.concealed - whole.concealed).abs()).fold(0.0, f64::max);
        let _ = writeln!(
            out,
            "P6, {}: change for the others at most {:.2} % of the rate, {:.2} and {:.2} % of the frames, {concealed:.2} \
             points of audio",
            name(poor.policy),
            change(0),
            change(1),
            change(2)
        );
    }
    out
}
