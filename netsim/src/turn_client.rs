//! A TURN client (RFC 8656): one allocation, a channel or a permission for each peer.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use datapath::stun::{Class, ErrorCode, Key, Message, Method, TransactionId, Writer, channel_data};
use datapath::{Endpoint, Entropy, Outbox};
use md5::{Digest, Md5};

/// A request is sent again this long after the last time, until it is answered.
const RETRY: Duration = Duration::from_millis(500);
/// Permissions last 5 minutes (RFC 8656 §9), so what makes them is repeated after 4.
const REFRESH: Duration = Duration::from_secs(240);
const UDP: u8 = 17;

#[derive(Clone, Debug)]
pub struct TurnAccount {
    pub username: String,
    pub password: String,
}

impl TurnAccount {
    /// RFC 8489 §9.2.2.
    pub fn key(&self, realm: &[u8]) -> Key {
        let mut hash = Md5::new();
        for part in [self.username.as_bytes(), b":", realm, b":", self.password.as_bytes()] {
            hash.update(part);
        }
        Key::new(&hash.finalize())
    }
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    address: SocketAddr,
    channel: Option<u16>,
    /// When its channel or permission was last confirmed.
    confirmed: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Allocate,
    Refresh,
    /// Index of the peer.
    Peer(usize),
}

pub struct TurnClient {
    server: SocketAddr,
    local: Endpoint,
    account: TurnAccount,
    entropy: Entropy,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: Option<Key>,
    pub relayed: Option<SocketAddr>,
    allocation_confirmed: Option<Instant>,
    lifetime: Duration,
    peers: Vec<Peer>,
    outstanding: Option<(Request, TransactionId)>,
    next: Option<Instant>,
    /// Error codes that were answered, but 401 and 438.
    pub refusals: Vec<u16>,
}

/// What arrived from a peer: who it is, and where in the datagram.
pub type FromPeer = (SocketAddr, Range<usize>);

impl TurnClient {
    pub fn new(
        server: SocketAddr,
        local: Endpoint,
        account: TurnAccount,
        now: Instant,
        entropy: Entropy,
    ) -> TurnClient {
        TurnClient {
            server,
            local,
            account,
            entropy,
            realm: Vec::new(),
            nonce: Vec::new(),
            key: None,
            relayed: None,
            allocation_confirmed: None,
            lifetime: Duration::from_secs(600),
            peers: Vec::new(),
            outstanding: None,
            next: Some(now),
            refusals: Vec::new(),
        }
    }

    /// Adds a peer, by a channel or (without) by a permission and Send indications.
    pub fn add_peer(&mut self, now: Instant, address: SocketAddr, channel: Option<u16>) {
        self.peers.push(Peer { address, channel, confirmed: None });
        self.next = Some(now);
    }

    pub fn is_ready(&self, peer: SocketAddr) -> bool {
        self.peers.iter().any(|known| known.address == peer && known.confirmed.is_some())
    }

    /// The end that its datagrams leave by, after a change of address.
    pub fn set_local(&mut self, local: Endpoint) {
        self.local = local;
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    pub fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if self.next.is_none_or(|at| now < at) {
            return;
        }
        let due = |at: Option<Instant>, after: Duration| at.is_none_or(|at| now.saturating_duration_since(at) >= after);
        let request = if let Some((request, _)) = self.outstanding {
            Some(request)
        } else if self.relayed.is_none() {
            Some(Request::Allocate)
        } else if due(self.allocation_confirmed, self.lifetime / 2) {
            Some(Request::Refresh)
        } else {
            self.peers.iter().position(|peer| due(peer.confirmed, REFRESH)).map(Request::Peer)
        };
        match request {
            Some(request) => self.send_request(now, request, out),
            None => {
                let peers = self.peers.iter().filter_map(|peer| Some(peer.confirmed? + REFRESH));
                let allocation = self.allocation_confirmed.map(|at| at + self.lifetime / 2);
                self.next = peers.chain(allocation).min();
            }
        }
    }

    fn send_request(&mut self, now: Instant, request: Request, out: &mut Outbox) {
        // A retransmission is a new transaction here: the answers are the same.
        let mut id = [0; 12];
        self.entropy.fill(&mut id);
        let id = TransactionId(id);
        self.outstanding = Some((request, id));
        self.next = Some(now + RETRY);
        let method = match request {
            Request::Allocate => Method::ALLOCATE,
            Request::Refresh => Method::REFRESH,
            Request::Peer(at) if self.peers[at].channel.is_some() => Method::CHANNEL_BIND,
            Request::Peer(_) => Method::CREATE_PERMISSION,
        };
        let mut buffer = [0; 512];
        let mut writer = Writer::new(&mut buffer, Class::Request, method, id);
        match request {
            Request::Allocate => {
                writer.requested_transport(UDP);
            }
            Request::Refresh => {}
            Request::Peer(at) => {
                if let Some(channel) = self.peers[at].channel {
                    writer.channel_number(channel);
                }
                writer.xor_peer_address(self.peers[at].address);
            }
        }
        let length = match &self.key {
            None => writer.finish_with_fingerprint(),
            Some(key) => {
                writer.username(self.account.username.as_bytes()).realm(&self.realm).nonce(&self.nonce);
                writer.finish_with_integrity(key, true)
            }
        };
        out.send(self.local, self.server, &buffer[..length.expect("a request has about 200 octets")]);
    }

    /// Sends to a peer that was added; nothing while it is not ready.
    pub fn send(&mut self, peer: SocketAddr, payload: &[u8], out: &mut Outbox) -> bool {
        let Some(known) = self.peers.iter().find(|known| known.address == peer && known.confirmed.is_some()) else {
            return false;
        };
        match known.channel {
            Some(channel) => {
                let header = channel_data::header(channel, payload.len() as u16);
                out.send(self.local, self.server, &[&header, payload].concat());
            }
            None => {
                let mut id = [0; 12];
                self.entropy.fill(&mut id);
                let mut buffer = vec![0; payload.len() + 64];
                let mut writer = Writer::new(&mut buffer, Class::Indication, Method::SEND, TransactionId(id));
                writer.xor_peer_address(peer).data(payload);
                let length = writer.finish().expect("64 octets hold the rest");
                out.send(self.local, self.server, &buffer[..length]);
            }
        }
        true
    }

    /// Takes what came from the server. Returns what a peer sent.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) -> Option<FromPeer> {
        if let Some(64..=127) = datagram.first() {
            let data = channel_data::ChannelData::parse(datagram)?;
            let peer = self.peers.iter().find(|peer| peer.channel == Some(data.number))?;
            return Some((peer.address, data.payload));
        }
        let message = Message::parse(datagram).ok()?;
        if message.class() == Class::Indication && message.method() == Method::DATA {
            return Some((message.xor_peer_address()?, message.data_range()?));
        }
        self.handle_answer(now, &message);
        None
    }

    fn handle_answer(&mut self, now: Instant, message: &Message<'_>) {
        let Some((request, id)) = self.outstanding else { return };
        if message.transaction_id() != id {
            return;
        }
        self.outstanding = None;
        self.next = Some(now);
        match message.error_code() {
            Some(ErrorCode::UNAUTHENTICATED | ErrorCode::STALE_NONCE) => {
                self.realm = message.realm().unwrap_or_default().to_vec();
                self.nonce = message.nonce().unwrap_or_default().to_vec();
                self.key = Some(self.account.key(&self.realm));
                return;
            }
            Some(code) => {
                self.refusals.push(code.0);
                if let Request::Peer(at) = request {
                    self.peers.remove(at);
                } else {
                    self.next = None;
                }
                return;
            }
            None => {}
        }
        let genuine = self.key.as_ref().is_some_and(|key| message.verify_integrity(key));
        if !genuine {
            return;
        }
        match request {
            Request::Allocate | Request::Refresh => {
                self.relayed = message.xor_relayed_address().or(self.relayed);
                self.allocation_confirmed = Some(now);
                if let Some(seconds) = message.lifetime() {
                    self.lifetime = Duration::from_secs(u64::from(seconds));
                }
            }
            Request::Peer(at) => self.peers[at].confirmed = Some(now),
        }
    }
}
