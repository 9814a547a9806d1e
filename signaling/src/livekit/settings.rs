//! What all rooms of a server have in common.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use livekit_protocol::{Codec, IceServer, ServerInfo};
use sfu::Fingerprint;

use crate::options::{Limits, RoomDefaults, Turn};

/// What clients take for the server's version: they switch features by it, and above 1.13.6 livekit-client sends VP9
/// and AV1 as simulcast by rid.
pub const VERSION: &str = "1.13.5";
/// From 18 on clients would open their data channels without telling us in the offer.
pub const PROTOCOL: i32 = 17;
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
pub const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// Octets, as the reference has them.
pub const NAME_LIMIT: usize = 256;
pub const METADATA_LIMIT: usize = 512 << 10;
pub const ATTRIBUTES_LIMIT: usize = 64 << 10;

#[derive(Clone)]
pub struct Settings {
    pub api_keys: BTreeMap<String, String>,
    pub candidates: Vec<SocketAddr>,
    /// Passive TCP candidates (RFC 6544).
    pub tcp_candidates: Vec<SocketAddr>,
    pub fingerprint: Fingerprint,
    pub turn: Option<Turn>,
    pub limits: Limits,
    pub room_defaults: RoomDefaults,
    /// Rooms are spread over this many workers.
    pub workers: usize,
    pub node_id: String,
}

impl Settings {
    pub fn server_info(&self) -> ServerInfo {
        ServerInfo { version: VERSION.into(), protocol: PROTOCOL, node_id: self.node_id.clone(), ..Default::default() }
    }

    /// The first video codec is what clients fall back to.
    pub fn enabled_codecs(&self) -> Vec<Codec> {
        ["video/VP8", "video/H264", "audio/opus"]
            .map(|mime| Codec { mime: mime.into(), fmtp_line: String::new() })
            .to_vec()
    }

    /// TURN with credentials that end: `expiry:user`, and HMAC-SHA1 of it as the password.
    pub fn ice_servers(&self, user: &str, unix: Duration) -> Vec<IceServer> {
        let Some(turn) = self.turn.as_ref().filter(|turn| !turn.urls.is_empty()) else {
            return Vec::new();
        };
        let username = format!("{}:{user}", (unix + turn.ttl).as_secs());
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, turn.secret.borrow().as_bytes());
        let credential = BASE64_STANDARD.encode(hmac::sign(&key, username.as_bytes()));
        vec![IceServer { urls: turn.urls.clone(), username, credential }]
    }
}
