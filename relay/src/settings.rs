use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::quota::Holding;
use crate::{Credentials, PeerPolicy, Quotas, TcpQuota};

/// What a relay serves, to whom, and how much of it.
#[derive(Clone, Debug)]
pub struct Settings {
    pub credentials: Credentials,
    pub peer_policy: PeerPolicy,
    /// The IP addresses of relayed transport addresses, as peers see them. A client gets the one it talks to if that
    /// is among them, else the first of the wanted family.
    pub relayed: Vec<IpAddr>,
    /// The ports of relayed transport addresses, those of all workers.
    pub ports: RangeInclusive<u16>,
    pub share: Share,
    /// The transport addresses of the SFU's ICE candidates: reached in memory only.
    pub candidates: Vec<SocketAddr>,
    /// Where new clients are sent while this server drains.
    pub alternate_server: Option<SocketAddr>,
    /// The key of the nonces. All workers have the same.
    pub nonce_key: [u8; 32],
    pub limits: Limits,
}

/// What of [`Settings`] may change while a relay serves.
#[derive(Clone, Debug)]
pub struct Terms {
    pub credentials: Credentials,
    pub peer_policy: PeerPolicy,
    pub alternate_server: Option<SocketAddr>,
    pub limits: Limits,
}

/// Which of several workers a relay is of, and what it shares with the others.
#[derive(Clone, Debug)]
pub struct Share {
    pub worker: u8,
    /// Each has a part of the ports ([`crate::partition`]).
    pub workers: u8,
    pub quotas: Quotas,
    pub tcp: TcpQuota,
}

impl Share {
    /// One for each of so many workers.
    pub fn among(workers: u8) -> impl Iterator<Item = Share> {
        let (quotas, tcp) = (Quotas::default(), TcpQuota::default());
        (0..workers).map(move |worker| Share { worker, workers, quotas: quotas.clone(), tcp: tcp.clone() })
    }
}

impl Default for Share {
    /// Of the only worker.
    fn default() -> Share {
        Share { worker: 0, workers: 1, quotas: Quotas::default(), tcp: TcpQuota::default() }
    }
}

/// Bounds on everything that grows with what clients send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub allocations: usize,
    pub allocations_per_user: usize,
    /// Per source /24 (IPv4) or /64 (IPv6).
    pub allocations_per_prefix: usize,
    /// IP addresses per allocation.
    pub permissions: usize,
    pub permissions_per_user: usize,
    pub permissions_per_prefix: usize,
    pub permissions_in_total: usize,
    /// Channels per allocation.
    pub channels: usize,
    pub channels_per_user: usize,
    pub channels_per_prefix: usize,
    pub channels_in_total: usize,
    /// Octets per second of one allocation, both ways together.
    pub octets_per_second: u64,
    /// The same of all allocations of a user; `None`: no limit.
    pub octets_per_second_of_user: Option<u64>,
    pub octets_per_second_of_prefix: Option<u64>,
    pub octets_per_second_in_total: Option<u64>,
    /// `None`: no allocation for TCP (RFC 6062).
    pub tcp: Option<TcpLimits>,
    /// What a client gets that asks for less, or for nothing (RFC 8656 §7.2: 10 minutes).
    pub lifetime_default: Duration,
    /// RFC 8656 §7.2: at most one hour is recommended.
    pub lifetime_max: Duration,
    /// How long a nonce is good for.
    pub nonce_lifetime: Duration,
    pub rate: RateLimits,
}

/// TCP connections to and from peers, those included that no client has bound yet or that are only tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    pub connections: usize,
    pub connections_per_user: usize,
    pub connections_per_allocation: usize,
    /// Connect requests that open a socket: those that fail give their connection back at once, and would scan ports.
    pub rate: RateLimits,
}

impl Default for TcpLimits {
    fn default() -> TcpLimits {
        TcpLimits {
            connections: 1_000,
            connections_per_user: 100,
            connections_per_allocation: 32,
            rate: RateLimits { per_prefix: 20, per_prefix_burst: 100, total: 400, total_burst: 2_000 },
        }
    }
}

/// Per second: answers to requests that have not been authenticated, or what [`TcpLimits::rate`] counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Per source /24 or /64. An IPv6 /48 has eight times as much, and a /32 an eighth of the total.
    pub per_prefix: u32,
    pub per_prefix_burst: u32,
    pub total: u32,
    pub total_burst: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            allocations: 10_000,
            allocations_per_user: 40,
            allocations_per_prefix: 1_000,
            permissions: 64,
            permissions_per_user: usize::MAX,
            permissions_per_prefix: usize::MAX,
            permissions_in_total: usize::MAX,
            channels: 64,
            channels_per_user: usize::MAX,
            channels_per_prefix: usize::MAX,
            channels_in_total: usize::MAX,
            octets_per_second: 125_000_000,
            octets_per_second_of_user: None,
            octets_per_second_of_prefix: None,
            octets_per_second_in_total: None,
            tcp: None,
            lifetime_default: Duration::from_secs(600),
            lifetime_max: Duration::from_secs(3600),
            nonce_lifetime: Duration::from_secs(3600),
            rate: RateLimits::default(),
        }
    }
}

impl RateLimits {
    /// The part of one worker: a source's five-tuples are spread over all of them.
    pub(crate) fn divided(self, workers: u8) -> RateLimits {
        let part = |limit: u32| (limit / u32::from(workers)).max(1);
        RateLimits {
            per_prefix: part(self.per_prefix),
            per_prefix_burst: part(self.per_prefix_burst),
            total: part(self.total),
            total_burst: part(self.total_burst),
        }
    }
}

impl Limits {
    /// Without TCP nothing asks for it.
    pub(crate) fn connect_rate(&self) -> RateLimits {
        self.tcp.clone().unwrap_or_default().rate
    }

    pub(crate) fn of_user(&self) -> Holding {
        Holding {
            allocations: self.allocations_per_user,
            permissions: self.permissions_per_user,
            channels: self.channels_per_user,
        }
    }

    pub(crate) fn of_prefix(&self) -> Holding {
        Holding {
            allocations: self.allocations_per_prefix,
            permissions: self.permissions_per_prefix,
            channels: self.channels_per_prefix,
        }
    }

    pub(crate) fn in_total(&self) -> Holding {
        Holding {
            allocations: self.allocations,
            permissions: self.permissions_in_total,
            channels: self.channels_in_total,
        }
    }
}

impl Default for RateLimits {
    fn default() -> RateLimits {
        RateLimits { per_prefix: 50, per_prefix_burst: 400, total: 20_000, total_burst: 40_000 }
    }
}
