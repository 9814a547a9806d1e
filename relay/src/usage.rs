//! What an operator may see of an allocation.

use std::net::SocketAddr;
use std::time::Duration;

use datapath::counters::PacketsAndBytes;
use datapath::{Endpoint, Now};

use crate::allocation::Allocation;
use crate::server::Server;

/// What an allocation has relayed: data alone, without what TURN puts before it. Over TCP connections to peers (RFC 6062)
/// octets pass and no packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    pub to_peers: PacketsAndBytes,
    pub to_client: PacketsAndBytes,
}

/// An allocation at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Whom the quota counts.
    pub user: Box<[u8]>,
    pub client: SocketAddr,
    /// Where the client talks to: a UDP listener, or a TCP connection.
    pub local: Endpoint,
    pub relayed: SocketAddr,
    pub age: Duration,
    /// Until it ends unless the client refreshes it.
    pub remaining: Duration,
    /// Live ones.
    pub permissions: usize,
    pub channels: usize,
    pub data: Relayed,
}

/// Some of the allocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsagePage {
    pub usages: Vec<Usage>,
    /// Where the next page begins, if there may be one.
    pub next: Option<usize>,
}

/// Places that one page looks at: some 30 µs between two turns of a worker.
const PAGE_LEN: usize = 256;

impl Server {
    /// The allocations from a place of the table on; the first page begins at 0. An allocation that lives throughout is
    /// on one page and one only.
    pub fn usage(&self, now: Now, from: usize) -> UsagePage {
        let places = self.allocations.places();
        let end = from.saturating_add(PAGE_LEN);
        let page = places.get(from..end.min(places.len())).unwrap_or_default();
        UsagePage {
            usages: page.iter().filter_map(|place| Some(place.allocation.as_ref()?.usage(now))).collect(),
            next: (end < places.len()).then_some(end),
        }
    }
}

impl Allocation {
    fn usage(&self, now: Now) -> Usage {
        Usage {
            user: self.user.clone(),
            client: self.client.remote,
            local: self.client.local,
            relayed: self.relayed,
            age: now.instant.saturating_duration_since(self.began),
            remaining: self.expires.saturating_duration_since(now.instant),
            permissions: self.permissions.live(now.instant),
            channels: self.channels.bound(now.instant),
            data: self.data,
        }
    }
}
