//! Who is in which room, as far as the homeserver's events told since we started.

use std::collections::{BTreeMap, VecDeque};

/// Room and user. Users choose both, through other servers too.
type Key = (String, String);

/// Bounded: what was learned first is forgotten first.
pub struct SeenMembers {
    capacity: usize,
    joined: BTreeMap<Key, bool>,
    /// In the order in which they were first seen.
    order: VecDeque<Key>,
}

impl SeenMembers {
    pub fn new(capacity: usize) -> SeenMembers {
        SeenMembers { capacity: capacity.max(1), joined: BTreeMap::new(), order: VecDeque::new() }
    }

    pub fn count_all(&self) -> usize {
        self.joined.len()
    }

    pub fn set(&mut self, room_id: &str, user_id: &str, joined: bool) {
        let key = (room_id.to_owned(), user_id.to_owned());
        if let Some(known) = self.joined.get_mut(&key) {
            *known = joined;
            return;
        }
        while self.order.len() >= self.capacity
            && let Some(first) = self.order.pop_front()
        {
            self.joined.remove(&first);
        }
        self.order.push_back(key.clone());
        self.joined.insert(key, joined);
    }

    /// `None`: no event told.
    pub fn is_joined(&self, room_id: &str, user_id: &str) -> Option<bool> {
        self.joined.get(&(room_id.to_owned(), user_id.to_owned())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_the_first_seen_is_forgotten() {
        let mut seen = SeenMembers::new(2);
        assert_eq!(seen.is_joined("!r", "@a:hs"), None);
        seen.set("!r", "@a:hs", true);
        seen.set("!r", "@a:hs", false);
        assert_eq!(seen.is_joined("!r", "@a:hs"), Some(false));
        seen.set("!r", "@b:hs", true);
        seen.set("!s", "@a:hs", true);
        assert_eq!(seen.is_joined("!r", "@a:hs"), None);
        assert_eq!(seen.is_joined("!s", "@a:hs"), Some(true));
        assert_eq!(seen.count_all(), 2);
    }
}
