//! The TCP connections of a worker. The control plane has accepted them and finished TLS; here they stay until they end.

use std::any::Any;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustls::ServerConnection;

use crate::sockets::{Poll, tcp};
use crate::stream::{FRAME_LEN_MAX, Framing, SendQueue};
use crate::{Endpoint, SocketEvent};

/// A connection that carries datagrams, as the control plane hands it over for good.
pub struct Stream {
    pub socket: TcpStream,
    /// The state of a finished handshake.
    pub tls: Option<Box<ServerConnection>>,
    pub framing: Framing,
    /// What was received, and decrypted, before it was clear what the connection is.
    pub unread: Vec<u8>,
    /// The client's address, as it is or as a proxy tells it.
    pub remote: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// Dropped when the connection ends: its share of a limit.
    pub guard: Box<dyn Any + Send>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stream").field("framing", &self.framing).finish_non_exhaustive()
    }
}

/// A connection that no node has found worth keeping ends after this.
const PROBATION: Duration = Duration::from_secs(30);

/// A connection on which nothing arrives ends after this: an allocation may last an hour without a word (RFC 8656 §7.2).
/// Whoever has vanished without one is found sooner, by the keepalive of TCP.
const IDLE: Duration = Duration::from_secs(3_900);

/// Octets of media that wait for one connection; a quarter of a second of a large picture.
const QUEUE_LIMIT: usize = 64 << 10;

/// Octets that the kernel may hold unsent: what waits here can still be given up when it is late.
const NOT_SENT_MAX: u32 = 32 << 10;

/// Octets received from one connection in a turn, so that the others get their share.
const RECEIVE_MAX: usize = 64 << 10;

/// The same of what TLS has encrypted, which may come to very few octets, or to none: a record of one, or a new key.
pub(super) const ENCRYPTED_MAX: usize = 16 << 10;

/// Octets of the longest frame that is not whole yet.
const PARTIAL_MAX: usize = FRAME_LEN_MAX;

/// The same while no node keeps the connection: a request of a stranger is short, and there may be many strangers.
const PARTIAL_MAX_ON_PROBATION: usize = 4 << 10;

/// Connections that are received from in a turn; the others have the next one. What comes over UDP has its share too.
const RECEIVED_MAX: usize = 64;

/// Octets that are encrypted ahead: what is encrypted can no longer be given up.
const ENCRYPT_AHEAD: usize = 16 << 10;

#[derive(Debug)]
struct Connection {
    stream: Stream,
    generation: u32,
    /// The beginning of a frame that is not whole yet.
    partial: Vec<u8>,
    queue: SendQueue,
    received_at: Instant,
    /// When it ends unless a node keeps it.
    ends_at: Option<Instant>,
    wants_writable: bool,
    is_readable: bool,
    is_dirty: bool,
}

#[derive(Debug, Default)]
pub struct Streams {
    slots: Vec<Option<Connection>>,
    free: Vec<u32>,
    generation: u32,
    /// Have octets that no poll tells of: handed over and not looked at yet, decrypted beyond a turn's limit, or behind what
    /// may end the framing.
    unread: Vec<u32>,
    /// Found readable, and not received from yet: the others had their turn before.
    readable: VecDeque<u32>,
    /// How many were received from in this turn.
    received: usize,
    /// Have something to send.
    dirty: Vec<u32>,
    closed: Vec<SocketEvent>,
    /// Received octets, behind the partial frame of their connection.
    scratch: Vec<u8>,
}

/// How many of the octets that a connection brought were used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// The rest is no whole frame.
    Whole(usize),
    /// The rest need not be frames: what the node makes of those before decides, and it is looked at again.
    Until(usize),
}

/// What one connection brought: its ends, and octets that begin with a frame.
pub struct Received<'a> {
    pub local: Endpoint,
    pub remote: SocketAddr,
    pub framing: Framing,
    pub octets: &'a mut [u8],
}

/// Tells a connection from a socket among the polled descriptors.
const TOKEN: u64 = 1 << 62;

impl Streams {
    pub fn add(&mut self, poll: &Poll, stream: Stream, now: Instant) -> io::Result<()> {
        if stream.unread.len() > PARTIAL_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        tcp::prepare(&stream.socket)?;
        // Without it the kernel would queue seconds of media.
        socket2::SockRef::from(&stream.socket).set_tcp_notsent_lowat(NOT_SENT_MAX)?;
        let slot = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        poll.add(stream.socket.as_fd(), TOKEN | u64::from(slot))?;
        self.free.pop();
        self.generation = self.generation.wrapping_add(1);
        let mut stream = stream;
        let connection = Connection {
            generation: self.generation,
            partial: std::mem::take(&mut stream.unread),
            stream,
            queue: SendQueue::new(QUEUE_LIMIT),
            received_at: now,
            ends_at: Some(now + PROBATION),
            wants_writable: false,
            is_readable: false,
            is_dirty: false,
        };
        if slot as usize == self.slots.len() {
            self.slots.push(Some(connection));
        } else {
            self.slots[slot as usize] = Some(connection);
        }
        self.unread.push(slot);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether something happened that no descriptor will tell.
    pub fn is_waiting(&self) -> bool {
        !self.unread.is_empty() || !self.readable.is_empty() || !self.closed.is_empty()
    }

    /// Takes the connections out of what a poll found ready.
    pub fn take_ready(&mut self, ready: &mut Vec<crate::sockets::Readiness>) {
        if self.slots.is_empty() {
            return;
        }
        self.received = 0;
        let Streams { readable, unread, dirty, slots, .. } = self;
        for slot in unread.drain(..) {
            mark_readable(slots, readable, slot);
        }
        ready.retain(|ready| {
            let is_stream = ready.token & TOKEN != 0;
            if is_stream {
                let slot = ready.token as u32;
                mark_readable(slots, readable, slot);
                // It may be writable again.
                mark_dirty(slots, dirty, slot);
            }
            !is_stream
        });
    }

    /// Receives from the next connection that is ready and hands over what it brought; `handle` returns how many octets
    /// it has used, or `None` when they are no frames. Says whether there was one.
    pub fn receive_next(&mut self, now: Instant, handle: impl FnOnce(Received<'_>) -> Option<Used>) -> bool {
        if self.received == RECEIVED_MAX {
            return false;
        }
        let Some(slot) = self.readable.pop_front() else {
            return false;
        };
        let Some(Some(connection)) = self.slots.get_mut(slot as usize) else {
            return true;
        };
        self.received += 1;
        connection.is_readable = false;
        let scratch = &mut self.scratch;
        scratch.resize(PARTIAL_MAX + RECEIVE_MAX, 0);
        let before = connection.partial.len();
        scratch[..before].copy_from_slice(&connection.partial);
        connection.partial = Vec::new();
        let (filled, outcome) = receive(&mut connection.stream, scratch, before);
        let open = outcome != Reception::Over;
        if filled > before {
            connection.received_at = now;
        }
        let scratch = &mut scratch[..filled];
        let local = connection.endpoint(slot);
        let Stream { remote, framing, .. } = connection.stream;
        let received = Received { local, remote, framing, octets: scratch };
        let used = if received.octets.is_empty() { Some(Used::Whole(0)) } else { handle(received) };
        // Also when it ended: what came before the end counts.
        match used {
            Some(Used::Until(used)) => {
                // Open or not: what follows may be for a peer.
                connection.partial.extend_from_slice(&scratch[used..]);
                mark_dirty(&mut self.slots, &mut self.dirty, slot);
                self.unread.push(slot);
            }
            Some(Used::Whole(used)) if open && filled - used <= connection.partial_max() => {
                connection.partial.extend_from_slice(&scratch[used..]);
                if outcome == Reception::More && connection.stream.tls.is_some() {
                    self.unread.push(slot);
                }
                mark_dirty(&mut self.slots, &mut self.dirty, slot);
            }
            _ => self.close(slot),
        }
        true
    }

    /// Gives a connection away, with what was received of it and not used, and what it is still to be sent.
    pub fn take(&mut self, local: Endpoint) -> Option<(Stream, Vec<u8>, Vec<u8>)> {
        let slot = self.slot_of(local)?;
        let connection = self.slots[slot as usize].take()?;
        self.free.push(slot);
        Some((connection.stream, connection.partial, connection.queue.octets().to_vec()))
    }

    /// Ends a connection.
    pub fn end(&mut self, local: Endpoint) {
        if let Some(slot) = self.slot_of(local) {
            self.close(slot);
        }
    }

    /// The connection behind an endpoint.
    fn slot_of(&self, local: Endpoint) -> Option<u32> {
        let Endpoint::Stream { id, .. } = local else {
            return None;
        };
        let slot = id as u32;
        let connection = self.slots.get(slot as usize)?.as_ref()?;
        (u64::from(connection.generation) == id >> 32).then_some(slot)
    }

    pub fn is_encrypted(&self, local: Endpoint) -> bool {
        let connection = self.slot_of(local).and_then(|slot| self.slots[slot as usize].as_ref());
        connection.is_some_and(|connection| connection.stream.tls.is_some())
    }

    /// Queues a datagram, and returns how many were given up.
    pub fn enqueue(&mut self, local: Endpoint, parts: [&[u8]; 2]) -> u64 {
        let Some(slot) = self.slot_of(local) else {
            return 1;
        };
        let Some(connection) = &mut self.slots[slot as usize] else {
            return 1;
        };
        let lost = connection.queue.push(connection.stream.framing, parts);
        mark_dirty(&mut self.slots, &mut self.dirty, slot);
        lost
    }

    /// Sends what the kernel takes.
    pub fn flush(&mut self, poll: &Poll) {
        for slot in std::mem::take(&mut self.dirty) {
            let Some(Some(connection)) = self.slots.get_mut(slot as usize) else {
                continue;
            };
            connection.is_dirty = false;
            let Ok(blocked) = connection.send() else {
                self.close(slot);
                continue;
            };
            if blocked != connection.wants_writable {
                connection.wants_writable = blocked;
                let fd = connection.stream.socket.as_fd();
                if poll.watch_output(fd, TOKEN | u64::from(slot), blocked).is_err() {
                    self.close(slot);
                }
            }
        }
    }

    /// A node wants the connection to stay, or no longer does.
    pub fn keep(&mut self, local: Endpoint, keep: bool, now: Instant) {
        if let Some(slot) = self.slot_of(local)
            && let Some(connection) = &mut self.slots[slot as usize]
        {
            connection.ends_at = (!keep).then(|| now + PROBATION);
        }
    }

    /// Ends what nobody keeps, and what is silent. To be called about once a second.
    pub fn end_idle(&mut self, now: Instant) {
        for slot in 0..self.slots.len() as u32 {
            let Some(connection) = &self.slots[slot as usize] else {
                continue;
            };
            let ends_at = connection.ends_at.unwrap_or(connection.received_at + IDLE);
            if ends_at <= now {
                self.close(slot);
            }
        }
    }

    fn close(&mut self, slot: u32) {
        let Some(mut connection) = self.slots[slot as usize].take() else {
            return;
        };
        self.free.push(slot);
        self.closed
            .push(SocketEvent::StreamClosed { local: connection.endpoint(slot), remote: connection.stream.remote });
        if let Some(tls) = &mut connection.stream.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut &connection.stream.socket);
        }
    }

    /// Connections that have ended since the last call.
    pub fn take_closed(&mut self, events: &mut Vec<SocketEvent>) {
        events.append(&mut self.closed);
    }
}

/// None takes two shares of a turn, and each waits for those that were there before it.
fn mark_readable(slots: &mut [Option<Connection>], readable: &mut VecDeque<u32>, slot: u32) {
    if let Some(Some(connection)) = slots.get_mut(slot as usize)
        && !std::mem::replace(&mut connection.is_readable, true)
    {
        readable.push_back(slot);
    }
}

fn mark_dirty(slots: &mut [Option<Connection>], dirty: &mut Vec<u32>, slot: u32) {
    if let Some(Some(connection)) = slots.get_mut(slot as usize)
        && !std::mem::replace(&mut connection.is_dirty, true)
    {
        dirty.push(slot);
    }
}

/// What is left of a connection after it was received from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reception {
    /// Nothing for now.
    All,
    /// Perhaps more than is its share of a turn.
    More,
    Over,
}

/// Receives what is there, up to a limit. Also returns the end of what fills the buffer.
fn receive(stream: &mut Stream, buffer: &mut [u8], mut filled: usize) -> (usize, Reception) {
    // What is to be looked at again may be more than a partial frame.
    let limit = (filled + RECEIVE_MAX).min(buffer.len());
    let mut encrypted = 0;
    while filled < limit && encrypted < ENCRYPTED_MAX {
        let room = &mut buffer[filled..limit];
        let outcome = match &mut stream.tls {
            None => (&stream.socket).read(room).map(Got::of),
            Some(tls) => receive_encrypted(tls, &stream.socket, room),
        };
        match outcome {
            Ok(Got::End) => return (filled, Reception::Over),
            Ok(Got::Octets(count)) => filled += count,
            Ok(Got::Encrypted(count)) => encrypted += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (filled, Reception::All),
            Err(_) => return (filled, Reception::Over),
        }
    }
    (filled, Reception::More)
}

/// What a read gave.
#[derive(Debug)]
pub(super) enum Got {
    End,
    Octets(usize),
    /// So many octets of TLS; the next read tells what they come to.
    Encrypted(usize),
}

impl Got {
    pub fn of(count: usize) -> Got {
        if count == 0 { Got::End } else { Got::Octets(count) }
    }
}

pub(super) fn receive_encrypted(
    tls: &mut ServerConnection,
    mut socket: &TcpStream,
    room: &mut [u8],
) -> io::Result<Got> {
    // What is decrypted already comes first: the handshake may have brought it along.
    match tls.reader().read(room) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        read => return read.map(Got::of),
    }
    let count = tls.read_tls(&mut socket)?;
    if count == 0 {
        return Ok(Got::End);
    }
    tls.process_new_packets().map_err(io::Error::other)?;
    Ok(Got::Encrypted(count))
}

impl Connection {
    fn endpoint(&self, slot: u32) -> Endpoint {
        Endpoint::Stream { id: u64::from(self.generation) << 32 | u64::from(slot), ip: self.stream.local.ip() }
    }

    /// How much of a frame may wait for its rest.
    fn partial_max(&self) -> usize {
        if self.ends_at.is_some() { PARTIAL_MAX_ON_PROBATION } else { PARTIAL_MAX }
    }

    /// Sends as much as the kernel takes; says whether more waits.
    fn send(&mut self) -> io::Result<bool> {
        loop {
            let sent = match &mut self.stream.tls {
                None if self.queue.is_empty() => return Ok(false),
                None => (&self.stream.socket).write(self.queue.octets()).inspect(|&count| self.queue.advance(count)),
                Some(tls) if tls.wants_write() => tls.write_tls(&mut &self.stream.socket),
                Some(_) if self.queue.is_empty() => return Ok(false),
                Some(tls) => encrypt(tls, &self.queue).inspect(|&count| self.queue.advance(count)),
            };
            match sent {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Encrypts what waits, and returns how many octets of it. Each frame gets a record of its own: there are clients
/// (coturn's among them) that look for one message in a record and lose what stands behind it.
fn encrypt(tls: &mut ServerConnection, queue: &SendQueue) -> io::Result<usize> {
    let mut encrypted = 0;
    for frame in queue.frames() {
        let count = tls.writer().write(frame)?;
        encrypted += count;
        if count < frame.len() || encrypted >= ENCRYPT_AHEAD {
            break;
        }
    }
    Ok(encrypted)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

    use super::*;

    /// Both ends of a connection whose handshake is over.
    pub fn connected() -> (ClientConnection, ServerConnection) {
        let made = rcgen::generate_simple_self_signed(vec!["calls.example.org".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let server =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.into()], key).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("calls.example.org").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.wants_write() || server.wants_write() {
            let mut flight = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut flight).unwrap();
            }
            read(&flight, |octets| server.read_tls(octets));
            server.process_new_packets().unwrap();
            flight.clear();
            while server.wants_write() {
                server.write_tls(&mut flight).unwrap();
            }
            read(&flight, |octets| client.read_tls(octets));
            client.process_new_packets().unwrap();
        }
        (client, server)
    }

    fn read(mut octets: &[u8], mut read: impl FnMut(&mut &[u8]) -> io::Result<usize>) {
        while !octets.is_empty() {
            read(&mut octets).unwrap();
        }
    }

    #[test]
    fn every_frame_has_a_record_of_its_own() {
        let (mut client, mut server) = connected();
        let frames: Vec<Vec<u8>> = (0..5).map(|number| [&[0x40, 0, 0, 60][..], &[number; 60]].concat()).collect();
        let mut queue = SendQueue::new(QUEUE_LIMIT);
        for frame in &frames {
            queue.push(Framing::Turn, [frame, &[]]);
        }
        assert_eq!(encrypt(&mut server, &queue).unwrap(), queue.len());
        let mut sent = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut sent).unwrap();
        }
        let mut rest = &sent[..];
        for frame in frames {
            // RFC 8446 §5.1: type, version, and the length of what follows.
            let (record, behind) = rest.split_at(5 + usize::from(u16::from_be_bytes([rest[3], rest[4]])));
            rest = behind;
            read(record, |octets| client.read_tls(octets));
            client.process_new_packets().unwrap();
            let mut plain = [0; 100];
            assert_eq!(client.reader().read(&mut plain).unwrap(), frame.len());
            assert_eq!(plain[..frame.len()], frame);
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn no_more_is_encrypted_ahead_than_can_be_given_up() {
        let (_, mut server) = connected();
        let mut queue = SendQueue::new(QUEUE_LIMIT);
        for number in 0..40 {
            queue.push(Framing::Ice, [&[128; 12], &[number; 1188]]);
        }
        let encrypted = encrypt(&mut server, &queue).unwrap();
        assert!((ENCRYPT_AHEAD..ENCRYPT_AHEAD + 1202).contains(&encrypted));
        assert_eq!(encrypted % 1202, 0, "whole frames");
        queue.advance(encrypted + 10);
        assert_eq!(queue.frames().next().map(<[u8]>::len), Some(1192));
    }
}
