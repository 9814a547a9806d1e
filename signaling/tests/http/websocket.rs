//! Joining, and what is refused before.

use futures_util::{SinkExt, StreamExt};
use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{SignalRequest, SignalResponse};
use prost::Message;
use sfu::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message as Frame};

use crate::server::{Server, join_request, manual, options, path, say, token, told};

#[tokio::test]
async fn a_client_joins_and_leaves_over_a_websocket() {
    let server = Server::start(options(), 1_000).await;
    let mut socket = server.join(&path(&token(|_| {}))).await.unwrap();
    assert!(matches!(told(&mut socket).await, Some(Told::Join(_))));
    let Some(Told::Answer(answer)) = told(&mut socket).await else {
        panic!("no answer");
    };
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
    assert!(head.contains("sec-websocket-extensions: permessage-deflate; client_no_context_takeover\r\n"), "{head}");
    let mut inflate = flate2::Decompress::new(false);
    let (first, sdp) = loop {
        let (first, payload) = frame(&mut stream).await;
        let octets = if first & 0x40 == 0 { payload } else { inflated(&mut inflate, payload) };
        // The last of a join.
        if let Some(Told::Answer(answer)) = SignalResponse::decode(&octets[..]).unwrap().message {
            break (first, answer.sdp);
        }
    };
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

/// By a client that keeps its dictionary from message to message.
fn inflated(inflate: &mut flate2::Decompress, mut payload: Vec<u8>) -> Vec<u8> {
    payload.extend_from_slice(&[0, 0, 0xFF, 0xFF]);
    let mut out = Vec::with_capacity(1 << 16);
    inflate.decompress_vec(&payload, &mut out, flate2::FlushDecompress::Sync).unwrap();
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
