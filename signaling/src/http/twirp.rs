//! The room service's calls: `POST /twirp/livekit.RoomService/<Method>`, protobuf or JSON.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header, request::Parts};
use livekit_protocol as proto;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{App, read, text};
use crate::http::rtc;
use crate::livekit::ServiceError;
use crate::livekit::token::VideoGrant;

const BODY_LIMIT: usize = 10 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

pub async fn call(app: &App, method: &str, parts: &Parts, body: Body) -> Response<Body> {
    if parts.method != axum::http::Method::POST {
        return error("bad_route", StatusCode::NOT_FOUND, "only POST is served");
    }
    // What is no token at all is refused before Twirp has a say.
    let claims = match rtc::claims(app, &parts.headers, &Default::default()) {
        Ok(claims) => claims,
        Err(refusal) => return text(StatusCode::UNAUTHORIZED, refusal.text()),
    };
    let content_type =
        parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let encoding = if content_type.starts_with("application/protobuf") {
        Encoding::Protobuf
    } else if content_type.starts_with("application/json") {
        Encoding::Json
    } else {
        return error("bad_route", StatusCode::NOT_FOUND, "unexpected Content-Type");
    };
    let body = match read(body, BODY_LIMIT).await {
        Ok(body) => body,
        Err(status) => return text(status, "the request is too long, or took too long"),
    };
    let call = Call { app, grant: claims.grant(), encoding, body: &body };
    call.method(method)
}

struct Call<'a> {
    app: &'a App,
    grant: VideoGrant,
    encoding: Encoding,
    body: &'a [u8],
}

impl Call<'_> {
    fn method(&self, method: &str) -> Response<Body> {
        let control = &self.app.control;
        let create = self.grant.room_create;
        let list = self.grant.room_list;
        match method {
            "CreateRoom" => self.answer(
                |_| create,
                |request: proto::CreateRoomRequest| control.step(|rooms, now| rooms.create_room(now, request)),
            ),
            "ListRooms" => self.answer(
                |_| list,
                |request: proto::ListRoomsRequest| control.step(|rooms, _| Ok(rooms.list_rooms(&request))),
            ),
            "DeleteRoom" => self.answer(
                |_| create,
                |request: proto::DeleteRoomRequest| control.step(|rooms, now| rooms.delete_room(now, &request)),
            ),
            "ListParticipants" => self.answer(
                |request: &proto::ListParticipantsRequest| self.administers(&request.room),
                |request| control.step(|rooms, _| Ok(rooms.list_participants(&request))),
            ),
            "GetParticipant" => self.answer(
                |request: &proto::RoomParticipantIdentity| self.administers(&request.room),
                |request| control.step(|rooms, _| rooms.get_participant(&request)),
            ),
            "RemoveParticipant" => self.answer(
                |request: &proto::RoomParticipantIdentity| self.administers(&request.room),
                |request| control.step(|rooms, now| rooms.remove_participant(now, &request)),
            ),
            "MutePublishedTrack" => self.answer(
                |request: &proto::MuteRoomTrackRequest| self.administers(&request.room),
                |request| control.step(|rooms, now| rooms.mute_published_track(now, &request)),
            ),
            "UpdateParticipant" => self.answer(
                |request: &proto::UpdateParticipantRequest| self.administers(&request.room),
                |request| control.step(|rooms, now| rooms.change_participant(now, &request)),
            ),
            "UpdateSubscriptions" => self.answer(
                |request: &proto::UpdateSubscriptionsRequest| self.administers(&request.room),
                |request| control.step(|rooms, now| rooms.update_subscriptions(now, request)),
            ),
            "SendData" => self.answer(
                |request: &proto::SendDataRequest| self.administers(&request.room),
                |request| control.step(|rooms, now| rooms.send_data(now, request)),
            ),
            "UpdateRoomMetadata" => self.answer(
                |request: &proto::UpdateRoomMetadataRequest| self.administers(&request.room),
                |request| control.step(|rooms, now| rooms.update_room_metadata(now, &request)),
            ),
            "ForwardParticipant" | "MoveParticipant" | "PerformRpc" => {
                error("unimplemented", StatusCode::NOT_IMPLEMENTED, "this server does not do that")
            }
            _ => error("bad_route", StatusCode::NOT_FOUND, "no such method"),
        }
    }

    fn administers(&self, room: &str) -> bool {
        self.grant.room_admin && self.grant.room == room
    }

    fn answer<Q, A>(
        &self,
        permitted: impl FnOnce(&Q) -> bool,
        perform: impl FnOnce(Q) -> Result<A, ServiceError>,
    ) -> Response<Body>
    where
        Q: Message + Default + DeserializeOwned,
        A: Message + Serialize,
    {
        let request = match self.encoding {
            Encoding::Protobuf => Q::decode(self.body).ok(),
            Encoding::Json => serde_json::from_slice(self.body).ok(),
        };
        let Some(request) = request else {
            return error("malformed", StatusCode::BAD_REQUEST, "the request could not be decoded");
        };
        if !permitted(&request) {
            return error("unauthenticated", StatusCode::UNAUTHORIZED, "permissions denied");
        }
        let answer = match perform(request) {
            Ok(answer) => answer,
            Err(refusal) => {
                let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return error(refusal.code(), status, refusal.text());
            }
        };
        let (body, content_type) = match self.encoding {
            Encoding::Protobuf => (answer.encode_to_vec(), "application/protobuf"),
            Encoding::Json => (serde_json::to_vec(&answer).unwrap_or_default(), "application/json"),
        };
        typed(StatusCode::OK, body, content_type)
    }
}

fn typed(status: StatusCode, body: impl Into<Body>, content_type: &'static str) -> Response<Body> {
    let mut response = text(status, body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Twirp's form of an error.
fn error(code: &str, status: StatusCode, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "code": code, "msg": message, "meta": {} });
    typed(status, body.to_string(), "application/json")
}
