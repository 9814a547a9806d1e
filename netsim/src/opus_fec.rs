//! Opus' in-band forward error correction (LBRR, RFC 6716 §2.1.7), as libwebrtc's encoder uses it: when receivers report
//! loss, a packet carries the speech of the one before it once more, at a lower rate.
//!
//! libopus takes the bits for it out of the stream's rate, so packets grow no larger: what it costs is quality.

use std::time::Instant;

/// What is left of the old value after a millisecond (libwebrtc's smoother of reported loss: ten seconds).
const KEEP_PER_MS: f64 = 0.9999;
/// The encoder is told whole percents, and at the rates of speech one is enough for it.
const LOSS_MIN: f64 = 0.005;

#[derive(Clone, Copy, Debug, Default)]
pub struct OpusFec {
    /// Reported loss, 0 to 1, and when it was reported last.
    loss: Option<(Instant, f64)>,
}

impl OpusFec {
    /// A receiver report tells the fraction of packets that were lost since the one before, 0 to 1.
    pub fn report(&mut self, now: Instant, fraction_lost: f64) {
        let loss = match self.loss {
            None => fraction_lost,
            Some((at, before)) => {
                let keep = KEEP_PER_MS.powf(now.saturating_duration_since(at).as_secs_f64() * 1e3);
                keep * before + (1.0 - keep) * fraction_lost
            }
        };
        self.loss = Some((now, loss));
    }

    /// Whether the next packet repeats the one before it.
    pub fn is_on(&self) -> bool {
        self.loss.is_some_and(|(_, loss)| loss >= LOSS_MIN)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::test_clock::start;

    #[test]
    fn a_second_of_loss_turns_it_on_and_half_a_minute_without_turns_it_off() {
        let (began, second) = (start(), Duration::from_secs(1));
        let mut fec = OpusFec::default();
        assert!(!fec.is_on());
        fec.report(began, 0.0);
        assert!(!fec.is_on());
        fec.report(began + second, 0.1);
        assert!(fec.is_on(), "0.1 * (1 - exp(-0.1)) are 0.95 %");
        for later in 2..40 {
            fec.report(began + later * second, 0.0);
            // 0.95 % falls below 0.5 % in 10 s * ln 1.9.
            assert_eq!(fec.is_on(), later <= 7, "{later}");
        }
    }
}
