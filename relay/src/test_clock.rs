//! The one moment from which tests count.

use std::time::Instant;

#[allow(clippy::disallowed_methods, reason = "a test needs some moment to begin at")]
pub fn start() -> Instant {
    Instant::now()
}
