//! Which encoding of a track each subscription gets.

use std::time::Duration;

use datapath::{Now, Outbox};

use crate::command::{Event, LayerWish};
use crate::congestion::{self, Choice, Priority, Room, VideoDemand};
use crate::layers;
use crate::loudest::{self, Voice};
use crate::pacing::Departure;
use crate::participant::Connection;
use crate::sfu::Sfu;
use crate::uplink::Need;

/// A probe looks for so much more than the videos take at their best.
const PROBE_FOR: f64 = 1.2;
/// While the queue is shorter than this, the last video stays although the estimate fell below it by a third: to pause it
/// for a moment costs a keyframe, which is larger than what it saves.
const QUEUE_SHORT: Duration = Duration::from_millis(150);
const LAST_LENIENCE: f64 = 1.5;
/// An encoding that costs this much of what may be sent is not forwarded until a smaller one begins.
const ABANDONED: f64 = 1.2;
/// Copies of audio may exceed the estimate by this while no queue stands: an estimate is careful, and what they repair is
/// worth more than what they risk.
const COPIES_LENIENCE: f64 = 1.25;
/// Loss from which an estimate that audio does not fit into is believed.
const LOSS_OF_CONGESTION: f64 = 0.05;
/// Kept for reports and requests to the subscriber, in bit/s.
const RTCP_BPS: u64 = 4_000;

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
        // Before that nothing can be sent, and nothing is numbered.
        let is_up = self.participants[subscription.subscriber].connection != Connection::New;
        subscription.forwarder.set_temporal_max(subscription.wish.temporal_max);
        if subscription.wish.paused || track.muted {
            subscription.forwarder.set_target(None);
        } else if !track.is_video() && !subscription.told_paused && is_up {
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
        if muted {
            track.want_nothing();
        }
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

    /// Gives the videos of a subscriber what fits; what then awaits a keyframe is asked for.
    pub(crate) fn allocate(&mut self, now: Now, key: usize, out: &mut Outbox) {
        let participant = &self.participants[key];
        let mut demands = std::mem::take(&mut self.demands);
        demands.clear();
        let mut prospects = std::mem::take(&mut self.prospects);
        prospects.clear();
        let mut videos = std::mem::take(&mut self.videos);
        videos.clear();
        let mut voices = std::mem::take(&mut self.voices);
        voices.clear();
        for sink in participant.sinks.iter().filter(|sink| !sink.is_repair) {
            let subscription = &self.subscriptions[sink.subscription];
            let track = &mut self.tracks[subscription.track];
            if subscription.wish.paused || track.muted {
                continue;
            }
            if !track.is_video() {
                let cost_bps = layers::costs(&mut track.activity, now.instant);
                let audio = track.audio.as_ref();
                let voice = Voice {
                    key: sink.subscription,
                    level: audio.map_or(0.0, |audio| audio.level(now.instant)),
                    spoke: audio.is_some_and(|audio| audio.spoke(now.instant)),
                    cost_bps: cost_bps[0].unwrap_or(0),
                    is_heard: !subscription.told_paused,
                    chosen: true,
                };
                voices.push(voice);
                continue;
            }
            let is_capped = self.participants[track.publisher].cap.is_on();
            let [cost_bps, prospect_bps] = track.costs(now.instant, is_capped);
            let highest = subscription.wish.spatial_max.min(track.top());
            let shares = layers::shares(&track.activity);
            let (current, publisher) = (subscription.allocated, track.publisher);
            let keeps_resolution = track.spec.screen;
            let importance = self.importance(now, publisher, highest, keeps_resolution);
            let demand = VideoDemand { cost_bps, shares, keeps_resolution, highest, importance, current, chosen: None };
            demands.push(demand);
            // What is forwarded of a capped video is not what it would be: all of that would be new.
            let current = current.filter(|_| !is_capped);
            prospects.push(VideoDemand { cost_bps: prospect_bps, current, ..demand });
            videos.push(sink.subscription);
        }
        let available = self.consider_link(now, key, &voices, &prospects);
        let audio_bps = self.choose_voices(now, key, available, &mut voices);
        self.voices = voices;
        let room = self.room_for_video(now, key, available, audio_bps, &demands);
        congestion::allocate(room, &mut demands);
        self.pace(key, available, audio_bps, &demands);
        let encoding = |choice: Option<Choice>| choice.map(|choice| choice.encoding);
        let is_up = demands.iter().any(|demand| encoding(demand.chosen) > encoding(demand.current));
        let is_down =
            demands.iter().any(|demand| demand.is_alive() && encoding(demand.chosen) < encoding(demand.current));
        self.participants[key].steady.note_steps(now.instant, is_up, is_down);
        let most = demands.iter().map(|demand| demand.importance).max();
        for (&video, demand) in videos.iter().zip(&demands) {
            let subscription = &mut self.subscriptions[video];
            let track = subscription.track;
            let is_less = demand.chosen < demand.current;
            subscription.allocated = demand.chosen;
            let priority = if Some(demand.importance) == most { Priority::Stage } else { Priority::Rest };
            let before = std::mem::replace(&mut subscription.priority, priority);
            if before == Priority::Rest && priority == Priority::Stage {
                // What of it waits already goes along: else it would be overtaken, missed, and sent again.
                let is_its = |departure: &Departure| departure.subscription == video && !departure.is_repair;
                self.participants[key].pacer.promote(is_its);
            }
            // Nothing is sent yet: whatever comes first will do, and the lowest comes first.
            let is_paused = demand.chosen.is_none() && demand.is_alive();
            let target = demand.chosen.map_or(0, |chosen| chosen.encoding);
            let temporal = demand.chosen.map_or(Choice::WHOLE, |chosen| chosen.temporal);
            subscription.forwarder.set_target((!is_paused).then_some(target));
            subscription.forwarder.set_temporal_max(subscription.wish.temporal_max.min(temporal));
            if is_less {
                // Far too large a picture stops at once instead of going on until the smaller one begins.
                let current = demand.current.map_or(0, |current| demand.cost(current));
                if current as f64 > available as f64 * ABANDONED {
                    subscription.forwarder.abandon();
                }
                let forwarder = &subscription.forwarder;
                self.participants[key]
                    .pacer
                    .retain(|departure| departure.subscription != video || forwarder.is_forwarding(departure.encoding));
            }
            if let Some(encoding) = subscription.forwarder.wants_keyframe() {
                self.request_keyframe(now, track, encoding, out);
            }
            self.tell_paused(video, is_paused);
        }
        self.consider_reach(now, room, &videos, &demands, &mut prospects);
        self.prospects = prospects;
        self.demands = demands;
        self.videos = videos;
        self.schedule_departures(key);
    }

    /// What a subscriber shows large comes first; of what it shows alike a screen, and then whose publisher spoke lately.
    fn importance(&self, now: Now, publisher: usize, shown: u8, is_screen: bool) -> u8 {
        let mut tracks = self.participants[publisher].tracks.iter();
        let speaks =
            tracks.any(|&track| self.tracks[track].audio.as_ref().is_some_and(|audio| audio.spoke(now.instant)));
        4 * shown.min(2) + 2 * u8::from(is_screen) + u8::from(speaks)
    }

    /// What may be sent now, in bit/s. The estimate is told what to look for.
    fn consider_link(&mut self, now: Now, key: usize, voices: &[Voice], demands: &[VideoDemand]) -> u64 {
        let participant = &mut self.participants[key];
        let copies = participant.audio_repair.wanted() as u64;
        let audio_bps = voices.iter().map(|voice| voice.cost_bps).sum::<u64>() * (1 + copies);
        let video_bps: u64 = demands.iter().map(VideoDemand::wanted_bps).sum();
        participant.wanted = Need { audio_bps, video_bps };
        let is_audio_alone = demands.is_empty() && voices.iter().all(|voice| voice.is_heard);
        let limit = participant.limit_bps();
        let wanted = ((video_bps as f64 * PROBE_FOR) as u64).saturating_add(audio_bps);
        // A video waits for what may be relied on, so that is what is looked for: nothing else would ever bring it back.
        let waits =
            |demand: &VideoDemand| demand.current.is_none_or(|current| demand.cost(current) < demand.wanted_bps());
        let is_short = demands.iter().any(waits);
        let wanted = if is_short { participant.steady.needed_bps(wanted) } else { wanted }.min(limit);
        participant.estimate.handle_timeout(now.instant, if is_audio_alone { 0 } else { wanted });
        participant.estimate.available_bps().min(limit)
    }

    /// The pacer lets go what is estimated, and what was chosen beyond that on purpose.
    fn pace(&mut self, key: usize, available: u64, audio_bps: u64, demands: &[VideoDemand]) {
        let participant = &mut self.participants[key];
        let copies = participant.audio_repair.wanted() as u64;
        let videos: u64 = demands.iter().map(|demand| demand.chosen.map_or(0, |chosen| demand.cost(chosen))).sum();
        participant.chosen_bps = audio_bps * (1 + copies) + videos + RTCP_BPS;
        let is_paced = participant.estimate.is_exact();
        let paced = available.max(participant.chosen_bps) as f64;
        participant.pacer.set_estimate(if is_paced { paced } else { f64::INFINITY });
    }

    /// Lets the subscriber hear whom its link has room for: most often everybody. Returns what they take, without copies.
    fn choose_voices(&mut self, now: Now, key: usize, available_bps: u64, voices: &mut [Voice]) -> u64 {
        let participant = &mut self.participants[key];
        let estimate = &participant.estimate;
        // An estimate that has not been tried proves nothing: it takes signs of congestion to leave somebody out.
        let is_congested = estimate.is_exact()
            && (estimate.queue() >= QUEUE_SHORT || estimate.loss().is_some_and(|loss| loss >= LOSS_OF_CONGESTION));
        let left_out = voices.iter().filter(|voice| !voice.is_heard).map(|voice| voice.cost_bps).max();
        let may_try = participant.voice_trial.is_due(now.instant, left_out.is_some(), is_congested);
        let available = available_bps.saturating_sub(RTCP_BPS);
        let room_bps = if is_congested {
            available
        } else {
            let heard: u64 = voices.iter().filter(|voice| voice.is_heard).map(|voice| voice.cost_bps).sum();
            let tried = if may_try { left_out.unwrap_or(0) * 2 } else { 0 };
            available.max(heard + tried).min(participant.limit_bps())
        };
        let taken = loudest::choose(room_bps, voices);
        for voice in voices.iter().filter(|voice| voice.chosen != voice.is_heard) {
            // Between two packets, so that the subscriber's numbers have no gap.
            self.subscriptions[voice.key].forwarder.set_target(voice.chosen.then_some(0));
            self.tell_paused(voice.key, !voice.chosen);
        }
        taken
    }

    /// What is left for video when audio and its copies have theirs.
    fn room_for_video(
        &mut self,
        now: Now,
        key: usize,
        available: u64,
        audio_bps: u64,
        demands: &[VideoDemand],
    ) -> Room {
        let participant = &mut self.participants[key];
        let is_paced = participant.estimate.is_exact();
        participant.steady.take(now.instant, available);
        let loss = participant.estimate.loss().unwrap_or(0.0);
        let queue = participant.estimate.queue();
        let lenience = if queue < QUEUE_SHORT { COPIES_LENIENCE } else { 1.0 };
        let budget = available as f64 * lenience / audio_bps.max(1) as f64 - 1.0;
        if self.settings.audio_repair {
            participant.audio_repair.update(now.instant, loss, queue, budget);
        }
        let audio = audio_bps * (1 + participant.audio_repair.wanted() as u64) + if is_paced { RTCP_BPS } else { 0 };
        // What is lost is sent again.
        let left = |bps: u64| {
            if bps == u64::MAX { bps } else { (bps.saturating_sub(audio) as f64 * (1.0 - loss)) as u64 }
        };
        let is_short = participant.estimate.queue() < QUEUE_SHORT;
        let is_shown = demands.iter().any(|demand| demand.current.is_some());
        let last = available as f64 * if is_short && is_shown { LAST_LENIENCE } else { 1.0 };
        Room {
            now_bps: left(available),
            steady_bps: left(participant.steady.bps()),
            held_bps: left(participant.steady.held_bps()),
            last_bps: (last as u64).saturating_sub(audio),
            may_pause: is_paced || participant.uplink_share_bps.is_some(),
        }
    }

    /// Says that a video, or a voice, does not fit, or fits again.
    fn tell_paused(&mut self, key: usize, is_paused: bool) {
        let subscription = &mut self.subscriptions[key];
        if std::mem::replace(&mut subscription.told_paused, is_paused) != is_paused {
            let participant = self.participants[subscription.subscriber].id;
            let track = self.tracks[subscription.track].id;
            self.events.push_back(Event::SubscriptionPaused { participant, track, paused: is_paused });
        }
    }
}
