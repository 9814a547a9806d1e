//! Entry points for fuzzing: whatever a stranger sends, nothing panics.

use super::join_request;
use super::request::Request;
use super::sdp::codec;
use super::sdp::{Answer, Offer, Role, SectionAnswer, SectionKind, extension};

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

#[doc(hidden)]
pub fn fuzz_signal_request(data: &[u8]) {
    let _ = Request::decode(data);
}
