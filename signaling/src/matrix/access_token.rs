//! The LiveKit token that a Matrix user gets.

use std::time::Duration;

use super::{Admission, ISSUER, Settings};
use crate::livekit::token::{Claims, VideoGrant};

const LIFE: Duration = Duration::from_secs(3600);

/// What the token says. It permits nothing but to take part: who may create rooms by API may also delete them.
pub fn claims(settings: &Settings, admission: &Admission, unix: Duration) -> Claims {
    let seat = &admission.seat;
    let sources = settings.policy.sources(&seat.member.user_id);
    Claims {
        iss: ISSUER.to_owned(),
        sub: seat.identity.clone(),
        nbf: Some(unix.as_secs()),
        exp: Some((unix + LIFE).as_secs()),
        video: Some(VideoGrant {
            room: seat.call.clone(),
            room_join: true,
            // An empty list of sources would mean all of them.
            can_publish: Some(sources.as_ref().is_none_or(|sources| !sources.is_empty())),
            can_subscribe: Some(true),
            can_publish_data: Some(true),
            can_publish_sources: sources.filter(|sources| !sources.is_empty()),
            can_update_own_metadata: Some(true),
            ..Default::default()
        }),
        matrix: Some(seat.member.clone()),
        ..Default::default()
    }
}
