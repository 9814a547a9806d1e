//! The decision as a value: which questions are asked, in which order, and what follows from the answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datapath::Now;
use serde_json::json;
use signaling::matrix::inquiry::{Inquiry, Step};
use signaling::matrix::token_request::TokenRequest;
use signaling::matrix::{Answer, MembershipUnknown, Policy, Refusal, Service, Settings};

use crate::server::{ROOM, get_token, policy, sfu_get, with};

struct Desk {
    now: Now,
    service: Service,
}

#[allow(clippy::disallowed_methods)] // Some instant to count from.
fn desk(change: impl FnOnce(&mut Policy)) -> Desk {
    let now = Now { instant: Instant::now(), unix: Duration::from_secs(1_000_000_000) };
    let mut policy = policy();
    change(&mut policy);
    let settings = Settings {
        server_name: "hs".into(),
        homeserver: "http://hs".into(),
        service_url: "https://calls.hs".into(),
        websocket_url: "wss://calls.hs".into(),
        as_token: "a".into(),
        hs_token: "h".into(),
        policy: Arc::new(policy),
    };
    Desk { now, service: Service::new(now, settings, Vec::new()) }
}

fn told(status: u16, body: serde_json::Value) -> Answer {
    Answer::Status { status, retry_after: None, body: body.to_string().into() }
}

fn joined(joined: bool) -> Answer {
    told(200, json!({ "joined": joined }))
}

fn unsupported() -> Answer {
    told(404, json!({ "errcode": "M_UNRECOGNIZED" }))
}

impl Desk {
    /// Asks with `body` and answers in turn. What was asked, and what came of it.
    fn decide(&mut self, request: TokenRequest, answers: &[Answer]) -> (Vec<String>, Result<bool, Refusal>) {
        let mut inquiry = Inquiry::new(request);
        let mut answers = answers.iter();
        let mut asked = Vec::new();
        let mut step = inquiry.start(&mut self.service, self.now);
        loop {
            let question = match step {
                Step::Done(result) => {
                    assert_eq!(answers.next(), None, "{asked:?}");
                    return (asked, result.map(|admission| admission.opens));
                }
                Step::Wait(after) => {
                    self.now = Now { instant: self.now.instant + after, unix: self.now.unix + after };
                    step = inquiry.handle_waited();
                    continue;
                }
                Step::AskHomeserver(ask) => format!("homeserver {}", ask.path),
                Step::AskServer { server, path } => format!("{server} {path}"),
            };
            asked.push(question);
            let answer = answers.next().unwrap_or_else(|| panic!("no answer to {asked:?}"));
            step = inquiry.handle_answer(&mut self.service, self.now, answer);
        }
    }

    fn sfu_get(&mut self, server: &str, answers: &[Answer]) -> (Vec<String>, Result<bool, Refusal>) {
        let request = TokenRequest::sfu_get(sfu_get("t", server).to_string().as_bytes()).unwrap();
        self.decide(request, answers)
    }

    fn see(&mut self, user: &str, membership: &str) {
        let id = format!("{user} {membership}");
        let event = json!({ "type": "m.room.member", "room_id": ROOM, "sender": user, "state_key": user,
            "origin_server_ts": 1, "content": { "membership": membership } });
        let body = json!({ "events": [event] }).to_string();
        let now = self.now;
        let handled = self.service.appservice(|appservice| appservice.handle_transaction(now, &id, body.as_bytes()));
        assert!(handled.is_ok());
    }
}

fn label<T>(result: Result<T, Refusal>) -> &'static str {
    result.err().map_or("granted", |refusal| refusal.label())
}

const USERINFO: &str = "/_matrix/federation/v1/openid/userinfo?access_token=t";
const IS_JOINED: &str = "homeserver /_matrix/client/unstable/io.element.msc4502/rooms/%21room%3Ahs/is_joined";

#[test]
fn a_local_user_is_proven_and_then_looked_for() {
    let mut desk = desk(|_| ());
    let alice = told(200, json!({ "sub": "@alice:hs" }));
    let (asked, result) = desk.sfu_get("hs", &[alice, joined(true)]);
    assert_eq!(asked, [format!("homeserver {USERINFO}"), format!("{IS_JOINED}?mxid=%40alice%3Ahs")]);
    assert_eq!(result, Ok(true), "a local user may open the call");
}

#[test]
fn another_server_is_asked_only_if_somebody_of_it_is_in_the_room() {
    let mut desk = desk(|_| ());
    let server = format!("{IS_JOINED}?server_name=other");
    // At once, and after one and two seconds.
    let (asked, result) = desk.sfu_get("other", &[joined(false), joined(false), joined(false)]);
    assert_eq!(asked, [server.as_str(); 3]);
    assert_eq!(label(result), "server_not_in_room");
    let bob = told(200, json!({ "sub": "@bob:other" }));
    let (asked, result) = desk.sfu_get("other", &[joined(true), bob.clone(), joined(true)]);
    assert_eq!(asked, [server, format!("other {USERINFO}"), format!("{IS_JOINED}?mxid=%40bob%3Aother")]);
    assert_eq!(result, Ok(false), "and comes in when a local user has opened the call");
    let everybody_else = [joined(true), bob, joined(false)].into_iter().chain((0..5).map(|_| joined(false)));
    let (_, result) = desk.sfu_get("other", &everybody_else.collect::<Vec<_>>());
    assert_eq!(label(result), "not_joined");
}

#[test]
fn a_server_speaks_for_its_own_users_and_the_claimed_one() {
    let mut desk = desk(|_| ());
    let eve = told(200, json!({ "sub": "@eve:elsewhere" }));
    assert_eq!(label(desk.sfu_get("other", &[joined(true), eve]).1), "openid_refused");
    assert_eq!(label(desk.sfu_get("other", &[joined(true), Answer::Unreachable]).1), "openid_refused");
    assert_eq!(label(desk.sfu_get("hs", &[Answer::Unreachable]).1), "busy");
    let claims_bob = TokenRequest::get_token(get_token("t", "hs", "@bob:hs").to_string().as_bytes()).unwrap();
    let alice = told(200, json!({ "sub": "@alice:hs" }));
    assert_eq!(label(desk.decide(claims_bob, &[alice]).1), "openid_other_user");
}

#[test]
fn a_refused_proof_pins_nothing() {
    let mut desk = desk(|_| ());
    assert_eq!(label(desk.sfu_get("hs", &[told(401, json!({}))]).1), "openid_refused");
    let alice = told(200, json!({ "sub": "@alice:hs" }));
    let elsewhere = with(sfu_get("t", "hs"), "/room", "!other:hs").to_string();
    let elsewhere = || TokenRequest::sfu_get(elsewhere.as_bytes()).unwrap();
    assert_eq!(label(desk.decide(elsewhere(), &[alice.clone(), joined(true)]).1), "granted");
    assert_eq!(label(desk.sfu_get("hs", std::slice::from_ref(&alice)).1), "openid_pinned");
    // Two hours later the homeserver would not know the token any more.
    let later = Duration::from_secs(7_200);
    desk.now = Now { instant: desk.now.instant + later, unix: desk.now.unix + later };
    assert_eq!(label(desk.sfu_get("hs", &[alice, joined(true)]).1), "granted");
}

#[test]
fn events_or_the_policy_decide_where_the_homeserver_cannot_tell() {
    let alice = || told(200, json!({ "sub": "@alice:hs" }));
    let mute = |count: usize| std::iter::once(alice()).chain((0..count).map(|_| unsupported())).collect::<Vec<_>>();
    let mut strict = desk(|_| ());
    assert_eq!(label(strict.sfu_get("hs", &mute(6)).1), "membership_unknown");
    strict.see("@alice:hs", "join");
    assert_eq!(label(strict.sfu_get("hs", &mute(1)).1), "granted");
    strict.see("@alice:hs", "leave");
    assert_eq!(label(strict.sfu_get("hs", &mute(6)).1), "not_joined");
    let mut trusting = desk(|policy| policy.membership_unknown = MembershipUnknown::Trust);
    assert_eq!(label(trusting.sfu_get("hs", &mute(6)).1), "granted");
    trusting.see("@alice:hs", "ban");
    assert_eq!(label(trusting.sfu_get("hs", &mute(6)).1), "not_joined", "what is known is no matter of trust");
    // A homeserver that is away at this moment is another matter.
    let mut away = desk(|_| ());
    assert_eq!(label(away.sfu_get("hs", &[alice(), Answer::Unreachable]).1), "busy");
    // Servers of whose users nobody was seen are not asked.
    let stranger = [unsupported(), unsupported(), unsupported()];
    assert_eq!(label(away.sfu_get("other", &stranger).1), "server_not_in_room");
    away.see("@bob:other", "join");
    let bob = told(200, json!({ "sub": "@bob:other" }));
    assert_eq!(label(away.sfu_get("other", &[unsupported(), bob, unsupported()]).1), "granted");
}
