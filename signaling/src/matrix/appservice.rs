//! Our seat inside the homeserver: what its events tell about calls, and what follows from it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use datapath::Now;

use super::delayed_leave::{Outcomes, Record};
use super::ghosts::Ghosts;
use super::room_names::RoomNames;
use super::seen_members::SeenMembers;
use super::transaction::{self, CallMembership, Fact, LegacyCall, Malformed, Observation, Standing};
use super::{DelayedLeaves, Member, Presence, Seat, ServerName, TokenCensus};

/// Transactions whose repetition is noticed. The homeserver sends one after the other.
const TRANSACTIONS: usize = 64;
/// Octets of a transaction's id that are kept.
const TRANSACTION_ID_MAX: usize = 128;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Delegated leaves.
    pub leaves: usize,
    /// Call memberships that are compared with the participants.
    pub call_memberships: usize,
    /// Pairs of room and user of which an event told whether one is in the other.
    pub members: usize,
    pub room_names: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { leaves: 20_000, call_memberships: 20_000, members: 100_000, room_names: 20_000 }
    }
}

/// For the metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    pub transactions: u64,
    /// Transactions that had come before.
    pub repeated: u64,
    /// Requests without the right hs_token.
    pub refused: u64,
    pub events: u64,
    /// Events that could not be read.
    pub malformed: u64,
    /// From the newest event of the last transaction until it came.
    pub lag: Option<Duration>,
    /// Unix time of the last transaction.
    pub last_transaction: Option<Duration>,
    pub legacy_calls: Vec<(&'static str, u64)>,
    pub leaves_pending: usize,
    /// Of them, those of participants who are gone.
    pub leaves_overdue: usize,
    pub outcomes: Outcomes,
    pub call_memberships: usize,
    pub ghosts: usize,
    /// Ghosts that were ended by their delegated leave.
    pub ghosts_ended: u64,
    /// Sessions that ended because their user was no longer in the room.
    pub removed: u64,
    pub members: usize,
    pub tokens: TokenCensus,
}

pub struct Appservice {
    /// The homeserver's own name, behind a colon.
    local_suffix: String,
    /// Under which we are named as a transport, without slashes at their ends.
    service_urls: Vec<String>,
    pub leaves: DelayedLeaves,
    ghosts: Ghosts,
    names: RoomNames,
    members: SeenMembers,
    /// Ids of the last transactions.
    transactions: VecDeque<String>,
    legacy_calls: BTreeMap<LegacyCall, u64>,
    departures: Vec<(String, String)>,
    counts: Census,
}

impl Appservice {
    /// `service_urls`: the addresses by which call memberships name this server. `records`: what an earlier run owed.
    pub fn new(now: Now, server_name: &str, service_urls: &[&str], limits: Limits, records: Vec<Record>) -> Appservice {
        Appservice {
            local_suffix: format!(":{server_name}"),
            service_urls: service_urls.iter().map(|url| bare(url).to_owned()).collect(),
            leaves: DelayedLeaves::new(now, limits.leaves, records),
            ghosts: Ghosts::new(limits.call_memberships),
            names: RoomNames::new(limits.room_names),
            members: SeenMembers::new(limits.members),
            transactions: VecDeque::new(),
            legacy_calls: BTreeMap::new(),
            departures: Vec::new(),
            counts: Census::default(),
        }
    }

    /// `PUT /_matrix/app/v1/transactions/{id}`: idempotent by `id`.
    pub fn handle_transaction(&mut self, now: Now, id: &str, body: &[u8]) -> Result<(), Malformed> {
        let id: String = id.chars().take(TRANSACTION_ID_MAX).collect();
        self.counts.last_transaction = Some(now.unix);
        if self.transactions.contains(&id) {
            self.counts.repeated += 1;
            return Ok(());
        }
        let (observations, malformed) = transaction::parse(body)?;
        if self.transactions.len() >= TRANSACTIONS {
            self.transactions.pop_front();
        }
        self.transactions.push_back(id);
        self.counts.transactions += 1;
        self.counts.malformed += malformed;
        self.counts.events += observations.len() as u64;
        if let Some(newest) = observations.iter().map(|observation| observation.sent).max() {
            self.counts.lag = Some(now.unix.saturating_sub(newest));
        }
        for observation in observations {
            self.observe(now, observation);
        }
        // Of a homeserver that catches up the last word counts: who came back may be in a call by now.
        let members = &self.members;
        self.departures.retain(|(room_id, user_id)| members.is_joined(room_id, user_id) != Some(true));
        Ok(())
    }

    fn observe(&mut self, now: Now, observation: Observation) {
        let Observation { room_id, sender, fact, .. } = observation;
        match &fact {
            Fact::Membership { user_id, standing } => {
                self.members.set(&room_id, user_id, *standing == Standing::Joined);
                if *standing != Standing::Joined {
                    self.ghosts.end_all(&room_id, user_id);
                }
                if *standing == Standing::Gone {
                    self.departures.push((room_id, user_id.clone()));
                }
                return;
            }
            Fact::InCall(membership) => self.in_call(now, &room_id, &sender, membership),
            Fact::OutOfCall { key } => self.ghosts.end(&room_id, &sender, key),
            Fact::Name(name) => self.names.set_name(&room_id, name.clone()),
            Fact::CanonicalAlias(alias) => self.names.set_alias(&room_id, alias.clone()),
            Fact::LegacyCall(call) => *self.legacy_calls.entry(*call).or_default() += 1,
            Fact::Other => {}
        }
        // The homeserver lets nobody else send one.
        self.members.set(&room_id, &sender, true);
    }

    fn in_call(&mut self, now: Now, room_id: &str, sender: &str, membership: &CallMembership) {
        let ours = membership.service_urls.iter().any(|url| self.service_urls.iter().any(|own| own == bare(url)));
        if !ours || !sender.ends_with(&self.local_suffix) {
            // Under this key it may have named us before.
            return self.ghosts.end(room_id, sender, &membership.key);
        }
        let device_id = membership.device_id.clone();
        let member = Member { room_id: room_id.to_owned(), user_id: sender.to_owned(), device_id };
        let present = self.leaves.is_member_present(&member);
        self.ghosts.begin(now, member, &membership.key, membership.expires, present);
    }

    pub fn handle_presence(&mut self, now: Now, seat: &Seat, presence: Presence) {
        self.leaves.handle_presence(now, seat, presence);
        let present = self.leaves.is_member_present(&seat.member);
        self.ghosts.handle_presence(now, &seat.member, present);
    }

    /// Room and user of those who are in a room no longer: their sessions are to end.
    pub fn take_departures(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.departures)
    }

    /// Somebody asked without the right hs_token.
    pub fn count_refused(&mut self) {
        self.counts.refused += 1;
    }

    /// So many sessions ended by departures.
    pub fn count_removed(&mut self, sessions: usize) {
        self.counts.removed += sessions as u64;
    }

    /// What events told of a user; `None` if none did.
    pub fn is_joined(&self, room_id: &str, user_id: &str) -> Option<bool> {
        self.members.is_joined(room_id, user_id)
    }

    /// Whether an event told of anybody of a server in a room; `None` if none told of any.
    pub fn is_server_joined(&self, room_id: &str, server: &ServerName) -> Option<bool> {
        self.members.is_server_joined(room_id, server)
    }

    /// The room's name, else its canonical alias, where an event told.
    pub fn room_name(&self, room_id: &str) -> Option<&str> {
        self.names.get(room_id)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.leaves.poll_timeout(), self.ghosts.poll_timeout()].into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Now) {
        self.leaves.handle_timeout(now);
        while let Some(ghost) = self.ghosts.pop(now) {
            let ended = self.leaves.end(now, &ghost);
            self.counts.ghosts_ended += u64::from(ended);
            tracing::info!(ended, "a call membership of this server has had no participant for a minute");
        }
    }

    pub fn census(&self) -> Census {
        let (leaves_pending, leaves_overdue) = self.leaves.pending();
        let calls = LegacyCall::ALL.iter();
        Census {
            legacy_calls: calls
                .map(|call| (call.name(), self.legacy_calls.get(call).copied().unwrap_or_default()))
                .collect(),
            leaves_pending,
            leaves_overdue,
            outcomes: self.leaves.outcomes(),
            call_memberships: self.ghosts.count_all(),
            ghosts: self.ghosts.count(),
            members: self.members.count_all(),
            ..self.counts.clone()
        }
    }
}

fn bare(url: &str) -> &str {
    url.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Delegation;
    use crate::matrix::delayed_leave::Action;
    use crate::test_clock::{self, start};

    fn after(start: Now, seconds: u64) -> Now {
        test_clock::after(start, Duration::from_secs(seconds))
    }

    fn appservice(now: Now) -> Appservice {
        let urls = ["https://calls.hs/", "wss://calls.hs"];
        Appservice::new(now, "hs", &urls, Limits::default(), Vec::new())
    }

    fn member_event(user: &str, membership: &str) -> String {
        format!(
            r#"{{"type":"m.room.member","room_id":"!r","sender":"@admin:hs","state_key":"{user}",
            "origin_server_ts":1000000000,"content":{{"membership":"{membership}"}}}}"#
        )
    }

    fn call_event(user: &str, url: &str) -> String {
        format!(
            r#"{{"type":"org.matrix.msc3401.call.member","room_id":"!r","sender":"{user}","state_key":"_{user}_PHONE",
            "origin_server_ts":1000000000,"content":{{"device_id":"PHONE","expires":14400000,
            "foci_preferred":[{{"type":"livekit","livekit_service_url":"{url}"}}]}}}}"#
        )
    }

    fn push(appservice: &mut Appservice, now: Now, id: &str, events: &[String]) {
        let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
        appservice.handle_transaction(now, id, body.as_bytes()).unwrap();
    }

    fn seat(user: &str) -> Seat {
        let member = Member { room_id: "!r".into(), user_id: user.into(), device_id: "PHONE".into() };
        Seat { member, call: "c".into(), identity: format!("{user}:PHONE") }
    }

    #[test]
    fn who_leaves_a_room_is_told_once() {
        let now = start();
        let mut appservice = appservice(now);
        push(&mut appservice, now, "1", &[member_event("@a:hs", "join"), member_event("@b:hs", "ban")]);
        push(&mut appservice, now, "1", &[member_event("@a:hs", "leave")]);
        assert_eq!(appservice.take_departures(), [("!r".to_owned(), "@b:hs".to_owned())]);
        assert_eq!(appservice.is_joined("!r", "@a:hs"), Some(true), "the second was the first again");
        push(&mut appservice, now, "2", &[member_event("@a:hs", "leave")]);
        assert_eq!(appservice.take_departures().len(), 1);
        assert_eq!(appservice.is_joined("!r", "@a:hs"), Some(false));
        assert_eq!(appservice.is_joined("!r", "@admin:hs"), None, "who invites or kicks says nothing of itself here");
        let census = appservice.census();
        assert_eq!((census.transactions, census.repeated, census.events), (2, 1, 3));
        assert!(appservice.handle_transaction(now, "3", b"[]").is_err());
        assert!(appservice.handle_transaction(now, "3", b"{}").is_ok(), "a refused one is no transaction");
    }

    #[test]
    fn who_is_back_by_the_end_of_a_transaction_has_not_left() {
        let now = start();
        let mut appservice = appservice(now);
        let events =
            [("@a:hs", "leave"), ("@b:hs", "leave"), ("@a:hs", "join"), ("@b:hs", "invite"), ("@c:hs", "knock")];
        let events = events.map(|(user, membership)| member_event(user, membership));
        push(&mut appservice, now, "1", &events);
        assert_eq!(appservice.take_departures(), [("!r".to_owned(), "@b:hs".to_owned())]);
        let joined = ["@a:hs", "@b:hs", "@c:hs"].map(|user| appservice.is_joined("!r", user));
        assert_eq!(joined, [Some(true), Some(false), Some(false)]);
    }

    #[test]
    fn who_sends_an_event_is_in_the_room() {
        let now = start();
        let mut appservice = appservice(now);
        let event = r#"{"type":"m.room.encrypted","room_id":"!r","sender":"@a:hs","origin_server_ts":999999700,
            "content":{}}"#;
        push(&mut appservice, now, "1", &[event.to_owned()]);
        assert_eq!(appservice.is_joined("!r", "@a:hs"), Some(true));
        assert_eq!(appservice.census().lag, Some(Duration::from_millis(300)));
    }

    #[test]
    fn a_ghost_whose_leave_was_delegated_is_ended() {
        let now = start();
        let mut appservice = appservice(now);
        for (index, user) in ["@delegated:hs", "@other:hs", "@present:hs", "@remote:elsewhere"].into_iter().enumerate()
        {
            push(&mut appservice, now, &index.to_string(), &[call_event(user, "https://calls.hs")]);
        }
        push(&mut appservice, now, "x", &[call_event("@a:hs", "https://somewhere.else")]);
        appservice.leaves.delegate(now, seat("@delegated:hs"), Delegation::new("d", 3_600_000).unwrap()).unwrap();
        appservice.handle_presence(after(now, 5), &seat("@present:hs"), Presence::Present);
        appservice.handle_timeout(after(now, 59));
        assert!(appservice.leaves.take_calls().is_empty());
        assert_eq!(appservice.census().ghosts, 0);
        appservice.handle_timeout(after(now, 60));
        let calls = appservice.leaves.take_calls();
        assert_eq!((calls.len(), calls[0].delay_id.as_str(), calls[0].action), (1, "d", Action::Send));
        let census = appservice.census();
        assert_eq!((census.call_memberships, census.ghosts, census.ghosts_ended), (3, 2, 1));
        // The homeserver sends the leave, and a member moves to another server.
        let left = call_event("@delegated:hs", "").replace(r#""device_id":"PHONE","#, "");
        push(&mut appservice, now, "l", &[left, call_event("@other:hs", "https://somewhere.else")]);
        assert_eq!(appservice.census().ghosts, 0);
    }

    #[test]
    fn one_of_two_identities_is_presence_enough() {
        let now = start();
        let mut appservice = appservice(now);
        let plain = seat("@a:hs");
        let hashed = Seat { identity: "hash".into(), ..plain.clone() };
        appservice.handle_presence(now, &hashed, Presence::Present);
        appservice.handle_presence(now, &plain, Presence::Present);
        push(&mut appservice, now, "1", &[call_event("@a:hs", "wss://calls.hs/")]);
        appservice.handle_presence(now, &hashed, Presence::Absent);
        appservice.handle_timeout(after(now, 100));
        assert_eq!(appservice.census().ghosts, 0);
        appservice.handle_presence(after(now, 100), &plain, Presence::Absent);
        appservice.handle_timeout(after(now, 160));
        assert_eq!(appservice.census().ghosts, 1);
    }

    #[test]
    fn calls_between_two_are_counted_and_rooms_named() {
        let now = start();
        let mut appservice = appservice(now);
        let event = |kind: &str, rest: &str| {
            format!(r#"{{"type":"{kind}","room_id":"!r","sender":"@a:hs","origin_server_ts":1,{rest}}}"#)
        };
        let events = [
            event("m.call.invite", r#""content":{}"#),
            event("m.call.hangup", r#""content":{}"#),
            event("m.room.canonical_alias", r##""state_key":"","content":{"alias":"#k:hs"}"##),
        ];
        push(&mut appservice, now, "1", &events);
        let counted: Vec<u64> = appservice.census().legacy_calls.iter().map(|(_, count)| *count).collect();
        assert_eq!(counted, [1, 0, 0, 1]);
        assert_eq!(appservice.room_name("!r"), Some("#k:hs"));
        push(&mut appservice, now, "2", &[event("m.room.name", r#""state_key":"","content":{"name":"Kitchen"}"#)]);
        assert_eq!(appservice.room_name("!r"), Some("Kitchen"));
    }
}
