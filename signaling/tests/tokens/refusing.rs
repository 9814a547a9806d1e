//! Who gets none, and what leaves the house before that is known.

use serde_json::json;
use signaling::Authorities;
use signaling::matrix::Patterns;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::{ROOM, Server, get_token, policy, sfu_get, with};

fn unauthorised() -> (u16, String) {
    (401, "M_UNAUTHORIZED".to_owned())
}

fn forbidden() -> (u16, String) {
    (403, "M_FORBIDDEN".to_owned())
}

#[tokio::test]
async fn who_is_not_in_the_room_is_refused() {
    let server = Server::start().await;
    server.homeserver.vouch("t", "@mallory:hs");
    server.homeserver.join("!other:hs", "@mallory:hs");
    assert_eq!(server.post("/sfu/get", &sfu_get("t", "hs")).await.error(), forbidden());
    assert!(server.homeserver.count("is_joined") > 2, "it may have been a join that was not visible yet");
}

#[tokio::test]
async fn a_forged_proof_is_refused_in_one_way() {
    let server = Server::start().await;
    server.homeserver.vouch("t", "@alice:hs");
    server.homeserver.vouch("foreign", "@alice:other");
    server.homeserver.join(ROOM, "@alice:hs");
    let mut answers = Vec::new();
    for (path, body) in [
        ("/sfu/get", sfu_get("forged", "hs")),
        ("/sfu/get", sfu_get("foreign", "hs")),
        ("/get_token", get_token("t", "hs", "@bob:hs")),
        // Nobody of these servers is in the room.
        ("/sfu/get", sfu_get("t", "127.0.0.1")),
        ("/sfu/get", sfu_get("t", "localhost:22")),
        ("/get_token", get_token("t", "[::1]:80", "@a:[::1]:80")),
    ] {
        let told = server.post(path, &body).await;
        assert_eq!(told.error(), unauthorised(), "{path} {body}");
        answers.push(told.body);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn hidden_addresses_are_not_asked_even_for_members() {
    let server = Server::start().await;
    let hidden = crate::stand_in::StandIn::start(None).await;
    let port = hidden.address.port();
    let names = [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        "10.0.0.1".into(),
    ];
    for name in names {
        server.homeserver.join(ROOM, &name);
        assert_eq!(server.post("/sfu/get", &sfu_get("t", &name)).await.error(), unauthorised(), "{name}");
    }
    assert!(hidden.world().asked.is_empty());
}

#[tokio::test]
async fn a_token_of_another_room_or_device_is_refused() {
    let server = Server::start().await;
    for token in ["t", "u"] {
        server.homeserver.vouch(token, "@alice:hs");
    }
    for room in [ROOM, "!other:hs"] {
        server.homeserver.join(room, "@alice:hs");
    }
    assert_eq!(server.post("/sfu/get", &sfu_get("t", "hs")).await.status, 200);
    assert_eq!(server.post("/sfu/get", &sfu_get("t", "hs")).await.status, 200, "clients ask twice");
    let other_room = with(sfu_get("t", "hs"), "/room", "!other:hs");
    assert_eq!(server.post("/sfu/get", &other_room).await.error(), unauthorised());
    let other_device = with(get_token("t", "hs", "@alice:hs"), "/member/claimed_device_id", "EVE");
    assert_eq!(server.post("/get_token", &other_device).await.error(), unauthorised());
    let new_token = with(sfu_get("u", "hs"), "/room", "!other:hs");
    assert_eq!(server.post("/sfu/get", &new_token).await.status, 200);
}

#[tokio::test]
async fn what_the_operator_forbids_asks_nobody() {
    let mut policy = policy();
    policy.servers = Patterns::new(&["*.friend".to_owned()]);
    policy.rooms = Patterns::new(&["!*:hs".to_owned()]);
    let server = Server::with(policy, Authorities::load(None).unwrap(), true).await;
    server.homeserver.vouch("t", "@alice:hs");
    server.homeserver.join(ROOM, "@alice:hs");
    assert_eq!(server.post("/sfu/get", &sfu_get("t", "stranger")).await.error(), forbidden());
    let room = with(sfu_get("t", "hs"), "/room", "!room:elsewhere");
    assert_eq!(server.post("/sfu/get", &room).await.error(), forbidden());
    let delegation = with(get_token("t", "a.friend", "@a:a.friend"), "/delay_id", "d");
    let delegation = with(delegation, "/delay_timeout", 3_600_000);
    assert_eq!(server.post("/delegate_delayed_leave", &delegation).await.error(), forbidden());
    assert_eq!(server.post("/get_token", &delegation).await.error(), (400, "M_BAD_JSON".to_owned()));
    assert_eq!(server.homeserver.count("%21room") + server.homeserver.count("access_token=t"), 0);
    // The homeserver's own users need not be named.
    assert_eq!(server.post("/sfu/get", &sfu_get("t", "hs")).await.status, 200);
}

#[tokio::test]
async fn malformed_bodies_are_told_apart() {
    let server = Server::start().await;
    let ask = |body: String| {
        let server = &server;
        async move { server.ask("POST", "/sfu/get", "", &body).await }
    };
    assert_eq!(ask("not json".into()).await.error(), (400, "M_NOT_JSON".to_owned()));
    let missing = ask("{}".into()).await;
    assert_eq!(missing.error(), (400, "M_BAD_JSON".to_owned()));
    assert!(missing.body.contains("device_id") && missing.body.contains("openid_token.access_token"), "{missing:?}");
    let colon = with(sfu_get("t", "hs"), "/device_id", "8448:D");
    assert_eq!(ask(colon.to_string()).await.error(), (400, "M_BAD_JSON".to_owned()));
    let large = with(sfu_get("t", "hs"), "/padding", "x".repeat(20_000));
    assert_eq!(ask(large.to_string()).await.error(), (413, "M_TOO_LARGE".to_owned()));
    assert_eq!(server.homeserver.count("%21room") + server.homeserver.count("access_token=t"), 0);
    // A key that is not known yet does no harm.
    server.homeserver.vouch("t", "@alice:hs");
    server.homeserver.join(ROOM, "@alice:hs");
    let newer = with(sfu_get("t", "hs"), "/something", json!({ "new": [] }));
    assert_eq!(ask(newer.to_string()).await.status, 200);
}

#[tokio::test]
async fn a_homeserver_without_answers_gives_no_tokens() {
    let server = Server::start().await;
    server.homeserver.vouch("t", "@alice:hs");
    server.homeserver.world().is_old = true;
    assert_eq!(server.post("/sfu/get", &sfu_get("t", "hs")).await.error(), forbidden());
    server.homeserver.world().is_away = true;
    assert_eq!(server.post("/sfu/get", &sfu_get("t", "hs")).await.error(), (503, "M_UNKNOWN".to_owned()));
}

#[tokio::test]
async fn a_server_that_ends_gives_none() {
    let mut server = Server::start().await;
    server.homeserver.vouch("t", "@alice:hs");
    server.homeserver.join(ROOM, "@alice:hs");
    let mut open = TcpStream::connect(server.address).await.unwrap();
    let body = sfu_get("t", "hs").to_string();
    let request = format!("POST /sfu/get HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut answer = vec![0; 4096];
    open.write_all(request.as_bytes()).await.unwrap();
    let length = open.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    server.end().await;
    open.write_all(request.as_bytes()).await.unwrap();
    let length = open.read(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer[..length]);
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("M_UNKNOWN"), "{text}");
}

#[tokio::test]
async fn one_user_does_not_ask_without_end() {
    let server = Server::start().await;
    server.homeserver.vouch("t", "@alice:hs");
    server.homeserver.join(ROOM, "@alice:hs");
    let mut told = server.post("/sfu/get", &sfu_get("t", "hs")).await;
    let mut granted = 0;
    while told.status == 200 {
        granted += 1;
        assert!(granted < 100);
        told = server.post("/sfu/get", &sfu_get("t", "hs")).await;
    }
    assert!(granted >= 10, "{granted}");
    assert_eq!(told.error(), (429, "M_LIMIT_EXCEEDED".to_owned()));
    assert!(told.json()["retry_after_ms"].as_u64().unwrap() <= 3_000);
    assert!(told.header("retry-after").is_some());
}
