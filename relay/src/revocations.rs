use std::collections::{HashMap, VecDeque};
use std::time::Instant;

/// As many users at once: an operator names them one by one.
pub const REVOCATIONS_MAX: usize = 1024;

/// As many users of credentials that the program itself handed out and took back. Some 2 MB.
pub const WITHDRAWALS_MAX: usize = 16_384;

/// Users who get no allocation for a time, though their credentials are good: a REST credential cannot be taken back, it
/// ends by itself.
#[derive(Debug, Default)]
pub struct Revocations {
    /// By the operator.
    until: HashMap<Box<[u8]>, Instant>,
    /// By the program. Apart, so that people who come into calls and are removed take no room from the operator.
    withdrawn: HashMap<Box<[u8]>, Instant>,
    /// The same in the order in which it came.
    withdrawals: VecDeque<(Instant, Box<[u8]>)>,
}

impl Revocations {
    /// Shuts a user out until then; a time that has passed lets it in again. False when too many are shut out already.
    pub fn set(&mut self, now: Instant, user: &[u8], until: Instant) -> bool {
        self.until.retain(|other, until| *until > now && **other != *user);
        if until <= now {
            return true;
        }
        let has_room = self.until.len() < REVOCATIONS_MAX;
        if has_room {
            self.until.insert(user.into(), until);
        }
        has_room
    }

    /// Shuts a user out until then whose credential is withdrawn. When there are too many, the first one's is forgotten.
    pub fn withdraw(&mut self, now: Instant, user: &[u8], until: Instant) {
        while let Some((end, first)) = self.withdrawals.front()
            && (*end <= now || self.withdrawals.len() >= WITHDRAWALS_MAX)
        {
            // A later one for the same user counts.
            if self.withdrawn.get(first) == Some(end) {
                self.withdrawn.remove(first);
            }
            self.withdrawals.pop_front();
        }
        let later = self.withdrawn.get(user).is_none_or(|former| *former < until);
        if later && until > now {
            self.withdrawn.insert(user.into(), until);
            self.withdrawals.push_back((until, user.into()));
        }
    }

    pub fn holds(&self, now: Instant, user: &[u8]) -> bool {
        let holds = |ends: &HashMap<Box<[u8]>, Instant>| ends.get(user).is_some_and(|until| *until > now);
        holds(&self.until) || holds(&self.withdrawn)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::test_clock::start;

    #[test]
    fn a_time_that_passes_and_makes_room() {
        let now = start();
        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        let mut revocations = Revocations::default();
        for user in 0..REVOCATIONS_MAX {
            assert!(revocations.set(now, &user.to_be_bytes(), soon));
        }
        assert!(!revocations.set(now, b"one more", soon));
        assert!(!revocations.holds(now, b"one more"));
        // Whoever is shut out already takes no more room.
        assert!(revocations.set(now, &7usize.to_be_bytes(), later));
        assert!(revocations.set(soon, b"one more", later));
        let held =
            [&7usize.to_be_bytes()[..], b"one more", &8usize.to_be_bytes()].map(|user| revocations.holds(soon, user));
        assert_eq!(held, [true, true, false]);
        assert!(revocations.set(soon, b"one more", soon));
        assert!(!revocations.holds(soon, b"one more"));
        assert!(!revocations.holds(later, &7usize.to_be_bytes()));
    }

    #[test]
    fn what_the_program_withdraws_takes_no_room_from_the_operator_and_has_an_end() {
        let now = start();
        let later = now + Duration::from_secs(1);
        let mut revocations = Revocations::default();
        for user in 0..=WITHDRAWALS_MAX {
            revocations.withdraw(now, &user.to_be_bytes(), later);
        }
        let held = [0, 1, WITHDRAWALS_MAX].map(|user| revocations.holds(now, &user.to_be_bytes()));
        assert_eq!(held, [false, true, true], "the first one has made room");
        assert!(revocations.set(now, b"anna", later) && revocations.holds(now, b"anna"));
        assert!(revocations.set(now, b"anna", now), "as the operator wishes");
        revocations.withdraw(now, b"anna", later);
        assert!(revocations.set(now, b"anna", now) && revocations.holds(now, b"anna"));
        revocations.withdraw(later, b"ben", later + Duration::from_secs(1));
        assert_eq!((revocations.withdrawn.len(), revocations.withdrawals.len()), (1, 1));
        assert!(!revocations.holds(later, b"anna"));
    }

    #[test]
    fn who_is_withdrawn_again_is_shut_out_for_longer_and_takes_no_more_room() {
        let now = start();
        let [soon, later] = [1, 2].map(|seconds| now + Duration::from_secs(seconds));
        let mut revocations = Revocations::default();
        revocations.withdraw(now, b"anna", soon);
        revocations.withdraw(now, b"anna", later);
        for _ in 0..10 {
            revocations.withdraw(now, b"anna", later);
        }
        assert_eq!(revocations.withdrawals.len(), 2);
        revocations.withdraw(soon, b"ben", later);
        assert!(revocations.holds(soon, b"anna"));
        assert_eq!(revocations.withdrawals.len(), 2);
    }
}
