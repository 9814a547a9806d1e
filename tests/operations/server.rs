use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use crate::client::PATIENCE;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_hausruf");

/// A running program; killed when dropped.
pub struct Server {
    process: Child,
    log: Receiver<String>,
    directory: PathBuf,
    /// What the file says whatever else it says.
    places: String,
    pub told_at_start: String,
    pub turn: SocketAddr,
    pub tcp: SocketAddr,
    pub http: SocketAddr,
}

/// The lines that a program writes.
pub fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let lines = BufReader::new(stream).lines();
    let (told, log) = channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| told.send(line)));
    log
}

/// What is written up to the line that has these words; `None` when the program ends before.
pub fn lines_until(lines: &Receiver<String>, words: &str) -> Option<String> {
    let mut told = String::new();
    while !told.contains(words) {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => told = format!("{told}{line}\n"),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(error) => panic!("{words}: {error}; so far: {told}"),
        }
    }
    Some(told)
}

impl Server {
    pub fn start(rest: &str) -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hausruf-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Server::start_in(directory, rest)
    }

    fn start_in(directory: PathBuf, rest: &str) -> Server {
        // Ports that were free a moment ago. Taken meanwhile, the start fails and others are tried.
        for _ in 0..10 {
            let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let turn = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            // The one whose TURN clients of calls are told of.
            let second = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let places = format!(
                "advertise = [\"127.0.0.1\"]\nrelay.ports = \"20000-20999\"\n\
                 listen = {{ udp = [\"{turn}\", \"{second}\"], tcp = [\"{tcp}\"], http = \"{http}\" }}\n\
                 control.socket = {:?}\n",
                directory.join("control.sock")
            );
            let store = directory.join("revocations.jsonl");
            let places =
                if rest.contains("relay.store") { places } else { format!("{places}relay.store = {store:?}\n") };
            std::fs::write(directory.join("hausruf.toml"), format!("{places}{rest}")).unwrap();
            let mut process = Command::new(PROGRAM)
                .args(["serve", "--config", directory.join("hausruf.toml").to_str().unwrap()])
                .env_remove("RUST_LOG")
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let log = lines(process.stderr.take().unwrap());
            let told_at_start = String::new();
            let mut server =
                Server { process, log, directory: directory.clone(), places, told_at_start, turn, tcp, http };
            if let Some(told) = server.log_until("serving") {
                server.told_at_start = told;
                return server;
            }
            server.directory = PathBuf::new();
        }
        panic!("no free ports");
    }

    /// Kills the program without a word, and starts another with the same files.
    pub fn killed_and_started(mut self, rest: &str) -> Server {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let directory = std::mem::take(&mut self.directory);
        drop(self);
        Server::start_in(directory, rest)
    }

    /// The log to the line that has these words; `None` when the program ends before.
    pub fn log_until(&self, words: &str) -> Option<String> {
        lines_until(&self.log, words)
    }

    pub fn write(&self, rest: &str) {
        std::fs::write(self.directory.join("hausruf.toml"), format!("{}{rest}", self.places)).unwrap();
    }

    pub fn file(&self) -> PathBuf {
        self.directory.join("hausruf.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// A command of the operator.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(words).arg("--socket").arg(self.socket()).env_remove("RUST_LOG");
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a command prints that succeeds.
    pub fn told(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// Waits for the end; `Some` is the exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.process.wait().unwrap();
        assert_eq!(status.signal(), None);
        status.code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !self.directory.as_os_str().is_empty() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}
