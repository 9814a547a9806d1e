//! The file as it is written: texts and numbers, not yet understood.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::secret::Secret;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    pub log: String,
    pub advertise: Vec<String>,
    pub workers: usize,
    pub listen: Listen,
    pub tls: Tls,
    pub api_keys: BTreeMap<String, Secret>,
    pub rooms: Rooms,
    pub matrix: Matrix,
    pub admin: Admin,
    pub control: Control,
    pub relay: Relay,
    pub media: Media,
    pub limits: Limits,
}

impl Default for File {
    fn default() -> File {
        File {
            log: "info".into(),
            advertise: Vec::new(),
            workers: 1,
            listen: Listen::default(),
            tls: Tls::default(),
            api_keys: BTreeMap::new(),
            rooms: Rooms::default(),
            matrix: Matrix::default(),
            admin: Admin::default(),
            control: Control::default(),
            relay: Relay::default(),
            media: Media::default(),
            limits: Limits::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    pub udp: Vec<String>,
    /// Left out: the first of `udp`.
    pub tcp: Option<Vec<String>>,
    pub http: String,
    pub proxies: Vec<String>,
}

impl Default for Listen {
    fn default() -> Listen {
        Listen {
            udp: vec!["[::]:3478".into(), "[::]:3479".into()],
            tcp: None,
            http: "0.0.0.0:7880".into(),
            proxies: Vec::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    pub certificate: String,
    pub key: String,
    pub names: Vec<String>,
    pub acme: Acme,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Acme {
    pub domains: Vec<String>,
    pub contact: Vec<String>,
    pub directory: String,
    pub agree_terms: bool,
    pub challenge: String,
    pub store: String,
    pub root: String,
}

impl Default for Acme {
    fn default() -> Acme {
        Acme {
            domains: Vec::new(),
            contact: Vec::new(),
            directory: "https://acme-v02.api.letsencrypt.org/directory".into(),
            agree_terms: false,
            challenge: "tls-alpn-01".into(),
            store: "/var/lib/hausruf/acme".into(),
            root: String::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rooms {
    pub auto_create: bool,
    pub empty_timeout_s: u32,
    pub departure_timeout_s: u32,
    pub max_participants: u32,
}

impl Default for Rooms {
    fn default() -> Rooms {
        Rooms { auto_create: true, empty_timeout_s: 300, departure_timeout_s: 20, max_participants: 0 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matrix {
    pub homeserver: String,
    pub server_name: String,
    pub url: String,
    pub as_token: Secret,
    pub hs_token: Secret,
    pub store: String,
    pub membership_unknown: String,
    pub policy: MatrixPolicy,
    pub federation: Federation,
}

impl Default for Matrix {
    fn default() -> Matrix {
        Matrix {
            homeserver: String::new(),
            server_name: String::new(),
            url: String::new(),
            as_token: Secret::new(""),
            hs_token: Secret::new(""),
            store: "/var/lib/hausruf/matrix.redb".into(),
            membership_unknown: "refuse".into(),
            policy: MatrixPolicy::default(),
            federation: Federation::default(),
        }
    }
}

/// Patterns: `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MatrixPolicy {
    /// Servers whose users may have tokens.
    pub servers: Vec<String>,
    /// Servers whose users may open a call; the homeserver's own users always may.
    pub opening_servers: Vec<String>,
    /// Matrix room ids with calls.
    pub rooms: Vec<String>,
    /// Matrix user ids that may publish sound, camera or screen.
    pub microphone: Vec<String>,
    pub camera: Vec<String>,
    pub screen: Vec<String>,
}

impl Default for MatrixPolicy {
    fn default() -> MatrixPolicy {
        let everything = || vec!["*".to_owned()];
        MatrixPolicy {
            servers: everything(),
            opening_servers: Vec::new(),
            rooms: everything(),
            microphone: everything(),
            camera: everything(),
            screen: everything(),
        }
    }
}

impl MatrixPolicy {
    pub(crate) fn named(&self) -> [(&'static str, &[String]); 6] {
        [
            ("servers", &self.servers),
            ("opening_servers", &self.opening_servers),
            ("rooms", &self.rooms),
            ("microphone", &self.microphone),
            ("camera", &self.camera),
            ("screen", &self.screen),
        ]
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Federation {
    pub ca_file: String,
    pub allowed_addresses: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    pub token: Secret,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin { token: Secret::new("") }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    pub socket: String,
}

impl Default for Control {
    fn default() -> Control {
        Control { socket: "auto".into() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relay {
    pub realm: String,
    pub secrets: Vec<Secret>,
    pub strict_expiry: bool,
    pub expiry_grace_s: u32,
    pub alternate_server: String,
    pub drain_deadline_s: u32,
    pub ports: String,
    pub tcp_allocations: bool,
    pub store: String,
    pub allowed_peers: Vec<String>,
    pub denied_peers: Vec<String>,
    pub users: BTreeMap<String, Secret>,
    pub limits: RelayLimits,
}

impl Default for Relay {
    fn default() -> Relay {
        Relay {
            realm: "hausruf".into(),
            secrets: Vec::new(),
            strict_expiry: false,
            expiry_grace_s: 0,
            alternate_server: String::new(),
            drain_deadline_s: 0,
            ports: "49152-65535".into(),
            tcp_allocations: false,
            store: "/var/lib/hausruf/revocations.jsonl".into(),
            allowed_peers: Vec::new(),
            denied_peers: Vec::new(),
            users: BTreeMap::new(),
            limits: RelayLimits::default(),
        }
    }
}

/// Bounds of the relay.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayLimits {
    pub allocations: usize,
    pub allocations_per_user: usize,
    /// Per source /24 (IPv4) or /64 (IPv6).
    pub allocations_per_source: usize,
    /// IP addresses per allocation.
    pub permissions: usize,
    /// Of all allocations of a user, of a source and in total; 0: no limit but those of the allocations.
    pub permissions_per_user: usize,
    pub permissions_per_source: usize,
    pub permissions_total: usize,
    /// Channels per allocation.
    pub channels: usize,
    /// As with permissions.
    pub channels_per_user: usize,
    pub channels_per_source: usize,
    pub channels_total: usize,
    /// Of one allocation, both ways together.
    pub kilobits_per_second: usize,
    /// Of all allocations of a user, of a source and in total, both ways together, in Mbit/s; 0: no limit.
    pub user_mbps: u32,
    pub source_mbps: u32,
    pub total_mbps: u32,
    /// TCP connections to and from peers.
    pub tcp_connections: usize,
    pub tcp_connections_per_user: usize,
    pub tcp_connections_per_allocation: usize,
}

impl Default for RelayLimits {
    fn default() -> RelayLimits {
        RelayLimits {
            allocations: 10_000,
            allocations_per_user: 40,
            allocations_per_source: 1_000,
            permissions: 64,
            permissions_per_user: 0,
            permissions_per_source: 0,
            permissions_total: 0,
            channels: 64,
            channels_per_user: 0,
            channels_per_source: 0,
            channels_total: 0,
            kilobits_per_second: 1_000_000,
            user_mbps: 0,
            source_mbps: 0,
            total_mbps: 0,
            tcp_connections: 1_000,
            tcp_connections_per_user: 100,
            tcp_connections_per_allocation: 32,
        }
    }
}

impl RelayLimits {
    /// Those that cannot be 0, with their keys.
    pub fn named(&self) -> [(&'static str, usize); 9] {
        [
            ("allocations", self.allocations),
            ("allocations_per_user", self.allocations_per_user),
            ("allocations_per_source", self.allocations_per_source),
            ("permissions", self.permissions),
            ("channels", self.channels),
            ("kilobits_per_second", self.kilobits_per_second),
            ("tcp_connections", self.tcp_connections),
            ("tcp_connections_per_user", self.tcp_connections_per_user),
            ("tcp_connections_per_allocation", self.tcp_connections_per_allocation),
        ]
    }

    /// Those that may be 0, and the most that they may be.
    pub(crate) fn named_optional(&self) -> [(&'static str, usize, usize); 9] {
        const COUNT_MAX: usize = 100_000_000;
        const MBPS_MAX: usize = 1_000_000;
        [
            ("permissions_per_user", self.permissions_per_user, COUNT_MAX),
            ("permissions_per_source", self.permissions_per_source, COUNT_MAX),
            ("permissions_total", self.permissions_total, COUNT_MAX),
            ("channels_per_user", self.channels_per_user, COUNT_MAX),
            ("channels_per_source", self.channels_per_source, COUNT_MAX),
            ("channels_total", self.channels_total, COUNT_MAX),
            ("user_mbps", self.user_mbps as usize, MBPS_MAX),
            ("source_mbps", self.source_mbps as usize, MBPS_MAX),
            ("total_mbps", self.total_mbps as usize, MBPS_MAX),
        ]
    }
}

/// How media is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    /// Audio is sent again, unasked, over links that lose packets.
    pub audio_repair: bool,
}

impl Default for Media {
    fn default() -> Media {
        Media { audio_repair: true }
    }
}

/// Bounds of the calls.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// TCP connections at once.
    pub connections: usize,
    pub rooms: usize,
    pub participants: usize,
    pub participants_per_room: usize,
    pub tracks_per_participant: usize,
    pub subscriptions_per_participant: usize,
    /// Octets queued for the data channels of one participant.
    pub data_buffer_bytes: usize,
    /// DTLS handshakes under way at once.
    pub handshakes: usize,
    /// Signalling messages of one client: sustained rate and burst.
    pub messages_per_second: usize,
    pub message_burst: usize,
    /// Signalling messages queued for one client.
    pub queued_messages: usize,
    /// Commands and events queued between signalling and a worker.
    pub queue: usize,
    /// What all calls together may take of the server's uplink, in Mbit/s; 0: no limit.
    pub uplink_mbps: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 20_000,
            rooms: 10_000,
            participants: 10_000,
            participants_per_room: 1_000,
            tracks_per_participant: 32,
            subscriptions_per_participant: 2_000,
            data_buffer_bytes: 1 << 20,
            handshakes: 1_000,
            messages_per_second: 100,
            message_burst: 1_000,
            queued_messages: 1_024,
            queue: 65_536,
            uplink_mbps: 0,
        }
    }
}

impl Limits {
    pub(crate) fn named(&self) -> [(&'static str, usize); 12] {
        [
            ("connections", self.connections),
            ("rooms", self.rooms),
            ("participants", self.participants),
            ("participants_per_room", self.participants_per_room),
            ("tracks_per_participant", self.tracks_per_participant),
            ("subscriptions_per_participant", self.subscriptions_per_participant),
            ("data_buffer_bytes", self.data_buffer_bytes),
            ("handshakes", self.handshakes),
            ("messages_per_second", self.messages_per_second),
            ("message_burst", self.message_burst),
            ("queued_messages", self.queued_messages),
            ("queue", self.queue),
        ]
    }
}
