//! A link in real time, for real clients: the same model as in the virtual world, between two TUN devices or as a UDP
//! proxy.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use crate::kernel::{Signal, Signals, Tun, wait};
use crate::link::{Link, LinkCounters};
use crate::schedule::Schedule;

/// Between two lines of the log.
const LOG_INTERVAL: Duration = Duration::from_millis(100);
/// Clients that a proxy serves at once; more are ignored.
const CLIENTS_MAX: usize = 64;
/// Packets read from one end before the other gets its turn.
const BURST: usize = 64;

/// The columns of the log. Counts are of the time since the line before; the queue is what stands at its end.
pub const LOG_HEADER: &str =
    "t_ms,direction,packets_in,bytes_in,packets_out,bytes_out,lost,dropped,queue_ms,queue_bytes,rate_kbps";

/// What the link connects.
#[derive(Debug)]
pub enum Ends {
    /// Whole IP packets between two devices.
    Tuns { a: Tun, b: Tun },
    /// UDP payloads: A are clients of `listener`, B is `target`. Each client gets a socket of its own toward it, as a
    /// NAT would give it.
    Proxy { listener: UdpSocket, target: SocketAddr, clients: Vec<(SocketAddr, UdpSocket)> },
}

impl Ends {
    pub fn proxy(listen: SocketAddr, target: SocketAddr) -> io::Result<Ends> {
        let listener = UdpSocket::bind(listen)?;
        listener.set_nonblocking(true)?;
        Ok(Ends::Proxy { listener, target, clients: Vec::new() })
    }

    /// A's descriptors, then B's.
    fn descriptors(&self, into: &mut Vec<RawFd>) {
        match self {
            Ends::Tuns { a, b } => into.extend([a.file.as_raw_fd(), b.file.as_raw_fd()]),
            Ends::Proxy { listener, clients, .. } => {
                into.push(listener.as_raw_fd());
                into.extend(clients.iter().map(|(_, socket)| socket.as_raw_fd()));
            }
        }
    }

    /// Reads one packet from descriptor `index` of [`Ends::descriptors`]. `None`: nothing there.
    fn read(&mut self, index: usize, buffer: &mut [u8]) -> Option<Packet> {
        match self {
            Ends::Tuns { a, b } => {
                let end = if index == 0 { a } else { b };
                let length = (&end.file).read(buffer).ok().filter(|&length| length > 0)?;
                Some(Packet {
                    from_a: index == 0,
                    client: 0,
                    ip_bytes: length as u32,
                    payload: buffer[..length].to_vec(),
                })
            }
            Ends::Proxy { listener, target, clients } => {
                let (length, client) = if index == 0 {
                    let (length, from) = listener.recv_from(buffer).ok()?;
                    let known = clients.iter().position(|(address, _)| *address == from);
                    (length, known.or_else(|| admit(clients, from, *target))?)
                } else {
                    (clients[index - 1].1.recv(buffer).ok()?, index - 1)
                };
                Some(Packet {
                    from_a: index == 0,
                    client,
                    ip_bytes: length as u32 + headers(*target),
                    payload: buffer[..length].to_vec(),
                })
            }
        }
    }

    /// A packet that cannot be written is lost, as on any link whose far end is down.
    fn write(&mut self, packet: &Packet) {
        let _ = match self {
            Ends::Tuns { a, b } => {
                let far = if packet.from_a { b } else { a };
                (&far.file).write(&packet.payload)
            }
            Ends::Proxy { listener, clients, .. } => {
                let (address, socket) = &clients[packet.client];
                if packet.from_a { socket.send(&packet.payload) } else { listener.send_to(&packet.payload, address) }
            }
        };
    }
}

fn admit(clients: &mut Vec<(SocketAddr, UdpSocket)>, from: SocketAddr, target: SocketAddr) -> Option<usize> {
    if clients.len() == CLIENTS_MAX {
        return None;
    }
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    socket.set_nonblocking(true).ok()?;
    clients.push((from, socket));
    Some(clients.len() - 1)
}

/// IP and UDP headers of a datagram in this address family.
pub fn headers(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(_) => 20 + 8,
        SocketAddr::V6(_) => 40 + 8,
    }
}

#[derive(Clone, Debug)]
struct Packet {
    from_a: bool,
    client: usize,
    ip_bytes: u32,
    payload: Vec<u8>,
}

/// A link between two ends, until a signal stops it.
pub struct Emulator {
    ends: Ends,
    /// A to B, then B to A.
    links: [Link<Packet>; 2],
    start: Instant,
    logged: [LinkCounters; 2],
}

impl Emulator {
    pub fn new(ends: Ends, schedule: &Schedule) -> Emulator {
        Emulator { ends, links: links(schedule), start: clock(), logged: Default::default() }
    }

    /// Runs until SIGTERM or SIGINT. On SIGHUP `reload` gives a new schedule, which starts at its zero; packets on
    /// their way are lost.
    pub fn run(
        mut self,
        signals: &mut Signals,
        log: &mut dyn Write,
        mut reload: impl FnMut() -> Option<Schedule>,
    ) -> io::Result<()> {
        writeln!(log, "{LOG_HEADER}")?;
        let mut buffer = vec![0; 1 << 16];
        let (mut descriptors, mut ready) = (Vec::new(), Vec::new());
        let mut next_log = LOG_INTERVAL;
        loop {
            let now = self.now();
            let due = self.links.iter().filter_map(Link::poll_timeout).min();
            let until = due.map_or(next_log, |due| due.min(next_log));
            descriptors.clear();
            descriptors.push(signals.descriptor());
            self.ends.descriptors(&mut descriptors);
            wait(&descriptors, until.saturating_sub(now), &mut ready)?;
            for index in (0..ready.len() - 1).filter(|index| ready[index + 1]) {
                for _ in 0..BURST {
                    let Some(packet) = self.ends.read(index, &mut buffer) else {
                        break;
                    };
                    let now = self.now();
                    let link = &mut self.links[usize::from(!packet.from_a)];
                    link.push(now, packet.ip_bytes, packet);
                }
            }
            let now = self.now();
            for link in &mut self.links {
                while let Some(packet) = link.poll(now) {
                    self.ends.write(&packet);
                }
            }
            if now >= next_log {
                self.log(now, log)?;
                while next_log <= now {
                    next_log += LOG_INTERVAL;
                }
            }
            match signals.poll() {
                None => {}
                Some(Signal::Stop) => {
                    self.log(self.now(), log)?;
                    return log.flush();
                }
                Some(Signal::Reload) => {
                    if let Some(schedule) = reload() {
                        self.links = links(&schedule);
                        self.logged = Default::default();
                        self.start = clock();
                        next_log = LOG_INTERVAL;
                        writeln!(log, "{LOG_HEADER}")?;
                    }
                }
            }
        }
    }

    fn now(&self) -> Duration {
        clock() - self.start
    }

    fn log(&mut self, at: Duration, log: &mut dyn Write) -> io::Result<()> {
        for (index, link) in self.links.iter().enumerate() {
            let (now, before) = (link.counters(), self.logged[index]);
            write!(
                log,
                "{},{},{},{},{},{},{},{},{:.1},{},",
                at.as_millis(),
                ["a_to_b", "b_to_a"][index],
                now.packets_in - before.packets_in,
                now.bytes_in - before.bytes_in,
                now.packets_out - before.packets_out,
                now.bytes_out - before.bytes_out,
                now.lost - before.lost,
                now.dropped - before.dropped,
                link.standing_delay().as_secs_f64() * 1e3,
                link.standing_bytes(),
            )?;
            match link.settings().rate_bps {
                Some(rate) => writeln!(log, "{}", rate / 1000)?,
                None => writeln!(log, "unlimited")?,
            }
            self.logged[index] = now;
        }
        log.flush()
    }
}

fn links(schedule: &Schedule) -> [Link<Packet>; 2] {
    // The directions draw from generators of their own.
    [
        Link::new(schedule.a_to_b.clone(), schedule.seed.wrapping_mul(2)),
        Link::new(schedule.b_to_a.clone(), schedule.seed.wrapping_mul(2).wrapping_add(1)),
    ]
}

/// The emulator is a driver: it is where real time enters.
#[allow(clippy::disallowed_methods)]
fn clock() -> Instant {
    Instant::now()
}
