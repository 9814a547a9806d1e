//! RTCP that comes in: what participants report and ask.

use std::time::Duration;

use datapath::{Discard, Now, Outbox, Traffic};

use crate::congestion::Priority;
use crate::deadlines::Timer;
use crate::pacing::{DEPARTURE_OVERHEAD, Departure};
use crate::rtcp::{self, ReportBlock, Rtcp, SenderInfo, TransportFeedback};
use crate::sender_report::ClockMap;
use crate::sfu::Sfu;
use crate::transport::SrtpError;

/// A round trip longer than this is a mistake of somebody's clock.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(5);

/// Transport-wide feedback speaks of packets that came up to so long before it.
const FEEDBACK_WAITS: Duration = Duration::from_millis(100);

/// An estimate that rises by this at once was proved by a probe; one that falls by that is answered at once.
const PROVED: f64 = 1.15;
const FALLEN: f64 = 0.97;

/// A link that loses this part of its packets may have lost what its subscriber's picture lacks.
const OWN_LOSS: f64 = 0.01;

/// What takes a link longer to repair (it had nothing for a while, say) costs more than a keyframe, which is there as soon.
const REPAIR_MAX: Duration = Duration::from_millis(400);

/// What one datagram of reports may ask for: a few octets name thousands of packets, each of them work. A receiver's own
/// reports come nowhere near.
const STATUSES_MAX: usize = 8_192;
const NACKS_MAX: usize = 1_024;

/// What a datagram may still ask for.
struct Budget {
    statuses: usize,
    nacks: usize,
}

/// Packets lost and expected, over all the streams that one compound reports on.
#[derive(Default)]
struct Loss {
    lost: u32,
    expected: u32,
}

impl Sfu {
    pub(crate) fn handle_rtcp(&mut self, now: Now, key: usize, datagram: &mut [u8], out: &mut Outbox) {
        out.counters.received(Traffic::Rtcp, datagram.len());
        let Some(receiver) = &mut self.participants[key].receiver else {
            return out.counters.discard(Discard::NoKeys);
        };
        let length = match receiver.unprotect_rtcp(datagram) {
            Ok(length) => length,
            Err(SrtpError::Replayed) => return out.counters.discard(Discard::Replayed),
            Err(SrtpError::Short | SrtpError::BadTag) => return out.counters.discard(Discard::BadSrtp),
        };
        self.mark_heard(now, key);
        let mut loss = Loss::default();
        let mut budget = Budget { statuses: STATUSES_MAX, nacks: NACKS_MAX };
        let mut packets = rtcp::packets(&datagram[..length]);
        for packet in packets.by_ref() {
            self.handle_rtcp_packet(now, key, packet, &mut loss, &mut budget, out);
        }
        if packets.is_malformed() {
            out.counters.discard(Discard::MalformedRtcp);
        }
        if loss.expected > 0 {
            let participant = &mut self.participants[key];
            let sent_bps = participant.sent.bitrate_bps(now.instant);
            participant.estimate.by_reports.handle_loss(now.instant, loss.lost as f32 / loss.expected as f32, sent_bps);
        }
    }

    fn handle_rtcp_packet(
        &mut self,
        now: Now,
        key: usize,
        packet: Rtcp<'_>,
        loss: &mut Loss,
        budget: &mut Budget,
        out: &mut Outbox,
    ) {
        match packet {
            Rtcp::SenderReport { ssrc, info, reports } => {
                self.handle_sender_report(now, key, ssrc, &info);
                reports.for_each(|block| self.handle_report_block(now, key, &block, loss));
            }
            Rtcp::ReceiverReport { reports, .. } => {
                reports.for_each(|block| self.handle_report_block(now, key, &block, loss));
            }
            Rtcp::Nack { media_ssrc, lost, .. } => {
                let lost = lost.take(budget.nacks).inspect(|_| budget.nacks -= 1);
                self.handle_nack(now, key, media_ssrc, lost, out);
            }
            Rtcp::PictureLoss { media_ssrc, .. } => self.handle_picture_loss(now, key, media_ssrc, out),
            Rtcp::FullIntraRequest { entries, .. } => {
                entries.for_each(|(ssrc, _)| self.handle_picture_loss(now, key, ssrc, out));
            }
            Rtcp::Remb { bitrate_bps, .. } => {
                let participant = &mut self.participants[key];
                let sent_bps = participant.sent.bitrate_bps(now.instant);
                participant.estimate.by_reports.handle_remb(now.instant, bitrate_bps, sent_bps);
            }
            Rtcp::TransportFeedback(feedback) => match budget.statuses.checked_sub(feedback.status_count.into()) {
                Some(left) => {
                    budget.statuses = left;
                    self.handle_transport_feedback(now, key, &feedback);
                }
                None => out.counters.discard(Discard::LimitReached),
            },
            // A goodbye says less than the offer that follows.
            Rtcp::Bye { .. } | Rtcp::Other { .. } => {}
        }
    }

    fn handle_transport_feedback(&mut self, now: Now, key: usize, feedback: &TransportFeedback<'_>) {
        let shared_link = self.bound_by_shared_link(now, key);
        let participant = &mut self.participants[key];
        let Some(send_side) = participant.estimate.send_side() else { return };
        let before = send_side.target_bps();
        send_side.handle_feedback(now.instant, feedback);
        let after = send_side.target_bps();
        // It comes many times a second, reports once: where they have not seen a change yet, this has.
        let by_feedback = send_side.round_trip();
        participant.round_trip = participant.round_trip.clamp(by_feedback.saturating_sub(FEEDBACK_WAITS), by_feedback);
        participant.pacer.set_estimate(after.max(participant.chosen_bps as f64));
        if after > before * PROVED {
            participant.steady.prove(now.instant, after as u64);
        }
        // A fall is answered at once, and what a probe has found.
        let is_urgent = after < before * FALLEN || after > before * PROVED;
        if is_urgent && !participant.sinks.is_empty() {
            participant.allocation_due = now.instant;
            self.wake(key, now.instant);
        }
        if let Some(network) = shared_link {
            self.tell_shared_link(now, key, network);
        }
    }

    fn handle_sender_report(&mut self, now: Now, key: usize, ssrc: u32, info: &SenderInfo) {
        let Some(source) = self.participants[key].source(ssrc).filter(|source| !source.is_repair) else { return };
        let track = &mut self.tracks[source.track];
        let encoding = usize::from(source.encoding);
        track.encodings[encoding].statistics.handle_sender_report(info.ntp, now.instant);
        let clock = ClockMap::new(info.ntp, info.rtp_timestamp, track.spec.codec.clock_rate(), now.instant);
        let is_first = track.clocks[encoding].replace(clock).is_none();
        if is_first {
            // Until its subscribers have a report too, they cannot line audio and video up.
            for &subscription in &track.subscriptions {
                let subscriber = self.subscriptions[subscription].subscriber;
                let participant = &mut self.participants[subscriber];
                participant.report_due = now.instant;
                participant.due.schedule(now.instant, Timer::Participant(subscriber), &mut self.deadlines);
            }
        }
    }

    fn handle_report_block(&mut self, now: Now, key: usize, block: &ReportBlock, loss: &mut Loss) {
        let participant = &mut self.participants[key];
        let Some(sink) = participant.sink(block.ssrc).filter(|sink| !sink.is_repair) else { return };
        let subscription = &mut self.subscriptions[sink.subscription];
        let (lost, expected) = subscription.loss_since_report(block);
        loss.lost += lost;
        loss.expected += expected;
        let round_trip = subscription.reports.round_trip(block, now.instant);
        if let Some(round_trip) = round_trip.filter(|&round_trip| round_trip <= ROUND_TRIP_MAX) {
            participant.round_trip = (participant.round_trip * 7 + round_trip) / 8;
        }
    }

    /// RFC 4585 §6.2.1, answered by RFC 4588, or with a new beginning where that takes longer.
    fn handle_nack(&mut self, now: Now, key: usize, ssrc: u32, lost: impl Iterator<Item = u16>, out: &mut Outbox) {
        let participant = &mut self.participants[key];
        let Some(sink) = participant.sink(ssrc).filter(|sink| !sink.is_repair) else { return };
        let subscription = &mut self.subscriptions[sink.subscription];
        let track = &self.tracks[subscription.track];
        let mut begins_again = false;
        for number in lost {
            participant.asked.packets = participant.asked.packets.wrapping_add(1);
            let Some((encoding, sequence)) = subscription.forwarder.source_of(number) else { continue };
            // What was forwarded before a keyframe is of no use any more, nor what was before a pause: one comes after it.
            if subscription.forwarder.is_past(number) || !subscription.forwarder.is_forwarding(encoding) {
                continue;
            }
            let stream = &track.encodings[usize::from(encoding)];
            // What the publisher's link has lost is asked for there already, and goes on when it comes.
            let Some((media, payload)) = stream.history.get(sequence) else { continue };
            let Some(rewrite) = subscription.forwarder.rewrite_again(media) else { continue };
            // One that waits for the link is under way as well.
            let under_way = participant.round_trip + participant.pacer.wait(Priority::Repair);
            if !subscription.resends.allow(number, payload.len(), under_way, now.instant) {
                continue;
            }
            if participant.pacer.admits(now.instant, payload.len() + DEPARTURE_OVERHEAD) {
                let sent = subscription.resend(now, participant, &rewrite, payload, out);
                participant.sent.receive(now.instant, sent);
            } else {
                let departure =
                    Departure { subscription: sink.subscription, encoding, sequence, rewrite, is_repair: true };
                participant.wait(now, Priority::Repair, payload.len(), departure, out);
                if let Some(at) = participant.pacer.next_departure() {
                    participant.departures_due.schedule(at, Timer::Departures(key), &mut self.deadlines);
                }
                if participant.pacer.repair_time() > REPAIR_MAX {
                    participant.pacer.retain(|departure| departure.subscription != sink.subscription);
                    subscription.forwarder.begin_again();
                    begins_again = true;
                }
            }
        }
        if begins_again && let Some(encoding) = subscription.forwarder.target() {
            let track = subscription.track;
            self.request_keyframe(now, track, encoding, out);
        }
    }

    /// PLI or FIR of a subscriber: for the publisher of the encoding that it receives.
    fn handle_picture_loss(&mut self, now: Now, key: usize, ssrc: u32, out: &mut Outbox) {
        let participant = &mut self.participants[key];
        let Some(sink) = participant.sink(ssrc).filter(|sink| !sink.is_repair) else { return };
        participant.asked.keyframes = participant.asked.keyframes.wrapping_add(1);
        let has_lost = participant.estimate.loss().is_some_and(|loss| loss >= OWN_LOSS);
        let subscription = &self.subscriptions[sink.subscription];
        if let Some(encoding) = subscription.forwarder.current().or(subscription.forwarder.target()) {
            self.request_picture_repair(now, subscription.track, encoding, has_lost, out);
        }
    }
}
