//! CUBIC (RFC 9438): how many segments may be under way.

use std::time::{Duration, Instant};

use super::hystart::HyStart;

/// Segments per cubic second (§5), and what is left of the window after a loss (§4.6).
const C: f64 = 0.4;
const BETA: f64 = 0.7;
/// RFC 6928.
const START: f64 = 10.0;
/// RFC 5681 §3.1.
const THRESHOLD_MIN: f64 = 2.0;
/// α of the window that Reno would have (§4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// Windows are in segments.
#[derive(Clone, Debug)]
pub struct Cubic {
    window: f64,
    threshold: f64,
    hystart: HyStart,
    /// The window before the last reduction, perhaps less (fast convergence, §4.7): the curve's plateau.
    plateau: f64,
    /// The window just before the last reduction.
    prior: f64,
    epoch: Option<Epoch>,
}

/// A time of congestion avoidance.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    began: Instant,
    /// Seconds from the beginning to the plateau (K).
    k: f64,
    /// What Reno would have.
    reno: f64,
}

impl Default for Cubic {
    fn default() -> Cubic {
        let hystart = HyStart::default();
        Cubic { window: START, threshold: f64::INFINITY, hystart, plateau: 0.0, prior: 0.0, epoch: None }
    }
}

/// An acknowledgement of something new.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledgement {
    pub now: Instant,
    pub segments: f64,
    /// The octet up to which everything has arrived, and the first that is not sent.
    pub up_to: u64,
    pub next: u64,
    pub rtt: Option<Duration>,
    pub smoothed_rtt: Duration,
}

impl Cubic {
    pub fn window(&self) -> f64 {
        self.window
    }

    /// To be called while the window is what limits the sender, and nothing is being repaired.
    pub fn acknowledge(&mut self, ack: &Acknowledgement) {
        if self.window < self.threshold {
            self.window += ack.segments;
            if self.hystart.acknowledge(ack.up_to, ack.next, ack.rtt) {
                self.threshold = self.window;
            }
            return;
        }
        let (window, plateau) = (self.window, &mut self.plateau);
        let epoch = self.epoch.get_or_insert_with(|| {
            let k = ((*plateau - window) / C).max(0.0).cbrt();
            *plateau = plateau.max(window);
            Epoch { began: ack.now, k, reno: window }
        });
        let elapsed = ack.now.saturating_duration_since(epoch.began).as_secs_f64();
        let alpha = if epoch.reno < self.prior { ALPHA } else { 1.0 };
        epoch.reno += alpha * ack.segments / window;
        let curve = |seconds: f64| C * (seconds - epoch.k).powi(3) + self.plateau;
        if curve(elapsed) < epoch.reno {
            self.window = window.max(epoch.reno);
        } else {
            let target = curve(elapsed + ack.smoothed_rtt.as_secs_f64()).clamp(window, 1.5 * window);
            self.window += (target - window) / window * ack.segments;
        }
    }

    fn reduce(&mut self) {
        self.prior = self.window;
        self.plateau = if self.window < self.plateau { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.threshold = (self.window * BETA).max(THRESHOLD_MIN);
        self.epoch = None;
    }

    /// Loss was found, for the first time of a window.
    pub fn lose(&mut self) {
        self.reduce();
        self.window = self.threshold;
    }

    /// The retransmission timer ran out (§4.8).
    pub fn time_out(&mut self) {
        self.reduce();
        self.plateau = 0.0;
        self.window = 1.0;
        self.hystart = HyStart::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    fn ack(now: Instant, segments: f64) -> Acknowledgement {
        let rtt = Duration::from_millis(100);
        Acknowledgement { now, segments, up_to: 0, next: 0, rtt: None, smoothed_rtt: rtt }
    }

    /// The window at the end of each tenth of a second, all of it acknowledged in each round trip of as long.
    fn windows(cubic: &mut Cubic, rounds: u32) -> Vec<f64> {
        let began = start();
        (0..rounds)
            .map(|round| {
                let now = began + Duration::from_millis(100) * round;
                let segments = cubic.window().floor();
                for _ in 0..segments as u32 {
                    cubic.acknowledge(&ack(now, 1.0));
                }
                cubic.window()
            })
            .collect()
    }

    #[test]
    fn slow_start_doubles() {
        let mut cubic = Cubic::default();
        assert_eq!(windows(&mut cubic, 3), [20.0, 40.0, 80.0]);
    }

    #[test]
    fn a_loss_leaves_seven_tenths_and_the_plateau_is_back_after_k() {
        let mut cubic = Cubic { window: 1000.0, threshold: 1000.0, ..Cubic::default() };
        cubic.lose();
        assert_eq!(cubic.window(), 700.0);
        // K = ∛(300 / 0.4) = 9.086 s.
        let windows = windows(&mut cubic, 140);
        let back = windows.iter().position(|&window| window >= 999.0).expect("it is back") as f64 / 10.0;
        // The curve is flat there: within a segment of the plateau 1.36 s before K. A window aims a round trip ahead.
        assert!((7.3..9.2).contains(&back), "{back}");
        // Concave first: half of the way is made in ∛½ of what remains: 0.206 K.
        let half = windows.iter().position(|&window| window >= 850.0).expect("half") as f64 / 10.0;
        assert!((1.6..2.1).contains(&half), "{half}");
        // And convex past it: C (13.9 - 9.086)³ = 44.6 above.
        let end = windows[139];
        assert!((1040.0..1052.0).contains(&end), "{end}");
        assert!((windows[90] - 1000.0).abs() < 1.0, "{}", windows[90]);
    }

    #[test]
    fn a_small_window_grows_as_reno_would() {
        let mut cubic = Cubic { window: 10.0, threshold: 10.0, ..Cubic::default() };
        cubic.lose();
        let windows = windows(&mut cubic, 5);
        // ∛(3 / 0.4) = 1.96 s to the plateau; Reno with 0.529 segments a round trip is behind at first and then ahead.
        assert!(windows[4] > 8.0 && windows[4] < 10.0, "{windows:?}");
    }

    #[test]
    fn a_loss_below_the_plateau_makes_room_for_others() {
        let mut cubic = Cubic { window: 100.0, threshold: 100.0, ..Cubic::default() };
        cubic.lose();
        cubic.lose();
        assert!((cubic.plateau - 70.0 * 0.85).abs() < 1e-9, "{}", cubic.plateau);
        cubic.time_out();
        assert_eq!(cubic.window(), 1.0);
        assert!((cubic.threshold - 49.0 * 0.7).abs() < 1e-9);
    }
}
