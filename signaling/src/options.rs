//! What the program decides about the control plane.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use datapath::shared_counters::Snapshot;
use sfu::{Command, Fingerprint};
use tokio::sync::watch;

use crate::leave_store::LeaveStore;
use crate::matrix::{self, delayed_leave::Record};
use crate::outbound::Authorities;
use crate::tcp::Tcp;

/// Hands one command to a worker's queue; `false` when the queue is full. Never blocks.
pub type CommandSink = Box<dyn FnMut(Command) -> bool + Send>;

/// Ends the allocations of these TURN users everywhere, and lets them have no other for so long. Never blocks.
pub type TurnWithdrawals = Box<dyn FnMut(Vec<String>, Duration) + Send>;

/// Asked at every scrape: what each worker tells about itself.
pub type MetricsSource = Arc<dyn Fn() -> Vec<Snapshot> + Send + Sync>;

pub struct Options {
    /// API key → secret (HS256).
    pub api_keys: BTreeMap<String, String>,
    /// Host candidates (UDP) in the order of preference.
    pub media_candidates: Vec<SocketAddr>,
    /// Passive TCP candidates (RFC 6544).
    pub media_tcp_candidates: Vec<SocketAddr>,
    /// Of the certificate that the workers present in DTLS.
    pub fingerprint: Fingerprint,
    pub turn: Option<Turn>,
    /// Who is removed from a call loses TURN as well.
    pub turn_withdrawals: TurnWithdrawals,
    pub limits: Limits,
    pub room_defaults: RoomDefaults,
    pub drain: Drain,
    pub metrics: MetricsSource,
    /// API key that `POST /demo/token` signs with; `None` switches the endpoint off.
    pub demo_key: Option<String>,
    /// Opens the page for operators; `None` switches it off.
    pub admin_token: Option<String>,
    /// What TCP serves beside plain HTTP.
    pub tcp: Tcp,
    /// The homeserver whose rooms get calls.
    pub matrix: Option<Matrix>,
    /// Seeds everything that has to be unguessable: ids, ICE passwords, SSRCs.
    pub entropy: datapath::Entropy,
}

/// Judges the address of a server that is to be asked.
pub type AddressPolicy = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

pub struct Matrix {
    pub settings: matrix::Settings,
    pub authorities: Authorities,
    /// Whether another server may be asked at this address: a stranger chose the name that led to it.
    pub may_ask: AddressPolicy,
    /// What an earlier run owed: [`LeaveStore::load`].
    pub leaves: Vec<Record>,
    /// `None`: a restart forgets what clients delegated.
    pub leave_store: Option<LeaveStore>,
}

/// TURN for clients that cannot reach the media candidates.
#[derive(Clone)]
pub struct Turn {
    /// Shared with the relay: REST credentials are HMAC-SHA1 with it. It may be replaced while clients come and go.
    pub secret: watch::Receiver<String>,
    /// `turn:` and `turns:` URLs. None may name the address and port of a media candidate over UDP: a browser takes
    /// everything that comes from there for the TURN server's answer.
    pub urls: Vec<String>,
    /// Life of a minted credential.
    pub ttl: Duration,
}

#[derive(Clone, Debug)]
pub struct Limits {
    /// TCP connections served at once.
    pub connections: usize,
    /// Participants of all rooms.
    pub participants: usize,
    pub rooms: usize,
    /// Participants of one room, unless the room itself says less.
    pub participants_per_room: usize,
    pub tracks_per_participant: usize,
    /// Client messages: sustained rate and burst; a client beyond it is read more slowly.
    pub messages_per_second: u32,
    pub message_burst: u32,
    /// Messages queued for one client that does not read; beyond it, or beyond 8 MiB, the client is cut off.
    pub queued_messages: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 20_000,
            participants: 10_000,
            rooms: 10_000,
            participants_per_room: 1_000,
            tracks_per_participant: 32,
            messages_per_second: 100,
            message_burst: 1_000,
            queued_messages: 1_024,
        }
    }
}

#[derive(Clone, Debug)]
pub struct RoomDefaults {
    /// A room begins with its first participant; otherwise it has to be created over the API.
    pub auto_create: bool,
    /// A room that nobody enters closes after this.
    pub empty_timeout: Duration,
    /// A room that everybody left closes after this.
    pub departure_timeout: Duration,
    /// 0: no limit of its own.
    pub max_participants: u32,
    /// Sound and picture of one participant share a stream, so that the browser keeps lips and voice together.
    pub sync_streams: bool,
}

impl Default for RoomDefaults {
    fn default() -> RoomDefaults {
        RoomDefaults {
            auto_create: true,
            empty_timeout: Duration::from_secs(300),
            departure_timeout: Duration::from_secs(20),
            max_participants: 0,
            sync_streams: false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Drain {
    /// How long clients may take to hear that they are to reconnect, before the server goes anyway.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { timeout: Duration::from_secs(5) }
    }
}
