//! What the homeserver pushes to us, as far as calls are concerned.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Ids and names in events, in octets (Matrix specification, "Size limits").
const ID_MAX: usize = 255;
/// Transports that a membership may name.
const TRANSPORTS_MAX: usize = 16;

/// One event of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub room_id: String,
    /// Who sent it.
    pub sender: String,
    /// When, by the sender's server: Unix time.
    pub sent: Duration,
    pub fact: Fact,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `m.room.member`.
    Membership {
        user_id: String,
        standing: Standing,
    },
    /// A call membership begins, or goes on.
    InCall(CallMembership),
    /// The call membership under this key ends.
    OutOfCall {
        key: String,
    },
    /// `m.room.name`; `None` where the room has none any more.
    Name(Option<String>),
    CanonicalAlias(Option<String>),
    /// Of a call between two, which does not concern us but for TURN.
    LegacyCall(LegacyCall),
    /// Anything else; whoever sends it is in the room.
    Other,
}

/// Of a user towards a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Joined,
    /// Invited, or knocking: who was in the room before has left it by another event.
    Waiting,
    Gone,
}

/// What a call membership says, in either form (`org.matrix.msc3401.call.member`, `org.matrix.msc4143.rtc.member`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallMembership {
    /// State key or sticky key: a later event under the same key takes its place.
    pub key: String,
    pub device_id: String,
    /// The services through which the member publishes.
    pub service_urls: Vec<String>,
    /// Unix time from which on it counts no more.
    pub expires: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LegacyCall {
    Invite,
    Answer,
    Reject,
    Hangup,
}

impl LegacyCall {
    pub const ALL: [LegacyCall; 4] = [LegacyCall::Invite, LegacyCall::Answer, LegacyCall::Reject, LegacyCall::Hangup];

    pub fn name(self) -> &'static str {
        match self {
            LegacyCall::Invite => "invite",
            LegacyCall::Answer => "answer",
            LegacyCall::Reject => "reject",
            LegacyCall::Hangup => "hangup",
        }
    }
}

/// The transaction's body is no JSON object with events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    events: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    room_id: String,
    sender: String,
    #[serde(default)]
    state_key: Option<String>,
    #[serde(default)]
    origin_server_ts: u64,
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(default, rename = "msc4354_sticky")]
    sticky: Option<Sticky>,
}

#[derive(Deserialize)]
struct Sticky {
    duration_ms: u64,
}

/// The events of a transaction in their order, and how many could not be read. One that cannot must not make the homeserver
/// send the same transaction for ever.
pub fn parse(body: &[u8]) -> Result<(Vec<Observation>, u64), Malformed> {
    // serde would take an array for the object's fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Malformed);
    }
    let body: Body<'_> = serde_json::from_slice(body).map_err(|_| Malformed)?;
    let mut malformed = 0;
    let observations = body
        .events
        .into_iter()
        .filter_map(|raw| {
            let observation = observe(raw);
            malformed += u64::from(observation.is_none());
            observation
        })
        .collect();
    Ok((observations, malformed))
}

fn observe(raw: &RawValue) -> Option<Observation> {
    let event: Event<'_> = serde_json::from_str(raw.get()).ok()?;
    if event.room_id.len() > ID_MAX || event.sender.len() > ID_MAX {
        return None;
    }
    let is_state = event.state_key.as_deref();
    let fact = match (&*event.kind, is_state) {
        ("m.room.member", Some(user_id)) => membership(user_id, event.content)?,
        ("org.matrix.msc3401.call.member", Some(key)) => state_membership(key, &event)?,
        ("org.matrix.msc4143.rtc.member", _) => sticky_membership(&event)?,
        ("m.room.name", Some("")) => Fact::Name(named(event.content).name),
        ("m.room.canonical_alias", Some("")) => Fact::CanonicalAlias(named(event.content).alias),
        ("m.call.invite", None) => Fact::LegacyCall(LegacyCall::Invite),
        ("m.call.answer", None) => Fact::LegacyCall(LegacyCall::Answer),
        ("m.call.reject", None) => Fact::LegacyCall(LegacyCall::Reject),
        ("m.call.hangup", None) => Fact::LegacyCall(LegacyCall::Hangup),
        _ => Fact::Other,
    };
    let sent = Duration::from_millis(event.origin_server_ts);
    Some(Observation { room_id: event.room_id, sender: event.sender, sent, fact })
}

fn membership(user_id: &str, content: &RawValue) -> Option<Fact> {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        membership: Cow<'a, str>,
    }
    let content: Content<'_> = serde_json::from_str(content.get()).ok()?;
    let standing = match &*content.membership {
        "join" => Standing::Joined,
        "invite" | "knock" => Standing::Waiting,
        _ => Standing::Gone,
    };
    (user_id.len() <= ID_MAX).then(|| Fact::Membership { user_id: user_id.to_owned(), standing })
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    alias: Option<String>,
}

/// Anything that is no text is as good as none.
fn named(content: &RawValue) -> Named {
    let usable = |text: &String| !text.is_empty();
    let mut named: Named = serde_json::from_str(content.get()).unwrap_or_default();
    named.name = named.name.filter(usable).map(shortened);
    named.alias = named.alias.filter(usable).map(shortened);
    named
}

fn shortened(mut text: String) -> String {
    let end = (0..=ID_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text.truncate(end);
    text
}

#[derive(Deserialize)]
struct Transport {
    #[serde(default)]
    livekit_service_url: Option<String>,
    #[serde(default)]
    url: Option<String>,
}

fn urls(transports: Vec<Transport>) -> Vec<String> {
    let named = transports.into_iter().take(TRANSPORTS_MAX);
    named.filter_map(|transport| transport.livekit_service_url.or(transport.url)).collect()
}

fn state_membership(key: &str, event: &Event<'_>) -> Option<Fact> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(default)]
        device_id: Option<String>,
        #[serde(default)]
        foci_preferred: Vec<Transport>,
        /// After the first event of this membership, in ms.
        #[serde(default)]
        expires: Option<u64>,
        #[serde(default)]
        created_ts: Option<u64>,
    }
    let content: Content = serde_json::from_str(event.content.get()).ok()?;
    let key = shortened(key.to_owned());
    let Some(device_id) = content.device_id.filter(|device| device.len() <= ID_MAX) else {
        return Some(Fact::OutOfCall { key });
    };
    let created = content.created_ts.unwrap_or(event.origin_server_ts);
    // MSC4143: four hours, unless it says otherwise.
    let life = content.expires.unwrap_or(4 * 3_600_000);
    let expires = Duration::from_millis(created.saturating_add(life));
    Some(Fact::InCall(CallMembership { key, device_id, service_urls: urls(content.foci_preferred), expires }))
}

fn sticky_membership(event: &Event<'_>) -> Option<Fact> {
    #[derive(Deserialize)]
    struct Who {
        #[serde(default)]
        device_id: Option<String>,
        #[serde(default)]
        claimed_device_id: Option<String>,
    }
    #[derive(Default, Deserialize)]
    struct Transports {
        #[serde(default)]
        published: Vec<Transport>,
    }
    #[derive(Deserialize)]
    struct Content {
        #[serde(default, alias = "sticky_key")]
        msc4354_sticky_key: Option<String>,
        #[serde(default)]
        member: Option<Who>,
        #[serde(default)]
        transports: Option<Transports>,
        /// Earlier drafts had a list here.
        #[serde(default)]
        rtc_transports: Vec<Transport>,
    }
    let content: Content = serde_json::from_str(event.content.get()).ok()?;
    let key = shortened(content.msc4354_sticky_key?);
    let device = content.member.and_then(|who| who.device_id.or(who.claimed_device_id));
    let Some(device_id) = device.filter(|device| device.len() <= ID_MAX) else {
        return Some(Fact::OutOfCall { key });
    };
    let mut service_urls = urls(content.transports.unwrap_or_default().published);
    service_urls.extend(urls(content.rtc_transports));
    // MSC4354: an event sticks for an hour at most.
    let life = event.sticky.as_ref().map_or(3_600_000, |sticky| sticky.duration_ms);
    let expires = Duration::from_millis(event.origin_server_ts.saturating_add(life));
    Some(Fact::InCall(CallMembership { key, device_id, service_urls, expires }))
}

#[doc(hidden)]
pub fn fuzz_transaction(data: &[u8]) {
    let _ = parse(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(events: &str) -> Vec<Fact> {
        let (observations, malformed) = parse(format!(r#"{{"events":[{events}]}}"#).as_bytes()).unwrap();
        assert_eq!(malformed, 0);
        observations.into_iter().map(|observation| observation.fact).collect()
    }

    fn event(kind: &str, rest: &str) -> String {
        format!(r#"{{"type":"{kind}","room_id":"!r","sender":"@a:hs","origin_server_ts":1000,"event_id":"$1",{rest}}}"#)
    }

    #[test]
    fn a_call_membership_in_the_room_state_begins_and_ends() {
        let begins = event(
            "org.matrix.msc3401.call.member",
            r#""state_key":"_@a:hs_DEV_m.call","content":{"application":"m.call","call_id":"","scope":"m.room",
            "device_id":"DEV","membershipID":"@a:hs:DEV","expires":14400000,
            "focus_active":{"type":"livekit","focus_selection":"multi_sfu"},
            "foci_preferred":[{"type":"livekit","livekit_service_url":"https://calls","livekit_alias":"!r"}]}"#,
        );
        let ends = event("org.matrix.msc3401.call.member", r#""state_key":"_@a:hs_DEV_m.call","content":{}"#);
        let key = "_@a:hs_DEV_m.call".to_owned();
        let membership = CallMembership {
            key: key.clone(),
            device_id: "DEV".into(),
            service_urls: vec!["https://calls".into()],
            expires: Duration::from_secs(14_401),
        };
        assert_eq!(facts(&format!("{begins},{ends}")), [Fact::InCall(membership), Fact::OutOfCall { key }]);
    }

    #[test]
    fn a_sticky_call_membership_begins_and_ends() {
        let begins = event(
            "org.matrix.msc4143.rtc.member",
            r#""msc4354_sticky":{"duration_ms":600000},"content":{"slot_id":"m.call#ROOM",
            "application":{"type":"m.call"},"member":{"id":"xyz","user_id":"@a:hs","device_id":"DEV"},
            "transports":{"published":[{"type":"livekit","url":"wss://calls"}],"can_subscribe":["livekit"]},
            "versions":[],"msc4354_sticky_key":"xyz"}"#,
        );
        let ends = event("org.matrix.msc4143.rtc.member", r#""content":{"msc4354_sticky_key":"xyz"}"#);
        let membership = CallMembership {
            key: "xyz".into(),
            device_id: "DEV".into(),
            service_urls: vec!["wss://calls".into()],
            expires: Duration::from_secs(601),
        };
        let ended = Fact::OutOfCall { key: "xyz".into() };
        assert_eq!(facts(&format!("{begins},{ends}")), [Fact::InCall(membership), ended]);
    }

    #[test]
    fn who_is_in_a_room_and_what_it_is_called_is_seen() {
        let member = |membership: &str| {
            let content = format!(r#""state_key":"@b:hs","content":{{"membership":"{membership}"}}"#);
            facts(&event("m.room.member", &content)).remove(0)
        };
        for (membership, standing) in [
            ("join", Standing::Joined),
            ("leave", Standing::Gone),
            ("ban", Standing::Gone),
            ("invite", Standing::Waiting),
            ("knock", Standing::Waiting),
        ] {
            assert_eq!(member(membership), Fact::Membership { user_id: "@b:hs".into(), standing });
        }
        let named = facts(&event("m.room.name", r#""state_key":"","content":{"name":"Kitchen"}"#));
        assert_eq!(named, [Fact::Name(Some("Kitchen".into()))]);
        let unnamed = facts(&event("m.room.name", r#""state_key":"","content":{"name":7}"#));
        assert_eq!(unnamed, [Fact::Name(None)]);
        let alias = facts(&event("m.room.canonical_alias", r##""state_key":"","content":{"alias":"#k:hs"}"##));
        assert_eq!(alias, [Fact::CanonicalAlias(Some("#k:hs".into()))]);
        let long = format!(r#""state_key":"","content":{{"name":"{}"}}"#, "ä".repeat(200));
        assert_eq!(facts(&event("m.room.name", &long)), [Fact::Name(Some("ä".repeat(127)))]);
    }

    #[test]
    fn calls_between_two_are_seen_without_their_content() {
        let kinds = ["m.call.invite", "m.call.answer", "m.call.hangup", "m.call.candidates", "m.room.encrypted"];
        let events: Vec<String> = kinds.iter().map(|kind| event(kind, r#""content":{"call_id":"c"}"#)).collect();
        let expected = [
            Fact::LegacyCall(LegacyCall::Invite),
            Fact::LegacyCall(LegacyCall::Answer),
            Fact::LegacyCall(LegacyCall::Hangup),
            Fact::Other,
            Fact::Other,
        ];
        assert_eq!(facts(&events.join(",")), expected);
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        let good = event("m.call.invite", r#""content":{}"#);
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let nested = event("m.room.message", &format!(r#""content":{{"body":{deep}}}"#));
        let body = format!(
            r#"{{"events":[7,{{}},{nested},{good},{{"type":"m.room.member","content":[]}}],"ephemeral":{deep},"x":1}}"#
        );
        let (observations, malformed) = parse(body.as_bytes()).unwrap();
        let seen: Vec<Fact> = observations.into_iter().map(|observation| observation.fact).collect();
        assert_eq!(seen, [Fact::Other, Fact::LegacyCall(LegacyCall::Invite)]);
        assert_eq!(malformed, 3);
        assert_eq!(parse(b"{}"), Ok((Vec::new(), 0)));
        for body in ["", "[]", "{\"events\":7}", "\u{fffd}"] {
            assert_eq!(parse(body.as_bytes()), Err(Malformed), "{body}");
        }
    }
}
