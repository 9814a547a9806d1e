//! The one place of the packet plane that reads clocks.
#![expect(clippy::disallowed_methods, reason = "the driver is where real time comes from")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Now;

/// Monotonic and Unix time. The Unix time is read anew once a second and counted on from the monotonic one between.
#[derive(Debug)]
pub struct Clock {
    set_at: Instant,
    unix: Duration,
}

impl Clock {
    const SET_INTERVAL: Duration = Duration::from_secs(1);

    pub fn new() -> Clock {
        Clock { set_at: Instant::now(), unix: unix() }
    }

    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    pub fn read(&mut self) -> Now {
        let instant = Instant::now();
        if instant - self.set_at >= Self::SET_INTERVAL {
            self.set_at = instant;
            self.unix = unix();
        }
        Now { instant, unix: self.unix + (instant - self.set_at) }
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
