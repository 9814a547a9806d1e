//! RTP header extensions (RFC 8285): which of the offered ones an answer takes up.

use sfu::{ExtensionIds, Kind};

use super::offer::Section;

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";

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
/// Where a client knows no such numbers, send times let it estimate the bandwidth by itself (REMB).
///
/// An answer takes up all of them in every section, whatever we do there: in a new section Chromium offers no
/// extension that an earlier answer left out of a section of that kind, and a camera without rids has no layers.
fn accepted(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Audio => &[MID, AUDIO_LEVEL, TRANSPORT_CC],
        Kind::Video => &[MID, RID, REPAIRED_RID, TRANSPORT_CC, ABS_SEND_TIME],
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

/// The lines of the answer. Ids of the two-byte form (15 and above) are not taken up.
pub fn lines(section: &Section, kind: Kind) -> Vec<(u8, &'static str)> {
    let mut lines: Vec<(u8, &'static str)> = Vec::new();
    for (id, uri) in &section.extensions {
        let known = accepted(kind).iter().find(|known| *known == uri);
        if let Some(uri) = known
            && (1..=14).contains(id)
            && lines.iter().all(|line| line.0 != *id && line.1 != *uri)
        {
            lines.push((*id, uri));
        }
    }
    lines
}

/// What the packet path reads of what a publisher sends, or writes for a subscriber.
pub fn ids(section: &Section, role: Role, kind: Kind) -> ExtensionIds {
    let lines = lines(section, kind);
    let id = |uri| lines.iter().find(|line| line.1 == uri).map(|line| line.0);
    match role {
        Role::Publish => ExtensionIds {
            mid: id(MID),
            rid: id(RID),
            repaired_rid: id(REPAIRED_RID),
            audio_level: id(AUDIO_LEVEL),
            transport_cc: id(TRANSPORT_CC),
            ..Default::default()
        },
        Role::Subscribe => {
            ExtensionIds { transport_cc: id(TRANSPORT_CC), abs_send_time: id(ABS_SEND_TIME), ..Default::default() }
        }
    }
}
