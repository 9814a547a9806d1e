//! The one moment from which tests count.

use std::time::{Duration, Instant};

use datapath::Now;

#[allow(clippy::disallowed_methods, reason = "a test needs some moment to begin at")]
pub fn start() -> Now {
    Now { instant: Instant::now(), unix: Duration::from_secs(1_000_000) }
}

pub fn after(start: Now, passed: Duration) -> Now {
    Now { instant: start.instant + passed, unix: start.unix + passed }
}
