//! TCP between relayed transport addresses and peers (RFC 6062): sockets that listen, connections of peers, and the clients'
//! connections that they are joined to.
//!
//! A connection that no client has bound is not read: what its peer sends stays at the kernel, which tells the peer to wait.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::splice::{CHUNK, Progress, Splice};
use super::streams::Streams;
use crate::sockets::{Poll, Readiness, tcp};
use crate::stream::Framing;
use crate::{Counters, Endpoint, Node, Now, PeerChange, SocketEvent};

#[derive(Debug, Default)]
pub struct Peers {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// By relayed address and peer. Peers choose a part of the key: SipHash.
    connections: HashMap<(SocketAddr, SocketAddr), u32>,
    /// By relayed address.
    listeners: HashMap<SocketAddr, u32>,
    /// Slots with which something may be done: in this turn, or in the next.
    active: Vec<u32>,
    /// Nothing may pass over them for now.
    throttled: Vec<u32>,
    /// When it is asked again whether something may.
    retry_at: Option<Instant>,
    /// Listeners for whose connections there was no descriptor.
    stalled: Vec<u32>,
    /// To be spliced when this turn has sent what it has to send.
    splicing: Vec<Splicing>,
    events: Vec<SocketEvent>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Slot {
    kind: Kind,
    is_active: bool,
}

#[derive(Debug)]
enum Kind {
    Listener { socket: TcpListener, relayed: SocketAddr },
    Peer { socket: TcpStream, relayed: SocketAddr, peer: SocketAddr, state: State },
}

#[derive(Debug)]
enum State {
    Connecting,
    /// For a client that binds it.
    Waiting,
    Spliced(Box<Splice>),
}

/// What [`crate::Order::SplicePeer`] says.
#[derive(Clone, Copy, Debug)]
pub struct Splicing {
    pub relayed: SocketAddr,
    pub peer: SocketAddr,
    pub client: Endpoint,
}

/// Tells these descriptors among the polled ones. Both ends of a splice have the same.
const TOKEN: u64 = 1 << 61;

/// Connections accepted at one address in a turn.
const ACCEPTS_MAX: usize = 16;

/// How soon it is asked again whether something may pass.
const THROTTLE: Duration = Duration::from_millis(5);

impl Peers {
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// How long the driver may sleep.
    pub fn patience(&self) -> Option<Duration> {
        if !self.active.is_empty() || !self.events.is_empty() {
            Some(Duration::ZERO)
        } else {
            (!self.throttled.is_empty()).then_some(THROTTLE)
        }
    }

    pub fn is_listening(&self, relayed: SocketAddr) -> bool {
        self.listeners.contains_key(&relayed)
    }

    pub fn listen(&mut self, poll: &Poll, relayed: SocketAddr) -> io::Result<()> {
        if self.is_listening(relayed) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let socket = tcp::listen(relayed)?;
        let slot = self.next_slot();
        poll.watch_changes(socket.as_fd(), TOKEN | u64::from(slot), false)?;
        self.occupy(slot, Kind::Listener { socket, relayed });
        self.listeners.insert(relayed, slot);
        Ok(())
    }

    /// Begins to connect.
    pub fn connect(&mut self, poll: &Poll, relayed: SocketAddr, peer: SocketAddr) -> io::Result<()> {
        if self.connections.contains_key(&(relayed, peer)) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let socket = tcp::connect(relayed, peer)?;
        self.add(poll, socket, relayed, peer, State::Connecting)
    }

    fn add(
        &mut self,
        poll: &Poll,
        socket: TcpStream,
        relayed: SocketAddr,
        peer: SocketAddr,
        state: State,
    ) -> io::Result<()> {
        tcp::prepare(&socket)?;
        let slot = self.next_slot();
        poll.watch_changes(socket.as_fd(), TOKEN | u64::from(slot), false)?;
        self.occupy(slot, Kind::Peer { socket, relayed, peer, state });
        self.connections.insert((relayed, peer), slot);
        Ok(())
    }

    /// Where the next tenant goes.
    fn next_slot(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.slots.len() as u32)
    }

    fn occupy(&mut self, slot: u32, kind: Kind) {
        let tenant = Some(Slot { kind, is_active: false });
        if self.free.pop().is_none() {
            self.slots.push(tenant);
        } else {
            self.slots[slot as usize] = tenant;
        }
    }

    /// Ends everything of a relayed address.
    pub fn close_relay(&mut self, relayed: SocketAddr) {
        if let Some(slot) = self.listeners.remove(&relayed) {
            self.vacate(slot);
        }
        for slot in 0..self.slots.len() as u32 {
            if let Some(Slot { kind: Kind::Peer { relayed: of, .. }, .. }) = &self.slots[slot as usize]
                && *of == relayed
            {
                self.vacate(slot);
            }
        }
    }

    pub fn close(&mut self, relayed: SocketAddr, peer: SocketAddr) {
        if let Some(slot) = self.connections.get(&(relayed, peer)).copied() {
            self.vacate(slot);
        }
    }

    /// Empties a slot; its sockets are closed.
    fn vacate(&mut self, slot: u32) {
        let Some(tenant) = self.slots[slot as usize].take() else { return };
        self.free.push(slot);
        if let Kind::Peer { relayed, peer, .. } = tenant.kind {
            self.connections.remove(&(relayed, peer));
        }
    }

    /// Takes these descriptors out of what a poll found ready.
    pub fn take_ready(&mut self, ready: &mut Vec<Readiness>) {
        if self.slots.len() == self.free.len() {
            return;
        }
        let Peers { slots, active, .. } = self;
        ready.retain(|ready| {
            let is_ours = ready.token & TOKEN != 0;
            if is_ours {
                activate(slots, active, ready.token as u32);
            }
            !is_ours
        });
    }

    /// Accepts connections, and finds out what became of those under way.
    pub fn receive(&mut self, poll: &Poll, counters: &mut Counters, events: &mut Vec<SocketEvent>) {
        let active = std::mem::take(&mut self.active);
        for slot in active {
            let Some(Some(tenant)) = self.slots.get_mut(slot as usize) else { continue };
            tenant.is_active = false;
            match &mut tenant.kind {
                Kind::Listener { .. } => self.accept(slot, poll, counters),
                Kind::Peer { state: State::Spliced(_), .. } => activate(&mut self.slots, &mut self.active, slot),
                Kind::Peer { socket, relayed, peer, state } => {
                    let (relayed, peer) = (*relayed, *peer);
                    let change = match (&state, socket.take_error()) {
                        (_, Err(_)) | (State::Connecting, Ok(Some(_))) => Some(PeerChange::Failed),
                        (_, Ok(Some(_))) => Some(PeerChange::Closed),
                        (State::Connecting, Ok(None)) if socket.peer_addr().is_ok() => {
                            *state = State::Waiting;
                            counters.peer_connections_opened += 1;
                            Some(PeerChange::Connected)
                        }
                        _ => None,
                    };
                    if matches!(change, Some(PeerChange::Failed | PeerChange::Closed)) {
                        self.vacate(slot);
                    }
                    let event = |change| SocketEvent::Peer { relayed, peer, change };
                    self.events.extend(change.map(event));
                }
            }
        }
        events.append(&mut self.events);
    }

    fn accept(&mut self, slot: u32, poll: &Poll, counters: &mut Counters) {
        for _ in 0..ACCEPTS_MAX {
            let Some(Some(Slot { kind: Kind::Listener { socket, relayed }, .. })) = self.slots.get(slot as usize)
            else {
                return;
            };
            let relayed = *relayed;
            match socket.accept() {
                Ok((socket, peer)) => {
                    // Without scope and flow label.
                    let peer = SocketAddr::new(peer.ip(), peer.port());
                    let is_new = !self.connections.contains_key(&(relayed, peer));
                    if is_new && self.add(poll, socket, relayed, peer, State::Waiting).is_ok() {
                        counters.peer_connections_opened += 1;
                        self.events.push(SocketEvent::Peer { relayed, peer, change: PeerChange::Accepted });
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                // No descriptor is left: the kernel does not tell when there is one.
                Err(_) => return self.stalled.push(slot),
            }
        }
        activate(&mut self.slots, &mut self.active, slot);
    }

    /// Joins a client's connection to a peer's, when this turn has sent what it has to send.
    pub fn splice_later(&mut self, splicing: Splicing) {
        self.splicing.push(splicing);
    }

    pub fn splice(&mut self, poll: &Poll, streams: &mut Streams, now: Instant) {
        for splicing in std::mem::take(&mut self.splicing) {
            let Splicing { relayed, peer, client } = splicing;
            let joined = self.try_splice(poll, streams, splicing, now);
            if joined.is_none() {
                self.close(relayed, peer);
                streams.end(client);
                self.events.push(SocketEvent::Peer { relayed, peer, change: PeerChange::Closed });
            }
        }
    }

    /// `None` if either of the two is gone.
    fn try_splice(&mut self, poll: &Poll, streams: &mut Streams, splicing: Splicing, now: Instant) -> Option<()> {
        let slot = *self.connections.get(&(splicing.relayed, splicing.peer))?;
        let Some(Slot { kind: Kind::Peer { state: state @ State::Waiting, .. }, .. }) =
            self.slots.get_mut(slot as usize)?
        else {
            return None;
        };
        let (stream, unread, unsent) = streams.take(splicing.client)?;
        // Octets cannot pass as they are where each datagram has a length before it.
        if stream.framing != Framing::Turn {
            return None;
        }
        tcp::prepare(&stream.socket).ok()?;
        poll.watch_changes(stream.socket.as_fd(), TOKEN | u64::from(slot), true).ok()?;
        *state = State::Spliced(Box::new(Splice::new(stream, unread, unsent, now)));
        // What came before is not told again.
        activate(&mut self.slots, &mut self.active, slot);
        Some(())
    }

    /// Carries octets, as many as the node allows.
    pub fn carry<N: Node>(&mut self, node: &mut N, counters: &mut Counters, now: Now) {
        if self.retry_at.is_none_or(|at| at <= now.instant) {
            self.active.append(&mut self.throttled);
            self.retry_at = Some(now.instant + THROTTLE);
        }
        if self.active.is_empty() {
            return;
        }
        self.scratch.resize(CHUNK, 0);
        for slot in std::mem::take(&mut self.active) {
            let Some(Some(tenant)) = self.slots.get_mut(slot as usize) else { continue };
            tenant.is_active = false;
            let Kind::Peer { socket, relayed, peer, state: State::Spliced(splice) } = &mut tenant.kind else {
                activate(&mut self.slots, &mut self.active, slot);
                continue;
            };
            let (relayed, peer) = (*relayed, *peer);
            let allowance = node.allowance(now, relayed, splice.has_waited(now.instant));
            let progress = splice.carry(socket, &mut self.scratch, allowance, now.instant);
            if let Ok((_, carried)) = progress {
                counters.octets_to_peers += carried.to_peer;
                counters.octets_to_clients += carried.to_client;
                node.handle_carried(now, relayed, carried);
            }
            match progress {
                Ok((Progress::Waits, _)) => {}
                Ok((Progress::More, _)) if allowance == 0 => activate(&mut self.slots, &mut self.throttled, slot),
                Ok((Progress::More, _)) => activate(&mut self.slots, &mut self.active, slot),
                Ok((Progress::Over, _)) | Err(_) => {
                    self.vacate(slot);
                    self.events.push(SocketEvent::Peer { relayed, peer, change: PeerChange::Closed });
                }
            }
        }
    }

    /// Ends what nobody uses any more. To be called about once a second.
    pub fn end_idle(&mut self, now: Instant) {
        for slot in std::mem::take(&mut self.stalled) {
            activate(&mut self.slots, &mut self.active, slot);
        }
        for slot in 0..self.slots.len() as u32 {
            if let Some(Slot { kind: Kind::Peer { relayed, peer, state: State::Spliced(splice), .. }, .. }) =
                &self.slots[slot as usize]
                && splice.is_idle(now)
            {
                self.events.push(SocketEvent::Peer { relayed: *relayed, peer: *peer, change: PeerChange::Closed });
                self.vacate(slot);
            }
        }
    }

    /// Octets that wait in splices.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        let waiting = |slot: &Slot| match &slot.kind {
            Kind::Peer { state: State::Spliced(splice), .. } => splice.waiting(),
            _ => 0,
        };
        self.slots.iter().flatten().map(waiting).sum()
    }
}

fn activate(slots: &mut [Option<Slot>], list: &mut Vec<u32>, slot: u32) {
    if let Some(Some(tenant)) = slots.get_mut(slot as usize)
        && !std::mem::replace(&mut tenant.is_active, true)
    {
        list.push(slot);
    }
}
