//! What the holder of an API secret may do with rooms from outside.

use datapath::Now;
use livekit_protocol::data_packet::{Kind, Value};
use livekit_protocol::{
    self as proto, DataPacket, DisconnectReason, ParticipantInfo, RoomConfiguration, TrackSource, UserPacket,
};
use prost::Message as _;
use sfu::{ParticipantId, RoomId, TrackId};

use super::data::{self, Forwarded};
use super::room::{Context, Room};
use super::rooms::Rooms;
use super::settings::{METADATA_LIMIT, NAME_LIMIT};
use super::timers::Timer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceError {
    RoomNotFound,
    ParticipantNotFound,
    TrackNotFound,
    RoomNameInvalid,
    TooLong,
    /// Only its owner unmutes a track.
    UnmuteRefused,
    TooManyRooms,
}

impl ServiceError {
    /// As Twirp names it.
    pub fn code(self) -> &'static str {
        match self {
            ServiceError::RoomNotFound | ServiceError::ParticipantNotFound | ServiceError::TrackNotFound => "not_found",
            ServiceError::RoomNameInvalid | ServiceError::TooLong => "invalid_argument",
            ServiceError::UnmuteRefused => "failed_precondition",
            ServiceError::TooManyRooms => "resource_exhausted",
        }
    }

    /// HTTP status.
    pub fn status(self) -> u16 {
        match self.code() {
            "not_found" => 404,
            "invalid_argument" => 400,
            "failed_precondition" => 412,
            _ => 429,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            ServiceError::RoomNotFound => "requested room does not exist",
            ServiceError::ParticipantNotFound => "participant does not exist",
            ServiceError::TrackNotFound => "track is not found",
            ServiceError::RoomNameInvalid => "room name is empty or too long",
            ServiceError::TooLong => "name, metadata or attributes exceed the limits",
            ServiceError::UnmuteRefused => "remote unmute not enabled",
            ServiceError::TooManyRooms => "too many rooms",
        }
    }
}

type Answer<T> = Result<T, ServiceError>;

impl Rooms {
    /// For names that are to differ although people chose the same.
    pub fn random_suffix(&mut self) -> String {
        super::identifier::sid(&mut self.entropy, "")[..6].to_owned()
    }

    fn room_id(&self, name: &str) -> Answer<RoomId> {
        self.names.get(name).copied().ok_or(ServiceError::RoomNotFound)
    }

    fn room(&self, name: &str) -> Answer<&Room> {
        self.rooms.get(&self.room_id(name)?).ok_or(ServiceError::RoomNotFound)
    }

    fn in_room<R>(
        &mut self,
        now: Now,
        name: &str,
        act: impl FnOnce(&mut Context<'_>, &mut Room) -> Answer<R>,
    ) -> Answer<R> {
        let id = self.room_id(name)?;
        let (mut ctx, rooms) = self.at(now);
        act(&mut ctx, rooms.get_mut(&id).ok_or(ServiceError::RoomNotFound)?)
    }

    /// Idempotent: an open room keeps its sid and age, and what the request names is changed.
    pub fn create_room(&mut self, now: Now, request: proto::CreateRoomRequest) -> Answer<proto::Room> {
        if request.name.is_empty() || request.name.len() > NAME_LIMIT {
            return Err(ServiceError::RoomNameInvalid);
        }
        if request.metadata.len() > METADATA_LIMIT {
            return Err(ServiceError::TooLong);
        }
        if let Some(id) = self.names.get(&request.name).copied() {
            let (mut ctx, rooms) = self.at(now);
            let room = rooms.get_mut(&id).ok_or(ServiceError::RoomNotFound)?;
            room.reconfigure(&mut ctx, &request);
            return Ok(room.info(ctx.settings));
        }
        if self.rooms.len() >= self.settings.limits.rooms {
            return Err(ServiceError::TooManyRooms);
        }
        let configuration = RoomConfiguration {
            empty_timeout: request.empty_timeout,
            departure_timeout: request.departure_timeout,
            max_participants: request.max_participants,
            metadata: request.metadata,
            sync_streams: request.sync_streams,
            ..Default::default()
        };
        let id = self.open(now, &request.name, &configuration);
        let room = self.rooms.get(&id).ok_or(ServiceError::RoomNotFound)?;
        Ok(room.info(&self.settings))
    }

    pub fn list_rooms(&self, request: &proto::ListRoomsRequest) -> proto::ListRoomsResponse {
        let wanted = |room: &&Room| request.names.is_empty() || request.names.contains(&room.name);
        proto::ListRoomsResponse {
            rooms: self.rooms.values().filter(wanted).map(|room| room.info(&self.settings)).collect(),
        }
    }

    pub fn delete_room(&mut self, now: Now, request: &proto::DeleteRoomRequest) -> Answer<proto::DeleteRoomResponse> {
        let id = self.room_id(&request.room)?;
        self.close_room(now, id, DisconnectReason::RoomDeleted);
        Ok(proto::DeleteRoomResponse::default())
    }

    pub fn list_participants(&self, request: &proto::ListParticipantsRequest) -> proto::ListParticipantsResponse {
        // A room that does not exist has nobody in it.
        let participants = self
            .room(&request.room)
            .map_or_else(|_| Vec::new(), |room| room.sessions.values().map(|session| session.info()).collect());
        proto::ListParticipantsResponse { participants }
    }

    pub fn get_participant(&self, request: &proto::RoomParticipantIdentity) -> Answer<ParticipantInfo> {
        let room = self.room(&request.room).map_err(|_| ServiceError::ParticipantNotFound)?;
        let id = room.by_identity(&request.identity)?;
        let session = room.sessions.get(&id);
        Ok(session.ok_or(ServiceError::ParticipantNotFound)?.info())
    }

    pub fn remove_participant(
        &mut self,
        now: Now,
        request: &proto::RoomParticipantIdentity,
    ) -> Answer<proto::RemoveParticipantResponse> {
        self.in_room(now, &request.room, |ctx, room| {
            let participant = room.by_identity(&request.identity)?;
            room.expel(ctx, participant);
            Ok(proto::RemoveParticipantResponse::default())
        })
    }

    pub fn mute_published_track(
        &mut self,
        now: Now,
        request: &proto::MuteRoomTrackRequest,
    ) -> Answer<proto::MuteRoomTrackResponse> {
        self.in_room(now, &request.room, |ctx, room| {
            let participant = room.by_identity(&request.identity)?;
            if room.publication_mut(participant, &request.track_sid).is_none() {
                return Err(ServiceError::TrackNotFound);
            }
            if !request.muted {
                return Err(ServiceError::UnmuteRefused);
            }
            room.demand_mute(ctx, participant, &request.track_sid);
            let track =
                room.publication_mut(participant, &request.track_sid).map(|publication| publication.info.clone());
            Ok(proto::MuteRoomTrackResponse { track })
        })
    }

    pub fn change_participant(
        &mut self,
        now: Now,
        request: &proto::UpdateParticipantRequest,
    ) -> Answer<ParticipantInfo> {
        self.in_room(now, &request.room, |ctx, room| {
            let participant = room.by_identity(&request.identity)?;
            let (metadata, name) = (&request.metadata, &request.name);
            let attributes = request.attributes.clone().into_iter();
            let attributes = room.merged_attributes(participant, metadata, name, attributes);
            let attributes = attributes.ok_or(ServiceError::TooLong)?;
            if let Some(permission) = &request.permission {
                room.change_permission(ctx, participant, permission);
            }
            room.set_participant(ctx, participant, metadata, name, attributes);
            let session = room.sessions.get(&participant);
            Ok(session.ok_or(ServiceError::ParticipantNotFound)?.info())
        })
    }

    pub fn update_subscriptions(
        &mut self,
        now: Now,
        request: proto::UpdateSubscriptionsRequest,
    ) -> Answer<proto::UpdateSubscriptionsResponse> {
        let name = request.room.clone();
        self.in_room(now, &name, |ctx, room| {
            let participant = room.by_identity(&request.identity)?;
            let update = proto::UpdateSubscription {
                track_sids: request.track_sids,
                subscribe: request.subscribe,
                participant_tracks: request.participant_tracks,
            };
            room.handle_subscription(ctx, participant, update);
            Ok(proto::UpdateSubscriptionsResponse::default())
        })
    }

    pub fn send_data(&mut self, now: Now, request: proto::SendDataRequest) -> Answer<proto::SendDataResponse> {
        let name = request.room.clone();
        self.in_room(now, &name, |ctx, room| {
            let label = match Kind::try_from(request.kind) {
                Ok(Kind::Lossy) => data::LOSSY,
                _ => data::RELIABLE,
            };
            #[allow(deprecated)]
            let packet = DataPacket {
                kind: request.kind,
                destination_identities: request.destination_identities.clone(),
                value: Some(Value::User(UserPacket {
                    payload: request.data,
                    topic: request.topic,
                    destination_identities: request.destination_identities.clone(),
                    nonce: request.nonce,
                    ..Default::default()
                })),
                ..Default::default()
            };
            #[allow(deprecated)]
            let forwarded = Forwarded {
                payload: packet.encode_to_vec().into(),
                identities: request.destination_identities.into_iter().collect(),
                sids: request.destination_sids.into_iter().collect(),
            };
            room.send_data(ctx, None, label, &forwarded);
            Ok(proto::SendDataResponse::default())
        })
    }

    pub fn update_room_metadata(
        &mut self,
        now: Now,
        request: &proto::UpdateRoomMetadataRequest,
    ) -> Answer<proto::Room> {
        if request.metadata.len() > METADATA_LIMIT {
            return Err(ServiceError::TooLong);
        }
        self.in_room(now, &request.room, |ctx, room| {
            room.metadata = request.metadata.clone();
            room.send_update(ctx);
            Ok(room.info(ctx.settings))
        })
    }
}

impl Room {
    fn by_identity(&self, identity: &str) -> Answer<ParticipantId> {
        self.identities.get(identity).copied().ok_or(ServiceError::ParticipantNotFound)
    }

    fn reconfigure(&mut self, ctx: &mut Context<'_>, request: &proto::CreateRoomRequest) {
        let seconds = |value: u32| std::time::Duration::from_secs(value.into());
        if request.empty_timeout > 0 {
            self.empty_timeout = seconds(request.empty_timeout);
        }
        if request.departure_timeout > 0 {
            self.departure_timeout = seconds(request.departure_timeout);
        }
        if request.max_participants > 0 {
            self.max_participants = request.max_participants;
        }
        self.sync_streams |= request.sync_streams;
        if !request.metadata.is_empty() && request.metadata != self.metadata {
            self.metadata = request.metadata.clone();
            self.send_update(ctx);
        }
        // Who creates a room is about to send somebody there.
        if self.sessions.is_empty() {
            let at = ctx.now.instant + self.empty_timeout;
            ctx.timers.set(Timer::CloseRoom(self.id), at);
        }
    }

    /// What is no longer permitted ends at once.
    fn change_permission(
        &mut self,
        ctx: &mut Context<'_>,
        participant: ParticipantId,
        permission: &proto::ParticipantPermission,
    ) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        session.permission = permission.clone();
        let forbidden: Vec<TrackId> = session
            .publications
            .values()
            .filter(|publication| {
                let source = TrackSource::try_from(publication.info.source);
                !session.may_publish(source.unwrap_or(TrackSource::Unknown))
            })
            .map(|publication| publication.id)
            .collect();
        for track in forbidden {
            self.force_unpublish(ctx, participant, track);
        }
        self.consider_all(ctx, participant);
    }
}
