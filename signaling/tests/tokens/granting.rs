//! Who gets a token, and what stands in it.

use serde_json::json;
use signaling::matrix::{Patterns, identity};

use crate::server::{AS_TOKEN, ROOM, Server, get_token, policy, sfu_get, unix_s, with};
use signaling::Authorities;

async fn house() -> Server {
    let server = Server::start().await;
    server.homeserver.vouch("t", "@alice:hs");
    server.homeserver.join(ROOM, "@alice:hs");
    server
}

#[tokio::test]
async fn a_member_of_the_room_gets_a_token() {
    let server = house().await;
    let told = server.post("/sfu/get", &sfu_get("t", "hs")).await;
    assert_eq!(told.json()["url"], "wss://calls.hs");
    assert_eq!(told.header("content-type"), Some("application/json"));
    let claims = server.claims(&told);
    assert_eq!(claims.sub, "@alice:hs:DEV");
    let (nbf, exp) = (claims.nbf.unwrap(), claims.exp.unwrap());
    assert_eq!(exp - nbf, 3600);
    assert!(unix_s() - nbf < 60);
    let member = claims.matrix.clone().unwrap();
    assert_eq!(
        (member.room_id.as_str(), member.user_id.as_str(), member.device_id.as_str()),
        (ROOM, "@alice:hs", "DEV")
    );
    let grant = claims.grant();
    assert_eq!(grant.room, identity::call_name(ROOM, "m.call#ROOM"));
    assert!(grant.room_join && !grant.room_create && !grant.room_admin && !grant.room_list && !grant.hidden);
    assert_eq!((grant.can_publish, grant.can_subscribe), (Some(true), Some(true)));
    assert_eq!((grant.can_update_own_metadata, grant.can_publish_sources), (Some(true), None));
    // The homeserver is told who asks where that counts, and nowhere else.
    let world = server.homeserver.world();
    for asked in &world.asked {
        let expected = (!asked.path.contains("userinfo")).then(|| format!("Bearer {AS_TOKEN}"));
        assert_eq!(asked.authorization, expected, "{}", asked.path);
    }
}

#[tokio::test]
async fn both_endpoints_lead_to_one_call() {
    let server = house().await;
    let plain = server.claims(&server.post("/sfu/get", &sfu_get("t", "hs")).await);
    let hashed = server.claims(&server.post("/get_token", &get_token("t", "hs", "@alice:hs")).await);
    assert_eq!(hashed.sub, identity::hashed_identity("@alice:hs", "DEV", "M"));
    assert_eq!(plain.grant().room, hashed.grant().room);
    let other = with(get_token("t", "hs", "@alice:hs"), "/slot_id", "m.call#OTHER");
    let other = server.claims(&server.post("/get_token", &other).await);
    assert_ne!(other.grant().room, hashed.grant().room);
}

#[tokio::test]
async fn a_join_that_is_not_visible_yet_is_asked_for_again() {
    let server = Server::start().await;
    server.homeserver.vouch("t", "@alice:hs");
    let key = (crate::stand_in::escaped(ROOM), crate::stand_in::escaped("@alice:hs"));
    server.homeserver.world().joins_after.insert(key, 2);
    assert_eq!(server.post("/sfu/get", &sfu_get("t", "hs")).await.status, 200);
    assert_eq!(server.homeserver.count("%21room"), 3);
}

#[tokio::test]
async fn policies_say_what_is_published() {
    let mut policy = policy();
    policy.camera = Patterns::new(&["@bob:*".to_owned()]);
    policy.screen = Patterns::new(&[]);
    let server = Server::with(policy.clone(), Authorities::load(None).unwrap(), false).await;
    server.homeserver.vouch("t", "@alice:hs");
    server.homeserver.join(ROOM, "@alice:hs");
    let grant = server.claims(&server.post("/sfu/get", &sfu_get("t", "hs")).await).grant();
    assert_eq!(grant.can_publish, Some(true));
    assert_eq!(grant.can_publish_sources, Some(vec!["microphone".to_owned()]));
    policy.microphone = Patterns::new(&[]);
    let server = Server::with(policy, Authorities::load(None).unwrap(), false).await;
    server.homeserver.vouch("t", "@alice:hs");
    server.homeserver.join(ROOM, "@alice:hs");
    let grant = server.claims(&server.post("/sfu/get", &sfu_get("t", "hs")).await).grant();
    assert_eq!((grant.can_publish, grant.can_publish_sources), (Some(false), None));
    assert_eq!(grant.can_publish_data, Some(true));
}

#[tokio::test]
async fn leaves_are_delegated_with_a_token_or_alone() {
    let server = house().await;
    let body = with(sfu_get("t", "hs"), "/delay_id", "syd_abc");
    let body = with(body, "/delay_timeout", 3_600_000);
    let body = with(body, "/delay_cs_api_url", "http://127.0.0.1:9/evil");
    assert_eq!(server.post("/sfu/get", &body).await.status, 200);
    let body = with(get_token("t", "hs", "@alice:hs"), "/delay_id", "syd_def");
    let body = with(body, "/delay_timeout", 3_600_000);
    let told = server.post("/delegate_delayed_leave", &body).await;
    assert_eq!((told.status, told.json()), (200, json!({})));
}

#[tokio::test]
async fn browsers_of_any_origin_may_read_every_answer() {
    let server = house().await;
    for (method, body, status) in
        [("OPTIONS", "", 200), ("POST", "", 400), ("POST", "{}", 400), ("GET", "", 405), ("PUT", "", 405)]
    {
        for path in ["/sfu/get", "/get_token", "/delegate_delayed_leave", "//sfu/get"] {
            let told = server.ask(method, path, "Access-Control-Request-Headers: x-other\r\n", body).await;
            assert_eq!(told.status, status, "{method} {path}");
            assert_eq!(told.header("access-control-allow-origin"), Some("*"));
            assert_eq!(told.header("access-control-allow-methods"), Some("POST"));
            let headers = "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token";
            assert_eq!(told.header("access-control-allow-headers"), Some(headers));
            assert_eq!(told.header("content-type"), Some("application/json"));
        }
    }
    assert_eq!(server.ask("GET", "/healthz", "", "").await.status, 200);
}

#[tokio::test]
async fn a_path_of_our_own_may_be_passed_on_or_taken_off() {
    let server = Server::at("https://example.org/calls", policy(), Authorities::load(None).unwrap(), false).await;
    server.homeserver.vouch("t", "@alice:hs");
    server.homeserver.join(ROOM, "@alice:hs");
    for path in ["/sfu/get", "/calls/sfu/get", "/calls//sfu/get"] {
        let told = server.post(path, &sfu_get("t", "hs")).await;
        assert_eq!(told.json()["url"], "wss://example.org/calls", "{path}");
    }
    assert_eq!(server.ask("GET", "/calls/healthz", "", "").await.status, 200);
    assert_eq!(server.post("/callssfu/get", &sfu_get("t", "hs")).await.status, 404);
}
