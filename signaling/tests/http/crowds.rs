//! More than there is room for, and the end.

use std::time::Duration;

use futures_util::SinkExt;
use livekit_protocol::SignalRequest;
use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use prost::Message;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message as Frame};

use crate::server::{Server, options, path, say, token, told};

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
async fn floods_are_read_slowly_and_giants_are_cut_off_and_nobody_else_notices() {
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
    // One more than the burst; the next is read a second later.
    let mut pongs = 0;
    while pongs < 51 {
        pongs += usize::from(matches!(told(&mut loud).await.expect("still served"), Told::Pong(_)));
    }
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
