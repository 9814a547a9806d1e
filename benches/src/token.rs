//! LiveKit access tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    name: &'a str,
    nbf: u64,
    exp: u64,
    video: Grant<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Grant<'a> {
    room: &'a str,
    room_join: bool,
    can_publish: bool,
    can_subscribe: bool,
}

/// A token that lets `identity` publish to and subscribe in `room` for an hour.
#[allow(clippy::disallowed_methods)] // the real clock: the server checks the token against its own
pub fn token(key: &str, secret: &str, room: &str, identity: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let claims = Claims {
        iss: key,
        sub: identity,
        name: identity,
        nbf: now.as_secs(),
        exp: (now + Duration::from_secs(3600)).as_secs(),
        video: Grant { room, room_join: true, can_publish: true, can_subscribe: true },
    };
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes()))?)
}
