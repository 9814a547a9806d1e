//! A receiver's own estimate from send times (REMB), as browsers make it for servers that give no numbers.

use std::time::Instant;

use sfu::congestion::{AcknowledgedRate, Aimd, Observation, Trendline};

/// Where browsers begin.
const START_BPS: f64 = 300_000.0;

#[derive(Clone, Debug)]
pub struct RembEstimator {
    trendline: Trendline,
    rate: AcknowledgedRate,
    aimd: Aimd,
    epoch: Option<Instant>,
    /// The last send time: 6.18 fixed point, and unwrapped in microseconds.
    sent: Option<(u32, i64)>,
}

impl Default for RembEstimator {
    fn default() -> RembEstimator {
        RembEstimator {
            trendline: Trendline::default(),
            rate: AcknowledgedRate::default(),
            aimd: Aimd::new(START_BPS),
            epoch: None,
            sent: None,
        }
    }
}

impl RembEstimator {
    /// A packet with the absolute send time in its header.
    pub fn receive(&mut self, now: Instant, send_time: [u8; 3], octets: u32) {
        let arrival_us = self.us(now);
        let raw = u32::from_be_bytes([0, send_time[0], send_time[1], send_time[2]]);
        let sent_us = match self.sent {
            // The difference of 24 bits, signed.
            Some((last, us)) => us + i64::from((raw.wrapping_sub(last) << 8) as i32 >> 8) * 1_000_000 / (1 << 18),
            None => 0,
        };
        self.sent = Some((raw, sent_us));
        self.trendline.receive(sent_us, arrival_us);
        self.rate.receive(arrival_us, octets);
        let seen = Observation {
            usage: self.trendline.usage(),
            queue_us: 0,
            acknowledged_bps: self.rate.bps(),
            busy_bps: None,
            round_trip_us: 200_000,
            application_limited: false,
            shared_bound_bps: None,
        };
        self.aimd.update(arrival_us, &seen);
    }

    fn us(&mut self, now: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(now);
        now.saturating_duration_since(epoch).as_micros() as i64
    }

    /// In bit/s; `None` before anything came.
    pub fn bps(&self) -> Option<u64> {
        self.sent.map(|_| self.aimd.rate_bps() as u64)
    }
}
