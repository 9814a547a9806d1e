//! What a client hands over so that somebody ends its membership when it cannot.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Characters of a delay id.
const DELAY_ID_MAX: usize = 64;
/// Shorter than this, a delayed event would be sent between two restarts of a busy server.
const TIMEOUT_MIN: Duration = Duration::from_secs(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// A delayed event (MSC4140) that is to be kept from being sent while its client is in the call. Where the homeserver is,
/// it does not say: there is one only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    delay_id: String,
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelegationError {
    DelayId,
    Timeout,
}

impl DelegationError {
    pub fn text(self) -> &'static str {
        match self {
            DelegationError::DelayId => "delay_id has 1 to 64 letters, digits, '-' and '_'",
            DelegationError::Timeout => "delay_timeout goes from 10000 to 86400000 (ms)",
        }
    }
}

impl Delegation {
    /// `timeout_ms`: after so many milliseconds without a restart the homeserver sends the event by itself.
    pub fn new(delay_id: &str, timeout_ms: u64) -> Result<Delegation, DelegationError> {
        // It becomes a part of a URL's path.
        let harmless = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        if !(1..=DELAY_ID_MAX).contains(&delay_id.len()) || !delay_id.bytes().all(harmless) {
            return Err(DelegationError::DelayId);
        }
        let timeout = Duration::from_millis(timeout_ms);
        if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout) {
            return Err(DelegationError::Timeout);
        }
        Ok(Delegation { delay_id: delay_id.to_owned(), timeout })
    }

    pub fn delay_id(&self) -> &str {
        &self.delay_id
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_a_path_or_a_call_is_refused() {
        let new = |delay_id: &str, timeout_ms| Delegation::new(delay_id, timeout_ms).map(|_| ());
        assert_eq!(new("syd_aBcD-09", 3_600_000), Ok(()));
        for delay_id in ["", "a/../b", "a?b", "ä", "a b", "a\n", &"a".repeat(65)] {
            assert_eq!(new(delay_id, 18_000), Err(DelegationError::DelayId), "{delay_id:?}");
        }
        assert_eq!(new(&"a".repeat(64), 10_000), Ok(()));
        for timeout in [0, 9_999, 86_400_001, u64::MAX] {
            assert_eq!(new("a", timeout), Err(DelegationError::Timeout));
        }
    }
}
