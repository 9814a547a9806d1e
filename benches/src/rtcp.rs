//! RTCP as a client writes and reads it (RFC 3550 §6, RFC 4585, RFC 5104, draft-alvestrand-rmcat-remb,
//! draft-holmer-rmcat-transport-wide-cc-extensions-01).

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SDES: u8 = 202;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

/// One report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    pub ssrc: u32,
    /// Of 256, since the last report.
    pub fraction_lost: u8,
    pub lost_total: u32,
    pub highest_sequence: u32,
    pub last_sender_report: u32,
    /// In 1/65536 s.
    pub delay_since_sender_report: u32,
}

fn packet(out: &mut Vec<u8>, count: u8, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0x80 | count, kind, 0, 0]);
    body(out);
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    let words = ((out.len() - start) / 4 - 1) as u16;
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

pub fn sender_report(out: &mut Vec<u8>, ssrc: u32, ntp: u64, timestamp: u32, sent: (u32, u32)) {
    packet(out, 0, SENDER_REPORT, |out| {
        let ntp = [(ntp >> 32) as u32, ntp as u32];
        words(out, &[ssrc, ntp[0], ntp[1], timestamp, sent.0, sent.1]);
    });
}

/// At most 31 blocks.
pub fn receiver_report(out: &mut Vec<u8>, sender: u32, blocks: &[ReportBlock]) {
    packet(out, blocks.len() as u8, RECEIVER_REPORT, |out| {
        words(out, &[sender]);
        for block in blocks {
            let lost = u32::from(block.fraction_lost) << 24 | block.lost_total & 0xFF_FFFF;
            words(
                out,
                &[
                    block.ssrc,
                    lost,
                    block.highest_sequence,
                    0,
                    block.last_sender_report,
                    block.delay_since_sender_report,
                ],
            );
        }
    });
}

pub fn cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    packet(out, 1, SDES, |out| {
        words(out, &[ssrc]);
        out.extend_from_slice(&[1, cname.len() as u8]);
        out.extend_from_slice(cname.as_bytes());
        out.push(0);
    });
}

/// RFC 4585 §6.2.1; `missing` is ascending and not empty.
pub fn nack(out: &mut Vec<u8>, sender: u32, media: u32, missing: &[u16]) {
    packet(out, 1, TRANSPORT_FEEDBACK, |out| {
        words(out, &[sender, media]);
        let mut rest = missing;
        while let Some((&first, following)) = rest.split_first() {
            let near = |&&other: &&u16| (1..=16).contains(&other.wrapping_sub(first));
            let covered = following.iter().take_while(near);
            let mut mask = 0u16;
            let mut count = 0;
            for &other in covered {
                mask |= 1 << (other.wrapping_sub(first) - 1);
                count += 1;
            }
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&mask.to_be_bytes());
            rest = &following[count..];
        }
    });
}

/// draft-alvestrand-rmcat-remb §2.2.
pub fn remb(out: &mut Vec<u8>, sender: u32, bitrate_bps: u64, media: &[u32]) {
    packet(out, 15, PAYLOAD_FEEDBACK, |out| {
        words(out, &[sender, 0]);
        out.extend_from_slice(b"REMB");
        let exponent = (64 - bitrate_bps.leading_zeros()).saturating_sub(18);
        let mantissa = (bitrate_bps >> exponent) as u32;
        let count = (media.len() as u32) << 24;
        words(out, &[count | exponent << 18 | mantissa]);
        words(out, media);
    });
}

/// One feedback message of transport-wide congestion control: `arrivals` are (sequence number, arrival in units of
/// 250 µs), ascending by sequence number and not empty.
pub fn transport_feedback(out: &mut Vec<u8>, sender: u32, media: u32, count: u8, arrivals: &[(u16, i64)]) {
    let (base, last) = (arrivals[0].0, arrivals[arrivals.len() - 1].0);
    let status_count = last.wrapping_sub(base).wrapping_add(1);
    // The reference time is in units of 64 ms, 256 of ours.
    let reference = arrivals[0].1.div_euclid(256);
    packet(out, 15, TRANSPORT_FEEDBACK, |out| {
        words(out, &[sender, media]);
        out.extend_from_slice(&base.to_be_bytes());
        out.extend_from_slice(&status_count.to_be_bytes());
        words(out, &[(reference as u32 & 0xFF_FFFF) << 8 | u32::from(count)]);
        let mut symbols = vec![0u16; usize::from(status_count)];
        let mut deltas = Vec::with_capacity(arrivals.len());
        let mut previous = reference * 256;
        for &(sequence, at) in arrivals {
            let delta = at - previous;
            previous = at;
            let small = (0..256).contains(&delta);
            symbols[usize::from(sequence.wrapping_sub(base))] = if small { 1 } else { 2 };
            if small {
                deltas.push(delta as u8);
            } else {
                deltas.extend_from_slice(&(delta as i16).to_be_bytes());
            }
        }
        // Status vector chunks of seven two-bit symbols.
        for chunk in symbols.chunks(7) {
            let mut word = 0xC000u16;
            for (index, symbol) in chunk.iter().enumerate() {
                word |= symbol << (12 - 2 * index);
            }
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&deltas);
    });
}

/// What of a received compound packet matters to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    SenderReport {
        ssrc: u32,
        ntp_middle: u32,
    },
    Nack {
        media: u32,
        missing: Vec<u16>,
    },
    /// PLI or FIR.
    KeyframeRequest {
        media: u32,
    },
}

pub fn parse(mut compound: &[u8]) -> Vec<Received> {
    let mut received = Vec::new();
    while let Some((header, _)) = compound.split_first_chunk::<4>() {
        let length = 4 + 4 * usize::from(u16::from_be_bytes([header[2], header[3]]));
        let Some(packet) = compound.get(..length) else {
            break;
        };
        let word = |index: usize| -> Option<u32> { Some(u32::from_be_bytes(*packet.get(4 * index..)?.first_chunk()?)) };
        match (header[1], header[0] & 31) {
            (SENDER_REPORT, _) => {
                if let (Some(ssrc), Some(high), Some(low)) = (word(1), word(2), word(3)) {
                    let ntp_middle = high << 16 | low >> 16;
                    received.push(Received::SenderReport { ssrc, ntp_middle });
                }
            }
            (TRANSPORT_FEEDBACK, 1) => {
                if let Some(media) = word(2) {
                    let pairs = packet.get(12..).unwrap_or(&[]).chunks_exact(4);
                    let missing = pairs
                        .flat_map(|pair| {
                            let first = u16::from_be_bytes([pair[0], pair[1]]);
                            let mask = u16::from_be_bytes([pair[2], pair[3]]);
                            let lost = (0..16).filter(move |bit| mask >> bit & 1 == 1);
                            std::iter::once(first).chain(lost.map(move |bit| first.wrapping_add(bit + 1)))
                        })
                        .collect();
                    received.push(Received::Nack { media, missing });
                }
            }
            (PAYLOAD_FEEDBACK, 1) => {
                received.extend(word(2).map(|media| Received::KeyframeRequest { media }));
            }
            (PAYLOAD_FEEDBACK, 4) => {
                // RFC 5104 §4.3.1: the SSRC that is asked stands in the FCI.
                received.extend(word(3).map(|media| Received::KeyframeRequest { media }));
            }
            _ => {}
        }
        compound = &compound[length..];
    }
    received
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nack_names_every_missing_packet_over_the_wrap() {
        let mut out = Vec::new();
        nack(&mut out, 1, 2, &[65_534, 65_535, 3, 40]);
        let missing = vec![65_534, 65_535, 3, 40];
        assert_eq!(parse(&out), [Received::Nack { media: 2, missing }]);
    }

    #[test]
    fn transport_feedback_has_a_symbol_for_each_number_and_a_delta_for_each_arrival() {
        let mut out = Vec::new();
        transport_feedback(&mut out, 1, 2, 5, &[(10, 256), (12, 300), (13, 1_000)]);
        assert_eq!(out[12..16], [0, 10, 0, 4]);
        assert_eq!(out[16..20], [0, 0, 1, 5]);
        // received-small, missing, received-small, received-large
        assert_eq!(out[20..22], 0b11_01_00_01_10_00_00_00u16.to_be_bytes());
        assert_eq!(out[22..26], [0, 44, 2, 188]);
    }

    #[test]
    fn a_remb_holds_its_rate_within_the_mantissa() {
        let mut out = Vec::new();
        remb(&mut out, 1, 10_000_000, &[7]);
        let word = u32::from_be_bytes(*out[16..].first_chunk().unwrap());
        let rate = u64::from(word & 0x3_FFFF) << (word >> 18 & 0x3F);
        assert!((9_990_000..=10_000_000).contains(&rate), "{rate}");
        assert_eq!(word >> 24, 1);
    }
}
