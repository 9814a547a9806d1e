//! When it is busy, batch.

use std::time::{Duration, Instant};

/// Decides how long a loop lets packets gather before it receives them.
///
/// At a light load a packet is taken at once. While many messages of the kernel come in a second, a loop that was woken
/// by the first waits one window for those behind it: fewer wake-ups, and longer trains. A train that the kernel has
/// coalesced (GRO) is one message: however long it is, waiting brings no more of it.
#[derive(Clone, Debug)]
pub struct Coalescing {
    busy_messages_per_second: f64,
    messages_per_second: f64,
    received_at: Option<Instant>,
}

impl Coalescing {
    /// How long the first packet may wait. Linux adds its timer slack of 50 µs to a sleep, so at most 100 µs pass.
    pub const WINDOW: Duration = Duration::from_micros(50);

    /// Messages received per second above which waiting does not cost more than it saves: two messages gather in what a
    /// sleep really takes. Measured with the bare forwarder of `benches`: at 12,500 trains a second waiting costs half
    /// as much again, at 100,000 single packets neither is cheaper.
    pub const BUSY_MESSAGES_PER_SECOND: f64 = 20_000.0;

    /// The time constant over which the rate is smoothed.
    const SMOOTHING: Duration = Duration::from_millis(100);

    /// A poll that returns sooner than this found packets that were already waiting.
    const AT_ONCE: Duration = Duration::from_micros(5);

    /// Waits while more messages than this come in a second; never, if that is infinite.
    pub fn above(busy_messages_per_second: f64) -> Coalescing {
        Coalescing { busy_messages_per_second, messages_per_second: 0.0, received_at: None }
    }

    /// Messages per second of late.
    pub fn messages_per_second(&self) -> f64 {
        self.messages_per_second
    }

    /// How long to sleep before receiving, given when the poll for packets began and when it said that there are some.
    pub fn pause(&self, polled_at: Instant, ready_at: Instant) -> Duration {
        if self.messages_per_second < self.busy_messages_per_second {
            return Duration::ZERO;
        }
        // Packets that were there before the poll have been gathering since the last receive.
        let waited = ready_at.saturating_duration_since(polled_at) >= Self::AT_ONCE;
        let gathering_since = match self.received_at {
            Some(received_at) if !waited => received_at,
            _ => ready_at,
        };
        Self::WINDOW.saturating_sub(ready_at.saturating_duration_since(gathering_since))
    }

    /// Takes note of a turn that received this many messages.
    pub fn record(&mut self, received_at: Instant, messages: usize) {
        if let Some(before) = self.received_at {
            let elapsed = received_at.saturating_duration_since(before).as_secs_f64().max(1e-6);
            let weight = elapsed / (elapsed + Self::SMOOTHING.as_secs_f64());
            let rate = messages as f64 / elapsed;
            self.messages_per_second += weight * (rate - self.messages_per_second);
        }
        self.received_at = Some(received_at);
    }
}

impl Default for Coalescing {
    fn default() -> Coalescing {
        Coalescing::above(Self::BUSY_MESSAGES_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of `messages` each, `interval` apart, for a second; returns the time of the last.
    #[expect(clippy::disallowed_methods, reason = "a monotonic time to start from")]
    fn run(coalescing: &mut Coalescing, messages: usize, interval: Duration) -> Instant {
        let mut at = Instant::now();
        for _ in 0..(1.0 / interval.as_secs_f64()) as usize {
            at += interval;
            coalescing.record(at, messages);
        }
        at
    }

    #[test]
    fn the_rate_is_that_of_the_messages() {
        for (messages, interval_us) in [(1, 100), (50, 5_000), (7, 700)] {
            let mut coalescing = Coalescing::default();
            run(&mut coalescing, messages, Duration::from_micros(interval_us));
            let rate = coalescing.messages_per_second();
            assert!((9_000.0..11_000.0).contains(&rate), "{rate}");
        }
    }

    #[test]
    fn a_light_load_does_not_wait() {
        let mut coalescing = Coalescing::default();
        let at = run(&mut coalescing, 1, Duration::from_millis(1));
        assert_eq!(coalescing.pause(at, at + Duration::from_millis(1)), Duration::ZERO);
    }

    #[test]
    fn a_high_load_waits_one_window_and_no_longer() {
        let mut coalescing = Coalescing::default();
        let at = run(&mut coalescing, 50, Duration::from_millis(1));
        // The first packet after a pause in the traffic.
        let woken = at + Duration::from_millis(1);
        assert_eq!(coalescing.pause(at, woken), Coalescing::WINDOW);
        // Packets that were there already: the time of the turn before counts.
        let polled = at + Duration::from_micros(20);
        let left = coalescing.pause(polled, polled);
        assert_eq!(left, Coalescing::WINDOW - Duration::from_micros(20));
        let polled = at + Duration::from_micros(200);
        assert_eq!(coalescing.pause(polled, polled), Duration::ZERO);
    }

    #[test]
    fn the_load_is_forgotten() {
        let mut coalescing = Coalescing::default();
        let at = run(&mut coalescing, 50, Duration::from_millis(1));
        let later = at + Duration::from_secs(2);
        coalescing.record(later, 1);
        assert_eq!(coalescing.pause(later, later + Duration::from_millis(1)), Duration::ZERO);
    }

    #[test]
    fn nobody_has_to_wait() {
        let mut coalescing = Coalescing::above(f64::INFINITY);
        let at = run(&mut coalescing, 50, Duration::from_millis(1));
        assert_eq!(coalescing.pause(at, at + Duration::from_millis(1)), Duration::ZERO);
    }
}
