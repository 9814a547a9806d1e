//! The loop of a worker: real sockets around a [`Node`].

mod clock;
mod peers;
mod ports;
mod splice;
mod streams;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::datagram::recycled;
use crate::shared_counters::{LoopLag, SharedCounters, Snapshot};
use crate::sockets::{Payloads, ReceiveBatch, SendBatch, Waker};
use crate::trains::Trains;
use crate::{Counters, Datagram, Discard, Endpoint, Node, Now, Outbox, SocketEvent};

pub use clock::Clock;
use ports::{Lost, Ports};
pub use streams::Stream;
use streams::{Received, Used};

/// What a driver opens.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The UDP listeners; the position is the index of [`crate::Endpoint::Listener`]. An unspecified IPv6 address
    /// stands for both families, each with a socket of its own.
    pub listeners: Vec<SocketAddr>,
    /// Other workers of this program bind the same listeners.
    pub shared: bool,
    /// Socket buffers of a listener, in octets, each way.
    pub listener_buffer_bytes: usize,
    /// Socket buffers of a relay socket, in octets, each way.
    pub relay_buffer_bytes: usize,
}

impl Settings {
    pub fn new(listeners: Vec<SocketAddr>) -> Settings {
        Settings { listeners, shared: false, listener_buffer_bytes: 8 << 20, relay_buffer_bytes: 512 << 10 }
    }
}

/// One worker's sockets, clock and output. [`Driver::turn`] is one round of its loop.
pub struct Driver {
    ports: Ports,
    clock: Clock,
    receive: ReceiveBatch,
    /// The allocation of the last turn's datagrams; empty between turns.
    datagrams: Vec<Datagram<'static>>,
    events: Vec<SocketEvent>,
    out: Outbox,
    trains: Trains,
    send: SendBatch,
    lag: LoopLag,
    /// When the turn before received: what arrives from then on waits until the next one polls.
    received_at: Option<Instant>,
    published: Arc<SharedCounters>,
    publish_at: Instant,
}

const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// Rounds of orders and answers in a turn: a relay whose port is taken may order another one.
const ORDER_ROUNDS_MAX: usize = 16;

impl Driver {
    /// Opens the listeners. An address that cannot be bound is an error; but of an unspecified IPv6 address the half
    /// whose family the system lacks may be missing.
    pub fn bind(settings: &Settings) -> io::Result<Driver> {
        let clock = Clock::new();
        let mut ports = Ports::new(settings.relay_buffer_bytes)?;
        for &address in &settings.listeners {
            let opened = ports.open_listener(address, settings.listener_buffer_bytes, settings.shared);
            opened.map_err(|error| io::Error::new(error.kind(), format!("UDP {address}: {error}")))?;
        }
        Ok(Driver {
            ports,
            receive: ReceiveBatch::new(),
            datagrams: Vec::new(),
            events: Vec::new(),
            out: Outbox::new(),
            trains: Trains::new(),
            send: SendBatch::new(),
            lag: LoopLag::default(),
            received_at: None,
            published: Arc::new(SharedCounters::new()),
            publish_at: clock.instant(),
            clock,
        })
    }

    /// The addresses that the listeners are bound to, with their indices.
    pub fn listeners(&self) -> impl Iterator<Item = (u8, SocketAddr)> + '_ {
        let listeners = self.ports.listeners();
        listeners.map(|(index, address, _)| (index, address))
    }

    /// The smallest receive buffer among the listeners, as the kernel granted it, in octets.
    pub fn listener_buffer_bytes(&self) -> usize {
        let sizes = self.ports.listeners().map(|(_, _, bytes)| bytes);
        sizes.min().unwrap_or(0)
    }

    /// Ends a turn's wait from another thread.
    pub fn waker(&self) -> Waker {
        self.ports.waker().clone()
    }

    /// Where the counters are published about once a second.
    pub fn shared_counters(&self) -> Arc<SharedCounters> {
        self.published.clone()
    }

    /// What this worker counts, for what the caller does beside the node.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.out.counters
    }

    /// Lets the caller act on the node between turns (a command of the control plane), then sends what came of it.
    pub fn act<N: Node, T>(&mut self, node: &mut N, act: impl FnOnce(&mut N, Now, &mut Outbox) -> T) -> T {
        let now = self.clock.read();
        let result = act(node, now, &mut self.out);
        self.flush(node, now);
        result
    }

    /// One round: waits for datagrams, the node's deadline, the waker or `max_wait`; receives; lets the node act; sends.
    /// Returns how many datagrams were received.
    ///
    /// # Errors
    /// Only when waiting itself fails; what one socket or datagram does wrong is counted.
    pub fn turn<N: Node>(&mut self, node: &mut N, max_wait: Duration) -> io::Result<usize> {
        let polled_at = self.clock.instant();
        if let Some(received_at) = self.received_at.take() {
            self.lag.record(polled_at - received_at);
        }
        // From here on other workers rouse us; what they wrote before shows in the deadline.
        self.ports.waker().fall_asleep();
        let timeout = match node.poll_timeout() {
            Some(deadline) => deadline.at.saturating_duration_since(polled_at).min(max_wait),
            None => max_wait,
        };
        let timeout = self.ports.patience().map_or(timeout, |patience| patience.min(timeout));
        let timeout = if self.events.is_empty() { timeout } else { Duration::ZERO };
        self.ports.wait(timeout)?;
        self.ports.waker().wake_up();
        self.receive.clear();
        self.ports.receive(&mut self.receive, &mut self.events);
        let now = self.clock.read();
        self.received_at = Some(now.instant);
        let mut received = self.hand_in(node, now);
        received += self.hand_in_streams(node, now);
        self.ports.streams.take_closed(&mut self.events);
        self.ports.receive_peers(&mut self.out.counters, &mut self.events);
        for event in self.events.drain(..) {
            node.handle_event(now, event, &mut self.out);
        }
        if node.poll_timeout().is_some_and(|deadline| deadline.at <= now.instant) {
            // What waits for a deadline may take long (a handshake does): media is out before.
            self.flush(node, now);
            node.handle_timeout(now, &mut self.out);
        }
        self.flush(node, now);
        self.ports.peers.carry(node, &mut self.out.counters, now);
        if self.publish_at <= now.instant {
            self.publish();
            self.publish_at = now.instant + PUBLISH_INTERVAL;
            self.ports.streams.end_idle(now.instant);
            self.ports.peers.end_idle(now.instant);
        }
        Ok(received)
    }

    /// Gives the node what was received.
    fn hand_in<N: Node>(&mut self, node: &mut N, now: Now) -> usize {
        let (messages, arena) = self.receive.parts();
        if messages.is_empty() {
            return 0;
        }
        let mut datagrams = recycled(std::mem::take(&mut self.datagrams));
        let mut rest = arena;
        let mut position = 0;
        for message in messages {
            let Some(local) = self.ports.endpoint(message) else {
                continue;
            };
            for (offset, length) in message.segments() {
                let (_, tail) = rest.split_at_mut((offset - position) as usize);
                let (payload, tail) = tail.split_at_mut(length as usize);
                rest = tail;
                position = offset + length;
                datagrams.push(Datagram {
                    local,
                    remote: message.remote,
                    ecn: message.ecn,
                    received_at: now.instant,
                    payload,
                    origin: Some(offset),
                });
            }
        }
        let received = datagrams.len();
        node.handle_batch(now, &mut datagrams, &mut self.out);
        self.datagrams = recycled(datagrams);
        received
    }

    /// Gives the node what the TCP connections brought.
    fn hand_in_streams<N: Node>(&mut self, node: &mut N, now: Now) -> usize {
        let mut received = 0;
        loop {
            let Driver { ports, out, datagrams: allocation, .. } = self;
            let more = ports.streams.receive_next(now.instant, |Received { local, remote, framing, octets }| {
                let (mut rest, mut used) = (octets, 0);
                loop {
                    let mut datagrams = recycled(std::mem::take(allocation));
                    let (mut may_end, mut is_framed) = (false, true);
                    while !may_end {
                        match framing.next(rest) {
                            Ok(Some(frame)) => {
                                used += frame.end;
                                let (octets, behind) = rest.split_at_mut(frame.end);
                                rest = behind;
                                let payload = &mut octets[frame.payload];
                                may_end = framing.may_end_with(payload);
                                // Its octets are gone when the turn ends: the outbox copies what it forwards.
                                let (ecn, received_at, origin) = (0, now.instant, None);
                                datagrams.push(Datagram { local, remote, ecn, received_at, payload, origin });
                            }
                            Ok(None) => break,
                            Err(_) => {
                                is_framed = false;
                                break;
                            }
                        }
                    }
                    received += datagrams.len();
                    node.handle_batch(now, &mut datagrams, out);
                    *allocation = recycled(datagrams);
                    if may_end && !out.splices(local) {
                        // The node has not taken it for what it could be. Were the rest left for the next turn, whoever
                        // sends nothing else would have a turn, and a copy of the rest, for every twenty octets.
                        continue;
                    }
                    return match (may_end, is_framed) {
                        (false, true) => Some(Used::Whole(used)),
                        // Before the connection ends what came before is answered.
                        (false, false) if used == 0 => {
                            out.counters.discard(Discard::Unframed);
                            None
                        }
                        _ => Some(Used::Until(used)),
                    };
                }
            });
            if !more {
                return received;
            }
        }
    }

    /// Takes over a client's TCP connection, between turns.
    pub fn add_stream(&mut self, stream: Stream) -> io::Result<()> {
        self.ports.add_stream(stream, self.clock.instant())
    }

    /// Whether this is a TCP connection with TLS.
    pub fn is_encrypted(&self, local: Endpoint) -> bool {
        self.ports.streams.is_encrypted(local)
    }

    /// Carries out the orders, then sends.
    fn flush<N: Node>(&mut self, node: &mut N, now: Now) {
        for _ in 0..ORDER_ROUNDS_MAX {
            let orders = self.out.take_orders();
            if orders.is_empty() {
                break;
            }
            for order in orders {
                if let Some(event) = self.ports.execute(order, &mut self.out.counters, now.instant) {
                    node.handle_event(now, event, &mut self.out);
                }
            }
        }
        debug_assert!(self.out.memory_entries().is_empty(), "Mux takes these");
        if !self.out.entries().is_empty() {
            self.trains.form(self.out.entries());
            let payloads =
                Payloads { entries: self.out.entries(), heads: self.out.arena(), bodies: self.receive.arena() };
            let lost = self.ports.send(&self.trains, payloads, &mut self.send);
            self.count(lost);
        }
        if !self.out.unfragmented_entries().is_empty() {
            let entries = self.out.unfragmented_entries();
            let payloads = Payloads { entries, heads: self.out.arena(), bodies: self.receive.arena() };
            let lost = self.ports.send_unfragmented(payloads, &mut self.events);
            self.count(lost);
        }
        self.ports.flush_streams();
        self.ports.splice(now.instant);
        self.out.clear();
    }

    fn count(&mut self, lost: Lost) {
        let discarded = &mut self.out.counters.discarded;
        discarded[Discard::NoRelaySocket as usize] += lost.without_socket;
        discarded[Discard::SendFailed as usize] += lost.refused;
        discarded[Discard::StreamFull as usize] += lost.late;
    }

    /// Publishes the counters now.
    pub fn publish(&mut self) {
        self.published.publish(&Snapshot {
            counters: self.out.counters.clone(),
            lag: self.lag,
            relay_sockets: self.ports.relays() as u64,
            streams: self.ports.streams.len() as u64,
            peer_connections: self.ports.peers.len() as u64,
        });
        self.lag.longest = Duration::ZERO;
    }
}

#[cfg(test)]
mod peer_tests;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
