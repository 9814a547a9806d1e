//! No allocation begins any more, those that there are live on, and the program ends when it is told to.

use std::process::{Child, Stdio};
use std::sync::mpsc::Receiver;

use crate::client::{Client, Refused, SECRET};
use crate::server::{Server, lines, lines_until};

fn start(rest: &str) -> Server {
    Server::start(&format!("relay.secrets = [\"{SECRET}\"]\n{rest}"))
}

/// A command that waits; killed when dropped.
struct Waiting(Child, Receiver<String>);

impl Waiting {
    fn begin(server: &Server, words: &[&str]) -> Waiting {
        let mut child = server.command(words).stdout(Stdio::piped()).spawn().unwrap();
        let said = lines(child.stdout.take().unwrap());
        Waiting(child, said)
    }

    fn says(&self, words: &str) -> String {
        lines_until(&self.1, words).unwrap_or_else(|| panic!("it ended without {words}"))
    }

    fn succeeds(&mut self) -> bool {
        self.0.wait().unwrap().success()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_command_waits_for_the_last_allocation_and_the_program_goes_on() {
    let server = start("relay.alternate_server = \"198.51.100.7:3478\"\nworkers = 2");
    let mut anna = Client::allocated(server.turn, "anna", SECRET);
    let mut ben = Client::allocated(server.turn, "ben", SECRET);
    let mut waiting = Waiting::begin(&server, &["drain", "--wait"]);
    assert_eq!(waiting.says("left"), "draining: 2 allocations left\n");
    let refused = Client::new(server.turn, "clara", SECRET).allocate();
    assert_eq!(refused, Err(Refused { code: 300, alternate_server: Some(([198, 51, 100, 7], 3478).into()) }));
    assert!(anna.refresh(600) && ben.refresh(0));
    waiting.says("draining: 1 allocation left");
    assert!(anna.refresh(0));
    waiting.says("drained: the last allocation has gone");
    assert!(waiting.succeeds());
    assert!(server.told(&["sessions"]).contains("0 allocations of 0 users; draining."));
}

#[test]
fn with_a_deadline_the_program_ends_with_the_last_allocation() {
    let mut server = start("");
    let mut anna = Client::allocated(server.turn, "anna", SECRET);
    let told = server.told(&["drain", "--deadline", "10m"]);
    assert!(told.starts_with("draining: 1 allocation left; the program ends when the last has gone"), "{told}");
    let mut waiting = Waiting::begin(&server, &["drain", "--deadline", "2h", "--wait"]);
    let told = waiting.says("left");
    assert!(told.contains("in 2:00 h at the latest"), "{told}");
    assert_eq!(Client::new(server.turn, "clara", SECRET).allocate().unwrap_err().code, 508);
    assert!(anna.refresh(0));
    waiting.says("drained: the last allocation has gone, the program ends");
    assert!(waiting.succeeds());
    assert_eq!(server.ended(), Some(0));
    assert!(!server.socket().exists());
}

#[test]
fn at_the_deadline_the_program_ends_whoever_is_left() {
    let mut server = start("");
    let _anna = Client::allocated(server.turn, "anna", SECRET);
    let mut waiting = Waiting::begin(&server, &["drain", "--deadline", "1s", "--wait"]);
    waiting.says("the deadline is over: the program ends, and 1 allocation with it");
    assert!(waiting.succeeds());
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn a_terminated_program_waits_for_the_last_allocation() {
    let mut server = start("relay.drain_deadline_s = 600");
    let mut anna = Client::allocated(server.turn, "anna", SECRET);
    server.signal("TERM");
    server.log_until("in 600 s at the latest").unwrap();
    assert!(anna.refresh(600));
    assert!(server.told(&["sessions"]).contains("1 allocation of 1 user; draining."));
    assert!(anna.refresh(0));
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn a_second_signal_ends_a_program_that_drains() {
    for second in ["TERM", "INT"] {
        let mut server = start("relay.drain_deadline_s = 600");
        let _anna = Client::allocated(server.turn, "anna", SECRET);
        server.signal("TERM");
        server.log_until("draining").unwrap();
        server.signal(second);
        assert_eq!(server.ended(), Some(0));
    }
}

#[test]
fn without_a_deadline_or_an_allocation_a_terminated_program_ends_at_once() {
    let mut server = start("");
    let _anna = Client::allocated(server.turn, "anna", SECRET);
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    let mut server = start("relay.drain_deadline_s = 600");
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn a_signal_drains_without_an_end() {
    let server = start("");
    let mut anna = Client::allocated(server.turn, "anna", SECRET);
    server.signal("USR1");
    server.log_until("draining").unwrap();
    assert!(anna.refresh(0));
    // One request may still be served before the worker listens.
    while Client::new(server.turn, "clara", SECRET).allocate().is_ok() {}
    assert!(server.told(&["sessions"]).contains("draining."));
}
