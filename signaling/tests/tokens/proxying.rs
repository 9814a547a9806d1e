//! Requests that come through homeservers (MSC4512).

use serde_json::{Value, json};
use signaling::matrix::identity;

use crate::server::{AS_TOKEN, HS_TOKEN, ROOM, Server};

const CLIENT: &str = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit";
const FEDERATION: &str = "/_matrix/federation/unstable/io.element.msc4195/rtc/livekit";
const ALICE: &str = "X-Matrix-User-Identifier: @alice:hs";

fn body() -> Value {
    json!({ "server_name": "hs", "url": "wss://calls.hs", "room_id": ROOM, "slot_id": "s",
        "member": { "id": "M", "claimed_device_id": "DEV" } })
}

fn newer(user: Option<&str>) -> Value {
    let mut body = json!({ "url": "wss://calls.hs/", "room_id": ROOM, "slot_id": "s", "member_id": "M" });
    if let Some(user) = user {
        body["user_id"] = user.into();
    }
    body
}

#[tokio::test]
async fn the_homeservers_word_is_proof_enough() {
    let server = Server::start().await;
    server.homeserver.join(ROOM, "@alice:hs");
    let told = server.proxied(&format!("{CLIENT}/get_token"), ALICE, &body()).await;
    assert_eq!(told.json()["url"], "wss://calls.hs");
    assert_eq!(server.claims(&told).sub, identity::hashed_identity("@alice:hs", "DEV", "M"));
    let told = server.proxied("/_matrix/client/v1/rtc/livekit/get_token", ALICE, &newer(None)).await;
    assert_eq!(server.claims(&told).sub, identity::member_identity("@alice:hs", "M"));
    let mut delegation = body();
    delegation["delay_id"] = "d".into();
    let told = server.proxied(&format!("{CLIENT}/delegate_delayed_leave"), ALICE, &delegation).await;
    assert_eq!((told.status, told.json()), (200, json!({})));
    assert_eq!(server.homeserver.count("access_token=t"), 0);
}

#[tokio::test]
async fn only_the_homeserver_may_speak_for_users() {
    let server = Server::start().await;
    server.homeserver.join(ROOM, "@alice:hs");
    let path = format!("{CLIENT}/get_token");
    let body = body().to_string();
    let ask = |headers: String| {
        let (server, path, body) = (&server, &path, &body);
        async move { server.ask("POST", path, &headers, body).await.error() }
    };
    assert_eq!(ask(format!("{ALICE}\r\n")).await, (401, "M_UNAUTHORIZED".to_owned()));
    for wrong in [AS_TOKEN, "", "the-hs-token-of-the-registratioN", "the-hs-token-of-the-registration2"] {
        let headers = format!("Authorization: Bearer {wrong}\r\n{ALICE}\r\n");
        assert_eq!(ask(headers).await, (403, "M_FORBIDDEN".to_owned()), "{wrong}");
    }
    // The homeserver's token, but nobody for whom it speaks.
    for nobody in ["", "X-Matrix-User-Identifier: alice\r\n", "X-Matrix-Origin: hs\r\n"] {
        let headers = format!("Authorization: Bearer {HS_TOKEN}\r\n{nobody}");
        assert_eq!(ask(headers).await, (401, "M_UNAUTHORIZED".to_owned()), "{nobody}");
    }
    assert_eq!(server.homeserver.count("%21room"), 0);
    let told = server.ask("GET", &path, "", "").await;
    assert_eq!(told.status, 405);
}

#[tokio::test]
async fn an_address_that_is_not_ours_and_a_room_that_is_not_the_users_are_refused() {
    let server = Server::start().await;
    let mut foreign = body();
    foreign["url"] = "wss://elsewhere".into();
    let path = format!("{CLIENT}/get_token");
    assert_eq!(server.proxied(&path, ALICE, &foreign).await.error(), (400, "M_INVALID_PARAM".to_owned()));
    assert_eq!(server.proxied(&path, ALICE, &body()).await.error(), (403, "M_FORBIDDEN".to_owned()));
}

#[tokio::test]
async fn another_server_speaks_for_its_own_users_only() {
    let server = Server::start().await;
    server.homeserver.join(ROOM, "@bob:other");
    server.homeserver.join(ROOM, "@carol:third");
    let path = format!("{FEDERATION}/get_token");
    let origin = "X-Matrix-Origin: other";
    let told = server.proxied(&path, origin, &newer(Some("@bob:other"))).await;
    assert_eq!(server.claims(&told).sub, identity::member_identity("@bob:other", "M"));
    for user in ["@carol:third", "@alice:hs", "@eve:other"] {
        let told = server.proxied(&path, origin, &newer(Some(user))).await;
        assert_eq!(told.error(), (403, "M_FORBIDDEN".to_owned()), "{user}");
    }
    assert_eq!(server.proxied(&path, origin, &newer(None)).await.error(), (400, "M_BAD_JSON".to_owned()));
    let delegation = format!("{FEDERATION}/delegate_delayed_leave");
    assert_eq!(server.proxied(&delegation, origin, &newer(Some("@bob:other"))).await.status, 404);
}

#[tokio::test]
async fn another_servers_call_is_asked_for_through_the_homeserver() {
    let server = Server::start().await;
    server.homeserver.join(ROOM, "@alice:hs");
    let path = "/_matrix/client/unstable/io.element.msc4512/appservice/fed_proxy".to_owned();
    let says = |body: Value| server.homeserver.world().pages.insert(path.clone(), (200, Vec::new(), body.to_string()));
    let mut wanted = newer(None);
    wanted["server_name"] = "other".into();
    wanted["url"] = "wss://calls.other".into();
    let ask = || server.proxied("/_matrix/client/v1/rtc/livekit/get_token", ALICE, &wanted);
    says(json!({ "status": 200, "content": { "jwt": "theirs", "url": "wss://calls.other" } }));
    assert_eq!(ask().await.json(), json!({ "jwt": "theirs", "url": "wss://calls.other" }));
    {
        let world = server.homeserver.world();
        let asked = world.asked.iter().rfind(|asked| asked.path == path).unwrap();
        assert_eq!(asked.authorization.as_deref(), Some(format!("Bearer {AS_TOKEN}").as_str()));
        assert_eq!(asked.body["destination"], "other");
        assert_eq!(asked.body["path"], "/_matrix/federation/v1/rtc/livekit/get_token");
        let expected = json!({ "url": "wss://calls.other", "room_id": ROOM, "slot_id": "s", "member_id": "M",
            "user_id": "@alice:hs" });
        assert_eq!(asked.body["body"], expected);
    }
    says(json!({ "status": 403, "content": { "errcode": "M_FORBIDDEN", "error": "not here" } }));
    assert_eq!(ask().await.error(), (403, "M_FORBIDDEN".to_owned()));
    says(json!({ "status": 500, "content": {} }));
    assert_eq!(ask().await.error(), (502, "M_UNKNOWN".to_owned()));
    // Who is not in the room has us ask nobody.
    server.homeserver.leave(ROOM, "@alice:hs");
    let before = server.homeserver.count("fed_proxy");
    assert_eq!(ask().await.error(), (403, "M_FORBIDDEN".to_owned()));
    assert_eq!(server.homeserver.count("fed_proxy"), before);
}
