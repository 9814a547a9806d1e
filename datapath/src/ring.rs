//! A bounded ring of records from one thread to one other, without a lock and without an allocation per record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Parts of a record: what it is, and what it brings.
const PARTS: usize = 2;

/// Words that tell the lengths of a record's parts.
const LENGTHS: usize = PARTS;

const WORD: usize = size_of::<u64>();

/// Keeps what one side writes out of the cache lines (and their prefetched neighbours) that the other side writes.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart(AtomicUsize);

/// Records lie in it as words: the lengths of the parts, then each part from a word's beginning. Positions count the
/// words since the start.
#[derive(Debug)]
struct Ring {
    /// A power of two of them. Atomic so that sharing them needs no `unsafe`; the order is that of `head` and `tail`.
    words: Box<[AtomicU64]>,
    /// Up to here the records are read.
    head: Apart,
    /// Up to here they are written.
    tail: Apart,
}

/// The writing end.
#[derive(Debug)]
pub struct Producer {
    ring: Arc<Ring>,
    tail: usize,
    /// `head` as it was seen last: at least that much is read.
    head: usize,
}

/// The reading end.
#[derive(Debug)]
pub struct Consumer {
    ring: Arc<Ring>,
    head: usize,
    /// `tail` as it was seen last.
    tail: usize,
}

/// A ring for at least `octets`, the lengths of the records included.
pub fn ring(octets: usize) -> (Producer, Consumer) {
    let words = octets.div_ceil(WORD).next_power_of_two();
    let words = (0..words).map(|_| AtomicU64::new(0)).collect();
    let ring = Arc::new(Ring { words, head: Apart::default(), tail: Apart::default() });
    (Producer { ring: ring.clone(), tail: 0, head: 0 }, Consumer { ring, head: 0, tail: 0 })
}

impl Ring {
    /// `count` words from this position, in two runs: up to the end of the memory, and on from its beginning.
    fn runs(&self, position: usize, count: usize) -> [&[AtomicU64]; 2] {
        let start = position & (self.words.len() - 1);
        let first = count.min(self.words.len() - start);
        [&self.words[start..start + first], &self.words[..count - first]]
    }
}

fn store(run: &[AtomicU64], octets: &[u8]) {
    let whole = octets.chunks_exact(WORD);
    let rest = whole.remainder();
    for (word, octets) in run.iter().zip(whole) {
        word.store(u64::from_le_bytes(octets.try_into().expect("a whole word")), Ordering::Relaxed);
    }
    if let Some(last) = run.last().filter(|_| !rest.is_empty()) {
        let mut octets = [0; WORD];
        octets[..rest.len()].copy_from_slice(rest);
        last.store(u64::from_le_bytes(octets), Ordering::Relaxed);
    }
}

fn load(run: &[AtomicU64], octets: &mut [u8]) {
    for (word, octets) in run.iter().zip(octets.chunks_exact_mut(WORD)) {
        octets.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
}

impl Producer {
    /// Writes a record unless the ring would be fuller than `share` of it (1 to 16 sixteenths). Says whether it did.
    pub fn push(&mut self, parts: [&[u8]; PARTS], share: usize) -> bool {
        let needed = LENGTHS + parts.iter().map(|part| part.len().div_ceil(WORD)).sum::<usize>();
        let limit = self.ring.words.len() / 16 * share;
        if self.tail - self.head + needed > limit {
            self.head = self.ring.head.0.load(Ordering::Acquire);
            if self.tail - self.head + needed > limit {
                return false;
            }
        }
        for part in parts {
            self.write(&(part.len() as u64).to_le_bytes());
        }
        for part in parts {
            self.write(part);
        }
        self.ring.tail.0.store(self.tail, Ordering::Release);
        true
    }

    fn write(&mut self, octets: &[u8]) {
        let count = octets.len().div_ceil(WORD);
        let [first, second] = self.ring.runs(self.tail, count);
        let (before, behind) = octets.split_at(octets.len().min(first.len() * WORD));
        store(first, before);
        store(second, behind);
        self.tail += count;
    }
}

impl Consumer {
    pub fn is_empty(&self) -> bool {
        self.ring.tail.0.load(Ordering::Acquire) == self.head
    }

    /// Looks how much there is: so much [`Consumer::pop`] takes, and nothing that is written meanwhile. Says whether there
    /// is anything.
    pub fn look(&mut self) -> bool {
        self.tail = self.ring.tail.0.load(Ordering::Acquire);
        self.tail != self.head
    }

    /// Appends the parts of the next record, one right behind the other, to `octets`, and returns their lengths.
    pub fn pop(&mut self, octets: &mut Vec<u8>) -> Option<[usize; PARTS]> {
        if self.tail == self.head {
            return None;
        }
        let lengths = std::array::from_fn(|_| {
            let mut length = [0; WORD];
            self.read(&mut length);
            u64::from_le_bytes(length) as usize
        });
        for length in lengths {
            let start = octets.len();
            octets.resize(start + length.next_multiple_of(WORD), 0);
            self.read(&mut octets[start..]);
            octets.truncate(start + length);
        }
        self.ring.head.0.store(self.head, Ordering::Release);
        Some(lengths)
    }

    /// Whole words.
    fn read(&mut self, octets: &mut [u8]) {
        let count = octets.len() / WORD;
        let [first, second] = self.ring.runs(self.head, count);
        let (before, behind) = octets.split_at_mut(first.len() * WORD);
        load(first, before);
        load(second, behind);
        self.head += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record that can be told from any other: its number decides how long each part is, and what is in it.
    fn parts(number: u32) -> [Vec<u8>; PARTS] {
        [7, 1500].map(|bound| vec![number as u8; number as usize * 31 % bound])
    }

    fn push(producer: &mut Producer, number: u32) -> bool {
        let [a, b] = parts(number);
        producer.push([&a, &b], 16)
    }

    fn pop(consumer: &mut Consumer) -> Option<[Vec<u8>; PARTS]> {
        consumer.look();
        let mut octets = vec![0xEE; 3];
        let [a, b] = consumer.pop(&mut octets)?;
        assert_eq!(octets.len(), 3 + a + b);
        Some([octets[3..3 + a].to_vec(), octets[3 + a..].to_vec()])
    }

    #[test]
    fn records_come_out_as_they_went_in_until_the_ring_is_full() {
        let (mut producer, mut consumer) = ring(8192);
        let (mut pushed, mut popped) = (0, 0);
        for _ in 0..200 {
            let before = pushed;
            while push(&mut producer, pushed) {
                pushed += 1;
            }
            assert!(pushed > before, "what was read makes room");
            // Leave one: the ring is never empty, and wraps around at every offset.
            while popped + 1 < pushed {
                assert_eq!(pop(&mut consumer), Some(parts(popped)));
                popped += 1;
            }
        }
        assert_eq!(pop(&mut consumer), Some(parts(popped)));
        assert!(consumer.is_empty());
        assert_eq!(pop(&mut consumer), None);
    }

    #[test]
    fn what_is_written_after_a_look_waits_for_the_next_one() {
        let (mut producer, mut consumer) = ring(1024);
        assert!(!consumer.look());
        push(&mut producer, 1);
        assert!(consumer.look() && !consumer.is_empty());
        push(&mut producer, 2);
        let mut octets = Vec::new();
        assert!(consumer.pop(&mut octets).is_some() && consumer.pop(&mut octets).is_none());
        assert!(consumer.look() && consumer.pop(&mut octets).is_some());
    }

    #[test]
    fn a_part_of_the_ring_can_be_kept_free() {
        let (mut producer, mut consumer) = ring(1024);
        let record = [0; 100];
        let mut fill = |share| (0..100).take_while(|_| producer.push([&record, &[]], share)).count();
        assert_eq!(fill(8), 4);
        assert_eq!(fill(8), 0);
        assert_eq!(fill(16), 4);
        pop(&mut consumer).unwrap();
        assert!(!producer.push([&record, &[]], 8) && producer.push([&record, &[]], 16));
    }

    #[test]
    fn a_record_larger_than_the_ring_is_refused() {
        let (mut producer, consumer) = ring(1024);
        assert!(!producer.push([&[0; 1024], &[]], 16));
        assert!(consumer.is_empty());
    }

    #[test]
    fn two_threads_lose_nothing_and_mix_nothing_up() {
        const RECORDS: u32 = 100_000;
        let (mut producer, mut consumer) = ring(16_384);
        let writer = std::thread::spawn(move || {
            for number in 0..RECORDS {
                while !push(&mut producer, number) {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..RECORDS {
            let record = loop {
                match pop(&mut consumer) {
                    Some(record) => break record,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(record, parts(number));
        }
        writer.join().unwrap();
        assert!(consumer.is_empty());
    }
}
