use std::net::SocketAddr;
use std::time::{Duration, Instant};

use datapath::{Counters, Datagram, Discard, Endpoint, Entropy, Entry, Node, Now, Order, Outbox, SocketEvent};
use relay::{Credentials, Limits, PeerPolicy, Server, Settings, Share};

/// A peer on the public internet.
pub const PEER: &str = "9.9.9.9:4000";
/// The SFU's ICE candidate.
pub const CANDIDATE: &str = "5.5.5.5:3478";
pub const SECRET: &[u8] = b"north";
pub const UNIX: Duration = Duration::from_secs(1_800_000_000);

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A datagram that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub local: Endpoint,
    pub remote: SocketAddr,
    pub payload: Vec<u8>,
}

/// What a turn gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    pub sent: Vec<Sent>,
    /// What left with the DF bit.
    pub unfragmented: Vec<Sent>,
    pub orders: Vec<Order>,
}

impl Turn {
    pub fn is_silent(&self) -> bool {
        self.sent.is_empty() && self.unfragmented.is_empty() && self.orders.is_empty()
    }

    /// The one datagram that left.
    pub fn only(&self) -> &Sent {
        assert_eq!(self.sent.len(), 1, "{self:?}");
        &self.sent[0]
    }

    /// The relayed address whose socket was ordered, and nothing was sent.
    pub fn opens(&self) -> SocketAddr {
        assert!(self.sent.is_empty(), "{self:?}");
        match self.orders[..] {
            [Order::OpenRelay { relayed } | Order::ListenTcp { relayed }] => relayed,
            _ => panic!("{self:?}"),
        }
    }
}

/// A server and the time.
pub struct World {
    pub server: Server,
    pub now: Now,
    /// Ports that other programs have.
    pub taken: Vec<u16>,
    /// Ports that were asked after at the kernel.
    pub probed: Vec<u16>,
    out: Outbox,
}

pub fn settings() -> Settings {
    Settings {
        credentials: Credentials::new("hausruf").with_user("bob", "builder").with_secret(SECRET),
        peer_policy: PeerPolicy::default(),
        relayed: vec!["5.5.5.5".parse().unwrap(), "2600::5".parse().unwrap()],
        ports: 50_000..=50_099,
        share: Share::default(),
        candidates: vec![address(CANDIDATE)],
        alternate_server: Some(([198, 51, 100, 7], 3478).into()),
        nonce_key: [7; 32],
        limits: Limits::default(),
    }
}

impl World {
    pub fn new() -> World {
        World::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> World {
        World::seeded(3, change)
    }

    #[expect(clippy::disallowed_methods, reason = "a monotonic time to start from")]
    pub fn seeded(seed: u8, change: impl FnOnce(&mut Settings)) -> World {
        let mut settings = settings();
        change(&mut settings);
        let now = Now { instant: Instant::now(), unix: UNIX };
        World {
            server: Server::new(settings, Entropy::from_seed([seed; 32]), now),
            now,
            taken: Vec::new(),
            probed: Vec::new(),
            out: Outbox::new(),
        }
    }

    /// One datagram arrives.
    pub fn deliver(&mut self, local: Endpoint, remote: SocketAddr, payload: &[u8]) -> Turn {
        let mut received = payload.to_vec();
        let mut batch = [Datagram {
            local,
            remote,
            ecn: 0,
            received_at: self.now.instant,
            payload: &mut received,
            origin: Some(0),
        }];
        self.server.handle_batch(self.now, &mut batch, &mut self.out);
        self.turn(&received)
    }

    /// A peer's datagram arrives at the relay socket.
    pub fn deliver_outside(&mut self, relayed: SocketAddr, peer: &str, payload: &[u8]) -> Turn {
        self.deliver(Endpoint::Relay { address: relayed }, address(peer), payload)
    }

    /// Somebody within this program has a datagram for the relayed address.
    pub fn deliver_memory(&mut self, relayed: SocketAddr, peer: &str, payload: &[u8]) -> Turn {
        self.deliver(Endpoint::Memory { address: relayed }, address(peer), payload)
    }

    pub fn event(&mut self, event: SocketEvent) -> Turn {
        self.server.handle_event(self.now, event, &mut self.out);
        self.turn(&[])
    }

    pub fn opened(&mut self, relayed: SocketAddr) -> Turn {
        self.event(SocketEvent::Opened { relayed })
    }

    /// Time passes, and the server is woken whenever it wants to be.
    pub fn pass(&mut self, time: Duration) -> Turn {
        let end = self.now.instant + time;
        let mut turns = Turn::default();
        while let Some(deadline) = self.server.poll_timeout().filter(|deadline| deadline.at <= end) {
            let step = deadline.at.saturating_duration_since(self.now.instant);
            self.advance(step);
            self.server.handle_timeout(self.now, &mut self.out);
            let turn = self.turn(&[]);
            turns.sent.extend(turn.sent);
            turns.orders.extend(turn.orders);
        }
        self.advance(end - self.now.instant);
        turns
    }

    /// Time passes, and nobody wakes the server.
    pub fn advance(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.unix += time;
    }

    /// For so long.
    pub fn revoke(&mut self, user: &[u8], time: Duration) -> Turn {
        self.server.revoke(self.now, user, self.now.instant + time, &mut self.out).unwrap();
        self.turn(&[])
    }

    /// The credentials of these users, for so long. Returns how many allocations ended.
    pub fn withdraw(&mut self, users: &[&str], time: Duration) -> usize {
        let users: Vec<String> = users.iter().map(|user| (*user).to_owned()).collect();
        let ended = self.server.withdraw(self.now, &users, self.now.instant + time, &mut self.out);
        self.turn(&[]);
        ended
    }

    pub fn counters(&self) -> &Counters {
        &self.out.counters
    }

    pub fn discarded(&self, reason: Discard) -> u64 {
        self.out.counters.discarded(reason)
    }

    fn turn(&mut self, received: &[u8]) -> Turn {
        let sent = |entry: &Entry| Sent {
            local: entry.local,
            remote: entry.remote,
            payload: [
                &self.out.arena()[entry.head.start as usize..entry.head.end as usize],
                &received[entry.body.start as usize..entry.body.end as usize],
            ]
            .concat(),
        };
        let unfragmented = self.out.unfragmented_entries().iter().map(sent).collect();
        let sent = self.out.entries().iter().chain(self.out.memory_entries()).map(sent).collect();
        let is_probe = |order: &Order| matches!(order, Order::ProbeRelay { .. } | Order::ProbeTcpRelay { .. });
        let (probes, orders) = self.out.take_orders().into_iter().partition(is_probe);
        self.out.clear();
        let mut turn = Turn { sent, unfragmented, orders };
        let probes: Vec<Order> = probes;
        for probe in probes {
            let (relayed, with_next) = match probe {
                Order::ProbeRelay { relayed, with_next } => (relayed, with_next),
                Order::ProbeTcpRelay { relayed } => (relayed, false),
                _ => unreachable!(),
            };
            let ports = relayed.port()..=relayed.port() + u16::from(with_next);
            self.probed.push(relayed.port());
            let taken = ports.clone().any(|port| self.taken.contains(&port));
            let event = if taken { SocketEvent::Taken { relayed } } else { SocketEvent::Free { relayed } };
            let then = self.event(event);
            turn.sent.extend(then.sent);
            turn.orders.extend(then.orders);
        }
        turn
    }
}
