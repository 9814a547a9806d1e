//! The half of a connection that sends: what is under way, what is lost, and when to send again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::cubic::{Acknowledgement, Cubic};
use super::segment::SEGMENT_SIZE;

/// RFC 6298 §2.1; the least is Linux's.
const TIMEOUT_START: Duration = Duration::from_secs(1);
const TIMEOUT_MIN: Duration = Duration::from_millis(200);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// What a lone segment's acknowledgement may be delayed by (RFC 8985 §7.2).
const DELAYED_ACK_MAX: Duration = Duration::from_millis(200);
/// So many segments beyond a hole prove a loss at once (RFC 8985 §6.2).
const DUPLICATES: usize = 3;

#[derive(Clone, Debug)]
struct Sent {
    begin: u64,
    length: usize,
    at: Instant,
    is_retransmission: bool,
    /// The receiver has it, or it is lost and not sent again yet.
    is_sacked: bool,
    is_lost: bool,
}

impl Sent {
    fn end(&self) -> u64 {
        self.begin + self.length as u64
    }
}

#[derive(Clone, Debug, Default)]
pub struct Sender {
    /// Everything from the first octet that is not acknowledged.
    octets: VecDeque<u8>,
    /// That octet, and the first that was never sent.
    unacknowledged: u64,
    next: u64,
    sent: VecDeque<Sent>,
    /// Segments that are sent, not sacked and not lost.
    under_way: usize,
    cubic: Cubic,
    smoothed_rtt: Option<Duration>,
    rtt_variation: Duration,
    rtt_min: Option<Duration>,
    backoff: u32,
    /// The latest sending of which we know that it arrived: when, its end, and how long it took (RFC 8985 §5).
    rack: Option<(Instant, u64, Duration)>,
    /// Losses are repaired until this octet is acknowledged.
    recovery: Option<u64>,
    timeout: Option<Instant>,
    /// A segment may count as lost then.
    reordering: Option<Instant>,
    tail_probe: Option<Instant>,
    /// Since something was delivered; and whether the probe is yet to leave.
    has_probed: bool,
    may_exceed: bool,
    /// The window was full since the last acknowledgement.
    is_window_full: bool,
    pub retransmitted: u64,
    pub timeouts: u64,
}

impl Sender {
    pub fn write(&mut self, octets: &[u8]) {
        self.octets.extend(octets);
    }

    /// Octets that were written and never sent.
    pub fn unsent(&self) -> usize {
        self.octets.len() - (self.next - self.unacknowledged) as usize
    }

    /// In segments.
    pub fn window(&self) -> f64 {
        self.cubic.window()
    }

    pub fn smoothed_rtt(&self) -> Option<Duration> {
        self.smoothed_rtt
    }

    fn retransmission_timeout(&self) -> Duration {
        let base = match self.smoothed_rtt {
            None => TIMEOUT_START,
            Some(rtt) => rtt + (4 * self.rtt_variation).max(TIMEOUT_MIN),
        };
        (base * (1 << self.backoff.min(8))).min(TIMEOUT_MAX)
    }

    /// An acknowledgement of everything before `up_to`, and of blocks beyond.
    pub fn acknowledge(&mut self, now: Instant, up_to: u64, sacks: &[(u64, u64)]) {
        if up_to > self.next || up_to < self.unacknowledged {
            return;
        }
        let (mut delivered, mut rtt) = (0, None);
        while let Some(first) = self.sent.front().filter(|first| first.end() <= up_to) {
            if !first.is_sacked {
                delivered += 1;
                self.under_way -= usize::from(!first.is_lost);
                rtt = note_delivered(&mut self.rack, self.rtt_min, now, first).or(rtt);
            }
            self.sent.pop_front();
        }
        let progress = up_to > self.unacknowledged;
        self.octets.drain(..(up_to - self.unacknowledged) as usize);
        self.unacknowledged = up_to;
        for sent in &mut self.sent {
            let is_told = sacks.iter().any(|&(begin, end)| begin <= sent.begin && sent.end() <= end);
            if is_told && !sent.is_sacked {
                sent.is_sacked = true;
                delivered += 1;
                self.under_way -= usize::from(!sent.is_lost);
                rtt = note_delivered(&mut self.rack, self.rtt_min, now, sent).or(rtt);
            }
        }
        if let Some(rtt) = rtt {
            self.measure(rtt);
        }
        if self.recovery.is_some_and(|end| up_to >= end) {
            self.recovery = None;
        }
        if delivered > 0 {
            self.backoff = 0;
            self.has_probed = false;
        }
        self.detect_losses(now);
        if self.recovery.is_none() && progress && self.is_window_full {
            let smoothed_rtt = self.smoothed_rtt.unwrap_or(TIMEOUT_START);
            let segments = f64::from(delivered);
            self.cubic.acknowledge(&Acknowledgement { now, segments, up_to, next: self.next, rtt, smoothed_rtt });
        }
        self.is_window_full = false;
        if delivered > 0 {
            self.arm(now);
        }
    }

    /// RFC 6298 §2.
    fn measure(&mut self, rtt: Duration) {
        self.rtt_min = Some(self.rtt_min.map_or(rtt, |least| least.min(rtt)));
        match self.smoothed_rtt {
            None => {
                self.smoothed_rtt = Some(rtt);
                self.rtt_variation = rtt / 2;
            }
            Some(smoothed) => {
                self.rtt_variation = (3 * self.rtt_variation + smoothed.abs_diff(rtt)) / 4;
                self.smoothed_rtt = Some((7 * smoothed + rtt) / 8);
            }
        }
    }

    /// RFC 8985 §6.2: what was sent before something that has arrived is lost, after a while for reordering.
    fn detect_losses(&mut self, now: Instant) {
        self.reordering = None;
        let Some((latest, end, rtt)) = self.rack else { return };
        let beyond = self.sent.iter().filter(|sent| sent.is_sacked).count();
        let window = if self.recovery.is_some() || beyond >= DUPLICATES {
            Duration::ZERO
        } else {
            self.rtt_min.unwrap_or_default() / 4
        };
        let mut found = false;
        for sent in self.sent.iter_mut().filter(|sent| !sent.is_sacked && !sent.is_lost) {
            if (sent.at, sent.end()) >= (latest, end) {
                continue;
            }
            let lost_at = sent.at + rtt + window;
            if lost_at <= now {
                sent.is_lost = true;
                self.under_way -= 1;
                found = true;
            } else {
                self.reordering = Some(self.reordering.map_or(lost_at, |at| at.min(lost_at)));
            }
        }
        if found && self.recovery.is_none() {
            self.recovery = Some(self.next);
            self.cubic.lose();
        }
    }

    /// RFC 6298 §5.3.
    fn arm(&mut self, now: Instant) {
        self.timeout = (!self.sent.is_empty()).then(|| now + self.retransmission_timeout());
        self.arm_probe(now);
    }

    /// RFC 8985 §7.2.
    fn arm_probe(&mut self, now: Instant) {
        let is_plain = self.recovery.is_none() && self.sent.iter().all(|sent| !sent.is_sacked && !sent.is_lost);
        let mut after = 2 * self.smoothed_rtt.unwrap_or(TIMEOUT_START);
        if self.sent.len() == 1 {
            after += DELAYED_ACK_MAX;
        }
        let at = Some(now + after).filter(|_| is_plain && !self.has_probed && !self.sent.is_empty());
        self.tail_probe = at.filter(|at| self.timeout.is_some_and(|timeout| *at < timeout));
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timeout, self.reordering, self.tail_probe].into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.reordering.is_some_and(|at| at <= now) {
            self.detect_losses(now);
        }
        if self.timeout.is_some_and(|at| at <= now) {
            self.timeouts += 1;
            self.backoff += 1;
            self.under_way = 0;
            // Of several timeouts in a row only the first says something about the window.
            if self.backoff == 1 {
                self.cubic.time_out();
            }
            self.sent.iter_mut().filter(|sent| !sent.is_sacked).for_each(|sent| sent.is_lost = true);
            (self.recovery, self.tail_probe, self.reordering) = (None, None, None);
            self.has_probed = false;
            self.timeout = Some(now + self.retransmission_timeout());
        } else if self.tail_probe.is_some_and(|at| at <= now) {
            (self.tail_probe, self.has_probed, self.may_exceed) = (None, true, true);
            self.timeout = Some(now + self.retransmission_timeout());
            // Without anything new the last segment goes once more.
            if self.unsent() == 0
                && let Some(last) = self.sent.back_mut()
            {
                last.is_lost = true;
                self.under_way -= 1;
            }
        }
    }

    /// The next segment to send: where it begins, and its octets.
    pub fn poll_segment(&mut self, now: Instant) -> Option<(u64, Vec<u8>)> {
        let lost = self.sent.iter().position(|sent| sent.is_lost && !sent.is_sacked);
        if lost.is_none() && self.unsent() == 0 {
            return None;
        }
        // A probe may leave beyond the window (RFC 8985 §7.3).
        if self.under_way as f64 >= self.cubic.window().floor() && !std::mem::take(&mut self.may_exceed) {
            self.is_window_full = true;
            return None;
        }
        let at = lost.unwrap_or(self.sent.len());
        if lost.is_some() {
            let sent = &mut self.sent[at];
            (sent.at, sent.is_retransmission, sent.is_lost) = (now, true, false);
            self.retransmitted += 1;
        } else {
            let (begin, length) = (self.next, self.unsent().min(SEGMENT_SIZE));
            let [is_retransmission, is_sacked, is_lost] = [false; 3];
            self.sent.push_back(Sent { begin, length, at: now, is_retransmission, is_sacked, is_lost });
            self.next += length as u64;
        }
        self.under_way += 1;
        if self.timeout.is_none() {
            self.timeout = Some(now + self.retransmission_timeout());
        }
        self.arm_probe(now);
        let Sent { begin, length, .. } = self.sent[at];
        let from = (begin - self.unacknowledged) as usize;
        Some((begin, self.octets.range(from..from + length).copied().collect()))
    }
}

/// What has arrived is the latest that is known to have. Returns the round trip where it is certain.
fn note_delivered(
    rack: &mut Option<(Instant, u64, Duration)>,
    rtt_min: Option<Duration>,
    now: Instant,
    sent: &Sent,
) -> Option<Duration> {
    let rtt = now.saturating_duration_since(sent.at);
    // The acknowledgement may be of the first sending.
    if sent.is_retransmission && rtt_min.is_some_and(|least| rtt < least) {
        return None;
    }
    if rack.is_none_or(|(at, end, _)| (sent.at, sent.end()) > (at, end)) {
        *rack = Some((sent.at, sent.end(), rtt));
    }
    (!sent.is_retransmission).then_some(rtt)
}
