//! The open sockets of a worker.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::peers::{Peers, Splicing};
use super::streams::{Stream, Streams};
use crate::sockets::{
    IcmpError, Message, Payloads, Poll, Readiness, ReceiveBatch, SendBatch, SocketError, UdpSocket, Waker, tcp,
    too_long,
};
use crate::trains::{Train, Trains};
use crate::{Counters, Endpoint, Order, PeerChange, SocketEvent};

#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    role: Role,
    /// This turn's trains that leave by it.
    trains: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Listener { index: u8 },
    Relay { relayed: SocketAddr },
}

#[derive(Debug)]
pub struct Ports {
    poll: Poll,
    waker: Waker,
    ports: Vec<Option<Port>>,
    free: Vec<usize>,
    /// Slots of the listeners: for each index, IPv4 and IPv6.
    listeners: Vec<[Option<usize>; 2]>,
    /// Slots of the relay sockets. We choose the keys' ports.
    relays: HashMap<SocketAddr, usize>,
    relay_buffer_bytes: usize,
    pub(super) streams: Streams,
    pub(super) peers: Peers,
    ready: Vec<Readiness>,
    /// Where the next turn begins among the ready sockets: when more is there than a turn takes, everybody gets a share.
    rotation: usize,
    /// Slots that have trains in this turn.
    sending: Vec<usize>,
}

/// Datagrams that did not leave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lost {
    pub without_socket: u64,
    pub refused: u64,
    /// Given up for a TCP connection that takes no more.
    pub late: u64,
}

/// A polled descriptor that is no socket.
const WAKER_TOKEN: u64 = u64::MAX;

/// Messages that one readable socket may bring in a turn, so that a flooded one leaves room for the others.
const LISTENER_MESSAGES_MAX: usize = 32;
const RELAY_MESSAGES_MAX: usize = 8;

/// Entries of an error queue looked at in a turn.
const ERRORS_MAX: usize = 8;

impl Ports {
    pub fn new(relay_buffer_bytes: usize) -> io::Result<Ports> {
        let poll = Poll::new()?;
        let waker = Waker::new()?;
        poll.add(waker.as_fd(), WAKER_TOKEN)?;
        Ok(Ports {
            poll,
            waker,
            ports: Vec::new(),
            free: Vec::new(),
            listeners: Vec::new(),
            relays: HashMap::new(),
            relay_buffer_bytes,
            streams: Streams::default(),
            peers: Peers::default(),
            ready: Vec::new(),
            rotation: 0,
            sending: Vec::new(),
        })
    }

    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Opens the next listener. An unspecified IPv6 address stands for both families.
    pub fn open_listener(&mut self, address: SocketAddr, buffer_bytes: usize, shared: bool) -> io::Result<()> {
        let index = u8::try_from(self.listeners.len()).map_err(io::Error::other)?;
        let role = Role::Listener { index };
        self.listeners.push([None; 2]);
        let both = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let mut port = address.port();
        match UdpSocket::listener(address, buffer_bytes, shared) {
            Ok(socket) => {
                port = socket.address().port();
                let slot = self.add(socket, role)?;
                self.listeners[usize::from(index)][usize::from(address.is_ipv6())] = Some(slot);
            }
            Err(error) if both && is_family_missing(&error) => {}
            Err(error) => return Err(error),
        }
        if both {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            match UdpSocket::listener(address, buffer_bytes, shared) {
                Ok(socket) => {
                    let slot = self.add(socket, role)?;
                    self.listeners[usize::from(index)][0] = Some(slot);
                }
                Err(error) if is_family_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The listeners' bound addresses with their indices, and the receive buffers that the kernel granted.
    pub fn listeners(&self) -> impl Iterator<Item = (u8, SocketAddr, usize)> + '_ {
        self.ports.iter().flatten().filter_map(|port| match port.role {
            Role::Listener { index } => {
                let socket = &port.socket;
                Some((index, socket.address(), socket.receive_buffer_bytes()))
            }
            Role::Relay { .. } => None,
        })
    }

    pub fn relays(&self) -> usize {
        self.relays.len()
    }

    /// Sends what waits for TCP connections.
    pub fn flush_streams(&mut self) {
        self.streams.flush(&self.poll);
    }

    /// Accepts connections of peers, and finds out what became of those under way.
    pub fn receive_peers(&mut self, counters: &mut Counters, events: &mut Vec<SocketEvent>) {
        self.peers.receive(&self.poll, counters, events);
    }

    /// Joins connections of clients and peers as ordered in this turn.
    pub fn splice(&mut self, now: Instant) {
        self.peers.splice(&self.poll, &mut self.streams, now);
    }

    /// How long the loop may sleep, for what no descriptor tells.
    pub fn patience(&self) -> Option<Duration> {
        if self.streams.is_waiting() { Some(Duration::ZERO) } else { self.peers.patience() }
    }

    /// Takes over a client's TCP connection.
    pub fn add_stream(&mut self, stream: Stream, now: Instant) -> io::Result<()> {
        self.streams.add(&self.poll, stream, now)
    }

    pub fn execute(&mut self, order: Order, counters: &mut Counters, now: Instant) -> Option<SocketEvent> {
        Some(match order {
            Order::OpenRelay { relayed } => match self.open_relay(relayed) {
                Ok(()) => {
                    counters.relay_sockets_opened += 1;
                    SocketEvent::Opened { relayed }
                }
                Err(_) => SocketEvent::Failed { relayed },
            },
            Order::CloseRelay { relayed } => {
                if let Some(slot) = self.relays.remove(&relayed) {
                    self.ports[slot] = None;
                    self.free.push(slot);
                }
                SocketEvent::Closed { relayed }
            }
            Order::ProbeRelay { relayed, with_next } => {
                let next = with_next.then(|| SocketAddr::new(relayed.ip(), relayed.port().wrapping_add(1)));
                let free = std::iter::once(relayed).chain(next).all(|address| self.is_free(address));
                if free { SocketEvent::Free { relayed } } else { SocketEvent::Taken { relayed } }
            }
            Order::KeepStream { local, keep } => {
                self.streams.keep(local, keep, now);
                return None;
            }
            Order::ProbeTcpRelay { relayed } => {
                let free = !self.peers.is_listening(relayed) && tcp::probe(relayed).is_ok();
                if free { SocketEvent::Free { relayed } } else { SocketEvent::Taken { relayed } }
            }
            Order::ListenTcp { relayed } => match self.peers.listen(&self.poll, relayed) {
                Ok(()) => {
                    counters.relay_sockets_opened += 1;
                    SocketEvent::Opened { relayed }
                }
                Err(_) => SocketEvent::Failed { relayed },
            },
            Order::ConnectPeer { relayed, peer } => match self.peers.connect(&self.poll, relayed, peer) {
                Ok(()) => return None,
                Err(_) => SocketEvent::Peer { relayed, peer, change: PeerChange::Failed },
            },
            Order::CloseTcpRelay { relayed } => {
                self.peers.close_relay(relayed);
                return None;
            }
            Order::ClosePeer { relayed, peer } => {
                self.peers.close(relayed, peer);
                return None;
            }
            Order::SplicePeer { relayed, peer, client } => {
                self.peers.splice_later(Splicing { relayed, peer, client });
                return None;
            }
        })
    }

    fn open_relay(&mut self, relayed: SocketAddr) -> io::Result<()> {
        if self.relays.contains_key(&relayed) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let bytes = self.relay_buffer_bytes;
        let socket = match UdpSocket::relay(relayed, bytes) {
            // Behind 1:1 NAT the advertised address is not ours: the NAT maps port to port.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                UdpSocket::relay(SocketAddr::new(unspecified(relayed.ip()), relayed.port()), bytes)?
            }
            socket => socket?,
        };
        let slot = self.add(socket, Role::Relay { relayed })?;
        self.relays.insert(relayed, slot);
        Ok(())
    }

    fn is_free(&self, relayed: SocketAddr) -> bool {
        if self.relays.contains_key(&relayed) {
            return false;
        }
        match UdpSocket::probe(relayed) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                UdpSocket::probe(SocketAddr::new(unspecified(relayed.ip()), relayed.port())).is_ok()
            }
            probed => probed.is_ok(),
        }
    }

    fn add(&mut self, socket: UdpSocket, role: Role) -> io::Result<usize> {
        let slot = self.free.last().copied().unwrap_or(self.ports.len());
        self.poll.add(socket.as_fd(), slot as u64)?;
        self.free.pop();
        let port = Port { socket, role, trains: Vec::new() };
        if slot == self.ports.len() {
            self.ports.push(Some(port));
        } else {
            self.ports[slot] = Some(port);
        }
        Ok(slot)
    }

    /// Waits until a socket has something, the waker was used or the time is over.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.poll.wait(timeout, &mut self.ready)?;
        let before = self.ready.len();
        self.ready.retain(|ready| ready.token != WAKER_TOKEN);
        if self.ready.len() < before {
            self.waker.take();
        }
        self.streams.take_ready(&mut self.ready);
        self.peers.take_ready(&mut self.ready);
        Ok(())
    }

    /// Receives from the sockets that the last [`Ports::wait`] found ready.
    pub fn receive(&mut self, batch: &mut ReceiveBatch, events: &mut Vec<SocketEvent>) {
        self.rotation = (self.rotation + 1) % self.ready.len().max(1);
        let (last, first) = self.ready.split_at(self.rotation);
        for ready in first.iter().chain(last) {
            let slot = ready.token as usize;
            let Some(Some(port)) = self.ports.get(slot) else {
                continue;
            };
            let limit = match port.role {
                Role::Listener { .. } => LISTENER_MESSAGES_MAX,
                Role::Relay { relayed } => {
                    if ready.error {
                        take_errors(&port.socket, relayed, events);
                    }
                    RELAY_MESSAGES_MAX
                }
            };
            // An error of the socket (an ICMP error of an earlier datagram) is cleared by being reported; what else
            // there is comes in the next turn.
            let _ = batch.receive(&port.socket, slot as u32, limit);
        }
    }

    /// The local end of a received message.
    pub fn endpoint(&self, message: &Message) -> Option<Endpoint> {
        let port = self.ports.get(message.tag as usize)?.as_ref()?;
        Some(match port.role {
            Role::Listener { index } => {
                let bound = || port.socket.address().ip();
                let ip = message.destination.unwrap_or_else(bound);
                Endpoint::Listener { index, ip }
            }
            Role::Relay { relayed } => Endpoint::Relay { address: relayed },
        })
    }

    fn slot_of(&self, train: &Train) -> Option<usize> {
        match train.local {
            Endpoint::Listener { index, .. } => {
                let families = self.listeners.get(usize::from(index))?;
                families[usize::from(train.remote.is_ipv6())]
            }
            Endpoint::Relay { address } => self.relays.get(&address).copied(),
            Endpoint::Stream { .. } | Endpoint::Memory { .. } => None,
        }
    }

    /// Sends the trains, one system call for each socket.
    pub fn send(&mut self, trains: &Trains, payloads: Payloads<'_>, batch: &mut SendBatch) -> Lost {
        let mut lost = Lost::default();
        for (index, train) in trains.trains().iter().enumerate() {
            if let Endpoint::Stream { .. } = train.local {
                for member in trains.members(train) {
                    lost.late += self.streams.enqueue(train.local, payloads.parts(&payloads.entries[member]));
                }
                continue;
            }
            let slot = self.slot_of(train);
            let Some(port) = slot.and_then(|slot| self.ports[slot].as_mut()) else {
                lost.without_socket += u64::from(train.count);
                continue;
            };
            if port.trains.is_empty() {
                self.sending.extend(slot);
            }
            port.trains.push(index as u32);
        }
        for slot in self.sending.drain(..) {
            let Some(port) = self.ports[slot].as_mut() else {
                continue;
            };
            lost.refused += batch.send(&port.socket, trains, &port.trains, payloads);
            port.trains.clear();
        }
        lost
    }

    /// Sends entries that must not be fragmented, one by one. One that is too long becomes an ICMP error, as if the next
    /// router had said so.
    pub fn send_unfragmented(&mut self, payloads: Payloads<'_>, events: &mut Vec<SocketEvent>) -> Lost {
        let mut lost = Lost::default();
        for entry in payloads.entries {
            let Endpoint::Relay { address: relayed } = entry.local else {
                lost.without_socket += 1;
                continue;
            };
            let Some(port) = self.relays.get(&relayed).and_then(|&slot| self.ports[slot].as_ref()) else {
                lost.without_socket += 1;
                continue;
            };
            let (socket, remote) = (&port.socket, entry.remote);
            let send = || socket.send_unfragmented(remote, entry.tos, payloads.parts(entry));
            let mut outcome = send();
            let mut mtu = None;
            if outcome.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
                mtu = take_errors(socket, relayed, events);
                if mtu.is_none() {
                    // It was an ICMP error that an earlier datagram brought.
                    outcome = send();
                }
            }
            if outcome.is_err() {
                lost.refused += 1;
            }
            if let Some(mtu) = mtu {
                let (kind, code) = too_long(remote);
                events.push(SocketEvent::IcmpError { relayed, remote, kind, code, mtu });
            }
        }
        lost
    }
}

/// Takes what the error queue holds. Returns how long an IP packet may be, if the last one was too long.
fn take_errors(socket: &UdpSocket, relayed: SocketAddr, events: &mut Vec<SocketEvent>) -> Option<u32> {
    let mut too_long = None;
    for _ in 0..ERRORS_MAX {
        match socket.take_error() {
            Ok(Some(SocketError::Icmp(IcmpError { remote, kind, code, mtu }))) => {
                events.push(SocketEvent::IcmpError { relayed, remote, kind, code, mtu });
            }
            Ok(Some(SocketError::TooLong { mtu })) => too_long = Some(mtu),
            Ok(Some(SocketError::Other)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    too_long
}

/// Every address of the same family.
fn unspecified(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Whether the system has no such address family (IPv6 switched off).
fn is_family_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}
