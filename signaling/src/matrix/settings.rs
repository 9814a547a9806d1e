//! What the program decides about the Matrix side.

use std::sync::Arc;

use aws_lc_rs::hmac;

use super::{Policy, ServerName, server_of};

/// The name under which tokens for Matrix users are signed. No operator's API key has a colon in front of it.
pub const ISSUER: &str = ":matrix";

#[derive(Clone)]
pub struct Settings {
    /// What stands behind the colon of the homeserver's user ids.
    pub server_name: String,
    /// Base address of the homeserver's client API, without a slash at the end.
    pub homeserver: String,
    /// Our own public base address (`livekit_service_url`), without a slash at the end.
    pub service_url: String,
    /// The address of the signalling that tokens are handed out with.
    pub websocket_url: String,
    pub as_token: String,
    pub hs_token: String,
    pub policy: Arc<Policy>,
}

impl Settings {
    pub fn is_local(&self, server: &ServerName) -> bool {
        server.as_str() == self.server_name
    }

    /// Whether a call may begin with this user.
    pub fn may_open(&self, user_id: &str) -> bool {
        server_of(user_id)
            .is_some_and(|server| self.is_local(&server) || self.policy.opening_servers.fit(server.as_str()))
    }

    /// The path in front of ours in [`Settings::service_url`], for a proxy that passes it on; no slash at its end.
    pub fn path_prefix(&self) -> &str {
        let host_and_path = self.service_url.split_once("://").map_or("", |(_, rest)| rest);
        host_and_path.find('/').map_or("", |at| &host_and_path[at..])
    }

    /// Whether `url` is how clients are told to reach us.
    pub fn is_own_url(&self, url: &str) -> bool {
        let url = url.trim_end_matches('/');
        url == self.service_url || url == self.websocket_url
    }

    /// The secret of [`ISSUER`]. Made of both tokens of the registration, so that a token outlives a restart of ours:
    /// clients come back with the one that they have.
    pub fn token_secret(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.as_token.as_bytes());
        let mut context = hmac::Context::with_key(&key);
        context.update(b"access tokens of calls\0");
        context.update(self.hs_token.as_bytes());
        context.sign().as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
    }
}
