//! Which encoding of a track each subscription gets.

use datapath::{Now, Outbox};

use crate::command::{Event, LayerWish};
use crate::congestion::{self, VideoDemand};
use crate::layers;
use crate::sfu::Sfu;

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

    /// A subscription is new, or what it depends on has changed: its subscriber's videos are given their encodings anew
    /// at once.
    pub(crate) fn start_subscription(&mut self, now: Now, key: usize) {
        let subscription = &mut self.subscriptions[key];
        let track = &self.tracks[subscription.track];
        subscription.forwarder.set_temporal_max(subscription.wish.temporal_max);
        if subscription.wish.paused || track.muted {
            subscription.forwarder.set_target(None);
        } else if !track.is_video() {
            subscription.forwarder.set_target(Some(0));
        }
        let subscriber = subscription.subscriber;
        self.participants[subscriber].allocation_due = now.instant;
        self.wake(subscriber, now.instant);
    }

    pub(crate) fn set_wish(&mut self, now: Now, key: usize, wish: LayerWish) {
        self.subscriptions[key].wish = wish;
        self.start_subscription(now, key);
        self.report_wanted_encodings(self.subscriptions[key].track);
    }

    pub(crate) fn set_muted(&mut self, now: Now, key: usize, muted: bool) {
        let track = &mut self.tracks[key];
        track.muted = muted;
        track.audio.iter_mut().for_each(|audio| audio.clear());
        for at in 0..self.tracks[key].subscriptions.len() {
            let subscription = self.tracks[key].subscriptions[at];
            self.start_subscription(now, subscription);
        }
    }

    pub(crate) fn limit_bandwidth(&mut self, now: Now, key: usize, bitrate_bps: Option<u64>) {
        let participant = &mut self.participants[key];
        participant.bandwidth_limit_bps = bitrate_bps;
        participant.allocation_due = now.instant;
        self.wake(key, now.instant);
    }

    /// Gives the videos of a subscriber their encodings, such that they fit; what then awaits a keyframe is asked for.
    pub(crate) fn allocate(&mut self, now: Now, key: usize, out: &mut Outbox) {
        let participant = &mut self.participants[key];
        participant.estimate.handle_timeout(now.instant);
        let limit = participant.bandwidth_limit_bps.unwrap_or(u64::MAX);
        let mut available = participant.estimate.available_bps().min(limit);
        let mut demands = std::mem::take(&mut self.demands);
        demands.clear();
        let mut videos = std::mem::take(&mut self.videos);
        videos.clear();
        for sink in participant.sinks.iter().filter(|sink| !sink.is_repair) {
            let subscription = &self.subscriptions[sink.subscription];
            let track = &mut self.tracks[subscription.track];
            if subscription.wish.paused || track.muted {
                continue;
            }
            let cost_bps = layers::costs(&mut track.activity, now.instant);
            if !track.is_video() {
                available = available.saturating_sub(cost_bps[0].unwrap_or(0));
                continue;
            }
            let highest = subscription.wish.spatial_max.min(track.top());
            let current = subscription.forwarder.current();
            demands.push(VideoDemand { cost_bps, highest, current, chosen: None });
            videos.push(sink.subscription);
        }
        congestion::allocate(available, &mut demands);
        for (&video, demand) in videos.iter().zip(&demands) {
            let subscription = &mut self.subscriptions[video];
            let track = subscription.track;
            // Nothing is sent yet: whatever comes first will do, and the lowest comes first.
            subscription.forwarder.set_target(Some(demand.chosen.unwrap_or(0)));
            if let Some(encoding) = subscription.forwarder.wants_keyframe() {
                self.request_keyframe(now, track, encoding, out);
            }
        }
        self.demands = demands;
        self.videos = videos;
    }

    /// Tells the control plane when the highest encoding that anybody wants has changed (dynacast).
    pub(crate) fn report_wanted_encodings(&mut self, key: usize) {
        let track = &mut self.tracks[key];
        if !track.is_video() {
            return;
        }
        let top = track.top();
        let wishes = track.subscriptions.iter().map(|&subscription| self.subscriptions[subscription].wish);
        let highest = wishes.filter(|wish| !wish.paused).map(|wish| wish.spatial_max.min(top)).max();
        if highest != track.wanted {
            track.wanted = highest;
            self.events.push_back(Event::EncodingsWanted { track: track.id, highest });
        }
    }
}
