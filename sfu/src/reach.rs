//! What a publisher need not send because the links of everybody who would take it do not carry it.
//!
//! - [`Reach`], one per subscription, says up to which encoding its link reaches. An encoding that no link reaches is
//!   reported as not wanted ([`crate::Event::EncodingsWanted`]), and counts with what it cost when it was last sent.
//! - Where not even the lowest encoding reaches anybody whole, its publisher is told by REMB how much does.

use std::time::{Duration, Instant};

use datapath::Now;

use crate::command::Event;
use crate::congestion::{self, Choice, Room, VideoDemand};
use crate::layers::is_alive;
use crate::published_track::PublishedTrack;
use crate::sfu::Sfu;

/// A link reaches less when it has for so long: what was given up takes the publisher a keyframe to bring back.
const HOLD: Duration = Duration::from_secs(5);
/// A publisher is capped when nobody has had room for its video for so long.
const CAP_HOLD: Duration = Duration::from_secs(4);
/// A video may take so much of the room that there is, since bitrates swing.
const FILLED: f64 = 0.85;
/// The least that a video is capped to, in bit/s: a picture of 180 lines can be made of it.
const VIDEO_MIN: u64 = 60_000;
/// What comes to a publisher's audio for bitrates that swing.
const AUDIO_MARGIN: f64 = 1.3;
/// No cap, in bit/s.
const UNCAPPED: u64 = 100_000_000;

/// How far one subscription reaches.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    limit: u8,
    /// Since when it is less, and the most in that time.
    less: Option<(Instant, u8)>,
    /// What the link has for the video where it does not carry the lowest encoding whole, in bit/s.
    room_bps: Option<u64>,
}

impl Default for Reach {
    fn default() -> Reach {
        Reach { limit: u8::MAX, less: None, room_bps: None }
    }
}

impl Reach {
    /// The highest encoding that can be given; `u8::MAX` while nothing is out of reach.
    pub fn limit(&self) -> u8 {
        self.limit
    }

    /// `fits`: the highest encoding that there is room for, of those up to `highest`. True when the limit has changed.
    pub fn update(&mut self, now: Instant, fits: u8, highest: u8) -> bool {
        let fits = if fits >= highest { u8::MAX } else { fits };
        if fits >= self.limit {
            self.less = None;
            return std::mem::replace(&mut self.limit, fits) != fits;
        }
        let (since, most) = self.less.get_or_insert((now, fits));
        *most = fits.max(*most);
        if now.saturating_duration_since(*since) < HOLD {
            return false;
        }
        self.limit = *most;
        self.less = None;
        true
    }
}

/// The cap of one publisher.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cap {
    since: Option<Instant>,
    bps: Option<u64>,
    /// Its end is told with every report from then on: reports get lost, and for long on a link that is away.
    has_ended: bool,
}

impl Cap {
    pub fn is_on(&self) -> bool {
        self.bps.is_some()
    }

    /// What there is room for, in bit/s, or `None` when somebody takes everything. Returns the REMB to send now.
    fn update(&mut self, now: Instant, room_bps: Option<u64>) -> Option<u64> {
        let Some(room_bps) = room_bps else {
            self.has_ended |= self.bps.take().is_some();
            self.since = None;
            return self.has_ended.then_some(UNCAPPED);
        };
        if now.saturating_duration_since(*self.since.get_or_insert(now)) >= CAP_HOLD {
            self.bps = Some(room_bps);
            self.has_ended = false;
        }
        self.bps
    }
}

impl Sfu {
    /// After the videos of a subscriber were given what fits of what is being sent: what would fit if the publishers sent
    /// everything. `prospects` are the demands with the costs of that, `demands` the answered ones.
    pub(crate) fn consider_reach(
        &mut self,
        now: Now,
        room: Room,
        videos: &[usize],
        demands: &[VideoDemand],
        prospects: &mut [VideoDemand],
    ) {
        let cost = |demand: &VideoDemand| demand.chosen.map_or(0, |chosen| demand.cost(chosen));
        let used: u64 = demands.iter().map(cost).sum();
        let is_same = |(prospect, demand): (&VideoDemand, &VideoDemand)| {
            (prospect.cost_bps, prospect.current) == (demand.cost_bps, demand.current)
        };
        if used <= room.now_bps && prospects.iter().zip(demands).all(is_same) {
            prospects.iter_mut().zip(demands).for_each(|(prospect, demand)| prospect.chosen = demand.chosen);
        } else {
            // What is kept beyond what there is room for, so that the last picture stays, does not fit.
            congestion::allocate(Room { last_bps: room.now_bps, ..room }, prospects);
        }
        for (at, (&video, prospect)) in videos.iter().zip(prospects.iter()).enumerate() {
            let there = |encoding: &u8| prospect.cost_bps[usize::from(*encoding)].is_some();
            let Some(highest) = (0..=prospect.highest.min(2)).rev().find(there) else { continue };
            let lowest = (0..=highest).find(there).unwrap_or(highest);
            let subscription = &mut self.subscriptions[video];
            let fits = prospect.chosen.map_or(lowest, |chosen| chosen.encoding);
            let is_whole = |chosen: Choice| chosen.encoding > lowest || chosen.temporal == Choice::WHOLE;
            let others = used - cost(&demands[at]);
            let room_bps = (room.now_bps.min(room.steady_bps) as f64 * FILLED) as u64;
            subscription.reach.room_bps =
                (!prospect.chosen.is_some_and(is_whole)).then(|| room_bps.saturating_sub(others));
            let track = subscription.track;
            if subscription.reach.update(now.instant, fits, highest) {
                self.report_wanted_encodings(track);
            }
        }
    }

    /// The REMB that a publisher is to be sent now, if any.
    pub(crate) fn publisher_cap(&mut self, now: Now, key: usize) -> Option<u64> {
        let room = self.room_for_publisher(now, key);
        self.participants[key].cap.update(now.instant, room)
    }

    /// What all that a participant publishes has room for at those who take it, in bit/s; `None` when one of its videos
    /// is limited by nobody's link.
    fn room_for_publisher(&mut self, now: Now, key: usize) -> Option<u64> {
        let mut videos = 0;
        let mut all = 0;
        for &track in &self.participants[key].tracks {
            let PublishedTrack { subscriptions, activity, muted, audio, wanted, .. } = &mut self.tracks[track];
            let sent: u64 = activity.iter_mut().map(|encoding| encoding.bitrate_bps(now.instant)).sum();
            let takers = subscriptions.iter().map(|&key| &self.subscriptions[key]);
            let mut takers = takers.filter(|subscription| !subscription.wish.paused).peekable();
            if *muted || takers.peek().is_none() {
                all += sent;
            } else if audio.is_some() {
                all += (sent as f64 * AUDIO_MARGIN) as u64;
            } else if wanted.is_some_and(|wanted| wanted > 0) || (1..activity.len()).any(|up| is_alive(activity, up)) {
                // The encodings above the lowest rest first. A publisher that does not let them would share a cap out among
                // all, and nobody would have a good picture.
                return None;
            } else {
                videos += 1;
                let mut rooms = takers.map(|subscription| subscription.reach.room_bps);
                let most = rooms.try_fold(0, |most: u64, room| Some(most.max(room?)))?;
                all += most.max(VIDEO_MIN);
            }
        }
        (videos > 0).then_some(all)
    }

    /// Tells the control plane when the highest encoding that anybody wants, and whose link reaches it, has changed
    /// (dynacast).
    pub(crate) fn report_wanted_encodings(&mut self, key: usize) {
        let track = &mut self.tracks[key];
        if !track.is_video() {
            return;
        }
        let top = track.top();
        let takers = track.subscriptions.iter().map(|&subscription| &self.subscriptions[subscription]);
        let wanted = takers
            .filter(|subscription| !subscription.wish.paused)
            .map(|subscription| subscription.wish.spatial_max.min(top).min(subscription.reach.limit()));
        let highest = wanted.max();
        if highest != track.wanted {
            track.wanted = highest;
            self.events.push_back(Event::EncodingsWanted { track: track.id, highest });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    fn at(ms: u64) -> Instant {
        start() + Duration::from_millis(ms)
    }

    #[test]
    fn a_link_reaches_less_after_a_while_and_more_at_once() {
        let mut reach = Reach::default();
        assert!(!reach.update(at(0), 2, 2));
        assert!(!reach.update(at(1_000), 0, 2));
        assert!(!reach.update(at(3_000), 1, 2));
        assert!(!reach.update(at(5_999), 0, 2));
        assert_eq!(reach.limit(), u8::MAX);
        assert!(reach.update(at(6_000), 0, 2));
        assert_eq!(reach.limit(), 1, "the most of those seconds");
        assert!(!reach.update(at(6_250), 0, 2));
        assert!(!reach.update(at(9_000), 1, 2), "it reaches that far again");
        assert!(!reach.update(at(12_000), 0, 2));
        assert!(reach.update(at(17_000), 0, 2));
        assert_eq!(reach.limit(), 0);
        assert!(reach.update(at(17_250), 2, 2));
        assert_eq!(reach.limit(), u8::MAX);
    }

    #[test]
    fn what_is_not_wished_for_is_not_out_of_reach() {
        let mut reach = Reach::default();
        for second in 0..20 {
            assert!(!reach.update(at(1_000 * second), 0, 0));
        }
        assert_eq!(reach.limit(), u8::MAX);
    }

    #[test]
    fn a_cap_begins_late_and_ends_at_once() {
        let mut cap = Cap::default();
        assert_eq!(cap.update(at(0), Some(200_000)), None);
        assert_eq!(cap.update(at(2_000), None), None, "nothing was told, nothing is to be taken back");
        assert_eq!(cap.update(at(3_000), Some(200_000)), None);
        assert_eq!(cap.update(at(7_000), Some(150_000)), Some(150_000));
        assert_eq!(cap.update(at(8_000), Some(170_000)), Some(170_000));
        assert!(cap.is_on());
        for second in 9..60 {
            assert_eq!(
                cap.update(at(1_000 * second), None),
                Some(UNCAPPED),
                "who hears nothing for long learns it too"
            );
            assert!(!cap.is_on());
        }
        assert_eq!(cap.update(at(60_000), Some(200_000)), None);
    }
}
