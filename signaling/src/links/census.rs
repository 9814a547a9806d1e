//! Links of all participants together, for the metrics: no participant has a series of its own.

use sfu::{Kind, LinkStatistics, Portion};

use super::quality::Quality;
use super::second::Second;

/// How often something was measured to be at most so much.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Ascending.
    pub bounds: &'static [f64],
    /// Of each bound those that are below it and above the one before; the last is for what is above all.
    pub counts: Vec<u64>,
    pub sum: f64,
}

impl Distribution {
    fn new(bounds: &'static [f64]) -> Distribution {
        Distribution { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    fn take(&mut self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at] += 1;
        self.sum += value;
    }
}

const RATES: &[f64] = &[5e4, 1e5, 2e5, 3e5, 5e5, 1e6, 2e6, 3e6, 5e6, 1e7, 2e7, 5e7];
const PARTS: &[f64] = &[0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5];
const TIMES: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0];

/// Each participant is counted once a second, since the start of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkDistributions {
    pub estimate_bps: Distribution,
    pub target_bps: Distribution,
    pub queue_s: Distribution,
    pub round_trip_s: Distribution,
    pub loss_down: Distribution,
    pub loss_up: Distribution,
    pub audio_lost: Distribution,
}

impl Default for LinkDistributions {
    fn default() -> LinkDistributions {
        LinkDistributions {
            estimate_bps: Distribution::new(RATES),
            target_bps: Distribution::new(RATES),
            queue_s: Distribution::new(TIMES),
            round_trip_s: Distribution::new(TIMES),
            loss_down: Distribution::new(PARTS),
            loss_up: Distribution::new(PARTS),
            audio_lost: Distribution::new(PARTS),
        }
    }
}

impl LinkDistributions {
    pub fn take(&mut self, second: &Second) {
        let bps = |kbps: u32| f64::from(kbps) * 1e3;
        let is_subscriber = second.wanted.kbps() != Some(0);
        if is_subscriber {
            second.wanted.kbps().into_iter().for_each(|kbps| self.target_bps.take(bps(kbps)));
            second.estimate.kbps().into_iter().for_each(|kbps| self.estimate_bps.take(bps(kbps)));
            self.queue_s.take(f64::from(second.queue_ms) / 1e3);
        }
        second.round_trip_ms().into_iter().for_each(|ms| self.round_trip_s.take(f64::from(ms) / 1e3));
        for (part, distribution) in [
            (second.loss_down, &mut self.loss_down),
            (second.loss_up, &mut self.loss_up),
            (second.audio_lost, &mut self.audio_lost),
        ] {
            part.get().into_iter().for_each(|part| distribution.take(part));
        }
    }
}

/// How subscriptions and connections stand now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkCensus {
    pub distributions: LinkDistributions,
    /// Videos that their subscribers do not show, or that are silent; that are paused for want of bandwidth; and by the
    /// encoding that is sent.
    pub idle: usize,
    pub paused: usize,
    pub by_layer: [usize; 3],
    /// Of those, less than wanted.
    pub lowered: usize,
    /// Voices that are left out because not even audio fits.
    pub unheard: usize,
    /// Connections that are poor, good and excellent.
    pub by_quality: [usize; 3],
}

impl LinkCensus {
    pub fn count(&mut self, link: &LinkStatistics) {
        for sent in &link.sent {
            match (sent.kind, sent.portion, sent.encoding) {
                (Kind::Audio, Portion::Paused, _) => self.unheard += 1,
                (Kind::Audio, ..) => {}
                (_, Portion::Idle, _) => self.idle += 1,
                (_, Portion::Paused, _) => self.paused += 1,
                (_, portion, layer) => {
                    self.lowered += usize::from(portion == Portion::Lowered);
                    self.by_layer[usize::from(layer.unwrap_or(0).min(2))] += 1;
                }
            }
        }
    }

    pub fn count_quality(&mut self, quality: Quality) {
        self.by_quality[quality as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::second::{Part, Rate};
    use super::*;
    use sfu::{SentStatistics, TrackId};

    #[test]
    fn a_value_counts_in_the_bucket_that_holds_it() {
        let mut all = LinkDistributions::default();
        let second = Second { wanted: Rate::of_bps(2_000_000), estimate: Rate::of_bps(200_000), ..Second::default() };
        all.take(&second);
        all.take(&Second { estimate: Rate::UNKNOWN, loss_up: Part::new(1.0), ..second });
        all.take(&Second::default());
        assert_eq!((all.estimate_bps.counts[2], all.estimate_bps.sum), (1, 200_000.0), "unbounded is no value");
        assert_eq!(all.target_bps.counts.iter().sum::<u64>(), 2, "who subscribes to nothing is no subscriber");
        assert_eq!(all.loss_up.counts.last(), Some(&1));
        assert_eq!(all.loss_down.counts.iter().sum::<u64>(), 0);
    }

    #[test]
    fn videos_are_counted_by_what_is_sent_of_them() {
        let sent = |kind, encoding, portion| SentStatistics { track: TrackId(1), kind, encoding, portion, tally: None };
        let mut census = LinkCensus::default();
        census.count(&LinkStatistics {
            sent: vec![
                sent(Kind::Video, Some(2), Portion::Whole),
                sent(Kind::Video, Some(1), Portion::Lowered),
                sent(Kind::Video, None, Portion::Paused),
                sent(Kind::Video, None, Portion::Idle),
                sent(Kind::Audio, None, Portion::Paused),
                sent(Kind::Audio, Some(0), Portion::Whole),
            ],
            ..LinkStatistics::default()
        });
        assert_eq!((census.idle, census.paused, census.by_layer, census.lowered), (1, 1, [0, 1, 1], 1));
        assert_eq!(census.unheard, 1);
    }
}
