use std::time::Instant;

/// How much an allocation may still relay, both ways together: a second's worth at most.
#[derive(Clone, Copy, Debug)]
pub struct Bandwidth {
    octets: u64,
    updated: Instant,
}

impl Bandwidth {
    pub fn new(octets_per_second: u64, now: Instant) -> Bandwidth {
        Bandwidth { octets: octets_per_second, updated: now }
    }

    /// Takes the share of a datagram, or says that there is none left.
    pub fn take(&mut self, octets: usize, octets_per_second: u64, now: Instant) -> bool {
        let octets = octets as u64;
        if self.octets < octets {
            let elapsed_us = u64::try_from(now.saturating_duration_since(self.updated).as_micros()).unwrap_or(u64::MAX);
            let earned = octets_per_second.saturating_mul(elapsed_us.min(1_000_000)) / 1_000_000;
            self.octets = (self.octets + earned).min(octets_per_second);
            self.updated = now;
        }
        let enough = self.octets >= octets;
        if enough {
            self.octets -= octets;
        }
        enough
    }
}
