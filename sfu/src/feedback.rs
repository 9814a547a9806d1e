//! RTCP: what participants report and ask, and what we report to and ask of them.

use std::time::{Duration, Instant};

use datapath::{Discard, Now, Outbox, Traffic};

use crate::participant::Participant;
use crate::rtcp::{self, ReportBlock, Rtcp, SenderInfo, Writer};
use crate::sender_report::ClockMap;
use crate::sfu::Sfu;
use crate::track::Kind;
use crate::transport::srtp::RTCP_OVERHEAD;

/// Reports are sent this often (RFC 3550 §6.2 would allow it at our bandwidths; browsers do the same).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How often a publisher is looked at for losses to be asked for again, and for feedback.
const PUBLISHER_TICK: Duration = Duration::from_millis(20);
/// The most octets of one compound, so that it stays below the MTU.
const COMPOUND_MAX: usize = 1100;
/// A publisher is asked for a keyframe of one encoding no more often than this.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);

impl Sfu {
    pub(crate) fn handle_rtcp(&mut self, now: Now, key: usize, datagram: &mut [u8], out: &mut Outbox) {
        out.counters.received(Traffic::Rtcp, datagram.len());
        let Some(receiver) = &mut self.participants[key].receiver else {
            return out.counters.discard(Discard::NoKeys);
        };
        let length = match receiver.unprotect_rtcp(datagram) {
            Ok(length) => length,
            Err(crate::transport::SrtpError::Replayed) => return out.counters.discard(Discard::Replayed),
            Err(_) => return out.counters.discard(Discard::BadSrtp),
        };
        self.mark_heard(now, key);
        let mut packets = rtcp::packets(&datagram[..length]);
        for packet in packets.by_ref() {
            self.handle_rtcp_packet(now, key, packet, out);
        }
        if packets.is_malformed() {
            out.counters.discard(Discard::MalformedRtcp);
        }
    }

    fn handle_rtcp_packet(&mut self, now: Now, key: usize, packet: Rtcp<'_>, out: &mut Outbox) {
        match packet {
            Rtcp::SenderReport { ssrc, info, reports } => {
                self.handle_sender_report(now, key, ssrc, &info);
                reports.for_each(|block| self.handle_report_block(now, key, &block));
            }
            Rtcp::ReceiverReport { reports, .. } => {
                reports.for_each(|block| self.handle_report_block(now, key, &block));
            }
            Rtcp::PictureLoss { media_ssrc, .. } => self.handle_keyframe_wish(now, key, media_ssrc, out),
            Rtcp::FullIntraRequest { entries, .. } => {
                entries.for_each(|(ssrc, _)| self.handle_keyframe_wish(now, key, ssrc, out));
            }
            _ => {}
        }
    }

    fn handle_sender_report(&mut self, now: Now, key: usize, ssrc: u32, info: &SenderInfo) {
        let Some(source) = self.participants[key].source(ssrc).filter(|source| !source.is_repair) else { return };
        let track = &mut self.tracks[source.track];
        let encoding = usize::from(source.encoding);
        track.encodings[encoding].statistics.handle_sender_report(info.ntp, now.instant);
        let clock = ClockMap::new(info.ntp, info.rtp_timestamp, track.spec.codec.clock_rate(), now.instant);
        track.clocks[encoding] = Some(clock);
    }

    fn handle_report_block(&mut self, _now: Now, _key: usize, _block: &ReportBlock) {}

    /// PLI or FIR of a subscriber: passed on to the publisher of the encoding that it receives.
    fn handle_keyframe_wish(&mut self, now: Now, key: usize, ssrc: u32, out: &mut Outbox) {
        let Some(sink) = self.participants[key].sink(ssrc).filter(|sink| !sink.is_repair) else { return };
        let subscription = &self.subscriptions[sink.subscription];
        if let Some(encoding) = subscription.forwarder.current().or(subscription.forwarder.target()) {
            self.request_keyframe(now, subscription.track, encoding, out);
        }
    }
}

impl Sfu {
    /// Asks the publisher for a keyframe of an encoding, as often as the throttle lets it.
    pub(crate) fn request_keyframe(&mut self, now: Now, key: usize, encoding: u8, out: &mut Outbox) {
        let track = &mut self.tracks[key];
        if track.spec.codec.kind() == Kind::Audio {
            return;
        }
        let stream = &mut track.encodings[usize::from(encoding)];
        if stream.keyframe_requested.is_some_and(|at| now.instant.saturating_duration_since(at) < KEYFRAME_INTERVAL) {
            return;
        }
        let publisher = &mut self.participants[track.publisher];
        let Some(ssrc) = publisher.ssrc_of(key, encoding) else { return };
        stream.keyframe_requested = Some(now.instant);
        let feedback_ssrc = publisher.feedback_ssrc;
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer);
        writer.receiver_report(feedback_ssrc, &[]);
        writer.picture_loss(feedback_ssrc, ssrc);
        let length = writer.len();
        send_rtcp(publisher, &buffer[..length], out);
    }

    /// What a participant is due: reports about what it sends and what it is sent.
    pub(crate) fn tick_media(&mut self, now: Now, key: usize, out: &mut Outbox) -> Option<Instant> {
        self.participants[key].sender.as_ref()?;
        self.request_missing_keyframes(now, key, out);
        if self.participants[key].report_due <= now.instant {
            self.participants[key].report_due = now.instant + REPORT_INTERVAL;
            self.send_reports(now, key, out);
        }
        let participant = &self.participants[key];
        let next = if participant.sources.is_empty() { participant.report_due } else { now.instant + PUBLISHER_TICK };
        Some(next)
    }

    /// Asks again for the keyframes that this participant's subscriptions wait for.
    fn request_missing_keyframes(&mut self, now: Now, key: usize, out: &mut Outbox) {
        for at in 0..self.participants[key].sinks.len() {
            let sink = self.participants[key].sinks[at];
            if sink.is_repair {
                continue;
            }
            let subscription = &self.subscriptions[sink.subscription];
            if let Some(encoding) = subscription.forwarder.wants_keyframe() {
                self.request_keyframe(now, subscription.track, encoding, out);
            }
        }
    }

    fn send_reports(&mut self, now: Now, key: usize, out: &mut Outbox) {
        let mut buffer = [0; COMPOUND_MAX];
        // Sender reports for what it is sent.
        for at in 0..self.participants[key].sinks.len() {
            let sink = self.participants[key].sinks[at];
            if sink.is_repair {
                continue;
            }
            let subscription = &mut self.subscriptions[sink.subscription];
            let track = &self.tracks[subscription.track];
            let Some(encoding) = subscription.forwarder.current() else { continue };
            let Some(clock) = track.clocks[usize::from(encoding)] else { continue };
            let Some(offset) = subscription.forwarder.timestamp_offset() else { continue };
            if !subscription.reports.has_sent() {
                continue;
            }
            let info = subscription.reports.report(now.instant, &clock, offset);
            let mut writer = Writer::new(&mut buffer);
            writer.sender_report(sink.ssrc, &info);
            let length = writer.len();
            send_rtcp(&mut self.participants[key], &buffer[..length], out);
        }
        // Receiver reports about what it sends.
        let participant = &self.participants[key];
        let mut blocks = [ReportBlock::default(); 31];
        let mut count = 0;
        for source in participant.sources.iter().filter(|source| !source.is_repair) {
            let stream = &mut self.tracks[source.track].encodings[usize::from(source.encoding)];
            if count < blocks.len()
                && let Some(block) = stream.statistics.report(source.ssrc, now.instant)
            {
                blocks[count] = block;
                count += 1;
            }
        }
        if count > 0 {
            let mut writer = Writer::new(&mut buffer);
            writer.receiver_report(participant.feedback_ssrc, &blocks[..count]);
            let length = writer.len();
            send_rtcp(&mut self.participants[key], &buffer[..length], out);
        }
    }
}

/// Protects the compound in `plain` and sends it.
pub(crate) fn send_rtcp(participant: &mut Participant, plain: &[u8], out: &mut Outbox) {
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
