//! Whether a queue grows on the way to a subscriber: the trend of the delay between groups of packets, compared with a
//! threshold that adapts itself (draft-ietf-rmcat-gcc-02 §5, with a line fitted through the last groups in place of the
//! Kalman filter).
//!
//! Times are in microseconds; those of sending and of arriving have origins of their own.

use std::collections::VecDeque;

/// Packets sent within this time of each other are one group.
const GROUP_US: i64 = 5_000;
/// Groups that the line is fitted through.
const WINDOW: usize = 20;
const SMOOTHING: f64 = 0.9;
const GAIN: f64 = 4.0;
/// The trend is weighted by the number of groups, up to this.
const GROUPS_MAX: f64 = 60.0;
const THRESHOLD: f64 = 12.5;
const THRESHOLD_MIN: f64 = 6.0;
const THRESHOLD_MAX: f64 = 600.0;
/// How fast the threshold follows the trend, per millisecond: up, and down.
const UP: f64 = 0.0087;
const DOWN: f64 = 0.039;
/// A trend further above the threshold than this, in milliseconds, is a jump of the path: the threshold ignores it.
const JUMP: f64 = 15.0;
/// A trend above the threshold counts when it lasts for longer than this.
const OVERUSE_US: i64 = 10_000;
/// A gap after which everything begins anew: the sender's or the receiver's clock jumped, or nothing was sent.
const GAP_US: i64 = 3_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    #[default]
    Normal,
    /// A queue grows.
    Over,
    /// A queue drains.
    Under,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: i64,
    last_sent: i64,
    last_arrival: i64,
}

#[derive(Clone, Debug)]
pub struct Trendline {
    current: Option<Group>,
    previous: Option<Group>,
    /// Milliseconds since the first arrival, smoothed delay in milliseconds.
    points: VecDeque<(f64, f64)>,
    first_arrival: Option<i64>,
    accumulated_ms: f64,
    smoothed_ms: f64,
    groups: f64,
    trend: f64,
    threshold: f64,
    threshold_updated: Option<i64>,
    over_since_us: Option<i64>,
    over_groups: u32,
    usage: Usage,
}

impl Default for Trendline {
    fn default() -> Trendline {
        Trendline {
            current: None,
            previous: None,
            points: VecDeque::with_capacity(WINDOW + 1),
            first_arrival: None,
            accumulated_ms: 0.0,
            smoothed_ms: 0.0,
            groups: 0.0,
            trend: 0.0,
            threshold: THRESHOLD,
            threshold_updated: None,
            over_since_us: None,
            over_groups: 0,
            usage: Usage::Normal,
        }
    }
}

impl Trendline {
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// A packet that arrived, in the order of sending.
    pub fn receive(&mut self, sent_us: i64, arrival_us: i64) {
        let Some(current) = &mut self.current else {
            self.current = Some(Group { first_sent: sent_us, last_sent: sent_us, last_arrival: arrival_us });
            return;
        };
        if sent_us < current.first_sent {
            return;
        }
        let away = (sent_us - current.last_sent).max((arrival_us - current.last_arrival).abs());
        if away > GAP_US {
            let threshold = self.threshold;
            *self = Trendline { threshold, ..Trendline::default() };
            return self.receive(sent_us, arrival_us);
        }
        if sent_us - current.first_sent <= GROUP_US {
            current.last_sent = sent_us;
            current.last_arrival = current.last_arrival.max(arrival_us);
            return;
        }
        let finished = *current;
        *current = Group { first_sent: sent_us, last_sent: sent_us, last_arrival: arrival_us };
        if let Some(previous) = self.previous.replace(finished) {
            let sent = finished.last_sent - previous.last_sent;
            let arrived = finished.last_arrival - previous.last_arrival;
            self.take_group(finished.last_arrival, sent as f64 / 1e3, arrived as f64 / 1e3);
        }
    }

    fn take_group(&mut self, arrival_us: i64, sent_ms: f64, arrived_ms: f64) {
        let first = *self.first_arrival.get_or_insert(arrival_us);
        self.groups = (self.groups + 1.0).min(GROUPS_MAX);
        self.accumulated_ms += arrived_ms - sent_ms;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.accumulated_ms;
        self.points.push_back(((arrival_us - first) as f64 / 1e3, self.smoothed_ms));
        if self.points.len() > WINDOW {
            self.points.pop_front();
        }
        let before = self.trend;
        if self.points.len() == WINDOW {
            self.trend = slope(&self.points).unwrap_or(self.trend);
        }
        self.detect(arrival_us, sent_ms, before);
    }

    fn detect(&mut self, arrival_us: i64, sent_ms: f64, before: f64) {
        let modified = self.groups * self.trend * GAIN;
        if modified > self.threshold {
            let since = self.over_since_us.map_or((sent_ms * 500.0) as i64, |since| since + (sent_ms * 1e3) as i64);
            self.over_since_us = Some(since);
            self.over_groups += 1;
            if since > OVERUSE_US && self.over_groups > 1 && self.trend >= before {
                self.over_since_us = Some(0);
                self.over_groups = 0;
                self.usage = Usage::Over;
            }
        } else {
            self.over_since_us = None;
            self.over_groups = 0;
            self.usage = if modified < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        let elapsed_ms = self.threshold_updated.map_or(0, |at| arrival_us - at).clamp(0, 100_000) as f64 / 1e3;
        self.threshold_updated = Some(arrival_us);
        if modified.abs() <= self.threshold + JUMP {
            let rate = if modified.abs() < self.threshold { DOWN } else { UP };
            self.threshold += rate * (modified.abs() - self.threshold) * elapsed_ms;
            self.threshold = self.threshold.clamp(THRESHOLD_MIN, THRESHOLD_MAX);
        }
    }
}

/// Least squares.
fn slope(points: &VecDeque<(f64, f64)>) -> Option<f64> {
    let count = points.len() as f64;
    let (x_mean, y_mean) =
        points.iter().fold((0.0, 0.0), |(x_sum, y_sum), (x, y)| (x_sum + x / count, y_sum + y / count));
    let (numerator, denominator) = points.iter().fold((0.0, 0.0), |(numerator, denominator), (x, y)| {
        (numerator + (x - x_mean) * (y - y_mean), denominator + (x - x_mean).powi(2))
    });
    (denominator > 0.0).then(|| numerator / denominator)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a packet every 10 ms whose delay `delay_ms` says; the usages in their order.
    fn usages(delay_ms: impl Fn(i64) -> f64) -> Vec<Usage> {
        let mut trendline = Trendline::default();
        let mut usages = vec![Usage::Normal];
        for index in 0..400 {
            let sent = index * 10_000;
            trendline.receive(sent, sent + (delay_ms(index) * 1e3) as i64);
            if usages.last() != Some(&trendline.usage()) {
                usages.push(trendline.usage());
            }
        }
        usages
    }

    #[test]
    fn a_growing_queue_is_seen_and_its_draining_too() {
        assert_eq!(usages(|_| 20.0), [Usage::Normal]);
        assert_eq!(usages(|index| 20.0 + f64::from(index as i32 % 3) * 3.0), [Usage::Normal]);
        assert_eq!(usages(|index| 20.0 + 2.0 * (index - 200).max(0) as f64), [Usage::Normal, Usage::Over]);
        let rises_and_falls = usages(|index| 20.0 + 2.0 * (50 - (index - 200).abs()).max(0) as f64);
        assert_eq!(rises_and_falls, [Usage::Normal, Usage::Over, Usage::Normal, Usage::Under, Usage::Normal]);
    }

    #[test]
    fn clocks_that_jump_begin_anew() {
        assert_eq!(usages(|index| if index < 200 { 20.0 } else { 1e7 }), [Usage::Normal]);
        assert_eq!(usages(|index| if index < 200 { 1e7 } else { 20.0 }), [Usage::Normal]);
    }
}
