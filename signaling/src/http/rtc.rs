//! `/rtc` and `/rtc/v1`: from a request to a joined client's WebSocket. Every refusal is an HTTP status before the
//! upgrade: that is all that clients understand.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Query};
use axum::http::{HeaderMap, Response, StatusCode, Uri, header, request::Parts};
use tokio::sync::OwnedSemaphorePermit;

use super::{App, text};
use crate::connection::{self, BUFFER, MESSAGE_LIMIT};
use crate::control::now;
use crate::livekit::token::{self, Claims, TokenError};
use crate::livekit::{Join, JoinRefusal, join_request};

type Parameters = HashMap<String, String>;

fn parameters(uri: &Uri) -> Parameters {
    Query::<Parameters>::try_from_uri(uri).map(|query| query.0).unwrap_or_default()
}

/// The token of the Authorization header, or of the address where a browser has to put it.
pub fn claims(app: &App, headers: &HeaderMap, parameters: &Parameters) -> Result<Claims, TokenError> {
    let token = match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).ok_or(TokenError::Malformed)?
        }
        None => parameters
            .get("access_token")
            .map(String::as_str)
            .filter(|token| !token.is_empty())
            .ok_or(TokenError::Missing)?,
    };
    token::verify(token, &app.settings.api_keys, now().unix.as_secs())
}

fn refuse(refusal: JoinRefusal) -> Response<Body> {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    text(status, refusal.text)
}

/// Everything that can be said about a join before the rooms are asked.
fn examine(app: &App, parts: &Parts, path: &str) -> Result<Join, JoinRefusal> {
    let parameters = parameters(&parts.uri);
    let claims = claims(app, &parts.headers, &parameters)?;
    let encoded = parameters.get("join_request").map(String::as_str).unwrap_or_default();
    if encoded.is_empty() && !path.starts_with("/rtc/v1") {
        // Two PeerConnections. Not a 404: clients would try the same again, without end.
        return Err(JoinRefusal { status: 400, text: "single PeerConnection required" });
    }
    let request = join_request::decode(encoded).map_err(|error| JoinRefusal { status: 400, text: error.text() })?;
    Ok(Join::new(claims, request))
}

/// A client whose upgrade failed asks here why.
pub fn validate(app: &App, parts: &Parts, path: &str) -> Response<Body> {
    let checked =
        examine(app, parts, path).and_then(|join| app.control.step(|rooms, _| rooms.check_join(&join.claims)));
    match checked {
        Ok(()) => text(StatusCode::OK, "success"),
        Err(refusal) => refuse(refusal),
    }
}

pub async fn join(app: Arc<App>, parts: &mut Parts, path: &str, slot: Arc<OwnedSemaphorePermit>) -> Response<Body> {
    let join = match examine(&app, parts, path) {
        Ok(join) => join,
        Err(refusal) => return refuse(refusal),
    };
    let Ok(upgrade) = WebSocketUpgrade::from_request_parts(parts, &()).await else {
        return text(StatusCode::NOT_FOUND, "");
    };
    // The session comes first, so that a refusal is a status, and the first message follows the 101 at once.
    let inbox = match app.control.join(join) {
        Ok(inbox) => inbox,
        Err(refusal) => return refuse(refusal),
    };
    let limits = &app.settings.limits;
    let rate = (limits.messages_per_second, limits.message_burst);
    let control = Arc::clone(&app.control);
    let failed = Arc::clone(&app.control);
    let connection = inbox.connection;
    upgrade
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(MESSAGE_LIMIT)
        .max_frame_size(MESSAGE_LIMIT)
        .on_failed_upgrade(move |_| failed.handle_connection_lost(connection))
        .on_upgrade(move |socket| async move {
            connection::run(control, socket, inbox, rate).await;
            drop(slot);
        })
}
