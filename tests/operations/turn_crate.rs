//! The client of the `turn` crate, an implementation of its own, beside this server.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::time::timeout;
use turn::client::{Client, ClientConfig};
use webrtc_util::Conn;

use crate::client::{PATIENCE, SECRET};
use crate::server::Server;

/// The client binds its channel beside what it sends; so many round trips are enough by far.
const ROUND_TRIPS_MAX: usize = 1000;

async fn client(server: SocketAddr, username: String, password: String) -> Client {
    let client = Client::new(ClientConfig {
        stun_serv_addr: server.to_string(),
        turn_serv_addr: server.to_string(),
        username,
        password,
        realm: String::new(),
        software: String::new(),
        rto_in_ms: 0,
        conn: Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap()),
        vnet: None,
    });
    let client = client.await.unwrap();
    client.listen().await.unwrap();
    client
}

/// Sends to the peer, which answers, and returns what comes back.
async fn round_trip(relay: &impl Conn, peer: &UdpSocket, data: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 1500];
    relay.send_to(data, peer.local_addr().unwrap()).await.unwrap();
    let (length, from) = timeout(PATIENCE, peer.recv_from(&mut buffer)).await.expect("nothing came").unwrap();
    assert_eq!((&buffer[..length], from), (data, relay.local_addr().unwrap()));
    peer.send_to(&buffer[..length], from).await.unwrap();
    let (length, from) = timeout(PATIENCE, relay.recv_from(&mut buffer)).await.expect("nothing came back").unwrap();
    assert_eq!(from, peer.local_addr().unwrap());
    buffer[..length].to_vec()
}

fn channels(server: &Server) -> u64 {
    let told: serde_json::Value = serde_json::from_str(&server.told(&["sessions", "--json"])).unwrap();
    told["sessions"][0]["channels"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_relays_by_indications_and_by_a_channel() {
    let server = Server::start(&format!("relay.secrets = [\"{SECRET}\"]\nrelay.allowed_peers = [\"127.0.0.1\"]"));
    let username = "4000000000:anna".to_owned();
    let password = relay::rest_password(SECRET.as_bytes(), &username);

    let stranger = client(server.turn, username.clone(), "guessed".to_owned()).await;
    assert!(stranger.allocate().await.is_err());
    stranger.close().await.unwrap();
    assert!(server.told(&["sessions"]).starts_with("0 allocations"));

    let anna = client(server.turn, username, password).await;
    assert_eq!(anna.send_binding_request().await.unwrap().ip(), server.turn.ip());
    let relay = anna.allocate().await.unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // At first by Send indications, until the channel is bound.
    let mut round_trips = 0;
    while round_trips < ROUND_TRIPS_MAX && channels(&server) == 0 {
        let data = format!("packet {round_trips}");
        assert_eq!(round_trip(&relay, &peer, data.as_bytes()).await, data.as_bytes());
        round_trips += 1;
    }
    assert_eq!(channels(&server), 1, "after {round_trips} round trips");
    for length in [1, 160, 1200] {
        let data = vec![7; length];
        assert_eq!(round_trip(&relay, &peer, &data).await, data);
    }

    relay.close().await.unwrap();
    anna.close().await.unwrap();
    assert!(server.told(&["sessions"]).starts_with("0 allocations"));
}
