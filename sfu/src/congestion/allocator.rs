//! Gives each video of one subscriber what fits: an encoding and its temporal layers, or a pause.

/// Going up needs this much more room than it takes, so that the choice does not swing.
const HEADROOM: f64 = 1.12;
/// What is sent already may exceed the room by this: bitrates swing, and so do estimates.
const LENIENCE: f64 = 1.06;

/// An encoding and the highest of its temporal layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Choice {
    pub encoding: u8,
    /// [`Choice::WHOLE`]: all of them.
    pub temporal: u8,
}

impl Choice {
    pub const WHOLE: u8 = 7;
}

/// One video subscription, as the allocator sees it: plain numbers, so that the rule stays a pure function.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VideoDemand {
    /// What each encoding costs in bit/s; `None`: it is not being sent now.
    pub cost_bps: [Option<u64>; 3],
    /// The parts of each encoding's bits up to its temporal layers 0, 1 and 2.
    pub shares: [Option<[f64; 3]>; 3],
    /// Temporal layers are left out of any encoding before a lower one is taken: a screen is read, not watched.
    pub keeps_resolution: bool,
    /// The highest encoding that is wanted.
    pub highest: u8,
    /// Higher comes first.
    pub importance: u8,
    /// What is forwarded now.
    pub current: Option<Choice>,
    /// The answer. `None`: it does not fit, or the publisher sends nothing at all.
    pub chosen: Option<Choice>,
}

impl VideoDemand {
    fn lowest(&self) -> Option<u8> {
        (0..3).find(|encoding| self.cost_bps[usize::from(*encoding)].is_some())
    }

    pub fn is_alive(&self) -> bool {
        self.lowest().is_some()
    }

    pub fn cost(&self, choice: Choice) -> u64 {
        let Some(whole) = self.cost_bps.get(usize::from(choice.encoding)).copied().flatten() else { return 0 };
        match self.shares[usize::from(choice.encoding)].filter(|_| choice.temporal < 2) {
            Some(shares) => (whole as f64 * shares[usize::from(choice.temporal)]) as u64,
            None => whole,
        }
    }

    /// An encoding up to a temporal layer, or whole where it has none.
    fn part(&self, encoding: u8, temporal: u8) -> Choice {
        let has_layers = self.shares[usize::from(encoding)].is_some();
        Choice { encoding, temporal: if has_layers { temporal } else { Choice::WHOLE } }
    }

    /// The least of it.
    fn least(&self) -> Option<Choice> {
        self.lowest().map(|lowest| self.part(lowest, 0))
    }

    /// The choices one step above another, the better one first: the temporal layers of the lowest encoding one by one,
    /// then each higher encoding, with half of its frames (its base layer alone would look worse than what is below it)
    /// and whole. Where resolution counts for more, each higher encoding comes first.
    fn above(&self, choice: Choice) -> impl Iterator<Item = Choice> + use<> {
        let temporal = if choice.temporal == 0 { 1 } else { Choice::WHOLE };
        let smoother = (choice.temporal < Choice::WHOLE).then_some(Choice { temporal, ..choice });
        let top = 3.min(self.highest.saturating_add(1));
        let next = (choice.encoding + 1..top).find(|next| self.cost_bps[usize::from(*next)].is_some());
        let sharper = next.map(|encoding| self.part(encoding, if self.keeps_resolution { 0 } else { 1 }));
        let sharper = sharper.filter(|_| self.keeps_resolution || smoother.is_none());
        [sharper, smoother].into_iter().flatten()
    }

    /// What it costs at its best.
    pub fn wanted_bps(&self) -> u64 {
        let best = (0..=self.highest.min(2)).rev().find_map(|encoding| self.cost_bps[usize::from(encoding)]);
        best.or(self.lowest().and_then(|lowest| self.cost_bps[usize::from(lowest)])).unwrap_or(0)
    }
}

/// What the videos of a subscriber share, in bit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Now, less what audio takes.
    pub now_bps: u64,
    /// What can be relied on for more frames of what is shown, and for a sharper screen, which is there to be read.
    pub steady_bps: u64,
    /// What can be relied on for another encoding, or a video that was paused: everybody sees these come and go.
    pub held_bps: u64,
    /// What the least of the most important video may take: it is the last to go, so this is as much as a queue that does
    /// not stand allows.
    pub last_bps: u64,
    /// Without it every video gets the lowest encoding at least.
    pub may_pause: bool,
}

impl Room {
    fn holds(&self, demand: &VideoDemand, choice: Choice, used: u64) -> bool {
        let after = (used - demand.chosen.map_or(0, |chosen| demand.cost(chosen)) + demand.cost(choice)) as f64;
        if demand.current.is_some_and(|current| current >= choice) {
            return after <= self.now_bps as f64 * LENIENCE;
        }
        let is_shown = |current: Choice| current.encoding == choice.encoding || demand.keeps_resolution;
        let reliable = if demand.current.is_some_and(is_shown) { self.steady_bps } else { self.held_bps };
        after * HEADROOM <= reliable.min(self.now_bps) as f64
    }
}

/// Chooses for all videos of a subscriber: first the least of each, the most important first, then more of each, again the
/// most important first and those of equal importance in turn.
pub fn allocate(room: Room, demands: &mut [VideoDemand]) {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(demands[index].importance));
    let mut used = 0u64;
    for (rank, &index) in order.iter().enumerate() {
        let demand = &mut demands[index];
        demand.chosen = None;
        let Some(least) = demand.least() else { continue };
        if !room.may_pause {
            demand.chosen = Some(Choice { temporal: Choice::WHOLE, ..least });
        } else if room.holds(demand, least, used) || rank == 0 && demand.cost(least) <= room.last_bps {
            demand.chosen = Some(least);
        }
        used += demand.chosen.map_or(0, |chosen| demand.cost(chosen));
    }
    let importance: Vec<u8> = demands.iter().map(|demand| demand.importance).collect();
    for group in order.chunk_by(|&a, &b| importance[a] == importance[b]) {
        let mut goes_up = true;
        while goes_up {
            goes_up = false;
            for &index in group {
                let demand = &mut demands[index];
                let Some(chosen) = demand.chosen else { continue };
                if let Some(next) = demand.above(chosen).find(|next| room.holds(demand, *next, used)) {
                    used = used - demand.cost(chosen) + demand.cost(next);
                    demand.chosen = Some(next);
                    goes_up = true;
                }
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
        shares: [None; 3],
        keeps_resolution: false,
        highest: 2,
        importance: 0,
        current: None,
        chosen: None,
    };
    const LAYERED: VideoDemand = VideoDemand { shares: [Some([0.4, 0.7, 1.0]); 3], ..CAMERA };

    const SCREEN: VideoDemand = VideoDemand { keeps_resolution: true, ..LAYERED };

    fn room(bps: u64) -> Room {
        Room { now_bps: bps, steady_bps: bps, held_bps: bps, last_bps: bps, may_pause: true }
    }

    /// The encodings chosen.
    fn encodings(room: Room, demands: &[VideoDemand]) -> Vec<Option<u8>> {
        chosen(room, demands).into_iter().map(|chosen| chosen.map(|chosen| chosen.encoding)).collect()
    }

    fn chosen(room: Room, demands: &[VideoDemand]) -> Vec<Option<Choice>> {
        let mut demands = demands.to_vec();
        allocate(room, &mut demands);
        demands.iter().map(|demand| demand.chosen).collect()
    }

    fn whole(encoding: u8) -> Option<Choice> {
        Some(Choice { encoding, temporal: Choice::WHOLE })
    }

    #[test]
    fn a_screen_is_sharp_before_it_is_smooth() {
        let of = |bps: u64| chosen(room(bps), &[SCREEN])[0].map(|chosen| (chosen.encoding, chosen.temporal));
        assert_eq!(of(60_000), None);
        assert_eq!(of(100_000), Some((0, 0)));
        assert_eq!(of(185_000), Some((0, Choice::WHOLE)), "nothing sharper fits");
        assert_eq!(of(210_000), Some((1, 0)));
        assert_eq!(of(800_000), Some((2, 0)));
        assert_eq!(of(1_400_000), Some((2, 1)));
        assert_eq!(of(2_000_000), Some((2, Choice::WHOLE)));
        // What is sent goes down by its temporal layers.
        let sent = VideoDemand { current: Some(Choice { encoding: 2, temporal: Choice::WHOLE }), ..SCREEN };
        assert_eq!(chosen(room(1_300_000), &[sent]), [Some(Choice { encoding: 2, temporal: 1 })]);
        assert_eq!(SCREEN.wanted_bps(), 1_700_000);
        assert_eq!(VideoDemand { highest: 1, ..SCREEN }.wanted_bps(), 450_000);
        let without_layers = VideoDemand { shares: [None; 3], ..SCREEN };
        assert_eq!(encodings(room(600_000), &[without_layers]), [Some(1)]);
    }

    #[test]
    fn everybody_gets_the_lowest_and_then_one_more_in_turn() {
        assert_eq!(encodings(room(u64::MAX), &[CAMERA, CAMERA]), [Some(2), Some(2)]);
        assert_eq!(encodings(room(0), &[CAMERA, CAMERA]), [None, None]);
        assert_eq!(encodings(room(200_000), &[CAMERA, CAMERA]), [Some(0), None]);
        assert_eq!(encodings(room(700_000), &[CAMERA, CAMERA]), [Some(1), Some(0)]);
        assert_eq!(encodings(room(1_010_000), &[CAMERA, CAMERA]), [Some(1), Some(1)]);
        let without_pauses = Room { may_pause: false, ..room(0) };
        assert_eq!(encodings(without_pauses, &[LAYERED, CAMERA]), [Some(0), Some(0)]);
    }

    #[test]
    fn the_important_one_comes_first() {
        let stage = VideoDemand { importance: 4, ..LAYERED };
        let small = VideoDemand { highest: 0, ..LAYERED };
        let base = Some(Choice { encoding: 0, temporal: 0 });
        assert_eq!(chosen(room(80_000), &[small, stage]), [None, base]);
        let lenient = Room { last_bps: 70_000, ..room(50_000) };
        assert_eq!(chosen(lenient, &[small, stage]), [None, base]);
        assert_eq!(chosen(room(150_000), &[small, stage]), [base, base]);
        assert_eq!(
            chosen(room(300_000), &[small, small, stage]),
            [base, base, Some(Choice { encoding: 0, temporal: 1 })]
        );
        assert_eq!(chosen(room(2_300_000), &[small, small, stage]), [whole(0), whole(0), whole(2)]);
        let half = Some(Choice { encoding: 1, temporal: 1 });
        assert_eq!(chosen(room(700_000), &[small, stage]), [whole(0), whole(1)]);
        assert_eq!(chosen(room(560_000), &[small, stage]), [whole(0), half]);
    }

    #[test]
    fn wishes_and_missing_encodings_are_respected() {
        let small = VideoDemand { highest: 0, ..CAMERA };
        assert_eq!(encodings(room(u64::MAX), &[small, CAMERA]), [Some(0), Some(2)]);
        let without_middle = VideoDemand { cost_bps: [Some(160_000), None, Some(1_700_000)], ..CAMERA };
        assert_eq!(encodings(room(u64::MAX), &[without_middle]), [Some(2)]);
        assert_eq!(encodings(room(1_000_000), &[without_middle]), [Some(0)]);
        let high_alone = VideoDemand { cost_bps: [None, None, Some(1_700_000)], highest: 0, ..CAMERA };
        assert_eq!(encodings(room(2_000_000), &[high_alone]), [Some(2)]);
        let silent = VideoDemand { cost_bps: [None; 3], ..CAMERA };
        assert_eq!(encodings(room(u64::MAX), &[silent]), [None]);
    }

    #[test]
    fn staying_needs_less_than_going_up() {
        let up = VideoDemand { current: whole(1), ..CAMERA };
        assert_eq!(encodings(room(460_000), &[CAMERA]), [Some(0)]);
        assert_eq!(encodings(room(460_000), &[up]), [Some(1)]);
        assert_eq!(encodings(room(440_000), &[up]), [Some(1)]);
        assert_eq!(encodings(room(400_000), &[up]), [Some(0)]);
        // More of an estimate than has held for a while is not used.
        let rising = Room { steady_bps: 300_000, held_bps: 300_000, ..room(3_000_000) };
        assert_eq!(encodings(rising, &[CAMERA]), [Some(0)]);
        assert_eq!(encodings(rising, &[up]), [Some(1)]);
    }

    #[test]
    fn what_everybody_sees_relies_on_what_has_held() {
        let base = Some(Choice { encoding: 0, temporal: 0 });
        let unsure = Room { held_bps: 100_000, ..room(2_000_000) };
        let camera = VideoDemand { current: base, ..LAYERED };
        assert_eq!(chosen(unsure, &[camera]), [whole(0)], "more frames of it, but nothing larger");
        assert_eq!(chosen(unsure, &[VideoDemand { current: None, ..LAYERED }]), [base], "and less of what was paused");
        assert_eq!(chosen(unsure, &[VideoDemand { current: base, ..SCREEN }]), [whole(2)], "a screen is to be read");
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_wanted_and_fits(
            available: u32,
            demands in proptest::collection::vec((
                proptest::array::uniform3(proptest::option::of(1u64..3_000_000)), 0u8..5,
                proptest::option::of((0u8..3, 0u8..8)), 0u8..3, any::<bool>(),
            ), 0..20),
        ) {
            let mut demands: Vec<_> = demands
                .into_iter()
                .map(|(cost_bps, highest, current, importance, layered)| VideoDemand {
                    keeps_resolution: importance % 2 == 0,
                    cost_bps,
                    highest,
                    importance,
                    shares: [layered.then_some([0.4, 0.7, 1.0]); 3],
                    current: current.map(|(encoding, temporal)| Choice { encoding, temporal }),
                    chosen: None,
                })
                .collect();
            allocate(room(u64::from(available)), &mut demands);
            let mut used = 0;
            for demand in &demands {
                if let Some(chosen) = demand.chosen {
                    prop_assert!(demand.cost_bps[usize::from(chosen.encoding)].is_some());
                    used += demand.cost(chosen);
                    prop_assert!(chosen.encoding <= demand.highest || Some(chosen.encoding) == demand.lowest());
                }
            }
            prop_assert!(used as f64 <= f64::from(available) * LENIENCE + 1.0);
        }
    }
}
