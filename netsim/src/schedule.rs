//! The schedule file of a link (TOML).
//!
//! ```toml
//! seed = 7
//!
//! [[both]]              # or [[a_to_b]] and [[b_to_a]]
//! rate_kbps = 10000
//! queue_ms = 300
//! delay_ms = 15
//!
//! [[both]]              # a step inherits what it does not state
//! at_s = 10
//! rate_kbps = 200
//! queue_ms = 500
//! delay_ms = 150
//! loss_percent = 10
//! loss_burst = 3        # mean length in packets; without it losses are independent
//! ```

use std::time::Duration;

use serde::Deserialize;

use crate::link::{Settings, Step};
use crate::loss::Loss;

/// Both directions of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub seed: u64,
    pub a_to_b: Vec<Step>,
    pub b_to_a: Vec<Step>,
}

impl Default for Schedule {
    /// A perfect link.
    fn default() -> Schedule {
        Schedule { seed: 1, a_to_b: Vec::new(), b_to_a: Vec::new() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "one")]
    seed: u64,
    #[serde(default)]
    a_to_b: Vec<Row>,
    #[serde(default)]
    b_to_a: Vec<Row>,
    /// For a direction without a list of its own.
    #[serde(default)]
    both: Vec<Row>,
}

fn one() -> u64 {
    1
}

/// One step as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    #[serde(default)]
    at_s: f64,
    rate_kbps: Option<Rate>,
    queue_ms: Option<f64>,
    delay_ms: Option<f64>,
    jitter_ms: Option<f64>,
    loss_percent: Option<f64>,
    loss_burst: Option<f64>,
    gilbert_elliott: Option<GilbertElliott>,
    duplicate_percent: Option<f64>,
    reorder_percent: Option<f64>,
    reorder_by_ms: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Rate {
    Kbps(f64),
    Word(String),
}

/// Probabilities per packet, 0 to 1.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GilbertElliott {
    good_to_bad: f64,
    bad_to_good: f64,
    loss_good: f64,
    loss_bad: f64,
}

impl Schedule {
    /// Reads a schedule. The error names the key, its value and the fix.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let a_to_b = if file.a_to_b.is_empty() { &file.both } else { &file.a_to_b };
        let b_to_a = if file.b_to_a.is_empty() { &file.both } else { &file.b_to_a };
        Ok(Schedule { seed: file.seed, a_to_b: steps(a_to_b)?, b_to_a: steps(b_to_a)? })
    }
}

fn steps(rows: &[Row]) -> Result<Vec<Step>, String> {
    let mut settings = Settings::default();
    // The share and the mean burst of the loss are inherited one by one.
    let (mut share, mut burst) = (0.0, None);
    let mut steps: Vec<Step> = Vec::new();
    for row in rows {
        let at = seconds("at_s", row.at_s)?;
        if steps.last().is_some_and(|last| last.at >= at) {
            return Err(format!(
                "at_s = {}: steps must be in the order of time, each later than the one before",
                row.at_s
            ));
        }
        match &row.rate_kbps {
            None => {}
            Some(Rate::Kbps(rate)) if (0.0..=1e8).contains(rate) => {
                settings.rate_bps = Some((rate * 1000.0) as u64);
            }
            Some(Rate::Kbps(rate)) => {
                return Err(format!("rate_kbps = {rate}: give 0 to 100000000, or \"unlimited\""));
            }
            Some(Rate::Word(word)) if word == "unlimited" => settings.rate_bps = None,
            Some(Rate::Word(word)) => {
                return Err(format!("rate_kbps = \"{word}\": give a number, or \"unlimited\""));
            }
        }
        milliseconds("queue_ms", row.queue_ms, &mut settings.queue)?;
        milliseconds("delay_ms", row.delay_ms, &mut settings.delay)?;
        milliseconds("jitter_ms", row.jitter_ms, &mut settings.jitter)?;
        milliseconds("reorder_by_ms", row.reorder_by_ms, &mut settings.reorder_by)?;
        percent("duplicate_percent", row.duplicate_percent, &mut settings.duplicate)?;
        percent("reorder_percent", row.reorder_percent, &mut settings.reorder)?;
        percent("loss_percent", row.loss_percent, &mut share)?;
        burst = row.loss_burst.or(burst);
        if let Some(chain) = &row.gilbert_elliott {
            settings.loss = chain.loss()?;
        } else if row.loss_percent.is_some() || row.loss_burst.is_some() {
            settings.loss = match burst {
                Some(burst) => Loss::bursts(share, burst).ok_or(format!(
                    "loss_burst = {burst} with loss_percent = {}: give a mean length of at least 1 \
                     (and at least loss / (100 - loss))",
                    share * 100.0
                ))?,
                None => Loss::Bernoulli(share),
            };
        }
        steps.push(Step { at, settings });
    }
    Ok(steps)
}

impl GilbertElliott {
    fn loss(&self) -> Result<Loss, String> {
        for (key, value) in [
            ("good_to_bad", self.good_to_bad),
            ("bad_to_good", self.bad_to_good),
            ("loss_good", self.loss_good),
            ("loss_bad", self.loss_bad),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("gilbert_elliott.{key} = {value}: give a probability, 0 to 1"));
            }
        }
        Ok(Loss::GilbertElliott {
            good_to_bad: self.good_to_bad,
            bad_to_good: self.bad_to_good,
            loss_good: self.loss_good,
            loss_bad: self.loss_bad,
        })
    }
}

fn seconds(key: &str, value: f64) -> Result<Duration, String> {
    if !(0.0..=1e6).contains(&value) {
        return Err(format!("{key} = {value}: give seconds, 0 to 1000000"));
    }
    Ok(Duration::from_secs_f64(value))
}

fn milliseconds(key: &str, value: Option<f64>, field: &mut Duration) -> Result<(), String> {
    if let Some(value) = value {
        if !(0.0..=1e6).contains(&value) {
            return Err(format!("{key} = {value}: give milliseconds, 0 to 1000000"));
        }
        *field = Duration::from_secs_f64(value / 1e3);
    }
    Ok(())
}

fn percent(key: &str, value: Option<f64>, field: &mut f64) -> Result<(), String> {
    if let Some(value) = value {
        if !(0.0..=100.0).contains(&value) {
            return Err(format!("{key} = {value}: give a percentage, 0 to 100"));
        }
        *field = value / 100.0;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_inherit_and_directions_may_differ() {
        let schedule = Schedule::parse(
            "seed = 9
             [[both]]
             rate_kbps = 10000
             delay_ms = 15
             [[both]]
             at_s = 10
             rate_kbps = 200
             loss_percent = 10
             [[both]]
             at_s = 40.5
             rate_kbps = 'unlimited'
             loss_burst = 3
             [[b_to_a]]
             delay_ms = 1",
        )
        .unwrap();
        assert_eq!(schedule.seed, 9);
        assert_eq!(schedule.b_to_a.len(), 1);
        let [first, second, third] = schedule.a_to_b[..] else {
            panic!("{schedule:?}");
        };
        assert_eq!(first.settings.rate_bps, Some(10_000_000));
        assert_eq!(second.at, Duration::from_secs(10));
        assert_eq!(second.settings.delay, Duration::from_millis(15));
        assert_eq!(second.settings.loss, Loss::Bernoulli(0.1));
        assert_eq!(third.settings.rate_bps, None);
        assert_eq!(Some(third.settings.loss), Loss::bursts(0.1, 3.0));
    }

    #[test]
    fn a_wrong_value_names_the_key_and_the_fix() {
        for (text, parts) in [
            ("[[both]]\nloss_percent = 120", ["loss_percent = 120", "0 to 100"]),
            ("[[both]]\nrate_kbps = 'fast'", ["rate_kbps = \"fast\"", "unlimited"]),
            ("[[both]]\ndelay_ms = -1", ["delay_ms = -1", "milliseconds"]),
            ("[[both]]\nrate = 1", ["rate", "rate_kbps"]),
            ("[[both]]\nat_s = 2\n[[both]]\nat_s = 1", ["at_s = 1", "order of time"]),
            ("[[both]]\nloss_percent = 5\nloss_burst = 0.1", ["loss_burst = 0.1", "at least 1"]),
        ] {
            let error = Schedule::parse(text).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{error}");
            }
        }
    }
}
