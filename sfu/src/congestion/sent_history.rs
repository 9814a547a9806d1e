//! What was sent under transport-wide sequence numbers, and what the feedback about it says.

use std::time::Instant;

use crate::rtcp::TransportFeedback;
use crate::sequence::unwrap_16;

/// Packets remembered: seconds at a call's rates. A power of two.
const REMEMBERED: usize = 2048;

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
        if self.sent.is_empty() {
            self.sent.resize(REMEMBERED, None);
        }
        let sequence = self.next;
        self.next += 1;
        self.sent[sequence as usize % REMEMBERED] =
            Some(Sent { sequence, at: now, octets: octets.min(usize::from(u16::MAX)) as u16 });
        sequence as u16
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
            let slot = &mut self.sent[sequence as usize % REMEMBERED];
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
    use std::time::Duration;

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
