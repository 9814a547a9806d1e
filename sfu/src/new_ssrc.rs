//! An SSRC that is not known yet: whose it is, and what changes with it.
//!
//! An encoder that starts over may go on under another SSRC (RFC 8843 §9.2: mid and rid say to which stream it belongs).
//! Its sequence numbers, timestamps and picture ids have nothing to do with those before. So the stream begins anew, and
//! its own numbers (see [`crate::media_packet::MediaPacket::sequence`]) go on far above all earlier ones: what is kept of
//! the earlier source can still be asked for, and nothing of the new one is taken for old.
//!
//! The SSRC that came last has the stream. Packets of the one before are discarded from then on, even if they say whose
//! they are: they are late, and going back for each of them would break both. It can come back when the stream has been
//! silent for [`SILENCE`]. Retransmission streams (RFC 4588) keep no state of their own, and change whenever they like.
//!
//! One that goes on under the same SSRC begins anew too, when two packets in a row have confirmed that its numbers start
//! over (RFC 3550 A.1): see [`PublishedTrack::restart_source`].

use std::time::{Duration, Instant};

use datapath::{Discard, Now};

use crate::participant::{Participant, Source};
use crate::published_track::PublishedTrack;
use crate::rtp::{Extensions, RtpHeader};
use crate::sfu::Sfu;

/// After this nothing of the SSRC that has the stream is under way any more.
const SILENCE: Duration = Duration::from_secs(2);

impl Sfu {
    /// Finds the stream that an unknown SSRC belongs to, and binds it.
    pub(crate) fn bind_new_ssrc(
        &mut self,
        now: Now,
        key: usize,
        header: &RtpHeader,
        extensions: &Extensions<'_>,
    ) -> Result<Source, Discard> {
        let participant = &mut self.participants[key];
        let source = identify(participant, &self.tracks, header, extensions)?;
        let track = &mut self.tracks[source.track];
        let encoding = usize::from(source.encoding);
        if source.is_repair || track.encodings[encoding].statistics.highest().is_none() {
            participant.bind_source(source);
            return Ok(source);
        }
        let has_been_silent = |last: Instant| now.instant.saturating_duration_since(last) >= SILENCE;
        let is_free = track.activity[encoding].last_packet().is_none_or(has_been_silent);
        if participant.replaced_ssrcs.contains(source.ssrc) && !is_free {
            return Err(Discard::UnknownSsrc);
        }
        if !participant.replaced_ssrcs.has_room(now.instant) {
            return Err(Discard::LimitReached);
        }
        if let Some(ssrc) = participant.ssrc_of(source.track, source.encoding) {
            participant.replaced_ssrcs.push(ssrc, now.instant);
        }
        participant.bind_source(source);
        track.begin_source(source.encoding);
        self.want_first_keyframe(now, source);
        Ok(source)
    }

    /// An encoder that starts over begins with a keyframe, which ends this wish at once. If it was lost, nothing tells:
    /// what came before the first packet that counts is not missed.
    pub(crate) fn want_first_keyframe(&mut self, now: Now, source: Source) {
        let track = &mut self.tracks[source.track];
        if track.is_video() && !track.muted && !track.subscriptions.is_empty() {
            track.encodings[usize::from(source.encoding)].keyframes.want(now.instant);
            let publisher = track.publisher;
            self.wake(publisher, now.instant);
        }
    }
}

/// By the mid and rid that the first packets of an SSRC carry (RFC 8843 §9.2, RFC 8852). It can only be a track of this
/// participant. The payload type must be one of the section's two: what is sent beside them, as forward error correction
/// is, has an SSRC of its own.
fn identify(
    participant: &Participant,
    tracks: &slab::Slab<PublishedTrack>,
    header: &RtpHeader,
    extensions: &Extensions<'_>,
) -> Result<Source, Discard> {
    let mid = extensions.mid.ok_or(Discard::UnknownSsrc)?;
    let of_mid = participant.tracks.iter().find(|&&track| tracks[track].spec.mid.as_bytes() == mid);
    let track = *of_mid.ok_or(Discard::UnknownSsrc)?;
    let spec = &tracks[track].spec;
    let is_repair = Some(header.payload_type) == spec.rtx_payload_type;
    if !is_repair && header.payload_type != spec.payload_type {
        return Err(Discard::UnknownPayloadType);
    }
    let with_rid = |rid: &[u8]| {
        spec.encodings.iter().position(|encoding| encoding.rid.as_ref().is_some_and(|known| known.as_bytes() == rid))
    };
    let encoding = match (extensions.repaired_rid, extensions.rid) {
        (Some(rid), _) if is_repair => with_rid(rid),
        (_, Some(rid)) if !is_repair => with_rid(rid),
        (None, None) if spec.encodings.len() == 1 => Some(0),
        _ => None,
    };
    let encoding = encoding.ok_or(Discard::UnknownSsrc)? as u8;
    Ok(Source { ssrc: header.ssrc, track, encoding, is_repair })
}
