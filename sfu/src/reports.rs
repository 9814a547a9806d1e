//! RTCP that goes out: what we report to participants and ask of them.

use std::time::Instant;

use datapath::{Now, Outbox, Traffic};

use crate::participant::Participant;
use crate::rtcp::{ReportBlock, Writer};
use crate::sfu::Sfu;
use crate::transport::srtp::RTCP_OVERHEAD;

/// The most octets of one compound, so that it stays below the MTU.
const COMPOUND_MAX: usize = 1100;
/// Sequence numbers asked for at once.
const NACKS_MAX: usize = 128;

impl Sfu {
    /// Asks the publisher for a keyframe of an encoding with which somebody is to begin, as often as the throttle lets
    /// it, until it comes.
    pub(crate) fn request_keyframe(&mut self, now: Now, key: usize, encoding: u8, out: &mut Outbox) {
        let track = &mut self.tracks[key];
        if track.is_video() {
            track.encodings[usize::from(encoding)].keyframes.want(now.instant);
            let publisher = track.publisher;
            self.ask_publisher(now, publisher, key, encoding, out);
        }
    }

    /// The same for somebody who cannot go on. What is missing here is repaired first, unless the subscriber's own link
    /// loses packets: then that may not be what it lacks.
    pub(crate) fn request_picture_repair(
        &mut self,
        now: Now,
        key: usize,
        encoding: u8,
        has_lost: bool,
        out: &mut Outbox,
    ) {
        let track = &mut self.tracks[key];
        if track.is_video() {
            let publisher = track.publisher;
            let stream = &mut track.encodings[usize::from(encoding)];
            if has_lost {
                stream.keyframes.want_repair(now.instant);
            } else {
                let repaired = stream.missing.repaired_by(now.instant, self.participants[publisher].round_trip);
                stream.keyframes.want_unless_repaired(now.instant, repaired);
            }
            self.ask_publisher(now, publisher, key, encoding, out);
        }
    }

    /// Asks a publisher for what is missing of its tracks. Returns when that is next to be done.
    pub(crate) fn ask_for_missing(&mut self, now: Now, key: usize, out: &mut Outbox) -> Option<Instant> {
        for at in 0..self.participants[key].tracks.len() {
            let track = self.participants[key].tracks[at];
            for encoding in 0..self.tracks[track].encodings.len() {
                self.ask_publisher(now, key, track, encoding as u8, out);
            }
        }
        self.participants[key].tracks.iter().filter_map(|&track| self.next_request(now, track)).min()
    }

    /// When something is next to be asked of a track's publisher.
    fn next_request(&self, now: Now, track: usize) -> Option<Instant> {
        let track = &self.tracks[track];
        let requests = track
            .encodings
            .iter()
            .enumerate()
            .flat_map(|(encoding, stream)| [stream.missing.next_poll(), track.keyframe_due(now.instant, encoding)]);
        requests.flatten().min()
    }

    /// Missing packets (RFC 4585 §6.2.1) and keyframes (§6.3.1) of one encoding.
    fn ask_publisher(&mut self, now: Now, key: usize, track: usize, encoding: u8, out: &mut Outbox) {
        let participant = &mut self.participants[key];
        let Some(ssrc) = participant.ssrc_of(track, encoding) else { return };
        let track = &mut self.tracks[track];
        let is_video = track.is_video();
        let stream = &mut track.encodings[usize::from(encoding)];
        let mut lost = [0; NACKS_MAX];
        let count = stream.missing.poll(now.instant, participant.round_trip, &mut lost);
        // Audio goes on by itself.
        if stream.missing.take_gave_up() && is_video {
            stream.keyframes.want_repair(now.instant);
        }
        if stream.missing.missing_count() == 0 {
            stream.keyframes.handle_repaired();
        }
        let is_due = track.keyframe_due(now.instant, usize::from(encoding)).is_some_and(|at| at <= now.instant);
        let keyframes = &mut track.encodings[usize::from(encoding)].keyframes;
        let keyframe = is_due && keyframes.poll(now.instant, participant.round_trip);
        if count == 0 && !keyframe {
            return;
        }
        participant.requested.packets = participant.requested.packets.wrapping_add(count as u32);
        participant.requested.keyframes = participant.requested.keyframes.wrapping_add(u32::from(keyframe));
        let mut buffer = [0; COMPOUND_MAX];
        let mut writer = Writer::new(&mut buffer);
        writer.receiver_report(participant.feedback_ssrc, &[]);
        writer.nack(participant.feedback_ssrc, ssrc, &lost[..count]);
        if keyframe {
            writer.picture_loss(participant.feedback_ssrc, ssrc);
        }
        let length = writer.len();
        send_rtcp(participant, &buffer[..length], out);
    }

    /// About everything that the participant has sent since the last one.
    pub(crate) fn send_transport_feedback(&mut self, now: Now, key: usize, out: &mut Outbox) {
        let participant = &mut self.participants[key];
        // The field means nothing for the whole transport; there may be no source (any more) when packets still come.
        let media_ssrc = participant.sources.first().map_or(0, |source| source.ssrc);
        let feedback_ssrc = participant.feedback_ssrc;
        loop {
            let mut buffer = [0; COMPOUND_MAX];
            let mut writer = Writer::new(&mut buffer);
            if !participant.arrivals.write(now.instant, &mut writer, feedback_ssrc, media_ssrc) {
                return;
            }
            let length = writer.len();
            send_rtcp(participant, &buffer[..length], out);
        }
    }

    /// About everything that is sent to the participant.
    pub(crate) fn send_sender_reports(&mut self, now: Now, key: usize, out: &mut Outbox) {
        let mut buffer = [0; COMPOUND_MAX];
        let mut length = 0;
        for at in 0..self.participants[key].sinks.len() {
            let sink = self.participants[key].sinks[at];
            let subscription = &mut self.subscriptions[sink.subscription];
            let track = &self.tracks[subscription.track];
            let forwarder = &subscription.forwarder;
            let clock = forwarder.current().and_then(|encoding| track.clocks[usize::from(encoding)]);
            let Some((clock, offset)) = clock.zip(forwarder.timestamp_offset()) else { continue };
            if sink.is_repair || !subscription.reports.has_sent() {
                continue;
            }
            let info = subscription.reports.report(now.instant, &clock, offset);
            if COMPOUND_MAX - length < SENDER_REPORT {
                send_rtcp(&mut self.participants[key], &buffer[..length], out);
                length = 0;
            }
            let mut writer = Writer::new(&mut buffer[length..]);
            writer.sender_report(sink.ssrc, &info);
            length += writer.len();
        }
        if length > 0 {
            send_rtcp(&mut self.participants[key], &buffer[..length], out);
        }
    }

    /// About everything that the participant sends.
    pub(crate) fn send_receiver_report(&mut self, now: Now, key: usize, out: &mut Outbox) {
        let participant = &self.participants[key];
        // RFC 3550 §6.4.2: the count has five bits. More streams than that at once nobody sends.
        let mut blocks = [ReportBlock::default(); 31];
        let mut count = 0;
        for source in participant.sources.iter().filter(|source| !source.is_repair) {
            let stream = &mut self.tracks[source.track].encodings[usize::from(source.encoding)];
            if count < blocks.len()
                && let Some(block) = stream.statistics.report(source.ssrc, now.instant)
            {
                stream.keyframes.handle_loss(f64::from(block.fraction_lost) / 256.0);
                blocks[count] = block;
                count += 1;
            }
        }
        if count == 0 {
            return;
        }
        let remb = self.publisher_cap(now, key);
        let participant = &mut self.participants[key];
        let mut buffer = [0; COMPOUND_MAX];
        let mut writer = Writer::new(&mut buffer);
        writer.receiver_report(participant.feedback_ssrc, &blocks[..count]);
        if let Some(bitrate_bps) = remb {
            // It bounds a browser's own estimate, beside transport-wide feedback too.
            writer.remb(participant.feedback_ssrc, bitrate_bps, &blocks.map(|block| block.ssrc)[..count]);
        }
        let length = writer.len();
        send_rtcp(participant, &buffer[..length], out);
    }
}

/// Octets of a sender report without report blocks.
const SENDER_REPORT: usize = 28;

/// Protects the compound in `plain` and sends it.
fn send_rtcp(participant: &mut Participant, plain: &[u8], out: &mut Outbox) {
    let Some(to) = participant.address() else { return };
    let Some(sender) = &mut participant.sender else { return };
    let mut sent = 0;
    out.write(to.local, to.remote, plain.len() + RTCP_OVERHEAD, |buffer| {
        buffer[..plain.len()].copy_from_slice(plain);
        sent = sender.protect_rtcp(buffer, plain.len());
        Some(sent)
    });
    out.counters.sent(Traffic::Rtcp, sent);
}
