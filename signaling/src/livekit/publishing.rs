//! Announcing, muting and ending what a participant publishes.

use livekit_protocol::request_response::{Reason, Request};
use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    AddTrackRequest, MuteTrackRequest, RequestResponse, SubscribedQualityUpdate, TrackPublishedResponse, TrackSource,
    TrackUnpublishedResponse, UpdateLocalAudioTrack, UpdateLocalVideoTrack,
};
use sfu::{Command, ParticipantId, TrackId};

use super::dynacast;
use super::publication::{self, FEATURES_MAX, Publication};
use super::room::{Context, Room};
use super::sdp::codec;
use super::settings::NAME_LIMIT;
use super::timers::Timer;

pub fn respond(reason: Reason, message: &str, request: Request) -> Message {
    Message::RequestResponse(RequestResponse {
        request_id: 0,
        reason: reason as i32,
        message: message.into(),
        request: Some(request),
    })
}

impl Room {
    pub fn handle_add_track(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, request: AddTrackRequest) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        let connection = session.connection;
        let source = TrackSource::try_from(request.source).unwrap_or(TrackSource::Unknown);
        let refusal = if !session.may_publish(source) {
            Some((Reason::NotAllowed, "not permitted to publish this source"))
        } else if !request.sid.is_empty() {
            // A further codec for a published track: only one codec of a track is forwarded.
            match session.publication_by_sid(&request.sid) {
                Some(_) => Some((Reason::UnsupportedType, "backup codecs are not supported")),
                None => Some((Reason::NotFound, "no such track")),
            }
        } else if session.publications.len() >= ctx.settings.limits.tracks_per_participant {
            Some((Reason::LimitExceeded, "too many tracks"))
        } else if publication::longest_name(&request) > NAME_LIMIT {
            Some((Reason::LimitExceeded, "a name of the track is too long"))
        } else {
            None
        };
        if let Some((reason, text)) = refusal {
            let answer = respond(reason, text, Request::AddTrack(request));
            return ctx.send(connection, answer);
        }
        // The same track announced again while it is pending keeps its sid.
        let pending = session.publications.values().find(|known| known.live.is_none() && known.cid == request.cid);
        let published = match pending {
            Some(known) => known.info.clone(),
            None => {
                let id = TrackId(ctx.directory.next_id());
                let cid = request.cid.clone();
                let echo = request.clone();
                let Some(publication) = Publication::new(request, id, ctx.now.unix, ctx.entropy) else {
                    let answer = respond(Reason::UnsupportedType, "not a media track", Request::AddTrack(echo));
                    return ctx.send(connection, answer);
                };
                let info = publication.info.clone();
                self.tracks.insert(info.sid.clone(), (participant, id));
                ctx.directory.tracks.insert(id, (self.id, participant));
                session.publications.insert(id, publication);
                let message = Message::TrackPublished(TrackPublishedResponse { cid, track: Some(info) });
                return ctx.send(connection, message);
            }
        };
        let message = Message::TrackPublished(TrackPublishedResponse { cid: request.cid, track: Some(published) });
        ctx.send(connection, message);
    }

    /// The owner's own mute. The value has to stick: clients compare it with theirs and send again if it differs.
    pub fn handle_mute(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, request: MuteTrackRequest) {
        if let Some(publication) = self.publication_mut(participant, &request.sid) {
            publication.mute_demanded = false;
        }
        if !self.set_muted(ctx, participant, &request.sid, request.muted)
            && let Some(session) = self.sessions.get(&participant)
        {
            let answer = respond(Reason::NotFound, "no such track", Request::Mute(request));
            ctx.send(session.connection, answer);
        }
    }

    /// The server mutes a track.
    pub fn demand_mute(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, sid: &str) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        let Some(publication) = session.publications.values_mut().find(|publication| publication.info.sid == sid)
        else {
            return;
        };
        publication.mute_demanded = true;
        // Before the update: livekit-client answers one that says muted of a track that is not with an unmute.
        ctx.send(session.connection, Message::Mute(publication.mute()));
        self.set_muted(ctx, participant, sid, true);
    }

    /// False if the participant has no such track.
    pub fn set_muted(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, sid: &str, muted: bool) -> bool {
        let Some(publication) = self.publication_mut(participant, sid) else {
            return false;
        };
        let track = publication.id;
        let changed = publication.info.muted != muted;
        publication.info.muted = muted;
        let live = publication.live.as_mut().map(|live| live.spec.muted = muted);
        if live.is_some() && changed {
            self.command(ctx, Command::SetMuted { track, muted });
            self.announce(ctx, participant, true);
        }
        true
    }

    pub fn publication_mut(&mut self, participant: ParticipantId, sid: &str) -> Option<&mut Publication> {
        self.sessions.get_mut(&participant)?.publications.values_mut().find(|publication| publication.info.sid == sid)
    }

    pub fn handle_update_audio_track(
        &mut self,
        ctx: &mut Context<'_>,
        participant: ParticipantId,
        request: UpdateLocalAudioTrack,
    ) {
        match self.publication_mut(participant, &request.track_sid) {
            Some(publication) => {
                publication.info.audio_features = request.features;
                publication.info.audio_features.truncate(FEATURES_MAX);
                self.announce(ctx, participant, true);
            }
            None => self.refuse_update(ctx, participant, Request::UpdateAudioTrack(request)),
        }
    }

    pub fn handle_update_video_track(
        &mut self,
        ctx: &mut Context<'_>,
        participant: ParticipantId,
        request: UpdateLocalVideoTrack,
    ) {
        match self.publication_mut(participant, &request.track_sid) {
            Some(publication) => {
                publication.info.width = request.width;
                publication.info.height = request.height;
                self.announce(ctx, participant, true);
            }
            None => self.refuse_update(ctx, participant, Request::UpdateVideoTrack(request)),
        }
    }

    fn refuse_update(&self, ctx: &mut Context<'_>, participant: ParticipantId, echo: Request) {
        if let Some(session) = self.sessions.get(&participant) {
            let answer = respond(Reason::NotFound, "no such track", echo);
            ctx.send(session.connection, answer);
        }
    }

    /// Takes a track from everybody, without telling: the caller announces the publisher or its end.
    pub fn drop_publication(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, track: TrackId) {
        let Some(publication) =
            self.sessions.get_mut(&participant).and_then(|session| session.publications.remove(&track))
        else {
            return;
        };
        self.tracks.remove(&publication.info.sid);
        ctx.directory.tracks.remove(&track);
        ctx.timers.cancel(Timer::Dynacast(track));
        for session in self.sessions.values_mut() {
            session.choices.forget(&publication.info.sid);
        }
        if publication.live.is_some() {
            // Ends the subscriptions in the SFU as well.
            self.command(ctx, Command::Unpublish { track });
            let subscribers: Vec<ParticipantId> = self.sessions.keys().copied().collect();
            for subscriber in subscribers {
                self.end_subscription(ctx, subscriber, track);
                if let Some(session) = self.sessions.get_mut(&subscriber) {
                    session.forbidden.remove(&track);
                }
            }
            self.schedule_update(ctx);
        }
    }

    /// The server itself takes a track back; its owner is told.
    pub fn force_unpublish(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, track: TrackId) {
        let Some(session) = self.sessions.get(&participant) else {
            return;
        };
        let Some(publication) = session.publications.get(&track) else {
            return;
        };
        let message = Message::TrackUnpublished(TrackUnpublishedResponse { track_sid: publication.info.sid.clone() });
        ctx.send(session.connection, message);
        self.drop_publication(ctx, participant, track);
        self.announce(ctx, participant, true);
    }

    /// The SFU says which encodings are wanted.
    pub fn handle_encodings_wanted(&mut self, ctx: &mut Context<'_>, track: TrackId, highest: Option<u8>) {
        self.dynacast(ctx, track, |dynacast, now| dynacast.handle_wanted(now, highest));
    }

    pub fn handle_dynacast_timeout(&mut self, ctx: &mut Context<'_>, track: TrackId) {
        self.dynacast(ctx, track, dynacast::Dynacast::handle_timeout);
    }

    fn dynacast(
        &mut self,
        ctx: &mut Context<'_>,
        track: TrackId,
        step: impl FnOnce(&mut dynacast::Dynacast, std::time::Instant) -> bool,
    ) {
        let Some((_, publisher)) = ctx.directory.tracks.get(&track) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(publisher) else {
            return;
        };
        let connection = session.connection;
        let Some(live) = session.publications.get_mut(&track).and_then(|publication| publication.live.as_mut()) else {
            return;
        };
        let tell = step(&mut live.dynacast, ctx.now.instant);
        match live.dynacast.deadline() {
            Some(at) => ctx.timers.set(Timer::Dynacast(track), at),
            None => ctx.timers.cancel(Timer::Dynacast(track)),
        }
        if tell && let Some(message) = session.publications.get(&track).and_then(quality_update) {
            ctx.send(connection, Message::SubscribedQualityUpdate(message));
        }
    }
}

/// What the publisher of a video track was last told.
pub fn quality_update(publication: &Publication) -> Option<SubscribedQualityUpdate> {
    let live = publication.live.as_ref()?;
    (publication.kind == sfu::Kind::Video).then(|| {
        dynacast::quality_update(
            &publication.info.sid,
            codec::short_name(live.codec.codec()),
            &publication.qualities(),
            live.dynacast.told(),
        )
    })
}
