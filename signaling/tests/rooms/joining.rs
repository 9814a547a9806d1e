use std::time::Duration;

use livekit_protocol::participant_info::State;
use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{DisconnectReason, JoinRequest, Ping, leave_request::Action};
use sfu::{Command, Event, TransportEnd};
use signaling::livekit::{Opening, token};

use crate::house::{House, claims, request, settings};

#[test]
fn the_first_message_is_a_complete_join() {
    let mut house = House::new();
    let connection = house.connect(claims("anna"), request()).unwrap();
    let told = house.take(connection);
    let Told::Join(join) = &told[0] else {
        panic!("{told:?}");
    };
    let own = join.participant.as_ref().unwrap();
    assert!(own.sid.starts_with("PA_") && own.sid.len() == 15);
    assert_eq!((own.identity.as_str(), own.name.as_str()), ("anna", "ANNA"));
    assert_eq!(own.state(), State::Joined);
    assert_eq!(own.version, 1);
    let permission = own.permission.as_ref().unwrap();
    assert!(permission.can_publish && permission.can_subscribe && permission.can_publish_data);
    let room = join.room.as_ref().unwrap();
    assert!(room.sid.starts_with("RM_"));
    assert_eq!((room.name.as_str(), room.num_participants), ("kitchen", 1));
    assert_eq!((room.empty_timeout, room.departure_timeout), (300, 20));
    assert_eq!((join.ping_interval, join.ping_timeout), (5, 15));
    assert!(!join.subscriber_primary && join.fast_publish);
    let info = join.server_info.as_ref().unwrap();
    assert_eq!((info.version.as_str(), info.protocol), ("1.13.5", 17));
    let mimes: Vec<&str> = join.enabled_publish_codecs.iter().map(|codec| codec.mime.as_str()).collect();
    assert_eq!(mimes, ["video/VP8", "video/H264", "audio/opus"]);
    let ice = &join.ice_servers[0];
    assert_eq!(ice.urls, ["turn:192.0.2.1:3479?transport=udp"]);
    assert_eq!(ice.username, format!("1000003600:{}", own.sid));
    assert_eq!(ice.credential.len(), 28);
    assert_eq!(told.len(), 1);
}

#[test]
fn a_secret_that_is_replaced_makes_the_next_credential() {
    let (secret, received) = tokio::sync::watch::channel("south".to_owned());
    let mut settings = settings();
    settings.turn.as_mut().unwrap().secret = received;
    let unix = Duration::from_secs(1_800_000_000 - 3600);
    let credential = || settings.ice_servers("alice", unix)[0].credential.clone();
    let before = credential();
    secret.send_replace("north".to_owned());
    // printf '1800000000:alice' | openssl dgst -sha1 -hmac north -binary | base64
    assert_eq!(credential(), "sIm7pn/teO7y3AyXGeXl/xAQR6Q=");
    assert_ne!(credential(), before);
}

#[test]
fn an_offer_in_the_request_is_answered_with_its_id_and_our_transport() {
    let mut house = House::new();
    let anna = house.join("anna");
    assert_eq!(anna.answers[0].0, 1);
    let lines = anna.answered("0");
    let expected = ["inactive", "setup:passive", "end-of-candidates", "rtcp-mux"];
    assert!(expected.iter().all(|line| lines.contains(&(*line).to_owned())), "{lines:?}");
    assert!(lines.iter().any(|line| line == "candidate:1 1 udp 2130706431 192.0.2.1 3478 typ host"));
    let Command::SetTransport { transport, .. } = &house.commands[1] else {
        panic!("{:?}", house.commands);
    };
    assert!(matches!(house.commands[0], Command::Join { .. }));
    assert!(transport.local_ice.ufrag.starts_with("00"));
    assert!(lines.contains(&format!("ice-ufrag:{}", transport.local_ice.ufrag)));
    assert!(anna.answered("6").contains(&"sctp-port:5000".to_owned()));
}

#[test]
fn others_are_told_at_once_and_again_when_the_transport_is_up() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let mut bert = house.join("bert");
    assert!(bert.others.contains_key("anna"));
    anna.hear(house.told(&anna));
    assert_eq!(anna.others["bert"].state(), State::Joined);
    house.connected(&bert);
    anna.hear(house.told(&anna));
    bert.hear(house.told(&bert));
    assert_eq!(anna.others["bert"].state(), State::Active);
    assert_eq!(bert.own.unwrap().state(), State::Active);
}

#[test]
fn the_second_join_of_an_identity_ends_the_first() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    let mut watcher = house.arrive("watcher");
    house.log.clear();
    let again = house.arrive("anna");
    assert!(house.leaves(anna.participant));
    assert!(house.closed.contains(&anna.connection));
    let Told::Leave(leave) = house.told(&anna).pop().unwrap() else {
        panic!("no leave");
    };
    assert_eq!(leave.reason(), DisconnectReason::DuplicateIdentity);
    assert_eq!((leave.action(), leave.can_reconnect), (Action::Disconnect, false));
    let order: Vec<(String, State)> = house
        .log
        .iter()
        .filter(|(connection, _)| *connection == watcher.connection)
        .filter_map(|(_, message)| match message {
            Told::Update(update) => Some(update.participants.clone()),
            _ => None,
        })
        .flatten()
        .map(|info| (info.sid.clone(), info.state()))
        .collect();
    assert_eq!(order[0], (anna.sid.clone(), State::Disconnected));
    assert!(order[1..].iter().all(|(sid, _)| *sid == again.sid));
    watcher.hear(house.told(&watcher));
    assert_eq!(watcher.others["anna"].sid, again.sid);
    assert_ne!(anna.sid, again.sid);
}

#[test]
fn who_is_never_connected_is_removed_after_a_minute() {
    let mut house = House::new();
    let anna = house.join("anna");
    let bert = house.arrive("bert");
    house.pass(Duration::from_secs(59));
    assert!(!house.leaves(anna.participant));
    house.pass(Duration::from_secs(2));
    assert!(house.leaves(anna.participant));
    let Told::Leave(leave) = house.told(&anna).pop().unwrap() else {
        panic!("no leave");
    };
    assert_eq!(leave.reason(), DisconnectReason::JoinFailure);
    assert!(!house.leaves(bert.participant));
}

#[test]
fn a_failed_handshake_makes_the_client_begin_anew() {
    let mut house = House::new();
    let anna = house.join("anna");
    house.told(&anna);
    house.event(Event::Disconnected { participant: anna.participant, end: TransportEnd::HandshakeFailed });
    let Told::Leave(leave) = house.told(&anna).pop().unwrap() else {
        panic!("no leave");
    };
    assert_eq!(leave.action(), Action::Reconnect);
    assert!(leave.can_reconnect);
    assert!(house.leaves(anna.participant));
}

fn refused(house: &mut House, change: impl FnOnce(&mut token::Claims)) -> (u16, &'static str) {
    let mut claims = claims("zoe");
    change(&mut claims);
    let checked = house.rooms.check_join(&claims, Opening::AsConfigured);
    let joined = house.connect(claims, request()).map(|_| ());
    assert_eq!(checked, joined);
    let refusal = joined.unwrap_err();
    (refusal.status, refusal.text)
}

#[test]
fn refusals_are_what_clients_understand() {
    let mut strict = settings();
    strict.room_defaults.auto_create = false;
    strict.limits.participants_per_room = 1;
    let mut house = House::with(strict);
    assert_eq!(refused(&mut house, |_| {}), (404, "requested room does not exist"));
    assert_eq!(refused(&mut house, |claims| claims.video = None).0, 401);
    let no_join = |claims: &mut token::Claims| {
        claims.video.as_mut().unwrap().room_join = false;
    };
    assert_eq!(refused(&mut house, no_join).0, 401);
    assert_eq!(refused(&mut house, |claims| claims.sub.clear()).0, 400);
    assert_eq!(refused(&mut house, |claims| claims.sub = "x".repeat(257)).0, 400);
    let no_room = |claims: &mut token::Claims| claims.video.as_mut().unwrap().room.clear();
    assert_eq!(refused(&mut house, no_room).0, 400);
    let mut creator = claims("anna");
    creator.video.as_mut().unwrap().room_create = true;
    let anna = house.join_as(creator.clone(), request());
    assert_eq!(refused(&mut house, |_| {}), (503, "room is full"));
    // Anna herself may come again.
    house.join_as(creator, request());
    assert!(house.leaves(anna.participant));
    house.drain();
    assert_eq!(refused(&mut house, |_| {}).0, 503);
}

#[test]
fn an_unusable_offer_sends_the_client_away_to_begin_anew() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    house.told(&anna);
    let offer = livekit_protocol::SessionDescription {
        r#type: "offer".into(),
        sdp: "v=0\r\nrubbish".into(),
        id: 2,
        ..Default::default()
    };
    let request = livekit_protocol::SignalRequest { message: Some(Asked::Offer(offer)) };
    house.ask_on(anna.connection, request.into());
    let told = house.told(&anna);
    let [Told::Leave(leave)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(leave.action(), Action::Reconnect);
    assert_eq!(leave.reason(), DisconnectReason::StateMismatch);
}

#[test]
fn pings_are_answered_and_tokens_refreshed() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    house.told(&anna);
    house.ask(&anna, Asked::Ping(5));
    house.ask(&anna, Asked::PingReq(Ping { timestamp: 77, rtt: 3 }));
    let told = house.told(&anna);
    let [Told::Pong(_), Told::PongResp(pong)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(pong.last_ping_timestamp, 77);
    assert_eq!(pong.timestamp, 1_000_000_000_000);
    let token_after = |house: &mut House, seconds| {
        house.pass(Duration::from_secs(seconds));
        house.told(&anna).into_iter().find_map(|message| match message {
            Told::RefreshToken(token) => Some(token),
            _ => None,
        })
    };
    assert!(token_after(&mut house, 2).is_some(), "soon after the answer, not with it");
    let fresh = token_after(&mut house, 301);
    let keys = settings().api_keys;
    let claims = token::verify(&fresh.unwrap(), &keys, 1_000_000_303).unwrap();
    assert_eq!(claims.identity(), "anna");
    assert_eq!(claims.exp, Some(1_000_003_600));
    assert!(claims.video.unwrap().room_join);
}

#[test]
fn metadata_of_the_request_needs_the_permission() {
    let mut house = House::new();
    let wish = JoinRequest { metadata: "mine".into(), ..request() };
    let mut plain = claims("bert");
    plain.metadata = "given".into();
    plain.video.as_mut().unwrap().can_update_own_metadata = None;
    let bert = house.join_as(plain, wish.clone());
    assert_eq!(bert.own.unwrap().metadata, "given");
    let anna = house.join_as(claims("anna"), wish);
    assert_eq!(anna.own.unwrap().metadata, "mine");
}

#[test]
fn a_server_that_is_full_takes_back_who_is_there_already() {
    let mut full = settings();
    full.limits.participants = 1;
    let mut house = House::with(full);
    house.arrive("anna");
    assert!(house.connect(claims("anna"), request()).is_ok());
    let Err(refusal) = house.connect(claims("bert"), request()) else { panic!("there is no room") };
    assert_eq!(refusal.status, 503);
}

#[test]
fn a_token_that_comes_back_in_a_url_is_not_too_long_for_it() {
    for (octets, comes_with_it) in [(60_000, true), (200_000, false)] {
        let mut house = House::new();
        let mut large = claims("anna");
        large.metadata = "m".repeat(octets);
        let connection = house.connect(large, request()).unwrap();
        house.pass(Duration::from_secs(2));
        let told = house.take(connection);
        let Some(Told::RefreshToken(token)) = told.last() else { panic!("{told:?}") };
        assert_eq!(token.len() > octets, comes_with_it);
        assert!(token.len() < 100_000);
    }
}
