//! All rooms of the server: the one state machine that the sockets feed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datapath::{Entropy, Now};
use livekit_protocol::{DisconnectReason, RoomConfiguration, leave_request::Action};
use sfu::{Event, ParticipantId, RoomId};

use super::departures::Departures;
use super::identifier;
use super::joining::Join;
use super::output::{ConnectionId, Output, leave};
use super::request::Request;
use super::room::{Context, Directory, Room};
use super::settings::{ATTRIBUTES_LIMIT, METADATA_LIMIT, NAME_LIMIT, Settings};
use super::timers::{Timer, Timers};
use super::token::{Claims, TokenError};
use crate::matrix::Member;

/// Whether a room that does not exist begins with a participant who asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// As [`RoomDefaults::auto_create`](crate::RoomDefaults) and the token have it.
    AsConfigured,
    Permitted,
    Forbidden,
}

/// A join that comes to nothing, as an HTTP status and a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinRefusal {
    pub status: u16,
    pub text: &'static str,
}

const fn refusal(status: u16, text: &'static str) -> JoinRefusal {
    JoinRefusal { status, text }
}

impl From<TokenError> for JoinRefusal {
    fn from(error: TokenError) -> JoinRefusal {
        refusal(401, error.text())
    }
}

/// Clients look for these words in a 404, and take any other 404 for a server of another version.
const NO_ROOM: JoinRefusal = refusal(404, "requested room does not exist");
const FULL: JoinRefusal = refusal(503, "room is full");
const BUSY: JoinRefusal = refusal(503, "server is at its limit");
const DRAINING: JoinRefusal = refusal(503, "server is shutting down");

pub struct Rooms {
    pub(super) settings: Settings,
    pub(super) entropy: Entropy,
    timers: Timers,
    pub(super) directory: Directory,
    out: Vec<Output>,
    pub(super) rooms: BTreeMap<RoomId, Room>,
    /// Names are the token maker's choice.
    pub(super) names: BTreeMap<String, RoomId>,
    next_worker: usize,
    draining: bool,
}

impl Rooms {
    pub fn new(settings: Settings, entropy: Entropy) -> Rooms {
        Rooms {
            settings,
            entropy,
            timers: Timers::default(),
            directory: Directory::default(),
            out: Vec::new(),
            rooms: BTreeMap::new(),
            names: BTreeMap::new(),
            next_worker: 0,
            draining: false,
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the last inputs want done, in order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    pub fn participant_count(&self) -> usize {
        self.directory.participants.len()
    }

    pub fn connection_count(&self) -> usize {
        self.directory.connections.len()
    }

    pub(super) fn at(&mut self, now: Now) -> (Context<'_>, &mut BTreeMap<RoomId, Room>) {
        let ctx = Context {
            now,
            settings: &self.settings,
            entropy: &mut self.entropy,
            timers: &mut self.timers,
            directory: &mut self.directory,
            out: &mut self.out,
        };
        (ctx, &mut self.rooms)
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether a join with these claims would be let in now. Nothing changes.
    pub fn check_join(&self, claims: &Claims, opening: Opening) -> Result<(), JoinRefusal> {
        let grant = claims.video.as_ref().ok_or(TokenError::PermissionDenied)?;
        if !grant.room_join {
            return Err(TokenError::PermissionDenied.into());
        }
        let identity = claims.identity();
        if identity.is_empty() {
            return Err(refusal(400, "identity cannot be empty"));
        }
        if identity.len() > NAME_LIMIT {
            return Err(refusal(400, "identity is too long"));
        }
        if grant.room.is_empty() {
            return Err(refusal(400, "room name cannot be empty"));
        }
        if grant.room.len() > NAME_LIMIT {
            return Err(refusal(400, "room name is too long"));
        }
        let attributes = claims.attributes.iter();
        let attributes: usize = attributes.map(|(key, value)| key.len() + value.len()).sum();
        if claims.name.len() > NAME_LIMIT || claims.metadata.len() > METADATA_LIMIT || attributes > ATTRIBUTES_LIMIT {
            return Err(refusal(400, "name, metadata or attributes are too long"));
        }
        if self.draining {
            return Err(DRAINING);
        }
        let limits = &self.settings.limits;
        let opens = match opening {
            Opening::AsConfigured => self.settings.room_defaults.auto_create || grant.room_create,
            Opening::Permitted => true,
            Opening::Forbidden => false,
        };
        let room = self.names.get(&grant.room).and_then(|room| self.rooms.get(room));
        // Who comes back under the same identity takes the place of its old self.
        let newcomer = room.is_none_or(|room| !room.identities.contains_key(identity));
        match room {
            None if !opens => return Err(NO_ROOM),
            None if self.rooms.len() >= limits.rooms => return Err(BUSY),
            None => {}
            Some(room) => {
                let own_limit = match room.max_participants {
                    0 => usize::MAX,
                    limit => limit as usize,
                };
                if newcomer && room.sessions.len() >= own_limit.min(limits.participants_per_room) {
                    return Err(FULL);
                }
            }
        }
        if newcomer && self.directory.participants.len() >= limits.participants {
            return Err(BUSY);
        }
        Ok(())
    }

    /// A client comes in, or comes back. Its first message is among the outputs.
    pub fn join(&mut self, now: Now, connection: ConnectionId, join: Join) -> Result<(), JoinRefusal> {
        if join.request.reconnect {
            self.resume(now, connection, &join);
            return Ok(());
        }
        self.check_join(&join.claims, join.opening)?;
        #[allow(clippy::disallowed_methods)] // A sum has no order.
        let size: usize = join.request.participant_attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
        if join.request.metadata.len() > METADATA_LIMIT || size > ATTRIBUTES_LIMIT {
            return Err(refusal(400, "metadata or attributes are too long"));
        }
        let grant = join.claims.grant();
        let id = match self.names.get(&grant.room) {
            Some(id) => *id,
            None => {
                let configuration = join
                    .claims
                    .room_config
                    .clone()
                    .and_then(|json| serde_json::from_value(json).ok())
                    .unwrap_or_default();
                self.open(now, &grant.room, &configuration)
            }
        };
        let (mut ctx, rooms) = self.at(now);
        if let Some(room) = rooms.get_mut(&id) {
            room.join(&mut ctx, connection, join);
        }
        Ok(())
    }

    /// Opens a room for participants to come, unless it is open or there are too many.
    pub fn open_for_call(&mut self, now: Now, name: &str) {
        if !self.names.contains_key(name) && self.rooms.len() < self.settings.limits.rooms && !self.draining {
            self.open(now, name, &RoomConfiguration::default());
        }
    }

    fn resume(&mut self, now: Now, connection: ConnectionId, join: &Join) {
        let room = self.names.get(&join.claims.grant().room).copied();
        let sid = &join.request.participant_sid;
        let draining = self.draining;
        let (mut ctx, rooms) = self.at(now);
        let resumed = !draining
            && room
                .and_then(|room| rooms.get_mut(&room))
                .is_some_and(|room| room.resume(&mut ctx, connection, join.claims.identity(), sid));
        if !resumed {
            // After a restart of ours nobody is known; this answer is what brings everybody back.
            let message = leave(DisconnectReason::StateMismatch, Action::Reconnect);
            ctx.send(Some(connection), message);
            ctx.out.push(Output::Close { connection });
        }
    }

    pub(super) fn open(&mut self, now: Now, name: &str, configuration: &RoomConfiguration) -> RoomId {
        let defaults = &self.settings.room_defaults;
        let or = |seconds: u32, default: Duration| match seconds {
            0 => default,
            seconds => Duration::from_secs(seconds.into()),
        };
        let id = RoomId(self.directory.next_id());
        let room = Room {
            id,
            worker: self.next_worker,
            sid: identifier::sid(&mut self.entropy, "RM_"),
            name: name.to_owned(),
            metadata: configuration.metadata.clone(),
            created: now.unix,
            empty_timeout: or(configuration.empty_timeout, defaults.empty_timeout),
            departure_timeout: or(configuration.departure_timeout, defaults.departure_timeout),
            max_participants: match configuration.max_participants {
                0 => defaults.max_participants,
                limit => limit,
            },
            sync_streams: configuration.sync_streams || defaults.sync_streams,
            sessions: BTreeMap::new(),
            identities: BTreeMap::new(),
            tracks: BTreeMap::new(),
            departures: Departures::default(),
            version: 0,
        };
        self.next_worker = (self.next_worker + 1) % self.settings.workers.max(1);
        let at = now.instant + room.empty_timeout;
        self.timers.set(Timer::CloseRoom(id), at);
        self.names.insert(name.to_owned(), id);
        self.rooms.insert(id, room);
        id
    }

    /// Ends a room and everybody's stay in it.
    pub(super) fn close_room(&mut self, now: Now, id: RoomId, reason: DisconnectReason) {
        let (mut ctx, rooms) = self.at(now);
        let Some(room) = rooms.get_mut(&id) else {
            return;
        };
        let everybody: Vec<ParticipantId> = room.sessions.keys().copied().collect();
        if reason == DisconnectReason::RoomDeleted {
            let sids = everybody.iter().filter_map(|participant| Some(room.sessions.get(participant)?.sid.clone()));
            ctx.withdraw_turn(sids.collect(), |grant| grant.room == room.name);
        }
        for participant in everybody {
            room.remove(&mut ctx, participant, reason, Some(Action::Disconnect));
        }
        ctx.timers.cancel(Timer::CloseRoom(id));
        ctx.timers.cancel(Timer::RoomUpdate(id));
        ctx.timers.cancel(Timer::Quality(id));
        let name = room.name.clone();
        rooms.remove(&id);
        self.names.remove(&name);
    }

    pub fn handle_request(&mut self, now: Now, connection: ConnectionId, request: Request) {
        let (mut ctx, rooms) = self.at(now);
        let Some((room, participant)) = ctx.directory.connections.get(&connection).copied() else {
            return;
        };
        if let Some(room) = rooms.get_mut(&room) {
            room.handle_request(&mut ctx, participant, request);
        }
    }

    /// The connection is gone: closed by the client without a leave, broken, or cut off by us.
    pub fn handle_connection_lost(&mut self, now: Now, connection: ConnectionId) {
        let (mut ctx, rooms) = self.at(now);
        let Some((room, participant)) = ctx.directory.connections.remove(&connection) else {
            return;
        };
        if let Some(room) = rooms.get_mut(&room) {
            room.handle_connection_lost(&mut ctx, participant);
        }
    }

    pub fn handle_event(&mut self, now: Now, event: Event) {
        let (mut ctx, rooms) = self.at(now);
        if let Event::Measured { links } = event {
            for (participant, link) in links {
                let room = ctx.directory.participants.get(&participant);
                if let Some(room) = room.and_then(|room| rooms.get_mut(room)) {
                    room.handle_measured(&mut ctx, participant, link);
                }
            }
            return;
        }
        let room = match &event {
            Event::Connected { participant, .. }
            | Event::Disconnected { participant, .. }
            | Event::SubscriptionPaused { participant, .. }
            | Event::Data { participant, .. }
            | Event::Refused { participant, .. } => ctx.directory.participants.get(participant).copied(),
            Event::Speakers { room, .. } => Some(*room),
            Event::EncodingsWanted { track, .. } => ctx.directory.tracks.get(track).map(|(room, _)| *room),
            Event::Measured { .. } => None,
        };
        // Events about what has ended meanwhile are normal.
        let Some(room) = room.and_then(|room| rooms.get_mut(&room)) else {
            return;
        };
        let ctx = &mut ctx;
        match event {
            Event::Connected { participant, .. } => room.handle_connected(ctx, participant),
            Event::Disconnected { participant, end } => {
                room.handle_disconnected(ctx, participant, end);
            }
            Event::Speakers { speakers, .. } => room.handle_speakers(ctx, &speakers),
            Event::EncodingsWanted { track, highest } => {
                room.handle_encodings_wanted(ctx, track, highest);
            }
            Event::SubscriptionPaused { participant, track, paused } => {
                room.handle_subscription_paused(ctx, participant, track, paused)
            }
            Event::Data { participant, label, payload } => room.handle_data(ctx, participant, &label, &payload),
            Event::Measured { .. } => {}
            Event::Refused { participant, .. } => room.restart_client(ctx, participant),
        }
    }

    /// A command of the participant did not fit into its worker's queue: what the SFU has is not what we believe.
    pub fn handle_command_lost(&mut self, now: Now, participant: ParticipantId) {
        let (mut ctx, rooms) = self.at(now);
        let room = ctx.directory.participants.get(&participant).copied();
        if let Some(room) = room.and_then(|room| rooms.get_mut(&room)) {
            room.restart_client(&mut ctx, participant);
        }
    }

    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop(now.instant) {
            self.handle_timer(now, timer);
        }
    }

    fn handle_timer(&mut self, now: Now, timer: Timer) {
        if let Timer::CloseRoom(room) = timer {
            let empty = self.rooms.get(&room).is_some_and(|room| room.sessions.is_empty());
            if empty {
                self.close_room(now, room, DisconnectReason::RoomClosed);
            }
            return;
        }
        let (mut ctx, rooms) = self.at(now);
        let room = match timer {
            Timer::Negotiate(participant)
            | Timer::RefreshToken(participant)
            | Timer::Activate(participant)
            | Timer::TransportLost(participant)
            | Timer::Away(participant)
            | Timer::SimulatedSpeaker(participant) => ctx.directory.participants.get(&participant).copied(),
            Timer::Dynacast(track) => ctx.directory.tracks.get(&track).map(|(room, _)| *room),
            Timer::RoomUpdate(room) | Timer::CloseRoom(room) | Timer::Quality(room) => Some(room),
        };
        let Some(room) = room.and_then(|room| rooms.get_mut(&room)) else {
            return;
        };
        let ctx = &mut ctx;
        match timer {
            Timer::Negotiate(participant) => room.handle_negotiate_timeout(ctx, participant),
            Timer::RefreshToken(participant) => room.refresh_token(ctx, participant),
            Timer::Activate(participant) => {
                room.remove(ctx, participant, DisconnectReason::JoinFailure, Some(Action::Disconnect))
            }
            Timer::TransportLost(participant) => room.handle_transport_lost(ctx, participant),
            Timer::Away(participant) => room.handle_away_timeout(ctx, participant),
            Timer::SimulatedSpeaker(participant) => {
                room.simulated_speaker(ctx, participant, 0.0);
            }
            Timer::Dynacast(track) => room.handle_dynacast_timeout(ctx, track),
            Timer::RoomUpdate(_) => room.send_update(ctx),
            Timer::Quality(_) => room.judge_qualities(ctx),
            Timer::CloseRoom(_) => {}
        }
    }

    /// Ends a room (by its sid), as its operator wishes. `false`: there is none.
    pub fn end_room(&mut self, now: Now, sid: &str) -> bool {
        let id = self.rooms.values().find(|room| room.sid == sid).map(|room| room.id);
        if let Some(id) = id {
            self.close_room(now, id, DisconnectReason::RoomDeleted);
        }
        id.is_some()
    }

    /// Removes a participant (by its sid) from a room, as the room's operator wishes. `false`: there is none.
    pub fn remove_session(&mut self, now: Now, room_sid: &str, sid: &str) -> bool {
        let (mut ctx, rooms) = self.at(now);
        let Some(room) = rooms.values_mut().find(|room| room.sid == room_sid) else {
            return false;
        };
        let session = room.sessions.values().find(|session| session.sid == sid).map(|session| session.id);
        if let Some(participant) = session {
            room.expel(&mut ctx, participant);
        }
        session.is_some()
    }

    /// Ends the sessions of a user who is no longer in a Matrix room, all of its devices and identities. Returns how many.
    pub fn remove_member(&mut self, now: Now, room_id: &str, user_id: &str) -> usize {
        let (mut ctx, rooms) = self.at(now);
        let first = Member { room_id: room_id.to_owned(), user_id: user_id.to_owned(), device_id: String::new() };
        let sessions: Vec<ParticipantId> = ctx
            .directory
            .members
            .range((first, ParticipantId(0))..)
            .take_while(|(member, _)| member.room_id == room_id && member.user_id == user_id)
            .map(|(_, participant)| *participant)
            .collect();
        for participant in &sessions {
            let room = ctx.directory.participants.get(participant).copied();
            if let Some(room) = room.and_then(|room| rooms.get_mut(&room)) {
                room.expel(&mut ctx, *participant);
            }
        }
        // It may have left the call before it left the room.
        let is_its = |member: &Member| member.room_id == room_id && member.user_id == user_id;
        ctx.withdraw_turn(Vec::new(), |grant| grant.member.as_ref().is_some_and(is_its));
        sessions.len()
    }

    /// Sends everybody away so that they come back to whoever serves next. Nobody is let in any more.
    pub fn drain(&mut self, now: Now) {
        self.draining = true;
        let (mut ctx, rooms) = self.at(now);
        for room in rooms.values_mut() {
            // No word to others about who leaves: all of them do, and each finds the others again.
            let everybody: Vec<ParticipantId> = room.sessions.keys().copied().collect();
            for participant in everybody {
                if let Some(session) = room.sessions.get(&participant) {
                    let message = leave(DisconnectReason::ServerShutdown, Action::Reconnect);
                    ctx.send(session.connection, message);
                }
                room.cut(&mut ctx, participant);
            }
        }
    }
}
