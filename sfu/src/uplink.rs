//! The server's own uplink, shared among rooms and their subscribers.

use std::time::Duration;

use datapath::Now;

use crate::deadlines::Timer;
use crate::sfu::Sfu;

/// How often it is shared anew.
const INTERVAL: Duration = Duration::from_millis(500);
/// What a link is believed to carry may prove to be more, if there is room to try: so much of it is asked for.
const GROWTH: f64 = 2.0;
/// To go up takes so much more than it costs, since bitrates swing.
const ROOM: f64 = 1.15;
/// The same for audio, of which a little is a word.
const AUDIO_ROOM: f64 = 1.3;

/// What one subscriber would be sent, in bit/s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Copies included.
    pub audio_bps: u64,
    pub video_bps: u64,
}

/// Gives every subscriber of every room its part of the uplink, in bit/s. Audio comes first: video shares what is left,
/// fairly among rooms, and what a room has, fairly among its subscribers. *Fairly* is max-min: nobody gets more than it
/// needs, and nobody could get more without taking it from somebody who has less.
pub fn share(uplink_bps: u64, rooms: &[Vec<Need>]) -> Vec<Vec<u64>> {
    let audio = share_part(uplink_bps, rooms, |need| need.audio_bps);
    let used: u64 = audio.iter().flatten().sum();
    let mut shares = share_part(uplink_bps - used, rooms, |need| need.video_bps);
    for (share, audio) in shares.iter_mut().flatten().zip(audio.iter().flatten()) {
        *share += audio;
    }
    shares
}

fn share_part(total_bps: u64, rooms: &[Vec<Need>], part: fn(&Need) -> u64) -> Vec<Vec<u64>> {
    let needs: Vec<Vec<u64>> = rooms.iter().map(|room| room.iter().map(part).collect()).collect();
    let of_rooms: Vec<u64> = needs.iter().map(|room| room.iter().sum()).collect();
    let of_rooms = max_min(total_bps, &of_rooms);
    of_rooms.iter().zip(&needs).map(|(&room_bps, needs)| max_min(room_bps, needs)).collect()
}

/// Who needs least is served first; what it leaves is for the others.
fn max_min(total: u64, needs: &[u64]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|&index| needs[index]);
    let mut left = total;
    let mut shares = vec![0; needs.len()];
    for (served, &index) in order.iter().enumerate() {
        let equal = left / (needs.len() - served) as u64;
        shares[index] = needs[index].min(equal);
        left -= shares[index];
    }
    shares
}

impl Sfu {
    /// Begins to share the uplink, if it is limited.
    pub(crate) fn schedule_uplink(&mut self, now: Now) {
        if self.settings.limits.uplink_bps.is_some() {
            self.uplink_due.schedule(now.instant + INTERVAL, Timer::Uplink, &mut self.deadlines);
        }
    }

    pub(crate) fn share_uplink(&mut self, now: Now) {
        let Some(uplink_bps) = self.settings.limits.uplink_bps else { return };
        let participants = &self.participants;
        let needs = |key: &usize| participants[*key].need();
        let rooms: Vec<Vec<Need>> =
            self.rooms.values().map(|room| room.participants.iter().map(needs).collect()).collect();
        let all: u64 = rooms.iter().flatten().map(|need| need.audio_bps + need.video_bps).sum();
        let shares = (all > uplink_bps).then(|| share(uplink_bps, &rooms));
        let mut shares = shares.iter().flatten().flatten();
        let mut lowered = Vec::new();
        for &key in self.rooms.values().flat_map(|room| &room.participants) {
            let participant = &mut self.participants[key];
            // Who has just come asks with its first allocation.
            let share = shares.next().copied().filter(|_| participant.wanted != Need::default());
            let before = std::mem::replace(&mut participant.uplink_share_bps, share);
            if share.is_some_and(|share| before.is_none_or(|before| share < before)) {
                participant.allocation_due = now.instant;
                lowered.push(key);
            }
        }
        // What is too much is taken back at once.
        for key in lowered {
            self.wake(key, now.instant);
        }
        if !self.rooms.is_empty() {
            self.schedule_uplink(now);
        }
    }
}

/// What a subscriber's audio may take: voices begin, and their bitrates swing.
pub(crate) fn audio_need(audio_bps: u64) -> u64 {
    (audio_bps as f64 * AUDIO_ROOM) as u64
}

/// What a subscriber wants of video, as far as its own link may carry it.
pub(crate) fn video_need(wanted_bps: u64, audio_bps: u64, estimate_bps: u64) -> u64 {
    let carried = (estimate_bps as f64 * GROWTH) as u64;
    ((wanted_bps as f64 * ROOM) as u64).min(carried.saturating_sub(audio_bps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn need(audio_bps: u64, video_bps: u64) -> Need {
        Need { audio_bps, video_bps }
    }

    #[test]
    fn who_needs_little_gets_it_and_the_others_share_the_rest() {
        assert_eq!(max_min(100, &[10, 20, 30]), [10, 20, 30]);
        assert_eq!(max_min(90, &[100, 10, 100]), [40, 10, 40]);
        assert_eq!(max_min(10, &[100, 100, 100]), [3, 3, 4]);
        assert_eq!(max_min(10, &[]), []);
    }

    #[test]
    fn rooms_share_alike_however_many_they_are() {
        let (pair, crowd) = (vec![need(0, 1_000); 2], vec![need(0, 1_000); 10]);
        let shares = share(4_000, &[pair.clone(), crowd.clone()]);
        assert_eq!(shares, [vec![1_000; 2], vec![200; 10]]);
        assert_eq!(share(20_000, &[pair, crowd]), [vec![1_000; 2], vec![1_000; 10]], "enough for all");
    }

    #[test]
    fn audio_comes_before_anybodys_video() {
        let quiet = vec![need(50, 2_000); 2];
        let loud = vec![need(50, 0); 20];
        let shares = share(1_500, &[quiet.clone(), loud.clone()]);
        assert_eq!(shares, [vec![250; 2], vec![50; 20]]);
        let shares = share(550, &[quiet, loud]);
        assert_eq!(shares[0], [50; 2]);
        assert!(shares[1].iter().all(|share| [22, 23].contains(share)), "{shares:?}: less than even audio needs");
    }

    #[test]
    fn a_link_that_carries_little_asks_for_little() {
        assert_eq!(video_need(5_000_000, 50_000, 200_000), 350_000);
        assert_eq!(video_need(100_000, 50_000, u64::MAX), 114_999);
        assert_eq!(video_need(150_000, 50_000, 10_000), 0);
    }

    proptest! {
        #[test]
        fn nothing_is_given_that_is_not_there_or_not_needed(
            uplink: u32,
            rooms in proptest::collection::vec(proptest::collection::vec((0u64..100_000, 0u64..5_000_000), 0..8), 0..6),
        ) {
            let rooms: Vec<Vec<Need>> =
                rooms.into_iter().map(|room| room.into_iter().map(|(audio, video)| need(audio, video)).collect()).collect();
            let shares = share(uplink.into(), &rooms);
            let given: u64 = shares.iter().flatten().sum();
            let needed: u64 = rooms.iter().flatten().map(|need| need.audio_bps + need.video_bps).sum();
            let all = u64::from(uplink).min(needed);
            prop_assert!(given <= all);
            // Whole bits are given, so a few are left.
            prop_assert!(given + 2 * (rooms.len() as u64 + 1) * 9 >= all, "{given} of {all}");
            for (share, need) in shares.iter().flatten().zip(rooms.iter().flatten()) {
                prop_assert!(*share <= need.audio_bps + need.video_bps);
            }
        }
    }
}
