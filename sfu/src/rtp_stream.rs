//! One encoding of a published track: what is received of it, kept for its subscribers and asked for.

use std::time::Duration;

use crate::dependency_descriptor::Templates;
use crate::history::History;
use crate::keyframe::KeyframeRequests;
use crate::nack::NackTracker;
use crate::sequence::ReceiveStatistics;
use crate::track::{Codec, Kind};
use crate::vp8::PictureIdUnwrapper;

/// A missing packet is of no use any more after this: a receiver's jitter buffer does not wait longer for audio, and asks
/// for a keyframe in video.
const AUDIO_REPAIR: Duration = Duration::from_millis(400);
const VIDEO_REPAIR: Duration = Duration::from_millis(1500);
/// Octets kept for retransmission: a second of 4 Mbit/s, and five of music.
const AUDIO_HISTORY: usize = 64 << 10;
const VIDEO_HISTORY: usize = 512 << 10;

pub struct RtpStream {
    pub statistics: ReceiveStatistics,
    pub picture_ids: PictureIdUnwrapper,
    pub templates: Templates,
    pub missing: NackTracker,
    pub history: History,
    pub keyframes: KeyframeRequests,
}

impl RtpStream {
    /// `encoding` is the index in its track.
    pub fn new(codec: Codec, encoding: u8) -> RtpStream {
        let (repair, history) = match codec.kind() {
            Kind::Audio => (AUDIO_REPAIR, AUDIO_HISTORY),
            Kind::Video => (VIDEO_REPAIR, VIDEO_HISTORY),
        };
        RtpStream {
            statistics: ReceiveStatistics::new(codec.clock_rate()),
            picture_ids: PictureIdUnwrapper::default(),
            templates: Templates::default(),
            missing: NackTracker::new(repair),
            history: History::new(history),
            keyframes: KeyframeRequests::new(encoding),
        }
    }

    /// Nobody is sent it, so nothing of it is asked for.
    pub fn want_nothing(&mut self) {
        self.missing.clear();
        self.keyframes.forget();
    }

    /// What the source says from now on has nothing to do with what it said before; `statistics` know of it already. What
    /// was received is kept for those who ask for it again.
    pub fn restart_source(&mut self) {
        self.picture_ids = PictureIdUnwrapper::default();
        self.templates = Templates::default();
        self.missing.begin_source();
        self.keyframes.restart();
    }
}
