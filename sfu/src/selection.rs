//! Which encoding of a track each subscription gets, and what is asked of the publisher for it.

use datapath::Now;

use crate::command::{Event, LayerWish};
use crate::sfu::Sfu;
use crate::track::Kind;

impl Sfu {
    /// The subscriber's transport is ready: everything that it subscribes to begins.
    pub(crate) fn start_subscriptions(&mut self, now: Now, key: usize) {
        for at in 0..self.participants[key].sinks.len() {
            let sink = self.participants[key].sinks[at];
            if !sink.is_repair {
                self.start_subscription(now, sink.subscription);
            }
        }
    }

    pub(crate) fn start_subscription(&mut self, now: Now, key: usize) {
        self.choose_encoding(now, key);
        self.wake(self.subscriptions[key].subscriber, now.instant);
    }

    pub(crate) fn set_wish(&mut self, now: Now, key: usize, wish: LayerWish) {
        self.subscriptions[key].wish = wish;
        self.choose_encoding(now, key);
        self.report_wanted_encodings(self.subscriptions[key].track);
        self.wake(self.subscriptions[key].subscriber, now.instant);
    }

    pub(crate) fn set_muted(&mut self, now: Now, key: usize, muted: bool) {
        self.tracks[key].muted = muted;
        for at in 0..self.tracks[key].subscriptions.len() {
            let subscription = self.tracks[key].subscriptions[at];
            self.start_subscription(now, subscription);
        }
    }

    fn choose_encoding(&mut self, now: Now, key: usize) {
        let subscription = &mut self.subscriptions[key];
        let track = &self.tracks[subscription.track];
        let top = track.encodings.len() as u8 - 1;
        let wanted = subscription.wish.spatial_max.min(top);
        let alive = |encoding: &u8| track.encodings[usize::from(*encoding)].is_alive(now.instant);
        let best = (0..=wanted).rev().find(alive).unwrap_or(wanted);
        let target = (!subscription.wish.paused && !track.muted).then_some(best);
        subscription.forwarder.set_target(target);
        subscription.forwarder.set_temporal_max(subscription.wish.temporal_max);
    }

    /// Tells the control plane when the highest encoding that anybody wants has changed (dynacast).
    pub(crate) fn report_wanted_encodings(&mut self, key: usize) {
        let track = &self.tracks[key];
        if track.spec.codec.kind() == Kind::Audio {
            return;
        }
        let top = track.encodings.len() as u8 - 1;
        let highest = track
            .subscriptions
            .iter()
            .map(|&subscription| self.subscriptions[subscription].wish)
            .filter(|wish| !wish.paused)
            .map(|wish| wish.spatial_max.min(top))
            .max();
        if highest != track.wanted {
            self.tracks[key].wanted = highest;
            self.events.push_back(Event::EncodingsWanted { track: self.tracks[key].id, highest });
        }
    }

    pub(crate) fn limit_bandwidth(&mut self, _now: Now, _key: usize, _bitrate_bps: Option<u64>) {}

    pub(crate) fn compare_speakers(&mut self, _now: Now) {}

    pub(crate) fn forget_speaker(&mut self, _now: Now, _participant: usize) {}
}
