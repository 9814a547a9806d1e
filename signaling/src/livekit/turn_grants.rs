use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::matrix::Member;

/// As many are remembered; beyond, the one that ends first is forgotten. Some 8 MB.
const GRANTS_MAX: usize = 16_384;

/// For whom a TURN credential was made.
#[derive(Clone, Debug)]
pub struct TurnGrant {
    /// The room's name.
    pub room: String,
    pub identity: String,
    pub member: Option<Member>,
    /// Since the Unix epoch.
    pub ends: Duration,
}

/// The TURN credentials that were handed out and still count. Who is removed may have several: coming back as a new
/// participant, under the same identity, gives another one and leaves the last one good.
#[derive(Debug, Default)]
pub struct TurnGrants {
    /// By the user in the credential: the sid of a participant, which is ours.
    grants: BTreeMap<String, TurnGrant>,
    /// The same in the order of their ends.
    ends: BTreeSet<(Duration, String)>,
}

impl TurnGrants {
    /// Another credential of the same user takes the place of its last one, which ends no later.
    pub fn note(&mut self, now: Duration, user: &str, grant: TurnGrant) {
        self.forget(user);
        while let Some((_, first)) = self.ends.first().filter(|(end, _)| *end <= now || self.grants.len() >= GRANTS_MAX)
        {
            let first = first.clone();
            self.forget(&first);
        }
        self.ends.insert((grant.ends, user.to_owned()));
        self.grants.insert(user.to_owned(), grant);
    }

    /// Takes out those that are meant, and says whose they are.
    pub fn take(&mut self, now: Duration, is_meant: impl Fn(&TurnGrant) -> bool) -> Vec<String> {
        let meant = self.grants.iter().filter(|(_, grant)| grant.ends > now && is_meant(grant));
        let users: Vec<String> = meant.map(|(user, _)| user.clone()).collect();
        users.iter().for_each(|user| self.forget(user));
        users
    }

    fn forget(&mut self, user: &str) {
        if let Some((user, grant)) = self.grants.remove_entry(user) {
            self.ends.remove(&(grant.ends, user));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(identity: &str, ends: u64) -> TurnGrant {
        let identity = identity.to_owned();
        TurnGrant { room: "kitchen".into(), identity, member: None, ends: Duration::from_secs(ends) }
    }

    #[test]
    fn all_of_one_person_are_found_while_they_count() {
        let mut grants = TurnGrants::default();
        let at = Duration::from_secs;
        for (user, identity, ends) in [("a1", "anna", 10), ("a2", "anna", 20), ("b1", "bert", 30), ("a2", "anna", 25)] {
            grants.note(at(0), user, grant(identity, ends));
        }
        assert_eq!(grants.ends.len(), 3);
        assert_eq!(grants.take(at(10), |grant| grant.identity == "anna"), ["a2"]);
        assert!(grants.take(at(10), |grant| grant.identity == "anna").is_empty());
        grants.note(at(10), "b2", grant("bert", 40));
        assert_eq!((grants.grants.len(), grants.ends.len()), (2, 2), "what has ended is gone");
    }

    #[test]
    fn the_one_that_ends_first_makes_room() {
        let mut grants = TurnGrants::default();
        for user in 0..=GRANTS_MAX as u64 {
            grants.note(Duration::ZERO, &user.to_string(), grant("anna", 100 + user));
        }
        assert_eq!((grants.grants.len(), grants.ends.len()), (GRANTS_MAX, GRANTS_MAX));
        assert!(!grants.grants.contains_key("0") && grants.grants.contains_key("1"));
    }
}
