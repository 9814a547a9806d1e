//! The header of what leaves on one RTP stream to a subscriber.
//!
//! From packet to packet it differs in a few octets only, so the rest is written when the stream begins, and a packet's
//! header is a copy of that.

use crate::rtp::{AudioLevel, Extensions, HeaderWriter};
use crate::track::ExtensionIds;

/// The fixed header and an extension with one element of up to three octets.
const PLAIN_MAX: usize = 20;

/// A dependency descriptor is not passed on: its frame numbers and template ids are those of one encoding, and count the
/// frames that are left out. A receiver that is given none goes by sequence numbers and, in VP8, by picture ids, and those
/// go on over every switch. Nor is a mid: the SSRC stands in the answer.
#[derive(Clone, Copy, Debug)]
pub struct StreamHeader {
    payload_type: u8,
    ssrc: u32,
    /// The ids of the subscriber's section.
    ids: ExtensionIds,
    /// A header that passes nothing on from the publisher's, and where its parts are.
    plain: [u8; PLAIN_MAX],
    written: WrittenHeader,
}

/// What differs between the headers of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketFields {
    pub marker: bool,
    pub sequence_number: u16,
    pub timestamp: u32,
}

/// Where the parts of a written header are that are filled in when the packet leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrittenHeader {
    /// Octets written.
    pub len: usize,
    /// Offset of the two octets of the transport-wide sequence number, 0 for now.
    pub transport_cc: Option<usize>,
    /// Offset of the three octets of the absolute send time, 0 for now: see [`crate::rtp::abs_send_time`].
    pub abs_send_time: Option<usize>,
}

impl StreamHeader {
    pub fn new(payload_type: u8, ssrc: u32, ids: ExtensionIds) -> StreamHeader {
        let mut header =
            StreamHeader { payload_type, ssrc, ids, plain: [0; PLAIN_MAX], written: WrittenHeader::default() };
        let mut plain = [0; PLAIN_MAX + 3];
        header.written = header.compose(&mut plain, None, None).expect("there is room for the fixed header");
        header.plain.copy_from_slice(&plain[..PLAIN_MAX]);
        header
    }

    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Octets of a header that passes nothing on.
    pub fn plain_len(&self) -> usize {
        self.written.len
    }

    /// Writes a packet's header. `source` is what the publisher's packet carried. `None` when the buffer is shorter than a
    /// plain header; what is passed on and does not fit behind that is left out.
    pub fn write(&self, buffer: &mut [u8], packet: PacketFields, source: &Extensions<'_>) -> Option<WrittenHeader> {
        let level = self.ids.audio_level.zip(source.audio_level);
        let capture_time = self.ids.abs_capture_time.zip(source.abs_capture_time);
        let written = if level.is_none() && capture_time.is_none() {
            *buffer.first_chunk_mut()? = self.plain;
            self.written
        } else {
            self.compose(buffer, level, capture_time)?
        };
        let fixed = buffer.first_chunk_mut::<8>()?;
        fixed[1] |= u8::from(packet.marker) << 7;
        fixed[2..4].copy_from_slice(&packet.sequence_number.to_be_bytes());
        fixed[4..].copy_from_slice(&packet.timestamp.to_be_bytes());
        Some(written)
    }

    /// A header whose packet's fields are 0.
    fn compose(
        &self,
        buffer: &mut [u8],
        level: Option<(u8, AudioLevel)>,
        capture_time: Option<(u8, &[u8])>,
    ) -> Option<WrittenHeader> {
        let mut writer = HeaderWriter::new(buffer, self.payload_type, false, 0, 0, self.ssrc, false)?;
        let mut written = WrittenHeader::default();
        if let Some(id) = self.ids.transport_cc {
            written.transport_cc = writer.extension(id, &[0; 2]);
        }
        // A receiver reads send times only where it has to estimate by itself.
        if let Some(id) = self.ids.abs_send_time.filter(|_| self.ids.transport_cc.is_none()) {
            written.abs_send_time = writer.extension(id, &[0; 3]);
        }
        if let Some((id, level)) = level {
            writer.extension(id, &[level.level | u8::from(level.voice) << 7]);
        }
        if let Some((id, time)) = capture_time {
            writer.extension(id, time);
        }
        written.len = writer.finish();
        Some(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::IDS;
    use crate::rtp::RtpPacket;

    const FIELDS: PacketFields = PacketFields { marker: true, sequence_number: 1000, timestamp: 2000 };

    #[test]
    fn what_is_passed_on_carries_the_subscribers_ids() {
        let audio_level = Some(AudioLevel { voice: true, level: 5 });
        let source = Extensions { audio_level, abs_capture_time: Some(&[1; 8]), ..Extensions::default() };
        let mut out = [0xFF; 64];
        let written = StreamHeader::new(120, 3000, IDS).write(&mut out, FIELDS, &source).unwrap();
        let packet = RtpPacket::parse(&out[..written.len]).unwrap();
        assert_eq!(usize::from(packet.header.len), written.len);
        assert_eq!((packet.header.payload_type, packet.header.ssrc), (120, 3000));
        assert_eq!((packet.header.marker, packet.header.sequence_number, packet.header.timestamp), (true, 1000, 2000));
        assert_eq!(packet.extension(1), None);
        assert_eq!(packet.extension(4), Some(&[0x85][..]));
        assert_eq!(packet.extension(5), Some(&[0, 0][..]));
        assert_eq!(packet.extension(6), None, "there are transport-wide numbers");
        assert_eq!(packet.extension(7), Some(&[1; 8][..]));
        assert_eq!(packet.extension(8), None);
        let offset = written.transport_cc.unwrap();
        out[offset..offset + 2].copy_from_slice(&[0xAB, 0xCD]);
        let packet = RtpPacket::parse(&out[..written.len]).unwrap();
        assert_eq!(packet.extension(5), Some(&[0xAB, 0xCD][..]));
    }

    #[test]
    fn a_plain_header_is_as_long_as_its_extension_needs() {
        let nothing = Extensions::default();
        let by_numbers = ExtensionIds { transport_cc: Some(5), ..ExtensionIds::default() };
        let by_times = ExtensionIds { abs_send_time: Some(14), ..ExtensionIds::default() };
        for (ids, length) in [(ExtensionIds::default(), 12), (by_numbers, 20), (by_times, 20), (IDS, 20)] {
            let header = StreamHeader::new(96, 3, ids);
            // Remains of another packet do not show.
            let mut out = [0xFF; PLAIN_MAX];
            for fields in [FIELDS, PacketFields { marker: false, sequence_number: 1, timestamp: 2 }] {
                let written = header.write(&mut out, fields, &nothing).unwrap();
                assert_eq!(written.len, length);
                let packet = RtpPacket::parse(&out[..length]).unwrap();
                assert_eq!((packet.header.payload_type, packet.header.ssrc), (96, 3));
                let read = (packet.header.marker, packet.header.sequence_number, packet.header.timestamp);
                assert_eq!(read, (fields.marker, fields.sequence_number, fields.timestamp));
                assert_eq!(packet.extension(5), ids.transport_cc.map(|_| &[0; 2][..]));
                assert_eq!(packet.extension(14), (ids == by_times).then_some(&[0; 3][..]));
            }
            assert_eq!(header.write(&mut out[..PLAIN_MAX - 1], FIELDS, &nothing), None);
        }
    }
}
