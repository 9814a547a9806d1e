//! One encoding of a published track: what is received of it, repaired and asked for.

use std::time::Instant;

use crate::sequence::ReceiveStatistics;
use crate::vp8::PictureIdUnwrapper;

/// An encoding may stay without packets this long before it counts as not sent (dynacast, a poor uplink).
pub const ALIVE_FOR: std::time::Duration = std::time::Duration::from_millis(1500);

pub struct RtpStream {
    pub statistics: ReceiveStatistics,
    pub picture_ids: PictureIdUnwrapper,
    /// When its last packet came.
    pub last_packet: Option<Instant>,
    pub keyframe_requested: Option<Instant>,
}

impl RtpStream {
    pub fn new(clock_rate: u32) -> RtpStream {
        RtpStream {
            statistics: ReceiveStatistics::new(clock_rate),
            picture_ids: PictureIdUnwrapper::default(),
            last_packet: None,
            keyframe_requested: None,
        }
    }

    pub fn is_alive(&self, now: Instant) -> bool {
        self.last_packet.is_some_and(|at| now.saturating_duration_since(at) < ALIVE_FOR)
    }
}
