//! Reads transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).

use super::word;

/// One feedback packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    pub sender_ssrc: u32,
    pub media_ssrc: u32,
    pub base_sequence: u16,
    /// How many packets it speaks about, from the base on.
    pub status_count: u16,
    /// Signed, in multiples of 64 ms.
    pub reference_time: i32,
    /// Counts feedback packets, so that the sender notices lost ones.
    pub feedback_count: u8,
    chunks_and_deltas: &'a [u8],
    deltas_start: usize,
}

/// Nobody sends more packets between two feedbacks; a few octets of runs may claim 65,535, each of them work.
const STATUS_COUNT_MAX: u16 = 8192;

/// The units of arrival times: four in a millisecond.
pub const DELTAS_PER_REFERENCE: i64 = 64 * 4;

impl<'a> TransportFeedback<'a> {
    pub(super) fn parse(sender_ssrc: u32, media_ssrc: u32, bytes: &'a [u8]) -> Option<TransportFeedback<'a>> {
        let (fixed, rest) = bytes.split_first_chunk::<8>()?;
        let status_count = u16::from_be_bytes([fixed[2], fixed[3]]);
        if status_count == 0 || status_count > STATUS_COUNT_MAX {
            return None;
        }
        // The deltas begin where the chunks end, so the chunks are walked once here.
        let mut covered = 0usize;
        let mut chunks = 0usize;
        while covered < usize::from(status_count) {
            let chunk = chunk_at(rest, chunks)?;
            covered += chunk.capacity();
            chunks += 1;
        }
        Some(TransportFeedback {
            sender_ssrc,
            media_ssrc,
            base_sequence: u16::from_be_bytes([fixed[0], fixed[1]]),
            status_count,
            reference_time: (word(fixed, 4) as i32) >> 8,
            feedback_count: fixed[7],
            chunks_and_deltas: rest,
            deltas_start: 2 * chunks,
        })
    }

    /// `(sequence number, arrival time in 250 µs)` of each packet, `None` for one that did not arrive. The times
    /// share an unknown origin. Ends early when deltas are missing.
    pub fn arrivals(&self) -> Arrivals<'a> {
        Arrivals {
            chunks_and_deltas: self.chunks_and_deltas,
            chunk: Chunk::Run { status: 0, len: 0 },
            chunk_index: 0,
            in_chunk: 0,
            delta_at: self.deltas_start,
            sequence: self.base_sequence,
            left: self.status_count,
            time: i64::from(self.reference_time) * DELTAS_PER_REFERENCE,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Chunk {
    Run { status: u8, len: u16 },
    OneBit { bits: u16 },
    TwoBits { bits: u16 },
}

impl Chunk {
    fn capacity(self) -> usize {
        match self {
            Chunk::Run { len, .. } => usize::from(len),
            Chunk::OneBit { .. } => 14,
            Chunk::TwoBits { .. } => 7,
        }
    }

    fn status(self, index: usize) -> u8 {
        match self {
            Chunk::Run { status, .. } => status,
            Chunk::OneBit { bits } => (bits >> (13 - index) & 1) as u8,
            Chunk::TwoBits { bits } => (bits >> (2 * (6 - index)) & 3) as u8,
        }
    }
}

/// `None` at the end, and for a run of no packets, which would let a walk never end.
fn chunk_at(bytes: &[u8], index: usize) -> Option<Chunk> {
    let pair = bytes.get(2 * index..2 * index + 2)?;
    let value = u16::from_be_bytes([pair[0], pair[1]]);
    match value >> 14 {
        0 | 1 => {
            let len = value & 0x1FFF;
            (len > 0).then_some(Chunk::Run { status: (value >> 13 & 3) as u8, len })
        }
        2 => Some(Chunk::OneBit { bits: value & 0x3FFF }),
        _ => Some(Chunk::TwoBits { bits: value & 0x3FFF }),
    }
}

#[derive(Clone, Debug)]
pub struct Arrivals<'a> {
    chunks_and_deltas: &'a [u8],
    chunk: Chunk,
    chunk_index: usize,
    in_chunk: usize,
    delta_at: usize,
    sequence: u16,
    left: u16,
    time: i64,
}

impl Iterator for Arrivals<'_> {
    type Item = (u16, Option<i64>);

    fn next(&mut self) -> Option<(u16, Option<i64>)> {
        if self.left == 0 {
            return None;
        }
        if self.in_chunk == self.chunk.capacity() {
            self.chunk = chunk_at(self.chunks_and_deltas, self.chunk_index)?;
            self.chunk_index += 1;
            self.in_chunk = 0;
        }
        let status = self.chunk.status(self.in_chunk);
        let arrival = match status {
            1 => {
                let delta = *self.chunks_and_deltas.get(self.delta_at)?;
                self.delta_at += 1;
                self.time += i64::from(delta);
                Some(self.time)
            }
            2 => {
                let delta = self.chunks_and_deltas.get(self.delta_at..self.delta_at + 2)?;
                self.delta_at += 2;
                self.time += i64::from(i16::from_be_bytes([delta[0], delta[1]]));
                Some(self.time)
            }
            // 3 is reserved: nothing is said about an arrival.
            _ => None,
        };
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        self.in_chunk += 1;
        self.left -= 1;
        Some((sequence, arrival))
    }
}

#[cfg(test)]
mod tests {
    use crate::rtcp::{Rtcp, packets};

    fn feedback(body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x8F, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        bytes.extend(body);
        while !bytes.len().is_multiple_of(4) {
            bytes.push(0);
        }
        let words = (bytes.len() / 4 - 1) as u8;
        bytes[3] = words;
        bytes
    }

    #[test]
    fn reads_runs_and_vectors_and_both_sizes_of_delta() {
        let bytes = feedback(&[
            0xFF, 0xFE, 0, 11, 0xFF, 0xFF, 0xFF, 3, // base 65534, 11 packets, −1, count 3
            0x20, 0x02, // run: 2 × small delta
            0xC9, 0x00, // two-bit vector: 00 10 01 00 00 00 00
            0x80, 0x00, // one-bit vector: nothing (2 used)
            4, 8, 0xFF, 0xF0, 1,
        ]);
        let Some(Rtcp::TransportFeedback(feedback)) = packets(&bytes).next() else {
            panic!("not feedback");
        };
        assert_eq!(feedback.reference_time, -1);
        assert_eq!(feedback.feedback_count, 3);
        let arrivals: Vec<_> = feedback.arrivals().collect();
        assert_eq!(arrivals.len(), 11);
        assert_eq!(arrivals[0], (65534, Some(-252)));
        assert_eq!(arrivals[1], (65535, Some(-244)));
        assert_eq!(arrivals[2], (0, None));
        assert_eq!(arrivals[3], (1, Some(-260)));
        assert_eq!(arrivals[4], (2, Some(-259)));
        assert!(arrivals[5..].iter().all(|(_, arrival)| arrival.is_none()));
    }

    #[test]
    fn missing_chunks_are_malformed_and_missing_deltas_end_the_list() {
        assert!(packets(&feedback(&[0, 0, 0, 9, 0, 0, 0, 0, 0x20, 0x02])).next().is_none());
        // A run of length 0.
        assert!(packets(&feedback(&[0, 0, 0, 1, 0, 0, 0, 0, 0x20, 0x00])).next().is_none());
        assert!(packets(&feedback(&[0, 0, 0, 0, 0, 0, 0, 0])).next().is_none());
        let bytes = feedback(&[0, 0, 0, 9, 0, 0, 0, 0, 0x20, 0x09, 1, 1]);
        let Some(Rtcp::TransportFeedback(feedback)) = packets(&bytes).next() else {
            panic!("not feedback");
        };
        assert_eq!(feedback.arrivals().count(), 2);
    }
}
