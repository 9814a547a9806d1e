use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::rate::source_prefix;
use crate::settings::Limits;

/// How many allocations there are, and whose. A share is taken when an allocation is made and given back when it ends.
///
/// One for all workers, so that a limit is one limit. No packet takes the lock: only the begin and the end of an
/// allocation, and a client that moves.
#[derive(Clone, Debug, Default)]
pub struct Quotas(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    /// The key is chosen by clients: SipHash.
    per_user: HashMap<Box<[u8]>, usize>,
    /// The key is chosen by clients: SipHash.
    per_prefix: HashMap<u64, usize>,
}

impl Quotas {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Each change is whole before anything in it could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a share, or says that there is none.
    pub(crate) fn take(&self, user: &[u8], source: IpAddr, limits: &Limits) -> bool {
        self.counts().take(user, source, limits)
    }

    /// A share moves to another source, if that may have one more.
    pub(crate) fn relocate(&self, from: IpAddr, to: IpAddr, limits: &Limits) -> bool {
        self.counts().relocate(from, to, limits)
    }

    pub(crate) fn give_back(&self, user: &[u8], source: IpAddr) {
        self.counts().give_back(user, source);
    }
}

impl Counts {
    fn take(&mut self, user: &[u8], source: IpAddr, limits: &Limits) -> bool {
        let prefix = source_prefix(source);
        let of_user = self.per_user.get(user).copied().unwrap_or(0);
        let of_prefix = self.per_prefix.get(&prefix).copied().unwrap_or(0);
        let free = self.total < limits.allocations
            && of_user < limits.allocations_per_user
            && of_prefix < limits.allocations_per_prefix;
        if free {
            self.total += 1;
            *self.per_user.entry(user.into()).or_default() += 1;
            *self.per_prefix.entry(prefix).or_default() += 1;
        }
        free
    }

    fn relocate(&mut self, from: IpAddr, to: IpAddr, limits: &Limits) -> bool {
        let (from, to) = (source_prefix(from), source_prefix(to));
        if from == to {
            return true;
        }
        if self.per_prefix.get(&to).copied().unwrap_or(0) >= limits.allocations_per_prefix {
            return false;
        }
        *self.per_prefix.entry(to).or_default() += 1;
        self.leave_prefix(from);
        true
    }

    fn leave_prefix(&mut self, prefix: u64) {
        let of_prefix = self.per_prefix.get_mut(&prefix).expect("the share was taken");
        *of_prefix -= 1;
        if *of_prefix == 0 {
            self.per_prefix.remove(&prefix);
        }
    }

    fn give_back(&mut self, user: &[u8], source: IpAddr) {
        let prefix = source_prefix(source);
        self.total -= 1;
        let of_user = self.per_user.get_mut(user).expect("the share was taken");
        *of_user -= 1;
        if *of_user == 0 {
            self.per_user.remove(user);
        }
        self.leave_prefix(prefix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_holds_and_nothing_is_left_behind() {
        let limits = Limits { allocations: 4, allocations_per_user: 2, allocations_per_prefix: 3, ..Limits::default() };
        let mut quotas = Counts::default();
        let here: IpAddr = [192, 0, 2, 1].into();
        let there: IpAddr = [198, 51, 100, 1].into();
        assert!(quotas.take(b"a", here, &limits) && quotas.take(b"a", here, &limits));
        assert!(!quotas.take(b"a", there, &limits), "per user");
        assert!(quotas.take(b"b", here, &limits));
        assert!(!quotas.take(b"b", [192, 0, 2, 200].into(), &limits), "per /24");
        assert!(quotas.take(b"b", there, &limits));
        assert!(!quotas.take(b"c", there, &limits), "in total");
        for (user, source) in [(b"a", here), (b"a", here), (b"b", here), (b"b", there)] {
            quotas.give_back(user, source);
        }
        assert!(quotas.total == 0 && quotas.per_user.is_empty() && quotas.per_prefix.is_empty());
    }
}
