//! What the servers under test have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use datapath::Entropy;
use sfu::Fingerprint;
use signaling::{Drain, Limits, Options, RoomDefaults};

/// The plainest control plane: no keys, no homeserver, nothing beside plain HTTP.
pub fn options() -> Options {
    Options {
        api_keys: BTreeMap::new(),
        media_candidates: vec!["127.0.0.1:3478".parse().unwrap()],
        media_tcp_candidates: Vec::new(),
        fingerprint: Fingerprint([1; 32]),
        turn: None,
        turn_withdrawals: Box::new(|_, _| {}),
        limits: Limits::default(),
        room_defaults: RoomDefaults::default(),
        drain: Drain::default(),
        metrics: Arc::new(|| vec![Default::default()]),
        demo_key: None,
        admin_token: None,
        tcp: signaling::Tcp::default(),
        matrix: None,
        entropy: Entropy::from_seed([9; 32]),
    }
}
