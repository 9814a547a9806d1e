//! What a subscriber's estimator does with each packet that leaves. It lies in one place, for that is all that is needed of an
//! estimator while a frame goes out to many.

use std::time::Instant;

use super::sent_history::SentHistory;

/// What was sent is metered over so long.
const METER_US: i64 = 500_000;

/// A packet that was given its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentPacket {
    /// Unwrapped.
    pub sequence: u64,
    pub us: i64,
    /// Those without a number of their own before it included.
    pub octets: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Sending {
    pub epoch: Option<Instant>,
    /// The last instant that was asked for, in microseconds since the epoch.
    read: Option<(Instant, i64)>,
    pub history: SentHistory,
    /// Of the packets since the last feedback, the first: feedback about it is awaited.
    pub awaiting_since: Option<Instant>,
    /// Octets without a number of their own since the last packet with one.
    unnumbered: u64,
    /// Since when, and how much since then.
    meter: (i64, u64),
    /// The last packet.
    pub sent_us: i64,
    pub sent_bps: f64,
}

impl Sending {
    pub fn us(&mut self, now: Instant) -> i64 {
        // All packets of a turn leave at one instant.
        if self.read.is_none_or(|(at, _)| at != now) {
            let epoch = *self.epoch.get_or_insert(now);
            self.read = Some((now, now.saturating_duration_since(epoch).as_micros() as i64));
        }
        self.read.map_or(0, |(_, us)| us)
    }

    /// A packet of so many octets (IP header included) leaves now.
    pub fn send(&mut self, now: Instant, octets: usize) -> SentPacket {
        let us = self.us(now);
        let all = octets + std::mem::take(&mut self.unnumbered) as usize;
        let sequence = self.history.send(us, all);
        self.count(us, octets);
        self.awaiting_since.get_or_insert(now);
        SentPacket { sequence, us, octets: all }
    }

    pub fn send_unnumbered(&mut self, now: Instant, octets: usize) {
        let us = self.us(now);
        self.count(us, octets);
        self.unnumbered += octets as u64;
    }

    fn count(&mut self, us: i64, octets: usize) {
        let (began, counted) = self.meter;
        if us - began >= METER_US {
            self.sent_bps = counted as f64 * 8e6 / (us - began) as f64;
            self.meter = (us, 0);
        }
        self.meter.1 += octets as u64;
        self.sent_us = us;
    }
}
