//! A link that several subscribers share, as the guests of a hotel do: they come from one public address, and their queues
//! stand together (coupled congestion control, in the spirit of RFC 8699).
//!
//! Each has an estimate of its own, and what its probes find is more than there is for it: they are over in a moment, in
//! which the others may have sent nothing. So what all of them received while a queue stood before them is remembered as
//! all that the link carries. At first each has an equal part of it, so that who had most yields most. Then, for a while,
//! nobody's estimate rises above what the others leave, or above a fair part; after that probes count again. A link that has
//! become wider shows it before: it is filled, and there is no queue.
//!
//! The short queue that a probe makes is no congestion, whosever it is: else all would yield to each probe.
//!
//! A queue that stays although all of them have yielded is somebody else's, a download's most often: then nobody is bound.

use std::time::{Duration, Instant};

use super::probe_queue::ProbeQueue;

/// What of the link's capacity is used, and the part of an equal share that each may have at least.
const USED: f64 = 0.93;
const FAIR: f64 = 0.9;
/// A queue from this on is one; below the second there is none.
const QUEUE: Duration = Duration::from_millis(40);
const NO_QUEUE: Duration = Duration::from_millis(5);
/// What the link carried bounds for so long.
const HOLD: Duration = Duration::from_secs(20);
/// This part of what the link carried has come and nobody has seen any queue for so long: it may have become wider, by this
/// factor, and again after each step.
const FILLED: f64 = 0.85;
const CALM: Duration = Duration::from_secs(3);
const WIDER: f64 = 1.25;
const STEP: Duration = Duration::from_secs(1);
/// A probe that finds so much more counts after so long without any queue.
const FAR_MORE: f64 = 1.3;
const PROVED: Duration = Duration::from_secs(1);
/// Congestion that follows other congestion so soon is the same, and the most that the link carried in it counts: what
/// arrives is known as a mean of the time before. So long the parts are equal.
const SAME: Duration = Duration::from_secs(3);
/// A queue that stands for so long, although less than this part of what the link carried arrives, is somebody else's.
const STANDS: Duration = Duration::from_secs(2);
const YIELDED: f64 = 0.85;
/// Then nobody is bound for so long.
const UNBOUND: Duration = Duration::from_secs(30);

/// A subscriber behind the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// What arrives.
    pub bps: u64,
    /// How long what arrives has waited in a queue on the way.
    pub queue: Duration,
}

impl Member {
    fn waits(&self) -> bool {
        self.queue >= QUEUE
    }

    fn is_calm(&self) -> bool {
        self.queue < NO_QUEUE
    }
}

/// What those behind one address know together.
#[derive(Clone, Debug, Default)]
pub struct SharedLink {
    members: u64,
    /// How many of them see a queue, since when most do, and what arrives at all of them.
    waiting: u64,
    full_since: Option<Instant>,
    /// How many see none at all; since when nobody sees one, and the most that arrived since then.
    calm: u64,
    calm_since: Option<(Instant, u64)>,
    bps: u64,
    /// All that arrived when the link was last full, and when that was.
    capacity: Option<(u64, Instant)>,
    unbound_until: Option<Instant>,
    /// That of anybody's probe.
    pub probe_queue: ProbeQueue,
}

impl SharedLink {
    /// A member comes, has other figures than before, or goes.
    pub fn change(&mut self, now: Instant, before: Option<Member>, after: Option<Member>) {
        if let Some(before) = before {
            self.members -= 1;
            self.waiting -= u64::from(before.waits());
            self.calm -= u64::from(before.is_calm());
            self.bps -= before.bps;
        }
        if let Some(after) = after {
            self.members += 1;
            self.waiting += u64::from(after.waits());
            self.calm += u64::from(after.is_calm());
            self.bps += after.bps;
        }
        self.widen(now);
        let is_full = self.waiting > 0 && 2 * self.waiting >= self.members;
        self.full_since = if is_full { self.full_since.or(Some(now)) } else { None };
        let has_yielded = self.capacity.is_some_and(|(carried, _)| (self.bps as f64) < YIELDED * carried as f64);
        if has_yielded && self.full_since.is_some_and(|since| now.saturating_duration_since(since) >= STANDS) {
            self.unbound_until = Some(now + UNBOUND);
            self.capacity = None;
        }
    }

    /// What the link carried counts for more while it is filled without a queue.
    fn widen(&mut self, now: Instant) {
        if self.calm < self.members {
            self.calm_since = None;
            return;
        }
        let (since, most) = self.calm_since.map_or((now, self.bps), |(since, most)| (since, most.max(self.bps)));
        self.calm_since = Some((since, most));
        let is_filled = |carried: u64| most as f64 >= FILLED * carried as f64;
        if now.saturating_duration_since(since) >= CALM
            && let Some((carried, _)) = self.capacity.as_mut().filter(|(carried, _)| is_filled(*carried))
        {
            *carried = (*carried as f64 * WIDER) as u64;
            self.calm_since = Some((since + STEP, self.bps));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members == 0
    }

    /// A member has lowered its estimate because of a queue. If most of the others see one too, it is the link's; else
    /// the member has a poor link of its own before the one that all share.
    pub fn note_congestion(&mut self, now: Instant, member: Member) {
        let others = self.members - 1;
        let waiting = self.waiting - u64::from(member.waits());
        if others > 0 && 2 * waiting >= others {
            let is_same = |at: Instant| now.saturating_duration_since(at) < SAME;
            let known = self.capacity.filter(|(_, at)| is_same(*at)).map_or(0, |(carried, _)| carried);
            self.capacity = Some((self.bps.max(known), now));
        }
    }

    /// A probe of a member has found this for it. Beside what the others receive it is much more than the link carried when
    /// it was full: it is wider, or the others were silent for a moment. Without a queue for a while, half of it is believed.
    pub fn note_found(&mut self, now: Instant, member: Member, found_bps: u64) {
        let all = (self.bps - member.bps + found_bps) as f64;
        if let Some((since, _)) = self.calm_since
            && now.saturating_duration_since(since) >= PROVED
            && let Some((carried, _)) = self.capacity.as_mut().filter(|(carried, _)| all > FAR_MORE * *carried as f64)
        {
            *carried = (*carried + all as u64) / 2;
            self.calm_since = Some((now, self.bps));
        }
    }

    /// Up to what the estimate of a member may rise, in bit/s: infinite while nothing is known of the link, and `None` for
    /// who is alone behind it or shares it with others than these.
    pub fn bound_bps(&self, now: Instant, member: Member) -> Option<f64> {
        if self.members < 2 || self.unbound_until.is_some_and(|until| now < until) {
            return None;
        }
        let holds = |at: Instant| now.saturating_duration_since(at) < HOLD;
        let Some((carried, at)) = self.capacity.filter(|(_, at)| holds(*at)) else { return Some(f64::INFINITY) };
        if now.saturating_duration_since(at) < SAME {
            return Some(carried as f64 * USED / self.members as f64);
        }
        let left = carried as f64 * USED - (self.bps - member.bps) as f64;
        Some(left.max(carried as f64 * FAIR / self.members as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn of(now: Instant, members: &[Member]) -> SharedLink {
        let mut link = SharedLink::default();
        members.iter().for_each(|member| link.change(now, None, Some(*member)));
        link
    }

    fn waiting(bps: u64) -> Member {
        Member { bps, queue: QUEUE }
    }

    fn drained(bps: u64) -> Member {
        Member { bps, queue: NO_QUEUE }
    }

    fn calm(bps: u64) -> Member {
        Member { bps, queue: Duration::ZERO }
    }

    #[test]
    fn who_is_alone_is_not_bound_and_two_are_when_both_have_seen_a_queue() {
        let now = crate::test_clock::start();
        let (large, small) = (waiting(2_000_000), waiting(1_000_000));
        let mut alone = of(now, &[large]);
        alone.note_congestion(now, large);
        assert_eq!(alone.bound_bps(now, large), None);
        let mut link = of(now, &[large, small]);
        assert_eq!(link.bound_bps(now, large), Some(f64::INFINITY));
        link.note_congestion(now, large);
        // Equal parts, then what the other leaves, and a fair part.
        assert_eq!(link.bound_bps(now, large), Some(3e6 * 0.93 / 2.0));
        assert_eq!(link.bound_bps(now, small), Some(3e6 * 0.93 / 2.0));
        assert_eq!(link.bound_bps(now + SAME, large), Some(3e6 * 0.93 - 1e6));
        assert_eq!(link.bound_bps(now + SAME, small), Some(3e6 * 0.9 / 2.0));
    }

    #[test]
    fn a_poor_link_of_its_own_binds_nobody() {
        let now = crate::test_clock::start();
        let (good, poor) = (drained(2_000_000), waiting(200_000));
        let mut link = of(now, &[good, good, good, poor]);
        link.note_congestion(now, poor);
        assert_eq!(link.bound_bps(now, good), Some(f64::INFINITY));
    }

    #[test]
    fn the_most_of_one_congestion_counts() {
        let start = crate::test_clock::start();
        let (before, full, less) = (waiting(1_000_000), waiting(1_500_000), waiting(500_000));
        let mut link = of(start, &[before, before]);
        link.note_congestion(start, before);
        link.change(start + S, Some(before), Some(full));
        link.note_congestion(start + S, full);
        link.change(start + S, Some(full), Some(less));
        link.note_congestion(start + S, less);
        assert_eq!(link.bound_bps(start + S + SAME, before), Some(2.5e6 * 0.93 - 0.5e6));
    }

    #[test]
    fn the_last_congestion_holds_for_a_while() {
        let start = crate::test_clock::start();
        let (member, narrower) = (waiting(1_000_000), waiting(500_000));
        let mut link = of(start, &[member, member]);
        let bound = |link: &SharedLink, second: u32| link.bound_bps(start + second * S, narrower);
        link.note_congestion(start, member);
        let drained = drained(900_000);
        link.change(start + S, Some(member), Some(drained));
        link.change(start + S, Some(member), Some(drained));
        link.change(start + 5 * S, Some(drained), Some(narrower));
        link.change(start + 5 * S, Some(drained), Some(narrower));
        link.note_congestion(start + 5 * S, narrower);
        assert_eq!(bound(&link, 24), Some(1e6 * 0.9 / 2.0));
        assert_eq!(bound(&link, 25), Some(f64::INFINITY));
    }

    #[test]
    fn a_queue_of_somebody_else_binds_nobody() {
        let start = crate::test_clock::start();
        let (full, yielded) = (waiting(1_000_000), waiting(600_000));
        let mut link = of(start, &[full, full]);
        link.note_congestion(start, full);
        link.change(start + S, Some(full), Some(yielded));
        link.change(start + S, Some(full), Some(yielded));
        assert!(link.bound_bps(start + S, yielded).is_some());
        link.change(start + 2 * S, Some(yielded), Some(yielded));
        assert_eq!(link.bound_bps(start + 2 * S, yielded), None);
        assert_eq!(link.bound_bps(start + 32 * S, yielded), Some(f64::INFINITY));
    }

    #[test]
    fn who_goes_leaves_its_part_to_the_others() {
        let now = crate::test_clock::start();
        let (large, small) = (waiting(2_000_000), waiting(1_000_000));
        let mut link = of(now, &[large, small, small]);
        link.note_congestion(now, small);
        link.change(now, Some(large), None);
        assert_eq!(link.bound_bps(now + SAME, small), Some(4e6 * 0.93 - 1e6));
        link.change(now, Some(small), None);
        assert_eq!(link.bound_bps(now + SAME, small), None);
        link.change(now, Some(small), None);
        assert!(link.is_empty());
    }

    /// A link of 2 Mbit/s that was full at the start; from the first second on nobody sees a queue, and so much arrives at each.
    fn calm_for(start: Instant, seconds: u32, bps: u64) -> SharedLink {
        let (full, after) = (waiting(1_000_000), calm(bps));
        let mut link = of(start, &[full, full]);
        link.note_congestion(start, full);
        link.change(start + S, Some(full), Some(after));
        for second in 1..=seconds {
            link.change(start + second * S, Some(if second == 1 { full } else { after }), Some(after));
        }
        link
    }

    #[test]
    fn a_link_that_is_filled_without_a_queue_has_become_wider() {
        let start = crate::test_clock::start();
        let bound = |seconds, bps| calm_for(start, seconds, bps).bound_bps(start + SAME, calm(bps)).unwrap().round();
        assert_eq!(bound(3, 900_000), 2e6 * 0.93 - 0.9e6);
        assert_eq!(bound(4, 900_000), 2.5e6 * 0.93 - 0.9e6);
        assert_eq!(bound(5, 900_000), 2.5e6 * 0.93 - 0.9e6, "it is not filled now");
        assert_eq!(bound(5, 500_000), 2e6 * 0.93 - 0.5e6, "nor was it then");
    }

    #[test]
    fn half_of_what_a_probe_finds_is_believed_once_there_is_no_queue() {
        let start = crate::test_clock::start();
        let member = calm(500_000);
        let bound = |seconds, found| {
            let mut link = calm_for(start, seconds, 500_000);
            link.note_found(start + seconds * S, member, found);
            link.bound_bps(start + SAME, member).unwrap().round()
        };
        assert_eq!(bound(1, 3_500_000), 2e6 * 0.93 - 0.5e6, "at once");
        assert_eq!(bound(2, 3_500_000), 3e6 * 0.93 - 0.5e6);
        assert_eq!(bound(2, 2_000_000), 2e6 * 0.93 - 0.5e6, "not much more");
    }
}
