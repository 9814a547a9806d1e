//! The half of a connection that puts octets in order and acknowledges them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::segment::{SACK_BLOCKS, SEGMENT_SIZE};

/// A lone segment is acknowledged after this at the latest.
const DELAY: Duration = Duration::from_millis(40);
/// The first segments are acknowledged one by one, so that the window opens.
const QUICK: u32 = 16;

#[derive(Clone, Debug, Default)]
pub struct Receiver {
    /// The first octet that is missing.
    next: u64,
    /// What came beyond it, by its first octet.
    early: BTreeMap<u64, Vec<u8>>,
    /// What came last beyond it.
    latest: Option<u64>,
    segments: u32,
    /// Octets that are not acknowledged yet, and when they are to be.
    unacknowledged: usize,
    due: Option<Instant>,
}

impl Receiver {
    /// Takes a segment with data; what is in order now is added to `octets`.
    pub fn receive(&mut self, now: Instant, begin: u64, data: &[u8], octets: &mut Vec<u8>) {
        self.segments += 1;
        let end = begin + data.len() as u64;
        if end <= self.next {
            // Sent twice: the acknowledgement was lost, perhaps.
            self.due = Some(now);
            return;
        }
        if begin > self.next {
            let known = self.early.entry(begin).or_default();
            if known.len() < data.len() {
                *known = data.to_vec();
            }
            self.latest = Some(begin);
            self.due = Some(now);
            return;
        }
        let had_gap = !self.early.is_empty();
        octets.extend_from_slice(&data[(self.next - begin) as usize..]);
        self.next = end;
        while let Some(entry) = self.early.first_entry().filter(|entry| *entry.key() <= self.next) {
            let (begin, data) = entry.remove_entry();
            let end = begin + data.len() as u64;
            if end > self.next {
                octets.extend_from_slice(&data[(self.next - begin) as usize..]);
                self.next = end;
            }
        }
        self.unacknowledged += data.len();
        let at_once = had_gap || self.segments <= QUICK || self.unacknowledged >= 2 * SEGMENT_SIZE;
        let due = if at_once { now } else { now + DELAY };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// What an acknowledgement says that leaves now.
    pub fn acknowledge(&mut self) -> (u64, Vec<(u64, u64)>) {
        self.due = None;
        self.unacknowledged = 0;
        let mut blocks: Vec<(u64, u64)> = Vec::new();
        for (&begin, data) in &self.early {
            let end = begin + data.len() as u64;
            match blocks.last_mut() {
                Some(last) if last.1 >= begin => last.1 = last.1.max(end),
                _ => blocks.push((begin, end)),
            }
        }
        // RFC 2018 §4: the block of what came last stands first.
        let first = blocks.iter().position(|block| self.latest.is_some_and(|at| (block.0..block.1).contains(&at)));
        if let Some(first) = first {
            blocks[..=first].rotate_right(1);
        }
        blocks.truncate(SACK_BLOCKS);
        (self.next, blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    #[test]
    fn octets_come_out_in_order_and_gaps_are_told() {
        let now = start();
        let mut receiver = Receiver::default();
        let mut octets = Vec::new();
        for (begin, data) in [(0, b"abc"), (6, b"ghi"), (12, b"mno"), (15, b"pqr")] {
            receiver.receive(now, begin, data, &mut octets);
        }
        assert_eq!(octets, b"abc");
        assert_eq!(receiver.acknowledge(), (3, vec![(12, 18), (6, 9)]));
        receiver.receive(now, 3, b"def", &mut octets);
        assert_eq!(octets, b"abcdefghi");
        receiver.receive(now, 9, b"jkl", &mut octets);
        receiver.receive(now, 9, b"jkl", &mut octets);
        assert_eq!(octets, b"abcdefghijklmnopqr");
        assert_eq!(receiver.acknowledge(), (18, vec![]));
    }

    #[test]
    fn every_other_full_segment_is_acknowledged_at_once() {
        let now = start();
        let mut receiver = Receiver { segments: QUICK, ..Receiver::default() };
        let mut octets = Vec::new();
        receiver.receive(now, 0, &[0; SEGMENT_SIZE], &mut octets);
        assert!(!receiver.is_due(now) && receiver.is_due(now + DELAY));
        receiver.receive(now, SEGMENT_SIZE as u64, &[0; SEGMENT_SIZE], &mut octets);
        assert!(receiver.is_due(now));
    }
}
