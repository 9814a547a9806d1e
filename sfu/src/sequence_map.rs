//! Which number a subscriber sees for which packet of which encoding, and the reverse.
//!
//! The subscriber's numbers are cut into segments; in each, `number = source sequence + constant`. A segment ends where
//! packets are left out on purpose or where another encoding begins, and the next one goes on with the next number, so
//! that what we leave out makes no gap. What the publisher's network lost keeps its number: the subscriber asks for it
//! and it can still come.

use std::collections::VecDeque;

use crate::sequence::unwrap_16;

/// Segments remembered: four seconds when every second frame of 30 per second is left out.
const SEGMENTS_MAX: usize = 64;

/// What is added to the numbers inside a packet, each modulo its own size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    pub timestamp: u32,
    pub picture_id: u16,
    pub tl0_picture_index: u8,
    pub key_index: u8,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    /// First source sequence number.
    source: u64,
    /// Its number for the subscriber. The segment ends where the next one begins.
    number: u64,
    offsets: Offsets,
    encoding: u8,
}

impl Segment {
    /// The number of a packet, unless it is of another encoding or from before the segment.
    fn number_of(&self, encoding: u8, source: u64) -> Option<u64> {
        let after = source.checked_sub(self.source).filter(|_| self.encoding == encoding)?;
        Some(self.number + after)
    }
}

/// Where a packet of the source stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Later than all before it; this many numbers are missing before it.
    Newest { missing: u64 },
    /// It has a number that is already passed.
    Late { number: u64, offsets: Offsets },
    /// It has none: left out on purpose, or before the beginning.
    Outside,
}

#[derive(Clone, Debug)]
pub struct SequenceMap {
    /// One above the highest number given away.
    next: u64,
    /// The one in force. Nearly every packet asks for it alone, so it lies here and not among the others.
    newest: Option<Segment>,
    /// Those before it.
    older: VecDeque<Segment>,
}

impl SequenceMap {
    pub fn new(first: u64) -> SequenceMap {
        SequenceMap { next: first, newest: None, older: VecDeque::new() }
    }

    /// The next number to be given away.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// The encoding and the offsets in force.
    pub fn newest(&self) -> Option<(u8, Offsets)> {
        self.newest.map(|segment| (segment.encoding, segment.offsets))
    }

    /// The latest first.
    fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.newest.iter().chain(self.older.iter().rev())
    }

    /// From `source` of `encoding` on, numbers go on from the next one.
    pub fn begin(&mut self, encoding: u8, source: u64, offsets: Offsets) {
        let number = self.next;
        // A segment in which nothing was numbered leaves no trace.
        if let Some(ended) = self.newest.filter(|last| last.number != number) {
            if self.older.len() == SEGMENTS_MAX - 1 {
                self.older.pop_front();
            }
            self.older.push_back(ended);
        }
        self.newest = Some(Segment { source, number, offsets, encoding });
    }

    pub fn place(&self, encoding: u8, source: u64) -> Place {
        let Some(newest) = &self.newest else { return Place::Outside };
        match newest.number_of(encoding, source) {
            Some(number) if number < self.next => Place::Late { number, offsets: newest.offsets },
            Some(number) => Place::Newest { missing: number - self.next },
            None => self.place_in_older(newest.number, encoding, source),
        }
    }

    /// `end`: the number behind the last one.
    fn place_in_older(&self, mut end: u64, encoding: u8, source: u64) -> Place {
        for segment in self.older.iter().rev() {
            if let Some(number) = segment.number_of(encoding, source) {
                return if number < end { Place::Late { number, offsets: segment.offsets } } else { Place::Outside };
            }
            end = segment.number;
        }
        Place::Outside
    }

    /// True when the packet is not later than all that was numbered of its encoding.
    pub fn is_old(&self, encoding: u8, source: u64) -> bool {
        let mut end = self.next;
        for segment in self.segments() {
            if segment.encoding == encoding {
                return source < segment.source + (end - segment.number);
            }
            end = segment.number;
        }
        false
    }

    /// The number of the newest packet, which [`SequenceMap::place`] found to be one.
    pub fn advance(&mut self, source: u64) -> u64 {
        let segment = self.newest.expect("a packet is newest only after a beginning");
        let number = segment.number + (source - segment.source);
        self.next = number + 1;
        number
    }

    /// Leaves the newest packet out: what follows it gets its number. Packets missing before it keep theirs.
    pub fn skip(&mut self, source: u64, offsets: Offsets) {
        let segment = self.newest.expect("a packet is newest only after a beginning");
        let encoding = segment.encoding;
        self.next = segment.number + (source - segment.source);
        self.begin(encoding, source + 1, offsets);
    }

    /// The encoding and the source sequence number behind a number that the subscriber names.
    pub fn source_of(&self, sequence_number: u16) -> Option<(u8, u64)> {
        let number = unwrap_16(self.next.checked_sub(1)?, sequence_number);
        if number >= self.next {
            return None;
        }
        let segment = self.segments().find(|segment| segment.number <= number)?;
        Some((segment.encoding, segment.source + (number - segment.number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Offsets = Offsets { timestamp: 0, picture_id: 0, tl0_picture_index: 0, key_index: 0 };

    fn late(number: u64) -> Place {
        Place::Late { number, offsets: NONE }
    }

    #[test]
    fn what_is_left_out_makes_no_gap_and_what_is_lost_does() {
        let mut map = SequenceMap::new(100);
        map.begin(0, 10, NONE);
        assert_eq!(map.advance(10), 100);
        map.skip(11, NONE);
        map.skip(12, NONE);
        // 13 is lost, 14 left out.
        assert_eq!(map.place(0, 14), Place::Newest { missing: 1 });
        map.skip(14, NONE);
        assert_eq!(map.place(0, 15), Place::Newest { missing: 0 });
        assert_eq!(map.advance(15), 102);
        assert_eq!(map.place(0, 13), late(101));
        assert_eq!(map.place(0, 12), Place::Outside);
        assert_eq!(map.place(0, 14), Place::Outside);
        assert_eq!(map.place(0, 10), late(100));
        assert_eq!(map.place(0, 9), Place::Outside);
        assert_eq!(map.source_of(101), Some((0, 13)));
        assert_eq!(map.source_of(102), Some((0, 15)));
        assert_eq!(map.source_of(103), None);
        assert_eq!(map.source_of(99), None);
    }

    #[test]
    fn another_encoding_goes_on_and_the_old_one_keeps_its_numbers() {
        let mut map = SequenceMap::new(0xFFFE);
        map.begin(0, 10, NONE);
        map.advance(10);
        map.advance(12);
        map.begin(1, 500, NONE);
        assert_eq!(map.advance(500), 0x1_0001);
        assert_eq!(map.place(0, 11), late(0xFFFF));
        assert_eq!(map.place(0, 13), Place::Outside);
        assert_eq!(map.place(1, 499), Place::Outside);
        assert!(map.is_old(0, 12) && !map.is_old(0, 13));
        assert_eq!(map.source_of(1), Some((1, 500)));
        assert_eq!(map.source_of(0xFFFF), Some((0, 11)));
        // Back again: the numbers between are outside.
        map.begin(0, 100, NONE);
        map.advance(100);
        assert_eq!(map.place(0, 50), Place::Outside);
        assert_eq!(map.place(0, 11), late(0xFFFF));
    }

    #[test]
    fn the_map_is_bounded() {
        let mut map = SequenceMap::new(0);
        map.begin(0, 0, NONE);
        for source in 0..1000 {
            if source % 2 == 0 {
                map.advance(source);
            } else {
                map.skip(source, NONE);
            }
        }
        assert!(map.segments().count() <= SEGMENTS_MAX);
        assert_eq!(map.next_number(), 500);
        assert_eq!(map.source_of(499), Some((0, 998)));
        assert_eq!(map.source_of(0), None);
        assert_eq!(map.place(0, 0), Place::Outside);
    }
}
