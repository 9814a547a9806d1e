//! Asks a publisher for keyframes (PLI, RFC 4585 §6.3.1), not too often, until one comes.

use std::time::{Duration, Instant};

/// Between two requests for the lowest encoding, and for the ones above: their keyframes are larger.
const INTERVAL_LOWEST: Duration = Duration::from_millis(500);
const INTERVAL_HIGHER: Duration = Duration::from_secs(1);

/// The requests for one encoding.
#[derive(Clone, Debug)]
pub struct KeyframeRequests {
    interval: Duration,
    is_wanted: bool,
    requested: Option<Instant>,
}

impl KeyframeRequests {
    /// `encoding` is the index in its track, lowest first.
    pub fn new(encoding: u8) -> KeyframeRequests {
        let interval = if encoding == 0 { INTERVAL_LOWEST } else { INTERVAL_HIGHER };
        KeyframeRequests { interval, is_wanted: false, requested: None }
    }

    /// Somebody needs a keyframe: to begin, to switch, or because it lost one.
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Nobody needs one any more.
    pub fn forget(&mut self) {
        self.is_wanted = false;
    }

    /// One came: everybody who waits begins with it.
    pub fn handle_keyframe(&mut self) {
        self.is_wanted = false;
    }

    /// True when a request is to be sent now; it counts as sent then.
    pub fn poll(&mut self, now: Instant) -> bool {
        let is_due = self.next_request(now).is_some_and(|at| at <= now);
        if is_due {
            self.requested = Some(now);
        }
        is_due
    }

    /// When a request is due; `None` while none is wanted.
    pub fn next_request(&self, now: Instant) -> Option<Instant> {
        if !self.is_wanted {
            return None;
        }
        Some(self.requested.map_or(now, |at| at + self.interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    #[test]
    fn repeated_until_it_comes() {
        let now = start();
        let ms = Duration::from_millis;
        let mut requests = KeyframeRequests::new(0);
        assert!(!requests.poll(now));
        assert_eq!(requests.next_request(now), None);
        requests.want();
        assert!(requests.poll(now));
        requests.want();
        assert!(!requests.poll(now + ms(499)));
        assert_eq!(requests.next_request(now), Some(now + ms(500)));
        assert!(requests.poll(now + ms(500)));
        requests.handle_keyframe();
        assert!(!requests.poll(now + ms(5000)));
        // Wanted again at once: still not more often.
        requests.want();
        assert!(requests.poll(now + ms(5000)));
        requests.forget();
        requests.want();
        assert!(!requests.poll(now + ms(5499)));
        let mut higher = KeyframeRequests::new(1);
        higher.want();
        assert!(higher.poll(now) && !higher.poll(now + ms(999)) && higher.poll(now + ms(1000)));
    }
}
