//! Tokens for the page, in demonstrations only: who asks gets in.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use serde::Deserialize;

use super::{App, read, text};
use crate::control::now;
use crate::livekit::token::{self, Claims, VideoGrant};

const BODY_LIMIT: usize = 4 << 10;
const LIFE: Duration = Duration::from_secs(60 * 60);
/// Characters of a name or room.
const NAME_LIMIT: usize = 64;

#[derive(Deserialize)]
struct Request {
    room: String,
    name: String,
}

pub async fn token(app: &App, body: Body) -> Response<Body> {
    let Some(key) = &app.demo_key else {
        return text(StatusCode::NOT_FOUND, "");
    };
    let body = match read(body, BODY_LIMIT).await {
        Ok(body) => body,
        Err(status) => return text(status, "the request is too long, or took too long"),
    };
    let Ok(request) = serde_json::from_slice::<Request>(&body) else {
        return text(StatusCode::BAD_REQUEST, "a room and a name are required");
    };
    let (room, name) = (request.room.trim(), request.name.trim());
    if room.is_empty() || name.is_empty() {
        return text(StatusCode::BAD_REQUEST, "a room and a name are required");
    }
    if room.chars().count() > NAME_LIMIT || name.chars().count() > NAME_LIMIT {
        return text(StatusCode::BAD_REQUEST, "room and name have at most 64 characters");
    }
    // Two tabs of one name are two participants.
    let suffix = app.control.step(|rooms, _| rooms.random_suffix());
    let claims = Claims {
        iss: key.clone(),
        sub: format!("{name}-{suffix}"),
        name: name.to_owned(),
        exp: Some((now().unix + LIFE).as_secs()),
        video: Some(VideoGrant {
            room_join: true,
            room: room.to_owned(),
            can_update_own_metadata: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    };
    let Some(token) = token::sign(&claims, &app.settings.api_keys) else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the demo key is no API key");
    };
    let mut response = text(StatusCode::OK, serde_json::json!({ "token": token, "identity": claims.sub }).to_string());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
