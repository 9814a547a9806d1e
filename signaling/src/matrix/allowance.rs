//! How often one user may ask.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Requests at once, and how soon each of them may come again. A client asks two or three times to join a call, and again
/// for every server that takes part in it.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(3);

/// Users are proven before they get here, so the table grows no faster than there are users; beyond its capacity those
/// that have been silent are forgotten, and if there are none, nobody new is let in.
pub struct Allowances {
    capacity: usize,
    /// When a user's allowance will be whole again.
    whole: BTreeMap<String, Instant>,
}

impl Allowances {
    pub fn new(capacity: usize) -> Allowances {
        Allowances { capacity: capacity.max(1), whole: BTreeMap::new() }
    }

    /// The time to wait, if it is too soon.
    pub fn take(&mut self, now: Instant, user_id: &str) -> Result<(), Duration> {
        if !self.whole.contains_key(user_id) && self.whole.len() >= self.capacity {
            self.whole.retain(|_, whole| *whole > now);
            if self.whole.len() >= self.capacity {
                return Err(REFILL);
            }
        }
        let whole = self.whole.entry(user_id.to_owned()).or_insert(now);
        let next = (*whole).max(now) + REFILL;
        let latest = now + REFILL * BURST;
        if next > latest {
            return Err(next - latest);
        }
        *whole = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        #[allow(clippy::disallowed_methods)] // Some instant to count from.
        let now = Instant::now();
        let mut users = Allowances::new(2);
        for _ in 0..BURST {
            assert_eq!(users.take(now, "@a:hs"), Ok(()));
        }
        assert_eq!(users.take(now, "@a:hs"), Err(REFILL));
        assert_eq!(users.take(now, "@b:hs"), Ok(()));
        assert_eq!(users.take(now, "@c:hs"), Err(REFILL), "the table is full");
        let later = now + REFILL;
        assert_eq!(users.take(later, "@a:hs"), Ok(()));
        assert!(users.take(later, "@a:hs").is_err());
        assert_eq!(users.take(later, "@c:hs"), Ok(()), "b has been silent");
    }
}
