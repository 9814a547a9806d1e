//! What was sent under transport-wide sequence numbers, and what the feedback about it says.

use std::time::{Duration, Instant};

use crate::rtcp::TransportFeedback;
use crate::sequence::unwrap_16;

/// Packets remembered at first, and at most: seconds at a call's rates. Powers of two.
const REMEMBERED_MIN: usize = 128;
const REMEMBERED: usize = 4096;
/// A packet is remembered for this long, within the limit: feedback about it may be that late.
const RETAINED: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
struct Sent {
    sequence: u64,
    at: Instant,
    octets: u16,
}

/// One packet about which feedback came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Unwrapped transport-wide sequence number.
    pub sequence: u64,
    pub sent_at: Instant,
    pub octets: u16,
    /// On the receiver's clock, in 250 µs from an unknown origin; `None`: not arrived, so far.
    pub arrival: Option<i64>,
}

/// The sender's side of transport-wide congestion control, for one transport.
#[derive(Clone, Debug, Default)]
pub struct SentHistory {
    next: u64,
    /// Indexed by sequence number modulo its length; empty until the first packet.
    sent: Vec<Option<Sent>>,
}

impl SentHistory {
    /// The sequence number for a packet of so many octets (as they go on the wire) that leaves now.
    pub fn send(&mut self, now: Instant, octets: usize) -> u16 {
        let sequence = self.next;
        self.next += 1;
        let slot = self.slot_for(sequence, now);
        self.sent[slot] = Some(Sent { sequence, at: now, octets: octets.min(usize::from(u16::MAX)) as u16 });
        sequence as u16
    }

    /// The unwrapped number of the packet sent last.
    pub fn last(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Where a packet is remembered. The memory grows as long as a packet would be forgotten too early.
    fn slot_for(&mut self, sequence: u64, now: Instant) -> usize {
        if self.sent.is_empty() {
            self.sent.resize(REMEMBERED_MIN, None);
        }
        let slot = sequence as usize & (self.sent.len() - 1);
        let is_young = self.sent[slot].is_some_and(|old| now.saturating_duration_since(old.at) < RETAINED);
        if !is_young || self.sent.len() >= REMEMBERED {
            return slot;
        }
        let grown = vec![None; self.sent.len() * 2];
        for sent in std::mem::replace(&mut self.sent, grown).into_iter().flatten() {
            let slot = sent.sequence as usize & (self.sent.len() - 1);
            self.sent[slot] = Some(sent);
        }
        sequence as usize & (self.sent.len() - 1)
    }

    /// What a feedback says about each packet that is still remembered, in the order of sending. A packet that is
    /// reported as arrived is forgotten; a missing one may yet be reported as arrived.
    pub fn acknowledge(&mut self, feedback: &TransportFeedback<'_>, mut each: impl FnMut(Acknowledged)) {
        let Some(last) = self.next.checked_sub(1) else {
            return;
        };
        for (number, arrival) in feedback.arrivals() {
            let sequence = unwrap_16(last, number);
            if sequence > last {
                continue;
            }
            let at = sequence as usize & (self.sent.len() - 1);
            let slot = &mut self.sent[at];
            let Some(sent) = slot.filter(|sent| sent.sequence == sequence) else {
                continue;
            };
            if arrival.is_some() {
                *slot = None;
            }
            each(Acknowledged { sequence, sent_at: sent.at, octets: sent.octets, arrival });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::FeedbackGenerator;
    use crate::rtcp::{Rtcp, Writer, packets};
    use crate::test_clock::start;

    #[test]
    fn feedback_finds_what_was_sent() {
        let now = start();
        let ms = Duration::from_millis;
        let mut history = SentHistory::default();
        let mut receiver = FeedbackGenerator::default();
        for index in 0..10 {
            let number = history.send(now + ms(5 * index), 1000 + index as usize);
            if index != 3 {
                receiver.receive(number, now + ms(5 * index + 40));
            }
        }
        let mut buffer = [0; 200];
        let mut writer = Writer::new(&mut buffer);
        assert!(receiver.write(now + ms(100), &mut writer, 1, 2));
        let Some(Rtcp::TransportFeedback(feedback)) = packets(writer.written()).next() else {
            panic!("not feedback");
        };
        let mut acknowledged = Vec::new();
        history.acknowledge(&feedback, |packet| acknowledged.push(packet));
        assert_eq!(acknowledged.len(), 10);
        assert_eq!(
            acknowledged[9],
            Acknowledged { sequence: 9, sent_at: now + ms(45), octets: 1009, arrival: Some(180) }
        );
        assert_eq!(acknowledged[3].arrival, None);
        // The same again: only the missing one is still open.
        acknowledged.clear();
        history.acknowledge(&feedback, |packet| acknowledged.push(packet));
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
        history.acknowledge(&feedback, |packet| panic!("{packet:?}"));
        for _ in 0..500 {
            history.send(now, 1);
        }
        history.acknowledge(&feedback, |packet| panic!("{packet:?}"));
        for _ in 0..REMEMBERED * 2 {
            history.send(now, 1);
        }
        history.acknowledge(&feedback, |packet| panic!("{packet:?}"));
    }
}
