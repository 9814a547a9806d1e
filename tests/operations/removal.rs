//! Who is removed from a call loses the TURN that the call gave.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use signaling::livekit::token::VideoGrant;

use crate::client::{Client, PATIENCE, Refused, SECRET};
use crate::participant::{API_KEY, API_SECRET, Participant, ROOM, token};
use crate::server::Server;

/// A call of the room service, as a moderator's program makes it.
fn ask_service(server: &Server, method: &str, body: &str) {
    let token = token("moderator", VideoGrant { room_admin: true, room_create: true, ..VideoGrant::default() });
    let mut stream = TcpStream::connect(server.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "POST /twirp/livekit.RoomService/{method} HTTP/1.1\r\nHost: calls\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn allocated(participant: &Participant) -> Client {
    let mut client = participant.turn_client();
    client.allocate().unwrap();
    client
}

#[test]
fn who_is_removed_has_no_turn_left_and_who_leaves_or_comes_back_keeps_it() {
    let server = Server::start(&format!("api_keys.{API_KEY} = \"{API_SECRET}\"\nworkers = 2"));
    let anna = Participant::join(&server, "anna");
    let mut of_anna = allocated(&anna);
    let ben = Participant::join(&server, "ben");
    let mut of_ben = allocated(&ben);
    // As after a reload of the page: the first one's place is taken.
    let mut anna_again = Participant::join(&server, "anna");
    let mut of_anna_again = allocated(&anna_again);
    ben.leave();
    assert!(of_anna.refresh(600) && of_anna_again.refresh(600) && of_ben.refresh(600));
    assert!(server.told(&["sessions"]).contains("3 allocations of 3 users."));

    ask_service(&server, "RemoveParticipant", &format!(r#"{{"room":"{ROOM}","identity":"anna"}}"#));
    anna_again.wait_for_the_end();
    let left = server.told(&["sessions"]);
    assert!(left.contains("1 allocation of 1 user."), "{left}");
    assert!(!of_anna.refresh(600) && !of_anna_again.refresh(600) && of_ben.refresh(600));
    let refused = Refused { code: 403, alternate_server: None };
    // Whichever worker it falls to.
    for participant in [&anna, &anna_again].repeat(4) {
        assert_eq!(participant.turn_client().allocate().as_ref(), Err(&refused));
    }
    assert_eq!(of_anna.allocate().as_ref(), Err(&refused));
    // Whoever makes the tokens lets her in again: then she has what everybody has.
    let back = Participant::join(&server, "anna");
    let mut of_back = allocated(&back);

    ask_service(&server, "DeleteRoom", &format!(r#"{{"room":"{ROOM}"}}"#));
    assert!(server.told(&["sessions"]).contains("0 allocations of 0 users."));
    assert!(!of_back.refresh(600) && !of_ben.refresh(600));
}

#[test]
fn who_was_removed_has_no_turn_after_a_restart_either() {
    let configuration = format!("api_keys.{API_KEY} = \"{API_SECRET}\"\nrelay.secrets = [\"{SECRET}\"]\nworkers = 2");
    let server = Server::start(&configuration);
    let mut anna = Participant::join(&server, "anna");
    let ben = Participant::join(&server, "ben");
    ask_service(&server, "RemoveParticipant", &format!(r#"{{"room":"{ROOM}","identity":"anna"}}"#));
    anna.wait_for_the_end();
    let server = server.killed_and_started(&configuration);
    let [mut of_anna, mut of_ben] = [anna, ben].map(|participant| participant.turn_client_at(server.turn));
    assert_eq!(of_anna.allocate(), Err(Refused { code: 403, alternate_server: None }));
    of_ben.allocate().unwrap();
}
