//! Scenario E: the rate of a mobile link, second by second.
//!
//! A Markov chain walks over a few levels of rate, each step to a neighbour or not at all. The acceptance rule of Metropolis
//! makes each level's share of the time the one that stands in the table, so mean and poor share follow from it. At the
//! lowest level nothing passes; such a gap has a longest duration.

use datapath::Entropy;

use crate::loss::unit;

/// The statistics that a trace has in the long run.
#[derive(Clone, Copy, Debug)]
pub struct Mobile {
    pub name: &'static str,
    /// kbit/s and the share of the seconds, from the lowest on.
    levels: &'static [(f64, f64)],
    /// Seconds without anything, at most.
    longest_gap: usize,
}

/// 3G of the CDMA family: 0.52 Mbit/s, 26 % of the seconds below 0.2.
pub const EVDO: Mobile = Mobile {
    name: "EVDO",
    levels: &[(0.0, 0.06), (100.0, 0.20), (300.0, 0.22), (500.0, 0.18), (800.0, 0.22), (1400.0, 0.12)],
    longest_gap: 11,
};

/// 2.03 Mbit/s, 11 % below 0.2.
pub const UMTS: Mobile = Mobile {
    name: "UMTS",
    levels: &[(0.0, 0.04), (100.0, 0.07), (800.0, 0.15), (1600.0, 0.24), (2600.0, 0.30), (3700.0, 0.20)],
    longest_gap: 5,
};

/// 4.57 Mbit/s, the poorest twentieth of the seconds below 0.59.
pub const LTE: Mobile = Mobile {
    name: "LTE",
    levels: &[(300.0, 0.04), (600.0, 0.06), (2000.0, 0.20), (4000.0, 0.30), (6300.0, 0.25), (9000.0, 0.15)],
    longest_gap: 0,
};

/// Towards the network: 0.84 Mbit/s, 15 % below 0.2.
pub const LTE_UP: Mobile = Mobile {
    name: "LTE up",
    levels: &[(100.0, 0.15), (400.0, 0.20), (800.0, 0.25), (1200.0, 0.25), (1650.0, 0.15)],
    longest_gap: 0,
};

/// How often a step to another level is tried.
const RESTLESSNESS: f64 = 0.6;

impl Mobile {
    /// The rate of each second, in kbit/s.
    pub fn trace(&self, seed: u64, seconds: usize) -> Vec<u64> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        for (byte, letter) in bytes[8..].iter_mut().zip(self.name.bytes()) {
            *byte = letter;
        }
        let mut chance = Entropy::from_seed(bytes);
        let mut level = self.drawn(unit(&mut chance));
        let mut gap = 0;
        let mut rates = Vec::with_capacity(seconds);
        for _ in 0..seconds {
            let (rate, _) = self.levels[level];
            gap = if rate == 0.0 { gap + 1 } else { 0 };
            // Within a level the rate trembles.
            rates.push((rate * (0.9 + 0.2 * unit(&mut chance))) as u64);
            let (tries, side, accepts) = (unit(&mut chance), unit(&mut chance), unit(&mut chance));
            let next = if side < 0.5 { level.checked_sub(1) } else { Some(level + 1) };
            if let Some(next) = next.filter(|&next| next < self.levels.len())
                && tries < RESTLESSNESS
                && accepts < self.levels[next].1 / self.levels[level].1
            {
                level = next;
            }
            if gap > 0 && gap == self.longest_gap {
                level = level.max(1);
            }
        }
        rates
    }

    /// A level by its share.
    fn drawn(&self, mut fate: f64) -> usize {
        for (level, (_, share)) in self.levels.iter().enumerate() {
            fate -= share;
            if fate < 0.0 {
                return level;
            }
        }
        self.levels.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean in Mbit/s, share below 0.2, fifth percentile, longest run of nothing.
    fn statistics(mobile: Mobile) -> (f64, f64, f64, usize) {
        let mut rates = mobile.trace(1, 100_000);
        let count = rates.len() as f64;
        let mean = rates.iter().sum::<u64>() as f64 / count / 1000.0;
        let poor = rates.iter().filter(|&&rate| rate < 200).count() as f64 / count;
        let longest = rates.split(|&rate| rate > 0).map(<[u64]>::len).max().unwrap_or(0);
        rates.sort_unstable();
        (mean, poor, rates[rates.len() / 20] as f64 / 1000.0, longest)
    }

    #[test]
    fn traces_are_as_poor_as_the_networks_they_are_named_after() {
        let near = |figure: f64, goal: f64, by: f64| assert!((figure - goal).abs() <= by, "{figure} for {goal}");
        let (mean, poor, _, longest) = statistics(EVDO);
        near(mean, 0.52, 0.03);
        near(poor, 0.26, 0.02);
        assert_eq!(longest, 11);
        let (mean, poor, _, longest) = statistics(UMTS);
        near(mean, 2.03, 0.1);
        near(poor, 0.11, 0.02);
        assert_eq!(longest, 5);
        let (mean, _, fifth, _) = statistics(LTE);
        near(mean, 4.57, 0.2);
        near(fifth, 0.59, 0.06);
        let (mean, poor, _, _) = statistics(LTE_UP);
        near(mean, 0.84, 0.04);
        near(poor, 0.15, 0.02);
    }

    #[test]
    fn a_seed_is_a_trace() {
        assert_eq!(EVDO.trace(3, 500), EVDO.trace(3, 500));
        assert_ne!(EVDO.trace(3, 500), EVDO.trace(4, 500));
    }
}
