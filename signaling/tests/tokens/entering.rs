//! What a token is worth at the socket.

use serde_json::json;
use signaling::livekit::token::{self, VideoGrant};
use signaling::matrix::{ISSUER, Member};

use crate::server::{ROOM, Server, Told, sfu_get, unix_s};

fn jwt(told: &Told) -> String {
    assert_eq!(told.status, 200, "{told:?}");
    told.json()["jwt"].as_str().unwrap().to_owned()
}

async fn local(server: &Server) -> String {
    server.homeserver.vouch("t", "@alice:hs");
    server.homeserver.join(ROOM, "@alice:hs");
    jwt(&server.post("/sfu/get", &sfu_get("t", "hs")).await)
}

/// As another homeserver asks for it.
async fn foreign(server: &Server) -> String {
    server.homeserver.join(ROOM, "@bob:other");
    let body = json!({ "user_id": "@bob:other", "room_id": ROOM, "slot_id": "m.call#ROOM", "member_id": "M" });
    let path = "/_matrix/federation/v1/rtc/livekit/get_token";
    jwt(&server.proxied(path, "X-Matrix-Origin: other", &body).await)
}

#[tokio::test]
async fn a_token_does_not_outlive_a_kick() {
    let server = Server::start().await;
    let jwt = local(&server).await;
    assert_eq!(server.enter(&jwt).await.0, 101);
    server.homeserver.leave(ROOM, "@alice:hs");
    assert_eq!(server.enter(&jwt).await.0, 401);
    assert_eq!(server.validate(&jwt).await, 401);
    // A homeserver that is away ends no calls.
    server.homeserver.world().is_away = true;
    assert_eq!(server.enter(&jwt).await.0, 101);
}

#[tokio::test]
async fn users_of_other_servers_wait_for_a_local_one() {
    let server = Server::start().await;
    let bob = foreign(&server).await;
    assert_eq!(server.enter(&bob).await, (404, "requested room does not exist".to_owned()));
    local(&server).await;
    assert_eq!(server.enter(&bob).await.0, 101, "open as soon as a local user has a token");
}

/// The same token, begun at another time.
fn begun(server: &Server, jwt: &str, nbf: Option<u64>) -> String {
    let keys = [(ISSUER.to_owned(), server.settings.token_secret())].into();
    let mut claims = token::verify(jwt, &keys, unix_s()).unwrap();
    claims.nbf = nbf;
    token::sign(&claims, &keys).unwrap()
}

/// A token as it is renewed over the socket.
fn renewed(server: &Server, jwt: &str) -> String {
    begun(server, jwt, None)
}

#[tokio::test]
async fn who_was_in_the_call_waits_until_it_is_open_again() {
    waits_until_it_is_open_again(renewed).await;
}

#[tokio::test]
async fn who_had_come_just_before_a_restart_waits_as_well() {
    waits_until_it_is_open_again(|server, jwt| begun(server, jwt, Some(unix_s() - 100))).await;
}

async fn waits_until_it_is_open_again(made: impl Fn(&Server, &str) -> String) {
    let server = Server::start().await;
    let bob = foreign(&server).await;
    let bob = made(&server, &bob);
    let alice = async {
        // Bob's question is under way before the call opens.
        while server.homeserver.count("%40bob") < 2 {
            tokio::task::yield_now().await;
        }
        local(&server).await
    };
    let (entered, _) = tokio::join!(server.enter(&bob), alice);
    assert_eq!(entered.0, 101);
}

#[tokio::test]
async fn who_asks_why_the_socket_failed_waits_as_the_socket_does() {
    let server = Server::start().await;
    let bob = foreign(&server).await;
    assert_eq!(server.validate(&bob).await, 404);
    let bob = renewed(&server, &bob);
    let alice = async {
        while server.homeserver.count("%40bob") < 3 {
            tokio::task::yield_now().await;
        }
        local(&server).await
    };
    let (told, _) = tokio::join!(server.validate(&bob), alice);
    assert_eq!(told, 200);
}

#[tokio::test]
async fn tokens_live_on_over_a_restart() {
    let server = Server::start().await;
    let jwt = local(&server).await;
    let restarted = Server::start().await;
    restarted.homeserver.join(ROOM, "@alice:hs");
    assert_eq!(restarted.enter(&jwt).await.0, 101);
}

#[tokio::test]
async fn another_keys_token_speaks_for_no_matrix_user() {
    let server = Server::start().await;
    let keys = [("devkey".to_owned(), "secret".to_owned())].into();
    let claims = token::Claims {
        iss: "devkey".into(),
        sub: "anna".into(),
        exp: Some(unix_s() + 60),
        video: Some(VideoGrant { room_join: true, room: "kitchen".into(), ..Default::default() }),
        matrix: Some(Member { room_id: ROOM.into(), user_id: "@alice:hs".into(), device_id: "D".into() }),
        ..Default::default()
    };
    assert_eq!(server.enter(&token::sign(&claims, &keys).unwrap()).await.0, 101);
    assert_eq!(server.homeserver.count("%21room"), 0);
}
