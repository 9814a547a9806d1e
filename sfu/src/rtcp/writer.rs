//! Writes RTCP packets into a buffer, one after the other.

use super::{
    BYE, FMT_APPLICATION, FMT_NACK, FMT_PLI, FMT_TRANSPORT_CC, PAYLOAD_FEEDBACK, RECEIVER_REPORT, ReportBlock,
    SENDER_REPORT, SOURCE_DESCRIPTION, SenderInfo, TRANSPORT_FEEDBACK,
};

/// Appends packets to a buffer. Each method writes a whole packet and returns true, or nothing and false when it does
/// not fit. A lone feedback packet is a reduced-size compound (RFC 5506), which all WebRTC peers take.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    pub fn new(buffer: &'a mut [u8]) -> Writer<'a> {
        Writer { buffer, len: 0 }
    }

    /// Octets written so far.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn written(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// The header of a packet with `body` octets of body (a multiple of 4), and the place for the body.
    fn packet(&mut self, count: u8, packet_type: u8, body: usize) -> Option<&mut [u8]> {
        debug_assert!(body.is_multiple_of(4) && count < 32);
        let words = u16::try_from(body / 4).ok()?;
        let packet = self.buffer.get_mut(self.len..self.len + 4 + body)?;
        packet[0] = 0x80 | count;
        packet[1] = packet_type;
        packet[2..4].copy_from_slice(&words.to_be_bytes());
        self.len += 4 + body;
        Some(&mut packet[4..])
    }

    /// A sender report without report blocks (we report on what we receive in receiver reports).
    pub fn sender_report(&mut self, ssrc: u32, info: &SenderInfo) -> bool {
        let Some(body) = self.packet(0, SENDER_REPORT, 24) else {
            return false;
        };
        put(body, 0, ssrc);
        put(body, 4, (info.ntp >> 32) as u32);
        put(body, 8, info.ntp as u32);
        put(body, 12, info.rtp_timestamp);
        put(body, 16, info.packets);
        put(body, 20, info.octets);
        true
    }

    /// A receiver report; blocks beyond the 31st are left for the next one.
    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) -> bool {
        let blocks = &blocks[..blocks.len().min(31)];
        let Some(body) = self.packet(blocks.len() as u8, RECEIVER_REPORT, 4 + ReportBlock::LEN * blocks.len()) else {
            return false;
        };
        put(body, 0, ssrc);
        for (block, place) in blocks.iter().zip(body[4..].chunks_exact_mut(ReportBlock::LEN)) {
            put(place, 0, block.ssrc);
            // RFC 3550 A.3: 24 bits, clamped.
            let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7F_FFFF) as u32 & 0xFF_FFFF;
            put(place, 4, u32::from(block.fraction_lost) << 24 | lost);
            put(place, 8, block.extended_highest_sequence);
            put(place, 12, block.jitter);
            put(place, 16, block.last_sender_report);
            put(place, 20, block.delay_since_last);
        }
        true
    }

    /// A source description with one CNAME (RFC 3550 §6.5.1) of at most 255 octets.
    pub fn source_description(&mut self, ssrc: u32, cname: &[u8]) -> bool {
        let cname = &cname[..cname.len().min(255)];
        // The list of items ends with at least one zero octet, up to the next word.
        let body_len = (4 + 2 + cname.len() + 1).next_multiple_of(4);
        let Some(body) = self.packet(1, SOURCE_DESCRIPTION, body_len) else {
            return false;
        };
        body.fill(0);
        put(body, 0, ssrc);
        body[4] = 1;
        body[5] = cname.len() as u8;
        body[6..6 + cname.len()].copy_from_slice(cname);
        true
    }

    pub fn bye(&mut self, ssrc: u32) -> bool {
        let Some(body) = self.packet(1, BYE, 4) else {
            return false;
        };
        put(body, 0, ssrc);
        true
    }

    /// A generic NACK for `lost`, which is in ascending order (modulo 2¹⁶); the part that fits is written. Returns how
    /// many sequence numbers were.
    pub fn nack(&mut self, sender_ssrc: u32, media_ssrc: u32, lost: &[u16]) -> usize {
        let room = (self.buffer.len() - self.len).saturating_sub(12) / 4;
        let (entries, covered) = nack_entries(lost, room);
        if entries == 0 {
            return 0;
        }
        let Some(body) = self.feedback(FMT_NACK, TRANSPORT_FEEDBACK, sender_ssrc, media_ssrc, 4 * entries) else {
            return 0;
        };
        let mut lost = lost[..covered].iter().copied().peekable();
        for place in body.chunks_exact_mut(4) {
            let Some(base) = lost.next() else { break };
            let mut mask = 0u16;
            while let Some(bit) = lost.peek().and_then(|&next| mask_bit(base, next)) {
                mask |= bit;
                lost.next();
            }
            put(place, 0, u32::from(base) << 16 | u32::from(mask));
        }
        covered
    }

    pub fn picture_loss(&mut self, sender_ssrc: u32, media_ssrc: u32) -> bool {
        self.feedback(FMT_PLI, PAYLOAD_FEEDBACK, sender_ssrc, media_ssrc, 0).is_some()
    }

    /// An estimate for everything that the receiver of this packet sends under `ssrcs` (at most 255).
    pub fn remb(&mut self, sender_ssrc: u32, bitrate_bps: u64, ssrcs: &[u32]) -> bool {
        let ssrcs = &ssrcs[..ssrcs.len().min(255)];
        let Some(body) = self.feedback(FMT_APPLICATION, PAYLOAD_FEEDBACK, sender_ssrc, 0, 8 + 4 * ssrcs.len()) else {
            return false;
        };
        let exponent = (64 - bitrate_bps.leading_zeros()).saturating_sub(18);
        let mantissa = (bitrate_bps >> exponent) as u32;
        body[..4].copy_from_slice(b"REMB");
        put(body, 4, (ssrcs.len() as u32) << 24 | exponent << 18 | mantissa);
        for (ssrc, place) in ssrcs.iter().zip(body[8..].chunks_exact_mut(4)) {
            put(place, 0, *ssrc);
        }
        true
    }

    /// The frame of a transport-wide feedback packet: `fill` writes what follows the SSRCs and returns its length,
    /// which is then padded with zeros to a word. Nothing is written when `fill` returns `None`.
    pub fn transport_feedback(
        &mut self,
        sender_ssrc: u32,
        media_ssrc: u32,
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let start = self.len + 12;
        // Three octets are kept for the padding.
        let Some(end) = self.buffer.len().checked_sub(3).filter(|end| *end > start) else {
            return false;
        };
        let Some(len) = fill(&mut self.buffer[start..end]) else {
            return false;
        };
        let padded = len.next_multiple_of(4);
        self.buffer[start + len..start + padded].fill(0);
        self.feedback(FMT_TRANSPORT_CC, TRANSPORT_FEEDBACK, sender_ssrc, media_ssrc, padded).is_some()
    }

    fn feedback(
        &mut self,
        format: u8,
        packet_type: u8,
        sender_ssrc: u32,
        media_ssrc: u32,
        len: usize,
    ) -> Option<&mut [u8]> {
        let body = self.packet(format, packet_type, 8 + len)?;
        put(body, 0, sender_ssrc);
        put(body, 4, media_ssrc);
        Some(&mut body[8..])
    }
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn mask_bit(base: u16, next: u16) -> Option<u16> {
    match next.wrapping_sub(base) {
        distance @ 1..=16 => Some(1 << (distance - 1)),
        _ => None,
    }
}

/// How many entries (at most `room`) the list takes, and how many of its numbers they cover.
fn nack_entries(lost: &[u16], room: usize) -> (usize, usize) {
    let mut entries = 0;
    let mut covered = 0;
    while entries < room {
        let Some(&base) = lost.get(covered) else {
            break;
        };
        entries += 1;
        covered += 1;
        while lost.get(covered).is_some_and(|&next| mask_bit(base, next).is_some()) {
            covered += 1;
        }
    }
    (entries, covered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Rtcp, packets};
    use proptest::prelude::*;

    #[test]
    fn a_compound_is_read_back() {
        let mut buffer = [0xFF; 256];
        let mut writer = Writer::new(&mut buffer);
        let info = SenderInfo { ntp: 0x0123_4567_89AB_CDEF, rtp_timestamp: 4, packets: 5, octets: 6 };
        let block = ReportBlock {
            ssrc: 1,
            fraction_lost: 200,
            cumulative_lost: -3,
            extended_highest_sequence: 4,
            jitter: 5,
            last_sender_report: 6,
            delay_since_last: 7,
        };
        assert!(writer.sender_report(11, &info));
        assert!(writer.source_description(11, b"cname"));
        assert!(writer.receiver_report(12, &[block, block]));
        assert!(writer.picture_loss(12, 13));
        assert!(writer.remb(12, 1_234_567, &[1, 2]));
        assert!(writer.bye(11));
        let read: Vec<_> = packets(writer.written()).collect();
        assert_eq!(read.len(), 6);
        assert!(matches!(&read[0], Rtcp::SenderReport { ssrc: 11, info: found, .. } if *found == info));
        assert!(matches!(read[1], Rtcp::Other { packet_type: 202 }));
        let Rtcp::ReceiverReport { ssrc: 12, reports } = &read[2] else {
            panic!("{:?}", read[2]);
        };
        assert_eq!(reports.clone().collect::<Vec<_>>(), [block, block]);
        assert!(matches!(read[3], Rtcp::PictureLoss { sender_ssrc: 12, media_ssrc: 13 }));
        let Rtcp::Remb { bitrate_bps, .. } = &read[4] else {
            panic!("{:?}", read[4]);
        };
        // 18 bits of mantissa.
        assert!(*bitrate_bps <= 1_234_567 && *bitrate_bps > 1_234_500);
        assert!(matches!(&read[5], Rtcp::Bye { ssrcs } if ssrcs.clone().eq([11])));
    }

    #[test]
    fn a_cname_always_ends_with_a_zero() {
        for len in 0..9 {
            let mut buffer = [0xFF; 64];
            let mut writer = Writer::new(&mut buffer);
            assert!(writer.source_description(1, &vec![b'a'; len]));
            assert!(writer.len() > 4 + 4 + 2 + len);
            assert_eq!(*writer.written().last().unwrap(), 0);
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let mut buffer = [0; 20];
        let mut writer = Writer::new(&mut buffer);
        assert!(writer.picture_loss(1, 2));
        assert!(!writer.picture_loss(1, 2));
        assert_eq!(writer.nack(1, 2, &[1]), 0);
        assert!(!writer.transport_feedback(1, 2, |_| Some(4)));
        assert_eq!(writer.len(), 12);
    }

    #[test]
    fn a_nack_that_does_not_fit_is_cut_at_an_entry() {
        let mut buffer = [0; 16];
        let mut writer = Writer::new(&mut buffer);
        assert_eq!(writer.nack(1, 2, &[10, 11, 100]), 2);
        let Some(Rtcp::Nack { lost, .. }) = packets(writer.written()).next() else {
            panic!("not a NACK");
        };
        assert_eq!(lost.collect::<Vec<_>>(), [10, 11]);
    }

    proptest! {
        #[test]
        fn a_nack_is_read_back(start: u16, steps in proptest::collection::vec(1u16..40, 0..60)) {
            let mut lost = vec![start];
            for step in steps {
                lost.push(lost[lost.len() - 1].wrapping_add(step));
            }
            let mut buffer = [0; 512];
            let mut writer = Writer::new(&mut buffer);
            prop_assert_eq!(writer.nack(1, 2, &lost), lost.len());
            let Some(Rtcp::Nack { lost: read, .. }) = packets(writer.written()).next() else {
                panic!("not a NACK");
            };
            prop_assert_eq!(read.collect::<Vec<_>>(), lost);
        }

        #[test]
        fn remb_never_says_more_than_asked(bitrate: u64) {
            let mut buffer = [0; 64];
            let mut writer = Writer::new(&mut buffer);
            prop_assert!(writer.remb(1, bitrate, &[]));
            let Some(Rtcp::Remb { bitrate_bps, .. }) = packets(writer.written()).next() else {
                panic!("not REMB");
            };
            prop_assert!(bitrate_bps <= bitrate && bitrate - bitrate_bps <= bitrate >> 17);
        }
    }
}
