//! Sender reports: from a publisher's clock to a subscriber's timestamps (RFC 3550 §6.4.1).
//!
//! - [`ClockMap`] is what a publisher's last sender report said about one RTP stream: the same moment on its NTP clock
//!   and in the stream's timestamps.
//! - [`SenderReports`], one per subscription, makes the reports for the subscriber and reads its round-trip time.
//!
//! Every report carries the *publisher's* NTP time. The audio and the video of one participant share that clock, so a
//! receiver that lines them up by it gets lip sync, whatever is between it and the publisher.

use std::time::{Duration, Instant};

use crate::rtcp::{ReportBlock, SenderInfo};
use crate::sequence::from_short_ntp;

/// A moment on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockMap {
    /// 32.32 fixed point seconds.
    ntp: u64,
    rtp_timestamp: u32,
    clock_rate: u32,
    /// When the report arrived here: reports of our own are made from it later.
    arrival: Instant,
}

impl ClockMap {
    /// `clock_rate` in timestamp units per second, above 0.
    pub fn new(ntp: u64, rtp_timestamp: u32, clock_rate: u32, arrival: Instant) -> ClockMap {
        ClockMap { ntp, rtp_timestamp, clock_rate: clock_rate.max(1), arrival }
    }

    /// The publisher's NTP time at a timestamp of the stream.
    pub fn ntp_at(&self, rtp_timestamp: u32) -> u64 {
        let units = i64::from(rtp_timestamp.wrapping_sub(self.rtp_timestamp) as i32);
        self.ntp.wrapping_add_signed((units << 32) / i64::from(self.clock_rate))
    }

    /// The stream's timestamp at an NTP time of the publisher.
    pub fn timestamp_at(&self, ntp: u64) -> u32 {
        let elapsed = i128::from(ntp.wrapping_sub(self.ntp) as i64);
        let scaled = elapsed * i128::from(self.clock_rate);
        // Rounded, so that there and back is the same unit.
        self.rtp_timestamp.wrapping_add(((scaled + (1 << 31)) >> 32) as u32)
    }

    /// The publisher's NTP time now, as far as the report's arrival tells it.
    pub fn ntp_now(&self, now: Instant) -> u64 {
        self.ntp.wrapping_add(to_ntp(now.saturating_duration_since(self.arrival)))
    }
}

/// A duration as 32.32 fixed point seconds.
pub fn to_ntp(duration: Duration) -> u64 {
    (duration.as_secs() << 32) + (u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000
}

/// How many of our reports a subscriber's report may refer to.
const REMEMBERED: usize = 4;

/// The sender's side of one forwarded SSRC.
#[derive(Clone, Debug, Default)]
pub struct SenderReports {
    packets: u32,
    octets: u32,
    /// The middle 32 bits of the NTP time of the last reports, and when they were sent.
    sent: [Option<(u32, Instant)>; REMEMBERED],
    next: usize,
}

impl SenderReports {
    /// Counts a packet that was sent, with the octets of its payload (without header and padding).
    pub fn count(&mut self, payload_len: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload_len as u32);
    }

    /// True when something was sent: a sender report is due, not a receiver report.
    pub fn has_sent(&self) -> bool {
        self.packets > 0
    }

    /// A report now. `clock` is that of the encoding that is forwarded, `timestamp_offset` what the forwarder adds to
    /// its timestamps.
    pub fn report(&mut self, now: Instant, clock: &ClockMap, timestamp_offset: u32) -> SenderInfo {
        let ntp = clock.ntp_now(now);
        self.sent[self.next] = Some(((ntp >> 16) as u32, now));
        self.next = (self.next + 1) % REMEMBERED;
        SenderInfo {
            ntp,
            rtp_timestamp: clock.timestamp_at(ntp).wrapping_add(timestamp_offset),
            packets: self.packets,
            octets: self.octets,
        }
    }

    /// The round-trip time that a subscriber's report about this SSRC tells. The report is looked up by the NTP time it
    /// quotes, since that clock is the publisher's and not ours.
    pub fn round_trip(&self, block: &ReportBlock, now: Instant) -> Option<Duration> {
        if block.last_sender_report == 0 {
            return None;
        }
        let (_, sent_at) = self.sent.iter().flatten().find(|(ntp, _)| *ntp == block.last_sender_report)?;
        now.saturating_duration_since(*sent_at).checked_sub(from_short_ntp(block.delay_since_last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;
    use proptest::prelude::*;

    #[test]
    fn audio_and_video_of_one_moment_stay_together() {
        let now = start();
        let audio = ClockMap::new(100 << 32, 1000, 48_000, now);
        let video = ClockMap::new(101 << 32, u32::MAX, 90_000, now + Duration::from_secs(1));
        let later = now + Duration::from_millis(2500);
        let mut to_audio = SenderReports::default();
        let mut to_video = SenderReports::default();
        let audio_report = to_audio.report(later, &audio, 7);
        let video_report = to_video.report(later, &video, 11);
        assert_eq!(audio_report.ntp, video_report.ntp);
        assert_eq!(audio_report.rtp_timestamp, 1000 + 7 + 48_000 * 5 / 2);
        assert_eq!(video_report.rtp_timestamp, u32::MAX.wrapping_add(11 + 90_000 * 3 / 2));
    }

    #[test]
    fn counts_what_was_sent() {
        let now = start();
        let mut reports = SenderReports::default();
        assert!(!reports.has_sent());
        reports.count(100);
        reports.count(50);
        let info = reports.report(now, &ClockMap::new(0, 0, 90_000, now), 0);
        assert_eq!((info.packets, info.octets), (2, 150));
    }

    #[test]
    fn the_round_trip_is_that_of_the_quoted_report() {
        let now = start();
        let clock = ClockMap::new(0xABCD_0000_1234_5678, 0, 90_000, now);
        let mut reports = SenderReports::default();
        let first = reports.report(now, &clock, 0);
        reports.report(now + Duration::from_secs(1), &clock, 0);
        let block = ReportBlock {
            last_sender_report: (first.ntp >> 16) as u32,
            delay_since_last: 0x1_0000,
            ..ReportBlock::default()
        };
        let at = now + Duration::from_millis(1080);
        assert_eq!(reports.round_trip(&block, at), Some(Duration::from_millis(80)));
        // A delay longer than the time that passed, an unknown report, no report.
        assert_eq!(reports.round_trip(&block, now + Duration::from_millis(900)), None);
        assert_eq!(reports.round_trip(&ReportBlock { last_sender_report: 1, ..block }, at), None);
        assert_eq!(reports.round_trip(&ReportBlock { last_sender_report: 0, ..block }, at), None);
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same_timestamp(ntp: u64, rtp: u32, at: u32, audio: bool) {
            let map = ClockMap::new(ntp, rtp, if audio { 48_000 } else { 90_000 }, start());
            prop_assert_eq!(map.timestamp_at(map.ntp_at(at)), at);
        }
    }
}
