//! Scenario D: an estimate that swings for seven minutes, and how often six pictures visibly change with it.
//!
//! The generator makes such an estimate as long recordings of bad links show: between 33 kbit/s and 1.6 Mbit/s, minutes of
//! slow growth, falls by a third and more, and short spikes.

use std::time::Duration;

use datapath::Entropy;
use sfu::congestion::{Choice, Room, Steady, VideoDemand, allocate};

use crate::loss::unit;

/// Between two estimates.
const STEP: Duration = Duration::from_millis(250);
const STEPS: usize = 7 * 60 * 4;
const LOWEST: f64 = 33_000.0;
const HIGHEST: f64 = 1_600_000.0;

/// The estimates of a seed, in bit/s, one every `STEP`.
pub fn estimates(seed: u64) -> Vec<u64> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut chance = Entropy::from_seed(bytes);
    let (mut rate, mut growth) = (300_000.0f64, 1.01);
    let mut estimates = Vec::with_capacity(STEPS);
    for _ in 0..STEPS {
        let event = unit(&mut chance);
        if event < 0.006 {
            // Congestion: a fall, and slow growth after it.
            rate *= 0.3 + 0.5 * unit(&mut chance);
            growth = 1.0 + 0.015 * unit(&mut chance);
        } else if event < 0.009 {
            // A probe found more.
            rate *= 1.5 + unit(&mut chance);
        } else if event < 0.02 {
            growth = 0.995 + 0.02 * unit(&mut chance);
        }
        rate = (rate * growth).clamp(LOWEST, HIGHEST);
        // Estimates tremble.
        estimates.push((rate * (0.96 + 0.08 * unit(&mut chance))) as u64);
    }
    estimates
}

/// Visible changes (of an encoding, or a pause) over all six pictures, one of them large.
pub fn changes(seed: u64) -> u32 {
    let now = crate::world::World::new(seed).now().instant;
    let camera = VideoDemand {
        cost_bps: [Some(160_000), Some(620_000), Some(1_750_000)],
        shares: [Some([0.4, 0.7, 1.0]); 3],
        highest: 0,
        ..VideoDemand::default()
    };
    let mut demands = [camera; 6];
    demands[0].highest = 2;
    demands[0].importance = 4;
    let mut steady = Steady::default();
    let mut changes = 0;
    for (index, bps) in estimates(seed).into_iter().enumerate() {
        steady.take(now + STEP * index as u32, bps);
        let room = Room {
            now_bps: bps,
            steady_bps: steady.bps(),
            held_bps: steady.held_bps(),
            last_bps: bps,
            may_pause: true,
        };
        allocate(room, &mut demands);
        let (mut is_up, mut is_down) = (false, false);
        for demand in &mut demands {
            let encoding = |choice: Option<Choice>| choice.map(|choice| choice.encoding);
            let (before, after) = (encoding(demand.current), encoding(demand.chosen));
            changes += u32::from(index > 0 && before != after);
            is_up |= after > before;
            is_down |= after < before;
            demand.current = demand.chosen;
        }
        steady.note_steps(now + STEP * index as u32, is_up, is_down);
    }
    changes
}
