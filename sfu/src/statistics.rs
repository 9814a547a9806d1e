//! How the link of one participant does: measured once a second, from what the other parts count anyway.

use std::net::SocketAddr;
use std::time::Duration;

use datapath::Now;

use crate::command::TrackId;
use crate::congestion::Choice;
use crate::layers;
use crate::published_track::PublishedTrack;
use crate::sfu::Sfu;
use crate::subscription::Subscription;
use crate::track::Kind;

/// Packets of one RTP stream over the link so far. Only differences mean something: where a stream began counting is its
/// own affair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub expected: u64,
    /// By the link, whether or not they were repaired.
    pub lost: u64,
}

/// What one end asked the other to send again, since the participant joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairRequests {
    /// RFC 4585 §6.2.1.
    pub packets: u32,
    /// RFC 4585 §6.3.1 and RFC 5104 §3.5.1.
    pub keyframes: u32,
}

/// One encoding that a participant sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedStatistics {
    pub track: TrackId,
    pub kind: Kind,
    /// Index into [`crate::TrackSpec::encodings`].
    pub encoding: u8,
    /// Over the last second.
    pub bitrate_bps: u64,
    /// Somebody wants it, and it does not come although others of its track do: the publisher has no room for it.
    pub is_missing: bool,
    pub tally: Tally,
}

/// What a subscriber gets of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// Nothing is to be sent: the subscriber does not show it, or its publisher is silent or muted.
    Idle,
    /// What the subscriber wants, as far as it is published.
    Whole,
    /// Less than that, because no more fits.
    Lowered,
    /// Nothing, because it does not fit.
    Paused,
}

/// One track that a participant is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentStatistics {
    pub track: TrackId,
    pub kind: Kind,
    /// Which encoding it gets now.
    pub encoding: Option<u8>,
    pub portion: Portion,
    /// As it reports; `None` before its first report.
    pub tally: Option<Tally>,
}

/// The link of one participant at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkStatistics {
    /// Where its packets go.
    pub remote: Option<SocketAddr>,
    /// Since its last authenticated packet.
    pub silent: Duration,
    /// Smoothed; `None` until a report about what we send tells it.
    pub round_trip: Option<Duration>,
    /// What its link is believed to carry towards it, in bit/s; `None` while nothing bounds it.
    pub estimate_bps: Option<u64>,
    /// Its share of the server's uplink, in bit/s; `None` while that is enough for all.
    pub uplink_share_bps: Option<u64>,
    /// What it would be sent if everything fitted, in bit/s.
    pub wanted_bps: u64,
    /// What it is sent, over the last second.
    pub sent_bps: u64,
    /// What of it arrives, by its feedback.
    pub acknowledged_bps: Option<u64>,
    /// What stands on the way towards it.
    pub queue: Duration,
    /// The part of the packets towards it that is lost at first, 0 to 1; `None` without transport-wide feedback.
    pub loss: Option<f64>,
    /// Sent of each packet of audio besides itself.
    pub audio_copies: u8,
    /// What it asked us to send again.
    pub asked: RepairRequests,
    /// What we asked it to send again.
    pub requested: RepairRequests,
    pub received: Vec<ReceivedStatistics>,
    pub sent: Vec<SentStatistics>,
}

impl Sfu {
    /// Of a participant, by its slab key.
    pub(crate) fn measure(&mut self, now: Now, key: usize) -> LinkStatistics {
        let participant = &mut self.participants[key];
        let estimate = &mut participant.estimate;
        let acknowledged = estimate.send_side().and_then(|send_side| send_side.acknowledged_bps());
        let estimate_bps = estimate.available_bps();
        let mut link = LinkStatistics {
            remote: participant.address().map(|address| address.remote),
            silent: now.instant.saturating_duration_since(participant.heard),
            estimate_bps: (estimate_bps < u64::MAX).then_some(estimate_bps),
            uplink_share_bps: participant.uplink_share_bps,
            wanted_bps: participant.wanted.audio_bps + participant.wanted.video_bps,
            sent_bps: participant.sent.bitrate_bps(now.instant),
            acknowledged_bps: acknowledged.map(|bps| bps as u64),
            queue: participant.estimate.queue(),
            loss: participant.estimate.loss(),
            audio_copies: participant.audio_repair.copies() as u8,
            asked: participant.asked,
            requested: participant.requested,
            ..LinkStatistics::default()
        };
        let mut reported = false;
        let participant = &self.participants[key];
        link.sent.reserve_exact(participant.sinks.iter().filter(|sink| !sink.is_repair).count());
        for sink in participant.sinks.iter().filter(|sink| !sink.is_repair) {
            let subscription = &self.subscriptions[sink.subscription];
            let tally = subscription.tally();
            reported |= tally.is_some();
            let track = &self.tracks[subscription.track];
            link.sent.push(SentStatistics {
                track: track.id,
                kind: track.spec.codec.kind(),
                encoding: subscription.forwarder.current(),
                portion: portion(subscription, track, self.participants[track.publisher].cap.is_on()),
                tally,
            });
        }
        link.round_trip = reported.then_some(participant.round_trip);
        for &track in &participant.tracks {
            let track = &mut self.tracks[track];
            let is_alive: [bool; 3] = std::array::from_fn(|encoding| layers::is_alive(&track.activity, encoding));
            let kind = track.spec.codec.kind();
            let encodings = (0u8..).zip(track.activity.iter_mut().zip(&track.encodings));
            link.received.extend(encodings.map(|(encoding, (activity, stream))| ReceivedStatistics {
                track: track.id,
                kind,
                encoding,
                bitrate_bps: if activity.last_packet().is_some() { activity.bitrate_bps(now.instant) } else { 0 },
                is_missing: !track.muted
                    && track.wanted.is_some_and(|wanted| encoding <= wanted)
                    && !is_alive[usize::from(encoding)]
                    && is_alive.contains(&true),
                tally: stream.statistics.tally(),
            }));
        }
        link
    }
}

fn portion(subscription: &Subscription, track: &PublishedTrack, is_capped: bool) -> Portion {
    let is_silent = !(0..track.encodings.len()).any(|encoding| layers::is_alive(&track.activity, encoding));
    if subscription.wish.paused || track.muted || is_silent {
        return Portion::Idle;
    }
    if subscription.told_paused {
        return Portion::Paused;
    }
    if !track.is_video() {
        return Portion::Whole;
    }
    let wish = subscription.wish.spatial_max.min(track.top());
    // What rests because this link does not reach it is missed all the same.
    if is_capped || subscription.reach.limit() < wish {
        return Portion::Lowered;
    }
    let best = layers::choose(&track.activity, wish);
    let is_lowered = |choice: Choice| choice.encoding < best || choice.temporal < subscription.wish.temporal_max;
    match subscription.allocated {
        Some(choice) if is_lowered(choice) => Portion::Lowered,
        _ => Portion::Whole,
    }
}
