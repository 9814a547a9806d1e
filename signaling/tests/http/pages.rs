//! What is asked without a WebSocket.

use livekit_protocol::signal_response::Message as Told;

use crate::server::{Server, join_request, manual, options, path, token, told};

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
