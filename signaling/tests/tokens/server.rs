//! The whole control plane on a loopback socket, beside a stand-in for its homeserver.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use livekit_protocol::{ConnectionSettings, JoinRequest, WrappedJoinRequest};
use prost::Message;
use serde_json::{Value, json};
use signaling::livekit::token::{self, Claims};
use signaling::matrix::{ISSUER, MembershipUnknown, Patterns, Policy, Settings};
use signaling::{Authorities, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::common;
use crate::stand_in::StandIn;

pub const AS_TOKEN: &str = "the-as-token-of-the-registration";
pub const HS_TOKEN: &str = "the-hs-token-of-the-registration";
pub const ROOM: &str = "!room:hs";

pub struct Server {
    pub address: SocketAddr,
    pub homeserver: StandIn,
    pub settings: Settings,
    _events: mpsc::Sender<sfu::Event>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Told {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Status and error code.
    pub fn error(&self) -> (u16, String) {
        (self.status, self.json()["errcode"].as_str().unwrap_or_default().to_owned())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let name = format!("{name}: ").to_lowercase();
        self.head.lines().find(|line| line.to_lowercase().starts_with(&name)).map(|line| &line[name.len()..])
    }
}

pub fn policy() -> Policy {
    let everything = || Patterns::new(&["*".to_owned()]);
    Policy {
        servers: everything(),
        opening_servers: Patterns::new(&[]),
        rooms: everything(),
        microphone: everything(),
        camera: everything(),
        screen: everything(),
        membership_unknown: MembershipUnknown::Refuse,
    }
}

impl Server {
    pub async fn start() -> Server {
        Server::with(policy(), Authorities::load(None).unwrap(), false).await
    }

    /// `asks_loopback`: whether other servers may be on this machine.
    pub async fn with(policy: Policy, authorities: Authorities, asks_loopback: bool) -> Server {
        Server::at("https://calls.hs", policy, authorities, asks_loopback).await
    }

    /// `url` is where the public finds it.
    pub async fn at(url: &str, policy: Policy, authorities: Authorities, asks_loopback: bool) -> Server {
        let homeserver = StandIn::start(None).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Settings {
            server_name: "hs".into(),
            homeserver: format!("http://{}", homeserver.address),
            service_url: url.to_owned(),
            websocket_url: url.replacen("http", "ws", 1),
            as_token: AS_TOKEN.into(),
            hs_token: HS_TOKEN.into(),
            policy: Arc::new(policy),
        };
        let options = Options {
            api_keys: BTreeMap::from([("devkey".to_owned(), "secret".to_owned())]),
            matrix: Some(signaling::Matrix {
                settings: settings.clone(),
                authorities,
                may_ask: Arc::new(move |ip| asks_loopback && ip.is_loopback()),
                leaves: Vec::new(),
                leave_store: None,
            }),
            ..common::options()
        };
        let commands = Mutex::new(Vec::new());
        let worker = Box::new(move |command| {
            commands.lock().unwrap().push(command);
            true
        });
        let (events_in, events) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(signaling::serve(listener, options, vec![worker], events, async move {
            let _ = stopped.await;
        }));
        Server { address, homeserver, settings, _events: events_in, stop: Some(stop), task: Some(task) }
    }

    pub async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Told {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Told { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Ends it, but for connections that are open.
    pub async fn end(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.take().unwrap().await.unwrap();
    }

    pub async fn post(&self, path: &str, body: &Value) -> Told {
        self.ask("POST", path, "Content-Type: application/json\r\n", &body.to_string()).await
    }

    /// As the homeserver passes it on.
    pub async fn proxied(&self, path: &str, caller: &str, body: &Value) -> Told {
        let headers = format!("Authorization: Bearer {HS_TOKEN}\r\n{caller}\r\n");
        self.ask("POST", path, &headers, &body.to_string()).await
    }

    /// What stands in a token of ours.
    pub fn claims(&self, told: &Told) -> Claims {
        assert_eq!(told.status, 200, "{told:?}");
        let jwt = told.json()["jwt"].as_str().unwrap().to_owned();
        let keys = BTreeMap::from([(ISSUER.to_owned(), self.settings.token_secret())]);
        token::verify(&jwt, &keys, unix_s()).unwrap()
    }

    /// What a socket with this token is told: the status, and the body of a refusal.
    pub async fn enter(&self, jwt: &str) -> (u16, String) {
        let address = format!("ws://{}/rtc/v1?{}", self.address, joining(jwt));
        match tokio_tungstenite::connect_async(address).await {
            Ok(_) => (101, String::new()),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                (response.status().as_u16(), String::from_utf8(body).unwrap())
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// What a client hears that asks why its socket failed.
    pub async fn validate(&self, jwt: &str) -> u16 {
        self.ask("GET", &format!("/rtc/v1/validate?{}", joining(jwt)), "", "").await.status
    }
}

/// The query of somebody who wants to join.
fn joining(jwt: &str) -> String {
    let request = JoinRequest { connection_settings: Some(ConnectionSettings::default()), ..Default::default() };
    let wrapped = WrappedJoinRequest { compression: 0, join_request: request.encode_to_vec() };
    format!("access_token={jwt}&join_request={}", BASE64_URL_SAFE.encode(wrapped.encode_to_vec()))
}

#[allow(clippy::disallowed_methods)] // The server looks at the same clock.
pub fn unix_s() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn openid(token: &str, server: &str) -> Value {
    json!({ "access_token": token, "token_type": "Bearer", "matrix_server_name": server, "expires_in": 3600 })
}

/// A body for `/sfu/get`.
pub fn sfu_get(token: &str, server: &str) -> Value {
    json!({ "room": ROOM, "device_id": "DEV", "openid_token": openid(token, server) })
}

/// A body for `/get_token`.
pub fn get_token(token: &str, server: &str, user: &str) -> Value {
    json!({
        "room_id": ROOM, "slot_id": "m.call#ROOM", "openid_token": openid(token, server),
        "member": { "id": "M", "claimed_user_id": user, "claimed_device_id": "DEV" },
    })
}

/// The same with something else at `pointer`.
pub fn with(mut body: Value, pointer: &str, value: impl Into<Value>) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap()[key] = value.into();
    body
}
