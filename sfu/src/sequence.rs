//! Sequence numbers without their wrap, and what a receiver knows of one RTP stream (RFC 3550 appendix A).
//!
//! - [`unwrap_16`] and [`unwrap_32`] give the full number nearest to one already known.
//! - [`ReceiveStatistics`] is kept per received stream, for the SSRC that it has: it unwraps, judges and counts each
//!   original packet and makes the report block of a receiver report.

use std::time::{Duration, Instant};

use crate::rtcp::ReportBlock;
use crate::statistics::Tally;

/// The number congruent to `value` modulo 2¹⁶ that is nearest to `reference` (the later one of two equally near).
pub fn unwrap_16(reference: u64, value: u16) -> u64 {
    let forward = value.wrapping_sub(reference as u16);
    if forward < 0x8000 {
        reference + u64::from(forward)
    } else {
        // Below the first cycle there is nothing: the number is taken from the next one.
        let back = u64::from(forward.wrapping_neg());
        reference.checked_sub(back).unwrap_or(reference + u64::from(forward))
    }
}

/// As [`unwrap_16`], modulo 2³².
pub fn unwrap_32(reference: u64, value: u32) -> u64 {
    let forward = value.wrapping_sub(reference as u32);
    if forward < 0x8000_0000 {
        reference + u64::from(forward)
    } else {
        let back = u64::from(forward.wrapping_neg());
        reference.checked_sub(back).unwrap_or(reference + u64::from(forward))
    }
}

/// A jump forward of this many packets or more is a restart of the sender unless a second packet confirms it
/// (RFC 3550 A.1).
const MAX_DROPOUT: u16 = 3000;
/// A packet this late or later is taken for a restart. Larger than RFC 3550's 100: a repair at a round trip of a
/// second comes as late as that.
const MAX_MISORDER: u16 = 3000;
/// A repair of a packet that is so far before the first one, or beyond the newest, is of an earlier source: what is asked
/// for lies between, and what was sent just before or after may have been lost as a whole.
const REPAIR_MARGIN: u64 = 128;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Its unwrapped sequence number; never below 2¹⁶, so that earlier ones can be told too.
    Packet { sequence: u64 },
    /// The second one in a row of numbers far from what was expected: the source began anew (RFC 3550 A.1). Its own
    /// number is above all earlier ones.
    Restarted { sequence: u64 },
    /// Far from what was expected: held back until the next one confirms that the source began anew.
    Suspicious,
}

/// Reception of one RTP stream. Retransmissions are not counted: RFC 4588 §6.3 reports on them apart.
#[derive(Clone, Debug)]
pub struct ReceiveStatistics {
    clock_rate: u32,
    /// What is added to the source's numbers: a multiple of 2¹⁶.
    origin: u64,
    /// `None` until the first packet.
    highest: Option<u64>,
    base: u64,
    /// The sequence number that would confirm a restart.
    expected_restart: Option<u16>,
    received: u64,
    expected_prior: u64,
    received_prior: u64,
    /// Of the first packet: where arrival times are counted from.
    epoch: Option<Instant>,
    transit: u32,
    /// Scaled by 16, as in RFC 3550 A.8.
    jitter_16: u32,
    /// The middle 32 bits of the last sender report's NTP time, and its arrival.
    last_sender_report: Option<(u32, Instant)>,
}

impl ReceiveStatistics {
    /// `clock_rate` in RTP timestamp units per second.
    pub fn new(clock_rate: u32) -> ReceiveStatistics {
        ReceiveStatistics {
            clock_rate,
            origin: 1 << 16,
            highest: None,
            base: 0,
            expected_restart: None,
            received: 0,
            expected_prior: 0,
            received_prior: 0,
            epoch: None,
            transit: 0,
            jitter_16: 0,
            last_sender_report: None,
        }
    }

    /// The highest unwrapped sequence number so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Packets that should have come, and those of them that did not.
    pub fn tally(&self) -> Tally {
        let expected = self.highest.map_or(0, |highest| highest - self.base + 1);
        Tally { expected, lost: expected.saturating_sub(self.received) }
    }

    /// Counts an original packet.
    pub fn receive(&mut self, sequence_number: u16, timestamp: u32, arrival: Instant) -> Received {
        let mut has_restarted = false;
        let sequence = match self.highest {
            None => self.restart(self.origin + u64::from(sequence_number)),
            Some(highest) => {
                let forward = sequence_number.wrapping_sub(highest as u16);
                if forward < MAX_DROPOUT || forward > MAX_MISORDER.wrapping_neg() {
                    self.expected_restart = None;
                    let sequence = unwrap_16(highest, sequence_number);
                    self.highest = Some(highest.max(sequence));
                    sequence
                } else if self.expected_restart == Some(sequence_number) {
                    has_restarted = true;
                    self.restart(highest + u64::from(forward))
                } else {
                    self.expected_restart = Some(sequence_number.wrapping_add(1));
                    return Received::Suspicious;
                }
            }
        };
        self.received += 1;
        self.update_jitter(timestamp, arrival);
        if has_restarted { Received::Restarted { sequence } } else { Received::Packet { sequence } }
    }

    /// Another source (SSRC) begins: everything is counted anew, and its numbers go on above all earlier ones, with room
    /// for those that its first packets overtake.
    pub fn begin_source(&mut self) {
        let origin = self.highest.map_or(self.origin, |highest| ((highest >> 16) + 2) << 16);
        *self = ReceiveStatistics { origin, ..ReceiveStatistics::new(self.clock_rate) };
    }

    /// The unwrapped number of a packet that came by other means than the stream itself (a retransmission). `None`
    /// before the first packet, and for a number that this source has not come to.
    pub fn unwrap(&self, sequence_number: u16) -> Option<u64> {
        let highest = self.highest?;
        let sequence = unwrap_16(highest, sequence_number);
        let plausible = self.base - REPAIR_MARGIN..=highest + REPAIR_MARGIN;
        plausible.contains(&sequence).then_some(sequence)
    }

    fn restart(&mut self, sequence: u64) -> u64 {
        self.highest = Some(sequence);
        self.base = sequence;
        self.expected_restart = None;
        self.received = 0;
        self.expected_prior = 0;
        self.received_prior = 0;
        self.epoch = None;
        sequence
    }

    fn update_jitter(&mut self, timestamp: u32, arrival: Instant) {
        let first = self.epoch.is_none();
        let epoch = *self.epoch.get_or_insert(arrival);
        let elapsed = arrival.saturating_duration_since(epoch).as_micros() as u64;
        let arrival_units = (elapsed * u64::from(self.clock_rate) / 1_000_000) as u32;
        let transit = arrival_units.wrapping_sub(timestamp);
        if !first {
            let difference = (transit.wrapping_sub(self.transit) as i32).unsigned_abs();
            // A change of the timestamp's base is no jitter.
            if difference < self.clock_rate.saturating_mul(10) {
                self.jitter_16 = self.jitter_16 + difference - ((self.jitter_16 + 8) >> 4);
            }
        }
        self.transit = transit;
    }

    pub fn handle_sender_report(&mut self, ntp: u64, arrival: Instant) {
        self.last_sender_report = Some(((ntp >> 16) as u32, arrival));
    }

    /// Interarrival jitter in timestamp units.
    pub fn jitter(&self) -> u32 {
        self.jitter_16 >> 4
    }

    /// Packets that never came, since the beginning; negative when duplicates did.
    pub fn cumulative_lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    fn expected(&self) -> u64 {
        self.highest.map_or(0, |highest| highest - self.base + 1)
    }

    /// The report block for the stream, which ends an interval of its loss fraction. `None` before the first packet.
    pub fn report(&mut self, ssrc: u32, now: Instant) -> Option<ReportBlock> {
        let highest = self.highest?;
        let expected = self.expected();
        let expected_interval = expected - self.expected_prior;
        let received_interval = self.received - self.received_prior;
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost_interval = expected_interval.saturating_sub(received_interval);
        // RFC 3550 A.3; all of it lost is 255/256 in eight bits.
        let fraction_lost =
            (lost_interval << 8).checked_div(expected_interval).map_or(0, |fraction| fraction.min(255) as u8);
        let (last_sender_report, delay_since_last) = self
            .last_sender_report
            .map_or((0, 0), |(ntp, arrival)| (ntp, short_ntp(now.saturating_duration_since(arrival))));
        Some(ReportBlock {
            ssrc,
            fraction_lost,
            cumulative_lost: self.cumulative_lost().clamp(-0x80_0000, 0x7F_FFFF) as i32,
            // RFC 3550 §6.4.1: the cycles of this source, which begin at 0.
            extended_highest_sequence: (highest - self.origin) as u32,
            jitter: self.jitter(),
            last_sender_report,
            delay_since_last,
        })
    }
}

/// A duration in 1/65536 s, saturating at 18 hours.
pub fn short_ntp(duration: Duration) -> u32 {
    u32::try_from((duration.as_micros() << 16) / 1_000_000).unwrap_or(u32::MAX)
}

/// The inverse of [`short_ntp`].
pub fn from_short_ntp(value: u32) -> Duration {
    Duration::from_micros((u64::from(value) * 1_000_000) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Instant {
        crate::test_clock::start()
    }

    fn sequence(received: Received) -> u64 {
        match received {
            Received::Packet { sequence } => sequence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unwraps_both_ways_over_the_wrap() {
        assert_eq!(unwrap_16(0x1_FFFF, 0), 0x2_0000);
        assert_eq!(unwrap_16(0x2_0000, 0xFFFF), 0x1_FFFF);
        assert_eq!(unwrap_16(0x2_0000, 0x7FFF), 0x2_7FFF);
        assert_eq!(unwrap_16(0x2_0000, 0x8000), 0x1_8000);
        assert_eq!(unwrap_16(5, 0xFFFF), 0xFFFF);
        assert_eq!(unwrap_32(0x1_FFFF_FFFF, 3), 0x2_0000_0003);
        assert_eq!(unwrap_32(0x2_0000_0003, 0xFFFF_FFFE), 0x1_FFFF_FFFE);
    }

    #[test]
    fn counts_loss_over_the_wrap() {
        let mut statistics = ReceiveStatistics::new(90_000);
        let now = start();
        for number in [0xFFFEu16, 0xFFFF, 1, 2, 4, 3] {
            statistics.receive(number, 0, now);
        }
        let block = statistics.report(7, now).unwrap();
        assert_eq!(block.ssrc, 7);
        assert_eq!(block.cumulative_lost, 1);
        assert_eq!(block.fraction_lost, (256 / 7) as u8);
        assert_eq!(block.extended_highest_sequence, 0x1_0004);
        assert_eq!(statistics.tally(), Tally { expected: 7, lost: 1 });
        // The next interval is clean; a duplicate makes up for the loss.
        statistics.receive(5, 0, now);
        statistics.receive(5, 0, now);
        let block = statistics.report(7, now).unwrap();
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 0));
        assert_eq!(statistics.tally(), Tally { expected: 8, lost: 0 });
        // Nothing at all in an interval.
        assert_eq!(statistics.report(7, now).unwrap().fraction_lost, 0);
    }

    #[test]
    fn a_jump_needs_a_second_packet_and_numbers_never_go_back() {
        let mut statistics = ReceiveStatistics::new(90_000);
        let now = start();
        let first = sequence(statistics.receive(30_000, 0, now));
        assert_eq!(statistics.receive(10_000, 0, now), Received::Suspicious, "far behind");
        assert_eq!(sequence(statistics.receive(30_001, 0, now)), first + 1);
        assert_eq!(statistics.receive(10_000, 0, now), Received::Suspicious);
        let Received::Restarted { sequence: restarted } = statistics.receive(10_001, 0, now) else {
            panic!("a second packet confirms it");
        };
        assert!(restarted > first + 1);
        assert_eq!(restarted as u16, 10_001);
        assert_eq!(statistics.report(1, now).unwrap().cumulative_lost, 0);
        assert_eq!(sequence(statistics.receive(10_002, 0, now)), restarted + 1, "once");
    }

    #[test]
    fn the_limits_of_dropout_and_misorder() {
        let now = start();
        let mut statistics = ReceiveStatistics::new(90_000);
        let first = sequence(statistics.receive(10_000, 0, now));
        assert_eq!(sequence(statistics.receive(12_999, 0, now)), first + 2999);
        assert_eq!(statistics.receive(15_999, 0, now), Received::Suspicious);
        assert_eq!(sequence(statistics.receive(10_000, 0, now)), first);
        assert_eq!(statistics.receive(9_999, 0, now), Received::Suspicious);
    }

    #[test]
    fn a_second_early_reordered_packet_stays_below_the_first() {
        let mut statistics = ReceiveStatistics::new(48_000);
        let now = start();
        let first = sequence(statistics.receive(0, 0, now));
        assert_eq!(sequence(statistics.receive(0xFFFF, 0, now)), first - 1);
        assert_eq!(statistics.unwrap(0xFFFE), Some(first - 2));
    }

    #[test]
    fn another_source_counts_anew_above_all_earlier_numbers() {
        let mut statistics = ReceiveStatistics::new(90_000);
        let now = start();
        for number in [65_530, 65_531, 4, 5] {
            statistics.receive(number, u32::from(number) * 3000, now);
        }
        statistics.handle_sender_report(0x1111_2222_3333_4444, now);
        let highest = statistics.highest().unwrap();
        statistics.begin_source();
        assert_eq!((statistics.report(1, now), statistics.unwrap(5)), (None, None), "nothing has come of it");
        let first = sequence(statistics.receive(64_000, 1, now + Duration::from_secs(1)));
        assert_eq!(first as u16, 64_000);
        let early = sequence(statistics.receive(63_999, 1, now + Duration::from_secs(1)));
        assert!(early == first - 1 && early > highest);
        statistics.receive(64_001, 1, now + Duration::from_secs(1));
        let block = statistics.report(2, now).unwrap();
        let expected =
            ReportBlock { ssrc: 2, cumulative_lost: -1, extended_highest_sequence: 64_001, ..ReportBlock::default() };
        assert_eq!(block, expected, "no cycles, no loss, no jitter and no sender report of before");
        assert!(statistics.unwrap(64_001).is_some() && statistics.unwrap(64_001 + 128).is_some());
        assert!(statistics.unwrap(64_000 - 128).is_some());
        assert_eq!((statistics.unwrap(64_000 - 129), statistics.unwrap(64_001 + 129)), (None, None));
        assert_eq!(statistics.unwrap(5), None, "a repair of the source before");
    }

    #[test]
    fn jitter_follows_the_formula() {
        let mut statistics = ReceiveStatistics::new(90_000);
        let now = start();
        // Frames 20 ms apart arrive 30 ms apart: |D| = 900 units each time.
        for index in 0..200u32 {
            statistics.receive(index as u16, index * 1800, now + Duration::from_millis(30) * index);
        }
        assert!((890..=900).contains(&statistics.jitter()));
    }

    #[test]
    fn reports_name_the_last_sender_report() {
        let mut statistics = ReceiveStatistics::new(90_000);
        let now = start();
        assert!(statistics.report(1, now).is_none());
        statistics.receive(1, 0, now);
        assert_eq!(statistics.report(1, now).unwrap().last_sender_report, 0);
        statistics.handle_sender_report(0x1111_2222_3333_4444, now);
        let block = statistics.report(1, now + Duration::from_millis(500)).unwrap();
        assert_eq!(block.last_sender_report, 0x2222_3333);
        assert_eq!(block.delay_since_last, 0x8000);
        assert_eq!(from_short_ntp(0x8000), Duration::from_millis(500));
    }

    proptest! {
        #[test]
        fn unwrapping_follows_any_walk(steps in proptest::collection::vec(-20_000i64..20_000, 1..100)) {
            let mut full = 1_000_000u64;
            for step in steps {
                let next = full.saturating_add_signed(step).max(200_000);
                prop_assert_eq!(unwrap_16(full, next as u16), next);
                prop_assert_eq!(unwrap_32(full, next as u32), next);
                full = next;
            }
        }

        #[test]
        fn statistics_hold_under_any_input(packets in proptest::collection::vec(any::<(u16, u32, u16)>(), 1..200)) {
            let mut statistics = ReceiveStatistics::new(90_000);
            let mut now = start();
            let mut highest = 0;
            for (number, timestamp, wait) in packets {
                now += Duration::from_micros(u64::from(wait));
                if let Received::Packet { sequence } = statistics.receive(number, timestamp, now) {
                    prop_assert_eq!(sequence as u16, number);
                }
                prop_assert!(statistics.highest().unwrap() >= highest);
                highest = statistics.highest().unwrap();
                statistics.report(1, now);
            }
        }
    }
}
