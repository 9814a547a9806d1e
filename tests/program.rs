//! The program as an operator meets it: started, asked, ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hausruf");
/// An answer comes long before this.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

/// What a run that must fail says.
fn complaint(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn configuration(name: &str, text: &str) -> String {
    let path = std::env::temp_dir().join(format!("hausruf-{}-{name}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A running demonstration; killed when dropped.
struct Demo {
    process: Child,
    http: SocketAddr,
    udp_port: u16,
}

impl Demo {
    fn start() -> Demo {
        // Ports that were free a moment ago. Taken meanwhile, the start fails and others are tried.
        for _ in 0..10 {
            let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let udp_port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().min(65_000);
            let mut process = Command::new(PROGRAM)
                .args(["demo", "--listen", &http.to_string(), "--udp-port", &udp_port.to_string()])
                .env_remove("RUST_LOG")
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            if line.is_empty() {
                process.wait().unwrap();
                continue;
            }
            assert_eq!(line, format!("http://{http}/\n"));
            return Demo { process, http, udp_port };
        }
        panic!("no free ports");
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Sends a signal and says how the program ended.
    fn end(mut self, signal: &str) -> Option<i32> {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        self.process.wait().unwrap().code()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_wrong_configuration_is_told_with_key_value_and_fix() {
    let path = configuration("wrong", "listen.http = \"everywhere\"\nrelay.ports = \"many\"");
    for arguments in [&["serve", "--config", &path][..], &["--config", &path, "--check-config"]] {
        let told = complaint(arguments);
        for part in [&path, "listen.http = \"everywhere\"", "0.0.0.0:7880", "relay.ports = \"many\"", "49152-65535"] {
            assert!(told.contains(part), "{part} is not in: {told}");
        }
    }
    assert!(complaint(&["--config", "/nowhere/x.toml"]).contains("/nowhere/x.toml"));
}

#[test]
fn a_right_configuration_is_checked_and_nothing_started() {
    let path = configuration("empty", "");
    let output = run(&["serve", "--config", &path, "--check-config"]);
    assert!(output.status.success());
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("is valid") && told.contains("nobody can join"), "{told}");
}

#[test]
fn what_cannot_be_read_is_told_by_the_check_and_by_the_start() {
    let key = configuration("key", "no key");
    let of_acme = "tls.acme.domains = [\"calls.example.org\"]\ntls.acme.agree_terms = true";
    for (name, text, told) in [
        (
            "chain",
            format!("tls.certificate = \"/nowhere/c.pem\"\ntls.key = {key:?}"),
            "tls.certificate = \"/nowhere/c.pem\"",
        ),
        ("no-key", format!("tls.certificate = {key:?}\ntls.key = \"/nowhere/k.pem\""), "tls.key = \"/nowhere/k.pem\""),
        ("no-chain", format!("tls.certificate = {key:?}\ntls.key = {key:?}"), &key),
        ("root", format!("{of_acme}\ntls.acme.root = \"/nowhere/ca.pem\""), "tls.acme.root = \"/nowhere/ca.pem\""),
    ] {
        let path = configuration(name, &text);
        for arguments in [&["--config", &path, "--check-config"][..], &["--config", &path]] {
            let complaint = complaint(arguments);
            assert!(complaint.contains(told), "{told} is not in: {complaint}");
        }
    }
}

#[test]
fn an_address_of_another_machine_is_told_with_what_to_write() {
    // RFC 5737: nobody has it.
    let here = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for text in [
        "listen.http = \"192.0.2.77:7880\"".to_owned(),
        format!("listen.http = \"{here}\"\nlisten.tcp = [\"192.0.2.77:3478\"]"),
        format!("listen.http = \"{here}\"\nlisten.tcp = []\nlisten.udp = [\"192.0.2.77:3478\"]"),
    ] {
        let told = complaint(&["--config", &configuration("elsewhere", &text)]);
        assert!(told.contains("192.0.2.77") && told.contains("no interface has this address"), "{told}");
    }
}

#[test]
fn a_reader_that_is_gone_is_no_error() {
    let path = configuration("unread", "relay.secrets = [\"a secret shared with the homeserver\"]");
    for arguments in [&["--config", &path, "--check-config"][..], &["credentials", "--config", &path, "--user", "anna"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(PROGRAM).args(arguments).env_remove("RUST_LOG").stdout(writer).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn the_demonstration_answers_and_ends_when_told() {
    let demo = Demo::start();
    assert!(demo.get("/").starts_with("HTTP/1.1 200"));
    assert!(demo.get("/metrics").contains("hausruf_participants 0"));

    // A Binding request without attributes gets XOR-MAPPED-ADDRESS and nothing else, on both ports.
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    for (server, client) in [("127.0.0.1", "127.0.0.1:0"), ("::1", "[::1]:0")] {
        let Ok(socket) = UdpSocket::bind(client) else {
            continue;
        };
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for port in [demo.udp_port, demo.udp_port + 1] {
            socket.send_to(&request, (server, port)).unwrap();
            let mut answer = [0; 100];
            let (length, from) = socket.recv_from(&mut answer).unwrap();
            assert_eq!(from.port(), port);
            assert_eq!(length, if server == "::1" { 44 } else { 32 });
            assert_eq!((&answer[..2], &answer[8..20]), (&[1, 1][..], &[7; 12][..]));
        }
    }

    // A second one fails loudly, whichever of its ports is taken.
    let (http, udp_port) = (demo.http.to_string(), demo.udp_port.to_string());
    assert!(complaint(&["demo", "--listen", &http, "--udp-port", "1"]).contains(&http));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let told = complaint(&["demo", "--listen", &free, "--udp-port", &udp_port]);
    assert!(told.contains(&udp_port) && told.contains("in use"), "{told}");

    assert_eq!(demo.end("TERM"), Some(0));
}

#[test]
fn an_interrupt_ends_it_too() {
    assert_eq!(Demo::start().end("INT"), Some(0));
}

#[test]
fn coturns_file_is_translated_and_nothing_overwritten() {
    let secret = "north-north-north-north-north-north";
    let path = configuration("coturn", &format!("static-auth-secret={secret}\nweb-admin\nuser=a:0xabcdef\n"));
    let output = run(&["import", &path]);
    assert!(output.status.success(), "{output:?}");
    let (toml, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(toml.contains(secret) && told.contains(":2: web-admin") && told.contains(":3: user"), "{toml}{told}");
    assert!(!told.contains(secret) && !told.contains("abcdef"), "{told}");
    let translated = configuration("translated", "");
    assert!(complaint(&["import", &path, "--output", &translated]).contains("--force"));
    assert!(run(&["import", &path, "--output", &translated, "--force"]).status.success());
    assert!(run(&["--config", &translated, "--check-config"]).status.success());
}

#[test]
fn what_guides_for_coturn_recommend_becomes_a_valid_configuration() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coturn");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let translated = configuration(name, "");
        let output = run(&["import", path.to_str().unwrap(), "--output", &translated, "--force"]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !told.contains("no option of coturn"), "{name}: {told}");
        // Where they are not all denied.
        let denies_private = ["jitsi", "synapse"].contains(&name);
        assert_eq!(told.contains("coturn relays to private addresses"), !denies_private, "{name}: {told}");
        let checked = run(&["--config", &translated, "--check-config"]);
        // Their certificates are not here.
        let told = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success() || told.contains("tls.certificate = \"/"), "{name}: {checked:?}");
        count += 1;
    }
    assert_eq!(count, 9);
}
