//! What the SFU reports about participants: transports that come and go, speakers, data.

use std::time::Duration;

use bytes::Bytes;
use livekit_protocol::data_packet::Kind;
use livekit_protocol::participant_info::{Kind as ParticipantKind, State};
use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    DisconnectReason, SpeakerInfo, SpeakersChanged, StreamState, StreamStateInfo, StreamStateUpdate,
    leave_request::Action,
};
use sfu::{Command, Delivery, ParticipantId, Speaker, TrackId, TransportEnd};

use super::data::{self, Sender};
use super::output::{Output, leave};
use super::room::{Context, Room};
use super::session::{Session, TransportState};
use super::timers::Timer;
use crate::links::Occurrence;
use crate::matrix::Presence;

/// From silence until the client is told to come back, and from there until it is gone.
const FAILED_AFTER: Duration = Duration::from_secs(5);
const GONE_AFTER: Duration = Duration::from_secs(5);

/// From silence until the Matrix side takes the participant for absent. The SFU reports silence 10 to 11 s after the last
/// packet, and 15 s after it the participant is to be gone from the state of its room.
const AWAY_AFTER: Duration = Duration::from_millis(2_500);
/// A client pings every [`super::settings::PING_INTERVAL`]; one that has not for this long has no socket any more.
const SOCKET_SILENCE_MAX: Duration = Duration::from_secs(8);

impl Room {
    pub fn handle_connected(&mut self, ctx: &mut Context<'_>, participant: ParticipantId) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        session.transport = TransportState::Connected;
        session.note(ctx, Occurrence::Connected);
        ctx.timers.cancel(Timer::TransportLost(participant));
        ctx.timers.cancel(Timer::Away(participant));
        ctx.timers.cancel(Timer::Activate(participant));
        if !std::mem::replace(&mut session.present, true)
            && let Some(seat) = session.seat(&self.name)
        {
            ctx.out.push(Output::Presence { seat, presence: Presence::Present });
        }
        if session.state != State::Active {
            session.state = State::Active;
            self.announce(ctx, participant, true);
        }
    }

    pub fn handle_disconnected(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, end: TransportEnd) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        match end {
            TransportEnd::Silent => {
                if session.transport == TransportState::Connected {
                    session.transport = TransportState::Silent;
                    session.note(ctx, Occurrence::Silent);
                    let at = ctx.now.instant + FAILED_AFTER;
                    ctx.timers.set(Timer::TransportLost(participant), at);
                    ctx.timers.set(Timer::Away(participant), ctx.now.instant + AWAY_AFTER);
                }
            }
            // Nobody is left at the other end of a closed association but a client that is about to say more.
            TransportEnd::Closed if session.connection.is_none() => {
                self.remove(ctx, participant, DisconnectReason::SignalClose, None);
            }
            TransportEnd::Closed => {
                session.transport = TransportState::Failed;
                let at = ctx.now.instant + GONE_AFTER;
                ctx.timers.set(Timer::TransportLost(participant), at);
            }
            TransportEnd::HandshakeFailed => self.restart_client(ctx, participant),
        }
    }

    /// Ends a session whose client is to join anew.
    pub fn restart_client(&mut self, ctx: &mut Context<'_>, participant: ParticipantId) {
        self.remove(ctx, participant, DisconnectReason::StateMismatch, Some(Action::Reconnect));
    }

    pub fn handle_transport_lost(&mut self, ctx: &mut Context<'_>, participant: ParticipantId) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        match session.transport {
            TransportState::Silent => {
                session.transport = TransportState::Failed;
                let message = leave(DisconnectReason::ConnectionTimeout, Action::Resume);
                let connection = session.connection;
                ctx.send(connection, message);
                self.cut(ctx, participant);
                let at = ctx.now.instant + GONE_AFTER;
                ctx.timers.set(Timer::TransportLost(participant), at);
            }
            TransportState::Failed => {
                self.remove(ctx, participant, DisconnectReason::ConnectionTimeout, Some(Action::Reconnect))
            }
            TransportState::Connecting | TransportState::Connected => {}
        }
    }

    /// Its media has been silent for long. If its socket is as well, the Matrix room is not to show it any longer; the
    /// session waits on for a client that comes back.
    pub fn handle_away_timeout(&mut self, ctx: &mut Context<'_>, participant: ParticipantId) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        let socket_lives = session.connection.is_some()
            && ctx.now.instant.saturating_duration_since(session.heard) < SOCKET_SILENCE_MAX;
        if !socket_lives
            && std::mem::take(&mut session.present)
            && let Some(seat) = session.seat(&self.name)
        {
            ctx.out.push(Output::Presence { seat, presence: Presence::Absent });
        }
    }

    /// The client's connection broke without a word. Its media may flow on; without a transport there is nothing
    /// to come back to, and it will join anew: it may be in the midst of doing so on a bad network.
    pub fn handle_connection_lost(&mut self, ctx: &mut Context<'_>, participant: ParticipantId) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        session.connection = None;
        session.note(ctx, Occurrence::SocketLost);
        if session.transport == TransportState::Connecting {
            self.remove(ctx, participant, DisconnectReason::SignalClose, Some(Action::Reconnect));
        }
    }

    /// Everybody hears of itself and of those that it listens to.
    pub fn handle_speakers(&mut self, ctx: &mut Context<'_>, speakers: &[Speaker]) {
        let known: Vec<(&Session, SpeakerInfo)> = speakers
            .iter()
            .filter_map(|speaker| {
                let session = self.sessions.get(&speaker.participant)?;
                let info = SpeakerInfo { sid: session.sid.clone(), level: speaker.level, active: speaker.level > 0.0 };
                Some((session, info))
            })
            .collect();
        for listener in self.sessions.values() {
            let hears = |speaker: &Session| {
                let mut tracks = speaker.publications.keys();
                speaker.id == listener.id || tracks.any(|track| listener.subscriptions.contains_key(track))
            };
            let heard: Vec<SpeakerInfo> =
                known.iter().filter(|(speaker, _)| hears(speaker)).map(|(_, info)| info.clone()).collect();
            if !heard.is_empty() {
                let message = Message::SpeakersChanged(SpeakersChanged { speakers: heard });
                ctx.send(listener.connection, message);
            }
        }
    }

    pub fn handle_subscription_paused(
        &mut self,
        ctx: &mut Context<'_>,
        participant: ParticipantId,
        track: TrackId,
        paused: bool,
    ) {
        let Some(session) = self.sessions.get(&participant) else {
            return;
        };
        let Some(subscription) = session.subscriptions.get(&track) else {
            return;
        };
        let Some(publisher) = self.sessions.get(&subscription.publisher) else {
            return;
        };
        let state = if paused { StreamState::Paused } else { StreamState::Active };
        let message = Message::StreamStateUpdate(StreamStateUpdate {
            stream_states: vec![StreamStateInfo {
                participant_sid: publisher.sid.clone(),
                track_sid: subscription.track_sid.clone(),
                state: state as i32,
            }],
        });
        ctx.send(session.connection, message);
    }

    pub fn handle_data(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, label: &str, payload: &Bytes) {
        let (kind, label) = match label {
            data::RELIABLE => (Kind::Reliable, data::RELIABLE),
            data::LOSSY => (Kind::Lossy, data::LOSSY),
            _ => return,
        };
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        if !session.permission.can_publish_data {
            return;
        }
        let sender = Sender {
            sid: &session.sid,
            identity: if session.permission.hidden { "" } else { &session.identity },
            is_agent: session.kind == ParticipantKind::Agent,
        };
        let forwarded = data::forward(payload, kind, &sender, &mut session.data_sequence);
        let Some(forwarded) = forwarded else {
            return;
        };
        self.send_data(ctx, Some(participant), label, &forwarded);
    }

    /// To those named, or to everybody, but never back to the sender.
    pub fn send_data(
        &self,
        ctx: &mut Context<'_>,
        sender: Option<ParticipantId>,
        label: &'static str,
        forwarded: &data::Forwarded,
    ) {
        let delivery = if label == data::LOSSY { Delivery::Lossy } else { Delivery::Reliable };
        let to_all = forwarded.identities.is_empty() && forwarded.sids.is_empty();
        let receivers = self.sessions.values().filter(|session| {
            Some(session.id) != sender
                && (to_all || forwarded.identities.contains(&session.identity) || forwarded.sids.contains(&session.sid))
        });
        for session in receivers {
            let payload = forwarded.payload.clone();
            self.command(ctx, Command::SendData { participant: session.id, label, delivery, payload });
        }
    }
}
