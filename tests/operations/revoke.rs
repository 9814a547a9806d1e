//! A user is shut out, over a restart too, and let in again.

use crate::client::{Client, Refused, SECRET};
use crate::server::Server;

#[test]
fn its_allocations_end_and_it_gets_no_other() {
    let server = Server::start(&format!("relay.secrets = [\"{SECRET}\"]\nworkers = 2"));
    // Each from a port of its own, so that both workers have some.
    let mut of_anna: Vec<Client> = (0..8).map(|_| Client::allocated(server.turn, "anna", SECRET)).collect();
    let mut ben = Client::allocated(server.turn, "ben", SECRET);

    let told = server.told(&["revoke", "anna", "--for", "2h"]);
    assert_eq!(told, "revoked: 8 allocations ended, and none is made for 2:00 h\n");
    assert!(server.told(&["sessions"]).contains("1 allocation of 1 user."));
    assert!(ben.refresh(600) && !of_anna[0].refresh(600));
    let refused = Refused { code: 403, alternate_server: None };
    for _ in 0..8 {
        assert_eq!(Client::new(server.turn, "anna", SECRET).allocate().as_ref(), Err(&refused));
    }

    let told = server.told(&["revoke", "anna", "--for", "0s"]);
    assert_eq!(told, "revoked: 0 allocations ended, and it may make others\n");
    of_anna[0].allocate().unwrap();
    assert!(server.told(&["revoke", "nobody"]).contains("0 allocations ended, and none is made for 24:00 h"));
}

#[test]
fn who_is_shut_out_stays_so_over_a_restart() {
    let configuration = format!("relay.secrets = [\"{SECRET}\"]\nworkers = 2");
    let server = Server::start(&configuration);
    for user in ["anna", "ben"] {
        assert!(server.told(&["revoke", user]).contains("0 allocations ended"));
    }
    server.told(&["revoke", "ben", "--for", "0s"]);
    let server = server.killed_and_started(&configuration);
    let refused = Refused { code: 403, alternate_server: None };
    // Whichever worker it falls to.
    for _ in 0..8 {
        assert_eq!(Client::new(server.turn, "anna", SECRET).allocate().as_ref(), Err(&refused));
    }
    Client::new(server.turn, "ben", SECRET).allocate().unwrap();
    server.told(&["revoke", "anna", "--for", "0s"]);
    let server = server.killed_and_started(&configuration);
    Client::new(server.turn, "anna", SECRET).allocate().unwrap();
}

#[test]
fn where_nothing_can_be_kept_the_log_says_so_and_the_relay_serves() {
    let server = Server::start(&format!("relay.secrets = [\"{SECRET}\"]\nrelay.store = \"/dev/null/x\""));
    let told = &server.told_at_start;
    assert!(told.contains("relay.store = \"/dev/null/x\" cannot be used"), "{told}");
    server.told(&["revoke", "anna"]);
    assert!(Client::new(server.turn, "anna", SECRET).allocate().is_err());
}
