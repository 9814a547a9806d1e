//! Sends audio again, as it was: to a receiver whose link loses packets without being full.
//!
//! A copy is the same SRTP packet to the last octet (another header under the same index would be a reused nonce, RFC
//! 7714 §8.2), so a receiver that has the first drops it by its replay protection (RFC 3711 §3.3.2), and one that has not
//! takes it as late. NACK would bring it a round trip later still.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Between a packet and its copies: longer than most bursts of loss, shorter than jitter buffers grow gladly.
const DELAYS: [Duration; 2] = [Duration::from_millis(60), Duration::from_millis(100)];
/// Loss from which one copy is sent, and two.
const ON: [f64; 2] = [0.025, 0.15];
/// Loss below which that ends.
const OFF: [f64; 2] = [0.01, 0.13];
/// The first copy ends when the loss has been low for so long, and the second, which takes from the video.
const HOLD: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(2)];
/// No copies into a queue of this length.
const QUEUE_MAX: Duration = Duration::from_millis(150);
/// Packets that wait to be repeated, at most.
const WAITING_MAX: usize = 64;

#[derive(Clone, Debug)]
struct Copy {
    due: Instant,
    /// Of [`DELAYS`]: which one this is.
    number: usize,
    /// How many there are of its packet.
    of: usize,
    sent: Instant,
    packet: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub struct AudioRepair {
    /// Copies that the loss calls for.
    wanted: usize,
    /// Copies of a packet that there is room for, in the mean.
    share: f64,
    /// What of the share was not used by the packets before.
    credit: f64,
    low_since: Option<Instant>,
    is_suppressed: bool,
    waiting: VecDeque<Copy>,
    /// Memory of copies that have left.
    spare: Vec<Vec<u8>>,
}

impl AudioRepair {
    /// The part of the packets that is lost at first, the queue that stands on the way, and how many copies of each
    /// packet the budget allows: half of one is a copy of every other packet.
    pub fn update(&mut self, now: Instant, loss: f64, queue: Duration, budget: f64) {
        let wanted = ON.iter().filter(|on| loss >= **on).count();
        let kept = OFF.iter().filter(|off| loss >= **off).count().min(self.wanted);
        if self.wanted == 0 || wanted >= self.wanted || kept >= self.wanted {
            self.wanted = self.wanted.max(wanted);
            self.low_since = None;
        } else if now.saturating_duration_since(*self.low_since.get_or_insert(now)) >= HOLD[self.wanted - 1] {
            self.wanted = wanted.max(kept);
            self.low_since = None;
        }
        self.is_suppressed = queue > QUEUE_MAX;
        if self.is_suppressed {
            // What a full queue drops is no property of the link.
            self.wanted = self.wanted.min(1);
        }
        self.share = budget.clamp(0.0, self.wanted as f64);
    }

    /// Copies of each packet that are to be left room for.
    pub fn wanted(&self) -> usize {
        if self.is_suppressed { 0 } else { self.wanted }
    }

    /// Copies of each packet that are sent now, at most.
    pub fn copies(&self) -> usize {
        if self.is_suppressed { 0 } else { self.share.ceil() as usize }
    }

    /// Keeps a packet that leaves now, as it is on the wire. Returns when to look again.
    pub fn keep(&mut self, now: Instant, packet: &[u8]) -> Option<Instant> {
        if self.copies() == 0 {
            return None;
        }
        self.credit = (self.credit + self.share).min(DELAYS.len() as f64);
        let of = self.credit as usize;
        self.credit -= of as f64;
        if of > 0 && self.waiting.len() < WAITING_MAX {
            let mut memory = self.spare.pop().unwrap_or_default();
            memory.clear();
            memory.extend_from_slice(packet);
            self.wait(Copy { due: now + DELAYS[0], number: 0, of, sent: now, packet: memory });
        }
        self.next_copy()
    }

    fn wait(&mut self, copy: Copy) {
        let at = self.waiting.partition_point(|other| other.due <= copy.due);
        self.waiting.insert(at, copy);
    }

    /// When the next copy is due.
    pub fn next_copy(&self) -> Option<Instant> {
        self.waiting.front().map(|copy| copy.due)
    }

    /// Gives the copies that are due to `send`.
    pub fn poll(&mut self, now: Instant, mut send: impl FnMut(&[u8])) {
        while self.next_copy().is_some_and(|due| due <= now) {
            let Some(mut copy) = self.waiting.pop_front() else { return };
            if !self.is_suppressed && self.wanted > 0 {
                send(&copy.packet);
            }
            copy.number += 1;
            if copy.number < copy.of.min(self.wanted) {
                copy.due = copy.sent + DELAYS[copy.number];
                self.wait(copy);
            } else if self.spare.len() < WAITING_MAX {
                self.spare.push(copy.packet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn copies_come_with_loss_and_go_ten_seconds_after_it() {
        let now = start();
        let mut repair = AudioRepair::default();
        let mut at = |second: u32, loss, queue| {
            repair.update(now + Duration::from_secs(1) * second, loss, queue * MS, 2.0);
            repair.copies()
        };
        assert_eq!(at(0, 0.02, 0), 0);
        assert_eq!(at(1, 0.10, 0), 1);
        assert_eq!(at(2, 0.20, 0), 2);
        assert_eq!(at(3, 0.20, 300), 0, "into a queue nothing is repeated");
        assert_eq!(at(4, 0.12, 0), 1);
        assert_eq!(at(5, 0.16, 0), 2);
        assert_eq!(at(6, 0.12, 0), 2);
        assert_eq!(at(7, 0.05, 0), 2);
        assert_eq!(at(9, 0.05, 0), 1);
        assert_eq!(at(16, 0.0, 0), 1);
        assert_eq!(at(20, 0.03, 0), 1);
        assert_eq!(at(21, 0.0, 0), 1);
        assert_eq!(at(31, 0.0, 0), 0);
    }

    #[test]
    fn a_packet_is_repeated_as_it_was() {
        let now = start();
        let mut repair = AudioRepair::default();
        assert_eq!(repair.keep(now, &[1]), None);
        repair.update(now, 0.2, Duration::ZERO, 2.0);
        assert_eq!(repair.keep(now, &[1, 2]), Some(now + 60 * MS));
        repair.keep(now + 20 * MS, &[3]);
        let mut sent = Vec::new();
        while let Some(at) = repair.next_copy() {
            repair.poll(at, |packet| sent.push(((at - now).as_millis(), packet.to_vec())));
        }
        assert_eq!(sent, [(60, vec![1, 2]), (80, vec![3]), (100, vec![1, 2]), (120, vec![3])]);
    }

    #[test]
    fn half_a_copy_is_one_of_every_other_packet() {
        let now = start();
        let mut repair = AudioRepair::default();
        repair.update(now, 0.1, Duration::ZERO, 0.5);
        assert_eq!((repair.wanted(), repair.copies()), (1, 1));
        for index in 0..50 {
            repair.keep(now + 20 * MS * index, &[index as u8]);
        }
        let mut sent = Vec::new();
        repair.poll(now + 2000 * MS, |packet| sent.push(packet[0]));
        assert_eq!(sent, (0..50).filter(|index| index % 2 == 1).collect::<Vec<u8>>());
        repair.update(now, 0.1, Duration::ZERO, -1.0);
        assert_eq!((repair.wanted(), repair.copies()), (1, 0), "room is left for it, and there is none");
    }
}
