//! A track as it is sent to one subscriber.

use datapath::{Entropy, Now, Outbox, Traffic};

use crate::command::LayerWish;
use crate::congestion::{Choice, Priority};
use crate::forwarder::{Forwarder, Rewrite};
use crate::history::ResendLimit;
use crate::pacing::IP_AND_UDP;
use crate::participant::Participant;
use crate::reach::Reach;
use crate::rtcp::ReportBlock;
use crate::rtp::{Extensions, abs_send_time};
use crate::sender_report::SenderReports;
use crate::statistics::Tally;
use crate::stream_header::{PacketFields, StreamHeader};
use crate::track::{Codec, ExtensionIds, Kind, SubscriptionSpec, TrackSpec};
use crate::transport::srtp::RTP_OVERHEAD;

/// Octets that the header of a copy may take: the fixed one and the extensions that we write.
const HEADER_MAX: usize = 320;

pub struct Subscription {
    /// Slab keys.
    pub track: usize,
    pub subscriber: usize,
    codec: Codec,
    pub spec: SubscriptionSpec,
    pub wish: LayerWish,
    pub forwarder: Forwarder,
    pub reports: SenderReports,
    pub resends: ResendLimit,
    /// Of a video: what it was given last; `None` while it is paused because it does not fit.
    pub allocated: Option<Choice>,
    /// Of a video: how far its link reaches.
    pub reach: Reach,
    /// Whether the control plane was told that it is paused.
    pub told_paused: bool,
    /// Of its video among what waits for the subscriber's link.
    pub priority: Priority,
    header: StreamHeader,
    /// Of its retransmissions (RFC 4588), if it has a stream for them.
    repair_header: Option<StreamHeader>,
    /// The number of the next retransmission (RFC 4588 §4: a stream of its own), unwrapped.
    rtx_sequence: u64,
    /// Of the last report about it: the extended highest sequence number, and how many were lost in all.
    reported: Option<(u32, i32)>,
}

impl Subscription {
    pub fn new(
        track: usize,
        subscriber: usize,
        spec: SubscriptionSpec,
        published: &TrackSpec,
        entropy: &mut Entropy,
    ) -> Subscription {
        // Below 2¹⁵: see [`Forwarder::new`].
        let mut first_sequence = || (entropy.u32() & 0x7FFF) as u16;
        Subscription {
            track,
            subscriber,
            codec: published.codec,
            wish: spec.wish,
            forwarder: Forwarder::new(published.codec, first_sequence()),
            reports: SenderReports::default(),
            resends: ResendLimit::default(),
            allocated: None,
            reach: Reach::default(),
            told_paused: false,
            priority: Priority::Rest,
            rtx_sequence: u64::from(first_sequence()),
            reported: None,
            header: StreamHeader::new(spec.payload_type, spec.ssrc, spec.extensions),
            repair_header: spec
                .rtx_payload_type
                .zip(spec.rtx_ssrc)
                .map(|(payload_type, ssrc)| StreamHeader::new(payload_type, ssrc, spec.extensions)),
            spec,
        }
    }

    /// Packets lost and packets expected since the last report.
    pub fn loss_since_report(&mut self, block: &ReportBlock) -> (u32, u32) {
        let now = (block.extended_highest_sequence, block.cumulative_lost);
        let Some((highest, lost)) = self.reported.replace(now) else { return (0, 0) };
        let expected = now.0.wrapping_sub(highest);
        // A report from before the last one, or of a receiver that began anew.
        if expected > 1 << 16 {
            return (0, 0);
        }
        (u32::try_from(now.1.wrapping_sub(lost)).unwrap_or(0).min(expected), expected)
    }

    /// What the subscriber last reported of the link.
    pub fn tally(&self) -> Option<Tally> {
        let (highest, lost) = self.reported?;
        Some(Tally { expected: highest.into(), lost: u64::try_from(lost).unwrap_or(0) })
    }

    /// Protects one copy straight into the arena. Returns the octets sent.
    pub fn send_copy(
        &mut self,
        now: Now,
        subscriber: &mut Participant,
        rewrite: &Rewrite,
        extensions: &Extensions<'_>,
        text: Text<'_>,
        out: &mut Outbox,
    ) -> usize {
        let length = text.len();
        let packet = Outgoing::of(rewrite, &self.header, extensions, text);
        let sent = packet.send(now, subscriber, (Traffic::Rtp, self.codec.kind() == Kind::Audio), out);
        self.reports.count(length);
        self.resends.earn(length - rewrite.descriptor().len());
        sent
    }

    /// Sends padding of so many octets on the wire, on the retransmission stream: it shows what the link carries.
    /// Returns the octets sent, 0 when there is no such stream.
    pub fn send_padding(&mut self, now: Now, subscriber: &mut Participant, octets: usize, out: &mut Outbox) -> usize {
        let Some(header) = &self.repair_header else { return 0 };
        let index = self.rtx_sequence;
        self.rtx_sequence += 1;
        let padding = octets.saturating_sub(header.plain_len() + RTP_OVERHEAD + IP_AND_UDP).clamp(1, 255) as u8;
        let fields = PacketFields { marker: false, sequence_number: index as u16, timestamp: 0 };
        let packet = Outgoing { header, fields, source: &Extensions::default(), text: Text::Padding(padding), index };
        packet.send(now, subscriber, (Traffic::Retransmission, false), out)
    }

    /// Sends a packet again, on the retransmission stream if there is one. `payload` is the publisher's.
    pub fn resend(
        &mut self,
        now: Now,
        subscriber: &mut Participant,
        rewrite: &Rewrite,
        payload: &[u8],
        out: &mut Outbox,
    ) -> usize {
        let plain = Extensions::default();
        let original = Outgoing::of(rewrite, &self.header, &plain, Text::of(rewrite, payload));
        let number = rewrite.sequence_number().to_be_bytes();
        let packet = if let Some(header) = &self.repair_header {
            let index = self.rtx_sequence;
            self.rtx_sequence += 1;
            let fields = PacketFields { sequence_number: index as u16, ..original.fields };
            // RFC 4588 §4: the original sequence number stands before the original payload.
            let text = Text::Parts([&number, rewrite.descriptor(), rewrite.payload(payload)]);
            Outgoing { header, fields, text, index, ..original }
        } else if self.codec.kind() == Kind::Video || self.spec.extensions != ExtensionIds::default() {
            // Without a stream of its own the same octets go out again. A different header under the same index would be
            // a reused nonce (RFC 7714 §8.2), so this is done only where nothing can differ: no header extensions, and
            // audio, of which every packet is forwarded as it came.
            return 0;
        } else {
            original
        };
        packet.send(now, subscriber, (Traffic::Retransmission, false), out)
    }
}

/// What stands behind the header of a packet, before it is encrypted.
#[derive(Clone, Copy)]
pub enum Text<'a> {
    /// In one piece: it is encrypted on its way into the arena.
    Whole(&'a [u8]),
    /// Put together in the arena.
    Parts([&'a [u8]; 3]),
    /// So many octets (RFC 3550 §5.1).
    Padding(u8),
}

impl<'a> Text<'a> {
    /// `payload` is the publisher's.
    pub fn of(rewrite: &'a Rewrite, payload: &'a [u8]) -> Text<'a> {
        Text::Parts([&[], rewrite.descriptor(), rewrite.payload(payload)])
    }

    /// The same where what is replaced of the payload may be written over.
    pub fn over(rewrite: &'a Rewrite, payload: &'a mut [u8]) -> Text<'a> {
        if rewrite.fits() { Text::Whole(rewrite.write_over(payload)) } else { Text::of(rewrite, payload) }
    }

    fn len(&self) -> usize {
        match self {
            Text::Whole(text) => text.len(),
            Text::Parts(parts) => parts.iter().map(|part| part.len()).sum(),
            Text::Padding(octets) => usize::from(*octets),
        }
    }

    /// `buffer` is as long.
    fn write(&self, buffer: &mut [u8]) {
        match self {
            Text::Whole(text) => buffer.copy_from_slice(text),
            Text::Parts(parts) => {
                let mut rest = buffer;
                for part in parts {
                    let (place, behind) = rest.split_at_mut(part.len());
                    place.copy_from_slice(part);
                    rest = behind;
                }
            }
            Text::Padding(octets) => {
                buffer.fill(0);
                // The last one says how many they are.
                if let Some(last) = buffer.last_mut() {
                    *last = *octets;
                }
            }
        }
    }
}

/// A packet that is about to be written, protected and sent.
struct Outgoing<'a> {
    header: &'a StreamHeader,
    fields: PacketFields,
    /// What is passed on of the publisher's header.
    source: &'a Extensions<'a>,
    text: Text<'a>,
    /// The 48-bit SRTP index.
    index: u64,
}

impl<'a> Outgoing<'a> {
    /// A packet of the stream itself.
    fn of(rewrite: &Rewrite, header: &'a StreamHeader, source: &'a Extensions<'a>, text: Text<'a>) -> Outgoing<'a> {
        let &Rewrite { sequence, timestamp, marker, .. } = rewrite;
        let fields = PacketFields { marker, sequence_number: rewrite.sequence_number(), timestamp };
        Outgoing { header, fields, source, text, index: sequence }
    }

    /// Returns the octets sent. Audio is kept for repair.
    fn send(
        &self,
        now: Now,
        subscriber: &mut Participant,
        (kind, is_audio): (Traffic, bool),
        out: &mut Outbox,
    ) -> usize {
        let Some(to) = subscriber.address() else { return 0 };
        let Participant { sender, estimate, audio_repair, .. } = subscriber;
        let Some(sender) = sender.as_ref() else { return 0 };
        let &Outgoing { header, fields, source, ref text, index } = self;
        let text_length = text.len();
        let mut sent = 0;
        out.write(to.local, to.remote, HEADER_MAX + text_length + RTP_OVERHEAD, |buffer| {
            let written = header.write(buffer, fields, source)?;
            let length = written.len + text_length;
            if let Some((at, send_side)) = written.transport_cc.zip(estimate.send_side()) {
                let number = send_side.send(now.instant, length + RTP_OVERHEAD + IP_AND_UDP);
                buffer[at..at + 2].copy_from_slice(&number.to_be_bytes());
            } else if let Some(at) = written.abs_send_time {
                buffer[at..at + 3].copy_from_slice(&abs_send_time(now.unix));
            }
            sent = if let Text::Whole(text) = text {
                sender.protect_rtp_of(buffer, written.len, text, header.ssrc(), index)
            } else {
                if let Text::Padding(_) = text {
                    buffer[0] |= 0x20;
                }
                text.write(&mut buffer[written.len..length]);
                sender.protect_rtp(buffer, written.len, length, header.ssrc(), index)
            };
            if is_audio {
                audio_repair.keep(now.instant, &buffer[..sent]);
            }
            Some(sent)
        });
        out.counters.sent(kind, sent);
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::Encoding;

    fn subscription() -> Subscription {
        let encoding = Encoding { rid: None, ssrc: None, rtx_ssrc: None, width: 0, height: 0, bitrate_bps: 0 };
        let published = TrackSpec {
            codec: Codec::Opus,
            mid: "0".into(),
            payload_type: 111,
            rtx_payload_type: None,
            encodings: vec![encoding],
            extensions: ExtensionIds::default(),
            nack: false,
            muted: false,
            screen: false,
        };
        let spec = SubscriptionSpec {
            mid: "1".into(),
            ssrc: 1,
            rtx_ssrc: None,
            payload_type: 111,
            rtx_payload_type: None,
            extensions: ExtensionIds::default(),
            nack: false,
            wish: LayerWish::EVERYTHING,
        };
        Subscription::new(0, 0, spec, &published, &mut Entropy::from_seed([1; 32]))
    }

    #[test]
    fn loss_is_counted_between_reports() {
        let mut subscription = subscription();
        let mut report = |highest, lost| {
            let block =
                ReportBlock { extended_highest_sequence: highest, cumulative_lost: lost, ..ReportBlock::default() };
            subscription.loss_since_report(&block)
        };
        assert_eq!(report(1000, 7), (0, 0), "the first one says nothing about an interval");
        assert_eq!(report(1100, 17), (10, 100));
        assert_eq!(report(1200, 12), (0, 100), "duplicates");
        assert_eq!(report(1100, 12), (0, 0), "an old report");
        assert_eq!(subscription.tally(), Some(Tally { expected: 1100, lost: 12 }));
    }
}
