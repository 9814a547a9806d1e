//! The homeserver's requests on a real socket, and what clients hear of them.

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use futures_util::StreamExt;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{
    ConnectionSettings, DisconnectReason, JoinRequest, SignalResponse, WrappedJoinRequest, leave_request::Action,
};
use prost::Message;
use sfu::{Command, Event};
use signaling::Options;
use signaling::livekit::token::{self, Claims, VideoGrant};
use signaling::matrix::{ISSUER, Member, MembershipUnknown, Patterns, Policy, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message as Frame;

const HS_TOKEN: &str = "hs-token-of-the-registration-file";

const ADMIN_TOKEN: &str = "an-operators-token";

struct Server {
    address: SocketAddr,
    events: mpsc::Sender<Event>,
    commands: std::sync::mpsc::Receiver<Command>,
    _stop: oneshot::Sender<()>,
}

fn settings(address: &str) -> Settings {
    let everything = || Patterns::new(&["*".to_owned()]);
    Settings {
        server_name: "hs".into(),
        // Nobody listens there.
        homeserver: "http://127.0.0.1:1".into(),
        service_url: format!("http://{address}"),
        websocket_url: format!("ws://{address}"),
        as_token: "as-token-of-the-registration-file".into(),
        hs_token: HS_TOKEN.into(),
        policy: Arc::new(Policy {
            servers: everything(),
            opening_servers: everything(),
            rooms: everything(),
            microphone: everything(),
            camera: everything(),
            screen: everything(),
            membership_unknown: MembershipUnknown::Trust,
        }),
    }
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let matrix = signaling::Matrix {
            settings: settings(&address.to_string()),
            authorities: signaling::Authorities::load(None).unwrap(),
            may_ask: Arc::new(|_| false),
            leaves: Vec::new(),
            leave_store: None,
        };
        let options = Options { admin_token: Some(ADMIN_TOKEN.into()), matrix: Some(matrix), ..common::options() };
        let (sender, commands) = std::sync::mpsc::channel();
        let worker: signaling::CommandSink = Box::new(move |command| sender.send(command).is_ok());
        let (events_in, events) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(signaling::serve(listener, options, vec![worker], events, async move {
            let _ = stopped.await;
        }));
        Server { address, events: events_in, commands, _stop: stop }
    }

    /// Status and body.
    async fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // It may answer before it has heard everything.
        let _ = stream.write_all(body.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    async fn push(&self, id: &str, events: &str) {
        let path = format!("/_matrix/app/v1/transactions/{id}");
        let answer = self.ask("PUT", &path, Some(HS_TOKEN), &format!(r#"{{"events":[{events}]}}"#)).await;
        assert_eq!(answer, (200, "{}".to_owned()));
    }

    /// Whether the metrics have this line by now or soon.
    async fn counts(&self, line: &str) {
        let mut text = String::new();
        for _ in 0..100 {
            text = self.ask("GET", "/metrics", None, "").await.1;
            if text.lines().any(|found| found == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{line} is not in\n{text}");
    }
}

#[allow(clippy::disallowed_methods)] // The server looks at the same clock.
fn join_path(user: &str, identity: &str) -> String {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let claims = Claims {
        iss: ISSUER.into(),
        sub: identity.into(),
        exp: Some(now.as_secs() + 600),
        video: Some(VideoGrant { room_join: true, room: "call".into(), ..Default::default() }),
        matrix: Some(Member { room_id: "!r:hs".into(), user_id: user.into(), device_id: "PHONE".into() }),
        ..Default::default()
    };
    let keys = BTreeMap::from([(ISSUER.to_owned(), settings("").token_secret())]);
    let token = token::sign(&claims, &keys).unwrap();
    let request = JoinRequest { connection_settings: Some(ConnectionSettings::default()), ..Default::default() };
    let wrapped = WrappedJoinRequest { compression: 0, join_request: request.encode_to_vec() };
    let request = BASE64_URL_SAFE.encode(wrapped.encode_to_vec());
    format!("/rtc/v1?access_token={token}&join_request={request}")
}

#[tokio::test]
async fn only_the_homeserver_is_heard() {
    let server = Server::start().await;
    for path in ["transactions/1", "ping", "users/x", "nothing"] {
        let path = format!("/_matrix/app/v1/{path}");
        let (status, body) = server.ask("PUT", &path, None, "{}").await;
        assert!(status == 401 && body.contains("M_MISSING_TOKEN"), "{path}: {status} {body}");
        let (status, body) = server.ask("PUT", &path, Some("as-token-of-the-registration-file"), "{}").await;
        assert!(status == 403 && body.contains("M_FORBIDDEN"), "{path}: {status} {body}");
    }
    let known = |method: &'static str, path: &'static str, body: &'static str| {
        let server = &server;
        async move { server.ask(method, &format!("/_matrix/app/v1/{path}"), Some(HS_TOKEN), body).await }
    };
    assert_eq!(known("POST", "ping", r#"{"transaction_id":"x"}"#).await, (200, "{}".to_owned()));
    assert_eq!(known("GET", "users/%40a%3Ahs", "").await, (404, "{}".to_owned()));
    assert_eq!(known("GET", "rooms/%23a%3Ahs", "").await, (404, "{}".to_owned()));
    assert_eq!(known("PUT", "transactions/1", r#"{"events":[],"ephemeral":[],"x":{}}"#).await.0, 200);
    assert_eq!(known("PUT", "transactions/2", "no JSON").await.0, 400);
    assert_eq!(known("GET", "transactions/2", "").await.0, 405);
    assert_eq!(known("GET", "thirdparty/protocol/x", "").await.0, 404);
    server.counts("hausruf_appservice_transactions_total{kind=\"refused\"} 8").await;
    server.counts("hausruf_appservice_transactions_total{kind=\"new\"} 1").await;
}

#[tokio::test]
async fn a_body_beyond_all_bounds_is_not_taken() {
    let server = Server::start().await;
    let body = format!(r#"{{"events":[],"x":"{}"}}"#, "x".repeat(17 << 20));
    let (status, _) = server.ask("PUT", "/_matrix/app/v1/transactions/1", Some(HS_TOKEN), &body).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn who_is_kicked_is_out_at_once_under_both_identities() {
    let server = Server::start().await;
    let mut sockets = Vec::new();
    for (user, identity) in [("@a:hs", "@a:hs:PHONE"), ("@a:hs", "aGFzaA"), ("@b:hs", "@b:hs:PHONE")] {
        let address = format!("ws://{}{}", server.address, join_path(user, identity));
        let (mut socket, _) = tokio_tungstenite::connect_async(address).await.unwrap();
        let first = socket.next().await.unwrap().unwrap();
        assert!(matches!(SignalResponse::decode(first.into_data()).unwrap().message, Some(Told::Join(_))));
        sockets.push(socket);
    }
    while let Ok(command) = server.commands.try_recv() {
        if let Command::Join { participant, .. } = command {
            let remote = "127.0.0.1:9".parse().unwrap();
            server.events.send(Event::Connected { participant, remote }).await.unwrap();
        }
    }
    let kick = r#"{"type":"m.room.member","room_id":"!r:hs","sender":"@b:hs","state_key":"@a:hs",
        "origin_server_ts":1,"content":{"membership":"leave","reason":"kicked"}}"#;
    server.push("kick", kick).await;
    for socket in &mut sockets[..2] {
        let last_words = async {
            let mut last = None;
            while let Some(Ok(Frame::Binary(frame))) = socket.next().await {
                last = SignalResponse::decode(frame).unwrap().message;
            }
            last
        };
        let last = tokio::time::timeout(Duration::from_secs(2), last_words).await.expect("out within two seconds");
        let Some(Told::Leave(leave)) = last else { panic!("{last:?}") };
        assert_eq!(leave.reason(), DisconnectReason::ParticipantRemoved);
        assert_eq!(leave.action(), Action::Disconnect);
    }
    server.counts("hausruf_members_removed_total 2").await;
    server.counts("hausruf_participants 1").await;
    server.push("kick", kick).await;
    server.counts("hausruf_appservice_transactions_total{kind=\"repeated\"} 1").await;
}

#[tokio::test]
async fn an_operator_with_the_token_sees_the_call_and_ends_it() {
    let server = Server::start().await;
    let address = format!("ws://{}{}", server.address, join_path("@a:hs", "@a:hs:PHONE"));
    let (mut socket, _) = tokio_tungstenite::connect_async(address).await.unwrap();
    let name = r#"{"type":"m.room.name","room_id":"!r:hs","sender":"@a:hs","state_key":"","origin_server_ts":1,
        "content":{"name":"Kitchen"}}"#;
    server.push("name", name).await;
    for token in [None, Some(""), Some("an-operators-toke"), Some(HS_TOKEN)] {
        let (status, body) = server.ask("POST", "/admin/survey", token, r#"{"rooms":[]}"#).await;
        assert_eq!((status, body.as_str()), (401, "the token is wrong"));
    }
    let ask = |path: &'static str, body: String| {
        let server = &server;
        async move { server.ask("POST", path, Some(ADMIN_TOKEN), &body).await }
    };
    let (status, body) = ask("/admin/survey", r#"{"rooms":[]}"#.into()).await;
    let survey: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, survey["room_count"].as_u64()), (200, Some(1)));
    let room = &survey["rooms"][0];
    assert_eq!((room["title"].as_str(), room["matrix_room"].as_str()), (Some("Kitchen"), Some("!r:hs")));
    let sid = room["sid"].as_str().unwrap();
    let (_, body) = ask("/admin/survey", format!(r#"{{"rooms":["{sid}"]}}"#)).await;
    let survey: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(survey["rooms"][0]["participants"][0]["member"]["user_id"], "@a:hs");
    assert_eq!(ask("/admin/survey", "{}".into()).await.0, 400);
    assert_eq!(ask("/admin/survey", "x".repeat(5_000)).await.0, 413);
    assert_eq!(ask("/admin/remove", format!(r#"{{"room":"{sid}","participant":"PA_none"}}"#)).await.0, 404);
    assert_eq!(server.ask("GET", "/admin/end", Some(ADMIN_TOKEN), "").await.0, 405);
    assert_eq!(server.ask("GET", "/admin/nothing", Some(ADMIN_TOKEN), "").await.0, 404);
    assert_eq!(ask("/admin/end", format!(r#"{{"room":"{sid}"}}"#)).await.0, 200);
    let mut last = None;
    while let Some(Ok(Frame::Binary(frame))) = socket.next().await {
        last = SignalResponse::decode(frame).unwrap().message;
    }
    let Some(Told::Leave(leave)) = last else { panic!("{last:?}") };
    assert_eq!((leave.reason(), leave.action()), (DisconnectReason::RoomDeleted, Action::Disconnect));
}
