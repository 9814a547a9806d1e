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

/// Octets that a TCP connection takes like a datagram after it has waited long.
const PATIENT_LEASE: u64 = 1200;

/// Octets that may still be relayed: of an allocation, or of all that have something in common, on whichever workers.
///
/// One number, so that no lock is needed: the time at which it will be full again, in nanoseconds of
/// [`crate::Quotas::elapsed_ns`]. Time passes by itself, and another rate holds at once.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

/// Who gets something of a bucket, by what it would leave there, in nanoseconds of the bucket's rate: whoever leaves
/// `certain_ns` does, whoever leaves no more than `reserve_ns` does not, and between the two the chance of it rises.
#[derive(Clone, Copy, Debug)]
struct Odds {
    certain_ns: u64,
    reserve_ns: u64,
}

impl Odds {
    /// One who has the bucket to itself.
    const ALONE: Odds = Odds { certain_ns: 0, reserve_ns: 0 };

    /// Several lose alike. Else whoever's packets come a moment after another's would find the bucket empty each time.
    const DATAGRAMS: Odds = Odds { certain_ns: BURST_NS / 2, reserve_ns: 0 };

    /// TCP waits for what datagrams leave: where it takes all that it can get, none of them is dropped for it.
    const STREAMS: Odds = Odds { certain_ns: BURST_NS, reserve_ns: BURST_NS / 2 };

    fn win(self, left_ns: u64, draw: u32) -> bool {
        let Odds { certain_ns, reserve_ns } = self;
        left_ns >= certain_ns || u64::from(draw) * (certain_ns - reserve_ns) < left_ns.saturating_sub(reserve_ns) << 32
    }
}

impl Bucket {
    /// Takes so many octets, or says that it does not get them. A full bucket gives what is asked for, be it more than
    /// it holds, and then is empty for longer.
    fn take(&self, octets: u64, octets_per_second: u64, now_ns: u64, odds: Odds, draw: u32) -> bool {
        let cost = cost_ns(octets, octets_per_second);
        let full_at = |full_at: u64| {
            let next = full_at.max(now_ns).saturating_add(cost);
            let wins = |left_ns| odds.win(left_ns, draw);
            (full_at <= now_ns || (now_ns + BURST_NS).checked_sub(next).is_some_and(wins)).then_some(next)
        };
        self.0.fetch_update(Relaxed, Relaxed, full_at).is_ok()
    }

    /// Takes so many octets whether they are there or not.
    pub fn owe(&self, octets: u64, octets_per_second: u64, now_ns: u64) {
        let cost = cost_ns(octets, octets_per_second);
        let _ = self.0.fetch_update(Relaxed, Relaxed, |full_at| Some(full_at.max(now_ns).saturating_add(cost)));
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

    /// How many octets may pass over TCP now. A connection that `has_waited` long takes a little like a datagram, so
    /// that datagrams which take all there is do not keep it waiting for ever.
    pub fn allowance(&mut self, has_waited: bool, settings: &Settings, now: Instant) -> usize {
        if self.leased == 0 {
            let part = self.part(settings).max(1);
            let (octets, odds) =
                if has_waited { (part.min(PATIENT_LEASE), Odds::DATAGRAMS) } else { (part, Odds::STREAMS) };
            self.take_from_all(octets, [odds; 2], settings, settings.share.quotas.elapsed_ns(now));
        }
        usize::try_from(self.leased).unwrap_or(usize::MAX)
    }

    /// So many octets have passed over TCP. Where that is more than was allowed, it is owed.
    pub fn spend(&mut self, octets: u64, settings: &Settings, now: Instant) {
        let owed = octets.saturating_sub(self.leased);
        self.leased -= octets - owed;
        if owed > 0 {
            let now_ns = settings.share.quotas.elapsed_ns(now);
            self.buckets(settings).for_each(|(bucket, rate)| bucket.owe(owed, rate, now_ns));
        }
    }

    #[cold]
    fn lease(&mut self, missing: u64, settings: &Settings, now: Instant) -> bool {
        let now_ns = settings.share.quotas.elapsed_ns(now);
        let plenty = self.buckets(settings).all(|(bucket, _)| bucket.has_plenty(now_ns));
        let octets = if plenty { self.part(settings).max(missing) } else { missing };
        self.take_from_all(octets, [Odds::ALONE, Odds::DATAGRAMS], settings, now_ns)
    }

    /// The buckets whose limits hold, and their octets per second. The first is the allocation's own.
    fn buckets<'a>(&'a self, settings: &'a Settings) -> impl Iterator<Item = (&'a Bucket, u64)> {
        let (limits, quotas) = (&settings.limits, &settings.share.quotas);
        let buckets = [
            (&self.own, Some(limits.octets_per_second)),
            (&self.user, limits.octets_per_second_of_user),
            (&self.prefix, limits.octets_per_second_of_prefix),
            (quotas.bandwidth(), limits.octets_per_second_in_total),
        ];
        buckets.into_iter().filter_map(|(bucket, rate)| Some((bucket, rate?)))
    }

    /// How many octets are worth a lease.
    fn part(&self, settings: &Settings) -> u64 {
        let own = settings.limits.octets_per_second / LEASES_PER_SECOND;
        let shared = self.buckets(settings).skip(1);
        shared.fold(own, |part, (_, rate)| part.min(rate / LEASES_PER_SECOND).min(LEASE_MAX))
    }

    /// Leases so many octets of every bucket, or of none. The first odds are for the allocation's own one.
    fn take_from_all(&mut self, octets: u64, odds: [Odds; 2], settings: &Settings, now_ns: u64) -> bool {
        let mut chance = self.chance;
        let refused = self
            .buckets(settings)
            .enumerate()
            .position(|(at, (bucket, rate))| !bucket.take(octets, rate, now_ns, odds[at.min(1)], draw(&mut chance)));
        self.chance = chance;
        match refused {
            Some(refused) => {
                self.buckets(settings).take(refused).for_each(|(bucket, rate)| bucket.give_back(octets, rate));
            }
            None => self.leased += octets,
        }
        refused.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn take(bucket: &Bucket, octets: u64, octets_per_second: u64, now_ns: u64) -> bool {
        bucket.take(octets, octets_per_second, now_ns, Odds::ALONE, 0)
    }

    #[test]
    fn a_bucket_gives_a_second_s_worth_and_then_its_rate() {
        let bucket = Bucket::default();
        let mut given = 0;
        for ms in 0..10_000 {
            while take(&bucket, 100, 10_000, ms * 1_000_000) {
                given += 100;
            }
        }
        assert_eq!(given, 10_000 + 99_900);
        assert!(!bucket.is_full(10 * SECOND) && bucket.is_full(11 * SECOND));
        assert!(
            take(&bucket, 10_000, 10_000, 3600 * SECOND) && !take(&bucket, 1, 10_000, 3600 * SECOND),
            "no more is saved"
        );
    }

    #[test]
    fn a_datagram_of_more_than_a_second_passes_once_the_bucket_is_full() {
        let bucket = Bucket::default();
        assert!(take(&bucket, 1200, 100, 0));
        assert!(!take(&bucket, 1200, 100, 12 * SECOND - 1));
        assert!(take(&bucket, 1200, 100, 12 * SECOND));
    }

    /// Two who send at the same moments, the second always behind the first.
    #[test]
    fn who_comes_second_each_time_gets_as_much() {
        let bucket = Bucket::default();
        let (mut chances, mut given) = ([1, 2], [0u64; 2]);
        for ms in (0..20_000).step_by(10) {
            for (chance, given) in chances.iter_mut().zip(&mut given) {
                let wins = bucket.take(1000, 100_000, ms * 1_000_000, Odds::DATAGRAMS, draw(chance));
                *given += 1000 * u64::from(wins);
            }
        }
        let all = given[0] + given[1];
        assert!((20 * 100_000..=21 * 100_000).contains(&all), "{all}");
        assert!(given.iter().all(|given| given * 10 > all * 4), "{given:?}");
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let bucket = Bucket::default();
        assert!(take(&bucket, 600, 1000, SECOND) && !take(&bucket, 600, 1000, SECOND));
        bucket.give_back(600, 1000);
        assert!(take(&bucket, 600, 1000, SECOND));
    }
}
