//! ICE-lite (RFC 8445 §2.5): we answer checks and send none. An address is learned only after MESSAGE-INTEGRITY
//! verifies under the transport's password.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use datapath::stun::{Class, ErrorCode, Key, Message, Method, Writer};
use datapath::{Endpoint, Order, Outbox};

use super::allowance::Allowance;
use crate::command::IceCredentials;

/// Where a participant's packets come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    pub local: Endpoint,
    pub remote: SocketAddr,
}

/// Five-tuples that one participant has proved: a few interfaces, each of which checks each of our addresses. One that has to
/// make room and is checked again counts as new.
const VERIFIED_MAX: usize = 32;

/// New addresses that one participant may prove, at once and then a second: two networks whose every candidate checks each of
/// ours. A check proves nothing of where it was sent from but that its sender is in the call, and the worker by which it came has
/// to remember each new address: whoever invented a hundred thousand would crowd out everybody's.
const NEW_AT_ONCE: f64 = 64.0;
const NEW_PER_SECOND: f64 = 1.0;
/// A restart brings another network's (RFC 8445 §9), however many there were before.
const NEW_OF_A_RESTART: f64 = 16.0;

/// Who has checked an address within this wants to be sent there (RFC 7675 §5.1: consent lasts for 30 seconds).
const CONSENT: Duration = Duration::from_secs(30);

/// A TCP connection is kept beside the selected pair while it is checked: browsers check what they keep in reserve twice a
/// minute.
const RESERVE: Duration = Duration::from_secs(60);

/// A five-tuple that has been proved, and when it last was.
#[derive(Clone, Copy, Debug)]
struct Verified {
    five_tuple: FiveTuple,
    checked: Instant,
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It verifies: the five-tuple belongs to this transport.
    Verified {
        /// The five-tuple that had to make room.
        displaced: Option<FiveTuple>,
        /// The ufrag that this check has replaced: the restart is complete.
        retired: Option<String>,
    },
    /// It does not verify under the password, or is not a request that ICE knows.
    Refused,
    /// It verifies, and comes from one new address too many.
    Excessive,
}

/// One generation of credentials: a restart brings a new one (RFC 8445 §9).
#[derive(Debug)]
struct Generation {
    local: IceCredentials,
    remote_ufrag: String,
    /// Boxed: the state of two hashes is a kilobyte, in the way of what every packet needs.
    key: Box<Key>,
}

impl Generation {
    fn new(local: &IceCredentials, remote_ufrag: &str) -> Generation {
        Generation {
            key: Box::new(Key::new(local.pwd.as_bytes())),
            local: local.clone(),
            remote_ufrag: remote_ufrag.to_owned(),
        }
    }

    /// RFC 8445 §7.2.2: a check carries `responder's ufrag:sender's ufrag`.
    fn is_addressed_by(&self, username: &[u8]) -> bool {
        let (local, remote) = (self.local.ufrag.as_bytes(), self.remote_ufrag.as_bytes());
        username.len() == local.len() + 1 + remote.len()
            && username.starts_with(local)
            && username[local.len()] == b':'
            && username.ends_with(remote)
    }
}

/// The agent of one transport.
#[derive(Debug)]
pub struct IceLite {
    current: Generation,
    /// Stays valid until a check of the current generation verifies.
    previous: Option<Generation>,
    selected: Option<FiveTuple>,
    verified: Vec<Verified>,
    newcomers: Allowance,
}

impl IceLite {
    pub fn new(local: &IceCredentials, remote: &IceCredentials) -> IceLite {
        IceLite {
            current: Generation::new(local, &remote.ufrag),
            previous: None,
            selected: None,
            verified: Vec::new(),
            newcomers: Allowance::new(NEW_PER_SECOND, NEW_AT_ONCE),
        }
    }

    /// Begins a restart. Returns the ufrag that is no longer valid, if there were two already.
    pub fn restart(&mut self, local: &IceCredentials, remote: &IceCredentials) -> Option<String> {
        self.newcomers.grant(NEW_OF_A_RESTART);
        let next = Generation::new(local, &remote.ufrag);
        let last = std::mem::replace(&mut self.current, next);
        self.previous.replace(last).map(|generation| generation.local.ufrag)
    }

    pub fn is_current(&self, local: &IceCredentials) -> bool {
        self.current.local == *local
    }

    /// The five-tuple that we send to.
    pub fn selected(&self) -> Option<FiveTuple> {
        self.selected
    }

    /// Every five-tuple that has been proved.
    pub fn five_tuples(&self) -> impl Iterator<Item = FiveTuple> + '_ {
        self.verified.iter().map(|known| known.five_tuple)
    }

    /// The ufrags by which this transport is found.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.current).chain(&self.previous).map(|generation| generation.local.ufrag.as_str())
    }

    /// Answers a Binding request that names our ufrag. The caller adds the five-tuple to its routes when it verifies,
    /// and takes out what was displaced.
    pub fn handle_check(&mut self, now: Instant, message: &Message<'_>, from: FiveTuple, out: &mut Outbox) -> Check {
        let Some(username) = message.username() else { return Check::Refused };
        let is_current = self.current.is_addressed_by(username);
        let generation = match &self.previous {
            _ if is_current => &self.current,
            Some(previous) if previous.is_addressed_by(username) => previous,
            _ => return Check::Refused,
        };
        let integral =
            message.verify_integrity(&generation.key) && (!message.has_fingerprint() || message.fingerprint_is_valid());
        if message.class() != Class::Request || message.method() != Method::BINDING || !integral {
            return Check::Refused;
        }
        // RFC 8445 §7.3.1.1: a lite agent is always controlled here, since every client is a full agent.
        if message.ice_controlled().is_some() {
            respond(message, from, &generation.key, Some(ErrorCode::ROLE_CONFLICT), out);
            return Check::Refused;
        }
        if self.five_tuples().all(|known| known != from) {
            if !self.newcomers.admits(now) {
                return Check::Excessive;
            }
            self.newcomers.spend();
        }
        respond(message, from, &generation.key, None, out);
        let displaced = self.learn(now, from, out);
        // RFC 8445 §7.3.2: what the controlling agent nominates, now or later, is where we send. Until it has nominated,
        // the first address that proved itself serves.
        if message.use_candidate() || self.selected.is_none() {
            self.selected = Some(from);
        }
        let retired = if is_current { self.previous.take() } else { None };
        Check::Verified { displaced, retired: retired.map(|generation| generation.local.ufrag) }
    }

    fn learn(&mut self, now: Instant, from: FiveTuple, out: &mut Outbox) -> Option<FiveTuple> {
        if let Some(known) = self.verified.iter_mut().find(|known| known.five_tuple == from) {
            known.checked = now;
            return None;
        }
        if matches!(from.local, Endpoint::Stream { .. }) {
            out.order(Order::KeepStream { local: from.local, keep: true });
        }
        let full = self.verified.len() >= VERIFIED_MAX;
        let displaced = full.then(|| {
            let spare = self.verified.iter().enumerate().filter(|(_, known)| Some(known.five_tuple) != self.selected);
            let (longest_unused, _) = spare.min_by_key(|(_, known)| known.checked).expect("at most one is selected");
            self.verified.remove(longest_unused).five_tuple
        });
        self.verified.push(Verified { five_tuple: from, checked: now });
        displaced
    }

    /// A TCP connection that is neither selected nor kept in reserve. Each agent should close those (RFC 6544 §8), and not
    /// every client does before the call is over.
    pub fn unused_stream(&self, now: Instant) -> Option<FiveTuple> {
        let is_unused = |known: &&Verified| {
            matches!(known.five_tuple.local, Endpoint::Stream { .. })
                && Some(known.five_tuple) != self.selected
                && now.saturating_duration_since(known.checked) >= RESERVE
        };
        self.verified.iter().find(is_unused).map(|known| known.five_tuple)
    }

    /// The five-tuple is not the participant's any more: its connection has ended, or is let go.
    ///
    /// If it was selected, which one comes next is for the controlling agent to say (RFC 8445 §8.1.1), and a passive end
    /// opens nothing by itself (RFC 6544). Until it has said so it is as before the first nomination, when a valid pair
    /// serves (§12.1.1): the one that was checked last, if that was lately. What is older may be of a network that the
    /// client has left; then nothing is sent until the next check.
    pub fn forget(&mut self, now: Instant, five_tuple: FiveTuple) {
        self.verified.retain(|known| known.five_tuple != five_tuple);
        if self.selected == Some(five_tuple) {
            let lately = |known: &&Verified| now.saturating_duration_since(known.checked) < CONSENT;
            let next = self.verified.iter().filter(lately).max_by_key(|known| known.checked);
            self.selected = next.map(|known| known.five_tuple);
        }
    }
}

/// A connection over which nobody comes any more is not kept for its own sake.
pub fn let_go(from: FiveTuple, out: &mut Outbox) {
    if matches!(from.local, Endpoint::Stream { .. }) {
        out.order(Order::KeepStream { local: from.local, keep: false });
    }
}

fn respond(message: &Message<'_>, to: FiveTuple, key: &Key, error: Option<ErrorCode>, out: &mut Outbox) {
    const RESPONSE_MAX: usize = 128;
    out.write(to.local, to.remote, RESPONSE_MAX, |buffer| {
        let class = if error.is_some() { Class::ErrorResponse } else { Class::SuccessResponse };
        let mut writer = Writer::new(buffer, class, Method::BINDING, message.transaction_id());
        match error {
            Some(code) => writer.error_code(code),
            None => writer.xor_mapped_address(to.remote),
        };
        writer.finish_with_integrity(key, true)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;
    use datapath::stun::TransactionId;

    fn credentials(ufrag: &str) -> IceCredentials {
        IceCredentials { ufrag: ufrag.into(), pwd: format!("{ufrag}-password-of-22-characters") }
    }

    fn tuple(port: u16) -> FiveTuple {
        FiveTuple {
            local: Endpoint::Listener { index: 0, ip: [10, 0, 0, 1].into() },
            remote: ([10, 0, 0, 2], port).into(),
        }
    }

    /// A check as a browser sends it.
    fn check(local: &IceCredentials, remote: &IceCredentials, nominate: bool, controlled: bool) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, TransactionId([7; 12]));
        writer.username(format!("{}:{}", local.ufrag, remote.ufrag).as_bytes()).priority(1);
        if controlled {
            writer.ice_controlled(1);
        } else {
            writer.ice_controlling(1);
        }
        if nominate {
            writer.use_candidate();
        }
        let length = writer.finish_with_integrity(&Key::new(local.pwd.as_bytes()), true).unwrap();
        buffer[..length].to_vec()
    }

    fn handle(ice: &mut IceLite, check: &[u8], from: FiveTuple) -> (Check, Outbox) {
        handle_at(start(), ice, check, from)
    }

    fn handle_at(now: Instant, ice: &mut IceLite, check: &[u8], from: FiveTuple) -> (Check, Outbox) {
        let mut out = Outbox::new();
        let outcome = ice.handle_check(now, &Message::parse(check).unwrap(), from, &mut out);
        (outcome, out)
    }

    #[test]
    fn a_verified_check_is_answered_and_its_address_learned() {
        let (local, remote) = (credentials("aaaa"), credentials("bbbb"));
        let mut ice = IceLite::new(&local, &remote);
        let (outcome, out) = handle(&mut ice, &check(&local, &remote, false, false), tuple(1));
        assert_eq!(outcome, Check::Verified { displaced: None, retired: None });
        assert_eq!(ice.selected(), Some(tuple(1)));
        let answer = Message::parse(out.arena()).unwrap();
        assert_eq!(answer.class(), Class::SuccessResponse);
        assert_eq!(answer.xor_mapped_address(), Some(tuple(1).remote));
        assert!(answer.verify_integrity(&Key::new(local.pwd.as_bytes())));
    }

    #[test]
    fn nomination_moves_the_selected_pair_and_a_mere_check_does_not() {
        let (local, remote) = (credentials("aaaa"), credentials("bbbb"));
        let mut ice = IceLite::new(&local, &remote);
        handle(&mut ice, &check(&local, &remote, true, false), tuple(1));
        handle(&mut ice, &check(&local, &remote, false, false), tuple(2));
        assert_eq!(ice.selected(), Some(tuple(1)));
        handle(&mut ice, &check(&local, &remote, true, false), tuple(2));
        assert_eq!(ice.selected(), Some(tuple(2)));
    }

    #[test]
    fn a_wrong_password_teaches_nothing_and_is_not_answered() {
        let (local, remote) = (credentials("aaaa"), credentials("bbbb"));
        let mut ice = IceLite::new(&local, &remote);
        let mut forged = local.clone();
        forged.pwd = "another-password-of-22-chars".into();
        let (outcome, out) = handle(&mut ice, &check(&forged, &remote, true, false), tuple(1));
        assert_eq!(outcome, Check::Refused);
        assert!(out.is_empty());
        assert_eq!(ice.selected(), None);
    }

    #[test]
    fn a_controlled_peer_is_told_of_the_conflict() {
        let (local, remote) = (credentials("aaaa"), credentials("bbbb"));
        let mut ice = IceLite::new(&local, &remote);
        let (outcome, out) = handle(&mut ice, &check(&local, &remote, true, true), tuple(1));
        assert_eq!(outcome, Check::Refused);
        let answer = Message::parse(out.arena()).unwrap();
        assert_eq!(answer.error_code(), Some(ErrorCode::ROLE_CONFLICT));
        assert_eq!(ice.selected(), None);
    }

    #[test]
    fn the_old_generation_serves_until_the_new_one_proves_itself() {
        let (local, remote) = (credentials("aaaa"), credentials("bbbb"));
        let (local2, remote2) = (credentials("cccc"), credentials("dddd"));
        let mut ice = IceLite::new(&local, &remote);
        handle(&mut ice, &check(&local, &remote, true, false), tuple(1));
        assert_eq!(ice.restart(&local2, &remote2), None);
        assert!(matches!(handle(&mut ice, &check(&local, &remote, true, false), tuple(1)).0, Check::Verified { .. }));
        assert!(matches!(handle(&mut ice, &check(&local2, &remote2, true, false), tuple(2)).0, Check::Verified { .. }));
        assert_eq!(ice.selected(), Some(tuple(2)));
        assert_eq!(handle(&mut ice, &check(&local, &remote, true, false), tuple(1)).0, Check::Refused);
    }

    #[test]
    fn addresses_are_not_invented_without_end() {
        let (local, remote) = (credentials("aaaa"), credentials("bbbb"));
        let mut ice = IceLite::new(&local, &remote);
        let check = check(&local, &remote, false, false);
        let mut proved = |at: Instant, ports: std::ops::Range<u16>| {
            let outcomes = ports.map(|port| handle_at(at, &mut ice, &check, tuple(port)).0);
            outcomes.filter(|outcome| *outcome != Check::Excessive).count()
        };
        assert_eq!(proved(start(), 1..1_000), 64);
        assert_eq!(proved(start() + Duration::from_secs(10), 1_000..2_000), 10);
        assert_eq!(proved(start() + Duration::from_secs(10), 1..2), 1, "the selected one is not new");
        let next = (credentials("cccc"), credentials("dddd"));
        ice.restart(&next.0, &next.1);
        let restarted = self::check(&next.0, &next.1, false, false);
        let later = start() + Duration::from_secs(10);
        let outcomes = (3_000..4_000).map(|port| handle_at(later, &mut ice, &restarted, tuple(port)).0);
        assert_eq!(outcomes.filter(|outcome| *outcome != Check::Excessive).count(), 16);
    }

    #[test]
    fn the_list_of_addresses_is_bounded_and_keeps_the_selected_one() {
        let (local, remote) = (credentials("aaaa"), credentials("bbbb"));
        let mut ice = IceLite::new(&local, &remote);
        handle(&mut ice, &check(&local, &remote, true, false), tuple(1));
        for port in 2..=64 {
            let (outcome, _) = handle(&mut ice, &check(&local, &remote, false, false), tuple(port));
            let full = usize::from(port) > VERIFIED_MAX;
            assert_eq!(matches!(outcome, Check::Verified { displaced: Some(_), .. }), full);
        }
        assert_eq!(ice.five_tuples().count(), VERIFIED_MAX);
        assert!(ice.five_tuples().any(|known| known == tuple(1)));
    }

    #[test]
    fn the_address_unused_for_longest_makes_room() {
        let (local, remote) = (credentials("aaaa"), credentials("bbbb"));
        let mut ice = IceLite::new(&local, &remote);
        let check = check(&local, &remote, false, false);
        // The first is selected; the second is checked again last, so the third is the one.
        let (mut now, ports) = (start(), (1..=VERIFIED_MAX as u16).chain([2, 100]));
        let mut displaced = Vec::new();
        for port in ports {
            now += Duration::from_secs(1);
            if let Check::Verified { displaced: Some(gone), .. } = handle_at(now, &mut ice, &check, tuple(port)).0 {
                displaced.push(gone);
            }
        }
        assert_eq!(displaced, [tuple(3)]);
    }
}
