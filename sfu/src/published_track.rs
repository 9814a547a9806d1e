//! A track that is being published.

use std::time::{Duration, Instant};

use crate::command::TrackId;
use crate::layers::{self, EncodingActivity};
use crate::rtp_stream::RtpStream;
use crate::sender_report::ClockMap;
use crate::speaker::AudioActivity;
use crate::track::{Codec, Encoding, Kind, TrackSpec};

/// So long a keyframe is awaited that may come along with that of a lower encoding.
const COMES_ALONG: Duration = Duration::from_millis(500);

/// The lists that are indexed by encoding are in the order of `spec.encodings`.
pub struct PublishedTrack {
    pub id: TrackId,
    /// Slab key of the participant.
    pub publisher: usize,
    pub spec: TrackSpec,
    pub encodings: Vec<RtpStream>,
    pub activity: Vec<EncodingActivity>,
    /// What each encoding's last sender report said.
    pub clocks: Vec<Option<ClockMap>>,
    /// Of an audio track.
    pub audio: Option<AudioActivity>,
    /// Slab keys.
    pub subscriptions: Vec<usize>,
    pub muted: bool,
    /// The highest encoding that anybody wants, as the control plane was last told.
    pub wanted: Option<u8>,
}

impl PublishedTrack {
    pub fn new(id: TrackId, publisher: usize, spec: TrackSpec) -> PublishedTrack {
        let codec = spec.codec;
        let encodings = (0u8..).zip(&spec.encodings);
        PublishedTrack {
            id,
            publisher,
            encodings: encodings.map(|(encoding, _)| RtpStream::new(codec, encoding)).collect(),
            activity: spec.encodings.iter().map(|encoding| activity(codec, encoding)).collect(),
            clocks: vec![None; spec.encodings.len()],
            audio: (codec.kind() == Kind::Audio).then(|| AudioActivity::new(codec.clock_rate())),
            subscriptions: Vec::new(),
            muted: spec.muted,
            wanted: None,
            spec,
        }
    }

    /// Nobody is sent anything of it.
    pub fn want_nothing(&mut self) {
        self.encodings.iter_mut().for_each(RtpStream::want_nothing);
    }

    pub fn is_video(&self) -> bool {
        self.spec.codec.kind() == Kind::Video
    }

    /// Another SSRC has the encoding from now on, and with it another clock.
    pub fn begin_source(&mut self, encoding: u8) {
        self.encodings[usize::from(encoding)].statistics.begin_source();
        self.restart_source(encoding);
    }

    /// The SSRC that has the encoding starts over (RFC 3550 A.1), and [`crate::sequence::ReceiveStatistics`] with it. Its
    /// clock may be another one; it says so with its next sender report.
    pub fn restart_source(&mut self, encoding: u8) {
        let encoding = usize::from(encoding);
        self.encodings[encoding].restart_source();
        self.clocks[encoding] = None;
        if let Some(audio) = &mut self.audio {
            audio.begin_source();
        }
    }

    /// When the publisher may be asked for a keyframe of an encoding that is in need of one. One that it has paused begins
    /// with a keyframe of its own accord. Over a poor uplink the lowest that is in need goes first, and the others wait for
    /// a while: in browsers theirs come with it.
    pub fn keyframe_due(&self, now: Instant, encoding: usize) -> Option<Instant> {
        let keyframes = &self.encodings[encoding].keyframes;
        let due = keyframes.next_request(now).filter(|_| layers::is_alive(&self.activity, encoding))?;
        let in_need =
            |lower: usize| layers::is_alive(&self.activity, lower) && self.encodings[lower].keyframes.is_wanted();
        let waits = keyframes.is_poor() && (0..encoding).any(in_need);
        Some(if waits { due.max(keyframes.wanted_since().unwrap_or(now) + COMES_ALONG) } else { due })
    }

    /// What each encoding of a video costs that is being sent; and what each does or, where it rests because we said so,
    /// would cost. `is_capped`: what is sent is less than it would be.
    pub fn costs(&mut self, now: Instant, is_capped: bool) -> [[Option<u64>; 3]; 2] {
        let mut costs = layers::costs(&mut self.activity, now);
        let lowest = costs.iter().position(Option::is_some);
        let mut prospects = [None; 3];
        for (index, encoding) in self.activity.iter_mut().enumerate().take(3) {
            let usual = encoding.usual_bps(now);
            let rests = self.wanted.is_none_or(|wanted| index > usize::from(wanted));
            if let Some(bps) = &mut costs[index] {
                if !encoding.is_flowing(now) {
                    *bps = usual.max(*bps);
                } else if is_capped {
                    encoding.keep_usual(now);
                } else {
                    encoding.note_usual(now, *bps);
                }
                // Between two pages a screen sends next to nothing. What it may take next is what it took before, or a link
                // that carries no page in the larger size would be shown it whenever nothing moves, and lose it again.
                if self.spec.screen && Some(index) != lowest {
                    *bps = usual.max(*bps);
                }
                prospects[index] = Some(if is_capped { usual.max(*bps) } else { *bps });
            } else if rests && usual > 0 {
                prospects[index] = Some(usual);
            }
        }
        [costs, prospects]
    }

    /// Index of the highest encoding.
    pub fn top(&self) -> u8 {
        self.encodings.len() as u8 - 1
    }
}

fn activity(codec: Codec, encoding: &Encoding) -> EncodingActivity {
    match codec.kind() {
        Kind::Audio => EncodingActivity::of_voice(),
        Kind::Video => EncodingActivity::new(encoding.bitrate_bps),
    }
}
