//! A link that becomes much narrower in a moment, told by a handful of packets.
//!
//! A trend needs many groups of packets, and a queue of 300 ms at a tenth of the rate is full after 30 ms. The few packets
//! that come through in the next tenth of a second already say all: they were sent together and arrived far apart.

use std::collections::VecDeque;

/// The last arrivals that are looked at, and how many of them must tell the same.
const ARRIVALS: usize = 8;
const ARRIVALS_MIN: usize = 5;
/// The last one waited so much longer than the first,
const RISE_US: i64 = 60_000;
/// and they arrived over this many times the time in which they were sent,
const STRETCH: i64 = 3;
/// one by one: a link that only stood still gives all of them back at once, so no gap is longer than this part of the whole.
const GAP: f64 = 0.5;

#[derive(Clone, Debug, Default)]
pub struct Collapse {
    /// When they were sent and when they arrived, and their octets.
    arrivals: VecDeque<(i64, i64, u32)>,
}

impl Collapse {
    /// A packet that arrived, in the order of sending.
    pub fn receive(&mut self, sent_us: i64, arrival_us: i64, octets: u32) {
        if self.arrivals.len() == ARRIVALS {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back((sent_us, arrival_us, octets));
    }

    /// What still comes through, in bit/s; `None` if the last arrivals do not say that the link has become narrower.
    pub fn carried_bps(&self) -> Option<f64> {
        // All may have been well at first.
        let (least, _) = self.arrivals.iter().enumerate().min_by_key(|(_, (sent, arrival, _))| arrival - sent)?;
        let told = || self.arrivals.iter().skip(least);
        let (&(first_sent, first, _), &(last_sent, last, _)) = (told().next()?, told().last()?);
        let gap = told().zip(told().skip(1)).map(|((_, before, _), (_, after, _))| after - before).max()?;
        let tells = told().count() >= ARRIVALS_MIN
            && (last - last_sent) - (first - first_sent) >= RISE_US
            && last - first >= STRETCH * (last_sent - first_sent)
            && gap as f64 <= GAP * (last - first) as f64;
        let octets: f64 = told().skip(1).map(|(.., octets)| f64::from(*octets)).sum();
        tells.then(|| octets * 8e6 / (last - first) as f64)
    }

    /// Another path.
    pub fn clear(&mut self) {
        self.arrivals.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of 1000 octets by the times of sending and arriving in milliseconds.
    fn told(packets: impl IntoIterator<Item = (i64, i64)>) -> Option<f64> {
        let mut collapse = Collapse::default();
        packets.into_iter().for_each(|(sent, arrival)| collapse.receive(sent * 1_000, arrival * 1_000, 1000));
        collapse.carried_bps().map(f64::round)
    }

    #[test]
    fn packets_sent_together_that_arrive_far_apart() {
        let ramp = || (0..6).map(|index| (index * 3, 20 + index * 32));
        assert_eq!(told(ramp()), Some(250_000.0));
        assert_eq!(told((0..20).map(|index| (index * 3 - 60, index * 3 - 40)).chain(ramp())), Some(337_349.0));
        assert_eq!(told(ramp().take(4)), None);
        assert_eq!(told((0..6).map(|index| (index * 30, 20 + index * 32))), None, "as they were sent");
    }

    #[test]
    fn a_link_that_stood_still_is_not_narrower() {
        for stands_at in 0..8 {
            let burst = (0..8).map(|index| (index * 10, if index < stands_at { 20 + index * 10 } else { 200 + index }));
            assert_eq!(told(burst), None);
        }
    }
}
