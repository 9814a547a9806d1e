use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::settings::Settings;

/// Who sends less than its rate may send so much of it at once later.
const BURST_NS: u64 = 1_000_000_000;

/// Octets that an allocation takes at once from what it shares with others: what it took and does not use, nobody else
/// can use at that time.
const LEASE_MAX: u64 = 16 << 10;

/// A lease is this part of a second's worth, or the bucket would be empty after a few of them.
const LEASES_PER_SECOND: u64 = 64;

/// Octets that may still be relayed: of an allocation, or of all that have something in common, on whichever workers.
///
/// One number, so that no lock is needed: the time at which it will be full again, in nanoseconds of
/// [`crate::Quotas::elapsed_ns`]. Time passes by itself, and another rate holds at once.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

impl Bucket {
    /// Takes so many octets, or says that there are not so many. A full bucket gives what is asked for, be it more than
    /// it holds, and then is empty for longer.
    pub fn take(&self, octets: u64, octets_per_second: u64, now_ns: u64) -> bool {
        let cost = cost_ns(octets, octets_per_second);
        let full_at = |full_at: u64| {
            let next = full_at.max(now_ns).saturating_add(cost);
            (full_at <= now_ns || next <= now_ns + BURST_NS).then_some(next)
        };
        self.0.fetch_update(Relaxed, Relaxed, full_at).is_ok()
    }

    /// The same for a bucket that several use. While it is more than half full it gives what is asked for; below that the
    /// chance of getting something falls with what is left, so that everybody loses alike. Else whoever's packets come a
    /// moment after another's would find it empty each time.
    fn take_fairly(&self, octets: u64, octets_per_second: u64, now_ns: u64, draw: u32) -> bool {
        let cost = cost_ns(octets, octets_per_second);
        let full_at = |full_at: u64| {
            let next = full_at.max(now_ns).saturating_add(cost);
            let left = (now_ns + BURST_NS).saturating_sub(next);
            let wins = left >= BURST_NS / 2 || u64::from(draw) * (BURST_NS / 2) < left << 32;
            (full_at <= now_ns || wins).then_some(next)
        };
        self.0.fetch_update(Relaxed, Relaxed, full_at).is_ok()
    }

    /// Whether it is more than half full, so that it can give more than is needed at the moment.
    fn has_plenty(&self, now_ns: u64) -> bool {
        self.0.load(Relaxed) <= now_ns + BURST_NS / 2
    }

    fn give_back(&self, octets: u64, octets_per_second: u64) {
        let cost = cost_ns(octets, octets_per_second);
        let _ = self.0.fetch_update(Relaxed, Relaxed, |full_at| Some(full_at.saturating_sub(cost)));
    }

    /// Whether forgetting it would make a difference.
    pub fn is_full(&self, now_ns: u64) -> bool {
        self.0.load(Relaxed) <= now_ns
    }

    /// Whether nothing was ever taken.
    pub fn is_untouched(&self) -> bool {
        self.0.load(Relaxed) == 0
    }
}

/// A number that is as good as random where nobody gains by guessing it: an LCG whose low bits are mixed in from above.
fn draw(state: &mut u32) -> u32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*state ^ *state >> 16).wrapping_mul(0x9E37_79B1)
}

fn cost_ns(octets: u64, octets_per_second: u64) -> u64 {
    octets.saturating_mul(1_000_000_000) / octets_per_second.max(1)
}

/// How much an allocation may still relay, both ways together.
///
/// Octets are leased from the buckets of the allocation, its user, its source prefix and of all, so that a packet costs a
/// comparison and a subtraction, and only a lease looks at what others use too.
#[derive(Debug)]
pub struct Bandwidth {
    leased: u64,
    /// The state of the draws.
    chance: u32,
    own: Bucket,
    pub user: Arc<Bucket>,
    pub prefix: Arc<Bucket>,
}

impl Bandwidth {
    /// Allocations of which each has another `seed` draw differently.
    pub fn new(user: Arc<Bucket>, prefix: Arc<Bucket>, seed: u16) -> Bandwidth {
        Bandwidth { leased: 0, chance: u32::from(seed), own: Bucket::default(), user, prefix }
    }

    /// Takes the share of a datagram, or says that there is none left.
    pub fn take(&mut self, octets: usize, settings: &Settings, now: Instant) -> bool {
        let octets = octets as u64;
        let enough = octets <= self.leased || self.lease(octets - self.leased, settings, now);
        if enough {
            self.leased -= octets;
        }
        enough
    }

    /// Other limits hold: what was leased under the old ones is void.
    pub fn end_lease(&mut self) {
        self.leased = 0;
    }

    #[cold]
    fn lease(&mut self, missing: u64, settings: &Settings, now: Instant) -> bool {
        let (limits, quotas) = (&settings.limits, &settings.share.quotas);
        let now_ns = quotas.elapsed_ns(now);
        let shared = [
            (&*self.user, limits.octets_per_second_of_user),
            (&*self.prefix, limits.octets_per_second_of_prefix),
            (quotas.bandwidth(), limits.octets_per_second_in_total),
        ];
        let shared = shared.map(|(bucket, rate)| rate.map(|rate| (bucket, rate)));
        let mut part = limits.octets_per_second / LEASES_PER_SECOND;
        for (_, rate) in shared.iter().flatten() {
            part = part.min(rate / LEASES_PER_SECOND).min(LEASE_MAX);
        }
        let plenty =
            [Some((&self.own, 0))].into_iter().chain(shared).flatten().all(|(bucket, _)| bucket.has_plenty(now_ns));
        let octets = if plenty { part.max(missing) } else { missing };
        if !self.own.take(octets, limits.octets_per_second, now_ns) {
            return false;
        }
        let chance = &mut self.chance;
        let mut shared_refuses =
            |(bucket, rate): (&Bucket, u64)| !bucket.take_fairly(octets, rate, now_ns, draw(chance));
        let buckets = || shared.into_iter().flatten();
        if let Some(refused) = buckets().position(&mut shared_refuses) {
            buckets().take(refused).for_each(|(bucket, rate)| bucket.give_back(octets, rate));
            self.own.give_back(octets, limits.octets_per_second);
            return false;
        }
        self.leased += octets;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_bucket_gives_a_second_s_worth_and_then_its_rate() {
        let bucket = Bucket::default();
        let mut given = 0;
        for ms in 0..10_000 {
            while bucket.take(100, 10_000, ms * 1_000_000) {
                given += 100;
            }
        }
        assert_eq!(given, 10_000 + 99_900);
        assert!(!bucket.is_full(10 * SECOND) && bucket.is_full(11 * SECOND));
        assert!(
            bucket.take(10_000, 10_000, 3600 * SECOND) && !bucket.take(1, 10_000, 3600 * SECOND),
            "no more is saved"
        );
    }

    #[test]
    fn a_datagram_of_more_than_a_second_passes_once_the_bucket_is_full() {
        let bucket = Bucket::default();
        assert!(bucket.take(1200, 100, 0));
        assert!(!bucket.take(1200, 100, 12 * SECOND - 1));
        assert!(bucket.take(1200, 100, 12 * SECOND));
    }

    /// Two who send at the same moments, the second always behind the first.
    #[test]
    fn who_comes_second_each_time_gets_as_much() {
        let bucket = Bucket::default();
        let (mut chances, mut given) = ([1, 2], [0u64; 2]);
        for ms in (0..20_000).step_by(10) {
            for (chance, given) in chances.iter_mut().zip(&mut given) {
                *given += 1000 * u64::from(bucket.take_fairly(1000, 100_000, ms * 1_000_000, draw(chance)));
            }
        }
        let all = given[0] + given[1];
        assert!((20 * 100_000..=21 * 100_000).contains(&all), "{all}");
        assert!(given.iter().all(|given| given * 10 > all * 4), "{given:?}");
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let bucket = Bucket::default();
        assert!(bucket.take(600, 1000, SECOND) && !bucket.take(600, 1000, SECOND));
        bucket.give_back(600, 1000);
        assert!(bucket.take(600, 1000, SECOND));
    }
}
