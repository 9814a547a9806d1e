//! What was sent under transport-wide sequence numbers, and what the feedback about it says.
//!
//! Times are in microseconds of the caller's clock.

use datapath::prefetch;

use crate::rtcp::TransportFeedback;
use crate::sequence::unwrap_16;

/// Packets remembered at first, and at most: seconds at a call's rates. Powers of two.
const REMEMBERED_MIN: usize = 128;
const REMEMBERED: usize = 4096;
/// A packet is remembered for this long, within the limit: feedback about it may be that late.
const RETAINED_US: u32 = 2_000_000;
/// So often, in packets, it is looked whether what is to be overwritten next is too young for that.
const LOOK_EVERY: u64 = 32;

/// So many packets fit into what a cache fetches at once, and the first may begin anywhere in it.
const LINE_OF_SENT: u64 = 64 / size_of::<Sent>() as u64;

/// As small as can be: fifty subscribers' histories are to stay in the cache between two frames.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// The low bits of the sequence number, and of the time.
    sequence: u32,
    at_us: u32,
    /// 0: nothing is remembered here.
    octets: u16,
}

/// One packet about which feedback came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Unwrapped transport-wide sequence number.
    pub sequence: u64,
    pub sent_us: i64,
    pub octets: u16,
    /// On the receiver's clock, in 250 µs from an unknown origin; `None`: not arrived, so far.
    pub arrival: Option<i64>,
}

/// The sender's side of transport-wide congestion control, for one transport.
#[derive(Clone, Debug, Default)]
pub struct SentHistory {
    next: u64,
    /// Indexed by sequence number modulo its length; empty until the first packet.
    sent: Vec<Sent>,
}

impl SentHistory {
    /// The sequence number, unwrapped, for a packet of so many octets (as they go on the wire) that leaves at `us`.
    pub fn send(&mut self, us: i64, octets: usize) -> u64 {
        let sequence = self.next;
        self.next += 1;
        if sequence.is_multiple_of(LOOK_EVERY) {
            self.make_room(sequence, us as u32);
        }
        let slot = self.slot(sequence);
        let octets = octets.clamp(1, usize::from(u16::MAX)) as u16;
        self.sent[slot] = Sent { sequence: sequence as u32, at_us: us as u32, octets };
        sequence
    }

    /// Has in the cache soon where the next packets are written down: those of a usual frame.
    pub fn prefetch(&self) {
        for ahead in [0, LINE_OF_SENT] {
            if let Some(next) = self.sent.get(self.slot(self.next + ahead)) {
                prefetch(next);
            }
        }
    }

    fn slot(&self, sequence: u64) -> usize {
        sequence as usize & self.sent.len().wrapping_sub(1)
    }

    /// The memory doubles when a packet would be forgotten too early.
    fn make_room(&mut self, sequence: u64, now_us: u32) {
        if self.sent.is_empty() {
            self.sent.resize(REMEMBERED_MIN, Sent::default());
        }
        let last = self.sent[self.slot(sequence + LOOK_EVERY - 1)];
        let is_young = last.octets > 0 && now_us.wrapping_sub(last.at_us) < RETAINED_US;
        if !is_young || self.sent.len() >= REMEMBERED {
            return;
        }
        let grown = vec![Sent::default(); self.sent.len() * 2];
        for sent in std::mem::replace(&mut self.sent, grown).into_iter().filter(|sent| sent.octets > 0) {
            let slot = self.slot(sent.sequence.into());
            self.sent[slot] = sent;
        }
    }

    /// What a feedback that came at `now_us` says about each packet that is still remembered, in the order of sending. A
    /// packet that is reported as arrived is forgotten; a missing one may yet be reported as arrived.
    pub fn acknowledge(&mut self, now_us: i64, feedback: &TransportFeedback<'_>, mut each: impl FnMut(Acknowledged)) {
        let Some(last) = self.next.checked_sub(1) else {
            return;
        };
        for (number, arrival) in feedback.arrivals() {
            let sequence = unwrap_16(last, number);
            if sequence > last {
                continue;
            }
            let at = self.slot(sequence);
            let slot = &mut self.sent[at];
            let sent = *slot;
            if sent.octets == 0 || sent.sequence != sequence as u32 {
                continue;
            }
            if arrival.is_some() {
                slot.octets = 0;
            }
            let sent_us = now_us - i64::from((now_us as u32).wrapping_sub(sent.at_us));
            each(Acknowledged { sequence, sent_us, octets: sent.octets, arrival });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::congestion::FeedbackGenerator;
    use crate::rtcp::{Rtcp, Writer, packets};
    use crate::test_clock::start;

    #[test]
    fn feedback_finds_what_was_sent() {
        let now = start();
        let ms = Duration::from_millis;
        // The low half of the clock runs over meanwhile.
        let us = |ms: i64| (1 << 32) - 20_000 + 1000 * ms;
        let mut history = SentHistory::default();
        let mut receiver = FeedbackGenerator::default();
        for index in 0..10 {
            let number = history.send(us(5 * index as i64), 1000 + index as usize);
            if index != 3 {
                receiver.receive(number as u16, now + ms(5 * index + 40));
            }
        }
        let mut buffer = [0; 200];
        let mut writer = Writer::new(&mut buffer);
        assert!(receiver.write(now + ms(100), &mut writer, 1, 2));
        let Some(Rtcp::TransportFeedback(feedback)) = packets(writer.written()).next() else {
            panic!("not feedback");
        };
        let mut acknowledged = Vec::new();
        history.acknowledge(us(100), &feedback, |packet| acknowledged.push(packet));
        assert_eq!(acknowledged.len(), 10);
        assert_eq!(acknowledged[9], Acknowledged { sequence: 9, sent_us: us(45), octets: 1009, arrival: Some(180) });
        assert_eq!(acknowledged[3].arrival, None);
        // The same again: only the missing one is still open.
        acknowledged.clear();
        history.acknowledge(us(100), &feedback, |packet| acknowledged.push(packet));
        assert_eq!(acknowledged.len(), 1);
        assert_eq!(acknowledged[0].sequence, 3);
    }

    #[test]
    fn feedback_about_what_was_never_sent_says_nothing() {
        let now = start();
        let mut receiver = FeedbackGenerator::default();
        receiver.receive(500, now);
        let mut buffer = [0; 200];
        let mut writer = Writer::new(&mut buffer);
        assert!(receiver.write(now, &mut writer, 1, 2));
        let Some(Rtcp::TransportFeedback(feedback)) = packets(writer.written()).next() else {
            panic!("not feedback");
        };
        let mut history = SentHistory::default();
        history.acknowledge(0, &feedback, |packet| panic!("{packet:?}"));
        for _ in 0..500 {
            history.send(0, 1);
        }
        history.acknowledge(0, &feedback, |packet| panic!("{packet:?}"));
        for _ in 0..REMEMBERED * 2 {
            history.send(0, 1);
        }
        history.acknowledge(0, &feedback, |packet| panic!("{packet:?}"));
    }

    #[test]
    fn what_is_young_is_remembered_and_no_more_than_the_limit() {
        let mut history = SentHistory::default();
        // A packet a millisecond: two seconds are 2,000 of them.
        for index in 0..10_000 {
            history.send(index * 1000, 1200);
        }
        assert_eq!(history.sent.len(), 2048);
        for index in 0..50_000 {
            history.send(10_000_000 + index * 10, 1200);
        }
        assert_eq!(history.sent.len(), REMEMBERED);
    }
}
