//! The socket itself: whose it is, what becomes of it, and what nonsense does to it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::client::PATIENCE;
use crate::server::{PROGRAM, Server};

#[test]
fn it_is_the_operators_alone_and_goes_with_the_program() {
    let mut server = Server::start("");
    assert_eq!(std::fs::metadata(server.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    assert!(!server.socket().exists());
    let output = server.run(&["sessions"]);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint.contains(server.socket().to_str().unwrap()) && complaint.contains("control.socket"),
        "{complaint}"
    );
}

#[test]
fn that_of_a_killed_program_is_replaced_and_that_of_a_running_one_is_not() {
    let server = Server::start("").killed_and_started("");
    assert!(server.told(&["sessions"]).contains("0 allocations"));

    let file = server.file().with_file_name("second.toml");
    let text = format!(
        "listen = {{ udp = [\"127.0.0.1:9\"], http = \"127.0.0.1:0\" }}\ncontrol.socket = {:?}",
        server.socket()
    );
    // Port 0 is refused in a configuration; any free one serves.
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(&file, text.replace("127.0.0.1:0", &http.to_string())).unwrap();
    let output = Command::new(PROGRAM).arg("--config").arg(&file).env_remove("RUST_LOG").output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.contains("another instance serves it") && complaint.contains("control.socket"), "{complaint}");
    assert!(server.told(&["sessions"]).contains("0 allocations"));
}

#[test]
fn nonsense_is_refused_and_whoever_says_nothing_keeps_nobody_waiting() {
    let server = Server::start("");
    let connect = || {
        let stream = UnixStream::connect(server.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let _silent = connect();
    let long = "x".repeat(5000);
    for nonsense in
        ["\n", "sessions\n", "{\"command\":\"drain\"}\n", "{\"command\":\"abdicate\"}\n", "[[[[[[[[[[\n", &long]
    {
        let mut stream = connect();
        // It may be refused before all of it has been taken.
        let _ = stream.write_all(nonsense.as_bytes());
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        assert!(answer.starts_with("{\"error\":\"") && answer.ends_with("}\n"), "{nonsense}: {answer}");
    }
    assert!(server.told(&["sessions"]).contains("0 allocations of 0 users. "));
}
