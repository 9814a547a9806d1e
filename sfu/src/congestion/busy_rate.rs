//! What a link carries while a queue stands before it, by the packets that waited.
//!
//! Between two packets that both waited the link was never idle, so what arrived there is all that it gives. What arrives
//! over a longer time says less: a queue of a picture's burst is over before that mean has risen, and a link that has become
//! narrower is known as such only when it has fallen.

use std::collections::VecDeque;

/// A packet that took so much longer than the fastest has waited.
const WAITED_US: i64 = 15_000;
/// The last packets that waited in one piece are looked at, over at most so long; fewer, or over less, say nothing.
const WINDOW_US: i64 = 250_000;
const WINDOW_MIN_US: i64 = 60_000;
const PACKETS_MIN: usize = 8;
const PACKETS_MAX: usize = 4_096;

#[derive(Clone, Debug, Default)]
pub struct BusyRate {
    arrivals: VecDeque<(i64, u32)>,
    octets: u64,
}

impl BusyRate {
    /// A packet that arrived, in the order of sending, and how much longer it took than the fastest.
    pub fn receive(&mut self, arrival_us: i64, octets: u32, waited_us: i64) {
        if waited_us < WAITED_US {
            return self.clear();
        }
        if self.arrivals.back().is_some_and(|(last, _)| arrival_us < *last) {
            self.clear();
        }
        self.arrivals.push_back((arrival_us, octets));
        self.octets += u64::from(octets);
        let from = arrival_us - WINDOW_US;
        while self.arrivals.len() > PACKETS_MAX || self.arrivals.front().is_some_and(|(at, _)| *at < from) {
            let (_, octets) = self.arrivals.pop_front().expect("it is not empty");
            self.octets -= u64::from(octets);
        }
    }

    /// In bit/s; `None` unless the last packets have waited.
    pub fn bps(&self) -> Option<f64> {
        let (&(first, octets), &(last, _)) = (self.arrivals.front()?, self.arrivals.back()?);
        let tells = self.arrivals.len() >= PACKETS_MIN && last - first >= WINDOW_MIN_US;
        tells.then(|| (self.octets - u64::from(octets)) as f64 * 8e6 / (last - first) as f64)
    }

    /// Another path.
    pub fn clear(&mut self) {
        self.arrivals.clear();
        self.octets = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over a link of 2 Mbit/s: 1250 octets every 5 ms at most.
    const PACKET_US: i64 = 5_000;

    #[test]
    fn a_burst_says_at_once_what_the_link_carries() {
        let mut rate = BusyRate::default();
        for index in 0..100 {
            rate.receive(index * 20_000, 1250, 0);
        }
        assert_eq!(rate.bps(), None, "a quarter of it, and nothing waited");
        for index in 0..20 {
            rate.receive(2_000_000 + index * PACKET_US, 1250, 5_000 + index * 4_000);
        }
        assert_eq!(rate.bps(), Some(2e6));
        rate.receive(2_200_000, 1250, 0);
        assert_eq!(rate.bps(), None);
    }

    #[test]
    fn a_link_that_became_narrower_is_known_within_a_quarter_of_a_second() {
        let mut rate = BusyRate::default();
        for index in 0..100 {
            rate.receive(index * PACKET_US, 1250, 50_000);
        }
        for index in 1..=14 {
            rate.receive(495_000 + index * 4 * PACKET_US, 1250, 50_000);
        }
        assert_eq!(rate.bps(), Some(5e5));
    }

    #[test]
    fn what_it_remembers_is_bounded() {
        let mut rate = BusyRate::default();
        (0..100_000).for_each(|_| rate.receive(0, 1250, 50_000));
        assert_eq!((rate.arrivals.len(), rate.bps()), (PACKETS_MAX, None));
    }
}
