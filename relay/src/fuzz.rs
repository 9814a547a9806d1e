//! The body of the fuzz target: an ordinary function, so that the test run replays the corpus.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use datapath::stun::{AttributeType, Class, Key, KeySha256, Message, Method, TransactionId, Writer};
use datapath::{Datagram, Endpoint, Entropy, Node, Now, Order, Outbox, PeerChange, SocketEvent};
use md5::{Digest, Md5};

use crate::credential::{PasswordAlgorithm, Seal, rest_password};
use crate::{Credentials, Limits, PeerPolicy, RateLimits, Server, Settings, Share, TcpLimits};

const LISTENER: Endpoint = Endpoint::Listener { index: 0, ip: IpAddr::V4(Ipv4Addr::new(5, 5, 5, 5)) };
const ALLOCATIONS: usize = 3;
/// Expires an hour after a history begins.
const REST_USERNAME: &str = "1800003600:carol";
const GRACE: Duration = Duration::from_secs(600);
const TCP: TcpLimits = TcpLimits {
    connections: 4,
    connections_per_user: 3,
    connections_per_allocation: 2,
    rate: RateLimits { per_prefix: 2, per_prefix_burst: 20, total: 20, total_burst: 40 },
};

/// A history: each step is an octet that says what happens, two octets of length, and that much data.
///
/// Asserts what must hold whatever happens: only admitted peers are reached from outside, strangers get little more than
/// they send, limits hold, and no deadline stays behind.
pub fn fuzz_server(data: &[u8]) {
    let mut history = History::new();
    let mut rest = data;
    while let [kind, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len()).min(2000);
        let (step, tail) = tail.split_at(length);
        history.take(*kind, step);
        rest = tail;
    }
}

struct History {
    server: Server,
    now: Now,
    out: Outbox,
    users: [User; 2],
    /// The last nonce of each client.
    nonces: [Vec<u8>; 4],
    relayed: Vec<SocketAddr>,
    policy: PeerPolicy,
    transactions: u32,
    /// How many of the next probed ports other programs have.
    taken: usize,
    /// The last CONNECTION-ID, mobility ticket and RESERVATION-TOKEN that a client was told.
    connection: u32,
    ticket: Vec<u8>,
    token: [u8; 8],
}

/// A user's name, and the key of either algorithm.
struct User {
    name: &'static str,
    seals: [Seal; 2],
}

impl User {
    fn new(name: &'static str, password: &str) -> User {
        let text = format!("{name}:hausruf:{password}");
        let sha256 = digest::digest(&digest::SHA256, text.as_bytes());
        let seals =
            [Seal::Sha1(Key::new(&Md5::digest(text.as_bytes()))), Seal::Sha256(KeySha256::new(sha256.as_ref()))];
        User { name, seals }
    }
}

impl History {
    #[expect(clippy::disallowed_methods, reason = "a monotonic time to start from; nothing depends on which")]
    fn new() -> History {
        let now = Now { instant: Instant::now(), unix: Duration::from_secs(1_800_000_000) };
        let relayed = [IpAddr::from([5, 5, 5, 5]), IpAddr::from([0x2600, 0, 0, 0, 0, 0, 0, 5u16])];
        let mut policy = PeerPolicy::default();
        policy.add_local(relayed);
        let settings = Settings {
            credentials: Credentials::new("hausruf")
                .with_user("bob", "builder")
                .with_secret(b"north")
                .with_expiry(GRACE),
            peer_policy: policy.clone(),
            relayed: relayed.to_vec(),
            ports: 50_000..=50_007,
            share: Share::default(),
            candidates: vec![SocketAddr::from(([5, 5, 5, 5], 3478))],
            alternate_server: Some(([198, 51, 100, 7], 3478).into()),
            nonce_key: [7; 32],
            limits: Limits {
                allocations: ALLOCATIONS,
                permissions: 4,
                permissions_per_user: 6,
                permissions_in_total: 5,
                channels: 4,
                channels_per_user: 3,
                octets_per_second_of_user: Some(1_000_000),
                octets_per_second_in_total: Some(1_000_000),
                tcp: Some(TCP),
                ..Limits::default()
            },
        };
        let mut history = History {
            server: Server::new(settings, Entropy::from_seed([1; 32]), now),
            now,
            out: Outbox::new(),
            users: [User::new("bob", "builder"), User::new(REST_USERNAME, &rest_password(b"north", REST_USERNAME))],
            nonces: Default::default(),
            relayed: Vec::new(),
            policy,
            transactions: 0,
            taken: 0,
            connection: 0,
            ticket: Vec::new(),
            token: [0; 8],
        };
        let mut challenge = [0; 20];
        Writer::new(&mut challenge, Class::Request, Method::ALLOCATE, TransactionId::default()).finish();
        for selector in 0..4 {
            history.deliver_from(client(selector), &mut challenge);
        }
        history
    }

    fn take(&mut self, kind: u8, step: &[u8]) {
        let selector = usize::from(kind >> 4);
        match (kind & 7, step) {
            (0, _) => self.deliver_from(client(selector), &mut step.to_vec()),
            (1 | 2, [method, attributes @ ..]) => self.signed(kind, Method(u16::from(*method)), attributes),
            (3, [peer, payload @ ..]) => {
                let address = self.relayed_address(selector);
                self.deliver(Endpoint::Relay { address }, peer_address(*peer), &mut payload.to_vec());
            }
            (4, [peer, payload @ ..]) => {
                let address = self.relayed_address(selector);
                self.deliver(Endpoint::Memory { address }, peer_address(*peer), &mut payload.to_vec());
            }
            (5, [seconds, ..]) => {
                self.now.instant += Duration::from_secs(u64::from(*seconds) * 8);
                self.now.unix += Duration::from_secs(u64::from(*seconds) * 8);
                if selector < 8 {
                    self.server.handle_timeout(self.now, &mut self.out);
                    assert!(self.server.poll_timeout().is_none_or(|deadline| deadline.at > self.now.instant));
                    self.look(usize::MAX);
                }
            }
            (7, [what, ..]) if what & 4 != 0 => {
                let id = self.connection.to_be_bytes();
                self.signed(kind & 0xF8 | 1, Method::CONNECTION_BIND, &[&[0x00, 0x2A, 0, 4][..], &id].concat());
            }
            (7, [what, peer, ..]) => {
                let (relayed, peer) = (self.relayed_address(selector), peer_address(*peer));
                let change = match what & 3 {
                    0 => PeerChange::Connected,
                    1 => PeerChange::Failed,
                    2 => PeerChange::Accepted,
                    _ => PeerChange::Closed,
                };
                self.server.handle_event(self.now, SocketEvent::Peer { relayed, peer, change }, &mut self.out);
                self.look(usize::MAX);
            }
            (6, [what, code, peer, ..]) => {
                let relayed = self.relayed_address(selector);
                let event = match what & 3 {
                    0 => SocketEvent::Opened { relayed },
                    1 => SocketEvent::Failed { relayed },
                    2 if what & 8 != 0 => {
                        let remote = client(selector);
                        SocketEvent::StreamClosed { local: local(remote), remote }
                    }
                    2 if what & 4 != 0 => {
                        self.taken = usize::from(*code % 12);
                        return;
                    }
                    2 => SocketEvent::Closed { relayed },
                    _ => {
                        let (remote, kind) = (peer_address(*peer), what >> 2);
                        SocketEvent::IcmpError { relayed, remote, kind, code: *code, mtu: u32::from(*code) << 3 }
                    }
                };
                self.server.handle_event(self.now, event, &mut self.out);
                self.look(usize::MAX);
            }
            _ => (),
        }
    }

    /// A request with these attributes, whatever they are, under a right seal: bob's, or that of a REST credential where
    /// bit 1 is set; with SHA-256 where bit 3 is. A ticket or token of one octet stands for the last that was told.
    fn signed(&mut self, how: u8, method: Method, attributes: &[u8]) {
        let attributes = &attributes[..attributes.len() & !3];
        let from = usize::from(how >> 4);
        let user = &self.users[usize::from(how >> 1 & 1)];
        let seal = &user.seals[usize::from(how >> 3 & 1)];
        self.transactions += 1;
        let mut id = [0; 12];
        id[..4].copy_from_slice(&self.transactions.to_be_bytes());
        let mut buffer = vec![0; 5 * attributes.len() + 512];
        let mut writer = Writer::new(&mut buffer, Class::Request, method, TransactionId(id));
        let mut rest = attributes;
        while let [k0, k1, l0, l1, tail @ ..] = rest {
            let kind = AttributeType(u16::from_be_bytes([*k0, *k1]));
            let length = usize::from(u16::from_be_bytes([*l0, *l1])).min(tail.len());
            let value = match kind {
                AttributeType::MOBILITY_TICKET if length == 1 => &self.ticket[..],
                AttributeType::RESERVATION_TOKEN if length == 1 => &self.token,
                _ => &tail[..length],
            };
            writer.attribute(kind, value);
            rest = tail.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        writer.username(user.name.as_bytes()).realm(b"hausruf").nonce(&self.nonces[from % 4]);
        if matches!(seal, Seal::Sha256(_)) {
            writer.attribute(AttributeType::PASSWORD_ALGORITHMS, &PasswordAlgorithm::OFFERED);
            writer.attribute(AttributeType::PASSWORD_ALGORITHM, &[0, 2, 0, 0]);
        }
        if let Some(length) = seal.finish(writer, false) {
            self.deliver_from(client(from), &mut buffer[..length]);
        }
    }

    fn deliver_from(&mut self, client: SocketAddr, payload: &mut [u8]) {
        self.deliver(local(client), client, payload);
    }

    fn deliver(&mut self, local: Endpoint, remote: SocketAddr, payload: &mut [u8]) {
        let length = payload.len();
        let received_at = self.now.instant;
        let mut batch = [Datagram { local, remote, ecn: 0, received_at, payload, origin: None }];
        self.server.handle_batch(self.now, &mut batch, &mut self.out);
        self.look(length);
    }

    /// Judges what came out for `received` octets, and learns what a client would learn.
    fn look(&mut self, received: usize) {
        for entry in self.out.entries().iter().chain(self.out.unfragmented_entries()) {
            match entry.local {
                Endpoint::Relay { .. } => assert!(self.policy.admits(entry.remote.ip()), "{}", entry.remote),
                Endpoint::Memory { .. } => unreachable!("kept apart"),
                Endpoint::Listener { .. } | Endpoint::Stream { .. } => {
                    let head = &self.out.arena()[entry.head.start as usize..entry.head.end as usize];
                    let message = Message::parse(head).ok();
                    let sealed =
                        message.is_some_and(|message| message.has_integrity() || message.has_integrity_sha256());
                    let answer = message.is_some_and(|message| message.class() != Class::Indication);
                    assert!(!answer || sealed || head.len() <= received.saturating_mul(5));
                    if let Some(nonce) = message.and_then(|message| message.nonce()) {
                        self.nonces[usize::from(entry.remote.port() - 1000)] = nonce.to_vec();
                    }
                    self.connection = message.and_then(|message| message.connection_id()).unwrap_or(self.connection);
                    self.token = message.and_then(|message| message.reservation_token()).unwrap_or(self.token);
                    if let Some(ticket) = message.and_then(|message| message.mobility_ticket()) {
                        self.ticket = ticket.to_vec();
                    }
                    self.relayed.extend(message.iter().flat_map(|message| message.xor_relayed_addresses()));
                }
            }
        }
        let orders = self.out.take_orders();
        self.out.clear();
        for order in orders {
            match order {
                Order::ConnectPeer { relayed, peer } => {
                    assert!(self.relayed.contains(&relayed) && relayed != peer);
                    // No client of this history listens at another's address.
                    assert!(self.policy.admits(peer.ip()) || self.relayed.contains(&peer), "{peer}");
                }
                Order::SplicePeer { client, .. } => assert!(matches!(client, Endpoint::Stream { .. })),
                Order::ClosePeer { .. } => {}
                Order::ProbeTcpRelay { relayed } => self.probed(relayed),
                Order::OpenRelay { relayed }
                | Order::CloseRelay { relayed }
                | Order::ListenTcp { relayed }
                | Order::CloseTcpRelay { relayed } => {
                    assert!(self.relayed.contains(&relayed));
                }
                Order::KeepStream { local, .. } => assert!(matches!(local, Endpoint::Stream { .. })),
                Order::ProbeRelay { relayed, .. } => self.probed(relayed),
            }
        }
        assert!(self.server.allocations() <= ALLOCATIONS);
        self.server.check_quotas();
        assert!(self.server.connections() <= TCP.connections);
        assert_eq!(self.server.allocations() == 0, self.server.poll_timeout().is_none());
    }

    /// What the kernel says of a port that is asked after.
    fn probed(&mut self, relayed: SocketAddr) {
        let event = match self.taken.checked_sub(1) {
            None => SocketEvent::Free { relayed },
            Some(rest) => {
                self.taken = rest;
                SocketEvent::Taken { relayed }
            }
        };
        self.server.handle_event(self.now, event, &mut self.out);
        self.look(usize::MAX);
    }

    fn relayed_address(&self, selector: usize) -> SocketAddr {
        let nobody = SocketAddr::from(([5, 5, 5, 5], 50_000));
        self.relayed.iter().rev().nth(selector % 4).copied().unwrap_or(nobody)
    }
}

fn client(selector: usize) -> SocketAddr {
    SocketAddr::from(([7, 7, 7, 7], 1000 + (selector % 4) as u16))
}

/// The last two clients come over TCP.
fn local(client: SocketAddr) -> Endpoint {
    match client.port() {
        port @ (1002 | 1003) => Endpoint::Stream { id: port.into(), ip: [5, 5, 5, 5].into() },
        _ => LISTENER,
    }
}

fn peer_address(selector: u8) -> SocketAddr {
    match selector & 3 {
        0 => SocketAddr::from(([9, 9, 9, 9], 4000)),
        1 => SocketAddr::from(([9, 9, 9, selector], 4000)),
        2 => SocketAddr::from(([5, 5, 5, 5], 3478)),
        _ => SocketAddr::from(([5, 5, 5, 5], 50_000 + u16::from(selector >> 2 & 7))),
    }
}
