//! The configuration file is read again while the program runs.

use crate::client::Client;
use crate::server::Server;

const OLD: &str = "the secret of yesterday, long enough for one";
const NEW: &str = "the secret of tomorrow, long enough for one";

impl Server {
    /// Whether a client with a credential of this secret gets an allocation.
    fn allocates(&self, secret: &str) -> bool {
        Client::new(self.turn, "anna", secret).allocate().is_ok()
    }
}

#[test]
fn a_bad_file_changes_nothing_and_a_good_one_what_can_change() {
    let mut server = Server::start(&format!("relay.secrets = [\"{OLD}\"]\nworkers = 2"));
    assert!(server.allocates(OLD) && !server.allocates(NEW));

    server.write(&format!("relay.secrets = [\"{NEW}\"]\nrelay.alternate_server = \"elsewhere\"\nworkers = 2"));
    server.signal("HUP");
    let told = server.log_until("elsewhere").unwrap();
    assert!(told.contains("nothing is reloaded") && told.contains("relay.alternate_server = \"elsewhere\""), "{told}");
    assert!(server.allocates(OLD) && !server.allocates(NEW));

    server.write(&format!("relay.secrets = [\"{NEW}\"]\nrooms.auto_create = false\nworkers = 3"));
    server.signal("HUP");
    let told = server.log_until("reloaded").unwrap();
    assert!(told.contains("workers needs a restart") && told.contains("[rooms] needs a restart"), "{told}");
    assert!(!told.contains("listen") && !told.contains(NEW), "{told}");
    // The workers have been told; one may serve one more request before it listens. A socket stays with its worker.
    for mut client in [(); 8].map(|()| Client::new(server.turn, "anna", NEW)) {
        while client.allocate().is_err() {}
    }
    assert!(!server.allocates(OLD));

    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn the_command_says_what_came_of_it() {
    let server = Server::start(&format!("relay.secrets = [\"{OLD}\"]"));
    server.write(&format!("relay.secrets = [\"{NEW}\"]\nrelay.realm = \"a realm that is far too long\""));
    let output = server.run(&["reload"]);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    for part in ["nothing is reloaded", server.file().to_str().unwrap(), "relay.realm = \"a realm", "1 to 16"] {
        assert!(complaint.contains(part), "{part} is not in: {complaint}");
    }
    assert!(!complaint.contains(NEW), "{complaint}");
    assert!(server.allocates(OLD) && !server.allocates(NEW));

    server.write(&format!("relay.secrets = [\"{NEW}\"]"));
    assert_eq!(server.told(&["reload"]), "reloaded\n");
    // A worker asked for its sessions has been told before.
    server.told(&["sessions"]);
    assert!(server.allocates(NEW) && !server.allocates(OLD));

    server.write(&format!("relay.secrets = [\"{NEW}\"]\nworkers = 2"));
    assert_eq!(server.told(&["reload"]), "reloaded\nworkers needs a restart: it stays as it was\n");
}

#[test]
fn where_expiry_is_strict_allocations_of_a_secret_that_is_gone_end() {
    let server = Server::start(&format!("relay.secrets = [\"{OLD}\", \"{NEW}\"]\nrelay.strict_expiry = true"));
    let _old = Client::allocated(server.turn, "anna", OLD);
    let _new = Client::allocated(server.turn, "ben", NEW);
    server.write(&format!("relay.secrets = [\"{NEW}\"]\nrelay.strict_expiry = true"));
    server.told(&["reload"]);
    while server.told(&["sessions"]).contains("anna") {}
    assert!(server.told(&["sessions"]).contains("ben"));
}
