//! Entry points for fuzzing: whatever clients, homeservers and other servers say, nothing panics, and nobody gets in
//! without having been asked about.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datapath::Now;

use super::inquiry::{Inquiry, Step};
use super::proxied::{Caller, Forward, Route};
use super::token_request::{Naming, TokenRequest};
use super::{Answer, MembershipUnknown, Patterns, Policy, Refusal, Service, Settings, federation, is_room_id};

fn settings() -> Settings {
    let everything = || Patterns::new(&["*".to_owned()]);
    Settings {
        server_name: "hs".into(),
        homeserver: "http://hs".into(),
        service_url: "https://calls.hs".into(),
        websocket_url: "wss://calls.hs".into(),
        as_token: "a".into(),
        hs_token: "h".into(),
        policy: Arc::new(Policy {
            servers: everything(),
            opening_servers: everything(),
            rooms: everything(),
            microphone: everything(),
            camera: everything(),
            screen: everything(),
            membership_unknown: MembershipUnknown::Refuse,
        }),
    }
}

fn parse(settings: &Settings, kind: &[u8], body: &[u8]) -> Result<TokenRequest, Refusal> {
    let proxied = |path: &str, caller: Caller| {
        let route = Route::of(path).expect("the path is one");
        caller.request(settings, &route, body).map(|(request, _)| request)
    };
    match kind {
        b"sfu_get" => TokenRequest::sfu_get(body),
        b"get_token" => TokenRequest::get_token(body),
        b"delegate" => TokenRequest::delegate_delayed_leave(body),
        b"client" => proxied("/_matrix/client/v1/rtc/livekit/get_token", Caller::User("@a:hs".into())),
        b"leave" => proxied("/_matrix/client/v1/rtc/livekit/delegate_delayed_leave", Caller::User("@a:hs".into())),
        _ => {
            let origin = super::ServerName::parse("other").expect("a server's name");
            proxied("/_matrix/federation/v1/rtc/livekit/get_token", Caller::Server(origin))
        }
    }
}

/// Lines: which request, its body, and what is answered to each question, the status first.
#[doc(hidden)]
#[allow(clippy::disallowed_methods)] // Some instant to count from; it decides nothing.
pub fn fuzz_token_request(data: &[u8]) {
    let mut now = Now { instant: Instant::now(), unix: Duration::from_secs(1_000_000_000) };
    let settings = settings();
    let mut lines = data.split(|octet| *octet == b'\n');
    let (kind, body) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let request = match parse(&settings, kind, body) {
        Ok(request) => request,
        Err(refusal) => {
            assert!(refusal.status() >= 400);
            assert!(serde_json::from_str::<serde_json::Value>(&refusal.body()).is_ok());
            return;
        }
    };
    assert!(is_room_id(&request.room_id));
    if let Naming::Plain { device_id } = &request.naming {
        assert!(!device_id.contains(':'));
    }
    let wants = request.clone();
    let mut service = Service::new(now, settings, Vec::new());
    let mut inquiry = Inquiry::new(request);
    let mut step = inquiry.start(&mut service, now);
    let mut yes = false;
    loop {
        match step {
            Step::Done(Ok(admission)) => {
                assert!(yes, "nobody said that the user is in the room");
                assert_eq!(admission.seat.member.room_id, wants.room_id);
                assert!(wants.user().is_none_or(|user| user == admission.seat.member.user_id));
                return;
            }
            Step::Done(Err(refusal)) => {
                assert!(serde_json::from_str::<serde_json::Value>(&refusal.body()).is_ok());
                return;
            }
            Step::Wait(after) => {
                now.instant += after;
                now.unix += after;
                step = inquiry.handle_waited();
            }
            Step::AskHomeserver(_) | Step::AskServer { .. } => {
                let Some(line) = lines.next() else {
                    return;
                };
                let (status, body) = line.split_at_checked(3).unwrap_or_default();
                let answer = match std::str::from_utf8(status).ok().and_then(|status| status.parse().ok()) {
                    Some(status) => Answer::Status { status, retry_after: None, body: body.to_vec().into() },
                    None => Answer::Unreachable,
                };
                yes |= answer.json::<serde_json::Value>().is_some_and(|body| {
                    // The serialised form of a struct may be an array too.
                    body["joined"] == true || body[0] == true
                });
                let _ = federation::delegation(body).as_ref().map(federation::destination);
                let _ = Forward::answer(&answer);
                step = inquiry.handle_answer(&mut service, now, &answer);
            }
        }
    }
}
