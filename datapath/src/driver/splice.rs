//! Two TCP connections that have become one: octets pass from either to the other as they are (RFC 6062 §5.4).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustls::ServerConnection;

use super::streams::{ENCRYPTED_MAX, Got, Stream, receive_encrypted};
use crate::Carried;

/// Octets read at once, and so the most that waits for a connection that takes no more (beside what its kernel holds).
pub const CHUNK: usize = 16 << 10;

/// Octets that one direction carries in a turn, so that the others get their share.
const TURN_MAX: usize = 64 << 10;

/// A splice over which nothing has passed for this long gets something before the others.
const PATIENCE: Duration = Duration::from_secs(1);

/// A splice of which one direction is over ends when nothing passes the other way for this long.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(900);

/// A client's connection, what waits in both directions, and what is over.
#[derive(Debug)]
pub struct Splice {
    client: Stream,
    to_peer: Way,
    to_client: Way,
    /// Octets of `to_peer` that came before the splice.
    unread: u64,
    moved_at: Instant,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    /// What the receiver has not taken; nothing is read before it has.
    waiting: Vec<u8>,
    taken: usize,
    /// The sender has no more.
    ended: bool,
    /// The receiver knows.
    told: bool,
}

/// How far a splice has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The kernel tells when more can be done.
    Waits,
    /// There may be more, in the next turn.
    More,
    Over,
}

impl Splice {
    /// `unread` has come from the client and `unsent` is on its way there.
    pub fn new(client: Stream, unread: Vec<u8>, unsent: Vec<u8>, now: Instant) -> Splice {
        let way = |waiting| Way { waiting, ..Way::default() };
        let count = unread.len() as u64;
        Splice { client, to_peer: way(unread), to_client: way(unsent), unread: count, moved_at: now }
    }

    /// Carries what can be carried now, at most so many octets.
    ///
    /// # Errors
    /// Either connection is broken, and so both are over.
    pub fn carry(
        &mut self,
        peer: &TcpStream,
        scratch: &mut [u8],
        allowance: usize,
        now: Instant,
    ) -> io::Result<(Progress, Carried)> {
        let mut client = End { socket: &self.client.socket, tls: self.client.tls.as_deref_mut() };
        let mut peer = End { socket: peer, tls: None };
        // Of little each direction gets half, and what the first leaves of its half.
        let (one, to_peer) = self.to_peer.carry(&mut client, &mut peer, scratch, allowance.div_ceil(2))?;
        let (other, to_client) = self.to_client.carry(&mut peer, &mut client, scratch, allowance - to_peer)?;
        let to_peer = to_peer as u64 + std::mem::take(&mut self.unread);
        let carried = Carried { to_peer, to_client: to_client as u64 };
        if carried != Carried::default() {
            self.moved_at = now;
        }
        let progress = match (one, other) {
            (Progress::Over, Progress::Over) => Progress::Over,
            (Progress::More, _) | (_, Progress::More) => Progress::More,
            _ => Progress::Waits,
        };
        Ok((progress, carried))
    }

    /// Whether nothing has passed for long.
    pub fn has_waited(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.moved_at) >= PATIENCE
    }

    /// Whether one direction is over and nobody uses the other.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.to_peer.ended != self.to_client.ended && now.saturating_duration_since(self.moved_at) >= HALF_CLOSED_IDLE
    }

    /// Octets that wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        [&self.to_peer, &self.to_client].iter().map(|way| way.waiting.len() - way.taken).sum()
    }
}

impl Way {
    /// Also says how many octets were carried.
    fn carry(
        &mut self,
        from: &mut End<'_>,
        to: &mut End<'_>,
        scratch: &mut [u8],
        allowance: usize,
    ) -> io::Result<(Progress, usize)> {
        let most = allowance.min(TURN_MAX);
        let (mut carried, mut encrypted) = (0, 0);
        loop {
            if !to.flush()? || !self.give(to)? {
                return Ok((Progress::Waits, carried));
            }
            if self.ended {
                if !self.told {
                    self.told = to.end()?;
                }
                return Ok((if self.told { Progress::Over } else { Progress::Waits }, carried));
            }
            let room = scratch.len().min(most - carried);
            if room == 0 || encrypted >= ENCRYPTED_MAX {
                return Ok((Progress::More, carried));
            }
            match from.read(&mut scratch[..room]) {
                Ok(Got::End) => self.ended = true,
                Ok(Got::Encrypted(count)) => encrypted += count,
                Ok(Got::Octets(count)) => {
                    carried += count;
                    let mut rest = &scratch[..count];
                    while !rest.is_empty()
                        && let Some(sent) = to.write(rest)?
                    {
                        rest = &rest[sent..];
                    }
                    self.waiting.extend_from_slice(rest);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok((Progress::Waits, carried)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends what waits; says whether all of it is gone.
    fn give(&mut self, to: &mut End<'_>) -> io::Result<bool> {
        while self.taken < self.waiting.len() {
            match to.write(&self.waiting[self.taken..])? {
                Some(sent) => self.taken += sent,
                None => return Ok(false),
            }
        }
        if !self.waiting.is_empty() {
            (self.waiting, self.taken) = (Vec::new(), 0);
        }
        Ok(true)
    }
}

/// One of the two connections.
struct End<'a> {
    socket: &'a TcpStream,
    tls: Option<&'a mut ServerConnection>,
}

impl End<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<Got> {
        match &mut self.tls {
            None => self.socket.read(room).map(Got::of),
            Some(tls) => receive_encrypted(tls, self.socket, room),
        }
    }

    /// How many octets were taken, or `None` when there is no room.
    fn write(&mut self, octets: &[u8]) -> io::Result<Option<usize>> {
        let Some(tls) = &mut self.tls else {
            return write(self.socket, octets);
        };
        if tls.wants_write() && !flush(tls, self.socket)? {
            return Ok(None);
        }
        let taken = tls.writer().write(&octets[..octets.len().min(CHUNK)])?;
        if taken == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        flush(tls, self.socket)?;
        Ok(Some(taken))
    }

    /// Sends what is encrypted; says whether all of it is gone.
    fn flush(&mut self) -> io::Result<bool> {
        match &mut self.tls {
            Some(tls) => flush(tls, self.socket),
            None => Ok(true),
        }
    }

    /// Tells that nothing more comes; says whether that is on its way.
    fn end(&mut self) -> io::Result<bool> {
        if let Some(tls) = &mut self.tls {
            // Once is enough: rustls makes no second alert.
            tls.send_close_notify();
            if !flush(tls, self.socket)? {
                return Ok(false);
            }
        }
        match self.socket.shutdown(Shutdown::Write) {
            // It is gone altogether, which reading tells.
            Err(error) if error.kind() != ErrorKind::NotConnected => Err(error),
            _ => Ok(true),
        }
    }
}

fn write(mut socket: &TcpStream, octets: &[u8]) -> io::Result<Option<usize>> {
    loop {
        match socket.write(octets) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(sent) => return Ok(Some(sent)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn flush(tls: &mut ServerConnection, mut socket: &TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(&mut socket) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
