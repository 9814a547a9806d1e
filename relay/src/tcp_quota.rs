use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::settings::TcpLimits;

/// How many TCP connections to and from peers there are, and whose; and which relayed addresses there are for TCP.
///
/// One for all workers, so that a limit is one limit, and clients of one reach those of another. Only the begin and the end
/// of a connection or an allocation takes the lock.
#[derive(Clone, Debug, Default)]
pub struct TcpQuota(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    /// The key is chosen by clients: SipHash.
    per_user: HashMap<Box<[u8]>, usize>,
    /// And whether connections are accepted there: clients of ours reach each other through these addresses.
    relayed: HashMap<SocketAddr, bool>,
}

impl TcpQuota {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Each change is whole before anything in it could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a share of the connections, or says that there is none.
    pub(crate) fn take(&self, user: &[u8], limits: &TcpLimits) -> bool {
        let mut counts = self.counts();
        let of_user = counts.per_user.get(user).copied().unwrap_or(0);
        let free = counts.connections < limits.connections && of_user < limits.connections_per_user;
        if free {
            counts.connections += 1;
            *counts.per_user.entry(user.into()).or_default() += 1;
        }
        free
    }

    pub(crate) fn give_back(&self, user: &[u8]) {
        let mut counts = self.counts();
        counts.connections -= 1;
        let of_user = counts.per_user.get_mut(user).expect("the share was taken");
        *of_user -= 1;
        if *of_user == 0 {
            counts.per_user.remove(user);
        }
    }

    /// A relayed address begins to be, listens from now on, or (`None`) is no more.
    pub(crate) fn set_relayed(&self, relayed: SocketAddr, listens: Option<bool>) {
        let relays = &mut self.counts().relayed;
        match listens {
            Some(listens) => _ = relays.insert(relayed, listens),
            None => _ = relays.remove(&relayed),
        }
    }

    /// Whether an allocation of any worker has this address.
    pub(crate) fn is_relayed(&self, address: SocketAddr) -> bool {
        self.counts().relayed.contains_key(&address)
    }

    /// Whether one listens there.
    pub(crate) fn is_listening(&self, address: SocketAddr) -> bool {
        self.counts().relayed.get(&address) == Some(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_holds_and_nothing_is_left_behind() {
        let quota = TcpQuota::default();
        let limits = TcpLimits { connections: 3, connections_per_user: 2, ..TcpLimits::default() };
        assert!(quota.take(b"a", &limits) && quota.take(b"a", &limits));
        assert!(!quota.take(b"a", &limits), "per user");
        assert!(quota.take(b"b", &limits));
        assert!(!quota.take(b"c", &limits), "in total");
        [b"a", b"a", b"b"].into_iter().for_each(|user| quota.give_back(user));
        let counts = quota.counts();
        assert!(counts.connections == 0 && counts.per_user.is_empty());
    }
}
