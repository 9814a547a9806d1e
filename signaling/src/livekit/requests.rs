//! What a client asks for, message by message.

use std::collections::BTreeMap;
use std::time::Duration;

use livekit_protocol::request_response::{Reason, Request as Echo};
use livekit_protocol::signal_request::Message as ClientMessage;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    DisconnectReason, Pong, RequestResponse, SpeakerInfo, SpeakersChanged, UpdateParticipantMetadata,
    leave_request::Action, simulate_scenario::Scenario,
};
use sfu::{Command, ParticipantId};

use super::output::leave;
use super::publishing::respond;
use super::request::Request;
use super::room::{Context, Room};
use super::settings::{ATTRIBUTES_LIMIT, METADATA_LIMIT, NAME_LIMIT};
use super::timers::Timer;

/// Longest time for which a speaker is simulated.
const SIMULATED_SPEAKER_MAX_S: i32 = 60;

impl Room {
    pub fn handle_request(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, request: Request) {
        if let Some(session) = self.sessions.get_mut(&participant) {
            session.heard = ctx.now.instant;
            session.asked = ctx.now.instant;
        }
        let message = match request {
            Request::Offer { id, offer } => {
                return self.handle_offer(ctx, participant, id, offer);
            }
            Request::Unknown => return,
            Request::Other(message) => message,
        };
        let Some(connection) = self.sessions.get(&participant).map(|known| known.connection) else {
            return;
        };
        match message {
            ClientMessage::Ping(_) => {
                let unix_ms = ctx.now.unix.as_millis() as i64;
                ctx.send(connection, Message::Pong(unix_ms));
            }
            ClientMessage::PingReq(ping) => {
                let pong = Pong { last_ping_timestamp: ping.timestamp, timestamp: ctx.now.unix.as_millis() as i64 };
                ctx.send(connection, Message::PongResp(pong));
            }
            ClientMessage::AddTrack(request) => self.handle_add_track(ctx, participant, request),
            ClientMessage::Mute(request) => self.handle_mute(ctx, participant, request),
            ClientMessage::Subscription(request) => {
                self.handle_subscription(ctx, participant, request);
            }
            ClientMessage::TrackSetting(request) => {
                self.handle_track_setting(ctx, participant, request);
            }
            ClientMessage::Leave(_) => self.remove(ctx, participant, DisconnectReason::ClientInitiated, None),
            ClientMessage::SubscriptionPermission(request) => {
                self.handle_subscription_permission(ctx, participant, request);
            }
            ClientMessage::SyncState(state) => self.handle_sync_state(ctx, participant, state),
            ClientMessage::UpdateMetadata(request) => {
                self.handle_update_metadata(ctx, participant, request);
            }
            ClientMessage::UpdateAudioTrack(request) => {
                self.handle_update_audio_track(ctx, participant, request);
            }
            ClientMessage::UpdateVideoTrack(request) => {
                self.handle_update_video_track(ctx, participant, request);
            }
            ClientMessage::Simulate(request) => {
                if let Some(scenario) = request.scenario {
                    self.simulate(ctx, participant, scenario);
                }
            }
            ClientMessage::PublishDataTrackRequest(request) => ctx.send(
                connection,
                respond(Reason::UnsupportedType, "data tracks are not supported", Echo::PublishDataTrack(request)),
            ),
            ClientMessage::UnpublishDataTrackRequest(request) => {
                ctx.send(connection, respond(Reason::NotFound, "no such data track", Echo::UnpublishDataTrack(request)))
            }
            // An ICE-lite agent needs no candidates; there is nothing of ours to answer; deprecated or not served.
            ClientMessage::Offer(_)
            | ClientMessage::Answer(_)
            | ClientMessage::Trickle(_)
            | ClientMessage::UpdateDataSubscription(_)
            | ClientMessage::StoreDataBlobRequest(_)
            | ClientMessage::GetDataBlobRequest(_) => {}
            #[allow(deprecated)]
            ClientMessage::UpdateLayers(_) => {}
        }
    }

    fn handle_update_metadata(
        &mut self,
        ctx: &mut Context<'_>,
        participant: ParticipantId,
        request: UpdateParticipantMetadata,
    ) {
        let Some(session) = self.sessions.get(&participant) else {
            return;
        };
        let connection = session.connection;
        let (reason, text) = if !session.permission.can_update_metadata {
            (Reason::NotAllowed, "does not have permission to update own metadata")
        } else {
            let (metadata, name) = (&request.metadata, &request.name);
            match self.merged_attributes(participant, metadata, name, request.attributes.clone().into_iter()) {
                Some(attributes) => {
                    self.set_participant(ctx, participant, metadata, name, attributes);
                    (Reason::Ok, "")
                }
                None => (Reason::LimitExceeded, "metadata exceeds the limits"),
            }
        };
        let message = Message::RequestResponse(RequestResponse {
            request_id: request.request_id,
            reason: reason as i32,
            message: text.into(),
            request: Some(Echo::UpdateMetadata(request)),
        });
        ctx.send(connection, message);
    }

    /// What a participant's attributes would be with these, of which an empty value removes one; `None` if that, or what
    /// else it would have, is too large.
    pub fn merged_attributes(
        &self,
        participant: ParticipantId,
        metadata: &str,
        name: &str,
        attributes: impl Iterator<Item = (String, String)>,
    ) -> Option<BTreeMap<String, String>> {
        let mut merged = self.sessions.get(&participant)?.attributes.clone();
        for (key, value) in attributes {
            if value.is_empty() {
                merged.remove(&key);
            } else {
                merged.insert(key, value);
            }
        }
        let size: usize = merged.iter().map(|(key, value)| key.len() + value.len()).sum();
        let fits = metadata.len() <= METADATA_LIMIT && name.len() <= NAME_LIMIT && size <= ATTRIBUTES_LIMIT;
        fits.then_some(merged)
    }

    /// Empty values leave as it is what a participant has.
    pub fn set_participant(
        &mut self,
        ctx: &mut Context<'_>,
        participant: ParticipantId,
        metadata: &str,
        name: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        session.attributes = attributes;
        if !metadata.is_empty() {
            session.metadata = metadata.to_owned();
        }
        if !name.is_empty() {
            session.name = name.to_owned();
        }
        self.announce(ctx, participant, true);
        self.refresh_token(ctx, participant);
    }

    /// Makes things go wrong on purpose, for tests of clients. Nothing here touches another participant but for the
    /// speaker that is not one.
    fn simulate(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, what: Scenario) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        match what {
            Scenario::SpeakerUpdate(seconds) => {
                self.simulated_speaker(ctx, participant, 0.9);
                let seconds = seconds.clamp(1, SIMULATED_SPEAKER_MAX_S) as u64;
                let at = ctx.now.instant + Duration::from_secs(seconds);
                ctx.timers.set(Timer::SimulatedSpeaker(participant), at);
            }
            // As if the server had lost the session: the client's resume then finds nothing.
            Scenario::NodeFailure(true) | Scenario::Migration(true) => {
                self.remove(ctx, participant, DisconnectReason::Migration, None);
            }
            Scenario::ServerLeave(true) => {
                self.remove(ctx, participant, DisconnectReason::ServerShutdown, Some(Action::Disconnect))
            }
            Scenario::SubscriberBandwidth(bitrate) => {
                let bitrate_bps = u64::try_from(bitrate).ok().filter(|bitrate| *bitrate > 0);
                self.command(ctx, Command::LimitBandwidth { participant, bitrate_bps });
            }
            Scenario::DisconnectSignalOnResume(true) => {
                session.resume_trouble.close_after_messages = true;
            }
            Scenario::DisconnectSignalOnResumeNoMessages(true) => {
                session.resume_trouble.silent = 3;
            }
            Scenario::LeaveRequestFullReconnect(true) => {
                let connection = session.connection;
                let message = leave(DisconnectReason::UnknownReason, Action::Reconnect);
                ctx.send(connection, message);
            }
            _ => {}
        }
    }

    pub fn simulated_speaker(&mut self, ctx: &mut Context<'_>, participant: ParticipantId, level: f32) {
        let Some(session) = self.sessions.get(&participant) else {
            return;
        };
        let message = Message::SpeakersChanged(SpeakersChanged {
            speakers: vec![SpeakerInfo { sid: session.sid.clone(), level, active: level > 0.0 }],
        });
        self.broadcast(ctx, None, message);
    }
}
