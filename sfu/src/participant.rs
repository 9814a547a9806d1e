//! One participant: a transport, what is published through it and what is sent to it.

use std::time::{Duration, Instant};

use datapath::prefetch;

use crate::command::{ParticipantId, RoomId};
use crate::congestion::{AudioRepair, Estimate, FeedbackGenerator, Pacer, Steady};
use crate::deadlines::Due;
use crate::layers::EncodingActivity;
use crate::loudest::Trial;
use crate::pacing::Departure;
use crate::reach::Cap;
use crate::replaced_ssrcs::ReplacedSsrcs;
use crate::shared_links::Behind;
use crate::statistics::RepairRequests;
use crate::track::ExtensionIds;
use crate::transport::{DataChannels, DtlsSession, FiveTuple, IceLite, SrtpReceiver, SrtpSender};
use crate::uplink::{Need, audio_need, video_need};

/// Assumed until reports tell it.
const ROUND_TRIP: Duration = Duration::from_millis(100);

/// SSRCs that are remembered so that they are not used again.
const SPENT_MAX: usize = 1 << 16;

/// An SSRC of this participant and what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub ssrc: u32,
    /// Slab key of the track.
    pub track: usize,
    /// Index of the encoding.
    pub encoding: u8,
    /// A retransmission stream (RFC 4588).
    pub is_repair: bool,
}

/// An SSRC that we send to this participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sink {
    pub ssrc: u32,
    /// Slab key of the subscription.
    pub subscription: usize,
    pub is_repair: bool,
}

/// How the transport stands, as the control plane was last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    New,
    Connected,
    /// Silent for longer than the limit; packets bring it back.
    Silent,
    /// DTLS is over: only a new participant helps.
    Ended,
}

pub struct Participant {
    pub id: ParticipantId,
    pub room: RoomId,
    pub ice: Option<IceLite>,
    /// Boxed, for it is large and seldom needed, while a frame goes past everybody.
    pub dtls: Option<Box<DtlsSession>>,
    pub sender: Option<SrtpSender>,
    pub receiver: Option<SrtpReceiver>,
    /// Made when the first SCTP packet or the first message to send asks for it.
    pub data: Option<Box<DataChannels>>,
    pub connection: Connection,
    /// Its transport came up in this turn.
    pub comes_in: bool,
    /// When the last packet came that its sender had authenticated.
    pub heard: Instant,
    /// Slab keys of what it publishes.
    pub tracks: Vec<usize>,
    /// What it sends, by SSRC; a few.
    pub sources: Vec<Source>,
    /// What it sent before, with other SSRCs.
    pub replaced_ssrcs: ReplacedSsrcs,
    /// What is sent to it, sorted by SSRC.
    pub sinks: Vec<Sink>,
    /// SSRCs that subscriptions had which are over, sorted. A new stream under the same SSRC would count its packets from
    /// the beginning, and so repeat nonces under the same key (RFC 3711 §9.1, RFC 7714 §8.2).
    spent_ssrcs: Vec<u32>,
    /// The ids of all its sections together: RFC 8843 §9.1 lets an id mean one thing only in a bundle.
    pub extensions: ExtensionIds,
    /// Our SSRC as a sender of feedback to it.
    pub feedback_ssrc: u32,
    /// When its packets arrived, for transport-wide feedback.
    pub arrivals: FeedbackGenerator,
    /// What its link carries.
    pub estimate: Estimate,
    /// The link that others of its room may share.
    pub behind: Option<Behind>,
    /// What waits until its link takes it.
    pub pacer: Pacer<Departure>,
    pub audio_repair: AudioRepair,
    pub voice_trial: Trial,
    pub departures_due: Due,
    /// A cap on what it is sent, for tests, in bit/s.
    pub bandwidth_limit_bps: Option<u64>,
    /// What it would be sent if everything fitted.
    pub wanted: Need,
    /// Its share of the server's uplink, in bit/s, while that is too small for all.
    pub uplink_share_bps: Option<u64>,
    /// Of what it publishes.
    pub cap: Cap,
    /// What it is sent.
    pub sent: EncodingActivity,
    /// What it asked us to send again, and what we asked it.
    pub asked: RepairRequests,
    pub requested: RepairRequests,
    /// Smoothed, by its reports about what we send.
    pub round_trip: Duration,
    /// What the estimate has held for a while.
    pub steady: Steady,
    /// What was last chosen to be sent takes, in bit/s: it may exceed the estimate a little.
    pub chosen_bps: u64,
    /// When its videos are next given their encodings.
    pub allocation_due: Instant,
    /// When reports are next due.
    pub report_due: Instant,
    /// When its link is next measured.
    pub measurement_due: Instant,
    /// When any of these, or feedback to it, is.
    pub regular_due: Due,
    /// When something is due that has its moment.
    pub due: Due,
}

impl Participant {
    pub fn new(id: ParticipantId, room: RoomId, feedback_ssrc: u32, now: Instant) -> Participant {
        Participant {
            id,
            room,
            ice: None,
            dtls: None,
            sender: None,
            receiver: None,
            data: None,
            connection: Connection::New,
            comes_in: false,
            heard: now,
            tracks: Vec::new(),
            sources: Vec::new(),
            replaced_ssrcs: ReplacedSsrcs::default(),
            sinks: Vec::new(),
            spent_ssrcs: Vec::new(),
            extensions: ExtensionIds::default(),
            feedback_ssrc,
            arrivals: FeedbackGenerator::default(),
            estimate: Estimate::default(),
            behind: None,
            pacer: Pacer::default(),
            audio_repair: AudioRepair::default(),
            voice_trial: Trial::default(),
            departures_due: Due::default(),
            bandwidth_limit_bps: None,
            wanted: Need::default(),
            uplink_share_bps: None,
            cap: Cap::default(),
            sent: EncodingActivity::new(0),
            asked: RepairRequests::default(),
            requested: RepairRequests::default(),
            round_trip: ROUND_TRIP,
            steady: Steady::default(),
            chosen_bps: 0,
            allocation_due: now,
            report_due: now,
            measurement_due: now,
            regular_due: Due::default(),
            due: Due::default(),
        }
    }

    /// Has in the cache soon what sending needs of it, which is not half of it all.
    pub fn prefetch(&self) {
        prefetch(&self.ice);
        prefetch(&self.sender);
        prefetch(&self.estimate);
        prefetch(&self.pacer);
        prefetch(&self.audio_repair);
        prefetch(&self.sent);
        prefetch(&self.departures_due);
    }

    /// Where its packets go, once ICE knows.
    pub fn address(&self) -> Option<FiveTuple> {
        self.ice.as_ref()?.selected()
    }

    /// What it needs of the server's uplink, as far as its own link may carry it.
    pub fn need(&self) -> Need {
        let Need { audio_bps, video_bps } = self.wanted;
        let video_bps = video_need(video_bps, audio_bps, self.estimate.available_bps());
        Need { audio_bps: audio_need(audio_bps), video_bps }
    }

    /// The most that it may be sent, whatever its own link carries, in bit/s.
    pub fn limit_bps(&self) -> u64 {
        [self.bandwidth_limit_bps, self.uplink_share_bps].into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// When DTLS, or the SCTP inside it, is next to do something of its own accord.
    pub fn secure_channel_due(&self) -> Option<Instant> {
        let dtls = self.dtls.as_ref()?;
        let data = self.data.as_ref().and_then(|data| data.poll_timeout());
        [dtls.poll_timeout(), data].into_iter().flatten().min()
    }

    pub fn handle_secure_channel_timeout(&mut self, now: Instant) {
        if let Some(dtls) = &mut self.dtls {
            dtls.handle_timeout(now);
        }
        if let Some(data) = &mut self.data {
            data.handle_timeout(now);
        }
    }

    pub fn source(&self, ssrc: u32) -> Option<Source> {
        self.sources.iter().find(|source| source.ssrc == ssrc).copied()
    }

    /// The SSRC of an encoding, once known.
    pub fn ssrc_of(&self, track: usize, encoding: u8) -> Option<u32> {
        let wanted = (track, encoding, false);
        self.sources
            .iter()
            .find(|source| (source.track, source.encoding, source.is_repair) == wanted)
            .map(|source| source.ssrc)
    }

    /// Binds an SSRC to a stream of a track, in place of the SSRC that the stream had before (an encoder that starts over
    /// may choose a new one).
    pub fn bind_source(&mut self, source: Source) {
        self.sources.retain(|known| {
            known.ssrc != source.ssrc
                && (known.track, known.encoding, known.is_repair) != (source.track, source.encoding, source.is_repair)
        });
        self.sources.push(source);
        self.replaced_ssrcs.remove(source.ssrc);
    }

    pub fn sink(&self, ssrc: u32) -> Option<Sink> {
        let at = self.sinks.binary_search_by_key(&ssrc, |sink| sink.ssrc).ok()?;
        Some(self.sinks[at])
    }

    /// Whether a new stream may be sent under the SSRC.
    pub fn is_unused(&self, ssrc: u32) -> bool {
        self.sink(ssrc).is_none() && self.spent_ssrcs.binary_search(&ssrc).is_err()
    }

    /// Whether so many subscriptions are over that only a new transport, with new keys, helps.
    pub fn is_spent(&self) -> bool {
        self.spent_ssrcs.len() >= SPENT_MAX
    }

    /// The SSRC is unused.
    pub fn add_sink(&mut self, sink: Sink) {
        let at = self.sinks.partition_point(|known| known.ssrc < sink.ssrc);
        self.sinks.insert(at, sink);
    }

    /// Ends what is sent for a subscription. Its SSRCs are not used again.
    pub fn remove_sinks(&mut self, subscription: usize) {
        let spent = &mut self.spent_ssrcs;
        self.sinks.retain(|sink| {
            let stays = sink.subscription != subscription;
            if !stays {
                let at = spent.partition_point(|&known| known < sink.ssrc);
                spent.insert(at, sink.ssrc);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    #[test]
    fn a_stream_has_one_ssrc_at_a_time() {
        let mut participant = Participant::new(ParticipantId(1), RoomId(1), 1, start());
        let source = Source { ssrc: 10, track: 0, encoding: 0, is_repair: false };
        participant.bind_source(source);
        participant.bind_source(Source { is_repair: true, ssrc: 11, ..source });
        participant.bind_source(Source { ssrc: 12, ..source });
        assert_eq!(participant.source(10), None);
        assert_eq!(participant.source(12).map(|source| source.is_repair), Some(false));
        assert_eq!(participant.source(11).map(|source| source.is_repair), Some(true));
    }

    #[test]
    fn an_ssrc_is_sent_with_once() {
        let mut participant = Participant::new(ParticipantId(1), RoomId(1), 1, start());
        let sink = Sink { ssrc: 5, subscription: 0, is_repair: false };
        participant.add_sink(sink);
        participant.add_sink(Sink { ssrc: 3, is_repair: true, ..sink });
        participant.add_sink(Sink { ssrc: 4, subscription: 1, ..sink });
        assert_eq!(participant.sink(5), Some(sink));
        assert_eq!(participant.sink(6), None);
        assert!(!participant.is_unused(5));
        participant.remove_sinks(0);
        assert_eq!(participant.sink(5), None);
        assert!(!participant.is_unused(5) && !participant.is_unused(3), "spent");
        assert_eq!(participant.sink(4).map(|sink| sink.subscription), Some(1));
        assert!(participant.is_unused(6));
    }
}
