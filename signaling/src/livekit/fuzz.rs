//! Entry points for fuzzing: whatever a stranger sends, nothing panics.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datapath::{Entropy, Now};
use livekit_protocol::{ConnectionSettings, JoinRequest};

use super::join_request;
use super::joining::Join;
use super::output::ConnectionId;
use super::request::Request;
use super::rooms::{Opening, Rooms};
use super::sdp::codec;
use super::sdp::{Answer, Offer, Role, SectionAnswer, SectionKind, extension};
use super::settings::Settings;
use super::token::{Claims, VideoGrant};
use crate::options::{Limits, RoomDefaults};

/// An offer, and an answer to it that a parser reads again.
#[doc(hidden)]
pub fn fuzz_sdp(data: &[u8]) {
    let Ok(offer) = Offer::parse(data) else {
        return;
    };
    let sections = offer
        .sections
        .iter()
        .map(|section| {
            let _ = extension::ids(section, Role::Publish, sfu::Kind::Video);
            match section.kind {
                SectionKind::Unknown => SectionAnswer::Rejected,
                SectionKind::Application => SectionAnswer::Application,
                _ if section.rejected => SectionAnswer::Rejected,
                _ => match codec::choose_for_publisher(section, Some("h264")) {
                    Some(choice) => SectionAnswer::Receive { choice, fmtp: None, rids: section.send_rids.clone() },
                    None => SectionAnswer::Rejected,
                },
            }
        })
        .collect();
    let answer = Answer {
        session_id: 1,
        session_version: 1,
        ice: &offer.ice,
        fingerprint: offer.fingerprint,
        candidates: &[],
        tcp_candidates: &[],
        sections,
    };
    let text = answer.write(&offer);
    let read = sdp_types::Session::parse(text.as_bytes()).expect("our answers are well-formed");
    assert_eq!(read.medias.len(), offer.sections.len());
}

#[doc(hidden)]
pub fn fuzz_join_request(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = join_request::decode(text);
    }
}

/// A client of a room of two that sends whatever it likes: each message is led by its length (two octets, big-endian);
/// 0 stands for a second that passes.
#[doc(hidden)]
#[allow(clippy::disallowed_methods)] // Some instant to count from; it decides nothing.
pub fn fuzz_session(data: &[u8]) {
    let mut now = Now { instant: Instant::now(), unix: Duration::from_secs(1_000_000_000) };
    let settings = Settings {
        api_keys: BTreeMap::from([("key".to_owned(), "secret".to_owned())]),
        candidates: Vec::new(),
        tcp_candidates: Vec::new(),
        fingerprint: sfu::Fingerprint([0; 32]),
        turn: None,
        limits: Limits::default(),
        room_defaults: RoomDefaults::default(),
        workers: 1,
        node_id: String::new(),
    };
    let mut rooms = Rooms::new(settings, Entropy::from_seed([0; 32]));
    for connection in [1, 2] {
        let claims = Claims {
            iss: "key".into(),
            sub: format!("p{connection}"),
            video: Some(VideoGrant {
                room_join: true,
                room: "r".into(),
                can_update_own_metadata: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = JoinRequest {
            connection_settings: Some(ConnectionSettings { auto_subscribe: true, ..Default::default() }),
            ..Default::default()
        };
        let join = Join::new(claims, request, Opening::AsConfigured);
        assert_eq!(rooms.join(now, ConnectionId(connection), join), Ok(()));
    }
    let mut rest = data;
    while let [high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (message, tail) = tail.split_at(length);
        rest = tail;
        if message.is_empty() {
            now.instant += Duration::from_secs(1);
            now.unix += Duration::from_secs(1);
            rooms.handle_timeout(now);
        } else if let Some(request) = Request::decode(message) {
            rooms.handle_request(now, ConnectionId(1), request);
        }
        rooms.take_outputs();
    }
}
