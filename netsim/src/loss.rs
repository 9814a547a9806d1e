//! Which packets a link loses.

use datapath::Entropy;

/// A number in [0, 1) with 53 bits.
pub(crate) fn unit(entropy: &mut Entropy) -> f64 {
    (entropy.u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A model of random loss. Probabilities are in 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Every packet is lost with this probability, whatever happened to its neighbours.
    Bernoulli(f64),
    /// Gilbert-Elliott: a two-state Markov chain that steps once per packet; each state has a loss of its own.
    GilbertElliott { good_to_bad: f64, bad_to_good: f64, loss_good: f64, loss_bad: f64 },
}

impl Loss {
    pub const NONE: Loss = Loss::Bernoulli(0.0);

    /// A loss of `share` in runs of `burst` packets on average (geometric lengths): Gilbert's model, in which the bad
    /// state loses everything. `None` when no such chain exists.
    pub fn bursts(share: f64, burst: f64) -> Option<Loss> {
        if !(0.0..1.0).contains(&share) || burst < 1.0 {
            return None;
        }
        let bad_to_good = 1.0 / burst;
        // The stationary share of the bad state is good_to_bad / (good_to_bad + bad_to_good).
        let good_to_bad = bad_to_good * share / (1.0 - share);
        (good_to_bad <= 1.0).then_some(Loss::GilbertElliott { good_to_bad, bad_to_good, loss_good: 0.0, loss_bad: 1.0 })
    }
}

/// The state of a loss model. It outlives a change of the model's numbers, so that a burst goes on through it.
#[derive(Clone, Debug)]
pub struct LossState {
    entropy: Entropy,
    bad: bool,
}

impl LossState {
    pub fn new(entropy: Entropy) -> LossState {
        LossState { entropy, bad: false }
    }

    /// Whether the next packet is lost. Draws two numbers whatever the model, so that one seed loses the same packets
    /// before a change of the model and does not shift those after it.
    pub fn loses(&mut self, loss: Loss) -> bool {
        let (step, fate) = (unit(&mut self.entropy), unit(&mut self.entropy));
        match loss {
            Loss::Bernoulli(probability) => fate < probability,
            Loss::GilbertElliott { good_to_bad, bad_to_good, loss_good, loss_bad } => {
                let leave = if self.bad { bad_to_good } else { good_to_bad };
                if step < leave {
                    self.bad = !self.bad;
                }
                fate < if self.bad { loss_bad } else { loss_good }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(loss: Loss, packets: usize) -> (f64, f64) {
        let mut state = LossState::new(Entropy::from_seed([7; 32]));
        let fates: Vec<bool> = (0..packets).map(|_| state.loses(loss)).collect();
        let lost = fates.iter().filter(|&&lost| lost).count();
        let bursts = fates.windows(2).filter(|w| !w[0] && w[1]).count();
        (lost as f64 / packets as f64, lost as f64 / bursts as f64)
    }

    #[test]
    fn bernoulli_loses_its_share_in_runs_of_one_over_q() {
        let (share, burst) = run(Loss::Bernoulli(0.1), 200_000);
        assert!((share - 0.1).abs() < 0.003, "{share}");
        assert!((burst - 1.0 / 0.9).abs() < 0.02, "{burst}");
    }

    #[test]
    fn bursts_have_the_share_and_the_mean_length_asked_for() {
        let (share, burst) = run(Loss::bursts(0.1, 3.0).unwrap(), 200_000);
        assert!((share - 0.1).abs() < 0.005, "{share}");
        assert!((burst - 3.0).abs() < 0.1, "{burst}");
    }

    #[test]
    fn impossible_bursts_are_refused() {
        assert_eq!(Loss::bursts(1.0, 3.0), None);
        assert_eq!(Loss::bursts(0.9, 1.0), None);
        assert_eq!(Loss::bursts(0.1, 0.5), None);
    }
}
