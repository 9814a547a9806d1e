//! Which worker has what comes from a five-tuple that the kernel gives to this one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Endpoint;

/// An entry that is not learned again is forgotten after once to twice this. A TURN client refreshes its allocation
/// within an hour, a participant checks its connectivity every few seconds.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Entries after which the older half is forgotten early.
const ENTRIES_MAX: usize = 1 << 16;

/// Learned from other workers alone, after a check or a request has verified there: a stranger adds nothing. Forgotten
/// by whole generations, so that no entry needs a time of its own.
#[derive(Debug)]
pub struct Owners {
    /// Clients choose their addresses: SipHash, as std's map has it.
    recent: HashMap<(Endpoint, SocketAddr), u8>,
    former: HashMap<(Endpoint, SocketAddr), u8>,
    turned_at: Instant,
    /// What was looked up last: packets come in trains. Forgotten whenever a table changes.
    last: Option<((Endpoint, SocketAddr), Option<u8>)>,
}

impl Owners {
    pub fn new(now: Instant) -> Owners {
        Owners { recent: HashMap::new(), former: HashMap::new(), turned_at: now, last: None }
    }

    /// The worker that has the five-tuple; `None`: this one, or nobody.
    pub fn find(&mut self, local: Endpoint, remote: SocketAddr) -> Option<u8> {
        if self.recent.is_empty() && self.former.is_empty() {
            return None;
        }
        let key = (local, remote);
        if let Some((last, owner)) = self.last
            && last == key
        {
            return owner;
        }
        let owner = self.recent.get(&key).or_else(|| self.former.get(&key)).copied();
        self.last = Some((key, owner));
        owner
    }

    pub fn learn(&mut self, local: Endpoint, remote: SocketAddr, owner: u8, now: Instant) {
        self.last = None;
        if self.recent.len() >= ENTRIES_MAX || now.saturating_duration_since(self.turned_at) >= LIFETIME {
            self.former = std::mem::take(&mut self.recent);
            self.turned_at = now;
        }
        self.recent.insert((local, remote), owner);
    }

    /// The five-tuple has proved itself to this worker.
    pub fn forget(&mut self, local: Endpoint, remote: SocketAddr) {
        self.last = None;
        self.recent.remove(&(local, remote));
        self.former.remove(&(local, remote));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Endpoint = Endpoint::Listener { index: 0, ip: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST) };

    fn remote(number: u32) -> SocketAddr {
        let [_, b, c, d] = number.to_be_bytes();
        ([198, b, c, d], 40_000).into()
    }

    #[expect(clippy::disallowed_methods, reason = "a monotonic time to start from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_last_owner_counts_and_can_be_forgotten() {
        let now = start();
        let mut owners = Owners::new(now);
        assert_eq!(owners.find(LOCAL, remote(1)), None);
        owners.learn(LOCAL, remote(1), 1, now);
        assert_eq!(owners.find(LOCAL, remote(1)), Some(1));
        assert_eq!(owners.find(LOCAL, remote(2)), None);
        let other = Endpoint::Listener { index: 1, ip: [127, 0, 0, 1].into() };
        assert_eq!(owners.find(other, remote(1)), None);
        owners.learn(LOCAL, remote(1), 2, now);
        assert_eq!(owners.find(LOCAL, remote(1)), Some(2));
        owners.forget(LOCAL, remote(1));
        assert_eq!(owners.find(LOCAL, remote(1)), None);
    }

    #[test]
    fn what_is_learned_again_stays_and_the_rest_goes() {
        let start = start();
        let mut owners = Owners::new(start);
        owners.learn(LOCAL, remote(1), 1, start);
        owners.learn(LOCAL, remote(2), 1, start);
        for hours in 1..=3 {
            owners.learn(LOCAL, remote(1), 1, start + LIFETIME * hours);
            assert_eq!(owners.find(LOCAL, remote(2)), (hours < 2).then_some(1));
        }
        assert_eq!(owners.find(LOCAL, remote(1)), Some(1));
        owners.forget(LOCAL, remote(1));
        assert_eq!(owners.find(LOCAL, remote(1)), None, "of neither generation");
    }

    #[test]
    fn the_table_is_bounded() {
        let now = start();
        let mut owners = Owners::new(now);
        for number in 0..3 * ENTRIES_MAX as u32 {
            owners.learn(LOCAL, remote(number), 1, now);
            assert!(owners.recent.len() + owners.former.len() <= 2 * ENTRIES_MAX);
        }
        assert_eq!(owners.find(LOCAL, remote(0)), None);
        assert_eq!(owners.find(LOCAL, remote(3 * ENTRIES_MAX as u32 - 1)), Some(1));
    }
}
