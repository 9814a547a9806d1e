use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use datapath::Quota;

use crate::bandwidth::Bucket;
use crate::rate::source_prefix;
use crate::refusal::Refusal;
use crate::settings::Limits;

/// What users, source prefixes and all clients together have of the relay. A share is taken when an allocation, a permission or
/// a channel begins, and given back when it ends.
///
/// One for all workers, so that a limit is one limit. No packet takes the lock: only what begins and ends, and a client that
/// moves. Bandwidth is leased without it.
#[derive(Clone, Debug, Default)]
pub struct Quotas(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    counts: Mutex<Counts>,
    bandwidth: Bucket,
    /// The first time that anybody told.
    start: OnceLock<Instant>,
}

/// What one allocation has, or many together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    pub allocations: usize,
    pub permissions: usize,
    pub channels: usize,
}

#[derive(Debug, Default)]
struct Counts {
    total: Holding,
    /// The key is chosen by clients: SipHash.
    of_user: Accounts<Box<[u8]>>,
    /// The key is chosen by clients: SipHash.
    of_prefix: Accounts<u64>,
}

#[derive(Debug, Default)]
struct Account {
    holding: Holding,
    bandwidth: Arc<Bucket>,
}

/// The accounts of those who have allocations, and of those who had and have used up their bandwidth: coming back must not
/// fill the bucket.
#[derive(Debug)]
struct Accounts<K> {
    accounts: HashMap<K, Account>,
    /// When there are so many, those that mean nothing any more are swept out.
    sweep_at: usize,
}

impl Holding {
    pub const ALLOCATION: Holding = Holding { allocations: 1, permissions: 0, channels: 0 };

    pub fn is_nothing(self) -> bool {
        self == Holding::default()
    }

    pub fn and(self, other: Holding) -> Holding {
        Holding {
            allocations: self.allocations + other.allocations,
            permissions: self.permissions + other.permissions,
            channels: self.channels + other.channels,
        }
    }

    /// Panics if less is there: then something was given back twice.
    fn less(self, other: Holding) -> Holding {
        let less = |here: usize, gone: usize| here.checked_sub(gone).expect("the share was taken");
        Holding {
            allocations: less(self.allocations, other.allocations),
            permissions: less(self.permissions, other.permissions),
            channels: less(self.channels, other.channels),
        }
    }

    /// Whether `more` still fits. What is not asked for may be beyond a limit that was lowered.
    fn has_room(self, more: Holding, limit: Holding) -> bool {
        let fits = |here: usize, more: usize, limit: usize| more == 0 || here + more <= limit;
        fits(self.allocations, more.allocations, limit.allocations)
            && fits(self.permissions, more.permissions, limit.permissions)
            && fits(self.channels, more.channels, limit.channels)
    }
}

impl From<Quota> for Refusal {
    /// Of an allocation. RFC 8656 §7.2: 486 is for what a client tries to have beyond its quota, 508 for what the server
    /// has no room for.
    fn from(quota: Quota) -> Refusal {
        match quota {
            Quota::User | Quota::Source => Refusal::AllocationQuotaReached,
            Quota::Total => Refusal::InsufficientCapacity,
        }
    }
}

impl Quotas {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Each change is whole before anything in it could panic.
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of all buckets.
    pub(crate) fn elapsed_ns(&self, now: Instant) -> u64 {
        let start = *self.0.start.get_or_init(|| now);
        u64::try_from(now.saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// What all allocations together may relay.
    pub(crate) fn bandwidth(&self) -> &Bucket {
        &self.0.bandwidth
    }

    /// What all have together.
    pub(crate) fn total(&self) -> Holding {
        self.counts().total
    }

    /// Takes the share of one more allocation, and says from which buckets of its user and source it leases.
    pub(crate) fn admit(
        &self,
        user: &[u8],
        source: IpAddr,
        limits: &Limits,
        now: Instant,
    ) -> Result<[Arc<Bucket>; 2], Quota> {
        let now_ns = self.elapsed_ns(now);
        let counts = &mut *self.counts();
        let prefix = source_prefix(source);
        counts.room(user, prefix, Holding::ALLOCATION, limits)?;
        let user = counts.of_user.open(user.into(), now_ns);
        let prefix = counts.of_prefix.open(prefix, now_ns);
        for holding in [&mut counts.total, &mut user.holding, &mut prefix.holding] {
            *holding = holding.and(Holding::ALLOCATION);
        }
        Ok([user.bandwidth.clone(), prefix.bandwidth.clone()])
    }

    /// Whether an allocation of this user and source may have so much more. It may be different a moment later.
    pub(crate) fn room(&self, user: &[u8], source: IpAddr, more: Holding, limits: &Limits) -> Result<(), Quota> {
        if more.is_nothing() {
            return Ok(());
        }
        self.counts().room(user, source_prefix(source), more, limits)
    }

    /// Takes more for an allocation that there is, or says whose limit is reached.
    pub(crate) fn take(&self, user: &[u8], source: IpAddr, more: Holding, limits: &Limits) -> Result<(), Quota> {
        if more.is_nothing() {
            return Ok(());
        }
        let counts = &mut *self.counts();
        let prefix = source_prefix(source);
        counts.room(user, prefix, more, limits)?;
        counts.change(user, prefix, |holding| holding.and(more));
        Ok(())
    }

    pub(crate) fn give_back(&self, user: &[u8], source: IpAddr, gone: Holding) {
        if gone.is_nothing() {
            return;
        }
        let counts = &mut *self.counts();
        let prefix = source_prefix(source);
        counts.change(user, prefix, |holding| holding.less(gone));
        counts.of_user.close(user);
        counts.of_prefix.close(&prefix);
    }

    /// What a client has moves with it to another source, if that may have so much more. Says from which bucket of that
    /// source it leases.
    pub(crate) fn relocate(
        &self,
        from: IpAddr,
        to: IpAddr,
        what: Holding,
        limits: &Limits,
        now: Instant,
    ) -> Result<Arc<Bucket>, Quota> {
        let now_ns = self.elapsed_ns(now);
        let of_prefix = &mut self.counts().of_prefix;
        let (from, to) = (source_prefix(from), source_prefix(to));
        if from != to {
            if !of_prefix.holding(&to).has_room(what, limits.of_prefix()) {
                return Err(Quota::Source);
            }
            of_prefix.change(&from, |holding| holding.less(what));
            of_prefix.close(&from);
        }
        let account = of_prefix.open(to, now_ns);
        if from != to {
            account.holding = account.holding.and(what);
        }
        Ok(account.bandwidth.clone())
    }
}

impl Counts {
    fn room(&self, user: &[u8], prefix: u64, more: Holding, limits: &Limits) -> Result<(), Quota> {
        if !self.of_user.holding(user).has_room(more, limits.of_user()) {
            Err(Quota::User)
        } else if !self.of_prefix.holding(&prefix).has_room(more, limits.of_prefix()) {
            Err(Quota::Source)
        } else if !self.total.has_room(more, limits.in_total()) {
            Err(Quota::Total)
        } else {
            Ok(())
        }
    }

    fn change(&mut self, user: &[u8], prefix: u64, change: impl Fn(Holding) -> Holding) {
        self.total = change(self.total);
        self.of_user.change(user, &change);
        self.of_prefix.change(&prefix, &change);
    }
}

impl<K> Default for Accounts<K> {
    fn default() -> Accounts<K> {
        Accounts { accounts: HashMap::new(), sweep_at: SWEEP_MIN }
    }
}

const SWEEP_MIN: usize = 64;

impl<K: Hash + Eq> Accounts<K> {
    fn holding<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Holding
    where
        K: std::borrow::Borrow<Q>,
    {
        self.accounts.get(key).map(|account| account.holding).unwrap_or_default()
    }

    fn open(&mut self, key: K, now_ns: u64) -> &mut Account {
        if self.accounts.len() >= self.sweep_at {
            self.accounts.retain(|_, account| !account.holding.is_nothing() || !account.bandwidth.is_full(now_ns));
            self.sweep_at = SWEEP_MIN.max(2 * self.accounts.len());
        }
        self.accounts.entry(key).or_default()
    }

    fn change<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, change: impl Fn(Holding) -> Holding)
    where
        K: std::borrow::Borrow<Q>,
    {
        let account = self.accounts.get_mut(key).expect("the share was taken");
        account.holding = change(account.holding);
    }

    /// Forgets an account that has nothing and never used any bandwidth. Others wait for the sweep.
    fn close<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
    {
        let means_nothing = |account: &Account| account.holding.is_nothing() && account.bandwidth.is_untouched();
        if self.accounts.get(key).is_some_and(means_nothing) {
            self.accounts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::test_clock::start;

    fn limits() -> Limits {
        Limits {
            allocations: 4,
            allocations_per_user: 2,
            allocations_per_prefix: 3,
            permissions_per_user: 4,
            permissions_per_prefix: 5,
            permissions_in_total: 6,
            channels_per_user: 1,
            channels_per_prefix: 2,
            channels_in_total: 3,
            ..Limits::default()
        }
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    #[test]
    fn each_limit_of_allocations_holds_and_nothing_is_left_behind() {
        let (quotas, limits, now) = (Quotas::default(), limits(), start());
        let take = |user: &[u8], source| quotas.admit(user, source, &limits, now).err();
        assert_eq!([take(b"a", HERE), take(b"a", HERE)], [None, None]);
        assert_eq!(take(b"a", THERE), Some(Quota::User));
        assert_eq!(take(b"b", HERE), None);
        assert_eq!(take(b"b", [192, 0, 2, 200].into()), Some(Quota::Source), "per /24");
        assert_eq!(take(b"b", THERE), None);
        assert_eq!(take(b"c", THERE), Some(Quota::Total));
        for (user, source) in [(b"a", HERE), (b"a", HERE), (b"b", HERE), (b"b", THERE)] {
            quotas.give_back(user, source, Holding::ALLOCATION);
        }
        let counts = quotas.counts();
        assert!(
            counts.total.is_nothing() && counts.of_user.accounts.is_empty() && counts.of_prefix.accounts.is_empty()
        );
    }

    #[test]
    fn each_limit_of_permissions_and_channels_holds() {
        let (quotas, limits, now) = (Quotas::default(), limits(), start());
        for (user, source) in [(b"a", HERE), (b"b", HERE), (b"c", THERE)] {
            quotas.admit(user, source, &limits, now).unwrap();
        }
        let take = |user: &[u8], source, permissions, channels| {
            let more = Holding { allocations: 0, permissions, channels };
            let room = quotas.room(user, source, more, &limits);
            assert_eq!(quotas.take(user, source, more, &limits), room);
            room.err()
        };
        assert_eq!(take(b"a", HERE, 5, 0), Some(Quota::User));
        assert_eq!(take(b"a", HERE, 4, 1), None);
        assert_eq!(take(b"a", HERE, 0, 1), Some(Quota::User));
        assert_eq!(take(b"b", HERE, 2, 0), Some(Quota::Source));
        assert_eq!(take(b"b", HERE, 1, 1), None);
        assert_eq!(take(b"c", THERE, 2, 0), Some(Quota::Total));
        assert_eq!(take(b"c", THERE, 1, 1), None);
        assert_eq!(quotas.total(), Holding { allocations: 3, permissions: 6, channels: 3 });
        quotas.give_back(b"a", HERE, Holding { allocations: 1, permissions: 4, channels: 1 });
        assert_eq!(take(b"c", THERE, 3, 0), None);
    }

    #[test]
    fn a_limit_that_was_lowered_refuses_only_what_it_limits() {
        let (quotas, now) = (Quotas::default(), start());
        quotas.admit(b"a", HERE, &limits(), now).unwrap();
        let permissions = |permissions| Holding { permissions, ..Holding::default() };
        assert_eq!(quotas.take(b"a", HERE, permissions(4), &limits()), Ok(()));
        let lowered = Limits { permissions_per_user: 2, ..limits() };
        assert_eq!(quotas.room(b"a", HERE, permissions(1), &lowered), Err(Quota::User));
        assert_eq!(quotas.room(b"a", HERE, Holding { channels: 1, ..Holding::default() }, &lowered), Ok(()));
    }

    /// Else an allocation and its end, over and over, would be a full bucket each time.
    #[test]
    fn who_comes_back_finds_the_bucket_as_it_was_and_is_forgotten_in_the_end() {
        let (quotas, limits, now) = (Quotas::default(), limits(), start());
        let [bucket, _] = quotas.admit(b"a", HERE, &limits, now).unwrap();
        bucket.owe(1000, 1000, quotas.elapsed_ns(now));
        quotas.give_back(b"a", HERE, Holding::ALLOCATION);
        let [again, _] = quotas.admit(b"a", HERE, &limits, now).unwrap();
        assert!(Arc::ptr_eq(&bucket, &again));
        quotas.give_back(b"a", HERE, Holding::ALLOCATION);
        let later = now + Duration::from_secs(2);
        for user in 0..1000u32 {
            let user = user.to_be_bytes();
            let [bucket, _] = quotas.admit(&user, THERE, &limits, later).unwrap();
            bucket.owe(1, 1_000_000, quotas.elapsed_ns(later));
            quotas.give_back(&user, THERE, Holding::ALLOCATION);
        }
        assert_eq!(quotas.counts().of_user.accounts.len(), 1000, "each has just used something");
        for user in 0..100u32 {
            quotas.admit(&user.to_le_bytes(), HERE, &Limits::default(), later + Duration::from_secs(1)).unwrap();
        }
        assert!(quotas.counts().of_user.accounts.len() < 200);
    }
}
