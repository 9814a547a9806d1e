//! Who relays, and how much.

use crate::client::{Client, SECRET};
use crate::server::Server;

#[test]
fn each_allocation_is_shown_with_what_passed() {
    let server = Server::start(&format!("relay.secrets = [\"{SECRET}\"]\nworkers = 2"));
    let none = server.told(&["sessions"]);
    assert_eq!(none, "0 allocations of 0 users. 0 calls with 0 participants through the SFU: /admin shows them.\n");
    let mut anna = Client::allocated(server.turn, "anna", SECRET);
    let mut ben = Client::allocated(server.turn, "ben", SECRET);
    let (of_anna, of_ben) = (anna.relayed.unwrap(), ben.relayed.unwrap());
    anna.permit(of_ben);
    ben.permit(of_anna);
    for _ in 0..3 {
        anna.send(of_ben, b"hello");
        ben.receive();
    }

    let json = server.told(&["sessions", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    let expected = |user: &str, client: &Client, to_peers: u64, to_client: u64| {
        let address = client.socket.local_addr().unwrap();
        let passed = |packets| serde_json::json!({ "packets": packets, "bytes": packets * 5 });
        serde_json::json!({
            "user": user, "client": address, "transport": "udp", "relayed": client.relayed, "permissions": 1,
            "channels": 0, "to_peers": passed(to_peers), "to_client": passed(to_client),
        })
    };
    for (session, expected) in
        told["sessions"].as_array().unwrap().iter().zip([expected("anna", &anna, 3, 0), expected("ben", &ben, 0, 3)])
    {
        let mut session = session.clone();
        let mut take = |key: &str| session.as_object_mut().unwrap().remove(key).unwrap().as_u64().unwrap();
        let (age, remaining, worker) = (take("age_s"), take("remaining_s"), take("worker"));
        assert!(age < 60 && (540..=600).contains(&remaining) && worker < 2, "{json}");
        assert_eq!(session, expected);
    }
    let census = serde_json::json!({ "allocations": 2, "rooms": 0, "participants": 0, "draining": false });
    assert_eq!((told["sessions"].as_array().unwrap().len(), &told["census"]), (2, &census));

    let json = server.told(&["sessions", "--json", "--rate"]);
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    for session in told["sessions"].as_array().unwrap() {
        // Nothing passed meanwhile.
        assert_eq!((&session["to_peers_bps"], &session["to_client_bps"]), (&0.into(), &0.into()), "{json}");
    }

    let table = server.told(&["sessions"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("3 / 15 B") && table.contains("2 allocations of 2 users."), "{table}");
    let table = server.told(&["sessions", "--user", "ben"]);
    assert!(!table.contains("anna") && table.contains("1 allocation of 1 user (2 in all)."), "{table}");
    assert!(ben.refresh(0));
    assert!(server.told(&["sessions"]).contains("1 allocation of 1 user."));
}
