//! How the link of one participant does, for whoever watches.

use std::time::Duration;

use datapath::Now;

use crate::command::TrackId;
use crate::sfu::Sfu;

/// Packets of one RTP stream over the link so far. Only differences mean something: where a stream began counting is its
/// own affair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub expected: u64,
    /// By the link, whether or not they were repaired.
    pub lost: u64,
}

/// One encoding that a participant sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedStatistics {
    pub track: TrackId,
    /// Index into [`crate::TrackSpec::encodings`].
    pub encoding: u8,
    /// Over the last second.
    pub bitrate_bps: u64,
    pub tally: Tally,
}

/// One track that a participant is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentStatistics {
    pub track: TrackId,
    /// Which encoding it gets now.
    pub encoding: Option<u8>,
    /// As it reports; `None` before its first report.
    pub tally: Option<Tally>,
}

/// The link of one participant at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkStatistics {
    /// Smoothed; `None` until a report about what we send tells it.
    pub round_trip: Option<Duration>,
    /// What is believed to fit towards it, in bit/s.
    pub available_bps: u64,
    /// What it is sent, over the last second.
    pub sent_bps: u64,
    pub received: Vec<ReceivedStatistics>,
    pub sent: Vec<SentStatistics>,
}

impl Sfu {
    /// Of a participant, by its slab key.
    pub(crate) fn measure(&mut self, now: Now, key: usize) -> LinkStatistics {
        let participant = &mut self.participants[key];
        let mut link = LinkStatistics {
            available_bps: participant.estimate.available_bps(),
            sent_bps: participant.sent.bitrate_bps(now.instant),
            ..LinkStatistics::default()
        };
        let mut reported = false;
        for sink in participant.sinks.iter().filter(|sink| !sink.is_repair) {
            let subscription = &self.subscriptions[sink.subscription];
            let tally = subscription.tally();
            reported |= tally.is_some();
            let track = self.tracks[subscription.track].id;
            link.sent.push(SentStatistics { track, encoding: subscription.forwarder.current(), tally });
        }
        link.round_trip = reported.then_some(participant.round_trip);
        for &track in &participant.tracks {
            let track = &mut self.tracks[track];
            let encodings = (0u8..).zip(track.activity.iter_mut().zip(&track.encodings));
            link.received.extend(encodings.map(|(encoding, (activity, stream))| ReceivedStatistics {
                track: track.id,
                encoding,
                bitrate_bps: if activity.last_packet().is_some() { activity.bitrate_bps(now.instant) } else { 0 },
                tally: stream.statistics.tally(),
            }));
        }
        link
    }
}
