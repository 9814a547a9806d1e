//! One room: who is in it, and what everybody is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use datapath::{Entropy, Now};
use livekit_protocol::participant_info::State;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    DisconnectReason, IceServer, ParticipantInfo, ParticipantUpdate, RoomUpdate, TimedVersion, leave_request::Action,
};
use sfu::{Command, ParticipantId, RoomId, TrackId};

use super::departures::Departures;
use super::measuring::Departed;
use super::output::{ConnectionId, Output, leave};
use super::session::Session;
use super::settings::Settings;
use super::timers::{Timer, Timers};
use super::turn_grants::{TurnGrant, TurnGrants};
use crate::links::LinkDistributions;
use crate::matrix::{Member, Presence};

/// The numbers of a room are told at most this often.
const ROOM_UPDATE_INTERVAL: Duration = Duration::from_secs(5);

/// Where things are, across rooms. Ids are never used twice.
#[derive(Debug, Default)]
pub struct Directory {
    last_id: u64,
    pub participants: BTreeMap<ParticipantId, RoomId>,
    /// Room and publisher.
    pub tracks: BTreeMap<TrackId, (RoomId, ParticipantId)>,
    pub connections: BTreeMap<ConnectionId, (RoomId, ParticipantId)>,
    pub departed: Departed,
    /// Of everybody's link, since the start.
    pub distributions: LinkDistributions,
    /// Those for whom a homeserver vouched.
    pub members: BTreeSet<(Member, ParticipantId)>,
    pub turn_grants: TurnGrants,
}

impl Directory {
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

/// What lies outside of the room that an input concerns.
pub struct Context<'a> {
    pub now: Now,
    pub settings: &'a Settings,
    pub entropy: &'a mut Entropy,
    pub timers: &'a mut Timers,
    pub directory: &'a mut Directory,
    pub out: &'a mut Vec<Output>,
}

impl Context<'_> {
    /// To nobody if the client is away: what it missed it learns when it comes back.
    pub fn send(&mut self, connection: Option<ConnectionId>, message: Message) {
        if let Some(connection) = connection {
            self.out.push(Output::Send { connection, message });
        }
    }

    /// The TURN server for a participant, if there is one, with credentials that are noted as its own.
    pub fn ice_servers(&mut self, room: &str, session: &Session) -> Vec<IceServer> {
        let servers = self.settings.ice_servers(&session.sid, self.now.unix);
        if let Some(turn) = self.settings.turn.as_ref().filter(|_| !servers.is_empty()) {
            let (room, identity, member) = (room.to_owned(), session.identity.clone(), session.claims.matrix.clone());
            let grant = TurnGrant { room, identity, member, ends: self.now.unix + turn.ttl };
            self.directory.turn_grants.note(self.now.unix, &session.sid, grant);
        }
        servers
    }

    /// Takes back the TURN credentials of these users, and the others that were handed out like this.
    pub fn withdraw_turn(&mut self, mut users: Vec<String>, is_meant: impl Fn(&TurnGrant) -> bool) {
        let Some(turn) = self.settings.turn.as_ref().filter(|turn| !turn.urls.is_empty()) else {
            return;
        };
        users.extend(self.directory.turn_grants.take(self.now.unix, is_meant));
        users.sort_unstable();
        users.dedup();
        if !users.is_empty() {
            self.out.push(Output::WithdrawTurn { users, time: turn.ttl });
        }
    }
}

#[derive(Debug)]
pub struct Room {
    pub id: RoomId,
    pub worker: usize,
    pub sid: String,
    pub name: String,
    pub metadata: String,
    /// Since the Unix epoch.
    pub created: Duration,
    pub empty_timeout: Duration,
    pub departure_timeout: Duration,
    pub max_participants: u32,
    pub sync_streams: bool,
    pub sessions: BTreeMap<ParticipantId, Session>,
    /// Identities are the token maker's choice.
    pub identities: BTreeMap<String, ParticipantId>,
    /// Track sid → who publishes it.
    pub tracks: BTreeMap<String, (ParticipantId, TrackId)>,
    pub departures: Departures,
    /// How often the room's own state changed.
    pub version: i32,
}

impl Room {
    pub fn info(&self, settings: &Settings) -> livekit_protocol::Room {
        let visible = || self.sessions.values().filter(|session| !session.permission.hidden);
        livekit_protocol::Room {
            sid: self.sid.clone(),
            name: self.name.clone(),
            empty_timeout: self.empty_timeout.as_secs() as u32,
            departure_timeout: self.departure_timeout.as_secs() as u32,
            max_participants: self.max_participants,
            creation_time: self.created.as_secs() as i64,
            creation_time_ms: self.created.as_millis() as i64,
            enabled_codecs: settings.enabled_codecs(),
            metadata: self.metadata.clone(),
            num_participants: visible().count() as u32,
            num_publishers: visible().filter(|session| session.is_publisher()).count() as u32,
            version: Some(TimedVersion { unix_micro: self.created.as_micros() as i64, ticks: self.version }),
            ..Default::default()
        }
    }

    pub fn command(&self, ctx: &mut Context<'_>, command: Command) {
        ctx.out.push(Output::Command { worker: self.worker, command });
    }

    /// To everybody who has a connection, but for `except`.
    pub fn broadcast(&self, ctx: &mut Context<'_>, except: Option<ParticipantId>, message: Message) {
        for session in self.sessions.values() {
            if Some(session.id) != except {
                ctx.send(session.connection, message.clone());
            }
        }
    }

    /// Tells the others (and the participant itself, if `to_self`) that something about it changed.
    pub fn announce(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, to_self: bool) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        session.version += 1;
        let (connection, hidden) = (session.connection, session.permission.hidden);
        let message = update(vec![session.info()]);
        if !hidden {
            self.broadcast(ctx, Some(participant), message.clone());
        }
        if to_self {
            ctx.send(connection, message);
        }
    }

    pub fn schedule_update(&mut self, ctx: &mut Context<'_>) {
        ctx.timers.set_if_idle(Timer::RoomUpdate(self.id), ctx.now.instant + ROOM_UPDATE_INTERVAL);
    }

    pub fn send_update(&mut self, ctx: &mut Context<'_>) {
        self.version += 1;
        let message = Message::RoomUpdate(RoomUpdate { room: Some(self.info(ctx.settings)) });
        self.broadcast(ctx, None, message);
    }

    /// What a client that comes (back) has to know: everybody that it may see but itself.
    pub fn others(&self, participant: ParticipantId) -> Vec<ParticipantInfo> {
        self.sessions
            .values()
            .filter(|session| session.id != participant && !session.permission.hidden)
            .map(Session::info)
            .collect()
    }

    /// Whom a client that comes back has to be told of as gone. Not those who are back themselves: livekit-client knows
    /// participants by identity, and where it knows the new one it would take the old one's end for its.
    pub fn missed(&self, participant: ParticipantId, heard: Instant) -> Vec<ParticipantInfo> {
        let is_known = |identity: &String| {
            let present = self.identities.get(identity).and_then(|present| self.sessions.get(present));
            present.is_some_and(|present| present.id == participant || !present.permission.hidden)
        };
        self.departures.unknown_to(heard).filter(|info| !is_known(&info.identity)).cloned().collect()
    }

    /// Removes a participant whom somebody does not want here: with its seat it loses every TURN credential that it got
    /// for this room, also those from before it came back as another.
    pub fn expel(&mut self, ctx: &mut Context<'_>, participant: ParticipantId) {
        let Some(session) = self.sessions.get(&participant) else {
            return;
        };
        let is_its = |grant: &TurnGrant| grant.room == self.name && grant.identity == session.identity;
        ctx.withdraw_turn(vec![session.sid.clone()], is_its);
        self.remove(ctx, participant, DisconnectReason::ParticipantRemoved, Some(Action::Disconnect));
    }

    /// Ends a participant: its client hears `action`, the others that it is gone.
    pub fn remove(
        &mut self,
        ctx: &mut Context<'_>,
        participant: ParticipantId,
        reason: DisconnectReason,
        action: Option<Action>,
    ) {
        let tracks: Vec<TrackId> = match self.sessions.get(&participant) {
            Some(session) => session.publications.keys().copied().collect(),
            None => return,
        };
        for track in tracks {
            self.drop_publication(ctx, participant, track);
        }
        let Some(mut session) = self.sessions.remove(&participant) else {
            return;
        };
        if self.identities.get(&session.identity) == Some(&participant) {
            self.identities.remove(&session.identity);
        }
        ctx.directory.participants.remove(&participant);
        if let Some(member) = session.claims.matrix.clone() {
            ctx.directory.members.remove(&(member, participant));
        }
        if std::mem::take(&mut session.present)
            && let Some(seat) = session.seat(&self.name)
        {
            let presence = match action {
                Some(Action::Reconnect) => Presence::Returning,
                _ => Presence::Absent,
            };
            ctx.out.push(Output::Presence { seat, presence });
        }
        for timer in [
            Timer::Negotiate(participant),
            Timer::RefreshToken(participant),
            Timer::Activate(participant),
            Timer::TransportLost(participant),
            Timer::Away(participant),
            Timer::SimulatedSpeaker(participant),
        ] {
            ctx.timers.cancel(timer);
        }
        self.command(ctx, Command::Leave { participant });
        if let Some(connection) = session.connection.take() {
            if let Some(action) = action {
                ctx.send(Some(connection), leave(reason, action));
            }
            ctx.directory.connections.remove(&connection);
            ctx.out.push(Output::Close { connection });
        }
        tracing::info!(room = %self.sid, participant = %session.sid, ?reason, "participant left");
        session.state = State::Disconnected;
        session.version += 1;
        if !session.permission.hidden {
            let info = ParticipantInfo { disconnect_reason: reason as i32, ..session.info() };
            self.departures.note(ctx.now.instant, &info);
            self.broadcast(ctx, None, update(vec![info]));
            self.schedule_update(ctx);
        }
        self.keep_log(ctx, session);
        if self.sessions.is_empty() {
            let at = ctx.now.instant + self.departure_timeout;
            ctx.timers.set(Timer::CloseRoom(self.id), at);
        }
    }
}

pub fn update(participants: Vec<ParticipantInfo>) -> Message {
    Message::Update(ParticipantUpdate { participants })
}
