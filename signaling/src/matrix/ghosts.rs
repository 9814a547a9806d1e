//! Call memberships without a participant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use datapath::Now;

use super::Member;

/// A member whose membership nobody fills for this long is a ghost.
const ABSENCE_MAX: Duration = Duration::from_secs(60);
/// A client that is not let into the call may put its membership back whenever it is ended (Element Call does). Each time it
/// is given twice as long, up to 2⁶ minutes, so that the two do not fill the room's history.
const DOUBLINGS_MAX: u32 = 6;

/// Member, and the key of its membership in the room: a device may have memberships of both forms.
type Key = (Member, String);

#[derive(Clone, Copy, Debug)]
struct Membership {
    /// Unix time from which on nobody shows it.
    expires: Duration,
    /// When it is a ghost, unless its participant comes.
    due: Option<Instant>,
    is_ghost: bool,
}

/// The call memberships of the homeserver's own users that name this server. Bounded: beyond it a new one is not watched.
pub struct Ghosts {
    capacity: usize,
    memberships: BTreeMap<Key, Membership>,
    due: BTreeSet<(Instant, Key)>,
    /// How often a member became a ghost since it was last here. Bounded as the memberships are.
    returns: BTreeMap<Member, u32>,
}

impl Ghosts {
    pub fn new(capacity: usize) -> Ghosts {
        Ghosts { capacity, memberships: BTreeMap::new(), due: BTreeSet::new(), returns: BTreeMap::new() }
    }

    /// Memberships that are watched.
    pub fn count_all(&self) -> usize {
        self.memberships.len()
    }

    /// Those of them without a participant for too long.
    pub fn count(&self) -> usize {
        self.memberships.values().filter(|membership| membership.is_ghost).count()
    }

    /// A membership was seen. `present`: so is its participant.
    pub fn begin(&mut self, now: Now, member: Member, key: &str, expires: Duration, present: bool) {
        let key = (member, key.to_owned());
        if let Some(known) = self.memberships.get_mut(&key) {
            known.expires = expires;
            return;
        }
        if self.memberships.len() >= self.capacity || expires <= now.unix {
            return;
        }
        let membership = Membership { expires, due: None, is_ghost: false };
        let returns = self.returns.get(&key.0).copied().unwrap_or(0).min(DOUBLINGS_MAX);
        self.memberships.insert(key.clone(), membership);
        if !present {
            self.watch(&key, now.instant + ABSENCE_MAX * 2_u32.pow(returns));
        }
    }

    /// The membership ended. `device_id` of a membership that ends is not told; the key is enough.
    pub fn end(&mut self, room_id: &str, user_id: &str, key: &str) {
        let of_user = self.of_user(room_id, user_id);
        for known in of_user.into_iter().filter(|known| known.1 == key) {
            self.forget(&known);
        }
    }

    /// Who is no longer in the room is in no call of it.
    pub fn end_all(&mut self, room_id: &str, user_id: &str) {
        for known in self.of_user(room_id, user_id) {
            self.forget(&known);
        }
    }

    pub fn handle_presence(&mut self, now: Now, member: &Member, present: bool) {
        let first = (member.clone(), String::new());
        let of_member = self.memberships.range(first..).take_while(|((of, _), _)| of == member);
        let keys: Vec<Key> = of_member.map(|(key, _)| key.clone()).collect();
        if present {
            self.returns.remove(member);
        }
        for key in keys {
            if present {
                self.unwatch(&key);
                if let Some(membership) = self.memberships.get_mut(&key) {
                    membership.is_ghost = false;
                }
            } else {
                self.watch(&key, now.instant + ABSENCE_MAX);
            }
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next member that has become a ghost.
    pub fn pop(&mut self, now: Now) -> Option<Member> {
        loop {
            let (at, key) = self.due.first()?.clone();
            if at > now.instant {
                return None;
            }
            self.unwatch(&key);
            let membership = self.memberships.get_mut(&key)?;
            if membership.expires <= now.unix {
                self.memberships.remove(&key);
                continue;
            }
            let is_new = !std::mem::replace(&mut membership.is_ghost, true);
            // It goes by itself in the end.
            let rest = membership.expires.saturating_sub(now.unix);
            self.watch(&key, now.instant + rest);
            if is_new {
                if self.returns.len() >= self.capacity {
                    self.returns.clear();
                }
                *self.returns.entry(key.0.clone()).or_default() += 1;
                return Some(key.0);
            }
        }
    }

    fn of_user(&self, room_id: &str, user_id: &str) -> Vec<Key> {
        let first = Member { room_id: room_id.to_owned(), user_id: user_id.to_owned(), device_id: String::new() };
        let known = self.memberships.range((first, String::new())..);
        let of_user = known.take_while(|((of, _), _)| of.room_id == room_id && of.user_id == user_id);
        of_user.map(|(key, _)| key.clone()).collect()
    }

    fn watch(&mut self, key: &Key, at: Instant) {
        self.unwatch(key);
        if let Some(membership) = self.memberships.get_mut(key) {
            membership.due = Some(at);
            self.due.insert((at, key.clone()));
        }
    }

    fn unwatch(&mut self, key: &Key) {
        if let Some(at) = self.memberships.get_mut(key).and_then(|membership| membership.due.take()) {
            self.due.remove(&(at, key.clone()));
        }
    }

    fn forget(&mut self, key: &Key) {
        self.unwatch(key);
        self.memberships.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::{self, start};

    fn after(start: Now, seconds: u64) -> Now {
        test_clock::after(start, Duration::from_secs(seconds))
    }

    fn member(device: &str) -> Member {
        Member { room_id: "!r".into(), user_id: "@a:hs".into(), device_id: device.into() }
    }

    const FOUR_HOURS: Duration = Duration::from_secs(1_000_000 + 4 * 3600);

    #[test]
    fn a_membership_that_nobody_fills_is_a_ghost_after_a_minute() {
        let start = start();
        let mut ghosts = Ghosts::new(10);
        ghosts.begin(start, member("PHONE"), "key", FOUR_HOURS, false);
        ghosts.begin(start, member("LAPTOP"), "other", FOUR_HOURS, false);
        ghosts.handle_presence(after(start, 5), &member("LAPTOP"), true);
        // Renewing it is no sign of life: the client may be without media.
        ghosts.begin(after(start, 50), member("PHONE"), "key", FOUR_HOURS, false);
        assert_eq!(ghosts.pop(after(start, 59)), None);
        assert_eq!(ghosts.pop(after(start, 60)), Some(member("PHONE")));
        assert_eq!(ghosts.pop(after(start, 600)), None, "told once");
        assert_eq!((ghosts.count(), ghosts.count_all()), (1, 2));
        ghosts.handle_presence(after(start, 700), &member("PHONE"), true);
        assert_eq!(ghosts.count(), 0);
        ghosts.handle_presence(after(start, 800), &member("PHONE"), false);
        ghosts.end("!r", "@a:hs", "key");
        assert_eq!(ghosts.pop(after(start, 900)), None);
        ghosts.end_all("!r", "@a:hs");
        assert!(ghosts.count_all() == 0);
        assert_eq!(ghosts.poll_timeout(), None);
    }

    #[test]
    fn a_ghost_fades_when_its_membership_expires() {
        let start = start();
        let mut ghosts = Ghosts::new(10);
        let expires = start.unix + Duration::from_secs(300);
        ghosts.begin(start, member("PHONE"), "key", expires, false);
        assert_eq!(ghosts.pop(after(start, 60)), Some(member("PHONE")));
        assert_eq!(ghosts.pop(after(start, 301)), None);
        assert!(ghosts.count_all() == 0);
        ghosts.begin(after(start, 301), member("PHONE"), "key", expires, false);
        assert!(ghosts.count_all() == 0, "old news");
    }

    #[test]
    fn a_client_that_puts_its_membership_back_is_given_longer_each_time() {
        let start = start();
        let mut ghosts = Ghosts::new(10);
        let mut at = 0;
        for wait in [60, 120, 240, 480, 960, 1920, 3840, 3840] {
            ghosts.begin(after(start, at), member("PHONE"), "key", FOUR_HOURS * 2, false);
            assert_eq!(ghosts.pop(after(start, at + wait - 1)), None, "{wait}");
            assert_eq!(ghosts.pop(after(start, at + wait)), Some(member("PHONE")), "{wait}");
            ghosts.end("!r", "@a:hs", "key");
            at += wait;
        }
        ghosts.handle_presence(after(start, at), &member("PHONE"), true);
        ghosts.handle_presence(after(start, at), &member("PHONE"), false);
        ghosts.begin(after(start, at), member("PHONE"), "key", FOUR_HOURS * 2, false);
        assert_eq!(ghosts.pop(after(start, at + 60)), Some(member("PHONE")));
    }

    #[test]
    fn there_is_an_end_to_what_is_watched() {
        let start = start();
        let mut ghosts = Ghosts::new(3);
        for index in 0..10 {
            ghosts.begin(start, member(&format!("D{index}")), "key", FOUR_HOURS, false);
        }
        assert_eq!(ghosts.count_all(), 3);
    }
}
