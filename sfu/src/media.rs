//! Trip 3: a publisher's RTP packet to its subscribers.

use std::time::Instant;

use datapath::{Discard, Now, Outbox, Traffic};

use crate::forwarder::{Decision, Rewrite};
use crate::media_packet::MediaPacket;
use crate::participant::{Participant, Source};
use crate::published_track::PublishedTrack;
use crate::rtp::{Extensions, ForwardedHeader, RtpHeader, RtpPacket, abs_send_time, rtx_unwrap};
use crate::sequence::Received;
use crate::sfu::Sfu;
use crate::subscription::Subscription;
use crate::transport::SrtpError;
use crate::transport::srtp::RTP_OVERHEAD;

/// Octets that the header of a copy may take.
pub(crate) const HEADER_MAX: usize = 320;

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
            participant.record_arrival(sequence, received_at);
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
            Received::Packet { sequence } => self.forward(now, source, sequence, header, received_at, bytes, out),
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
            self.forward(now, source, sequence, &header, received_at, original, out);
        }
    }

    /// A plain packet of an encoding, original or repaired, to everybody who is to have it.
    #[allow(clippy::too_many_arguments)]
    fn forward(
        &mut self,
        now: Now,
        source: Source,
        sequence: u64,
        header: &RtpHeader,
        received_at: Instant,
        bytes: &[u8],
        out: &mut Outbox,
    ) {
        let Ok(packet) = RtpPacket::with_header(*header, bytes) else {
            return out.counters.discard(Discard::MalformedRtp);
        };
        let track = &mut self.tracks[source.track];
        let publisher = &self.participants[track.publisher];
        let extensions = Extensions::of(header, bytes, &publisher.extensions);
        let stream = &mut track.encodings[usize::from(source.encoding)];
        stream.last_packet = Some(now.instant);
        let payload = packet.payload();
        let Some(media) = MediaPacket::describe(
            track.spec.codec,
            source.encoding,
            sequence,
            header,
            payload,
            &mut stream.picture_ids,
            received_at,
        ) else {
            return out.counters.discard(Discard::MalformedRtp);
        };
        if track.muted {
            return out.counters.discard(Discard::Muted);
        }
        for &subscription in &track.subscriptions {
            let subscription = &mut self.subscriptions[subscription];
            if let Decision::Forward(rewrite) = subscription.forwarder.handle(&media, &track.clocks) {
                let subscriber = &self.participants[subscription.subscriber];
                send_copy(now, subscriber, subscription, &rewrite, &extensions, payload, out);
            }
        }
    }
}

/// Protects one copy straight into the arena.
fn send_copy(
    now: Now,
    subscriber: &Participant,
    subscription: &mut Subscription,
    rewrite: &Rewrite,
    extensions: &Extensions<'_>,
    payload: &[u8],
    out: &mut Outbox,
) {
    let Some((to, sender)) = subscriber.address().zip(subscriber.sender.as_ref()) else { return };
    let spec = &subscription.spec;
    let payload = rewrite.payload(payload);
    let capacity = HEADER_MAX + rewrite.descriptor().len() + payload.len() + RTP_OVERHEAD;
    let header = ForwardedHeader {
        payload_type: spec.payload_type,
        marker: rewrite.marker,
        sequence_number: rewrite.sequence_number(),
        timestamp: rewrite.timestamp,
        ssrc: spec.ssrc,
        ids: &spec.extensions,
        mid: None,
        source: extensions,
    };
    let mut sent = 0;
    out.write(to.local, to.remote, capacity, |buffer| {
        let written = header.write(buffer)?;
        if let Some(at) = written.abs_send_time {
            buffer[at..at + 3].copy_from_slice(&abs_send_time(now.unix));
        }
        let mut length = written.len;
        for part in [rewrite.descriptor(), payload] {
            buffer[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        sent = sender.protect_rtp(buffer, written.len, length, spec.ssrc, rewrite.sequence);
        Some(sent)
    });
    subscription.reports.count(rewrite.descriptor().len() + payload.len());
    out.counters.sent(Traffic::Rtp, sent);
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
