use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use datapath::Endpoint;
use datapath::stun::TransactionId;

use crate::allocations::Id;
use crate::bandwidth::Bandwidth;
use crate::channel::Channels;
use crate::credential::Origin;
use crate::permission::Permissions;
use crate::ports::Parity;
use crate::quota::Holding;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::usage::Relayed;
use crate::wish::Held;

/// RFC 8656 §7.2: a reserved port waits at least thirty seconds.
pub const RESERVATION_LIFETIME: Duration = Duration::from_secs(30);

/// A client as RFC 8656 §2 names it: its address, and the address and protocol it talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiveTuple {
    pub local: Endpoint,
    pub remote: SocketAddr,
}

impl Hash for FiveTuple {
    /// One write instead of the dozen of a derived implementation: this runs for every ChannelData.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut octets = [0; 36];
        let mut length = 0;
        let mut write = |bytes: &[u8]| {
            octets[length..length + bytes.len()].copy_from_slice(bytes);
            length += bytes.len();
        };
        match self.local {
            Endpoint::Listener { index, .. } => write(&[index]),
            Endpoint::Stream { id, .. } => write(&id.to_be_bytes()),
            Endpoint::Relay { .. } | Endpoint::Memory { .. } => write(&[0xFF]),
        }
        write(&self.remote.port().to_be_bytes());
        match self.remote.ip() {
            IpAddr::V4(ip) => write(&ip.octets()),
            IpAddr::V6(ip) => write(&ip.octets()),
        }
        state.write(&octets[..length]);
    }
}

/// A relayed transport address and what its client may do with it (RFC 8656 §3.2).
#[derive(Debug)]
pub struct Allocation {
    pub client: FiveTuple,
    pub relayed: SocketAddr,
    pub username: Box<[u8]>,
    /// Whom the quota counts.
    pub user: Box<[u8]>,
    /// What is behind the credential that it was last refreshed with.
    pub origin: Origin,
    /// The request that made it: its retransmission gets the same answer (RFC 8656 §7.2).
    pub transaction_id: TransactionId,
    /// Seconds, as granted in the answer to that request.
    pub lifetime_granted: u32,
    pub expires: Instant,
    /// The deadline that there is: the earliest end of the allocation, its permissions and its channels, or before it
    /// after a refresh.
    pub wake_at: Instant,
    pub socket: RelaySocket,
    pub permissions: Permissions,
    pub channels: Channels,
    /// Of an allocation for TCP (RFC 6062): the names of its connections to peers.
    pub tcp: Option<Vec<u32>>,
    pub reservation: Option<Reservation>,
    /// The allocation of the other address family that the same request made (RFC 8656 §5).
    pub sibling: Option<Id>,
    /// Why there is no sibling although one was asked for (ADDRESS-ERROR-CODE).
    pub sibling_refused: Option<Refusal>,
    /// The number of the ticket with which its client may move (RFC 8016).
    pub ticket: Option<u32>,
    pub bandwidth: Bandwidth,
    pub began: Instant,
    pub data: Relayed,
    /// The answer to the request that made it, as long as it waits for the probing of ports.
    pub unanswered: Option<Box<Reply>>,
}

/// The next higher port, kept for a second allocation (RFC 8656 §7.2).
#[derive(Clone, Copy, Debug)]
pub struct Reservation {
    pub token: [u8; 8],
    pub relayed: SocketAddr,
    pub expires: Instant,
}

impl Allocation {
    /// What of the quotas it has.
    pub fn holding(&self) -> Holding {
        Holding { allocations: 1, permissions: self.permissions.len(), channels: self.channels.len() }
    }

    /// Ends the permissions and channels that have run out. Returns how many that were.
    pub fn prune(&mut self, now: Instant) -> Holding {
        let Allocation { permissions, channels, .. } = self;
        Holding { allocations: 0, permissions: permissions.prune(now), channels: channels.prune(now) }
    }

    /// When something of it ends, unless it is refreshed.
    pub fn next_end(&self) -> Instant {
        let ends = [Some(self.expires), self.permissions.next_end(), self.channels.next_end()];
        ends.into_iter().flatten().min().expect("an allocation ends")
    }

    /// Whether peers of this address belong to the allocation.
    pub fn is_of_family(&self, peer: IpAddr) -> bool {
        self.relayed.is_ipv4() == peer.is_ipv4()
    }
}

/// The allocation's socket at the kernel.
#[derive(Debug)]
pub enum RelaySocket {
    /// The port is asked after at the kernel, and up to so many others if it is taken: nobody has been told of it.
    Probing {
        parity: Parity,
        tries_left: u8,
    },
    /// Not needed so far.
    Closed,
    /// Ordered; these requests wait for the outcome.
    Opening(Vec<Held>),
    Open,
}
