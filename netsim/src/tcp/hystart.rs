//! HyStart (Ha and Rhee, "Taming the elephants", Computer Networks 2011), as Linux has it: slow start ends when the round
//! trip grows, before the queue overflows. Of its two signs the delay alone: trains of acknowledgements are not looked at.

use std::time::Duration;

const THRESHOLD_MIN: Duration = Duration::from_millis(4);
const THRESHOLD_MAX: Duration = Duration::from_millis(16);
/// The least of the first samples of a round is what counts.
const SAMPLES: u32 = 8;

#[derive(Clone, Debug, Default)]
pub struct HyStart {
    /// The round ends with the acknowledgement of this octet.
    round_end: u64,
    least: Option<Duration>,
    of_round: Option<Duration>,
    samples: u32,
}

impl HyStart {
    /// An acknowledgement in slow start, up to the octet `acknowledged`; `next` is the first that is not sent yet. Returns
    /// whether slow start is over.
    pub fn acknowledge(&mut self, acknowledged: u64, next: u64, rtt: Option<Duration>) -> bool {
        if acknowledged >= self.round_end {
            self.round_end = next;
            self.of_round = None;
            self.samples = 0;
        }
        let Some(rtt) = rtt else { return false };
        let least = self.least.map_or(rtt, |least| least.min(rtt));
        self.least = Some(least);
        self.samples += 1;
        if self.samples > SAMPLES {
            return false;
        }
        let of_round = self.of_round.map_or(rtt, |known| known.min(rtt));
        self.of_round = Some(of_round);
        self.samples == SAMPLES && of_round >= least + (least / 8).clamp(THRESHOLD_MIN, THRESHOLD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of ten acknowledgements; in which slow start ended.
    fn ended(rtts_ms: &[u64]) -> Option<usize> {
        let mut hystart = HyStart::default();
        let mut octet = 0;
        rtts_ms.iter().position(|&ms| {
            let next = octet + 10;
            (0..10).any(|_| {
                octet += 1;
                hystart.acknowledge(octet - 1, next, Some(Duration::from_millis(ms)))
            })
        })
    }

    #[test]
    fn a_round_trip_that_has_grown_by_an_eighth_ends_slow_start() {
        assert_eq!(ended(&[50, 50, 56, 57]), Some(3), "an eighth of 50 ms is 6.25");
        assert_eq!(ended(&[50, 52, 55, 56]), None);
        assert_eq!(ended(&[10, 13, 14]), Some(2), "4 ms at least");
        assert_eq!(ended(&[400, 415, 416]), Some(2), "and 16 at most");
    }
}
