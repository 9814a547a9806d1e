//! What a listener hears: a model of the audio jitter buffer of browsers (NetEq), fed with arrivals alone.
//!
//! Every 10 ms a piece of 10 ms is asked for. Where the next packet is missing, the piece is concealed; a packet that
//! comes too late is discarded. The target delay follows two histograms: how late the latest packet of each half second
//! comes (95th percentile), and how late those come that others have overtaken, weighed against the delay that waiting
//! for them costs. Playing is accelerated or stretched by at most 10 ms in 50 where what is played is later or earlier
//! than the target, counted from when the fastest packet would have been played.
//!
//! Unlike browsers' statistics, silence after a long gap counts as concealed too: a listener hears nothing.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(10);
const TICK_MS: i64 = 10;
const FRAME_MS: i64 = 20;
/// The histograms' buckets are as long as a packet.
const BUCKETS: usize = 100;
/// The fastest packet of so long is the one that delays are measured from.
const ARRIVALS: Duration = Duration::from_secs(2);
/// Of so long the latest packet counts.
const RESAMPLING: Duration = Duration::from_millis(500);
const UNDERRUN_FORGET: f64 = 0.983;
const UNDERRUN_QUANTILE: f64 = 0.95;
const REORDER_FORGET: f64 = 0.9993;
/// Milliseconds of delay that a percent of loss is worth.
const MS_PER_LOSS_PERCENT: f64 = 20.0;
/// A histogram's first samples weigh more.
const START_WEIGHT: f64 = 2.0;
/// A later packet waits so long for the missing one at most, as long as the buffer is below the target by so much; above
/// it by as much it does not wait at all.
const WAIT_MAX_MS: i64 = 100;
const WINDOW_MS: i64 = 50;
/// After so much of a gap there is silence, and half the target has to be in the buffer before it ends.
const SILENT_MS: i64 = 100;
/// Playing is accelerated when it is later than the latest packets by this.
const GRANULARITY_MS: i64 = 20;
/// Time scaling happens this often at most, in ticks.
const SCALING_INTERVAL: u32 = 5;

#[derive(Clone, Debug)]
struct Histogram {
    buckets: Vec<f64>,
    forget: f64,
    count: f64,
}

impl Histogram {
    fn new(forget: f64) -> Histogram {
        let mut buckets = vec![0.0; BUCKETS];
        buckets[0] = 1.0;
        Histogram { buckets, forget, count: 0.0 }
    }

    fn add(&mut self, bucket: usize) {
        self.count += 1.0;
        let keep = self.forget.min(1.0 - START_WEIGHT / (self.count + 1.0)).max(0.0);
        self.buckets.iter_mut().for_each(|share| *share *= keep);
        self.buckets[bucket.min(BUCKETS - 1)] += 1.0 - keep;
    }

    fn quantile(&self, quantile: f64) -> usize {
        let mut sum = 0.0;
        self.buckets
            .iter()
            .position(|share| {
                sum += share;
                sum >= quantile
            })
            .unwrap_or(BUCKETS - 1)
    }
}

/// What came out of the loudspeaker in the pieces of 10 ms since the first packet.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub began: Option<Instant>,
    /// One for each piece: whether it was concealed.
    pub concealed: Vec<bool>,
}

impl Heard {
    /// Pieces concealed and pieces in all in a span of time, and the spans of more than 200 ms without a sound.
    pub fn between(&self, from: Instant, to: Instant) -> (u32, u32, u32) {
        let Some(began) = self.began else { return (0, 0, 0) };
        let index = |at: Instant| (at.saturating_duration_since(began).as_millis() / TICK.as_millis()) as usize;
        let end = index(to).min(self.concealed.len());
        let pieces = &self.concealed[index(from).min(end)..end];
        let concealed = pieces.iter().filter(|piece| **piece).count() as u32;
        let gaps = pieces.split(|piece| !piece).filter(|gap| gap.len() as i64 * TICK_MS > 200).count() as u32;
        (concealed, pieces.len() as u32, gaps)
    }
}

#[derive(Clone, Debug)]
pub struct NetEq {
    /// Packets that wait, by their number.
    buffer: BTreeSet<u64>,
    /// The packet to be played next, and how much of the last one is left.
    next: Option<u64>,
    left_ms: i64,
    /// Of this gap.
    concealed_ms: i64,
    ticked: Option<Instant>,
    highest: Option<u64>,
    /// (arrival, arrival less media time in ms) of the last while.
    arrivals: VecDeque<(Instant, i64)>,
    fastest: i64,
    slowest: i64,
    epoch: Option<Instant>,
    /// When the present interval began, and the latest packet in it.
    interval: Option<(Instant, i64)>,
    underrun: Histogram,
    reorder: Histogram,
    target_ms: i64,
    since_scaling: u32,
    pub heard: Heard,
    /// Packets that came after their time.
    pub discarded: u64,
}

impl Default for NetEq {
    fn default() -> NetEq {
        NetEq {
            buffer: BTreeSet::new(),
            next: None,
            left_ms: 0,
            concealed_ms: 0,
            ticked: None,
            highest: None,
            arrivals: VecDeque::new(),
            fastest: 0,
            slowest: 0,
            epoch: None,
            interval: None,
            underrun: Histogram::new(UNDERRUN_FORGET),
            reorder: Histogram::new(REORDER_FORGET),
            target_ms: 80,
            since_scaling: 0,
            heard: Heard::default(),
            discarded: 0,
        }
    }
}

impl NetEq {
    /// A packet of 20 ms arrives; `number` counts packets in the order of sending.
    pub fn receive(&mut self, now: Instant, number: u64) {
        self.advance(now);
        self.measure(now, number);
        let Some(next) = self.next else {
            self.next = Some(number);
            self.buffer.insert(number);
            self.ticked = Some(now);
            self.heard.began = Some(now);
            return;
        };
        if number < next {
            self.discarded += 1;
        } else {
            self.buffer.insert(number);
        }
    }

    /// What has just arrived carries an earlier packet too (Opus' in-band FEC). It is played where the packet itself is not
    /// there in time, and tells nothing about delays.
    pub fn receive_copy(&mut self, number: u64) {
        if self.next.is_some_and(|next| number >= next) {
            self.buffer.insert(number);
        }
    }

    fn measure(&mut self, now: Instant, number: u64) {
        let epoch = *self.epoch.get_or_insert(now);
        let transit = now.saturating_duration_since(epoch).as_millis() as i64 - number as i64 * FRAME_MS;
        while self.arrivals.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > ARRIVALS) {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back((now, transit));
        let transits = || self.arrivals.iter().map(|(_, transit)| *transit);
        self.fastest = transits().min().unwrap_or(transit);
        self.slowest = transits().max().unwrap_or(transit);
        let delay = transit - self.fastest;
        let reordered = self.highest.is_some_and(|highest| number < highest);
        self.highest = self.highest.max(Some(number));
        if !reordered {
            let (began, latest) = self.interval.unwrap_or((now, 0));
            if now.saturating_duration_since(began) > RESAMPLING {
                self.underrun.add((latest / FRAME_MS) as usize);
                self.interval = Some((now, delay));
            } else {
                self.interval = Some((began, latest.max(delay)));
            }
        }
        self.reorder.add(if reordered { (delay / FRAME_MS) as usize } else { 0 });
        if self.underrun.count > 0.0 {
            let base = (1 + self.underrun.quantile(UNDERRUN_QUANTILE) as i64) * FRAME_MS;
            self.target_ms = base.max(self.worth_waiting(base));
        }
    }

    /// The delay at which waiting longer for overtaken packets costs more than losing them.
    fn worth_waiting(&self, base: i64) -> i64 {
        let mut lost = 1.0;
        let mut best = (f64::MAX, 0);
        for (bucket, share) in self.reorder.buckets.iter().enumerate() {
            lost -= share;
            let delay = (bucket as i64 * FRAME_MS - base).max(0) as f64;
            let cost = delay + 100.0 * MS_PER_LOSS_PERCENT * f64::max(lost, 0.0);
            if cost < best.0 - 1e-9 {
                best = (cost, bucket as i64);
            }
        }
        (1 + best.1) * FRAME_MS
    }

    /// Plays up to `now`.
    pub fn advance(&mut self, now: Instant) {
        while let Some(at) = self.ticked.filter(|&at| at + TICK <= now) {
            self.ticked = Some(at + TICK);
            let concealed = !self.play(at + TICK);
            self.heard.concealed.push(concealed);
        }
    }

    /// How much later than the fastest packet could have been played that is what is played now.
    fn playout_delay_ms(&self, now: Instant) -> i64 {
        let (Some(epoch), Some(next)) = (self.epoch, self.next) else { return 0 };
        let position = next as i64 * FRAME_MS - self.left_ms;
        now.saturating_duration_since(epoch).as_millis() as i64 - position - self.fastest
    }

    /// One piece; false when it had to be made up.
    fn play(&mut self, now: Instant) -> bool {
        self.since_scaling += 1;
        let was_concealing = self.concealed_ms > 0;
        if self.left_ms < TICK_MS && !self.decode() {
            self.concealed_ms += TICK_MS;
            return false;
        }
        if self.since_scaling >= SCALING_INTERVAL && !was_concealing {
            let late = self.playout_delay_ms(now);
            let high = self.target_ms + (self.slowest - self.fastest) + GRANULARITY_MS;
            let waiting = self.buffer.len() as i64 * FRAME_MS + self.left_ms;
            if late >= high && waiting > FRAME_MS {
                // Accelerated: 10 ms are left out.
                self.since_scaling = 0;
                self.left_ms -= TICK_MS;
                if self.left_ms < TICK_MS && !self.decode() {
                    self.left_ms += TICK_MS;
                }
            } else if late < self.target_ms {
                // Stretched: this piece is played once more.
                self.since_scaling = 0;
                return true;
            }
        }
        self.left_ms -= TICK_MS;
        true
    }

    /// Takes the next packet out of the buffer.
    fn decode(&mut self) -> bool {
        let Some(((&first, &last), next)) = self.buffer.first().zip(self.buffer.last()).zip(self.next) else {
            return false;
        };
        let span_ms = (last - first + 1) as i64 * FRAME_MS;
        if self.concealed_ms >= SILENT_MS && span_ms < self.target_ms / 2 {
            return false;
        }
        if first > next {
            let is_early = (first - next) as i64 * FRAME_MS > self.concealed_ms;
            let waits = is_early && span_ms <= self.target_ms + WINDOW_MS
                || span_ms < self.target_ms - WINDOW_MS && self.concealed_ms < WAIT_MAX_MS;
            if self.concealed_ms == 0 || waits {
                return false;
            }
        }
        self.buffer.pop_first();
        self.next = Some(first + 1);
        self.left_ms += FRAME_MS;
        self.concealed_ms = 0;
        true
    }

    pub fn target_ms(&self) -> i64 {
        self.target_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    /// Packets every 20 ms for a minute; `arrivals` says how late each copy of a packet comes.
    fn concealed(arrivals: impl Fn(u64) -> Vec<u64>) -> f64 {
        let began = start();
        let mut events: Vec<(u64, u64)> = (0..3000u64)
            .flat_map(|number| arrivals(number).into_iter().map(move |late| (number * 20 + late, number)))
            .collect();
        events.sort_unstable();
        let mut net_eq = NetEq::default();
        let mut seen = BTreeSet::new();
        for (at, number) in events {
            if seen.insert(number) {
                net_eq.receive(began + Duration::from_millis(at), number);
            }
        }
        let (concealed, pieces, _) =
            net_eq.heard.between(began + Duration::from_secs(15), began + Duration::from_secs(59));
        f64::from(concealed) / f64::from(pieces)
    }

    /// Every tenth packet, in an order without a period that the copies could fall into.
    fn is_lost(number: u64, copy: u64) -> bool {
        let mut state = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ copy.wrapping_mul(0xD1B5_4A32_D192_ED03);
        state ^= state >> 31;
        state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (state ^ state >> 29).is_multiple_of(10)
    }

    #[test]
    fn a_clean_stream_is_heard_whole() {
        assert_eq!(concealed(|_| vec![50]), 0.0);
        assert_eq!(concealed(|number| vec![50 + number % 3 * 5]), 0.0);
    }

    #[test]
    fn loss_is_concealed_and_copies_fill_it_once_the_buffer_waits_for_them() {
        let without = concealed(|number| if is_lost(number, 0) { vec![] } else { vec![50] });
        assert!((0.05..0.11).contains(&without), "{without}");
        let with = concealed(|number| {
            [(0, 50), (1, 110)].into_iter().filter(|(copy, _)| !is_lost(number, *copy)).map(|(_, late)| late).collect()
        });
        assert!((0.004..0.02).contains(&with), "{with}");
    }
}
