//! RTP packets (RFC 3550 §5.1) as bounded views over received bytes, and the writer of forwarded headers.
//!
//! - [`is_rtcp`] tells RTP from RTCP on one port (RFC 5761 §4).
//! - [`RtpHeader::parse`] reads the clear header: all that SRTP needs before it unprotects. [`RtpPacket::parse`]
//!   reads a whole plaintext packet, padding included.
//! - [`Extensions::of`] finds the header extensions (RFC 8285) of a packet in one pass, once per received packet.
//! - [`HeaderWriter`] writes a header.
//! - [`rtx_unwrap`] turns a retransmission (RFC 4588) into the original packet in place.
//!
//! Everything works on header octets alone and allocates nothing.

use crate::track::ExtensionIds;

/// The fixed header's length in octets.
pub const FIXED_HEADER_LEN: usize = 12;

const ONE_BYTE_PROFILE: u16 = 0xBEDE;
/// RFC 8285 §4.3: 0x100 followed by four bits for the application.
const TWO_BYTE_PROFILE: u16 = 0x1000;
const TWO_BYTE_MASK: u16 = 0xFFF0;

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtpError {
    Truncated,
    /// Version other than 2.
    Version,
    /// The padding length is 0 or longer than the payload.
    Padding,
    /// Longer than an RTP packet over UDP can be.
    TooLong,
}

/// RFC 5761 §4: with RTP and RTCP on one port, packet types 192-223 (payload types 64-95 with the marker) are RTCP.
pub fn is_rtcp(bytes: &[u8]) -> bool {
    matches!(bytes, [_, 192..=223, ..])
}

/// The header of an RTP packet; positions are octets from the packet's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    pub marker: bool,
    /// The P bit; the padding itself is inside the (encrypted) payload.
    pub padding: bool,
    /// 0-127.
    pub payload_type: u8,
    pub sequence_number: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    /// 0-15.
    pub csrc_count: u8,
    /// The profile of the header extension (RFC 3550 §5.3.1), 0 when there is none.
    extension_profile: u16,
    extension_start: u16,
    /// Where the header ends and the payload begins.
    pub len: u16,
}

impl RtpHeader {
    pub fn parse(bytes: &[u8]) -> Result<RtpHeader, RtpError> {
        let Some((fixed, _)) = bytes.split_first_chunk::<FIXED_HEADER_LEN>() else {
            return Err(RtpError::Truncated);
        };
        if fixed[0] >> 6 != 2 {
            return Err(RtpError::Version);
        }
        if bytes.len() > usize::from(u16::MAX) {
            return Err(RtpError::TooLong);
        }
        let csrc_count = fixed[0] & 0x0F;
        let mut len = FIXED_HEADER_LEN + 4 * usize::from(csrc_count);
        let mut extension_profile = 0;
        let mut extension_start = len;
        if fixed[0] & 0x10 != 0 {
            let Some(&[a, b, c, d]) = bytes.get(len..).and_then(|rest| rest.first_chunk::<4>()) else {
                return Err(RtpError::Truncated);
            };
            extension_profile = u16::from_be_bytes([a, b]);
            extension_start = len + 4;
            len = extension_start + 4 * usize::from(u16::from_be_bytes([c, d]));
        }
        if len > bytes.len() {
            return Err(RtpError::Truncated);
        }
        Ok(RtpHeader {
            marker: fixed[1] & 0x80 != 0,
            padding: fixed[0] & 0x20 != 0,
            payload_type: fixed[1] & 0x7F,
            sequence_number: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            csrc_count,
            extension_profile,
            extension_start: extension_start as u16,
            len: len as u16,
        })
    }

    /// The elements of the header extension. `bytes` is the packet (or at least its header) that was parsed.
    pub fn extensions<'a>(&self, bytes: &'a [u8]) -> ExtensionIter<'a> {
        let two_byte = self.extension_profile & TWO_BYTE_MASK == TWO_BYTE_PROFILE;
        let rest = if two_byte || self.extension_profile == ONE_BYTE_PROFILE {
            bytes.get(usize::from(self.extension_start)..usize::from(self.len)).unwrap_or_default()
        } else {
            &[]
        };
        ExtensionIter { rest, two_byte }
    }
}

/// Iterates over `(id, data)`; ends at the first malformed element.
#[derive(Clone, Debug)]
pub struct ExtensionIter<'a> {
    rest: &'a [u8],
    two_byte: bool,
}

impl<'a> Iterator for ExtensionIter<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        // RFC 8285 §4.1.1: octets of value 0 are padding.
        while let [0, rest @ ..] = self.rest {
            self.rest = rest;
        }
        let (id, len, rest) = if self.two_byte {
            let [id, len, rest @ ..] = self.rest else {
                self.rest = &[];
                return None;
            };
            (*id, usize::from(*len), rest)
        } else {
            let [first, rest @ ..] = self.rest else {
                return None;
            };
            let id = first >> 4;
            // RFC 8285 §4.2: id 15 ends the processing; id 0 with a length is ignored together with the rest.
            if id == 15 || id == 0 {
                self.rest = &[];
                return None;
            }
            (id, usize::from(first & 0x0F) + 1, rest)
        };
        let Some((data, rest)) = rest.split_at_checked(len) else {
            self.rest = &[];
            return None;
        };
        self.rest = rest;
        Some((id, data))
    }
}

/// A whole plaintext packet.
#[derive(Clone, Copy, Debug)]
pub struct RtpPacket<'a> {
    pub header: RtpHeader,
    bytes: &'a [u8],
    payload_end: usize,
}

impl<'a> RtpPacket<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<RtpPacket<'a>, RtpError> {
        RtpPacket::with_header(RtpHeader::parse(bytes)?, bytes)
    }

    /// With the header that was parsed before the packet was unprotected; `bytes` ends with the plaintext.
    pub fn with_header(header: RtpHeader, bytes: &'a [u8]) -> Result<RtpPacket<'a>, RtpError> {
        let start = usize::from(header.len);
        if start > bytes.len() {
            return Err(RtpError::Truncated);
        }
        let mut payload_end = bytes.len();
        if header.padding {
            let padding = usize::from(bytes[bytes.len() - 1]);
            if padding == 0 || padding > bytes.len() - start {
                return Err(RtpError::Padding);
            }
            payload_end -= padding;
        }
        Ok(RtpPacket { header, bytes, payload_end })
    }

    /// The payload without padding; empty in a packet of padding alone.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[usize::from(self.header.len)..self.payload_end]
    }

    /// Octets of padding, its length octet included.
    pub fn padding_len(&self) -> usize {
        self.bytes.len() - self.payload_end
    }

    pub fn extensions(&self) -> ExtensionIter<'a> {
        self.header.extensions(self.bytes)
    }

    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        self.extensions().find_map(|(found, data)| (found == id).then_some(data))
    }
}

/// RFC 6464: how loud the audio in a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// The encoder thinks that it is speech.
    pub voice: bool,
    /// 0 (loudest) to 127 (silent), in −dBov.
    pub level: u8,
}

/// The header extensions that matter to an SFU in every packet, found in one pass by the ids of the publisher's section.
/// (The dependency descriptor is looked for in video whose payload does not tell its temporal layer.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions<'a> {
    pub mid: Option<&'a [u8]>,
    pub rid: Option<&'a [u8]>,
    pub repaired_rid: Option<&'a [u8]>,
    pub audio_level: Option<AudioLevel>,
    /// The transport-wide sequence number.
    pub transport_cc: Option<u16>,
    pub abs_capture_time: Option<&'a [u8]>,
}

impl<'a> Extensions<'a> {
    /// `bytes` is the packet (or at least its header) that `header` was parsed from.
    pub fn of(header: &RtpHeader, bytes: &'a [u8], ids: &ExtensionIds) -> Extensions<'a> {
        let mut found = Extensions::default();
        for (id, data) in header.extensions(bytes) {
            let id = Some(id);
            if id == ids.transport_cc {
                if let &[a, b, ..] = data {
                    found.transport_cc = Some(u16::from_be_bytes([a, b]));
                }
            } else if id == ids.audio_level {
                if let &[value, ..] = data {
                    found.audio_level = Some(AudioLevel { voice: value & 0x80 != 0, level: value & 0x7F });
                }
            } else if id == ids.mid {
                found.mid = Some(data);
            } else if id == ids.rid {
                found.rid = Some(data);
            } else if id == ids.repaired_rid {
                found.repaired_rid = Some(data);
            } else if id == ids.abs_capture_time {
                found.abs_capture_time = Some(data);
            }
        }
        found
    }
}

/// Writes one RTP header from its front. An element that does not fit is left out.
#[derive(Debug)]
pub struct HeaderWriter<'a> {
    buffer: &'a mut [u8],
    len: usize,
    /// Where the extension header stands, once there is one.
    extension: Option<usize>,
    two_byte: bool,
}

impl<'a> HeaderWriter<'a> {
    /// `None` when the buffer has fewer than twelve octets. `two_byte` chooses the form of RFC 8285 §4.3, needed only
    /// for elements of more than 16 octets or ids above 14.
    pub fn new(
        buffer: &'a mut [u8],
        payload_type: u8,
        marker: bool,
        sequence_number: u16,
        timestamp: u32,
        ssrc: u32,
        two_byte: bool,
    ) -> Option<HeaderWriter<'a>> {
        let fixed = buffer.first_chunk_mut::<FIXED_HEADER_LEN>()?;
        fixed[0] = 0x80;
        fixed[1] = payload_type & 0x7F | u8::from(marker) << 7;
        fixed[2..4].copy_from_slice(&sequence_number.to_be_bytes());
        fixed[4..8].copy_from_slice(&timestamp.to_be_bytes());
        fixed[8..12].copy_from_slice(&ssrc.to_be_bytes());
        Some(HeaderWriter { buffer, len: FIXED_HEADER_LEN, extension: None, two_byte })
    }

    /// Adds an element and returns the offset of its data in the buffer, so that it can be changed later.
    pub fn extension(&mut self, id: u8, data: &[u8]) -> Option<usize> {
        let representable = if self.two_byte {
            id >= 1 && data.len() <= 255
        } else {
            (1..=14).contains(&id) && (1..=16).contains(&data.len())
        };
        if !representable {
            return None;
        }
        let head = if self.extension.is_none() { 4 } else { 0 };
        let start = self.len + head + if self.two_byte { 2 } else { 1 };
        // Room for the padding to the word boundary is kept too.
        if start + data.len() + 3 > self.buffer.len() {
            return None;
        }
        if self.extension.is_none() {
            let profile = if self.two_byte { TWO_BYTE_PROFILE } else { ONE_BYTE_PROFILE };
            self.buffer[0] |= 0x10;
            self.buffer[self.len..self.len + 2].copy_from_slice(&profile.to_be_bytes());
            self.extension = Some(self.len);
        }
        if self.two_byte {
            self.buffer[start - 2] = id;
            self.buffer[start - 1] = data.len() as u8;
        } else {
            self.buffer[start - 1] = id << 4 | (data.len() - 1) as u8;
        }
        self.buffer[start..start + data.len()].copy_from_slice(data);
        self.len = start + data.len();
        Some(start)
    }

    /// The header's length in octets.
    pub fn finish(mut self) -> usize {
        if let Some(extension) = self.extension {
            // The elements begin on a word boundary after the fixed header, so alignment is that of the offset.
            while !(self.len - extension).is_multiple_of(4) {
                self.buffer[self.len] = 0;
                self.len += 1;
            }
            let words = (self.len - extension - 4) / 4;
            self.buffer[extension + 2..extension + 4].copy_from_slice(&(words as u16).to_be_bytes());
        }
        self.len
    }
}

/// The absolute send time extension: 24 bits of seconds as 6.18 fixed point, from the time since any fixed moment.
pub fn abs_send_time(since_epoch: std::time::Duration) -> [u8; 3] {
    let fraction = (u64::from(since_epoch.subsec_nanos()) << 18) / 1_000_000_000;
    let value = (since_epoch.as_secs() & 0x3F) << 18 | fraction;
    [(value >> 16) as u8, (value >> 8) as u8, value as u8]
}

/// The original sequence number at the front of a retransmission's payload (RFC 4588 §4).
pub fn rtx_original_sequence_number(payload: &[u8]) -> Option<u16> {
    let (osn, _) = payload.split_first_chunk::<2>()?;
    Some(u16::from_be_bytes(*osn))
}

/// Turns a plaintext retransmission into the packet that was lost, in place: the header moves over the original
/// sequence number. Returns the original, which is a tail of `bytes`. `None` when it carries no packet (padding
/// sent on the RTX stream to probe).
pub fn rtx_unwrap<'a>(bytes: &'a mut [u8], header: &RtpHeader, payload_type: u8, ssrc: u32) -> Option<&'a mut [u8]> {
    let header_len = usize::from(header.len);
    let padding = if header.padding { usize::from(*bytes.last()?) } else { 0 };
    let payload_end = bytes.len().checked_sub(padding)?;
    let payload = bytes.get(header_len..payload_end)?;
    let sequence_number = rtx_original_sequence_number(payload)?;
    if payload.len() == 2 {
        return None;
    }
    bytes.copy_within(..header_len, 2);
    let original = &mut bytes[2..];
    original[1] = original[1] & 0x80 | payload_type & 0x7F;
    original[2..4].copy_from_slice(&sequence_number.to_be_bytes());
    original[8..12].copy_from_slice(&ssrc.to_be_bytes());
    Some(original)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn reads_a_packet_with_csrcs_one_byte_extensions_and_padding() {
        let mut bytes = vec![0xB2, 0xE0, 0x12, 0x34, 0, 0, 0, 7, 0xDE, 0xAD, 0xBE, 0xEF];
        bytes.extend([0; 8]);
        bytes.extend([0xBE, 0xDE, 0, 2, 0x10, 0xAA, 0, 0x51, 0xBB, 0xCC, 0, 0]);
        bytes.extend([1, 2, 3, 0, 2]);
        let packet = RtpPacket::parse(&bytes).unwrap();
        assert!(packet.header.marker);
        assert_eq!(packet.header.payload_type, 96);
        assert_eq!(packet.header.sequence_number, 0x1234);
        assert_eq!(packet.header.timestamp, 7);
        assert_eq!(packet.header.ssrc, 0xDEAD_BEEF);
        assert_eq!(packet.header.csrc_count, 2);
        assert_eq!(packet.extension(1), Some(&[0xAA][..]));
        assert_eq!(packet.extension(5), Some(&[0xBB, 0xCC][..]));
        assert_eq!(packet.extension(6), None);
        assert_eq!(packet.payload(), [1, 2, 3]);
        assert_eq!(packet.padding_len(), 2);
    }

    #[test]
    fn one_byte_id_15_ends_the_extension_and_other_profiles_are_skipped() {
        let mut bytes = vec![0x90, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([0xBE, 0xDE, 0, 1, 0xF0, 1, 0x10, 2]);
        assert_eq!(RtpPacket::parse(&bytes).unwrap().extensions().count(), 0);
        bytes[12..14].copy_from_slice(&[0xAB, 0xCD]);
        let packet = RtpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.extensions().count(), 0);
        assert!(packet.payload().is_empty());
    }

    #[test]
    fn two_byte_extensions_may_be_empty_or_long() {
        let mut buffer = [0; 128];
        let mut writer = HeaderWriter::new(&mut buffer, 96, false, 1, 2, 3, true).unwrap();
        assert!(writer.extension(20, &[]).is_some());
        assert!(writer.extension(8, &[9; 30]).is_some());
        assert!(writer.extension(0, &[1]).is_none());
        let len = writer.finish();
        let packet = RtpPacket::parse(&buffer[..len]).unwrap();
        assert_eq!(packet.extension(20), Some(&[][..]));
        assert_eq!(packet.extension(8), Some(&[9; 30][..]));
        assert_eq!(usize::from(packet.header.len), len);
    }

    #[test]
    fn malformed_packets_are_refused() {
        assert_eq!(RtpHeader::parse(&[0x80; 11]), Err(RtpError::Truncated));
        assert_eq!(RtpHeader::parse(&[0x40; 12]), Err(RtpError::Version));
        assert_eq!(RtpHeader::parse(&[0x8F; 12]), Err(RtpError::Truncated));
        let mut padded = [0xA0; 14];
        padded[13] = 3;
        assert_eq!(RtpPacket::parse(&padded).unwrap_err(), RtpError::Padding);
        padded[13] = 0;
        assert_eq!(RtpPacket::parse(&padded).unwrap_err(), RtpError::Padding);
        assert_eq!(RtpPacket::parse(&padded[..12]).unwrap_err(), RtpError::Padding);
        padded[13] = 2;
        assert!(RtpPacket::parse(&padded).unwrap().payload().is_empty());
    }

    #[test]
    fn extensions_are_found_by_their_ids() {
        let source_ids = ExtensionIds {
            audio_level: Some(1),
            transport_cc: Some(2),
            abs_capture_time: Some(3),
            ..ExtensionIds::default()
        };
        let mut buffer = [0; 64];
        let mut writer = HeaderWriter::new(&mut buffer, 111, true, 9, 9, 9, false).unwrap();
        writer.extension(1, &[0x85]);
        writer.extension(2, &[7, 7]);
        writer.extension(3, &[1, 2, 3, 4, 5, 6, 7, 8]);
        let len = writer.finish();
        let header = RtpHeader::parse(&buffer[..len]).unwrap();
        let source = Extensions::of(&header, &buffer[..len], &source_ids);
        assert_eq!(source.transport_cc, Some(0x0707));
        assert_eq!(source.audio_level, Some(AudioLevel { voice: true, level: 5 }));
    }

    #[test]
    fn a_retransmission_becomes_the_original() {
        let mut buffer = [0; 64];
        let mut writer = HeaderWriter::new(&mut buffer, 97, true, 500, 42, 77, false).unwrap();
        writer.extension(3, b"q");
        let len = writer.finish();
        let mut bytes = buffer[..len].to_vec();
        bytes.extend([0xFF, 0xFE, 1, 2, 3]);
        let header = RtpHeader::parse(&bytes).unwrap();
        let original = rtx_unwrap(&mut bytes, &header, 96, 66).unwrap();
        let packet = RtpPacket::parse(original).unwrap();
        assert_eq!(packet.header.sequence_number, 0xFFFE);
        assert_eq!(packet.header.payload_type, 96);
        assert!(packet.header.marker);
        assert_eq!(packet.header.ssrc, 66);
        assert_eq!(packet.header.timestamp, 42);
        assert_eq!(packet.extension(3), Some(&b"q"[..]));
        assert_eq!(packet.payload(), [1, 2, 3]);

        let mut probe = vec![0xA0, 97, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 3];
        let header = RtpHeader::parse(&probe).unwrap();
        assert!(rtx_unwrap(&mut probe, &header, 96, 66).is_none());
    }

    #[test]
    fn rtcp_is_told_by_its_packet_type() {
        assert!(is_rtcp(&[0x80, 200]));
        assert!(is_rtcp(&[0x81, 205]));
        assert!(is_rtcp(&[0x81, 192]) && is_rtcp(&[0x81, 223]));
        assert!(!is_rtcp(&[0x80, 191]) && !is_rtcp(&[0x80, 224]));
        assert!(!is_rtcp(&[0x80, 96]) && !is_rtcp(&[0x80]));
    }

    #[test]
    fn absolute_send_time_is_6_18_fixed_point() {
        assert_eq!(abs_send_time(Duration::from_secs(1)), [0x04, 0, 0]);
        assert_eq!(abs_send_time(Duration::from_millis(500)), [0x02, 0, 0]);
        assert_eq!(abs_send_time(Duration::from_secs(64)), [0, 0, 0]);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), first in 0x80u8..0xC0) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            crate::fuzz::fuzz_rtp(&bytes);
        }

        #[test]
        fn what_is_written_is_read(elements in proptest::collection::vec((1u8..15, proptest::collection::vec(any::<u8>(), 1..17)), 0..6),
                                   two_byte: bool, seq: u16) {
            let mut buffer = [0; 256];
            let mut writer = HeaderWriter::new(&mut buffer, 1, false, seq, 1, 1, two_byte).unwrap();
            for (id, data) in &elements {
                prop_assert!(writer.extension(*id, data).is_some());
            }
            let len = writer.finish();
            let packet = RtpPacket::parse(&buffer[..len]).unwrap();
            let read: Vec<_> = packet.extensions().map(|(id, data)| (id, data.to_vec())).collect();
            prop_assert_eq!(read, elements);
            prop_assert_eq!(packet.header.sequence_number, seq);
        }
    }
}
