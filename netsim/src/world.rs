//! The virtual world: hosts that run nodes, the links between them, and a clock that jumps from event to event.
//!
//! Everything follows from the seed. What happens at one moment happens in a fixed order: links by the host's number,
//! then deliveries, then timers.

use std::any::Any;
use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use datapath::{Counters, Datagram, Discard, Endpoint, Entropy, Node, Now, Order, Outbox, SocketEvent};

use crate::link::{Link, LinkCounters, Settings};

/// Turns that may follow each other without the clock moving, before the world calls it a loop.
const TURNS_WITHOUT_TIME_MAX: u32 = 100_000;

/// The Unix time at which every world begins: 2026-01-01.
const UNIX_START: Duration = Duration::from_secs(1_767_225_600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(usize);

/// What a host runs. The world gives it back by its type: [`World::program`].
pub trait Program: Node + Any {}
impl<T: Node + Any> Program for T {}

#[derive(Clone, Debug)]
pub struct HostSpec {
    pub name: &'static str,
    pub addresses: Vec<IpAddr>,
    /// UDP ports of [`Endpoint::Listener`] by index; empty for a gateway, which takes every packet as it is.
    pub listeners: Vec<u16>,
    /// The gateway that stands before it; `None`: it is on the Internet.
    pub gateway: Option<HostId>,
    /// From the host and to the host.
    pub up: Settings,
    pub down: Settings,
}

/// A UDP datagram on the wire.
#[derive(Clone, Debug)]
struct Wire {
    source: SocketAddr,
    destination: SocketAddr,
    tos: u8,
    payload: Vec<u8>,
}

impl Wire {
    fn ip_bytes(&self) -> u32 {
        self.payload.len() as u32 + crate::emulator::headers(self.destination)
    }
}

struct Host {
    spec: HostSpec,
    program: Box<dyn Program>,
    /// Relayed transport addresses that are open.
    relays: Vec<SocketAddr>,
    up: Link<Wire>,
    down: Link<Wire>,
    out: Outbox,
}

/// A datagram as it leaves or reaches a host, for a [`Check`].
#[derive(Clone, Copy, Debug)]
pub struct Passage<'a> {
    pub at: Duration,
    pub host: HostId,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub payload: &'a [u8],
}

/// An invariant, judged from outside: it sees datagrams alone, and panics when it is broken.
pub trait Check: Any {
    /// A host's program has put a datagram on the wire.
    fn handle_sent(&mut self, passage: &Passage<'_>);
    /// A datagram is about to be given to a host's program.
    fn handle_delivered(&mut self, passage: &Passage<'_>);
}

pub struct World {
    seed: u64,
    entropy: Entropy,
    start: Instant,
    now: Duration,
    hosts: Vec<Host>,
    checks: Vec<Box<dyn Check>>,
    digest: DefaultHasher,
    /// Datagrams to an address that nobody has, or a port that nobody listens on.
    unreachable: u64,
    turns_without_time: u32,
}

/// The single real clock reading: an `Instant` can be had no other way. Nothing depends on its value.
#[allow(clippy::disallowed_methods)]
fn any_instant() -> Instant {
    Instant::now()
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        World {
            seed,
            entropy: Entropy::from_seed(bytes),
            start: any_instant(),
            now: Duration::ZERO,
            hosts: Vec::new(),
            checks: Vec::new(),
            digest: DefaultHasher::new(),
            unreachable: 0,
            turns_without_time: 0,
        }
    }

    /// A generator for a part of the scenario.
    pub fn entropy(&mut self) -> Entropy {
        self.entropy.fork()
    }

    /// Time since the world's beginning.
    pub fn elapsed(&self) -> Duration {
        self.now
    }

    /// What programs are told of the time.
    pub fn now(&self) -> Now {
        Now { instant: self.start + self.now, unix: UNIX_START + self.now }
    }

    pub fn add_host(&mut self, spec: HostSpec, program: impl Program) -> HostId {
        for address in &spec.addresses {
            let taken = self.find(spec.gateway, *address);
            assert!(taken.is_none(), "{}: {address} is taken in its network", spec.name);
        }
        let (up, down) = (self.entropy.u64(), self.entropy.u64());
        self.hosts.push(Host {
            up: Link::constant(spec.up, up),
            down: Link::constant(spec.down, down),
            program: Box::new(program),
            relays: Vec::new(),
            out: Outbox::new(),
            spec,
        });
        HostId(self.hosts.len() - 1)
    }

    pub fn add_check(&mut self, check: impl Check) {
        self.checks.push(Box::new(check));
    }

    /// The check of this type.
    pub fn check<C: Check>(&mut self) -> &mut C {
        self.checks
            .iter_mut()
            .find_map(|check| (check.as_mut() as &mut dyn Any).downcast_mut())
            .expect("no check of this type was added")
    }

    /// The program of a host, to be looked at.
    pub fn program<P: Program>(&mut self, host: HostId) -> &mut P {
        (self.hosts[host.0].program.as_mut() as &mut dyn Any)
            .downcast_mut()
            .expect("the host runs a program of another type")
    }

    /// Lets the program of a host act now, outside of a delivery.
    pub fn act<P: Program, T>(&mut self, host: HostId, act: impl FnOnce(&mut P, Now, &mut Outbox) -> T) -> T {
        let now = self.now();
        let mut out = std::mem::take(&mut self.hosts[host.0].out);
        let result = act(self.program(host), now, &mut out);
        self.carry_out(host, &[], out);
        result
    }

    pub fn counters(&self, host: HostId) -> &Counters {
        &self.hosts[host.0].out.counters
    }

    /// Counters of the host's links: from it, to it.
    pub fn link_counters(&self, host: HostId) -> (LinkCounters, LinkCounters) {
        let host = &self.hosts[host.0];
        (host.up.counters(), host.down.counters())
    }

    /// The time that the standing queues of the host's links take: from it, to it.
    pub fn standing_delays(&self, host: HostId) -> (Duration, Duration) {
        let host = &self.hosts[host.0];
        (host.up.standing_delay(), host.down.standing_delay())
    }

    /// What the host's links do now: from it, to it.
    pub fn link_settings(&self, host: HostId) -> (Settings, Settings) {
        let host = &self.hosts[host.0];
        (host.up.settings(), host.down.settings())
    }

    /// Datagrams that went to nobody.
    pub fn unreachable(&self) -> u64 {
        self.unreachable
    }

    /// Changes the host's links from now on.
    pub fn set_links(&mut self, host: HostId, up: Settings, down: Settings) {
        let host = &mut self.hosts[host.0];
        host.up.set(self.now, up);
        host.down.set(self.now, down);
    }

    /// Gives the host other addresses. What is on its way to the old ones reaches nobody.
    pub fn set_addresses(&mut self, host: HostId, addresses: Vec<IpAddr>) {
        self.hosts[host.0].spec.addresses = addresses;
    }

    /// Of everything that was sent and delivered: when, by whom, from and to which addresses, and the octets. Of DTLS
    /// only that there was a record, since its libraries draw entropy of their own.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Runs for `duration`, then stands still.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.next_event().filter(|&at| at <= end) {
            self.step(at);
        }
        self.now = end;
    }

    /// Runs until `done` says so; panics when that takes longer than `patience`.
    pub fn run_until(&mut self, what: &str, patience: Duration, mut done: impl FnMut(&mut World) -> bool) {
        let end = self.now + patience;
        while !done(self) {
            match self.next_event().filter(|&at| at <= end) {
                Some(at) => self.step(at),
                None => panic!("not within {patience:?}: {what}"),
            }
        }
    }

    fn next_event(&self) -> Option<Duration> {
        let of_host = |host: &Host| {
            let deadline = host.program.poll_timeout();
            let timer = deadline.map(|deadline| deadline.at.saturating_duration_since(self.start));
            let links = [&host.up, &host.down].map(Link::poll_timeout);
            links.into_iter().chain([timer]).flatten().min()
        };
        let next = self.hosts.iter().filter_map(of_host).min()?;
        Some(next.max(self.now))
    }

    /// Everything that is due at `at`.
    fn step(&mut self, at: Duration) {
        if at > self.now {
            self.turns_without_time = 0;
        }
        self.turns_without_time += 1;
        assert!(
            self.turns_without_time < TURNS_WITHOUT_TIME_MAX,
            "the clock stands still; deadlines: {:?}",
            self.hosts.iter().map(|host| (host.spec.name, host.program.poll_timeout())).collect::<Vec<_>>()
        );
        self.now = at;
        for index in 0..self.hosts.len() {
            while let Some(wire) = self.hosts[index].up.poll(at) {
                self.route(self.hosts[index].spec.gateway, wire);
            }
        }
        for index in 0..self.hosts.len() {
            let mut arrived = Vec::new();
            while let Some(wire) = self.hosts[index].down.poll(at) {
                arrived.push(wire);
            }
            self.deliver(HostId(index), arrived);
        }
        let now = self.now();
        for index in 0..self.hosts.len() {
            let host = &mut self.hosts[index];
            if host.program.poll_timeout().is_some_and(|deadline| deadline.at <= now.instant) {
                let mut out = std::mem::take(&mut host.out);
                host.program.handle_timeout(now, &mut out);
                self.carry_out(HostId(index), &[], out);
            }
        }
    }

    /// The host with this address in the network behind `gateway`.
    fn find(&self, gateway: Option<HostId>, address: IpAddr) -> Option<usize> {
        self.hosts.iter().position(|host| host.spec.gateway == gateway && host.spec.addresses.contains(&address))
    }

    /// A datagram has entered the network behind `gateway`: on to its host, or out through the gateway.
    fn route(&mut self, gateway: Option<HostId>, wire: Wire) {
        if let Some(index) = self.find(gateway, wire.destination.ip()) {
            let now = self.now;
            self.hosts[index].down.push(now, wire.ip_bytes(), wire);
        } else if let Some(gateway) = gateway {
            self.deliver(gateway, vec![wire]);
        } else {
            self.unreachable += 1;
        }
    }

    /// Gives what has arrived at one moment to the host's program, as one batch.
    fn deliver(&mut self, id: HostId, arrived: Vec<Wire>) {
        let now = self.now();
        let mut arena = Vec::new();
        let mut placed = Vec::new();
        for wire in &arrived {
            let Some(local) = self.endpoint(id, wire.destination) else {
                self.unreachable += 1;
                continue;
            };
            self.note(b'<', id, wire);
            placed.push((local, wire.source, wire.tos & 0b11, arena.len(), wire.payload.len()));
            arena.extend_from_slice(&wire.payload);
        }
        if placed.is_empty() {
            return;
        }
        let mut rest = arena.as_mut_slice();
        let mut batch = Vec::new();
        for &(local, remote, ecn, origin, length) in &placed {
            let (payload, behind) = rest.split_at_mut(length);
            rest = behind;
            batch.push(Datagram { local, remote, ecn, received_at: now.instant, payload, origin: Some(origin as u32) });
        }
        let host = &mut self.hosts[id.0];
        let mut out = std::mem::take(&mut host.out);
        host.program.handle_batch(now, &mut batch, &mut out);
        self.carry_out(id, &arena, out);
    }

    /// Through which of the host's ends a datagram to `destination` arrives.
    fn endpoint(&self, id: HostId, destination: SocketAddr) -> Option<Endpoint> {
        let host = &self.hosts[id.0];
        if host.spec.listeners.is_empty() || host.relays.contains(&destination) {
            return Some(Endpoint::Relay { address: destination });
        }
        if !host.spec.addresses.contains(&destination.ip()) {
            return None;
        }
        let port = destination.port();
        let index = host.spec.listeners.iter().position(|&known| known == port)?;
        Some(Endpoint::Listener { index: index as u8, ip: destination.ip() })
    }

    /// Does what a turn has ordered and sends what it has to send.
    fn carry_out(&mut self, id: HostId, arena: &[u8], mut out: Outbox) {
        let mut events = Vec::new();
        for order in out.take_orders() {
            let host = &mut self.hosts[id.0];
            match order {
                Order::OpenRelay { relayed } => {
                    let free = host.spec.addresses.contains(&relayed.ip())
                        && !host.spec.listeners.contains(&relayed.port())
                        && !host.relays.contains(&relayed);
                    if free {
                        host.relays.push(relayed);
                        out.counters.relay_sockets_opened += 1;
                        events.push(SocketEvent::Opened { relayed });
                    } else {
                        events.push(SocketEvent::Failed { relayed });
                    }
                }
                Order::KeepStream { .. }
                | Order::ProbeTcpRelay { .. }
                | Order::ListenTcp { .. }
                | Order::CloseTcpRelay { .. }
                | Order::ConnectPeer { .. }
                | Order::ClosePeer { .. }
                | Order::SplicePeer { .. } => unreachable!("no TCP in this world"),
                Order::ProbeRelay { relayed, .. } => events.push(SocketEvent::Free { relayed }),
                Order::CloseRelay { relayed } => {
                    host.relays.retain(|&open| open != relayed);
                    events.push(SocketEvent::Closed { relayed });
                }
            }
        }
        assert!(out.memory_entries().is_empty(), "what is handed over in memory never reaches a driver");
        let mut failed = 0;
        for entry in out.entries().iter().chain(out.unfragmented_entries()) {
            let Some(source) = self.source(id, entry.local) else {
                failed += 1;
                continue;
            };
            let head = &out.arena()[entry.head.start as usize..entry.head.end as usize];
            let body = &arena[entry.body.start as usize..entry.body.end as usize];
            let wire = Wire { source, destination: entry.remote, tos: entry.tos, payload: [head, body].concat() };
            self.note(b'>', id, &wire);
            if self.find(Some(id), wire.destination.ip()).is_some() {
                // From a gateway inward.
                self.route(Some(id), wire);
            } else {
                let now = self.now;
                self.hosts[id.0].up.push(now, wire.ip_bytes(), wire);
            }
        }
        out.counters.discarded[Discard::SendFailed as usize] += failed;
        out.clear();
        self.hosts[id.0].out = out;
        let now = self.now();
        for event in events {
            let host = &mut self.hosts[id.0];
            let mut out = std::mem::take(&mut host.out);
            host.program.handle_event(now, event, &mut out);
            self.carry_out(id, &[], out);
        }
    }

    /// The source address of what leaves by `local`; `None` when the host has no such end (any more).
    fn source(&self, id: HostId, local: Endpoint) -> Option<SocketAddr> {
        let host = &self.hosts[id.0];
        match local {
            Endpoint::Listener { index, ip } => {
                let port = *host.spec.listeners.get(usize::from(index))?;
                let own = host.spec.addresses.contains(&ip);
                own.then_some(SocketAddr::new(ip, port))
            }
            Endpoint::Relay { address } => {
                let gateway = host.spec.listeners.is_empty();
                (gateway || host.relays.contains(&address)).then_some(address)
            }
            Endpoint::Stream { .. } | Endpoint::Memory { .. } => None,
        }
    }

    /// Takes a datagram into the digest and shows it to the checks.
    fn note(&mut self, direction: u8, host: HostId, wire: &Wire) {
        let digest = &mut self.digest;
        digest.write_u64(self.now.as_nanos() as u64);
        digest.write_u8(direction);
        digest.write_usize(host.0);
        for address in [wire.source, wire.destination] {
            match address.ip() {
                IpAddr::V4(ip) => digest.write_u32(ip.to_bits()),
                IpAddr::V6(ip) => digest.write_u128(ip.to_bits()),
            }
            digest.write_u16(address.port());
        }
        match wire.payload.first() {
            Some(content_type @ 20..=63) => digest.write_u8(*content_type),
            _ => digest.write(&wire.payload),
        }
        let passage =
            Passage { at: self.now, host, source: wire.source, destination: wire.destination, payload: &wire.payload };
        for check in &mut self.checks {
            if direction == b'>' {
                check.handle_sent(&passage);
            } else {
                check.handle_delivered(&passage);
            }
        }
    }
}

/// A failure says what reproduces it.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world with seed {} failed at {:?}", self.seed, self.now);
        }
    }
}
