//! Trip 3, first half: a publisher's RTP packet, until it is ready for [`crate::fan_out`].

use std::time::Instant;

use datapath::{Counters, Datagram, Discard, Now, Outbox, Traffic};

use crate::deadlines::Timer;
use crate::dependency_descriptor::DescriptorError;
use crate::fan_out::Place;
use crate::media_packet::{MediaPacket, TemporalLayer};
use crate::pacing::DEPARTURE_OVERHEAD;
use crate::participant::Source;
use crate::rtp::{AudioLevel, Extensions, RtpHeader, RtpPacket, rtx_unwrap};
use crate::sequence::Received;
use crate::sfu::Sfu;
use crate::speaker;
use crate::transport::SrtpError;

/// A plain packet of an encoding.
struct Arrived<'a> {
    source: Source,
    /// Unwrapped.
    sequence: u64,
    header: RtpHeader,
    received_at: Instant,
    audio_level: Option<AudioLevel>,
    bytes: &'a [u8],
    /// Where `bytes` lie.
    place: Place,
}

impl Sfu {
    /// `index` is that of the datagram in its batch.
    pub(crate) fn handle_rtp(
        &mut self,
        now: Now,
        key: usize,
        index: usize,
        datagram: &mut Datagram<'_>,
        out: &mut Outbox,
    ) {
        out.counters.received(Traffic::Rtp, datagram.payload.len());
        let gathered = self.receive(now, key, index, datagram).and_then(|arrived| match arrived {
            Some(arrived) => self.gather(now, arrived, &mut out.counters),
            None => Ok(()),
        });
        if let Err(discard) = gathered {
            out.counters.discard(discard);
        }
    }

    /// Unprotects a packet and finds out what it is. There is none in a datagram that only probes.
    fn receive<'a>(
        &mut self,
        now: Now,
        key: usize,
        index: usize,
        datagram: &'a mut Datagram<'_>,
    ) -> Result<Option<Arrived<'a>>, Discard> {
        let received_at = datagram.received_at;
        let header = RtpHeader::parse(datagram.payload).map_err(|_| Discard::MalformedRtp)?;
        let receiver = self.participants[key].receiver.as_mut().ok_or(Discard::NoKeys)?;
        let header_len = usize::from(header.len);
        let (length, _) = receiver
            .unprotect_rtp(datagram.payload, header_len, header.ssrc, header.sequence_number)
            .map_err(|error| match error {
                SrtpError::Replayed => Discard::Replayed,
                SrtpError::Short | SrtpError::BadTag => Discard::BadSrtp,
            })?;
        self.mark_heard(now, key);
        let bytes = &mut datagram.payload[..length];
        let participant = &mut self.participants[key];
        let extensions = Extensions::of(&header, bytes, &participant.extensions);
        let audio_level = extensions.audio_level;
        if let Some(sequence) = extensions.transport_cc {
            participant.arrivals.receive(sequence, received_at);
            if let Some(at) = participant.arrivals.next_feedback() {
                participant.regular_due.schedule(at, Timer::Regular(key), &mut self.regular);
            }
        }
        let source = match participant.source(header.ssrc) {
            Some(source) => source,
            None => self.bind_new_ssrc(now, key, &header, &extensions)?,
        };
        let track = &mut self.tracks[source.track];
        let stream = &mut track.encodings[usize::from(source.encoding)];
        if !source.is_repair {
            if header.payload_type != track.spec.payload_type {
                return Err(Discard::UnknownPayloadType);
            }
            let sequence = match stream.statistics.receive(header.sequence_number, header.timestamp, received_at) {
                Received::Packet { sequence } => sequence,
                Received::Restarted { sequence } => {
                    track.restart_source(source.encoding);
                    self.want_first_keyframe(now, source);
                    sequence
                }
                Received::Suspicious => return Err(Discard::MalformedRtp),
            };
            let place = Place { datagram: index, octets: 0..length };
            return Ok(Some(Arrived { source, sequence, header, received_at, audio_level, bytes, place }));
        }
        // A retransmission (RFC 4588): the packet that was lost, if it carries one.
        if Some(header.payload_type) != track.spec.rtx_payload_type {
            return Err(Discard::UnknownPayloadType);
        }
        // Unknown while nothing of the stream itself has come.
        let ssrc = self.participants[key].ssrc_of(source.track, source.encoding);
        let original = rtx_unwrap(bytes, &header, track.spec.payload_type, ssrc.unwrap_or_default());
        // Padding on the repair stream: the publisher probes.
        let Some(bytes) = original else { return Ok(None) };
        let header = RtpHeader::parse(bytes).map_err(|_| Discard::MalformedRtp)?;
        let sequence =
            ssrc.and_then(|_| stream.statistics.unwrap(header.sequence_number)).ok_or(Discard::StrayRepair)?;
        let place = Place { datagram: index, octets: length - bytes.len()..length };
        Ok(Some(Arrived { source, sequence, header, received_at, audio_level, bytes, place }))
    }

    /// Takes note of a packet of an encoding, original or repaired, and keeps it for those who are to have it.
    fn gather(&mut self, now: Now, arrived: Arrived<'_>, counters: &mut Counters) -> Result<(), Discard> {
        let Arrived { source, sequence, header, received_at, audio_level, bytes, place } = arrived;
        let packet = RtpPacket::with_header(header, bytes).map_err(|_| Discard::MalformedRtp)?;
        let payload = packet.payload();
        let track = &mut self.tracks[source.track];
        let encoding = usize::from(source.encoding);
        let stream = &mut track.encodings[encoding];
        if stream.history.contains(sequence) {
            // A repair that came twice, or came after what it repairs.
            return Err(Discard::Replayed);
        }
        let mut media = MediaPacket::describe(
            track.spec.codec,
            source.encoding,
            sequence,
            &header,
            payload,
            &mut stream.picture_ids,
            received_at,
        )
        .ok_or(Discard::MalformedRtp)?;
        if media.layer.is_none() && track.audio.is_none() {
            let id = self.participants[track.publisher].extensions.dependency_descriptor;
            let descriptor = id.and_then(|id| packet.extension(id));
            media.layer = match descriptor.map(|data| stream.templates.read(data, sequence)) {
                Some(Ok(read)) => Some(TemporalLayer::from(read)),
                Some(Err(DescriptorError::Truncated | DescriptorError::TooMany)) => {
                    counters.malformed_extensions += 1;
                    None
                }
                // Its structure was lost.
                Some(Err(DescriptorError::UnknownTemplate)) | None => None,
            };
        }
        let layer = media.layer.map(|layer| layer.id);
        if track.activity[encoding].is_silent(now.instant) {
            stream.keyframes.restart();
        }
        track.activity[encoding].receive_layer(now.instant, payload.len() + DEPARTURE_OVERHEAD, layer);
        if track.spec.nack {
            stream.missing.receive(sequence, now.instant);
        }
        if media.switch_point && track.audio.is_none() {
            stream.missing.handle_keyframe(sequence);
            stream.keyframes.handle_keyframe(now.instant);
        }
        if track.muted {
            return Err(Discard::Muted);
        }
        if let Some((audio, level)) = track.audio.as_mut().zip(audio_level) {
            audio.receive(now.instant, media.timestamp, level.level);
            self.speakers_due.schedule(now.instant + speaker::INTERVAL, Timer::Speakers, &mut self.deadlines);
        }
        if track.subscriptions.is_empty() {
            stream.missing.clear();
            return Ok(());
        }
        stream.history.store(&media, payload);
        self.fan_out.push(source.track, media, header, place);
        Ok(())
    }
}
