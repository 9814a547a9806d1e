//! Makes transport-wide feedback for what a publisher sends (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).

use std::time::{Duration, Instant};

use crate::rtcp::Writer;
use crate::sequence::unwrap_16;

/// Feedback goes out this often,
const INTERVAL: Duration = Duration::from_millis(100);
/// or this often when so many packets wait for it (the receiver's estimator is the better the fresher it is).
const INTERVAL_BUSY: Duration = Duration::from_millis(50);
const BUSY: u64 = 40;

/// Arrivals remembered: 5 s of a talker, half a second of 20 Mbit/s. A power of two.
const REMEMBERED: usize = 1024;

/// Times are in units of 250 µs, references in 64 ms.
const TICK: Duration = Duration::from_micros(250);
const TICKS_PER_REFERENCE_LOG2: u32 = 8;

#[derive(Clone, Copy, Debug)]
struct Arrival {
    sequence: u64,
    ticks: u32,
}

/// Records arrivals on one transport by their transport-wide sequence numbers, and writes feedback about them.
#[derive(Clone, Debug, Default)]
pub struct FeedbackGenerator {
    /// Indexed by sequence number modulo its length; empty until the first packet.
    arrivals: Vec<Option<Arrival>>,
    /// Where times are counted from.
    epoch: Option<Instant>,
    /// The next number to report on, and the highest that arrived.
    begin: u64,
    highest: u64,
    last_sent: Option<Instant>,
    /// The first arrival that is not reported yet.
    waiting_since: Option<Instant>,
    feedback_count: u8,
}

impl FeedbackGenerator {
    pub fn receive(&mut self, sequence_number: u16, arrival: Instant) {
        let sequence = if self.arrivals.is_empty() {
            self.arrivals.resize(REMEMBERED, None);
            self.epoch = Some(arrival);
            let first = (1 << 16) + u64::from(sequence_number);
            self.begin = first;
            self.highest = first;
            first
        } else {
            unwrap_16(self.highest, sequence_number)
        };
        let oldest = self.highest.max(sequence).saturating_sub(REMEMBERED as u64 - 1);
        if sequence < oldest {
            return;
        }
        let slot = &mut self.arrivals[sequence as usize % REMEMBERED];
        if slot.is_some_and(|known| known.sequence == sequence) {
            // A duplicate on the wire: the first arrival counts.
            return;
        }
        let since_epoch = self.epoch.map_or(Duration::ZERO, |epoch| arrival.saturating_duration_since(epoch));
        *slot = Some(Arrival { sequence, ticks: (since_epoch.as_micros() / TICK.as_micros()) as u32 });
        self.highest = self.highest.max(sequence);
        // A late packet is reported together with all that came after it; the sender knows those already.
        self.begin = self.begin.min(sequence).max(oldest);
        self.waiting_since.get_or_insert(arrival);
    }

    /// When feedback is due; `None` while there is nothing to report.
    pub fn next_feedback(&self) -> Option<Instant> {
        let since = self.last_sent.or(self.waiting_since)?;
        self.waiting_since?;
        let is_busy = self.highest.saturating_sub(self.begin) >= BUSY;
        Some(since + if is_busy { INTERVAL_BUSY } else { INTERVAL })
    }

    /// Writes one feedback packet, about as many packets as fit in the buffer. Returns false when there is nothing
    /// left to report or no room: repeat until then. `media_ssrc` may be any SSRC of the publisher.
    pub fn write(&mut self, now: Instant, writer: &mut Writer<'_>, sender_ssrc: u32, media_ssrc: u32) -> bool {
        if self.waiting_since.is_none() {
            return false;
        }
        let mut end = self.begin;
        let is_written = writer.transport_feedback(sender_ssrc, media_ssrc, |body| {
            let (len, reported_to) = self.fill(body)?;
            end = reported_to;
            Some(len)
        });
        if is_written {
            self.begin = end;
            self.feedback_count = self.feedback_count.wrapping_add(1);
            self.last_sent = Some(now);
            if self.begin > self.highest {
                self.waiting_since = None;
            }
        }
        is_written
    }

    fn arrival(&self, sequence: u64) -> Option<u32> {
        let arrival = self.arrivals[sequence as usize % REMEMBERED]?;
        (arrival.sequence == sequence).then_some(arrival.ticks)
    }

    /// Fills what follows the SSRCs; returns its length and the number after the last reported one.
    fn fill(&self, body: &mut [u8]) -> Option<(usize, u64)> {
        let first = (self.begin..=self.highest).find_map(|sequence| self.arrival(sequence))?;
        let reference = first >> TICKS_PER_REFERENCE_LOG2;
        let mut time = reference << TICKS_PER_REFERENCE_LOG2;
        let mut symbols = [0u8; REMEMBERED];
        let mut count = 0;
        let mut delta_octets = 0;
        // Which part of the window fits: no chunk but the last stands for fewer than seven packets.
        let mut received_end = 0;
        for sequence in self.begin..=self.highest {
            let symbol = match self.arrival(sequence) {
                None => 0,
                Some(ticks) => match ticks.wrapping_sub(time) as i32 {
                    0..=255 => 1,
                    -0x8000..=0x7FFF => 2,
                    // More than 8 s from the packet before: it begins a feedback of its own.
                    _ => break,
                },
            };
            let len = 8 + 2 * (count + 1usize).div_ceil(7) + delta_octets + usize::from(symbol);
            if len > body.len() || count == REMEMBERED {
                break;
            }
            symbols[count] = symbol;
            delta_octets += usize::from(symbol);
            count += 1;
            if symbol != 0 {
                time = self.arrival(sequence).unwrap_or(time);
                received_end = count;
            }
        }
        // What is missing at the end is reported with the next arrival after it.
        let symbols = &symbols[..received_end];
        if symbols.is_empty() {
            return None;
        }
        body[..2].copy_from_slice(&(self.begin as u16).to_be_bytes());
        body[2..4].copy_from_slice(&(symbols.len() as u16).to_be_bytes());
        body[4..8].copy_from_slice(&(reference << 8 | u32::from(self.feedback_count)).to_be_bytes());
        let mut at = 8 + write_chunks(symbols, &mut body[8..]);
        let mut time = reference << TICKS_PER_REFERENCE_LOG2;
        for (sequence, symbol) in (self.begin..).zip(symbols) {
            let Some(ticks) = self.arrival(sequence) else {
                continue;
            };
            let delta = ticks.wrapping_sub(time);
            time = ticks;
            if *symbol == 1 {
                body[at] = delta as u8;
            } else {
                body[at..at + 2].copy_from_slice(&(delta as i16).to_be_bytes());
            }
            at += usize::from(*symbol);
        }
        Some((at, self.begin + symbols.len() as u64))
    }
}

/// Writes the status chunks and returns their length: runs where they are worth it, else vectors.
fn write_chunks(symbols: &[u8], out: &mut [u8]) -> usize {
    let mut rest = symbols;
    let mut len = 0;
    while let Some(&symbol) = rest.first() {
        let run = rest.iter().take_while(|next| **next == symbol).count();
        let head = &rest[..rest.len().min(14)];
        let is_one_bit = head.iter().all(|symbol| *symbol < 2);
        let (chunk, covered) = if run >= if is_one_bit { 14 } else { 7 } || run == rest.len() {
            let run = run.min(0x1FFF);
            (u16::from(symbol) << 13 | run as u16, run)
        } else if is_one_bit {
            let bits = head.iter().enumerate().fold(0, |bits, (at, symbol)| bits | u16::from(*symbol) << (13 - at));
            (0x8000 | bits, head.len())
        } else {
            let head = &head[..head.len().min(7)];
            let bits =
                head.iter().enumerate().fold(0, |bits, (at, symbol)| bits | u16::from(*symbol) << (2 * (6 - at)));
            (0xC000 | bits, head.len())
        };
        out[len..len + 2].copy_from_slice(&chunk.to_be_bytes());
        len += 2;
        rest = &rest[covered..];
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Rtcp, packets};
    use crate::test_clock::start;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Writes and reads all that is waiting: `(number, 250 µs since the generator's epoch)`, and how many packets.
    fn reports(generator: &mut FeedbackGenerator, room: usize) -> (Vec<(u16, Option<i64>)>, usize) {
        let mut all = Vec::new();
        let mut count = 0;
        let first = generator.feedback_count;
        loop {
            let mut buffer = vec![0xFF; room];
            let mut writer = Writer::new(&mut buffer);
            if !generator.write(start(), &mut writer, 1, 2) {
                return (all, count);
            }
            let Some(Rtcp::TransportFeedback(feedback)) = packets(writer.written()).next() else {
                panic!("not feedback: {:?}", writer.written());
            };
            assert_eq!(feedback.feedback_count, first.wrapping_add(count as u8));
            assert_eq!(feedback.arrivals().count(), usize::from(feedback.status_count));
            all.extend(feedback.arrivals());
            count += 1;
        }
    }

    #[test]
    fn reports_arrivals_and_losses_over_the_wrap() {
        let now = start();
        let ms = Duration::from_millis;
        let mut generator = FeedbackGenerator::default();
        assert_eq!(generator.next_feedback(), None);
        for (number, at) in [(0xFFFE, 0), (0xFFFF, 1), (1, 100), (2, 70)] {
            generator.receive(number, now + ms(at));
        }
        assert_eq!(generator.next_feedback(), Some(now + ms(100)));
        let (reports, count) = reports(&mut generator, 1200);
        assert_eq!(count, 1);
        assert_eq!(reports, [(0xFFFE, Some(0)), (0xFFFF, Some(4)), (0, None), (1, Some(400)), (2, Some(280))]);
        assert_eq!(generator.next_feedback(), None);
        // It came at last: reported with what followed it.
        generator.receive(0, now + ms(200));
        let (again, _) = super::tests::reports(&mut generator, 1200);
        assert_eq!(again, [(0, Some(800)), (1, Some(400)), (2, Some(280))]);
    }

    #[test]
    fn a_pause_of_seconds_begins_another_feedback() {
        let now = start();
        let mut generator = FeedbackGenerator::default();
        generator.receive(1, now);
        generator.receive(2, now + Duration::from_secs(60));
        generator.receive(2, now + Duration::from_secs(61));
        let (reports, count) = reports(&mut generator, 1200);
        assert_eq!((reports, count), (vec![(1, Some(0)), (2, Some(240_000))], 2));
    }

    #[test]
    fn busy_streams_are_reported_sooner() {
        let now = start();
        let mut generator = FeedbackGenerator::default();
        for number in 0..41 {
            generator.receive(number, now);
        }
        assert_eq!(generator.next_feedback(), Some(now + INTERVAL_BUSY));
    }

    #[test]
    fn a_jump_loses_sight_of_what_was_before() {
        let now = start();
        let mut generator = FeedbackGenerator::default();
        generator.receive(1, now);
        generator.receive(20_000, now);
        generator.receive(1, now);
        let (reports, _) = reports(&mut generator, 1200);
        assert_eq!(reports.last(), Some(&(20_000, Some(0))));
        assert_eq!(reports.iter().filter(|(_, arrival)| arrival.is_some()).count(), 1);
        assert!(reports.len() <= REMEMBERED);
    }

    #[test]
    fn every_chunk_form_is_written() {
        let mut out = [0; 64];
        // A run of twenty, a one-bit vector, a two-bit vector, a run to the end.
        let mut symbols = vec![1; 20];
        symbols.extend([0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0]);
        symbols.extend([2, 1, 0, 0, 0, 0, 0]);
        symbols.extend([0, 0]);
        let len = write_chunks(&symbols, &mut out);
        assert_eq!(len, 8);
        assert_eq!(out[..2], [0x20, 20]);
        assert_eq!(out[2..4], (0x8000u16 | 0b01_0111_1100_0110).to_be_bytes());
        assert_eq!(out[4..6], (0xC000u16 | 0b10_0100_0000_0000).to_be_bytes());
        assert_eq!(out[6..8], [0, 2]);
    }

    proptest! {
        #[test]
        fn what_arrived_is_reported_once_and_exactly(
            packets in proptest::collection::vec((0u64..12, 0u64..40_000), 1..400), room in 60usize..1300,
        ) {
            let now = start();
            let mut generator = FeedbackGenerator::default();
            let mut arrived = BTreeMap::new();
            let mut at = 0;
            let mut next = 65_500u64;
            for (index, (step, micros)) in packets.into_iter().enumerate() {
                // Times count from the first arrival.
                at += if index == 0 { 0 } else { micros };
                next += step;
                arrived.entry(next as u16).or_insert((at / 250) as i64);
                generator.receive(next as u16, now + Duration::from_micros(at));
            }
            let (reports, _) = reports(&mut generator, room);
            let mut seen = BTreeMap::new();
            for (number, arrival) in reports {
                if let Some(arrival) = arrival {
                    prop_assert!(seen.insert(number, arrival).is_none());
                    prop_assert_eq!(arrival, arrived[&number]);
                }
            }
            // The window may have moved on over what was never reported.
            if next - 65_500 < REMEMBERED as u64 {
                prop_assert_eq!(seen.len(), arrived.len());
            }
        }
    }
}
