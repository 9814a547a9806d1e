//! What was received of one RTP stream lately, for retransmission.
//!
//! - [`History`], one per encoding, keeps each publisher's packet once, however many subscribers it goes to: the
//!   plaintext payload and its [`MediaPacket`]. A subscriber's NACK is mapped to it by
//!   [`crate::forwarder::Forwarder::source_of`].
//! - [`ResendLimit`], one per subscription, allows one retransmission of a packet in a round trip.
//!
//! Memory follows the stream: it grows until it holds [`RETAINED`] or its limit is reached, and then nothing is
//! allocated any more. A stream that was never received costs nothing.

use std::time::{Duration, Instant};

use crate::media_packet::MediaPacket;

/// A packet is kept at least this long, within the limits: over a bad link it may wait for half a second, and be asked for
/// again after two round trips of as much.
pub const RETAINED: Duration = Duration::from_secs(2);

const OCTETS_MIN: usize = 16 << 10;
const SLOTS_MIN: usize = 64;
const SLOTS_MAX: usize = 2048;

#[derive(Clone, Copy, Debug)]
struct Slot {
    packet: MediaPacket,
    /// Where the payload begins, and in which lap around the arena it was written.
    start: u32,
    lap: u32,
}

#[derive(Clone, Debug)]
pub struct History {
    octets_max: usize,
    /// Payloads, each in one piece, written round and round.
    arena: Vec<u8>,
    write_at: usize,
    lap: u32,
    /// When this lap began: younger packets are all in the arena.
    lap_began: Option<Instant>,
    /// Indexed by sequence number modulo its length, a power of two.
    slots: Vec<Option<Slot>>,
}

impl History {
    /// `octets_max` bounds the payloads; about 64 octets per packet come to it.
    pub fn new(octets_max: usize) -> History {
        History { octets_max, arena: Vec::new(), write_at: 0, lap: 0, lap_began: None, slots: Vec::new() }
    }

    /// Keeps a packet. `payload` is the source's, without padding, as `packet` describes it.
    pub fn store(&mut self, packet: &MediaPacket, payload: &[u8]) {
        if payload.is_empty() || payload.len() > self.octets_max {
            return;
        }
        let Some(index) = self.slot_for(packet) else {
            return;
        };
        let start = self.room_for(payload.len(), packet.arrival);
        self.arena[start..start + payload.len()].copy_from_slice(payload);
        self.write_at = start + payload.len();
        self.slots[index] = Some(Slot { packet: *packet, start: start as u32, lap: self.lap });
    }

    /// A packet that is still there, and its payload.
    pub fn get(&self, sequence: u64) -> Option<(&MediaPacket, &[u8])> {
        let index = self.index(sequence)?;
        let slot = self.slots[index].as_ref().filter(|slot| slot.packet.sequence == sequence)?;
        let start = slot.start as usize;
        // Written in this lap, or in the last one and not yet overwritten.
        let is_there = slot.lap == self.lap || slot.lap.wrapping_add(1) == self.lap && start >= self.write_at;
        if !is_there {
            return None;
        }
        let payload = self.arena.get(start..start + usize::from(slot.packet.payload_len))?;
        Some((&slot.packet, payload))
    }

    /// True when the packet was received before (as far back as slots reach): a duplicate, or a repair that came twice.
    pub fn contains(&self, sequence: u64) -> bool {
        self.index(sequence)
            .and_then(|index| self.slots[index].as_ref())
            .is_some_and(|slot| slot.packet.sequence == sequence)
    }

    fn index(&self, sequence: u64) -> Option<usize> {
        Some((sequence & self.slots.len().checked_sub(1)? as u64) as usize)
    }

    /// The slot for a packet; `None` when a newer packet has it.
    fn slot_for(&mut self, packet: &MediaPacket) -> Option<usize> {
        if self.slots.is_empty() {
            self.slots.resize(SLOTS_MIN, None);
        }
        loop {
            let index = self.index(packet.sequence)?;
            let Some(old) = &self.slots[index] else {
                return Some(index);
            };
            if old.packet.sequence >= packet.sequence {
                return None;
            }
            let is_young = packet.arrival.saturating_duration_since(old.packet.arrival) < RETAINED;
            if !is_young || self.slots.len() >= SLOTS_MAX {
                return Some(index);
            }
            let grown = vec![None; self.slots.len() * 2];
            for slot in std::mem::replace(&mut self.slots, grown).into_iter().flatten() {
                let index = (slot.packet.sequence & (self.slots.len() as u64 - 1)) as usize;
                self.slots[index] = Some(slot);
            }
        }
    }

    /// Where `len` octets may be written now.
    fn room_for(&mut self, len: usize, now: Instant) -> usize {
        if self.write_at + len <= self.arena.len() {
            return self.write_at;
        }
        let is_young = self.lap_began.is_none_or(|began| now.saturating_duration_since(began) < RETAINED);
        if self.arena.len() < self.octets_max && (is_young || self.arena.len() < len) {
            let grown = (self.arena.len() * 2).max(OCTETS_MIN).max(self.write_at + len).min(self.octets_max);
            self.arena.resize(grown, 0);
            self.lap_began.get_or_insert(now);
            if self.write_at + len <= self.arena.len() {
                return self.write_at;
            }
        }
        self.lap = self.lap.wrapping_add(1);
        self.lap_began = Some(now);
        0
    }
}

const REMEMBERED: usize = 256;
/// Octets that may be sent again before anything, and at most, beyond what was sent.
const CREDIT_MAX: usize = 1 << 20;

/// Allows one retransmission of a packet while the last is under way: a subscriber repeats its NACK until the packet comes.
/// And no more is sent again than was sent: who asks for everything over and over gets it twice.
#[derive(Clone, Debug)]
pub struct ResendLimit {
    /// Until when the last copy of a packet is under way. Indexed by sequence number modulo its length; empty until the
    /// first retransmission.
    sent: Vec<Option<(u16, Instant)>>,
    /// Octets.
    credit: usize,
}

impl Default for ResendLimit {
    fn default() -> ResendLimit {
        ResendLimit { sent: Vec::new(), credit: CREDIT_MAX }
    }
}

impl ResendLimit {
    /// Round trips shorter than this are taken for this.
    const INTERVAL_MIN: Duration = Duration::from_millis(10);

    /// So many octets were sent for the first time.
    pub fn earn(&mut self, octets: usize) {
        self.credit = (self.credit + octets).min(CREDIT_MAX);
    }

    /// Whether the packet, of so many octets, may be sent again now; if so it is `under_way` from now on, as far as the
    /// round trip and what waits before it tell now. What waits later says nothing of it: the queue that it is in
    /// shortens while it waits.
    pub fn allow(&mut self, sequence_number: u16, octets: usize, under_way: Duration, now: Instant) -> bool {
        let Some(credit) = self.credit.checked_sub(octets) else { return false };
        if self.sent.is_empty() {
            self.sent.resize(REMEMBERED, None);
        }
        let slot = &mut self.sent[usize::from(sequence_number) % REMEMBERED];
        if slot.is_some_and(|(number, until)| number == sequence_number && now < until) {
            return false;
        }
        *slot = Some((sequence_number, now + under_way.max(Self::INTERVAL_MIN)));
        self.credit = credit;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;
    use proptest::prelude::*;

    fn packet(sequence: u64, len: usize, arrival: Instant) -> (MediaPacket, Vec<u8>) {
        let packet = MediaPacket {
            encoding: 0,
            sequence,
            timestamp: sequence as u32,
            marker: false,
            switch_point: false,
            vp8: None,
            layer: None,
            payload_len: len as u16,
            arrival,
        };
        (packet, vec![sequence as u8; len])
    }

    #[test]
    fn a_second_of_video_is_there_again() {
        let now = start();
        let mut history = History::new(1 << 20);
        // 4 Mbit/s.
        for index in 0..2000u64 {
            let (packet, payload) = packet(65_536 + index, 1000, now + Duration::from_millis(2) * index as u32);
            history.store(&packet, &payload);
        }
        for sequence in 65_536 + 1500..65_536 + 2000 {
            let (packet, payload) = history.get(sequence).unwrap_or_else(|| panic!("{sequence} is gone"));
            assert_eq!(packet.sequence, sequence);
            assert_eq!(payload, [sequence as u8; 1000]);
        }
        assert!(history.get(65_536).is_none());
        assert!(history.arena.len() <= 1 << 20 && history.slots.len() <= 1024);
    }

    #[test]
    fn memory_follows_the_bitrate_and_stops_at_the_limit() {
        let now = start();
        let mut history = History::new(1 << 20);
        assert_eq!(history.arena.capacity() + history.slots.capacity(), 0);
        // Audio: 50 packets of 120 octets in a second.
        for index in 0..1000u64 {
            let (packet, payload) = packet(65_536 + index, 120, now + Duration::from_millis(20) * index as u32);
            history.store(&packet, &payload);
        }
        assert_eq!((history.arena.len(), history.slots.len()), (OCTETS_MIN, 2 * SLOTS_MIN));
        let mut history = History::new(100_000);
        for index in 0..10_000u64 {
            let (packet, payload) = packet(65_536 + index, 1200, now);
            history.store(&packet, &payload);
        }
        assert_eq!((history.arena.len(), history.slots.len()), (100_000, SLOTS_MAX));
        assert!(history.get(65_536 + 9_999).is_some());
    }

    #[test]
    fn old_packets_never_displace_newer_ones() {
        let now = start();
        let mut history = History::new(1 << 20);
        let later = now + Duration::from_secs(5);
        let (new, payload) = packet(70_064, 10, later);
        history.store(&new, &payload);
        let (old, payload) = packet(70_000, 10, later);
        history.store(&old, &payload);
        assert!(history.get(70_064).is_some() && history.get(70_000).is_none());
        assert!(history.contains(70_064) && !history.contains(70_000));
        // Too long for it, and nothing at all.
        let (huge, payload) = packet(70_065, 60_000, later);
        let mut small = History::new(1000);
        small.store(&huge, &payload);
        small.store(&packet(1, 0, later).0, &[]);
        assert!(small.get(70_065).is_none() && small.get(1).is_none());
    }

    #[test]
    fn one_retransmission_in_a_round_trip() {
        let now = start();
        let round_trip = Duration::from_millis(100);
        let mut limit = ResendLimit::default();
        assert!(limit.allow(5, 1000, round_trip, now));
        assert!(!limit.allow(5, 1000, round_trip, now + Duration::from_millis(99)));
        assert!(limit.allow(6, 1000, round_trip, now + Duration::from_millis(99)));
        assert!(limit.allow(5, 1000, round_trip, now + Duration::from_millis(100)));
        assert!(!limit.allow(5, 1000, Duration::ZERO, now + Duration::from_millis(199)));
        assert!(limit.allow(5, 1000, Duration::ZERO, now + Duration::from_millis(200)));
        assert!(!limit.allow(5, 1000, Duration::ZERO, now + Duration::from_millis(209)));
        assert!(limit.allow(5, 1000, round_trip, now + Duration::from_millis(210)));
    }

    #[test]
    fn no_more_is_sent_again_than_was_sent() {
        let now = start();
        let mut limit = ResendLimit::default();
        let mut allowed = 0;
        let mut ask = |limit: &mut ResendLimit| {
            for number in 0..2_000 {
                allowed +=
                    u32::from(limit.allow(number, 1024, Duration::ZERO, now + Duration::from_secs(allowed.into())));
            }
            std::mem::take(&mut allowed)
        };
        assert_eq!(ask(&mut limit), 1024, "a second of a large picture");
        assert_eq!(ask(&mut limit), 0);
        limit.earn(10 * 1024);
        assert_eq!(ask(&mut limit), 10);
        (0..100).for_each(|_| limit.earn(1 << 20));
        assert_eq!(ask(&mut limit), 1024);
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_was_stored(
            packets in proptest::collection::vec((0u64..400, 1usize..1400, 0u64..30), 1..300),
            octets_max in 2_000usize..200_000,
        ) {
            let mut now = start();
            let mut history = History::new(octets_max);
            let mut base = 65_536;
            for (sequence, len, wait) in packets {
                now += Duration::from_millis(wait);
                base += 1;
                let sequence = base + sequence;
                let (packet, payload) = packet(sequence, len, now);
                history.store(&packet, &payload);
                for probe in sequence.saturating_sub(50)..sequence + 50 {
                    if let Some((found, payload)) = history.get(probe) {
                        prop_assert_eq!(found.sequence, probe);
                        prop_assert_eq!(payload.len(), usize::from(found.payload_len));
                        prop_assert!(payload.iter().all(|octet| *octet == probe as u8));
                    }
                }
            }
            prop_assert!(history.arena.len() <= octets_max);
        }
    }
}
