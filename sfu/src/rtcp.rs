//! RTCP (RFC 3550 §6, RFC 4585, RFC 5104, REMB, transport-wide feedback) as bounded views over received bytes.
//!
//! - [`packets`] iterates over a compound or reduced-size (RFC 5506) packet and yields [`Rtcp`] values that borrow
//!   from it.
//! - [`Writer`] writes packets one after the other into a buffer.
//! - [`TransportFeedback`] reads the transport-wide feedback; `congestion::feedback` makes it.

mod transport_feedback;
mod writer;

pub use transport_feedback::TransportFeedback;
pub use writer::Writer;

pub(crate) const SENDER_REPORT: u8 = 200;
pub(crate) const RECEIVER_REPORT: u8 = 201;
pub(crate) const SOURCE_DESCRIPTION: u8 = 202;
pub(crate) const BYE: u8 = 203;
pub(crate) const TRANSPORT_FEEDBACK: u8 = 205;
pub(crate) const PAYLOAD_FEEDBACK: u8 = 206;

pub(crate) const FMT_NACK: u8 = 1;
pub(crate) const FMT_TRANSPORT_CC: u8 = 15;
pub(crate) const FMT_PLI: u8 = 1;
pub(crate) const FMT_FIR: u8 = 4;
pub(crate) const FMT_APPLICATION: u8 = 15;

/// RFC 3550 §6.4.1: the sender's part of a sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// NTP time as 32.32 fixed point.
    pub ntp: u64,
    /// The same moment in units of the media's clock.
    pub rtp_timestamp: u32,
    pub packets: u32,
    pub octets: u32,
}

/// RFC 3550 §6.4.1: what a receiver says about one SSRC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    pub ssrc: u32,
    /// Since the previous report, in 1/256.
    pub fraction_lost: u8,
    /// Since the beginning; 24 bits, negative when duplicates arrived.
    pub cumulative_lost: i32,
    pub extended_highest_sequence: u32,
    /// In units of the media's clock.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report, 0 when there was none.
    pub last_sender_report: u32,
    /// Since that report arrived, in 1/65536 s.
    pub delay_since_last: u32,
}

impl ReportBlock {
    pub(crate) const LEN: usize = 24;

    fn parse(bytes: &[u8; Self::LEN]) -> ReportBlock {
        let lost = word(bytes, 4);
        ReportBlock {
            ssrc: word(bytes, 0),
            fraction_lost: bytes[4],
            // Sign extension of 24 bits.
            cumulative_lost: (lost << 8) as i32 >> 8,
            extended_highest_sequence: word(bytes, 8),
            jitter: word(bytes, 12),
            last_sender_report: word(bytes, 16),
            delay_since_last: word(bytes, 20),
        }
    }
}

/// One packet of a compound. Lists are iterators over the received bytes.
#[derive(Clone, Debug)]
pub enum Rtcp<'a> {
    SenderReport {
        ssrc: u32,
        info: SenderInfo,
        reports: ReportBlocks<'a>,
    },
    ReceiverReport {
        ssrc: u32,
        reports: ReportBlocks<'a>,
    },
    Bye {
        ssrcs: Words<'a>,
    },
    /// RFC 4585 §6.2.1.
    Nack {
        sender_ssrc: u32,
        media_ssrc: u32,
        lost: Lost<'a>,
    },
    /// RFC 4585 §6.3.1.
    PictureLoss {
        sender_ssrc: u32,
        media_ssrc: u32,
    },
    /// RFC 5104 §4.3.1; the entries name the SSRCs.
    FullIntraRequest {
        sender_ssrc: u32,
        entries: FirEntries<'a>,
    },
    /// draft-alvestrand-rmcat-remb-03.
    Remb {
        sender_ssrc: u32,
        bitrate_bps: u64,
        ssrcs: Words<'a>,
    },
    TransportFeedback(TransportFeedback<'a>),
    /// Valid, and nothing that we read: SDES, APP, XR, unknown feedback.
    Other {
        packet_type: u8,
    },
}

/// Iterates over the packets of a compound; ends at the first malformed header or body.
pub fn packets(bytes: &[u8]) -> Packets<'_> {
    Packets { rest: bytes, malformed: false }
}

#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
    malformed: bool,
}

impl Packets<'_> {
    /// True when the iteration ended because of something that is not RTCP.
    pub fn is_malformed(&self) -> bool {
        self.malformed
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Rtcp<'a>;

    fn next(&mut self) -> Option<Rtcp<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = split_packet(self.rest).and_then(|(packet, rest)| {
            self.rest = rest;
            packet.parse()
        });
        if parsed.is_none() {
            self.rest = &[];
            self.malformed = true;
        }
        parsed
    }
}

struct RawPacket<'a> {
    count: u8,
    packet_type: u8,
    body: &'a [u8],
}

fn split_packet(bytes: &[u8]) -> Option<(RawPacket<'_>, &[u8])> {
    let &[first, packet_type, len_high, len_low, ..] = bytes else {
        return None;
    };
    if first >> 6 != 2 {
        return None;
    }
    let len = 4 * (usize::from(u16::from_be_bytes([len_high, len_low])) + 1);
    let (packet, rest) = bytes.split_at_checked(len)?;
    let mut body = &packet[4..];
    if first & 0x20 != 0 {
        let padding = usize::from(*body.last()?);
        if padding == 0 {
            return None;
        }
        body = body.get(..body.len().checked_sub(padding)?)?;
    }
    let count = first & 0x1F;
    Some((RawPacket { count, packet_type, body }, rest))
}

impl<'a> RawPacket<'a> {
    fn parse(&self) -> Option<Rtcp<'a>> {
        let body = self.body;
        match (self.packet_type, self.count) {
            (SENDER_REPORT, count) => {
                let (fixed, rest) = body.split_first_chunk::<24>()?;
                Some(Rtcp::SenderReport {
                    ssrc: word(fixed, 0),
                    info: SenderInfo {
                        ntp: u64::from(word(fixed, 4)) << 32 | u64::from(word(fixed, 8)),
                        rtp_timestamp: word(fixed, 12),
                        packets: word(fixed, 16),
                        octets: word(fixed, 20),
                    },
                    reports: ReportBlocks::new(rest, count)?,
                })
            }
            (RECEIVER_REPORT, count) => {
                let (ssrc, rest) = body.split_first_chunk::<4>()?;
                Some(Rtcp::ReceiverReport { ssrc: u32::from_be_bytes(*ssrc), reports: ReportBlocks::new(rest, count)? })
            }
            (BYE, count) => Some(Rtcp::Bye { ssrcs: Words { rest: body.get(..4 * usize::from(count))? } }),
            (TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK, format) => {
                let (fixed, rest) = body.split_first_chunk::<8>()?;
                let (sender_ssrc, media_ssrc) = (word(fixed, 0), word(fixed, 4));
                match (self.packet_type, format) {
                    (TRANSPORT_FEEDBACK, FMT_NACK) => Some(Rtcp::Nack {
                        sender_ssrc,
                        media_ssrc,
                        lost: Lost { words: Words { rest }, base: 0, mask: 0 },
                    }),
                    (TRANSPORT_FEEDBACK, FMT_TRANSPORT_CC) => {
                        Some(Rtcp::TransportFeedback(TransportFeedback::parse(sender_ssrc, media_ssrc, rest)?))
                    }
                    (PAYLOAD_FEEDBACK, FMT_PLI) => Some(Rtcp::PictureLoss { sender_ssrc, media_ssrc }),
                    (PAYLOAD_FEEDBACK, FMT_FIR) => {
                        Some(Rtcp::FullIntraRequest { sender_ssrc, entries: FirEntries { rest } })
                    }
                    (PAYLOAD_FEEDBACK, FMT_APPLICATION) if rest.starts_with(b"REMB") => {
                        let (fixed, rest) = rest.split_first_chunk::<8>()?;
                        let exponent = fixed[5] >> 2;
                        let mantissa = u64::from(word(fixed, 4) & 0x3_FFFF);
                        Some(Rtcp::Remb {
                            sender_ssrc,
                            // 18 bits shifted by up to 63: saturate as if 64 bits were enough.
                            bitrate_bps: if mantissa.leading_zeros() < u32::from(exponent) {
                                u64::MAX
                            } else {
                                mantissa << exponent
                            },
                            ssrcs: Words { rest: rest.get(..4 * usize::from(fixed[4]))? },
                        })
                    }
                    (packet_type, _) => Some(Rtcp::Other { packet_type }),
                }
            }
            (192..=223, _) => Some(Rtcp::Other { packet_type: self.packet_type }),
            _ => None,
        }
    }
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// At most 31 report blocks.
#[derive(Clone, Debug)]
pub struct ReportBlocks<'a> {
    rest: &'a [u8],
}

impl<'a> ReportBlocks<'a> {
    fn new(bytes: &'a [u8], count: u8) -> Option<ReportBlocks<'a>> {
        // What follows the blocks is a profile's extension, which nobody uses.
        Some(ReportBlocks { rest: bytes.get(..ReportBlock::LEN * usize::from(count))? })
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(ReportBlock::parse(block))
    }
}

/// A list of SSRCs.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a [u8],
}

impl Iterator for Words<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (word, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*word))
    }
}

/// The sequence numbers that a NACK names, in its order; at most 17 for each four octets.
#[derive(Clone, Debug)]
pub struct Lost<'a> {
    words: Words<'a>,
    base: u16,
    mask: u16,
}

impl Iterator for Lost<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.mask != 0 {
            let skip = self.mask.trailing_zeros() as u16;
            self.mask &= self.mask - 1;
            return Some(self.base.wrapping_add(skip + 1));
        }
        let entry = self.words.next()?;
        self.base = (entry >> 16) as u16;
        self.mask = entry as u16;
        Some(self.base)
    }
}

/// The entries of a FIR: `(ssrc, sequence number of the command)`.
#[derive(Clone, Debug)]
pub struct FirEntries<'a> {
    rest: &'a [u8],
}

impl Iterator for FirEntries<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<(u32, u8)> {
        let (entry, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some((word(entry, 0), entry[4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_sender_report_with_a_block() {
        let mut bytes = vec![0x81, 200, 0, 12];
        for word in [1u32, 2, 3, 4, 5, 6] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend([0, 0, 0, 9, 64, 0xFF, 0xFF, 0xFE]);
        for word in [0x0001_0002u32, 77, 88, 99] {
            bytes.extend(word.to_be_bytes());
        }
        // A source description follows.
        bytes.extend([0x81, 202, 0, 2, 0, 0, 0, 1, 1, 1, b'x', 0]);
        let mut iter = packets(&bytes);
        let Some(Rtcp::SenderReport { ssrc, info, mut reports }) = iter.next() else {
            panic!("not a sender report");
        };
        assert_eq!(ssrc, 1);
        assert_eq!(info, SenderInfo { ntp: 2 << 32 | 3, rtp_timestamp: 4, packets: 5, octets: 6 });
        let block = reports.next().unwrap();
        assert_eq!(block.ssrc, 9);
        assert_eq!(block.fraction_lost, 64);
        assert_eq!(block.cumulative_lost, -2);
        assert_eq!(block.extended_highest_sequence, 0x0001_0002);
        assert_eq!((block.jitter, block.last_sender_report, block.delay_since_last), (77, 88, 99));
        assert!(reports.next().is_none());
        assert!(matches!(iter.next(), Some(Rtcp::Other { packet_type: 202 })));
        assert!(iter.next().is_none() && !iter.is_malformed());
    }

    #[test]
    fn a_nack_names_its_base_and_its_mask_over_the_wrap() {
        let bytes = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0xFF, 0xFF, 0x80, 0x01];
        let Some(Rtcp::Nack { media_ssrc, lost, .. }) = packets(&bytes).next() else {
            panic!("not a NACK");
        };
        assert_eq!(media_ssrc, 2);
        assert_eq!(lost.collect::<Vec<_>>(), [0xFFFF, 0, 15]);
    }

    #[test]
    fn reads_remb_and_its_extremes() {
        let mut bytes = vec![0x8F, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0];
        bytes.extend(b"REMB");
        bytes.extend([1, 0x0B, 0xFF, 0xFF, 0, 0, 0, 7]);
        let Some(Rtcp::Remb { bitrate_bps, ssrcs, .. }) = packets(&bytes).next() else {
            panic!("not REMB");
        };
        assert_eq!(bitrate_bps, 0x3_FFFF << 2);
        assert_eq!(ssrcs.collect::<Vec<_>>(), [7]);
        bytes[17] = 0xFF;
        assert!(matches!(packets(&bytes).next(), Some(Rtcp::Remb { bitrate_bps: u64::MAX, .. })));
        // More SSRCs announced than there are.
        bytes[16] = 2;
        let mut iter = packets(&bytes);
        assert!(iter.next().is_none() && iter.is_malformed());
    }

    #[test]
    fn broken_packets_end_the_iteration() {
        for bytes in [
            &[0x80, 201, 0][..],
            &[0x40, 201, 0, 1, 0, 0, 0, 1],
            // Two blocks announced, none there.
            &[0x82, 201, 0, 1, 0, 0, 0, 1],
            // Longer than the datagram.
            &[0x80, 201, 0, 2, 0, 0, 0, 1],
            // Padding longer than the body, and padding of length 0.
            &[0xA0, 201, 0, 1, 0, 0, 0, 9],
            &[0xA0, 201, 0, 1, 0, 0, 0, 0],
            &[0x80, 1, 0, 1, 0, 0, 0, 1],
        ] {
            let mut iter = packets(bytes);
            assert!(iter.next().is_none(), "{bytes:?}");
            assert!(iter.is_malformed(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200),
                        packet_type in 200u8..208, count in 0u8..32) {
            let mut bytes = bytes;
            if bytes.len() >= 4 {
                bytes[0] = 0x80 | count;
                bytes[1] = packet_type;
                let len = (bytes.len() / 4 - 1) as u16;
                bytes[2..4].copy_from_slice(&len.to_be_bytes());
            }
            crate::fuzz::fuzz_rtcp(&bytes);
        }
    }
}
