//! The server under test, and a client by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use futures_util::{SinkExt, StreamExt};
use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{
    ConnectionSettings, JoinRequest, SessionDescription, SignalRequest, SignalResponse, WrappedJoinRequest,
};
use prost::Message;
use sfu::Command;
use signaling::Options;
use signaling::livekit::token::{self, Claims, VideoGrant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::common;

const OFFER: &str = include_str!("../../fuzz/corpus/sdp/chromium156_offer_v1_layout.sdp");

pub struct Server {
    pub address: SocketAddr,
    pub commands: Arc<Mutex<Vec<Command>>>,
    pub stop: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<()>,
    _events: mpsc::Sender<sfu::Event>,
}

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub fn keys() -> BTreeMap<String, String> {
    BTreeMap::from([("devkey".to_owned(), "secret".to_owned())])
}

pub fn options() -> Options {
    Options { api_keys: keys(), demo_key: Some("devkey".into()), ..common::options() }
}

impl Server {
    pub async fn start(options: Options, queue: usize) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let commands = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&commands);
        let worker = Box::new(move |command| {
            let mut commands = sink.lock().unwrap();
            let fits = commands.len() < queue;
            if fits {
                commands.push(command);
            }
            fits
        });
        let (events_in, events) = mpsc::channel(16);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(signaling::serve(listener, options, vec![worker], events, async move {
            let _ = stopped.await;
        }));
        Server { address, commands, stop: Some(stop), task, _events: events_in }
    }

    /// One request by hand; the whole answer as text.
    pub async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub async fn get(&self, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        self.ask(&head).await
    }

    pub async fn post(&self, path: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        self.ask(&head).await
    }

    pub async fn join(&self, path: &str) -> Result<Socket, tungstenite::Error> {
        let address = format!("ws://{}{path}", self.address);
        let joined = tokio_tungstenite::connect_async(address).await?;
        Ok(joined.0)
    }
}

#[allow(clippy::disallowed_methods)] // The server looks at the same clock.
pub fn token(change: impl FnOnce(&mut Claims)) -> String {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let mut claims = Claims {
        iss: "devkey".into(),
        sub: "anna".into(),
        exp: Some(now.as_secs() + 600),
        video: Some(VideoGrant { room_join: true, room: "kitchen".into(), ..Default::default() }),
        ..Default::default()
    };
    change(&mut claims);
    token::sign(&claims, &keys()).unwrap()
}

pub fn join_request(request: &JoinRequest) -> String {
    let wrapped = WrappedJoinRequest { compression: 0, join_request: request.encode_to_vec() };
    BASE64_URL_SAFE.encode(wrapped.encode_to_vec())
}

pub fn manual() -> JoinRequest {
    JoinRequest { connection_settings: Some(ConnectionSettings::default()), ..Default::default() }
}

pub fn path(token: &str) -> String {
    let request = JoinRequest {
        connection_settings: Some(ConnectionSettings { auto_subscribe: true, ..Default::default() }),
        publisher_offer: Some(SessionDescription {
            r#type: "offer".into(),
            sdp: OFFER.into(),
            id: 1,
            ..Default::default()
        }),
        ..Default::default()
    };
    let encoded = join_request(&request);
    format!("/rtc/v1?access_token={token}&join_request={encoded}")
}

pub async fn told(socket: &mut Socket) -> Option<Told> {
    loop {
        match socket.next().await?.ok()? {
            Frame::Binary(bytes) => return SignalResponse::decode(bytes).unwrap().message,
            Frame::Close(_) => return None,
            _ => {}
        }
    }
}

pub async fn say(socket: &mut Socket, message: Asked) {
    let request = SignalRequest { message: Some(message) };
    let frame = Frame::Binary(request.encode_to_vec().into());
    socket.send(frame).await.unwrap();
}
