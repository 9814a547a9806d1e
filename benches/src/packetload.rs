//! Load at the packet level: the floor's fan-out, and relaying through the floor or through a TURN server.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::forwarder::{self, FIRST_CHANNEL, FIRST_RELAY_PORT};
use crate::process;
use crate::socket::{self, Arena, Poller};
use crate::source::{Pacing, VIDEO_PACKET};
use crate::turn::{Allocation, Credentials};

const FRAME_INTERVAL: Duration = Duration::from_nanos(33_333_333);

#[derive(Clone, Debug, clap::Args)]
pub struct FanOutOptions {
    /// Where `benches forwarder` listens
    #[arg(long, default_value = "127.0.0.1:3478")]
    pub server: SocketAddrV4,
    /// Each is a publisher and its subscribers
    #[arg(long, default_value_t = 1)]
    pub rooms: usize,
    /// Per room
    #[arg(long, default_value_t = 50)]
    pub subscribers: usize,
    #[arg(long, default_value_t = 7)]
    pub packets_per_frame: usize,
    #[arg(long, value_enum, default_value_t = Pacing::Train)]
    pub pacing: Pacing,
    #[command(flatten)]
    pub measurement: Measurement,
}

#[derive(Clone, Debug, clap::Args)]
pub struct RelayOptions {
    /// The TURN server, or the floor
    #[arg(long, default_value = "127.0.0.1:3478")]
    pub server: SocketAddrV4,
    /// Long-term credentials; without them the server is `benches forwarder`
    #[arg(long, requires = "password")]
    pub user: Option<String>,
    #[arg(long)]
    pub password: Option<String>,
    #[arg(long, default_value_t = 50)]
    pub allocations: usize,
    /// Octets of application data in a packet
    #[arg(long, default_value_t = 1200)]
    pub size: usize,
    /// Packets of each allocation and direction in 33 ms
    #[arg(long, default_value_t = 7)]
    pub packets_per_frame: usize,
    #[arg(long, value_enum, default_value_t = Pacing::Train)]
    pub pacing: Pacing,
    /// Address of the clients
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// Address of the peers
    #[arg(long, default_value = "127.0.0.1")]
    pub peer: IpAddr,
    #[command(flatten)]
    pub measurement: Measurement,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Measurement {
    /// Seconds before the measurement
    #[arg(long, default_value_t = 0.5)]
    pub settle: f64,
    /// Seconds of the measurement
    #[arg(long, default_value_t = 3.0)]
    pub duration: f64,
    /// Process whose CPU time is measured
    #[arg(long)]
    pub pid: Option<u32>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub packets_sent: u64,
    pub packets_received: u64,
    pub bytes_received: u64,
    pub window_ms: u64,
    pub server_cpu_ns: Option<u64>,
    pub server_ns_per_packet: Option<f64>,
    pub generator_cpu_ns: u64,
}

/// Something that sends a burst of equal packets every frame interval.
struct Flow {
    socket: usize,
    to: SocketAddrV4,
    packet: Vec<u8>,
    /// The burst as one piece, for a train.
    train: Vec<u8>,
    count: usize,
    sent_of_frame: usize,
    frame_at: Instant,
    next: Instant,
}

struct Load {
    sockets: Vec<UdpSocket>,
    flows: Vec<Flow>,
    pacing: Pacing,
    poller: Poller,
    arena: Arena,
    ready: Vec<u64>,
    sent: u64,
    received: u64,
    bytes: u64,
}

#[allow(clippy::disallowed_methods)] // a program at the edge: the generator lives in real time
fn now() -> Instant {
    Instant::now()
}

pub fn fan_out(options: &FanOutOptions) -> Result<Report> {
    let mut load = Load::new(options.pacing)?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    for room in 0..options.rooms {
        let publisher = load.open(any)?;
        if room == 0 {
            load.command(publisher, options.server, &[forwarder::RESET])?;
        }
        for _ in 0..options.subscribers {
            let subscriber = load.open(any)?;
            load.command(subscriber, options.server, &[forwarder::SUBSCRIBE, room as u8])?;
        }
        // An RTP header whose SSRC names the room; the floor looks no further.
        let mut packet = vec![0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, room as u8];
        packet.resize(VIDEO_PACKET, 0x5A);
        load.flow(publisher, options.server, packet, options.packets_per_frame);
    }
    load.measure(&options.measurement)
}

pub fn relay(options: &RelayOptions) -> Result<Report> {
    let mut load = Load::new(options.pacing)?;
    let server = SocketAddr::V4(options.server);
    let credentials = options.user.clone().zip(options.password.clone());
    let credentials = credentials.map(|(user, password)| Credentials { user, password });
    let mut allocations = Vec::new();
    for index in 0..options.allocations {
        let client = load.open(SocketAddr::new(options.bind, 0))?;
        let peer = load.open(SocketAddr::new(options.peer, 0))?;
        let peer_address = v4(load.sockets[peer].local_addr()?)?;
        let number = FIRST_CHANNEL + index as u16;
        let (number, relayed) = match &credentials {
            Some(credentials) => {
                let allocation = Allocation::new(&load.sockets[client], server, credentials)?;
                allocation.bind_channel(&load.sockets[client], FIRST_CHANNEL, peer_address.into())?;
                let relayed = v4(allocation.relayed)?;
                allocations.push((client, allocation));
                (FIRST_CHANNEL, relayed)
            }
            None => {
                if index == 0 {
                    load.command(client, options.server, &[forwarder::RESET])?;
                }
                let mut bind = vec![forwarder::BIND];
                bind.extend_from_slice(&(index as u16).to_be_bytes());
                bind.extend_from_slice(&peer_address.ip().octets());
                bind.extend_from_slice(&peer_address.port().to_be_bytes());
                load.command(client, options.server, &bind)?;
                (number, SocketAddrV4::new(*options.server.ip(), FIRST_RELAY_PORT + index as u16))
            }
        };
        let mut packet = number.to_be_bytes().to_vec();
        packet.extend_from_slice(&(options.size as u16).to_be_bytes());
        packet.resize(4 + options.size, 0x5A);
        load.flow(client, options.server, packet, options.packets_per_frame);
        load.flow(peer, relayed, vec![0x5A; options.size], options.packets_per_frame);
    }
    let report = load.measure(&options.measurement);
    for (client, allocation) in &allocations {
        allocation.release(&load.sockets[*client]);
    }
    report
}

fn v4(address: SocketAddr) -> Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => bail!("{address} is not IPv4"),
    }
}

impl Load {
    fn new(pacing: Pacing) -> Result<Load> {
        Ok(Load {
            sockets: Vec::new(),
            flows: Vec::new(),
            pacing,
            poller: Poller::new()?,
            arena: Arena::default(),
            ready: Vec::new(),
            sent: 0,
            received: 0,
            bytes: 0,
        })
    }

    fn open(&mut self, address: SocketAddr) -> Result<usize> {
        let socket = socket::bind(address)?;
        self.poller.add(&socket, self.sockets.len() as u64)?;
        self.sockets.push(socket);
        Ok(self.sockets.len() - 1)
    }

    /// A word to the floor, which echoes it.
    fn command(&mut self, socket: usize, server: SocketAddrV4, command: &[u8]) -> Result<()> {
        let socket = &self.sockets[socket];
        let deadline = now() + Duration::from_secs(3);
        let mut buffer = [0; 2048];
        let mut send_at = now();
        while now() < deadline {
            if now() >= send_at {
                // Refused while the forwarder is still starting.
                let _ = socket.send_to(command, server);
                send_at = now() + Duration::from_millis(500);
            }
            match socket.recv_from(&mut buffer) {
                Ok((length, _)) if buffer[..length] == *command => return Ok(()),
                _ => std::thread::sleep(Duration::from_micros(200)),
            }
        }
        bail!("no answer from the forwarder at {server}")
    }

    fn flow(&mut self, socket: usize, to: SocketAddrV4, packet: Vec<u8>, count: usize) {
        let train = packet.repeat(count);
        // Spread over the frame interval, so that the senders do not fire together.
        let phase = Duration::from_micros(self.flows.len() as u64 * 7_919 % 33_333);
        let at = now() + phase;
        self.flows.push(Flow { socket, to, packet, train, count, sent_of_frame: 0, frame_at: at, next: at });
    }

    fn measure(&mut self, measurement: &Measurement) -> Result<Report> {
        self.pass(Duration::from_secs_f64(measurement.settle))?;
        let cpu = || measurement.pid.map(process::cpu_ns).transpose();
        let own = std::process::id();
        let (sent, received, bytes) = (self.sent, self.received, self.bytes);
        let (server, generator, begun) = (cpu()?, process::cpu_ns(own)?, now());
        self.pass(Duration::from_secs_f64(measurement.duration))?;
        let server_cpu_ns = cpu()?.zip(server).map(|(end, start)| end - start);
        let report = Report {
            packets_sent: self.sent - sent,
            packets_received: self.received - received,
            bytes_received: self.bytes - bytes,
            window_ms: now().duration_since(begun).as_millis() as u64,
            server_cpu_ns,
            server_ns_per_packet: server_cpu_ns.map(|ns| ns as f64 / (self.received - received).max(1) as f64),
            generator_cpu_ns: process::cpu_ns(own)? - generator,
        };
        ensure!(report.packets_received > 0, "nothing came back: {report:?}");
        Ok(report)
    }

    fn pass(&mut self, time: Duration) -> Result<()> {
        let end = now() + time;
        loop {
            let at = now();
            if at >= end {
                return Ok(());
            }
            let mut wake = at + Duration::from_millis(1);
            for flow in &mut self.flows {
                self.sent += flow.send_due(at, self.pacing, &self.sockets[flow.socket]);
                wake = wake.min(flow.next);
            }
            self.poller.ready(&mut self.ready)?;
            for &key in &self.ready {
                let (received, bytes) = (&mut self.received, &mut self.bytes);
                let each = |_, datagram: &mut [u8]| {
                    *received += 1;
                    *bytes += datagram.len() as u64;
                };
                // What is left is found by the next round.
                self.arena.receive(&self.sockets[key as usize], each)?;
            }
            std::thread::sleep(wake.saturating_duration_since(now()));
        }
    }
}

impl Flow {
    /// Sends what is due and returns how many packets that was.
    fn send_due(&mut self, at: Instant, pacing: Pacing, socket: &UdpSocket) -> u64 {
        if at < self.next {
            return 0;
        }
        // A full buffer loses packets as a network would.
        if pacing == Pacing::Train {
            let _ = socket::send_train(socket, self.to, &self.train, self.packet.len());
            self.next = at.max(self.next + FRAME_INTERVAL);
            return self.count as u64;
        }
        let _ = socket.send_to(&self.packet, self.to);
        self.sent_of_frame += 1;
        if self.sent_of_frame == self.count {
            self.sent_of_frame = 0;
            self.frame_at = at.max(self.frame_at + FRAME_INTERVAL);
        }
        self.next = self.frame_at + FRAME_INTERVAL / self.count as u32 * self.sent_of_frame as u32;
        1
    }
}
