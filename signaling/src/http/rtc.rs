//! `/rtc` and `/rtc/v1`: from a request to a joined client's WebSocket. Every refusal is an HTTP status before the
//! upgrade: that is all that clients understand.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, Response, StatusCode, Uri, header, request::Parts};

use super::{App, matrix, text};
use crate::connection;
use crate::control::now;
use crate::livekit::token::{self, Claims, TokenError};
use crate::livekit::{Join, JoinRefusal, Opening, join_request};
use crate::matrix::ISSUER;
use crate::tcp::Place;
use crate::websocket::Upgrade;

/// Somebody who was in a call waits for so long until it is open again.
const REOPENING: Duration = Duration::from_secs(8);
const REOPENING_POLL: Duration = Duration::from_millis(200);

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
    let mut claims = token::verify(token, &app.settings.api_keys, now().unix.as_secs())?;
    // For a Matrix user no other key speaks.
    if claims.iss != ISSUER {
        claims.matrix = None;
    }
    Ok(claims)
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
    let opening = match (&claims.matrix, &app.tokens) {
        (Some(member), Some(tokens)) if tokens.settings.may_open(&member.user_id) => Opening::Permitted,
        (Some(_), _) => Opening::Forbidden,
        (None, _) => Opening::AsConfigured,
    };
    Ok(Join::new(claims, request, opening))
}

/// A token outlives a kick, so membership is asked for again.
async fn check_member(app: &App, join: &Join) -> Result<(), JoinRefusal> {
    match &join.claims.matrix {
        Some(member) if !matrix::may_enter(app, member).await => Err(TokenError::PermissionDenied.into()),
        _ => Ok(()),
    }
}

/// Whether the join would be let in. Who was in the call (such a token is one that we renewed, which never says when it begins,
/// or older than this program) waits for somebody to open it again: after a restart of ours all come back at once, in any
/// order.
async fn check_join(app: &App, join: &Join) -> Result<(), JoinRefusal> {
    let was_here = join.claims.matrix.is_some() && join.claims.nbf.is_none_or(|nbf| nbf < app.started.as_secs());
    let until = now().instant + REOPENING;
    loop {
        let checked = app.control.step(|rooms, _| rooms.check_join(&join.claims, join.opening));
        match checked {
            Err(refusal) if refusal.status == 404 && was_here && now().instant < until => {
                tokio::time::sleep(REOPENING_POLL).await;
            }
            checked => return checked,
        }
    }
}

/// Everything before the upgrade.
async fn admit(app: &App, parts: &Parts, path: &str) -> Result<Join, JoinRefusal> {
    let join = examine(app, parts, path)?;
    check_member(app, &join).await?;
    // Who resumes is told in the socket that the session is gone.
    if !join.request.reconnect {
        check_join(app, &join).await?;
    }
    Ok(join)
}

/// A client whose upgrade failed asks here why. It takes a 404 for the last word, so what it hears is what the socket would
/// say: we may have been away when the socket was tried, and be back, without our rooms, when the reason is asked for.
pub async fn validate(app: &App, parts: &Parts, path: &str) -> Response<Body> {
    match admit(app, parts, path).await {
        Ok(_) => text(StatusCode::OK, "success"),
        Err(refusal) => refuse(refusal),
    }
}

pub async fn join(app: Arc<App>, parts: &mut Parts, path: &str, place: Arc<Place>) -> Response<Body> {
    let join = match admit(&app, parts, path).await {
        Ok(join) => join,
        Err(refusal) => return refuse(refusal),
    };
    let Some(upgrade) = Upgrade::of(parts) else {
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
    let (response, socket) = upgrade.grant();
    tokio::spawn(async move {
        match socket.await {
            Ok(socket) => connection::run(control, socket, inbox, rate).await,
            Err(_) => control.handle_connection_lost(inbox.connection),
        }
        drop(place);
    });
    response
}
