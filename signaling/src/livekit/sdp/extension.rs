//! RTP header extensions (RFC 8285): which of the offered ones an answer takes up.

use sfu::{Codec, ExtensionIds, Kind};

use super::offer::Section;

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
const DEPENDENCY_DESCRIPTOR: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// What we do in a section, as seen by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The client sends, we receive.
    Publish,
    /// We send, the client receives.
    Subscribe,
}

/// Publishers tell us what a stream is (mid, rid), how loud it is, and number it for our feedback. What we send is
/// recognised by its SSRC, and numbered for the client's feedback, audio too: so a link is known while video is paused.
/// Where a client knows no such numbers, and there alone, send times let it estimate the bandwidth by itself (REMB).
///
/// An answer takes up all the others in every section, whatever we do there: in a new section Chromium offers no
/// extension that an earlier answer left out of a section of that kind, and a camera without rids has no layers.
///
/// The dependency descriptor is the exception. It tells the temporal layers of H.264, whose payload does not. But where it
/// is taken up for VP8, libwebrtc empties VP8's payload descriptor: no picture ids, no layers, nothing for receivers to go
/// by to whom no dependency descriptor is sent, as to ours.
fn accepted(kind: Kind, published: Option<Codec>) -> &'static [&'static str] {
    match (kind, published) {
        (Kind::Audio, _) => &[MID, AUDIO_LEVEL, TRANSPORT_CC],
        (Kind::Video, Some(Codec::Vp8)) => &[MID, RID, REPAIRED_RID, TRANSPORT_CC, ABS_SEND_TIME],
        (Kind::Video, _) => &[MID, RID, REPAIRED_RID, TRANSPORT_CC, ABS_SEND_TIME, DEPENDENCY_DESCRIPTOR],
    }
}

/// The RTCP feedback (RFC 4585) that an answer takes up.
pub fn accepted_feedback(role: Role, kind: Kind) -> &'static [&'static str] {
    match (role, kind) {
        (_, Kind::Audio) => &["transport-cc", "nack"],
        (Role::Publish, Kind::Video) => &["transport-cc", "ccm fir", "nack", "nack pli"],
        (Role::Subscribe, Kind::Video) => &["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"],
    }
}

/// The lines of the answer; `published` is the codec of what the client sends in the section. Ids of the two-byte form
/// (15 and above) are not taken up.
pub fn lines(section: &Section, kind: Kind, published: Option<Codec>) -> Vec<(u8, &'static str)> {
    let mut lines: Vec<(u8, &'static str)> = Vec::new();
    let has_id = |id: &u8| (1..=14).contains(id);
    let is_numbered = section.extensions.iter().any(|(id, uri)| has_id(id) && uri == TRANSPORT_CC);
    for (id, uri) in &section.extensions {
        let known = accepted(kind, published).iter().find(|known| *known == uri);
        if let Some(uri) = known
            && has_id(id)
            && !(is_numbered && *uri == ABS_SEND_TIME)
            && lines.iter().all(|line| line.0 != *id && line.1 != *uri)
        {
            lines.push((*id, uri));
        }
    }
    lines
}

/// What the packet path reads of what a publisher sends.
pub fn published_ids(section: &Section, codec: Codec) -> ExtensionIds {
    let lines = lines(section, codec.kind(), Some(codec));
    let id = |uri| id_of(&lines, uri);
    ExtensionIds {
        mid: id(MID),
        rid: id(RID),
        repaired_rid: id(REPAIRED_RID),
        audio_level: id(AUDIO_LEVEL),
        transport_cc: id(TRANSPORT_CC),
        dependency_descriptor: id(DEPENDENCY_DESCRIPTOR),
        ..Default::default()
    }
}

/// What the packet path writes for a subscriber.
pub fn subscribed_ids(section: &Section, kind: Kind) -> ExtensionIds {
    let lines = lines(section, kind, None);
    let id = |uri| id_of(&lines, uri);
    ExtensionIds { transport_cc: id(TRANSPORT_CC), abs_send_time: id(ABS_SEND_TIME), ..Default::default() }
}

fn id_of(lines: &[(u8, &'static str)], uri: &str) -> Option<u8> {
    lines.iter().find(|line| line.1 == uri).map(|line| line.0)
}

#[cfg(test)]
mod tests {
    use super::super::offer::Offer;
    use super::*;

    const PUBLISH: &[u8] = include_bytes!("../../../fuzz/corpus/sdp/chromium156_offer_publish_simulcast.sdp");

    #[test]
    fn the_dependency_descriptor_is_taken_up_but_for_vp8() {
        let offer = Offer::parse(PUBLISH).unwrap();
        let camera = &offer.sections[7];
        let offered = |published| lines(camera, Kind::Video, published).contains(&(12, DEPENDENCY_DESCRIPTOR));
        assert!(offered(Some(Codec::H264)) && offered(None) && !offered(Some(Codec::Vp8)));
        assert_eq!(published_ids(camera, Codec::H264).dependency_descriptor, Some(12));
        let vp8 = published_ids(camera, Codec::Vp8);
        assert_eq!((vp8.dependency_descriptor, vp8.rid, vp8.repaired_rid), (None, Some(10), Some(11)));
        assert_eq!(subscribed_ids(camera, Kind::Video).dependency_descriptor, None);
    }

    #[test]
    fn send_times_are_for_who_knows_no_numbers() {
        let mut offer = Offer::parse(PUBLISH).unwrap();
        let camera = &mut offer.sections[7];
        let ids = subscribed_ids(camera, Kind::Video);
        assert_eq!((ids.transport_cc, ids.abs_send_time), (Some(3), None));
        camera.extensions.retain(|(_, uri)| uri != TRANSPORT_CC);
        let ids = subscribed_ids(camera, Kind::Video);
        assert_eq!((ids.transport_cc, ids.abs_send_time), (None, Some(2)));
    }
}
