//! Entry points for fuzzing: whatever a stranger sends, nothing panics.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE;
use datapath::{Entropy, Now};
use flate2::write::GzEncoder;
use livekit_protocol::wrapped_join_request::Compression;
use livekit_protocol::{ConnectionSettings, JoinRequest, WrappedJoinRequest};
use prost::Message;

use super::join_request;
use super::joining::Join;
use super::output::ConnectionId;
use super::request::Request;
use super::rooms::{Opening, Rooms};
use super::sdp::codec;
use super::sdp::{Answer, Offer, SectionAnswer, SectionKind, extension};
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
            let _ = extension::published_ids(section, sfu::Codec::H264);
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

/// What stands in the URL; then the same octets as the message itself, which means the same plain and compressed.
#[doc(hidden)]
pub fn fuzz_join_request(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = join_request::decode(text);
    }
    // Of an empty message nothing stands in the URL.
    if data.is_empty() {
        return;
    }
    let wrapped = |compression: Compression, message: Vec<u8>| {
        let wrapped = WrappedJoinRequest { compression: compression as i32, join_request: message };
        join_request::decode(&BASE64_URL_SAFE.encode(wrapped.encode_to_vec()))
    };
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(data).expect("memory takes everything");
    let compressed = gzip.finish().expect("memory takes everything");
    assert_eq!(wrapped(Compression::None, data.to_vec()), wrapped(Compression::Gzip, compressed));
}

/// Two clients of a room who send whatever they like: each message is led by its length (two octets, big-endian, the
/// first bit says whose it is); 0 stands for a second that passes. A message that begins with a brace is JSON.
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
        let length = usize::from(u16::from_be_bytes([*high & 0x7F, *low])).min(tail.len());
        let client = ConnectionId(1 + u64::from(high >> 7));
        let (message, tail) = tail.split_at(length);
        rest = tail;
        if message.is_empty() {
            now.instant += Duration::from_secs(1);
            now.unix += Duration::from_secs(1);
            rooms.handle_timeout(now);
        } else {
            let request = match message[0] {
                b'{' => std::str::from_utf8(message).ok().and_then(Request::decode_json),
                _ => Request::decode(message),
            };
            if let Some(request) = request {
                rooms.handle_request(now, client, request);
            }
        }
        rooms.take_outputs();
    }
}
