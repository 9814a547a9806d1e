//! Gives each video of one subscriber an encoding, such that together they fit.

/// Going up needs this much more room than the encoding takes, so that the choice does not swing.
const HEADROOM: f64 = 1.1;

/// One video subscription, as the allocator sees it: plain numbers, so that the rule stays a pure function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VideoDemand {
    /// What each encoding costs in bit/s; `None`: it is not being sent now.
    pub cost_bps: [Option<u64>; 3],
    /// The highest encoding that is wanted.
    pub highest: u8,
    /// The encoding that is forwarded now.
    pub current: Option<u8>,
    /// The answer: an encoding that exists. `None` only when the publisher sends none at all.
    pub chosen: Option<u8>,
}

impl VideoDemand {
    fn cost(&self, encoding: u8) -> Option<u64> {
        self.cost_bps.get(usize::from(encoding)).copied().flatten()
    }

    /// The next encoding above one that is being sent and wanted.
    fn next_above(&self, encoding: u8) -> Option<u8> {
        (encoding + 1..3.min(self.highest.saturating_add(1))).find(|next| self.cost(*next).is_some())
    }
}

/// Chooses for all videos of a subscriber. `available_bps` is what its link carries, less what audio needs. The lowest
/// encoding is given in any case; then each video in turn goes up by one while that fits.
pub fn allocate(available_bps: u64, demands: &mut [VideoDemand]) {
    let mut used = 0u64;
    for demand in demands.iter_mut() {
        demand.chosen = (0..3).find(|encoding| demand.cost(*encoding).is_some());
        used = used.saturating_add(demand.chosen.and_then(|lowest| demand.cost(lowest)).unwrap_or(0));
    }
    let mut goes_up = true;
    while goes_up {
        goes_up = false;
        for demand in demands.iter_mut() {
            let Some(next) = demand.chosen.and_then(|chosen| demand.next_above(chosen)) else {
                continue;
            };
            let below = demand.chosen.and_then(|chosen| demand.cost(chosen)).unwrap_or(0);
            let after = used.saturating_sub(below).saturating_add(demand.cost(next).unwrap_or(0));
            let needed = if demand.current.is_some_and(|current| current >= next) {
                after
            } else {
                (after as f64 * HEADROOM) as u64
            };
            if needed <= available_bps {
                demand.chosen = Some(next);
                used = after;
                goes_up = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAMERA: VideoDemand = VideoDemand {
        cost_bps: [Some(160_000), Some(450_000), Some(1_700_000)],
        highest: 2,
        current: None,
        chosen: None,
    };

    fn chosen(available_bps: u64, demands: &[VideoDemand]) -> Vec<Option<u8>> {
        let mut demands = demands.to_vec();
        allocate(available_bps, &mut demands);
        demands.iter().map(|demand| demand.chosen).collect()
    }

    #[test]
    fn everybody_gets_the_lowest_and_then_one_more_in_turn() {
        assert_eq!(chosen(u64::MAX, &[CAMERA, CAMERA]), [Some(2), Some(2)]);
        assert_eq!(chosen(0, &[CAMERA, CAMERA]), [Some(0), Some(0)]);
        assert_eq!(chosen(700_000, &[CAMERA, CAMERA]), [Some(1), Some(0)]);
        assert_eq!(chosen(1_000_000, &[CAMERA, CAMERA]), [Some(1), Some(1)]);
    }

    #[test]
    fn wishes_and_missing_encodings_are_respected() {
        let small = VideoDemand { highest: 0, ..CAMERA };
        assert_eq!(chosen(u64::MAX, &[small, CAMERA]), [Some(0), Some(2)]);
        let without_middle = VideoDemand { cost_bps: [Some(160_000), None, Some(1_700_000)], ..CAMERA };
        assert_eq!(chosen(u64::MAX, &[without_middle]), [Some(2)]);
        assert_eq!(chosen(1_000_000, &[without_middle]), [Some(0)]);
        let high_alone = VideoDemand { cost_bps: [None, None, Some(1_700_000)], highest: 0, ..CAMERA };
        assert_eq!(chosen(0, &[high_alone]), [Some(2)]);
        let silent = VideoDemand { cost_bps: [None; 3], ..CAMERA };
        assert_eq!(chosen(u64::MAX, &[silent]), [None]);
    }

    #[test]
    fn staying_needs_less_than_going_up() {
        let up = VideoDemand { current: Some(1), ..CAMERA };
        assert_eq!(chosen(460_000, &[CAMERA]), [Some(0)]);
        assert_eq!(chosen(460_000, &[up]), [Some(1)]);
        assert_eq!(chosen(440_000, &[up]), [Some(0)]);
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_wanted_and_fits(
            available: u32,
            demands in proptest::collection::vec((
                proptest::array::uniform3(proptest::option::of(1u64..3_000_000)), 0u8..5, proptest::option::of(0u8..5),
            ), 0..20),
        ) {
            let mut demands: Vec<_> = demands
                .into_iter()
                .map(|(cost_bps, highest, current)| VideoDemand { cost_bps, highest, current, chosen: None })
                .collect();
            allocate(u64::from(available), &mut demands);
            let mut used = 0;
            let mut lowest = 0;
            for demand in &demands {
                let first = demand.cost_bps.iter().position(Option::is_some).map(|first| first as u8);
                prop_assert_eq!(demand.chosen.is_some(), first.is_some());
                if let Some((chosen, first)) = demand.chosen.zip(first) {
                    used += demand.cost(chosen).unwrap();
                    lowest += demand.cost(first).unwrap();
                    prop_assert!(chosen <= demand.highest || chosen == first);
                }
            }
            prop_assert!(used <= u64::from(available).max(lowest));
        }
    }
}
