//! SIGHUP: the configuration file is read again while the program runs.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use datapath::stun::{Class, Key, Message, Method, TransactionId, Writer};
use md5::{Digest, Md5};

/// An answer comes long before this.
const PATIENCE: Duration = Duration::from_secs(20);
const OLD: &str = "the secret of yesterday, long enough for one";
const NEW: &str = "the secret of tomorrow, long enough for one";

/// A running program; killed when dropped.
struct Server {
    process: Child,
    log: Receiver<String>,
    path: PathBuf,
    /// What the file says whatever else it says.
    places: String,
    turn: SocketAddr,
}

impl Server {
    fn start(rest: &str) -> Server {
        let path = std::env::temp_dir().join(format!("hausruf-{}-reload.toml", std::process::id()));
        // Ports that were free a moment ago. Taken meanwhile, the start fails and others are tried.
        for _ in 0..10 {
            let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let turn = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let places = format!(
                "advertise = [\"127.0.0.1\"]\nrelay.ports = \"20000-20999\"\n\
                 listen = {{ udp = [\"{turn}\"], tcp = [], http = \"{http}\" }}\n"
            );
            std::fs::write(&path, format!("{places}{rest}")).unwrap();
            let mut process = Command::new(env!("CARGO_BIN_EXE_hausruf"))
                .args(["serve", "--config", path.to_str().unwrap()])
                .env_remove("RUST_LOG")
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(process.stderr.take().unwrap()).lines();
            let (told, log) = channel();
            std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| told.send(line)));
            let server = Server { process, log, path: path.clone(), places, turn };
            if server.log_until("serving").is_some() {
                return server;
            }
        }
        panic!("no free ports");
    }

    /// The log to the line that has these words; `None` when the program ends before.
    fn log_until(&self, words: &str) -> Option<String> {
        let mut told = String::new();
        while !told.contains(words) {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => told = format!("{told}{line}\n"),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(error) => panic!("{words}: {error}; the log: {told}"),
            }
        }
        Some(told)
    }

    fn reload(&self, rest: &str) {
        std::fs::write(&self.path, format!("{}{rest}", self.places)).unwrap();
        self.signal("HUP");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// Whether a client with a credential of this secret gets an allocation.
    fn allocates(&self, secret: &str) -> bool {
        self.allocates_to(&UdpSocket::bind("127.0.0.1:0").unwrap(), secret)
    }

    fn allocates_to(&self, socket: &UdpSocket, secret: &str) -> bool {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = [0; 1500];
        let mut ask = |request: &[u8]| {
            socket.send_to(request, self.turn).unwrap();
            let length = socket.recv(&mut answer).unwrap();
            let answer = Message::parse(&answer[..length]).unwrap();
            (answer.class() == Class::SuccessResponse, answer.nonce().map(<[u8]>::to_vec))
        };
        let mut buffer = [0; 1500];
        let writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, TransactionId([1; 12]));
        let length = writer.finish().unwrap();
        let (_, nonce) = ask(&buffer[..length]);
        let username = "4000000000:anna";
        let password = relay::rest_password(secret.as_bytes(), username);
        let key = Key::new(&Md5::digest(format!("{username}:hausruf:{password}")));
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, TransactionId([2; 12]));
        writer.requested_transport(17).username(username.as_bytes()).realm(b"hausruf").nonce(&nonce.unwrap());
        let length = writer.finish_with_integrity(&key, false).unwrap();
        ask(&buffer[..length]).0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_bad_file_changes_nothing_and_a_good_one_what_can_change() {
    let mut server = Server::start(&format!("relay.secrets = [\"{OLD}\"]\nworkers = 2"));
    assert!(server.allocates(OLD) && !server.allocates(NEW));

    server.reload(&format!("relay.secrets = [\"{NEW}\"]\nrelay.alternate_server = \"elsewhere\"\nworkers = 2"));
    let told = server.log_until("elsewhere").unwrap();
    assert!(told.contains("nothing is reloaded") && told.contains("relay.alternate_server = \"elsewhere\""), "{told}");
    assert!(server.allocates(OLD) && !server.allocates(NEW));

    server.reload(&format!("relay.secrets = [\"{NEW}\"]\nrooms.auto_create = false\nworkers = 3"));
    let told = server.log_until("reloaded").unwrap();
    assert!(told.contains("workers needs a restart") && told.contains("[rooms] needs a restart"), "{told}");
    assert!(!told.contains("listen") && !told.contains(NEW), "{told}");
    // The workers have been told; one may serve one more request before it listens. A socket stays with its worker.
    for socket in [(); 8].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap()) {
        while !server.allocates_to(&socket, NEW) {}
    }
    assert!(!server.allocates(OLD));

    server.signal("TERM");
    assert_eq!(server.process.wait().unwrap().code(), Some(0));
}
