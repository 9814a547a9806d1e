//! The named scenarios of poor links, run in virtual time and scored.
//!
//! - [`call`] is a call with one participant behind a poor link, [`beside`] puts more viewers there; [`score`] makes
//!   figures of what was noted in it.
//! - [`scenario`] names the calls, [`mobile`] makes the links of some; [`table`] and [`plot`] write what came out.
//!
//! The same seeds give the same digest.

pub mod beside;
pub mod call;
pub mod flicker;
pub mod mobile;
pub mod plot;
pub mod scenario;
pub mod score;
pub mod table;

pub use call::Policy;
pub use scenario::{Scenario, scenarios};

use std::path::PathBuf;

/// What to run.
#[derive(Clone, Debug)]
pub struct Order {
    /// Scenarios whose name contains this.
    pub only: Option<String>,
    pub seed: u64,
    pub runs: u64,
    pub policies: Vec<Policy>,
    /// Where plots of the first seed go.
    pub plots: Option<PathBuf>,
    /// Runs at once.
    pub jobs: usize,
}

/// Runs what is ordered and returns the table in Markdown and the digest of all runs.
pub fn run(order: &Order) -> std::io::Result<(String, u64)> {
    let seeds = order.seed..order.seed + order.runs;
    let wanted = |scenario: &Scenario| order.only.as_ref().is_none_or(|only| scenario.name.contains(only.as_str()));
    let chosen: Vec<(u64, Vec<Scenario>)> =
        seeds.map(|seed| (seed, scenarios(seed).into_iter().filter(wanted).collect())).collect();
    let mut runs: Vec<(&Scenario, Policy, u64)> = Vec::new();
    for at in 0..chosen.first().map_or(0, |(_, scenarios)| scenarios.len()) {
        for &policy in &order.policies {
            runs.extend(chosen.iter().map(|(seed, scenarios)| (&scenarios[at], policy, *seed)));
        }
    }
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::Mutex::new(std::collections::BTreeMap::new());
    let failed = std::sync::Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..order.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(&(scenario, policy, seed)) = runs.get(index) else { return };
                    let record = call::run(&scenario.call, policy, seed);
                    if let (Some(folder), true) = (&order.plots, seed == order.seed)
                        && let Err(error) = plot::write(folder, scenario, policy, &record)
                    {
                        *failed.lock().expect("no run panicked") = Some(error);
                    }
                    let score = score::score(scenario, &record);
                    done.lock().expect("no run panicked").insert(index, (score, record.digest));
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().expect("no run panicked") {
        return Err(error);
    }
    let done = done.into_inner().expect("no run panicked");
    let mut digest = std::hash::DefaultHasher::new();
    let mut rows: Vec<table::Row> = Vec::new();
    for (index, (score, run_digest)) in done {
        std::hash::Hasher::write_u64(&mut digest, run_digest);
        let (scenario, policy, _) = runs[index];
        match rows.last_mut().filter(|row| row.scenario == scenario.name && row.policy == policy) {
            Some(row) => row.scores.push(score),
            None => rows.push(table::Row { scenario: scenario.name.clone(), policy, scores: vec![score] }),
        }
    }
    Ok((table::markdown(&rows) + &table::publisher_apart(&rows), std::hash::Hasher::finish(&digest)))
}
