//! Trip 3: a publisher's RTP packet to its subscribers.

use std::time::Instant;

use datapath::{Discard, Now, Outbox, Traffic};

use crate::deadlines::Timer;
use crate::forwarder::Decision;
use crate::media_packet::MediaPacket;
use crate::pacing::{DEPARTURE_OVERHEAD, Departure, IP_AND_UDP};
use crate::participant::{Participant, Source};
use crate::published_track::PublishedTrack;
use crate::rtp::{Extensions, RtpHeader, RtpPacket, rtx_unwrap};
use crate::sequence::Received;
use crate::sfu::Sfu;
use crate::speaker;
use crate::subscription::Subscription;
use crate::transport::SrtpError;

/// A plain packet of an encoding.
struct Arrived<'a> {
    source: Source,
    /// Unwrapped.
    sequence: u64,
    header: RtpHeader,
    received_at: Instant,
    bytes: &'a [u8],
}

impl Sfu {
    pub(crate) fn handle_rtp(
        &mut self,
        now: Now,
        key: usize,
        received_at: Instant,
        datagram: &mut [u8],
        out: &mut Outbox,
    ) {
        out.counters.received(Traffic::Rtp, datagram.len());
        let Ok(header) = RtpHeader::parse(datagram) else {
            return out.counters.discard(Discard::MalformedRtp);
        };
        let participant = &mut self.participants[key];
        let Some(receiver) = &mut participant.receiver else {
            return out.counters.discard(Discard::NoKeys);
        };
        let header_len = usize::from(header.len);
        let length = match receiver.unprotect_rtp(datagram, header_len, header.ssrc, header.sequence_number) {
            Ok((length, _)) => length,
            Err(SrtpError::Replayed) => return out.counters.discard(Discard::Replayed),
            Err(SrtpError::Short | SrtpError::BadTag) => return out.counters.discard(Discard::BadSrtp),
        };
        self.mark_heard(now, key);
        let packet = &mut datagram[..length];
        let participant = &mut self.participants[key];
        let extensions = Extensions::of(&header, packet, &participant.extensions);
        if let Some(sequence) = extensions.transport_cc {
            participant.arrivals.receive(sequence, received_at);
            if let Some(at) = participant.arrivals.next_feedback() {
                participant.due.schedule(at, Timer::Participant(key), &mut self.deadlines);
            }
        }
        let Some(source) =
            participant.source(header.ssrc).or_else(|| identify(participant, &self.tracks, &header, &extensions))
        else {
            return out.counters.discard(Discard::UnknownSsrc);
        };
        if source.is_repair {
            self.receive_repair(now, source, &header, received_at, packet, out);
        } else {
            self.receive_media(now, source, &header, received_at, packet, out);
        }
    }

    /// A packet of an encoding itself.
    fn receive_media(
        &mut self,
        now: Now,
        source: Source,
        header: &RtpHeader,
        received_at: Instant,
        bytes: &[u8],
        out: &mut Outbox,
    ) {
        let track = &mut self.tracks[source.track];
        if header.payload_type != track.spec.payload_type {
            return out.counters.discard(Discard::UnknownPayloadType);
        }
        let stream = &mut track.encodings[usize::from(source.encoding)];
        match stream.statistics.receive(header.sequence_number, header.timestamp, received_at) {
            Received::Packet { sequence } => {
                let header = *header;
                self.forward(now, Arrived { source, sequence, header, received_at, bytes }, out);
            }
            Received::Suspicious => out.counters.discard(Discard::MalformedRtp),
        }
    }

    /// A retransmission (RFC 4588): the packet that was lost, if it carries one.
    fn receive_repair(
        &mut self,
        now: Now,
        source: Source,
        header: &RtpHeader,
        received_at: Instant,
        bytes: &mut [u8],
        out: &mut Outbox,
    ) {
        let track = &self.tracks[source.track];
        if Some(header.payload_type) != track.spec.rtx_payload_type {
            return out.counters.discard(Discard::UnknownPayloadType);
        }
        let original_ssrc = self.participants[track.publisher].ssrc_of(source.track, source.encoding);
        let payload_type = track.spec.payload_type;
        let Some(original) = original_ssrc.and_then(|ssrc| rtx_unwrap(bytes, header, payload_type, ssrc)) else {
            // Padding on the repair stream: the publisher probes.
            return;
        };
        let Ok(header) = RtpHeader::parse(original) else {
            return out.counters.discard(Discard::MalformedRtp);
        };
        let stream = &self.tracks[source.track].encodings[usize::from(source.encoding)];
        if let Some(sequence) = stream.statistics.unwrap(header.sequence_number) {
            self.forward(now, Arrived { source, sequence, header, received_at, bytes: original }, out);
        }
    }

    /// A plain packet of an encoding, original or repaired, to everybody who is to have it.
    fn forward(&mut self, now: Now, arrived: Arrived<'_>, out: &mut Outbox) {
        let Arrived { source, sequence, header, received_at, bytes } = arrived;
        let Ok(packet) = RtpPacket::with_header(header, bytes) else {
            return out.counters.discard(Discard::MalformedRtp);
        };
        let payload = packet.payload();
        let track = &mut self.tracks[source.track];
        let encoding = usize::from(source.encoding);
        let stream = &mut track.encodings[encoding];
        if stream.history.contains(sequence) {
            // A repair that came twice, or came after what it repairs.
            return out.counters.discard(Discard::Replayed);
        }
        let Some(media) = MediaPacket::describe(
            track.spec.codec,
            source.encoding,
            sequence,
            &header,
            payload,
            &mut stream.picture_ids,
            received_at,
        ) else {
            return out.counters.discard(Discard::MalformedRtp);
        };
        let layer = media.vp8.and_then(|descriptor| descriptor.temporal_layer);
        track.activity[encoding].receive_layer(now.instant, payload.len() + DEPARTURE_OVERHEAD, layer);
        if track.spec.nack {
            stream.missing.receive(sequence, now.instant);
        }
        let publisher = &mut self.participants[track.publisher];
        let extensions = Extensions::of(&header, bytes, &publisher.extensions);
        if media.switch_point && track.audio.is_none() {
            stream.missing.handle_keyframe(sequence);
            stream.keyframes.handle_keyframe();
        }
        if track.muted {
            return out.counters.discard(Discard::Muted);
        }
        if let Some((audio, level)) = track.audio.as_mut().zip(extensions.audio_level) {
            audio.receive(now.instant, media.timestamp, level.level);
            self.speakers_due.schedule(now.instant + speaker::INTERVAL, Timer::Speakers, &mut self.deadlines);
        }
        if track.subscriptions.is_empty() {
            stream.missing.clear();
            return;
        }
        stream.history.store(&media, payload);
        let mut is_wanted = false;
        for &key in &track.subscriptions {
            let subscription = &mut self.subscriptions[key];
            let decision = subscription.forwarder.handle(&media, &track.clocks);
            let forwarder = &subscription.forwarder;
            is_wanted |= [forwarder.current(), forwarder.target()].contains(&Some(source.encoding));
            let Decision::Forward(rewrite) = decision else { continue };
            let subscriber_key = subscription.subscriber;
            let subscriber = &mut self.participants[subscriber_key];
            let is_audio = track.audio.is_some();
            if !is_audio && !subscriber.pacer.admits(now.instant, payload.len() + DEPARTURE_OVERHEAD) {
                let departure =
                    Departure { subscription: key, encoding: source.encoding, sequence, rewrite, is_repair: false };
                subscriber.wait(subscription.priority, payload.len(), departure, out);
                if let Some(at) = subscriber.pacer.next_departure() {
                    let timer = Timer::Departures(subscriber_key);
                    subscriber.departures_due.schedule(at, timer, &mut self.deadlines);
                }
            } else {
                let sent = subscription.send_copy(now, subscriber, &rewrite, &extensions, payload, out);
                subscriber.sent.receive(now.instant, sent);
                if is_audio {
                    subscriber.pacer.spend(now.instant, sent + IP_AND_UDP);
                    if let Some(at) = subscriber.audio_repair.next_copy() {
                        let timer = Timer::Departures(subscriber_key);
                        subscriber.departures_due.schedule(at, timer, &mut self.deadlines);
                    }
                }
            }
            if let Some(range) = subscription.forwarder.take_catch_up() {
                catch_up(now, track, subscription, subscriber, source.encoding, range, out);
            }
        }
        let stream = &mut track.encodings[encoding];
        if !is_wanted {
            stream.missing.clear();
        } else if let Some(at) = stream.missing.next_poll() {
            let publisher = track.publisher;
            self.wake(publisher, at);
        }
    }
}

/// After a switch at a keyframe that came late: the packets after it that were here before it.
fn catch_up(
    now: Now,
    track: &PublishedTrack,
    subscription: &mut Subscription,
    subscriber: &mut Participant,
    encoding: u8,
    range: std::ops::RangeInclusive<u64>,
    out: &mut Outbox,
) {
    let history = &track.encodings[usize::from(encoding)].history;
    for (media, payload) in range.filter_map(|sequence| history.get(sequence)) {
        if let Decision::Forward(rewrite) = subscription.forwarder.handle(media, &track.clocks) {
            subscription.send_copy(now, subscriber, &rewrite, &Extensions::default(), payload, out);
        }
    }
}

/// Finds the stream that a new SSRC belongs to by the mid and rid that its first packets carry (RFC 8843 §9.2, RFC 8852),
/// and binds it. It can only be a track of this participant.
fn identify(
    participant: &mut Participant,
    tracks: &slab::Slab<PublishedTrack>,
    header: &RtpHeader,
    extensions: &Extensions<'_>,
) -> Option<Source> {
    let mid = extensions.mid?;
    let track = *participant.tracks.iter().find(|&&track| tracks[track].spec.mid.as_bytes() == mid)?;
    let spec = &tracks[track].spec;
    let with_rid = |rid: &[u8]| {
        spec.encodings.iter().position(|encoding| encoding.rid.as_ref().is_some_and(|known| known.as_bytes() == rid))
    };
    let is_repair = Some(header.payload_type) == spec.rtx_payload_type;
    let encoding = match (extensions.repaired_rid, extensions.rid) {
        (Some(rid), _) if is_repair => with_rid(rid)?,
        (_, Some(rid)) if !is_repair => with_rid(rid)?,
        (None, None) if spec.encodings.len() == 1 => 0,
        _ => return None,
    };
    let source = Source { ssrc: header.ssrc, track, encoding: encoding as u8, is_repair };
    participant.bind_source(source);
    Some(source)
}
