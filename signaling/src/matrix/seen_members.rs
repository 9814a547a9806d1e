//! Who is in which room, as far as the homeserver's events told since we started.

use std::collections::{BTreeMap, VecDeque};

use super::ServerName;

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

    /// Whether any user of a server is in the room; `None`: no event told of one.
    pub fn is_server_joined(&self, room_id: &str, server: &ServerName) -> Option<bool> {
        let mut told = None;
        let room =
            self.joined.range((room_id.to_owned(), String::new())..).take_while(|((room, _), _)| room == room_id);
        for ((_, user_id), joined) in room {
            if user_id.split_once(':').is_some_and(|(_, of)| of == server.as_str()) {
                if *joined {
                    return Some(true);
                }
                told = Some(false);
            }
        }
        told
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

    #[test]
    fn a_server_is_in_a_room_with_any_of_its_users() {
        let mut seen = SeenMembers::new(10);
        let server = ServerName::parse("hs:8448").unwrap();
        seen.set("!r", "@a:hs", true);
        seen.set("!s", "@a:hs:8448", true);
        assert_eq!(seen.is_server_joined("!r", &server), None);
        seen.set("!r", "@a:hs:8448", false);
        assert_eq!(seen.is_server_joined("!r", &server), Some(false));
        seen.set("!r", "@b:hs:8448", true);
        assert_eq!(seen.is_server_joined("!r", &server), Some(true));
    }
}
