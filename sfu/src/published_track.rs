//! A track that is being published.

use std::time::Instant;

use crate::command::TrackId;
use crate::rtp_stream::RtpStream;
use crate::sender_report::ClockMap;
use crate::track::TrackSpec;

pub struct PublishedTrack {
    pub id: TrackId,
    /// Slab key of the participant.
    pub publisher: usize,
    pub spec: TrackSpec,
    /// In the order of `spec.encodings`.
    pub encodings: Vec<RtpStream>,
    /// What each encoding's last sender report said.
    pub clocks: Vec<Option<ClockMap>>,
    /// Slab keys.
    pub subscriptions: Vec<usize>,
    pub muted: bool,
    /// The highest encoding that anybody wants, as the control plane was last told.
    pub wanted: Option<u8>,
}

impl PublishedTrack {
    pub fn new(id: TrackId, publisher: usize, spec: TrackSpec, _now: Instant) -> PublishedTrack {
        let clock_rate = spec.codec.clock_rate();
        PublishedTrack {
            id,
            publisher,
            encodings: spec.encodings.iter().map(|_| RtpStream::new(clock_rate)).collect(),
            clocks: vec![None; spec.encodings.len()],
            subscriptions: Vec::new(),
            muted: spec.muted,
            wanted: None,
            spec,
        }
    }
}
