//! The controlling side of ICE toward an ICE-lite server: checks until one is answered, then consent (RFC 7675).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use datapath::Entropy;
use datapath::stun::{Class, Key, Message, Method, TransactionId, Writer};
use sfu::IceCredentials;

/// Between checks until the first answer (RFC 8445 §14.2).
const PACE: Duration = Duration::from_millis(50);
/// Between checks afterwards.
const CONSENT: Duration = Duration::from_secs(1);
/// Without an answer for this long the checks are hurried again, as a browser does on a new network.
const SUSPICIOUS: Duration = Duration::from_millis(2500);
/// Answers to this many of the latest checks are believed.
const PENDING_MAX: usize = 16;

#[derive(Debug)]
pub struct IceAgent {
    username: String,
    key: Key,
    tie_breaker: u64,
    entropy: Entropy,
    pending: Vec<TransactionId>,
    next: Instant,
    answered: Option<Instant>,
    /// The own address as the server last saw it.
    pub mapped: Option<SocketAddr>,
}

impl IceAgent {
    /// `remote` are the server's credentials.
    pub fn new(local: &IceCredentials, remote: &IceCredentials, now: Instant, mut entropy: Entropy) -> IceAgent {
        IceAgent {
            username: format!("{}:{}", remote.ufrag, local.ufrag),
            key: Key::new(remote.pwd.as_bytes()),
            tie_breaker: entropy.u64(),
            entropy,
            pending: Vec::new(),
            next: now,
            answered: None,
            mapped: None,
        }
    }

    /// What its checks name; it stands in the clear on the wire.
    pub fn username(&self) -> &str {
        &self.username
    }

    pub fn is_connected(&self) -> bool {
        self.answered.is_some()
    }

    pub fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// The check that is due, if one is.
    pub fn poll_check(&mut self, now: Instant) -> Option<Vec<u8>> {
        if now < self.next {
            return None;
        }
        let fine = self.answered.is_some_and(|at| now.saturating_duration_since(at) < SUSPICIOUS);
        self.next = now + if fine { CONSENT } else { PACE };
        let mut id = [0; 12];
        self.entropy.fill(&mut id);
        let id = TransactionId(id);
        if self.pending.len() == PENDING_MAX {
            self.pending.remove(0);
        }
        self.pending.push(id);
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id);
        writer
            .username(self.username.as_bytes())
            .priority(0x6E00_01FF)
            .ice_controlling(self.tie_breaker)
            .use_candidate();
        let length = writer.finish_with_integrity(&self.key, true).expect("a check has about 100 octets");
        Some(buffer[..length].to_vec())
    }

    /// Takes an answer; false when it answers nothing that was asked, or is not the server's.
    pub fn handle_answer(&mut self, now: Instant, message: &Message<'_>) -> bool {
        let Some(at) = self.pending.iter().position(|&id| id == message.transaction_id()) else {
            return false;
        };
        if message.class() != Class::SuccessResponse || !message.verify_integrity(&self.key) {
            return false;
        }
        self.pending.remove(at);
        self.answered = Some(now);
        self.mapped = message.xor_mapped_address();
        self.next = self.next.max(now + CONSENT);
        true
    }
}
