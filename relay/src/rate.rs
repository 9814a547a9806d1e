use std::net::IpAddr;
use std::time::Instant;

use datapath::Entropy;

use crate::settings::RateLimits;

/// Buckets for sources: a power of two. 16,384 buckets of 8 octets are 128 KiB, however many sources there are.
const SOURCES: usize = 1 << 14;
/// The same for sites and for providers.
const NETWORKS: usize = 1 << 12;

/// What an IPv6 site, a /48, may have in those of a /64, of which it has 65,536.
const SITE: u32 = 8;
/// The part of the total that an IPv6 provider, a /32, may have: it has 65,536 sites.
const PROVIDER_PART: u32 = 8;

/// How many answers unauthenticated sources may still get.
///
/// Sources share a bucket when their prefixes hash alike; the hash is keyed, so nobody can choose whose bucket to drain.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    sources: Box<[Bucket]>,
    /// Of IPv6: whoever has many prefixes does not use up what is there for all.
    sites: Box<[Bucket]>,
    providers: Box<[Bucket]>,
    total: Bucket,
    limits: RateLimits,
    hash: [u128; 2],
    start: Instant,
}

/// Tokens in thousandths, so that a rate of N a second adds N a millisecond.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    millitokens: u32,
    /// Milliseconds since the start, modulo 2³².
    updated_ms: u32,
}

impl RateLimiter {
    pub fn new(limits: RateLimits, entropy: &mut Entropy, now: Instant) -> RateLimiter {
        let mut random = || u128::from(entropy.u64()) << 64 | u128::from(entropy.u64());
        RateLimiter {
            sources: vec![Bucket::FULL; SOURCES].into(),
            sites: vec![Bucket::FULL; NETWORKS].into(),
            providers: vec![Bucket::FULL; NETWORKS].into(),
            total: Bucket::FULL,
            hash: [random() | 1, random()],
            limits,
            start: now,
        }
    }

    /// Other limits hold; what the sources have used stays used.
    pub fn change(&mut self, limits: RateLimits) {
        self.limits = limits;
    }

    /// Whether one more answer may go to `source`.
    pub fn admits(&mut self, source: IpAddr, now: Instant) -> bool {
        let now_ms = now.duration_since(self.start).as_millis() as u32;
        let RateLimits { per_prefix, per_prefix_burst, total, total_burst } = self.limits;
        let hash = self.hash;
        let take = |buckets: &mut [Bucket], prefix: u64, rate: u32, burst: u32| {
            buckets[index(hash, prefix, buckets.len())].take(now_ms, rate, burst)
        };
        let mut is_admitted = take(&mut self.sources, source_prefix(source), per_prefix, per_prefix_burst);
        if let IpAddr::V6(ip) = source {
            let [site, provider] = [80, 96].map(|bits| (u128::from(ip) >> bits) as u64);
            let [rate, burst] = [per_prefix, per_prefix_burst].map(|limit| limit.saturating_mul(SITE));
            is_admitted = is_admitted && take(&mut self.sites, site, rate, burst);
            let [rate, burst] = [total, total_burst].map(|limit| (limit / PROVIDER_PART).max(1));
            is_admitted = is_admitted && take(&mut self.providers, provider, rate, burst);
        }
        is_admitted && self.total.take(now_ms, total, total_burst)
    }
}

/// Multiply-shift hashing: two prefixes meet with probability 2 / `buckets`, whatever they are.
fn index([factor, summand]: [u128; 2], prefix: u64, buckets: usize) -> usize {
    (factor.wrapping_mul(u128::from(prefix)).wrapping_add(summand) >> (128 - buckets.trailing_zeros())) as usize
}

impl Bucket {
    /// Nobody finds more in it than its burst.
    const FULL: Bucket = Bucket { millitokens: u32::MAX, updated_ms: 0 };

    fn take(&mut self, now_ms: u32, per_second: u32, burst: u32) -> bool {
        let passed_ms = now_ms.wrapping_sub(self.updated_ms);
        self.updated_ms = now_ms;
        self.millitokens =
            self.millitokens.saturating_add(passed_ms.saturating_mul(per_second)).min(burst.saturating_mul(1000));
        let enough = self.millitokens >= 1000;
        if enough {
            self.millitokens -= 1000;
        }
        enough
    }
}

/// The /24 of an IPv4 address, the /64 of an IPv6 address: what one subscriber or one house is given.
pub fn source_prefix(source: IpAddr) -> u64 {
    match source {
        IpAddr::V4(ip) => u64::from(u32::from(ip) >> 8) | 1 << 63,
        IpAddr::V6(ip) => (u128::from(ip) >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::test_clock::start;

    const LIMITS: RateLimits = RateLimits { per_prefix: 10, per_prefix_burst: 3, total: 1000, total_burst: 5 };

    fn limiter() -> (RateLimiter, Instant) {
        let start = start();
        (RateLimiter::new(LIMITS, &mut Entropy::from_seed([1; 32]), start), start)
    }

    #[test]
    fn a_prefix_gets_its_burst_and_then_its_rate() {
        let (mut limiter, start) = limiter();
        let granted = |limiter: &mut RateLimiter, host: u8, at| limiter.admits([192, 0, 2, host].into(), at);
        assert!((1..=3).all(|host| granted(&mut limiter, host, start)));
        assert!(!granted(&mut limiter, 4, start), "the neighbours used it up");
        let later = start + Duration::from_millis(100);
        assert!(granted(&mut limiter, 4, later));
        assert!(!granted(&mut limiter, 4, later));
        let much_later = start + Duration::from_secs(3600);
        assert!((1..=3).all(|host| granted(&mut limiter, host, much_later)));
        assert!(!granted(&mut limiter, 4, much_later));
    }

    #[test]
    fn many_networks_of_one_site_or_provider_are_not_many_sources() {
        let start = start();
        let limits = RateLimits { per_prefix: 10, per_prefix_burst: 3, total: 1_000, total_burst: 800 };
        let granted = |of: fn(u16) -> [u16; 8]| {
            let mut limiter = RateLimiter::new(limits.clone(), &mut Entropy::from_seed([1; 32]), start);
            (0..2_000).filter(|&net| limiter.admits(of(net).into(), start)).count()
        };
        assert_eq!(granted(|net| [0x2001, 0xdb8, 1, net, 0, 0, 0, 1]), 24, "/48");
        assert_eq!(granted(|net| [0x2001, 0xdb8, net, 1, 0, 0, 0, 1]), 100, "/32");
        assert_eq!(granted(|net| [0x2001, net, 1, 1, 0, 0, 0, 1]), 800, "everybody");
    }

    #[test]
    fn all_together_get_no_more_than_the_total() {
        let (mut limiter, start) = limiter();
        let granted = (0..100u8).filter(|net| limiter.admits([198, 51, *net, 1].into(), start)).count();
        assert_eq!(granted, 5);
    }
}
