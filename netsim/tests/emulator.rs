//! `netsim link` with real sockets: what it says it does to packets is what they feel.

use std::fs::{metadata, read_to_string};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netsim::kernel::in_namespace;

const PATIENCE: Duration = Duration::from_secs(10);

#[allow(clippy::disallowed_methods)] // real clients live in real time
fn clock() -> Instant {
    Instant::now()
}

/// Two namespaces with a link between them; both are gone when this is.
struct Pair {
    a: String,
    b: String,
}

impl Pair {
    /// `None`, said aloud, for an ordinary user.
    fn new(name: &str) -> Option<Pair> {
        if metadata("/proc/self").unwrap().uid() != 0 {
            eprintln!("SKIPPED: network namespaces and TUN devices need root");
            return None;
        }
        let end = |side| format!("sim-{name}-{}-{side}", std::process::id());
        let pair = Pair { a: end('a'), b: end('b') };
        for namespace in [&pair.a, &pair.b] {
            ip(&["netns", "add", namespace]);
        }
        Some(pair)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for namespace in [&self.a, &self.b] {
            ip(&["netns", "delete", namespace]);
        }
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}

/// A running emulator.
struct Running {
    process: Child,
    log: PathBuf,
    ready: String,
}

impl Running {
    fn start(name: &str, schedule: &str, arguments: &[&str]) -> Running {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let file = directory.join(format!("{name}.toml"));
        let log = directory.join(format!("{name}.csv"));
        std::fs::write(&file, schedule).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_netsim"))
            .arg("link")
            .args(arguments)
            .arg("--schedule")
            .arg(&file)
            .arg("--log")
            .arg(&log)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("ready "), "{ready}");
        Running { process, log, ready }
    }

    fn between(name: &str, schedule: &str, pair: &Pair) -> Running {
        let arguments =
            [["--a", &pair.a], ["--b", &pair.b], ["--a-address", "10.99.0.1/24"], ["--b-address", "10.99.0.2/24"]];
        Running::start(name, schedule, arguments.as_flattened())
    }

    /// Ends it with SIGTERM; the rows of its log, numbers by column, of one direction.
    fn stop(mut self, direction: &str) -> Vec<Vec<f64>> {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").arg(&id).status().unwrap().success());
        assert!(self.process.wait().unwrap().success());
        let text = read_to_string(&self.log).unwrap();
        text.lines()
            .filter(|line| line.split(',').nth(1) == Some(direction))
            .map(|line| line.split(',').map(|cell| cell.parse().unwrap_or(-1.0)).collect())
            .collect()
    }
}

/// A failed test leaves no emulator behind.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
    }
}

fn column(rows: &[Vec<f64>], index: usize) -> f64 {
    rows.iter().map(|row| row[index]).sum()
}

fn bind(namespace: &str, address: &str) -> UdpSocket {
    let socket = in_namespace(namespace, || UdpSocket::bind(address).unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn udp_feels_the_delay_the_rate_and_the_queue() {
    let Some(pair) = Pair::new("udp") else { return };
    let schedule = "[[a_to_b]]\nrate_kbps = 800\nqueue_ms = 200\ndelay_ms = 40\n[[b_to_a]]\ndelay_ms = 60";
    let link = Running::between("udp", schedule, &pair);
    let a = bind(&pair.a, "10.99.0.1:0");
    let b = bind(&pair.b, "10.99.0.2:5000");
    let to_b: SocketAddr = "10.99.0.2:5000".parse().unwrap();
    let mut buffer = [0; 2000];

    // 28 + 72 bytes at 800 kbit/s take 1 ms.
    let start = clock();
    a.send_to(&[7; 72], to_b).unwrap();
    let (length, from) = b.recv_from(&mut buffer).unwrap();
    b.send_to(&buffer[..length], from).unwrap();
    assert_eq!(a.recv(&mut buffer).unwrap(), 72);
    let round_trip = start.elapsed().as_millis();
    assert!((101..150).contains(&round_trip), "{round_trip} ms");

    // The queue holds 20,000 bytes: 40 packets of 28 + 472, and those that left while the burst came.
    let start = clock();
    for _ in 0..100 {
        a.send_to(&[8; 472], to_b).unwrap();
    }
    b.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    let (mut received, mut last) = (0, start);
    while b.recv(&mut buffer).is_ok() {
        received += 1;
        last = clock();
    }
    assert!((40..=60).contains(&received), "{received} packets");
    let took = (last - start).as_secs_f64() - 0.040;
    let rate = f64::from(received) * 500.0 * 8.0 / took / 1e3;
    assert!((700.0..=830.0).contains(&rate), "{rate:.0} kbit/s");

    let rows = link.stop("a_to_b");
    assert_eq!(column(&rows, 2), 101.0);
    assert_eq!(column(&rows, 3), 100.0 + 100.0 * 500.0);
    assert_eq!(column(&rows, 4), 1.0 + f64::from(received));
    assert_eq!(column(&rows, 7), f64::from(100 - received));
    let deepest = rows.iter().map(|row| row[8]).fold(0.0, f64::max);
    assert!((80.0..=205.0).contains(&deepest), "{deepest} ms");
}

#[test]
fn tcp_crosses_unharmed_and_at_the_links_rate() {
    let Some(pair) = Pair::new("tcp") else { return };
    let schedule = "[[both]]\nrate_kbps = 4000\nqueue_ms = 300\ndelay_ms = 10\nloss_percent = 0.5";
    let link = Running::between("tcp", schedule, &pair);
    let listener = in_namespace(&pair.b, || TcpListener::bind("10.99.0.2:80").unwrap()).unwrap();
    let sent: Vec<u8> = (0..500_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    let start = clock();
    let received = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            received
        });
        let connect = || TcpStream::connect("10.99.0.2:80").unwrap();
        let mut stream = in_namespace(&pair.a, connect).unwrap();
        stream.write_all(&sent).unwrap();
        drop(stream);
        reader.join().unwrap()
    });
    // 500,000 bytes and their headers cannot pass 4 Mbit/s in less than a second.
    let took = start.elapsed();
    let differs = received.iter().zip(&sent).position(|(a, b)| a != b);
    assert_eq!((received.len(), differs), (sent.len(), None));
    assert!(took > Duration::from_secs(1), "{took:?}");
    let rows = link.stop("a_to_b");
    assert!(column(&rows, 3) > 500_000.0);
}

#[test]
fn loss_is_what_the_schedule_says_and_the_log_tells_which() {
    let Some(pair) = Pair::new("loss") else {
        return;
    };
    let schedule = "seed = 5\n[[a_to_b]]\nloss_percent = 10\nloss_burst = 3";
    let link = Running::between("loss", schedule, &pair);
    let a = bind(&pair.a, "10.99.0.1:0");
    let b = bind(&pair.b, "10.99.0.2:5000");
    let mut buffer = [0; 64];
    let mut received = 0.0;
    b.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for _ in 0..20 {
        for number in 0..100u8 {
            a.send_to(&[number], "10.99.0.2:5000").unwrap();
        }
        // The last of a hundred comes, or is lost: then the wait ends by itself.
        while let Ok(length) = b.recv(&mut buffer) {
            received += 1.0;
            if buffer[..length] == [99] {
                break;
            }
        }
    }
    while b.recv(&mut buffer).is_ok() {
        received += 1.0;
    }
    let rows = link.stop("a_to_b");
    assert_eq!(column(&rows, 2), 2000.0);
    assert_eq!(column(&rows, 6), 2000.0 - received);
    assert!((120.0..=280.0).contains(&column(&rows, 6)), "{received}");
}

#[test]
fn an_ordinary_user_gets_a_udp_proxy() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = server.local_addr().unwrap().to_string();
    let link = Running::start("proxy", "[[both]]\ndelay_ms = 30", &["--listen", "127.0.0.1:0", "--to", &to]);
    let listen = link.ready.split(['=', ' ']).nth(2).unwrap();
    let listen: SocketAddr = listen.parse().unwrap();
    let clients: Vec<UdpSocket> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let start = clock();
    let mut buffer = [0; 64];
    for (number, client) in (0u8..).zip(&clients) {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(&[number; 12], listen).unwrap();
    }
    for _ in &clients {
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..length], from).unwrap();
    }
    for (number, client) in (0u8..).zip(&clients) {
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], [number; 12]);
    }
    assert!(start.elapsed() >= Duration::from_millis(60));
    let rows = link.stop("b_to_a");
    assert_eq!(column(&rows, 3), 2.0 * 40.0);
}

#[test]
fn a_wrong_schedule_is_refused_before_anything_starts() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("wrong.toml");
    std::fs::write(&file, "[[both]]\nloss_percent = 101").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_netsim"))
        .args(["link", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"])
        .arg("--schedule")
        .arg(&file)
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(output.stdout, b"");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("loss_percent = 101"), "{message}");
}
