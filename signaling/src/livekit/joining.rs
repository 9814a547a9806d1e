//! Coming into a room, and coming back to it over a new connection.

use std::time::Duration;

use livekit_protocol::participant_info::State;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    ClientInfo, DisconnectReason, JoinRequest, JoinResponse, ReconnectResponse, RoomUpdate, SyncState,
    leave_request::Action,
};
use sfu::{Command, ParticipantId};

use super::identifier;
use super::measuring::Link;
use super::negotiation::Negotiation;
use super::output::{ConnectionId, Output};
use super::permission::permission;
use super::publishing::quality_update;
use super::room::{Context, Room, update};
use super::rooms::Opening;
use super::sdp::{Offer, OfferError};
use super::session::{Client, ResumeTrouble, Session, TransportState, kind};
use super::settings::{PING_INTERVAL, PING_TIMEOUT, VERSION};
use super::timers::Timer;
use super::token::{self, Claims};
use crate::links::{LinkLog, Occurrence};

/// A participant that is not connected by then has failed to join.
const ACTIVATION_TIMEOUT: Duration = Duration::from_secs(60);
/// A client that came back gets this long for its ICE restart.
pub const RESTART_TIMEOUT: Duration = Duration::from_secs(15);
/// A client that has just come has a token: until then it gets on without a newer one.
const TOKEN_WAITS: Duration = Duration::from_secs(2);
const TOKEN_REFRESH: Duration = Duration::from_secs(5 * 60);
const TOKEN_LIFE_MIN: Duration = Duration::from_secs(10 * 60);
/// Octets of metadata and attributes in a token that a client will bring back in a URL, beside its offer. A larger one would
/// not be let in.
const TOKEN_DATA_MAX: usize = 64 << 10;

/// The parts of a join request that have been looked at already.
pub struct Join {
    pub claims: Claims,
    pub request: JoinRequest,
    pub opening: Opening,
    /// The `publisher_offer` of the request.
    pub offer: Option<(u32, Result<Offer, OfferError>)>,
}

impl Join {
    pub fn new(claims: Claims, mut request: JoinRequest, opening: Opening) -> Join {
        let offer = request
            .publisher_offer
            .take()
            .filter(|description| !description.sdp.is_empty())
            .map(|description| (description.id, Offer::parse(description.sdp.as_bytes())));
        Join { claims, request, opening, offer }
    }
}

impl Room {
    pub fn join(&mut self, ctx: &mut Context<'_>, connection: ConnectionId, join: Join) {
        let identity = join.claims.identity().to_owned();
        let mut present = false;
        if let Some(old) = self.identities.get(&identity).copied() {
            // To the Matrix side they are one.
            present = self.sessions.get_mut(&old).is_some_and(|old| std::mem::take(&mut old.present));
            // Others hear of the old one's end before they hear of the new one: they know participants by identity.
            self.remove(ctx, old, DisconnectReason::DuplicateIdentity, Some(Action::Disconnect));
        }
        ctx.timers.cancel(Timer::CloseRoom(self.id));
        let participant = ParticipantId(ctx.directory.next_id());
        let mut session = new_session(ctx, participant, connection, join.claims, &join.request);
        session.present = present;
        ctx.directory.participants.insert(participant, self.id);
        if let Some(member) = &session.claims.matrix {
            ctx.directory.members.insert((member.clone(), participant));
        }
        ctx.directory.connections.insert(connection, (self.id, participant));
        self.identities.insert(identity, participant);
        let sid = session.sid.clone();
        let ice_servers = ctx.ice_servers(&self.name, &session);
        let info = session.info();
        let fast_publish = session.permission.can_publish;
        tracing::info!(room = %self.sid, participant = %sid, "participant joined");
        self.sessions.insert(participant, session);
        self.command(ctx, Command::Join { room: self.id, participant });
        let response = JoinResponse {
            room: Some(self.info(ctx.settings)),
            participant: Some(info),
            other_participants: self.others(participant),
            server_version: VERSION.into(),
            ice_servers,
            subscriber_primary: false,
            ping_timeout: PING_TIMEOUT.as_secs() as i32,
            ping_interval: PING_INTERVAL.as_secs() as i32,
            server_info: Some(ctx.settings.server_info()),
            enabled_publish_codecs: ctx.settings.enabled_codecs(),
            fast_publish,
            ..Default::default()
        };
        ctx.send(Some(connection), Message::Join(response));
        self.announce(ctx, participant, false);
        self.schedule_update(ctx);
        self.schedule_qualities(ctx);
        let at = ctx.now.instant + ACTIVATION_TIMEOUT;
        ctx.timers.set(Timer::Activate(participant), at);
        // Those beyond the limit would be refused, each with an answer.
        for request in join.request.add_track_requests.into_iter().take(ctx.settings.limits.tracks_per_participant) {
            self.handle_add_track(ctx, participant, request);
        }
        self.consider_all(ctx, participant);
        if let Some((id, offer)) = join.offer {
            self.handle_offer(ctx, participant, id, offer);
        }
        // Not with the answer, and not before the first words: on a narrow link each octet delays them.
        let at = ctx.now.instant + TOKEN_WAITS;
        ctx.timers.set(Timer::RefreshToken(participant), at);
    }

    /// The client lost its connection but not its session. `false`: there is no such session.
    pub fn resume(&mut self, ctx: &mut Context<'_>, connection: ConnectionId, identity: &str, sid: &str) -> bool {
        let Some(participant) = self.identities.get(identity).copied() else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(&participant) else {
            return false;
        };
        if session.sid != sid {
            return false;
        }
        if let Some(old) = session.connection.replace(connection) {
            ctx.directory.connections.remove(&old);
            ctx.out.push(Output::Close { connection: old });
        }
        ctx.directory.connections.insert(connection, (self.id, participant));
        session.heard = ctx.now.instant;
        session.note(ctx, Occurrence::Resumed);
        // It may have missed some.
        session.qualities_told.clear();
        tracing::info!(room = %self.sid, participant = %sid, "participant came back");
        if session.resume_trouble.silent > 0 {
            session.resume_trouble.silent -= 1;
            self.cut(ctx, participant);
            return true;
        }
        session.negotiation.forget_requests();
        if matches!(session.transport, TransportState::Silent | TransportState::Failed) {
            let at = ctx.now.instant + RESTART_TIMEOUT;
            ctx.timers.set(Timer::TransportLost(participant), at);
        }
        let response = ReconnectResponse {
            ice_servers: ctx.ice_servers(&self.name, session),
            server_info: Some(ctx.settings.server_info()),
            last_message_seq: session.data_sequence,
            client_configuration: None,
        };
        let asked = session.asked;
        let demanded = session.publications.values().filter(|publication| publication.mute_demanded);
        let mutes: Vec<Message> = demanded.map(|publication| Message::Mute(publication.mute())).collect();
        let own = session.info();
        let trouble = std::mem::take(&mut session.resume_trouble);
        let qualities: Vec<Message> =
            session.publications.values().filter_map(quality_update).map(Message::SubscribedQualityUpdate).collect();
        ctx.send(Some(connection), Message::Reconnect(response));
        // Before the picture that shows the client its tracks as muted.
        for message in mutes {
            ctx.send(Some(connection), message);
        }
        // A full picture: some clients drop whom it does not name, others wait for the word that somebody is gone.
        let mut everybody = self.missed(participant, asked);
        everybody.push(own);
        everybody.extend(self.others(participant));
        ctx.send(Some(connection), update(everybody));
        let room = Message::RoomUpdate(RoomUpdate { room: Some(self.info(ctx.settings)) });
        ctx.send(Some(connection), room);
        self.refresh_token(ctx, participant);
        for message in qualities {
            ctx.send(Some(connection), message);
        }
        if trouble.close_after_messages {
            self.cut(ctx, participant);
            return true;
        }
        // The client now offers by itself, with an ICE restart; what waits is bound then. If it does not:
        let at = ctx.now.instant + Duration::from_secs(3);
        ctx.timers.set(Timer::Negotiate(participant), at);
        true
    }

    /// Closes the client's connection without a word; its session stays.
    pub fn cut(&mut self, ctx: &mut Context<'_>, participant: ParticipantId) {
        if let Some(session) = self.sessions.get_mut(&participant)
            && let Some(connection) = session.connection.take()
        {
            ctx.directory.connections.remove(&connection);
            ctx.out.push(Output::Close { connection });
        }
    }

    /// What the client believes after it came back. Tracks that we do not have mean that it has to begin anew.
    pub fn handle_sync_state(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, state: SyncState) {
        let Some(session) = self.sessions.get(&participant) else {
            return;
        };
        let all_known = state
            .publish_tracks
            .iter()
            .filter_map(|published| published.track.as_ref())
            .all(|track| session.publication_by_sid(&track.sid).is_some());
        if !all_known {
            self.restart_client(ctx, participant);
        }
    }

    /// A token that lives as long as the one presented, and at least ten minutes more.
    pub fn refresh_token(&mut self, ctx: &mut Context<'_>, participant: ParticipantId) {
        let Some(session) = self.sessions.get(&participant) else {
            return;
        };
        let at = ctx.now.instant + TOKEN_REFRESH;
        ctx.timers.set(Timer::RefreshToken(participant), at);
        let least = (ctx.now.unix + TOKEN_LIFE_MIN).as_secs();
        let mut grant = session.claims.grant();
        grant.permit(&session.permission);
        let mut claims = Claims {
            exp: Some(session.claims.exp.unwrap_or(0).max(least)),
            nbf: None,
            name: session.name.clone(),
            metadata: session.metadata.clone(),
            attributes: session.attributes.clone(),
            video: Some(grant),
            ..session.claims.clone()
        };
        let attributes = claims.attributes.iter().map(|(key, value)| key.len() + value.len());
        if claims.metadata.len() + attributes.sum::<usize>() > TOKEN_DATA_MAX {
            claims.metadata.clear();
            claims.attributes.clear();
        }
        if let Some(token) = token::sign(&claims, &ctx.settings.api_keys) {
            ctx.send(session.connection, Message::RefreshToken(token));
        }
    }
}

fn new_session(
    ctx: &mut Context<'_>,
    id: ParticipantId,
    connection: ConnectionId,
    claims: Claims,
    request: &JoinRequest,
) -> Session {
    let grant = claims.grant();
    let permission = permission(&grant);
    let settings = request.connection_settings.unwrap_or_default();
    let default = ClientInfo::default();
    let info = request.client_info.as_ref().unwrap_or(&default);
    let mut metadata = claims.metadata.clone();
    let mut attributes = claims.attributes.clone();
    if permission.can_update_metadata {
        if !request.metadata.is_empty() {
            metadata = request.metadata.clone();
        }
        attributes.extend(request.participant_attributes.clone());
    }
    let mut capabilities = info.capabilities.clone();
    capabilities.truncate(64);
    let mut session = Session {
        id,
        sid: identifier::sid(ctx.entropy, "PA_"),
        identity: claims.identity().to_owned(),
        name: claims.name.clone(),
        metadata,
        attributes,
        kind: kind(&claims.kind),
        permission,
        client: Client {
            protocol: info.client_protocol,
            capabilities,
            auto_subscribe: settings.auto_subscribe,
            adaptive_stream: settings.adaptive_stream,
        },
        claims,
        joined: ctx.now.unix,
        state: State::Joined,
        version: 1,
        transport: TransportState::Connecting,
        heard: ctx.now.instant,
        asked: ctx.now.instant,
        present: false,
        link: Link::default(),
        quality: None,
        qualities_told: Default::default(),
        connection: Some(connection),
        negotiation: Negotiation::new(ctx.entropy),
        publications: Default::default(),
        subscriptions: Default::default(),
        choices: Default::default(),
        subscription_rule: None,
        forbidden: Default::default(),
        data_sequence: 0,
        resume_trouble: ResumeTrouble::default(),
    };
    session.link.log = LinkLog::new(&session.sid, session.label());
    session.note(ctx, Occurrence::Joined);
    session
}
