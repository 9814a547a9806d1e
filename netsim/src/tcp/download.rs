//! Transfers over TCP beside a call: who asks for them, and who answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use datapath::{Datagram, Deadline, Endpoint, Entropy, Node, Now, Outbox, SocketEvent};

use super::connection::Connection;
use super::segment::Segment;
use crate::loss::unit;

/// Octets of a request: how many are wanted, and what a browser says besides.
const REQUEST: usize = 300;
/// What stands for a SYN.
const SYN: [u8; 1] = [0];
/// So much is written ahead.
const AHEAD: usize = 64 << 10;
/// Octets of the IPv4 and UDP headers.
const WIRE_OVERHEAD: u64 = 28;

/// What is downloaded.
#[derive(Clone, Debug)]
pub enum Downloads {
    /// One transfer that has no end of its own.
    Long { span: Range<Duration> },
    /// Transfers of such sizes in octets, so many at once at most; after each a pause with an exponential distribution.
    Short { at_once: usize, octets: Range<u64>, pause_mean: Duration },
}

struct Download {
    connection: Connection,
    number: u16,
    wanted: u64,
    /// Octets of the stream, the SYN included.
    got: u64,
}

/// Downloads one thing after another.
struct User {
    download: Option<Download>,
    next: Option<Instant>,
}

/// The client.
pub struct Downloader {
    local: Endpoint,
    server: SocketAddr,
    downloads: Downloads,
    began: Instant,
    chance: Entropy,
    users: Vec<User>,
    numbers: u16,
    /// IP octets of what has arrived with data in it.
    pub received: u64,
    pub finished: u64,
}

impl Downloader {
    pub fn new(local: Endpoint, server: SocketAddr, downloads: Downloads, now: Instant, chance: Entropy) -> Downloader {
        let mut downloader = Downloader {
            local,
            server,
            downloads,
            began: now,
            chance,
            users: Vec::new(),
            numbers: 0,
            received: 0,
            finished: 0,
        };
        let count = match downloader.downloads {
            Downloads::Long { .. } => 1,
            Downloads::Short { at_once, .. } => at_once,
        };
        for _ in 0..count {
            let next = match &downloader.downloads {
                Downloads::Long { span } => Some(now + span.start),
                Downloads::Short { .. } => downloader.next_start(now),
            };
            downloader.users.push(User { download: None, next });
        }
        downloader
    }

    /// Whether something is being transferred now.
    pub fn is_active(&self) -> bool {
        self.users.iter().any(|user| user.download.is_some())
    }

    fn next_start(&mut self, now: Instant) -> Option<Instant> {
        match self.downloads {
            Downloads::Long { .. } => None,
            Downloads::Short { pause_mean, .. } => Some(now + pause_mean.mul_f64(-(1.0 - unit(&mut self.chance)).ln())),
        }
    }

    fn wanted(&mut self) -> u64 {
        match &self.downloads {
            Downloads::Long { .. } => u64::MAX,
            Downloads::Short { octets, .. } => octets.start + self.chance.below(octets.end - octets.start),
        }
    }

    /// When everything ends.
    fn end(&self) -> Option<Instant> {
        match &self.downloads {
            Downloads::Long { span } => Some(self.began + span.end),
            Downloads::Short { .. } => None,
        }
    }

    fn handle_segment(&mut self, now: Instant, segment: &Segment, octets: usize, out: &mut Outbox) {
        let of = |download: &&mut Download| download.number == segment.connection;
        let Some(download) = self.users.iter_mut().filter_map(|user| user.download.as_mut()).find(of) else {
            if !segment.reset {
                out.send(self.local, self.server, &reset(segment.connection));
            }
            return;
        };
        if !segment.data.is_empty() {
            self.received += octets as u64 + WIRE_OVERHEAD;
        }
        let mut octets = Vec::new();
        download.connection.handle(now, segment, &mut octets);
        if download.got == 0 && !octets.is_empty() {
            let mut request = download.wanted.to_be_bytes().to_vec();
            request.resize(REQUEST, 0);
            download.connection.sender.write(&request);
        }
        download.got += octets.len() as u64;
    }

    fn act(&mut self, now: Instant, out: &mut Outbox) {
        let is_over = self.end().is_some_and(|end| end <= now);
        for at in 0..self.users.len() {
            if self.users[at].next.is_some_and(|next| next <= now) {
                self.numbers = self.numbers.wrapping_add(1);
                let mut connection = Connection::new(self.numbers);
                connection.sender.write(&SYN);
                let download = Download { connection, number: self.numbers, wanted: self.wanted(), got: 0 };
                self.users[at] = User { download: Some(download), next: None };
            }
            let Some(download) = &mut self.users[at].download else { continue };
            download.connection.handle_timeout(now);
            while let Some(packet) = download.connection.poll_packet(now) {
                out.send(self.local, self.server, &packet);
            }
            let is_whole = download.got > download.wanted;
            if is_whole || is_over {
                out.send(self.local, self.server, &reset(download.number));
                self.finished += u64::from(is_whole);
                self.users[at] = User { download: None, next: self.next_start(now) };
            }
        }
    }
}

fn reset(connection: u16) -> Vec<u8> {
    Segment { connection, reset: true, ..Segment::default() }.write()
}

impl Node for Downloader {
    fn handle_batch(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        for datagram in batch {
            if let Some(segment) = Segment::read(datagram.payload) {
                self.handle_segment(now.instant, &segment, datagram.payload.len(), out);
            }
        }
        self.act(now.instant, out);
    }

    fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.act(now.instant, out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let end = self.end().filter(|_| self.is_active());
        let connections = self.users.iter().filter_map(|user| user.download.as_ref()?.connection.poll_timeout());
        let starts = self.users.iter().filter_map(|user| user.next);
        let at = connections.chain(starts).chain(end).min()?;
        Some(Deadline { at, reason: "a download" })
    }
}

struct Upload {
    local: Endpoint,
    connection: Connection,
    request: Vec<u8>,
    /// Octets that are yet to be written.
    left: u64,
}

/// Gives everybody as many octets as they ask for.
#[derive(Default)]
pub struct FileServer {
    uploads: BTreeMap<(SocketAddr, u16), Upload>,
}

impl FileServer {
    fn handle_segment(&mut self, now: Instant, from: &Datagram<'_>, segment: &Segment) {
        let key = (from.remote, segment.connection);
        if segment.reset {
            self.uploads.remove(&key);
            return;
        }
        let upload = self.uploads.entry(key).or_insert_with(|| Upload {
            local: from.local,
            connection: Connection::new(segment.connection),
            request: Vec::new(),
            left: 0,
        });
        let before = upload.request.len();
        upload.connection.handle(now, segment, &mut upload.request);
        if before == 0 && !upload.request.is_empty() {
            upload.connection.sender.write(&SYN);
        }
        let whole = SYN.len() + REQUEST;
        if before < whole && upload.request.len() >= whole {
            let wanted = upload.request[SYN.len()..].first_chunk().expect("it is whole");
            upload.left = u64::from_be_bytes(*wanted);
        }
    }

    fn act(&mut self, now: Instant, out: &mut Outbox) {
        for (&(remote, _), upload) in &mut self.uploads {
            let sender = &mut upload.connection.sender;
            let more = (AHEAD.saturating_sub(sender.unsent()) as u64).min(upload.left);
            sender.write(&vec![0; more as usize]);
            upload.left -= more;
            upload.connection.handle_timeout(now);
            while let Some(packet) = upload.connection.poll_packet(now) {
                out.send(upload.local, remote, &packet);
            }
        }
    }
}

impl Node for FileServer {
    fn handle_batch(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        for datagram in batch {
            if let Some(segment) = Segment::read(datagram.payload) {
                self.handle_segment(now.instant, datagram, &segment);
            }
        }
        self.act(now.instant, out);
    }

    fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.act(now.instant, out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let at = self.uploads.values().filter_map(|upload| upload.connection.poll_timeout()).min()?;
        Some(Deadline { at, reason: "a server of files" })
    }
}
