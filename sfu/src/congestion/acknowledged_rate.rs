//! The rate at which packets arrive at a subscriber, by its feedback.

use std::collections::VecDeque;

/// Rates are taken over so long, on the receiver's clock; the short one notices a fall.
const LONG_US: i64 = 600_000;
const SHORT_US: i64 = 250_000;
/// The short rate counts when it is lower than this part of the long one.
const FALL: f64 = 0.6;
const PACKETS_MAX: usize = 8_192;

#[derive(Clone, Debug, Default)]
pub struct AcknowledgedRate {
    arrivals: VecDeque<(i64, u32)>,
    octets: u64,
    /// The first arrival after a gap: a window is not longer than this.
    began: Option<i64>,
}

impl AcknowledgedRate {
    pub fn receive(&mut self, arrival_us: i64, octets: u32) {
        let last = self.arrivals.back().map(|(at, _)| *at);
        let is_anew = last.is_none_or(|last| (arrival_us - last).abs() > 2 * LONG_US);
        if is_anew {
            self.arrivals.clear();
            self.octets = 0;
            self.began = Some(arrival_us);
        }
        // One that was overtaken counts as of now, so that the window is in order.
        let arrival_us = last.filter(|_| !is_anew).map_or(arrival_us, |last| last.max(arrival_us));
        match self.arrivals.back_mut().filter(|(at, _)| *at == arrival_us) {
            // A train arrives at once.
            Some((_, sum)) => *sum = sum.saturating_add(octets),
            None => self.arrivals.push_back((arrival_us, octets)),
        }
        self.octets += u64::from(octets);
        let from = arrival_us - LONG_US;
        while self.arrivals.front().is_some_and(|(at, _)| *at <= from) || self.arrivals.len() > PACKETS_MAX {
            let (_, octets) = self.arrivals.pop_front().expect("it is not empty");
            self.octets -= u64::from(octets);
        }
    }

    /// In bit/s; `None` before there is half a window.
    pub fn bps(&self) -> Option<f64> {
        let &(newest, _) = self.arrivals.back()?;
        let age = newest - self.began?;
        if age < SHORT_US {
            return None;
        }
        let long = self.octets as f64 * 8e6 / age.min(LONG_US) as f64;
        let within = self.arrivals.iter().rev().take_while(|(at, _)| *at > newest - SHORT_US);
        let short = within.map(|(_, octets)| f64::from(*octets)).sum::<f64>() * 8e6 / SHORT_US as f64;
        Some(if short < long * FALL { short } else { long })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_arrivals() {
        let mut rate = AcknowledgedRate::default();
        for index in 0..50 {
            rate.receive(index * 10_000, 1250);
        }
        let bps = rate.bps().unwrap();
        assert!((0.95e6..1.1e6).contains(&bps), "{bps}");
        // A fall to a tenth is seen after a quarter of a second.
        for index in 0..3 {
            rate.receive(500_000 + index * 100_000, 1250);
        }
        let bps = rate.bps().unwrap();
        assert!((0.9e5..3.0e5).contains(&bps), "{bps}");
        // Nothing for long: it begins anew.
        rate.receive(5_000_000, 1250);
        assert_eq!(rate.bps(), None);
    }
}
