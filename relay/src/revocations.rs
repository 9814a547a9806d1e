use std::collections::HashMap;
use std::time::Instant;

/// As many users at once: an operator names them one by one.
pub const REVOCATIONS_MAX: usize = 1024;

/// Users who get no allocation for a time, though their credentials are good: a REST credential cannot be taken back, it
/// ends by itself.
#[derive(Debug, Default)]
pub struct Revocations {
    until: HashMap<Box<[u8]>, Instant>,
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

    pub fn holds(&self, now: Instant, user: &[u8]) -> bool {
        self.until.get(user).is_some_and(|until| *until > now)
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
}
