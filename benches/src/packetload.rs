//! Load at the packet level: flows of equal packets, what comes back, and what that cost. And the floor's fan-out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::forwarder;
use crate::process;
use crate::socket::{self, Arena, Poller};
use crate::source::{Pacing, VIDEO_PACKET};

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
    /// From sending to receiving, where the packets carry their time.
    pub latency: Option<Latency>,
}

/// In nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    pub median_ns: u64,
    pub p99_ns: u64,
}

/// How a flow's packets follow each other.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    pub interval: Duration,
    /// In each interval.
    pub packets: usize,
    pub pacing: Pacing,
}

/// Something that sends a burst of equal packets every interval.
struct Flow {
    socket: usize,
    to: SocketAddrV4,
    packet: Vec<u8>,
    /// The burst as one piece, for a train.
    train: Vec<u8>,
    rhythm: Rhythm,
    /// Where in a packet its time of sending stands.
    stamp_at: usize,
    sent_of_burst: usize,
    burst_at: Instant,
    next: Instant,
}

pub struct Load {
    pub sockets: Vec<UdpSocket>,
    flows: Vec<Flow>,
    /// When each flow next sends.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    poller: Poller,
    arena: Arena,
    ready: Vec<u64>,
    sent: u64,
    received: u64,
    bytes: u64,
    /// Where in a packet that a socket receives its time of sending stands; empty: packets carry none.
    stamps_at: Vec<usize>,
    latencies_ns: Vec<u64>,
    began: Instant,
}

#[allow(clippy::disallowed_methods)] // a program at the edge: the generator lives in real time
fn now() -> Instant {
    Instant::now()
}

pub fn fan_out(options: &FanOutOptions) -> Result<Report> {
    let mut load = Load::new()?;
    let rhythm = Rhythm { interval: FRAME_INTERVAL, packets: options.packets_per_frame, pacing: options.pacing };
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
        load.flow(publisher, options.server, packet, rhythm);
    }
    load.measure(&options.measurement)
}

impl Load {
    pub fn new() -> Result<Load> {
        Ok(Load {
            sockets: Vec::new(),
            flows: Vec::new(),
            due: BinaryHeap::new(),
            poller: Poller::new()?,
            arena: Arena::default(),
            ready: Vec::new(),
            sent: 0,
            received: 0,
            bytes: 0,
            stamps_at: Vec::new(),
            latencies_ns: Vec::new(),
            began: now(),
        })
    }

    pub fn open(&mut self, address: SocketAddr) -> Result<usize> {
        let socket = socket::bind(address)?;
        self.poller.add(&socket, self.sockets.len() as u64)?;
        self.sockets.push(socket);
        Ok(self.sockets.len() - 1)
    }

    /// A word to the floor, which echoes it.
    pub fn command(&mut self, socket: usize, server: SocketAddrV4, command: &[u8]) -> Result<()> {
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

    pub fn flow(&mut self, socket: usize, to: SocketAddrV4, packet: Vec<u8>, rhythm: Rhythm) {
        let train = packet.repeat(rhythm.packets);
        let at = self.began;
        let flow = Flow { socket, to, packet, train, rhythm, stamp_at: 0, sent_of_burst: 0, burst_at: at, next: at };
        self.flows.push(flow);
    }

    /// The flows begin, spread over their intervals, so that the senders do not fire together.
    fn begin(&mut self) {
        let begun = now();
        for (index, flow) in self.flows.iter_mut().enumerate() {
            let interval_us = flow.rhythm.interval.as_micros().max(1) as u64;
            flow.burst_at = begun + Duration::from_micros(index as u64 * 7_919 % interval_us);
            flow.next = flow.burst_at;
            self.due.push(Reverse((flow.next, index)));
        }
    }

    /// Every packet carries its time of sending, behind so many octets when the flow sends it and when a socket receives
    /// it. Such a load never sleeps.
    pub fn stamp(&mut self, sent_at: impl Fn(usize) -> usize, received_at: impl Fn(usize) -> usize) {
        for flow in &mut self.flows {
            flow.stamp_at = sent_at(flow.socket);
        }
        self.stamps_at = (0..self.sockets.len()).map(received_at).collect();
    }

    pub fn measure(&mut self, measurement: &Measurement) -> Result<Report> {
        self.begin();
        self.pass(Duration::from_secs_f64(measurement.settle))?;
        self.latencies_ns.clear();
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
            latency: self.latency(),
        };
        ensure!(report.packets_received > 0, "nothing came back: {report:?}");
        Ok(report)
    }

    fn latency(&mut self) -> Option<Latency> {
        self.latencies_ns.sort_unstable();
        let part = |percent: usize| self.latencies_ns.get(self.latencies_ns.len() * percent / 100).copied();
        Some(Latency { median_ns: part(50)?, p99_ns: part(99)? })
    }

    fn pass(&mut self, time: Duration) -> Result<()> {
        let end = now() + time;
        loop {
            let at = now();
            if at >= end {
                return Ok(());
            }
            let stamps = !self.stamps_at.is_empty();
            let began = self.began;
            while let Some(&Reverse((next, index))) = self.due.peek()
                && next <= at
            {
                self.due.pop();
                let flow = &mut self.flows[index];
                let stamp = stamps.then_some(began);
                self.sent += flow.send_due(at, stamp, &self.sockets[flow.socket]);
                self.due.push(Reverse((flow.next, index)));
            }
            let mut wake = at + Duration::from_millis(1);
            if let Some(&Reverse((next, _))) = self.due.peek() {
                wake = wake.min(next);
            }
            self.poller.ready(&mut self.ready)?;
            for &key in &self.ready {
                let (received, bytes, latencies) = (&mut self.received, &mut self.bytes, &mut self.latencies_ns);
                let stamp_at = self.stamps_at.get(key as usize).copied();
                let each = |_, datagram: &mut [u8]| {
                    *received += 1;
                    *bytes += datagram.len() as u64;
                    if let Some(stamp) = stamp_at.and_then(|at| datagram.get(at..)?.first_chunk()) {
                        let age = now().duration_since(began).as_nanos() as u64;
                        latencies.push(age.saturating_sub(u64::from_ne_bytes(*stamp)));
                    }
                };
                // What is left is found by the next round.
                self.arena.receive(&self.sockets[key as usize], each)?;
            }
            if !stamps {
                std::thread::sleep(wake.saturating_duration_since(now()));
            }
        }
    }
}

impl Flow {
    /// Sends what is due and returns how many packets that was. Their times count from `stamp`.
    fn send_due(&mut self, at: Instant, stamp: Option<Instant>, socket: &UdpSocket) -> u64 {
        if at < self.next {
            return 0;
        }
        let Rhythm { interval, packets, pacing } = self.rhythm;
        // A full buffer loses packets as a network would.
        if pacing == Pacing::Train {
            let _ = socket::send_train(socket, self.to, &self.train, self.packet.len());
            self.next = at.max(self.next + interval);
            return packets as u64;
        }
        if let Some(began) = stamp {
            let age = now().duration_since(began).as_nanos() as u64;
            self.packet[self.stamp_at..self.stamp_at + 8].copy_from_slice(&age.to_ne_bytes());
        }
        let _ = socket.send_to(&self.packet, self.to);
        self.sent_of_burst += 1;
        if self.sent_of_burst == packets {
            self.sent_of_burst = 0;
            self.burst_at = at.max(self.burst_at + interval);
        }
        self.next = self.burst_at + interval / packets as u32 * self.sent_of_burst as u32;
        1
    }
}
