//! Finding out what a link carries by short bursts of padding at a higher rate.
//!
//! [`Prober`] says when a cluster of packets is to be sent and how fast; the feedback about the cluster's packets says how
//! fast they came out.

use std::collections::VecDeque;

/// A cluster is this many bursts, this far apart.
pub const BURSTS: u32 = 5;
pub const BURST_INTERVAL_US: i64 = 5_000;
/// The first cluster, nearly at once: the first picture is to be of the size that fits. This multiple of the first estimate and
/// no more, since what it makes stand on a narrow link is in front of the words that follow.
const START: f64 = 3.0;
/// The first words go ahead of it: a voice that speaks has a packet every 20 ms.
const FIRST_WORDS_US: i64 = 25_000;
/// A cluster that came out at this part of its rate or more calls for a further one,
const SUCCESS: f64 = 0.7;
/// this much faster as long as all have come out since the start: behind what has been carried, three lengths of a cluster is
/// the longest queue that it makes.
const GROWTH: f64 = 4.0;
/// What is tried beside the present estimate. On a narrow link even this is heard: the voice waits behind the cluster.
const STEP: f64 = 2.0;
/// What is wanted must be above the estimate by this, else nothing is probed.
const WORTH: f64 = 1.05;
/// Between probes; doubled while they find nothing, up to the second.
const INTERVAL_US: i64 = 1_000_000;
const INTERVAL_MAX_US: i64 = 2_000_000;
/// How often, and how fast, a link that says nothing is asked.
const KNOCK_US: i64 = 500_000;
const KNOCK_BPS: f64 = 100_000.0;
/// No feedback about a cluster for this long: it is forgotten.
const PATIENCE_US: i64 = 2_000_000;
/// The part of a cluster's octets and packets that must have arrived.
const ARRIVED: f64 = 0.7;
/// Beyond what is wanted there is nothing to find.
const MARGIN: f64 = 1.25;
const PROBE_MAX_BPS: f64 = 20_000_000.0;
/// A cluster that came out this much slower than it was sent has met the link's capacity.
const SATURATED: f64 = 0.9;
/// A little less than what a cluster has proved is used.
const BELOW_CAPACITY: f64 = 0.95;

#[derive(Clone, Debug)]
struct Cluster {
    rate_bps: f64,
    bursts_left: u32,
    next_burst_us: i64,
    first_sequence: Option<u64>,
    last_sequence: u64,
    ended_us: Option<i64>,
    packets: Vec<(i64, Option<i64>, u32)>,
    reported: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Prober {
    planned: Option<f64>,
    cluster: Option<Cluster>,
    /// Sent whole; their feedback is awaited.
    awaited: VecDeque<Cluster>,
    probed_us: Option<i64>,
    interval_us: i64,
    wanted_bps: f64,
    started: bool,
    /// A cluster has not come out since the start.
    has_met_limit: bool,
}

/// What feedback about a cluster has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// What may be sent.
    pub bps: f64,
    /// The cluster came out slower than it was sent: this is all that the link carries now.
    pub is_all: bool,
}

/// A burst of padding that is due: octets on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    pub octets: usize,
}

impl Prober {
    /// `wanted_bps`: what the subscriber could use.
    pub fn set_wanted(&mut self, wanted_bps: f64) {
        self.wanted_bps = wanted_bps;
    }

    /// Another path, or everything begins: the next look starts with large steps.
    pub fn restart(&mut self) {
        *self = Prober { wanted_bps: self.wanted_bps, ..Prober::default() };
    }

    /// A few small packets, since nothing comes back: they show when the link is there again, whatever is paused.
    pub fn knock(&mut self, now_us: i64) {
        self.forget_overdue(now_us);
        if self.cluster.is_none() && self.wanted_bps > 0.0 && self.probed_us.is_none_or(|at| now_us - at >= KNOCK_US) {
            self.begin(now_us, 0, KNOCK_BPS);
        }
    }

    fn begin(&mut self, now_us: i64, wait_us: i64, rate_bps: f64) {
        self.probed_us = Some(now_us);
        self.cluster = Some(Cluster {
            rate_bps,
            bursts_left: BURSTS,
            next_burst_us: now_us + wait_us,
            first_sequence: None,
            last_sequence: 0,
            ended_us: None,
            packets: Vec::new(),
            reported: 0,
        });
    }

    fn limit(&self) -> f64 {
        (self.wanted_bps * MARGIN).min(PROBE_MAX_BPS)
    }

    fn forget_overdue(&mut self, now_us: i64) {
        while self.awaited.front().is_some_and(|cluster| now_us - cluster.ended_us.unwrap_or(now_us) > PATIENCE_US) {
            self.awaited.pop_front();
            self.interval_us = (self.interval_us * 2).min(INTERVAL_MAX_US);
        }
    }

    /// Plans a cluster when one is due. `is_calm`: no queue stands or grows.
    pub fn plan(&mut self, now_us: i64, estimate_bps: f64, is_calm: bool) {
        self.forget_overdue(now_us);
        let limit = self.limit();
        if estimate_bps * WORTH >= self.wanted_bps || self.cluster.is_some() {
            self.planned = None;
            return;
        }
        let begins = !std::mem::replace(&mut self.started, true);
        if begins {
            self.interval_us = INTERVAL_US;
            self.planned = Some((START * estimate_bps).min(limit));
        } else if self.planned.is_none()
            && self.awaited.is_empty()
            && is_calm
            && self.probed_us.is_none_or(|at| now_us - at >= self.interval_us)
        {
            self.planned = Some((estimate_bps * STEP).min(limit));
        }
        if let Some(rate_bps) = self.planned.take() {
            let wait_us = if begins { FIRST_WORDS_US } else { 0 };
            self.begin(now_us, wait_us, rate_bps);
        }
    }

    /// When the next burst is due.
    pub fn next_burst_us(&self) -> Option<i64> {
        self.cluster.as_ref().map(|cluster| cluster.next_burst_us)
    }

    /// The burst that is due now.
    pub fn poll(&mut self, now_us: i64) -> Option<Burst> {
        let cluster = self.cluster.as_mut().filter(|cluster| cluster.next_burst_us <= now_us)?;
        cluster.next_burst_us = now_us + BURST_INTERVAL_US;
        cluster.bursts_left -= 1;
        let octets = (cluster.rate_bps * BURST_INTERVAL_US as f64 / 8e6) as usize;
        Some(Burst { octets })
    }

    /// After each burst's packets are sent; the cluster is over with its last.
    pub fn finish_burst(&mut self, now_us: i64) {
        if self.cluster.as_ref().is_some_and(|cluster| cluster.bursts_left == 0) {
            let mut cluster = self.cluster.take().expect("it is there");
            cluster.ended_us = Some(now_us);
            if cluster.first_sequence.is_some() {
                self.awaited.push_back(cluster);
            }
        }
    }

    /// Everything that is sent while a cluster is under way is part of it.
    pub fn note_sent(&mut self, sequence: u64, sent_us: i64, octets: u32) {
        if let Some(cluster) = &mut self.cluster
            && cluster.bursts_left < BURSTS
        {
            cluster.first_sequence.get_or_insert(sequence);
            cluster.last_sequence = sequence;
            cluster.packets.push((sent_us, None, octets));
        }
    }

    /// Feedback about a packet. Returns what the link carries once a cluster is known.
    pub fn acknowledge(&mut self, sequence: u64, arrival_us: Option<i64>, estimate_bps: f64) -> Option<Found> {
        let of = |cluster: &&mut Cluster| {
            cluster.first_sequence.is_some_and(|first| (first..=cluster.last_sequence).contains(&sequence))
        };
        let cluster = self.awaited.iter_mut().find(of)?;
        let at = (sequence - cluster.first_sequence?) as usize;
        let packet = cluster.packets.get_mut(at)?;
        packet.1 = packet.1.or(arrival_us);
        cluster.reported += 1;
        // Feedback speaks of packets in their order, so the last one ends the cluster.
        if sequence < cluster.last_sequence && cluster.reported < cluster.packets.len() {
            return None;
        }
        let index = self.awaited.iter().position(|known| known.last_sequence >= sequence)?;
        let cluster = self.awaited.remove(index)?;
        let found = cluster.result();
        let limit = self.limit();
        match found {
            Some(found) if found.bps > estimate_bps * 1.1 => self.interval_us = INTERVAL_US,
            _ => self.interval_us = (self.interval_us * 3 / 2).min(INTERVAL_MAX_US),
        }
        let came_out = found.filter(|found| found.bps >= SUCCESS * cluster.rate_bps);
        self.has_met_limit |= came_out.is_none();
        if let Some(found) = came_out
            && self.planned.is_none()
            && self.awaited.is_empty()
            && found.bps * WORTH < self.wanted_bps
        {
            let step = if self.has_met_limit { STEP } else { GROWTH };
            self.planned = Some((found.bps * step).min(limit));
        }
        found
    }
}

impl Cluster {
    fn result(&self) -> Option<Found> {
        let arrived: Vec<(i64, i64, u32)> =
            self.packets.iter().filter_map(|&(sent, arrival, octets)| Some((sent, arrival?, octets))).collect();
        if (arrived.len() as f64) < ARRIVED * self.packets.len() as f64 || arrived.len() < 4 {
            return None;
        }
        let octets: f64 = self.packets.iter().map(|(_, _, octets)| f64::from(*octets)).sum();
        let arrived_octets: f64 = arrived.iter().map(|(_, _, octets)| f64::from(*octets)).sum();
        let first_sent = self.packets.iter().map(|packet| packet.0).min()?;
        let last_sent = self.packets.iter().map(|packet| packet.0).max()?;
        let last_burst: f64 =
            self.packets.iter().filter(|packet| packet.0 == last_sent).map(|packet| f64::from(packet.2)).sum();
        let (first_arrival, first_octets) = arrived.iter().map(|packet| (packet.1, packet.2)).min()?;
        let last_arrival = arrived.iter().map(|packet| packet.1).max()?;
        if last_sent <= first_sent || last_arrival <= first_arrival || last_arrival - first_arrival > 1_000_000 {
            return None;
        }
        let sent_bps = (octets - last_burst) * 8e6 / (last_sent - first_sent) as f64;
        let received_bps = (arrived_octets - f64::from(first_octets)) * 8e6 / (last_arrival - first_arrival) as f64;
        // What was lost on the way took its part of the link, or was lost before it: what arrives is what counts.
        let is_all = received_bps < SATURATED * sent_bps;
        // More than its rate is a picture's that fell into it.
        let proved_bps = if is_all { received_bps } else { received_bps.min(self.rate_bps) };
        Some(Found { bps: BELOW_CAPACITY * proved_bps, is_all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(capacity_bps: f64, wanted_bps: f64, seconds: i64) -> Vec<f64> {
        timed_results(capacity_bps, wanted_bps, seconds).into_iter().map(|(_, bps)| bps).collect()
    }

    /// Sends what the prober wants over a link; the results, and when they are there in µs, for `seconds`.
    fn timed_results(capacity_bps: f64, wanted_bps: f64, seconds: i64) -> Vec<(i64, f64)> {
        let mut prober = Prober::default();
        prober.set_wanted(wanted_bps);
        let (mut estimate, mut sequence, mut free_at) = (300_000.0, 0, 0.0);
        let mut results = Vec::new();
        let mut feedback: VecDeque<(i64, u64, i64)> = VecDeque::new();
        for now in (0..seconds * 1_000_000).step_by(1_000) {
            prober.plan(now, estimate, true);
            if let Some(burst) = prober.poll(now) {
                for _ in 0..burst.octets.div_ceil(300).max(2) {
                    let octets = burst.octets / burst.octets.div_ceil(300).max(2);
                    prober.note_sent(sequence, now, octets as u32);
                    free_at = f64::max(free_at, now as f64) + octets as f64 * 8e6 / capacity_bps;
                    feedback.push_back((free_at as i64 + 50_000, sequence, free_at as i64));
                    sequence += 1;
                }
                prober.finish_burst(now);
            }
            while feedback.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, sequence, arrival) = feedback.pop_front().unwrap();
                if let Some(found) = prober.acknowledge(sequence, Some(arrival), estimate) {
                    results.push((now, found.bps));
                    estimate = estimate.max(found.bps);
                }
            }
        }
        results
    }

    #[test]
    fn a_good_link_is_found_within_half_a_second() {
        let found = results(50e6, 3e6, 1);
        assert!(found.iter().any(|found| *found > 2.8e6), "{found:?}");
    }

    #[test]
    fn a_narrow_link_is_found_out_at_once_and_asked_more_rarely_then() {
        let found = results(5e5, 3e6, 20);
        assert!(found.iter().all(|found| (4.0e5..5.2e5).contains(found)), "{found:?}");
        assert!((4..12).contains(&found.len()), "{found:?}");
    }

    #[test]
    fn a_link_on_which_nothing_more_is_found_is_asked_every_other_second() {
        let found: Vec<i64> = timed_results(5e5, 3e6, 60).into_iter().map(|(at, _)| at).skip(5).collect();
        let pauses: Vec<i64> = found.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.len() > 20 && pauses.iter().all(|pause| (1_900_000..2_200_000).contains(pause)), "{pauses:?}");
    }

    #[test]
    fn nothing_is_probed_that_nobody_wants() {
        assert_eq!(results(50e6, 2e5, 5), []);
        assert!(results(50e6, 1e6, 5).iter().all(|found| *found < 1.3e6));
    }

    #[test]
    fn the_first_words_go_ahead_of_the_first_cluster() {
        let mut prober = Prober::default();
        prober.set_wanted(5e6);
        prober.plan(0, 300_000.0, true);
        assert_eq!(prober.next_burst_us(), Some(FIRST_WORDS_US));
        assert_eq!(prober.poll(20_000), None);
        assert!(prober.poll(FIRST_WORDS_US).is_some());
    }

    #[test]
    fn whoever_never_answers_is_not_remembered_for_ever() {
        let mut prober = Prober::default();
        prober.set_wanted(5e6);
        let mut sequence = 0;
        for now in (0..60_000_000).step_by(5_000) {
            prober.knock(now);
            if prober.poll(now).is_some() {
                prober.note_sent(sequence, now, 100);
                sequence += 1;
                prober.finish_burst(now);
            }
        }
        assert!(sequence > 500 && prober.awaited.len() <= 5, "{sequence} sent, {} awaited", prober.awaited.len());
    }

    #[test]
    fn a_picture_beside_a_cluster_proves_no_more_than_its_rate() {
        let mut prober = Prober::default();
        prober.set_wanted(5e6);
        prober.plan(0, 300_000.0, true);
        let mut sent = Vec::new();
        let mut send = |prober: &mut Prober, now: i64, octets: u32| {
            prober.note_sent(sent.len() as u64, now, octets);
            sent.push(now);
        };
        for now in (FIRST_WORDS_US..FIRST_WORDS_US + 25_000).step_by(5_000) {
            let burst = prober.poll(now).expect("it is due");
            if now == FIRST_WORDS_US {
                (0..8).for_each(|_| send(&mut prober, now, 1_200));
            }
            (0..2).for_each(|_| send(&mut prober, now, burst.octets as u32 / 2));
            prober.finish_burst(now);
        }
        let mut feedback = sent.iter().enumerate();
        let found = feedback.find_map(|(sequence, at)| prober.acknowledge(sequence as u64, Some(at + 50_000), 3e5));
        assert_eq!(found, Some(Found { bps: BELOW_CAPACITY * (START * 300_000.0), is_all: false }));
    }
}
