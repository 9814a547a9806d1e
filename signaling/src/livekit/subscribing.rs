//! Who gets which track, and how much of it.

use livekit_protocol::signal_response::Message;
use livekit_protocol::{SubscriptionPermission, SubscriptionPermissionUpdate, UpdateSubscription, UpdateTrackSettings};
use sfu::{Command, Kind, LayerWish, ParticipantId, TrackId};

use super::choices;
use super::identifier;
use super::negotiation::Carries;
use super::room::{Context, Room};
use super::sdp::is_token;
use super::subscription::{Subscription, layer_wish};
use super::subscription_rule::SubscriptionRule;
use super::timers::Timer;

impl Room {
    /// Looks at everything published, for one subscriber.
    pub fn consider_all(&mut self, ctx: &mut Context<'_>, subscriber: ParticipantId) {
        let tracks: Vec<(ParticipantId, TrackId)> = self.tracks.values().copied().collect();
        for (publisher, track) in tracks {
            self.consider(ctx, subscriber, publisher, track);
        }
    }

    /// Looks at everybody, for one track.
    pub fn consider_track(&mut self, ctx: &mut Context<'_>, publisher: ParticipantId, track: TrackId) {
        let everybody: Vec<ParticipantId> = self.sessions.keys().copied().collect();
        for subscriber in everybody {
            self.consider(ctx, subscriber, publisher, track);
        }
    }

    /// Begins or ends a subscription so that it is as wished and as permitted.
    pub fn consider(
        &mut self,
        ctx: &mut Context<'_>,
        subscriber: ParticipantId,
        publisher: ParticipantId,
        track: TrackId,
    ) {
        if subscriber == publisher {
            return;
        }
        let (Some(session), Some(owner)) = (self.sessions.get(&subscriber), self.sessions.get(&publisher)) else {
            return;
        };
        let Some(publication) = owner.publications.get(&track) else {
            return;
        };
        let Some(live) = &publication.live else {
            return;
        };
        let sid = publication.info.sid.clone();
        let allowed = owner.lets_subscribe(session, &sid);
        let wanted = session.permission.can_subscribe && !owner.permission.hidden && allowed && session.wants(&sid);
        let told_forbidden = session.forbidden.contains(&track);
        let exists = session.subscriptions.contains_key(&track);
        // The publisher has chosen the name, and it goes into others' descriptions.
        let shared = Some(&publication.info.stream).filter(|stream| self.sync_streams && is_token(stream));
        let stream_id = format!("{}|{}", owner.sid, shared.unwrap_or(&sid));
        let subscription = Subscription {
            publisher,
            kind: publication.kind,
            codec: live.codec,
            stream_id,
            track_sid: sid.clone(),
            ssrc: identifier::ssrc(ctx.entropy),
            rtx_ssrc: identifier::ssrc(ctx.entropy),
            bound: None,
            impossible: false,
        };
        if allowed == told_forbidden {
            let message = Message::SubscriptionPermissionUpdate(SubscriptionPermissionUpdate {
                participant_sid: owner.sid.clone(),
                track_sid: sid,
                allowed,
            });
            ctx.send(session.connection, message);
            if let Some(session) = self.sessions.get_mut(&subscriber) {
                if allowed {
                    session.forbidden.remove(&track);
                } else {
                    session.forbidden.insert(track);
                }
            }
        }
        if wanted && !exists {
            if let Some(session) = self.sessions.get_mut(&subscriber) {
                session.subscriptions.insert(track, subscription);
            }
            self.schedule_negotiation(ctx, subscriber);
        } else if !wanted && exists {
            self.command(ctx, Command::Unsubscribe { participant: subscriber, track });
            self.end_subscription(ctx, subscriber, track);
        }
    }

    /// Forgets a subscription; its section goes inactive with the next answer.
    pub fn end_subscription(&mut self, ctx: &mut Context<'_>, subscriber: ParticipantId, track: TrackId) {
        let Some(session) = self.sessions.get_mut(&subscriber) else {
            return;
        };
        let Some(subscription) = session.subscriptions.remove(&track) else {
            return;
        };
        if let Some(bound) = subscription.bound {
            session.negotiation.set(&bound.mid, Carries::Ended);
            self.schedule_negotiation(ctx, subscriber);
        }
    }

    pub fn schedule_negotiation(&mut self, ctx: &mut Context<'_>, subscriber: ParticipantId) {
        if let Some(session) = self.sessions.get(&subscriber) {
            let due = session.negotiation.due(ctx.now.instant);
            ctx.timers.set_if_idle(Timer::Negotiate(subscriber), due);
        }
    }

    /// Asks the client for the offer that its subscriptions need. A client that is away, or has no transport yet,
    /// offers by itself when it comes.
    pub fn handle_negotiate_timeout(&mut self, ctx: &mut Context<'_>, subscriber: ParticipantId) {
        let Some(session) = self.sessions.get_mut(&subscriber) else {
            return;
        };
        if session.connection.is_none() || session.negotiation.local_ice.is_none() {
            return;
        }
        let mut waiting = [0; 2];
        for subscription in session.subscriptions.values() {
            if subscription.bound.is_none() && !subscription.impossible {
                waiting[usize::from(subscription.kind == Kind::Video)] += 1;
            }
        }
        if let Some(requirement) = session.negotiation.requirement(ctx.now.instant, waiting) {
            let message = Message::MediaSectionsRequirement(requirement);
            ctx.send(session.connection, message);
        }
    }

    pub fn handle_subscription(
        &mut self,
        ctx: &mut Context<'_>,
        subscriber: ParticipantId,
        request: UpdateSubscription,
    ) {
        let by_participant = request.participant_tracks.into_iter().flat_map(|tracks| tracks.track_sids);
        for sid in choices::named(request.track_sids.into_iter().chain(by_participant)) {
            let Some(session) = self.sessions.get_mut(&subscriber) else {
                return;
            };
            if let Some(choice) = session.choices.get_mut(&sid) {
                choice.subscribe = Some(request.subscribe);
            }
            // A track that does not exist yet is subscribed to when it comes.
            if let Some((publisher, track)) = self.tracks.get(&sid).copied() {
                self.consider(ctx, subscriber, publisher, track);
            }
        }
    }

    pub fn handle_track_setting(
        &mut self,
        ctx: &mut Context<'_>,
        subscriber: ParticipantId,
        request: UpdateTrackSettings,
    ) {
        let setting = UpdateTrackSettings { track_sids: Vec::new(), ..request };
        for sid in choices::named(request.track_sids) {
            let Some(session) = self.sessions.get_mut(&subscriber) else {
                return;
            };
            if let Some(choice) = session.choices.get_mut(&sid) {
                choice.setting = Some(setting.clone());
            }
            let Some((_, track)) = self.tracks.get(&sid).copied() else {
                continue;
            };
            let is_bound = self
                .sessions
                .get(&subscriber)
                .and_then(|session| session.subscriptions.get(&track))
                .is_some_and(|subscription| subscription.bound.is_some());
            if is_bound {
                let wish = self.wish(subscriber, &sid);
                self.command(ctx, Command::SetWish { participant: subscriber, track, wish });
            }
        }
    }

    /// How much of the track the subscriber wants.
    pub fn wish(&self, subscriber: ParticipantId, track_sid: &str) -> LayerWish {
        let publication = self
            .tracks
            .get(track_sid)
            .and_then(|(publisher, track)| self.sessions.get(publisher)?.publications.get(track));
        let (Some(session), Some(publication)) = (self.sessions.get(&subscriber), publication) else {
            return LayerWish::EVERYTHING;
        };
        let setting = session.choices.get(track_sid).and_then(|choice| choice.setting.as_ref());
        match publication.kind {
            Kind::Audio => {
                LayerWish { paused: setting.is_some_and(|setting| setting.disabled), ..LayerWish::EVERYTHING }
            }
            Kind::Video => {
                layer_wish(setting, session.client.adaptive_stream, publication.layers(), &publication.qualities())
            }
        }
    }

    pub fn handle_subscription_permission(
        &mut self,
        ctx: &mut Context<'_>,
        publisher: ParticipantId,
        request: SubscriptionPermission,
    ) {
        let rule = SubscriptionRule::new(request);
        let Some(session) = self.sessions.get_mut(&publisher) else {
            return;
        };
        if session.subscription_rule.is_none() && rule.is_for_everybody() {
            return;
        }
        session.subscription_rule = Some(rule);
        let tracks: Vec<TrackId> = session.publications.keys().copied().collect();
        for track in tracks {
            self.consider_track(ctx, publisher, track);
        }
    }
}
