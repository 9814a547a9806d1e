//! The HTTP and WebSocket face on a real socket, with a queue that takes commands and gives no media.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use datapath::Entropy;
use futures_util::{SinkExt, StreamExt};
use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{
    ConnectionSettings, JoinRequest, SessionDescription, SignalRequest, SignalResponse, WrappedJoinRequest,
    leave_request::Action,
};
use prost::Message;
use sfu::{Command, Fingerprint};
use signaling::livekit::token::{self, Claims, VideoGrant};
use signaling::{Drain, Limits, Options, RoomDefaults};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const OFFER: &str = include_str!("../fuzz/corpus/sdp/chromium156_offer_v1_layout.sdp");

struct Server {
    address: SocketAddr,
    commands: Arc<Mutex<Vec<Command>>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _events: mpsc::Sender<sfu::Event>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn keys() -> BTreeMap<String, String> {
    BTreeMap::from([("devkey".to_owned(), "secret".to_owned())])
}

fn options() -> Options {
    Options {
        api_keys: keys(),
        media_candidates: vec!["127.0.0.1:3478".parse().unwrap()],
        fingerprint: Fingerprint([1; 32]),
        turn: None,
        turn_withdrawals: Box::new(|_, _| {}),
        limits: Limits::default(),
        room_defaults: RoomDefaults::default(),
        drain: Drain::default(),
        metrics: Arc::new(|| vec![Default::default()]),
        demo_key: Some("devkey".into()),
        admin_token: None,
        media_tcp_candidates: Vec::new(),
        tcp: signaling::Tcp::default(),
        matrix: None,
        entropy: Entropy::from_seed([9; 32]),
    }
}

impl Server {
    async fn start(options: Options, queue: usize) -> Server {
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
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn get(&self, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        self.ask(&head).await
    }

    async fn post(&self, path: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        self.ask(&head).await
    }

    async fn join(&self, path: &str) -> Result<Socket, tungstenite::Error> {
        let address = format!("ws://{}{path}", self.address);
        let joined = tokio_tungstenite::connect_async(address).await?;
        Ok(joined.0)
    }
}

#[allow(clippy::disallowed_methods)] // The server looks at the same clock.
fn token(change: impl FnOnce(&mut Claims)) -> String {
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

fn join_request(request: &JoinRequest) -> String {
    let wrapped = WrappedJoinRequest { compression: 0, join_request: request.encode_to_vec() };
    BASE64_URL_SAFE.encode(wrapped.encode_to_vec())
}

fn manual() -> JoinRequest {
    JoinRequest { connection_settings: Some(ConnectionSettings::default()), ..Default::default() }
}

fn path(token: &str) -> String {
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

async fn told(socket: &mut Socket) -> Option<Told> {
    loop {
        match socket.next().await?.ok()? {
            Frame::Binary(bytes) => return SignalResponse::decode(bytes).unwrap().message,
            Frame::Close(_) => return None,
            _ => {}
        }
    }
}

async fn say(socket: &mut Socket, message: Asked) {
    let request = SignalRequest { message: Some(message) };
    let frame = Frame::Binary(request.encode_to_vec().into());
    socket.send(frame).await.unwrap();
}

#[tokio::test]
async fn a_client_joins_and_leaves_over_a_websocket() {
    let server = Server::start(options(), 1_000).await;
    let mut socket = server.join(&path(&token(|_| {}))).await.unwrap();
    assert!(matches!(told(&mut socket).await, Some(Told::Join(_))));
    let Some(Told::Answer(answer)) = told(&mut socket).await else {
        panic!("no answer");
    };
    assert!(matches!(told(&mut socket).await, Some(Told::RefreshToken(_))));
    assert_eq!(answer.id, 1);
    assert!(answer.sdp.contains("a=candidate:1 1 udp 2130706431 127.0.0.1 3478 typ host"));
    // A text frame is answered in text, until the next binary one.
    let ping = Frame::Text(r#"{"pingReq":{"timestamp":"5"}}"#.into());
    socket.send(ping).await.unwrap();
    let Frame::Text(json) = socket.next().await.unwrap().unwrap() else {
        panic!("no text");
    };
    assert!(json.contains(r#""lastPingTimestamp":"5""#), "{json}");
    say(&mut socket, Asked::Ping(1)).await;
    assert!(matches!(told(&mut socket).await, Some(Told::Pong(_))));
    say(&mut socket, Asked::Leave(Default::default())).await;
    assert_eq!(told(&mut socket).await, None);
    let commands = server.commands.lock().unwrap();
    assert!(matches!(commands[..], [Command::Join { .. }, Command::SetTransport { .. }, Command::Leave { .. }]));
}

/// RFC 7692, by hand: the client's library does not know it.
#[tokio::test]
async fn messages_are_compressed_for_who_offers_it() {
    let server = Server::start(options(), 1_000).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
        path(&token(|_| {}))
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    // RFC 6455 §1.3 has this key.
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    assert!(head.contains("sec-websocket-extensions: permessage-deflate; server_no_context_takeover;"), "{head}");
    let mut answered = None;
    loop {
        let (first, payload) = frame(&mut stream).await;
        let octets = if first & 0x40 == 0 { payload } else { inflated(payload) };
        match SignalResponse::decode(&octets[..]).unwrap().message {
            Some(Told::Answer(answer)) => answered = Some((first, answer.sdp)),
            // The last of a join.
            Some(Told::RefreshToken(_)) => break,
            _ => {}
        }
    }
    let (first, sdp) = answered.unwrap();
    assert_eq!(first, 0xC2, "final, compressed, binary");
    assert!(sdp.contains("a=candidate:1 1 udp 2130706431 127.0.0.1 3478 typ host"));
    let ping = SignalRequest { message: Some(Asked::Ping(1)) }.encode_to_vec();
    // RFC 7692 §7.2.3.3: a block without compression; masked with a key of zeros.
    let mut block = vec![0, ping.len() as u8, 0, !(ping.len() as u8), 0xFF];
    block.extend_from_slice(&ping);
    block.push(0);
    let mut compressed = vec![0xC2, 0x80 | block.len() as u8, 0, 0, 0, 0];
    compressed.extend_from_slice(&block);
    stream.write_all(&compressed).await.unwrap();
    let (first, payload) = frame(&mut stream).await;
    let told = SignalResponse::decode(&payload[..]).unwrap().message;
    assert!(first == 0x82 && matches!(told, Some(Told::Pong(_))), "{told:?}");
}

/// The first octet of a server's next frame, and its payload.
async fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let first = stream.read_u8().await.unwrap();
    let length = match stream.read_u8().await.unwrap() {
        126 => usize::from(stream.read_u16().await.unwrap()),
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.unwrap();
    (first, payload)
}

fn inflated(mut payload: Vec<u8>) -> Vec<u8> {
    payload.extend_from_slice(&[0, 0, 0xFF, 0xFF]);
    let mut out = Vec::with_capacity(1 << 16);
    flate2::Decompress::new(false).decompress_vec(&payload, &mut out, flate2::FlushDecompress::Sync).unwrap();
    out
}

#[tokio::test]
async fn refusals_are_statuses_before_the_upgrade_and_the_same_on_validate() {
    let mut strict = options();
    strict.room_defaults.auto_create = false;
    let server = Server::start(strict, 1_000).await;
    let good = token(|_| {});
    let expired = token(|claims| claims.exp = Some(1));
    let foreign = token(|claims| claims.video.as_mut().unwrap().room_join = false);
    let request = join_request(&manual());
    for (query, status, body) in [
        ("", 401, "no authorization token"),
        (&*format!("access_token={expired}&join_request={request}"), 401, "expired"),
        (&*format!("access_token={foreign}&join_request={request}"), 401, "permissions denied"),
        (&*format!("access_token={good}"), 400, "join_request is required"),
        (&*format!("access_token={good}&join_request=%21"), 400, "cannot base64 decode"),
        (&*format!("access_token={good}&join_request={request}"), 404, "requested room does not exist"),
    ] {
        let answer = server.get(&format!("/rtc/v1/validate?{query}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(body), "{answer}");
        assert!(answer.contains("access-control-allow-origin: *"), "{answer}");
        let Err(tungstenite::Error::Http(refused)) = server.join(&format!("/rtc/v1?{query}")).await else {
            panic!("joined with {query}");
        };
        assert_eq!(refused.status().as_u16(), status);
    }
    let bearer = format!("Authorization: Bearer {good}\r\n");
    let head = format!("GET //rtc/validate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{bearer}\r\n");
    let answer = server.ask(&head).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("single PeerConnection required"), "{answer}");
    let answer = server.get(&format!("/rtc?access_token={good}")).await;
    assert!(answer.ends_with("single PeerConnection required"), "{answer}");
}

#[tokio::test]
async fn health_page_metrics_and_cors() {
    let server = Server::start(options(), 1_000).await;
    let answer = server.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("OK"), "{answer}");
    let head = "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = server.ask(head).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    let preflight = "OPTIONS /rtc/v1/validate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: http://a\r\n\
                     Access-Control-Request-Headers: authorization\r\n\r\n";
    let answer = server.ask(preflight).await;
    assert!(answer.contains("access-control-allow-headers: authorization"), "{answer}");
    assert!(answer.contains("access-control-max-age: 86400"), "{answer}");
    let answer = server.get("/metrics").await;
    assert!(answer.contains("hausruf_participants 0"), "{answer}");
    assert!(server.get("/settings/regions").await.starts_with("HTTP/1.1 404 "));
    assert!(server.get("/../Cargo.toml").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn a_long_request_line_is_read() {
    let server = Server::start(options(), 1_000).await;
    let request = join_request(&manual());
    let start = format!("/rtc/v1/validate?access_token={}&join_request={request}&x=", token(|_| {}));
    let padding = "y".repeat(64_000 - start.len());
    let answer = server.get(&format!("{start}{padding}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("success"), "{answer}");
}

#[tokio::test]
async fn the_demo_gives_tokens_that_let_in() {
    let server = Server::start(options(), 1_000).await;
    let body = r#"{"room":"kitchen","name":"Anna"}"#;
    let answer = server.post("/demo/token", "Content-Type: application/json\r\n", body).await;
    let json = answer.split("\r\n\r\n").nth(1).unwrap();
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    let token = json["token"].as_str().unwrap();
    let mut socket = server.join(&path(token)).await.unwrap();
    let Some(Told::Join(join)) = told(&mut socket).await else {
        panic!("no join");
    };
    assert_eq!(join.participant.unwrap().name, "Anna");
    let answer = server.post("/demo/token", "", r#"{"room":" ","name":"x"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let mut plain = options();
    plain.demo_key = None;
    let server = Server::start(plain, 1_000).await;
    assert!(server.post("/demo/token", "", body).await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn without_a_token_there_is_no_page_for_operators() {
    let server = Server::start(options(), 1_000).await;
    for path in ["/admin", "/admin.html", "//admin", "/admin/survey", "/admin/api/links", "/admin/api/links/PA_1"] {
        let answer = server.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control-allow-origin"), "{path}: {answer}");
    }
    let headers = "Authorization: Bearer \r\n";
    let answer = server.post("/admin/survey", headers, r#"{"rooms":[]}"#).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn an_operator_downloads_what_links_did() {
    let mut operated = options();
    operated.admin_token = Some("an-operators-token-of-forty-characters-x".into());
    let server = Server::start(operated, 1_000).await;
    let _socket = server.join(&path(&token(|_| {}))).await.unwrap();
    let get = async |path: &str, token: &str| {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
        server.ask(&head).await
    };
    let wrong = get("/admin/api/links", "x").await;
    assert!(wrong.starts_with("HTTP/1.1 401 "), "{wrong}");
    let token = "an-operators-token-of-forty-characters-x";
    let list = get("/admin/api/links", token).await;
    assert!(list.contains("application/json") && !list.to_ascii_lowercase().contains("access-control"), "{list}");
    let body = list.split_once("\r\n\r\n").unwrap().1;
    let entries: Vec<serde_json::Value> = serde_json::from_str(body).unwrap();
    assert_eq!((entries.len(), &entries[0]["present"]), (1, &true.into()));
    let sid = entries[0]["sid"].as_str().unwrap();
    let one = get(&format!("/admin/api/links/{sid}?utc_offset_minutes=-330"), token).await;
    assert!(one.contains("was never connected") && one.contains(r#""event":"joined""#), "{one}");
    for (path, status) in [("/admin/api/links/PA_x", 404), ("/admin/api/linksPA_x", 404)] {
        let answer = get(path, token).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    for offset in ["x", "9999", "99999999999"] {
        let answer = get(&format!("/admin/api/links/{sid}?utc_offset_minutes={offset}"), token).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let authorization = format!("Authorization: Bearer {token}\r\n");
    let posted = server.post("/admin/api/links", &authorization, "{}").await;
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
}

#[tokio::test]
async fn the_room_service_speaks_json_and_names_its_errors() {
    let server = Server::start(options(), 1_000).await;
    let admin = token(|claims| {
        claims.sub.clear();
        let grant = claims.video.as_mut().unwrap();
        grant.room_create = true;
        grant.room_admin = true;
    });
    let headers = format!("Content-Type: application/json;charset=UTF-8\r\nAuthorization: Bearer {admin}\r\n");
    let call = async |method: &str, body: &str| {
        let path = format!("/twirp/livekit.RoomService/{method}");
        server.post(&path, &headers, body).await
    };
    let answer = call("CreateRoom", r#"{"name":"kitchen","emptyTimeout":60,"unknown":1}"#).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(r#""emptyTimeout":60"#), "{answer}");
    let answer = call("GetParticipant", r#"{"room":"kitchen","identity":"zoe"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains(r#""code":"not_found""#), "{answer}");
    let answer = call("GetParticipant", r#"{"room":"cellar","identity":"zoe"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let answer = call("ListRooms", "{}").await;
    assert!(answer.contains("permissions denied"), "{answer}");
    assert!(call("PerformRpc", "{}").await.starts_with("HTTP/1.1 501 "));
    assert!(call("Nonsense", "{}").await.starts_with("HTTP/1.1 404 "));
    assert!(call("CreateRoom", "{").await.starts_with("HTTP/1.1 400 "));
    let answer = server.post("/twirp/livekit.RoomService/ListRooms", "", "{}").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn a_full_command_queue_is_a_503() {
    let server = Server::start(options(), 0).await;
    let Err(tungstenite::Error::Http(refused)) = server.join(&path(&token(|_| {}))).await else {
        panic!("joined");
    };
    assert_eq!(refused.status().as_u16(), 503);
    let metrics = server.get("/metrics").await;
    assert!(metrics.contains("hausruf_participants 0"), "{metrics}");
}

#[tokio::test]
async fn floods_and_giants_are_cut_off_and_nobody_else_notices() {
    let mut tight = options();
    tight.limits.message_burst = 50;
    tight.limits.messages_per_second = 1;
    let server = Server::start(tight, 1_000).await;
    let mut calm = server.join(&path(&token(|claims| claims.sub = "calm".into()))).await.unwrap();
    let mut loud = server.join(&path(&token(|_| {}))).await.unwrap();
    for _ in 0..100 {
        let request = SignalRequest { message: Some(Asked::Ping(1)) };
        if loud.send(Frame::Binary(request.encode_to_vec().into())).await.is_err() {
            break;
        }
    }
    let mut pongs = 0;
    while let Some(message) = told(&mut loud).await {
        pongs += usize::from(matches!(message, Told::Pong(_)));
    }
    assert!(pongs <= 51, "{pongs}");
    let mut giant = server.join(&path(&token(|_| {}))).await.unwrap();
    let _ = giant.send(Frame::Binary(vec![0; 3 << 20].into())).await;
    while told(&mut giant).await.is_some() {}
    let mut rubbish = server.join(&path(&token(|_| {}))).await.unwrap();
    rubbish.send(Frame::Binary(vec![0xff; 10].into())).await.unwrap();
    while told(&mut rubbish).await.is_some() {}
    say(&mut calm, Asked::Ping(1)).await;
    loop {
        if let Told::Pong(_) = told(&mut calm).await.expect("still served") {
            break;
        }
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let mut tight = options();
    tight.limits.connections = 2;
    let server = Server::start(tight, 1_000).await;
    let mut first = server.join(&path(&token(|claims| claims.sub = "a".into()))).await.unwrap();
    let _second = server.join(&path(&token(|claims| claims.sub = "b".into()))).await.unwrap();
    let third = server.join(&path(&token(|claims| claims.sub = "c".into()))).await;
    assert!(third.is_err());
    // A place is free again once somebody has gone.
    say(&mut first, Asked::Leave(Default::default())).await;
    while told(&mut first).await.is_some() {}
    drop(first);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let again = server.join(&path(&token(|claims| claims.sub = "d".into()))).await;
        if again.is_ok() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "no place became free");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_shutdown_sends_clients_to_the_next_server_and_ends() {
    let mut server = Server::start(options(), 1_000).await;
    let mut socket = server.join(&path(&token(|_| {}))).await.unwrap();
    server.stop.take().unwrap().send(()).unwrap();
    let mut last = None;
    while let Some(message) = told(&mut socket).await {
        last = Some(message);
    }
    let Some(Told::Leave(leave)) = last else {
        panic!("{last:?}");
    };
    assert_eq!(leave.action(), Action::Reconnect);
    drop(socket);
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
