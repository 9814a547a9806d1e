//! What a subscriber's link carries, by whatever its client offers.

use std::time::{Duration, Instant};

use super::loss_and_remb::LossAndRemb;
use super::send_side::SendSide;

/// Without any feedback for so long a client does not give any.
const DEAF: Duration = Duration::from_secs(3);

/// The estimate of one participant's link.
#[derive(Clone, Debug, Default)]
pub struct Estimate {
    /// Made when transport-wide feedback is negotiated for the first time.
    send_side: Option<Box<SendSide>>,
    pub by_reports: LossAndRemb,
    /// Feedback was promised and does not come: what reports say is all there is.
    is_deaf: bool,
}

impl Estimate {
    /// The client gives transport-wide feedback.
    pub fn expect_feedback(&mut self) {
        self.send_side.get_or_insert_default();
    }

    /// Whether the estimate rests on feedback about every packet, so that it may be paced and paused by.
    pub fn is_exact(&self) -> bool {
        self.send_side.is_some() && !self.is_deaf
    }

    pub fn send_side(&mut self) -> Option<&mut SendSide> {
        self.send_side.as_deref_mut()
    }

    /// The same while nothing is changed.
    pub fn shared_send_side(&self) -> Option<&SendSide> {
        self.send_side.as_deref()
    }

    pub fn handle_timeout(&mut self, now: Instant, wanted_bps: u64) {
        if let Some(send_side) = &mut self.send_side {
            send_side.handle_timeout(now, wanted_bps as f64);
            let waits = send_side.awaiting_since().map(|since| now.saturating_duration_since(since));
            self.is_deaf = !send_side.has_feedback() && waits.is_some_and(|waits| waits > DEAF);
        }
        self.by_reports.handle_timeout(now);
    }

    /// What may be sent now, in bit/s; `u64::MAX` while nothing bounds it.
    pub fn available_bps(&self) -> u64 {
        match &self.send_side {
            Some(send_side) if !self.is_deaf => send_side.target_bps() as u64,
            _ => self.by_reports.available_bps(),
        }
    }

    /// The part of the packets that is lost at first, from 0 to 1; `None` where it is not known packet by packet.
    pub fn loss(&self) -> Option<f64> {
        self.send_side.as_ref().map(|send_side| send_side.loss())
    }

    /// The queue that stands on the way, as far as it is known.
    pub fn queue(&self) -> Duration {
        self.send_side.as_ref().map_or(Duration::ZERO, |send_side| send_side.queue())
    }
}
