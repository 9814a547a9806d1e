//! Invariants of the server, judged from what crosses its wire. They hold in every scenario.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use datapath::stun::{ChannelData, Class, Key, Message, Method, TransactionId};

use crate::world::{Check, HostId, Passage};

fn hash(octets: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(octets);
    hasher.finish()
}

/// Bytes to an address that has proved nothing stay under a fixed multiple of the bytes from it.
pub struct Amplification {
    server: HostId,
    /// The listeners. What leaves by a relayed address is the client's doing: [`Relaying`] judges it.
    ports: Vec<u16>,
    keys: Vec<Key>,
    /// Octets from and to, with IP and UDP headers; `None`: it has shown a message with a valid MESSAGE-INTEGRITY.
    addresses: BTreeMap<SocketAddr, Option<(u64, u64)>>,
}

impl Amplification {
    /// The largest answer to somebody unknown is the 401 with realm and nonce.
    pub const MULTIPLE: u64 = 3;

    pub fn new(server: HostId, ports: Vec<u16>) -> Amplification {
        Amplification { server, ports, keys: Vec::new(), addresses: BTreeMap::new() }
    }

    /// A key that only somebody entitled has.
    pub fn add_key(&mut self, key: Key) {
        self.keys.push(key);
    }

    /// Forgets an address: what it proved holds no longer.
    pub fn forget(&mut self, address: SocketAddr) {
        self.addresses.remove(&address);
    }

    fn is_proof(&self, payload: &[u8]) -> bool {
        Message::parse(payload).is_ok_and(|message| self.keys.iter().any(|key| message.verify_integrity(key)))
    }
}

impl Check for Amplification {
    fn handle_sent(&mut self, passage: &Passage<'_>) {
        if passage.host != self.server || !self.ports.contains(&passage.source.port()) {
            return;
        }
        if let Some((from, to)) = self.addresses.entry(passage.destination).or_insert(Some((0, 0))) {
            *to += passage.payload.len() as u64 + 28;
            assert!(
                *to <= *from * Amplification::MULTIPLE,
                "{} bytes to {}, which has proved nothing and sent {}",
                *to,
                passage.destination,
                *from
            );
        }
    }

    fn handle_delivered(&mut self, passage: &Passage<'_>) {
        if passage.host != self.server {
            return;
        }
        let proof = self.is_proof(passage.payload);
        let entry = self.addresses.entry(passage.source).or_insert(Some((0, 0)));
        match entry {
            Some(_) if proof => *entry = None,
            Some((from, _)) => *from += passage.payload.len() as u64 + 28,
            None => {}
        }
    }
}

/// Per SSRC that the server sends: no gap of its own making, and no number used for two packets (under an AEAD that
/// would use a nonce twice).
pub struct Sequences {
    server: HostId,
    /// By SSRC.
    streams: BTreeMap<u32, Stream>,
}

#[derive(Default)]
struct Stream {
    highest: u64,
    holes: BTreeSet<u64>,
    /// What was sent under each number.
    sent: BTreeMap<u64, u64>,
}

impl Sequences {
    pub fn new(server: HostId) -> Sequences {
        Sequences { server, streams: BTreeMap::new() }
    }

    /// Numbers that were left out and never filled, over all streams.
    pub fn holes(&self) -> usize {
        self.streams.values().map(|stream| stream.holes.len()).sum()
    }

    /// Packets under numbers of their own, over all streams.
    pub fn packets(&self) -> usize {
        self.streams.values().map(|stream| stream.sent.len()).sum()
    }
}

impl Check for Sequences {
    fn handle_sent(&mut self, passage: &Passage<'_>) {
        let mut packet = passage.payload;
        if passage.host != self.server {
            return;
        }
        if let Some(data) = ChannelData::parse(packet).filter(|_| matches!(packet.first(), Some(64..=127))) {
            packet = &packet[data.payload];
        }
        let &[128..=191, kind, s0, s1, _, _, _, _, a, b, c, d, ..] = packet else { return };
        if matches!(kind, 192..=223) {
            return;
        }
        let number = u16::from_be_bytes([s0, s1]);
        let ssrc = u32::from_be_bytes([a, b, c, d]);
        let stream = self.streams.entry(ssrc).or_default();
        if stream.sent.is_empty() {
            stream.highest = 1 << 16 | u64::from(number);
        }
        let index = sfu::sequence::unwrap_16(stream.highest, number);
        if index > stream.highest {
            stream.holes.extend(stream.highest + 1..index);
            stream.highest = index;
        } else {
            stream.holes.remove(&index);
        }
        let before = stream.sent.insert(index, hash(packet));
        assert!(before.is_none_or(|before| before == hash(packet)), "SSRC {ssrc:08x} used {number} for two packets");
    }

    fn handle_delivered(&mut self, _: &Passage<'_>) {}
}

/// TURN: nothing goes to or comes from a peer without a live permission, and what is relayed is identical.
pub struct Relaying {
    server: HostId,
    server_ip: IpAddr,
    requests: BTreeMap<[u8; 12], Request>,
    /// Relayed transport addresses by their client.
    allocations: BTreeMap<SocketAddr, SocketAddr>,
    /// When the permission of a client for a peer's IP address ends.
    permissions: BTreeMap<(SocketAddr, IpAddr), Duration>,
    channels: BTreeMap<(SocketAddr, u16), SocketAddr>,
    /// How often a payload may still be relayed: client, peer, direction, content.
    owed: BTreeMap<(SocketAddr, SocketAddr, bool, u64), u32>,
    /// Payloads that were relayed outward and inward.
    pub relayed: (u64, u64),
}

struct Request {
    client: SocketAddr,
    peers: Vec<SocketAddr>,
    channel: Option<u16>,
}

/// RFC 8656 §9.
const PERMISSION: Duration = Duration::from_secs(300);

impl Relaying {
    pub fn new(server: HostId, server_ip: IpAddr) -> Relaying {
        Relaying {
            server,
            server_ip,
            requests: BTreeMap::new(),
            allocations: BTreeMap::new(),
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
            owed: BTreeMap::new(),
            relayed: (0, 0),
        }
    }

    fn client_of(&self, relayed: SocketAddr) -> Option<SocketAddr> {
        self.allocations.iter().find(|(_, known)| **known == relayed).map(|(client, _)| *client)
    }

    fn owe(&mut self, client: SocketAddr, peer: SocketAddr, outward: bool, payload: &[u8]) {
        *self.owed.entry((client, peer, outward, hash(payload))).or_default() += 1;
    }

    fn relay(&mut self, at: Duration, client: SocketAddr, peer: SocketAddr, outward: bool, payload: &[u8]) {
        let until = self.permissions.get(&(client, peer.ip()));
        assert!(until.is_some_and(|&until| at <= until), "{client} and {peer}: relayed without a live permission");
        if peer.ip() != self.server_ip {
            let owed = self.owed.get_mut(&(client, peer, outward, hash(payload)));
            let owed = owed.filter(|owed| **owed > 0).expect("what is relayed is what was sent");
            *owed -= 1;
        }
        let count = if outward { &mut self.relayed.0 } else { &mut self.relayed.1 };
        *count += 1;
    }
}

impl Check for Relaying {
    fn handle_delivered(&mut self, passage: &Passage<'_>) {
        if passage.host != self.server {
            return;
        }
        if let Some(client) = self.client_of(passage.destination) {
            self.owe(client, passage.source, false, passage.payload);
            return;
        }
        let client = passage.source;
        match passage.payload.first() {
            Some(64..=127) => {
                let Some(data) = ChannelData::parse(passage.payload) else { return };
                if let Some(&peer) = self.channels.get(&(client, data.number)) {
                    self.owe(client, peer, true, &passage.payload[data.payload]);
                }
            }
            Some(0..=3) => {
                let Ok(message) = Message::parse(passage.payload) else { return };
                if message.method() == Method::SEND {
                    if let Some((peer, data)) = message.xor_peer_address().zip(message.data()) {
                        self.owe(client, peer, true, data);
                    }
                } else if message.class() == Class::Request {
                    let TransactionId(id) = message.transaction_id();
                    let peers = message.xor_peer_addresses().collect();
                    self.requests.insert(id, Request { client, peers, channel: message.channel_number() });
                }
            }
            _ => {}
        }
    }

    fn handle_sent(&mut self, passage: &Passage<'_>) {
        if passage.host != self.server {
            return;
        }
        let Passage { at, payload, .. } = *passage;
        if let Some(client) = self.client_of(passage.source) {
            self.relay(at, client, passage.destination, true, payload);
            return;
        }
        let client = passage.destination;
        match payload.first() {
            Some(64..=127) => {
                let data = ChannelData::parse(payload).expect("the server sends ChannelData");
                let peer = self.channels.get(&(client, data.number)).copied();
                let peer = peer.expect("a channel that was bound");
                self.relay(at, client, peer, false, &payload[data.payload]);
            }
            Some(0..=3) => {
                let message = Message::parse(payload).expect("the server sends STUN");
                if message.method() == Method::DATA {
                    let peer = message.xor_peer_address().expect("a Data indication names its peer");
                    if let Some(data) = message.data() {
                        self.relay(at, client, peer, false, data);
                    }
                    return;
                }
                let TransactionId(id) = message.transaction_id();
                let Some(request) = self.requests.get(&id).filter(|_| message.class() == Class::SuccessResponse) else {
                    return;
                };
                assert_eq!(request.client, client, "an answer goes to whom it answers");
                match message.method() {
                    Method::ALLOCATE => {
                        let relayed = message.xor_relayed_address().expect("an allocation has an address");
                        self.allocations.insert(client, relayed);
                    }
                    Method::CREATE_PERMISSION | Method::CHANNEL_BIND => {
                        for peer in &request.peers {
                            self.permissions.insert((client, peer.ip()), at + PERMISSION);
                            if let Some(channel) = request.channel {
                                self.channels.insert((client, channel), *peer);
                            }
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}
