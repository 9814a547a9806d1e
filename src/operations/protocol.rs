//! What goes over the control socket: one line of JSON asks, lines of JSON answer, the last one before the end.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    Sessions {
        /// Those of this user alone.
        user: Option<String>,
    },
    Reload,
    Drain {
        /// The program ends when the last allocation has gone, and after so many seconds.
        deadline_s: Option<u64>,
        /// Further answers come until that has happened.
        wait: bool,
    },
    Revoke {
        user: String,
        /// How long it gets no allocation.
        for_s: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Some of the sessions.
    Sessions(Vec<Session>),
    /// Behind the last of them.
    Census(Census),
    Reloaded {
        /// The keys that were changed but need a restart.
        restart: Vec<String>,
    },
    Draining {
        allocations: usize,
        /// Until the program ends in any case.
        ends_in_s: Option<u64>,
    },
    /// The last allocation has gone.
    Drained,
    Revoked {
        /// As many were ended.
        allocations: usize,
    },
    /// The program ends, and these allocations with it. There is nothing more to come but the end of the connection.
    Ending { allocations: usize },
    /// Nothing has changed.
    Error(String),
}

/// An allocation, in the words of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub user: String,
    pub client: SocketAddr,
    pub transport: Transport,
    pub relayed: SocketAddr,
    pub worker: usize,
    pub age_s: u64,
    pub remaining_s: u64,
    pub permissions: usize,
    pub channels: usize,
    pub to_peers: Passed,
    pub to_client: Passed,
}

/// Of an allocation's data, between two readings of what has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rate {
    pub to_peers_bps: u64,
    pub to_client_bps: u64,
}

impl Session {
    /// Since an earlier reading; `None` if that was of another allocation.
    pub fn rate_since(&self, earlier: &Session, time: Duration) -> Option<Rate> {
        let whose = |session: &Session| (session.worker, session.client, session.relayed);
        let bps = |now: Passed, before: Passed| {
            Some((now.bytes.checked_sub(before.bytes)? as f64 * 8.0 / time.as_secs_f64()).round() as u64)
        };
        let is_same = self.user == earlier.user && whose(self) == whose(earlier) && self.age_s >= earlier.age_s;
        if !is_same || time.is_zero() {
            return None;
        }
        Some(Rate {
            to_peers_bps: bps(self.to_peers, earlier.to_peers)?,
            to_client_bps: bps(self.to_client, earlier.to_client)?,
        })
    }
}

/// Between the client and the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// Data alone, without what TURN puts before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    pub packets: u64,
    pub bytes: u64,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    pub allocations: usize,
    /// Of the calls through this server.
    pub rooms: usize,
    pub participants: usize,
    pub draining: bool,
}
