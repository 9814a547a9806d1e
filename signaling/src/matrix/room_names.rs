//! What rooms are called, as far as the homeserver's events told since we started.

use std::collections::{BTreeMap, VecDeque};

#[derive(Default)]
struct Names {
    name: Option<String>,
    alias: Option<String>,
}

/// Bounded: the room first heard of is forgotten first.
pub struct RoomNames {
    capacity: usize,
    rooms: BTreeMap<String, Names>,
    order: VecDeque<String>,
}

impl RoomNames {
    pub fn new(capacity: usize) -> RoomNames {
        RoomNames { capacity: capacity.max(1), rooms: BTreeMap::new(), order: VecDeque::new() }
    }

    pub fn set_name(&mut self, room_id: &str, name: Option<String>) {
        self.names(room_id).name = name;
    }

    pub fn set_alias(&mut self, room_id: &str, alias: Option<String>) {
        self.names(room_id).alias = alias;
    }

    pub fn get(&self, room_id: &str) -> Option<&str> {
        let names = self.rooms.get(room_id)?;
        names.name.as_deref().or(names.alias.as_deref())
    }

    fn names(&mut self, room_id: &str) -> &mut Names {
        if !self.rooms.contains_key(room_id) {
            while self.order.len() >= self.capacity
                && let Some(first) = self.order.pop_front()
            {
                self.rooms.remove(&first);
            }
            self.order.push_back(room_id.to_owned());
        }
        self.rooms.entry(room_id.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_before_an_alias_and_the_oldest_is_forgotten() {
        let mut names = RoomNames::new(2);
        names.set_alias("!a", Some("#a:hs".into()));
        assert_eq!(names.get("!a"), Some("#a:hs"));
        names.set_name("!a", Some("A".into()));
        assert_eq!(names.get("!a"), Some("A"));
        names.set_name("!a", None);
        assert_eq!(names.get("!a"), Some("#a:hs"));
        names.set_name("!b", Some("B".into()));
        names.set_name("!c", Some("C".into()));
        assert_eq!(names.get("!a"), None);
        assert_eq!((names.get("!b"), names.get("!c")), (Some("B"), Some("C")));
    }
}
