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
/// recognised by its SSRC; its send times let the client estimate the bandwidth (REMB), and so transport-wide
/// numbers, the other way of estimating, stay out of it.
fn accepted(role: Role, kind: Kind) -> &'static [&'static str] {
    match (role, kind) {
        (Role::Publish, Kind::Audio) => &[MID, AUDIO_LEVEL],
        (Role::Publish, Kind::Video) => &[MID, RID, REPAIRED_RID, TRANSPORT_CC],
        (Role::Subscribe, Kind::Audio) => &[],
        (Role::Subscribe, Kind::Video) => &[ABS_SEND_TIME],
    }
}

/// The RTCP feedback (RFC 4585) that an answer takes up.
pub fn accepted_feedback(role: Role, kind: Kind) -> &'static [&'static str] {
    match (role, kind) {
        (_, Kind::Audio) => &["nack"],
        (Role::Publish, Kind::Video) => &["transport-cc", "ccm fir", "nack", "nack pli"],
        (Role::Subscribe, Kind::Video) => &["goog-remb", "ccm fir", "nack", "nack pli"],
    }
}

/// The lines of the answer and the same as numbers for the packet path. Ids of the two-byte form (15 and above) are
/// not taken up.
pub fn accept(section: &Section, role: Role, kind: Kind) -> (Vec<(u8, &'static str)>, ExtensionIds) {
    let mut ids = ExtensionIds::default();
    let mut lines = Vec::new();
    for (id, uri) in &section.extensions {
        let Some(uri) = accepted(role, kind).iter().find(|known| *known == uri) else {
            continue;
        };
        if !(1..=14).contains(id) {
            continue;
        }
        let slot = match *uri {
            MID => &mut ids.mid,
            RID => &mut ids.rid,
            REPAIRED_RID => &mut ids.repaired_rid,
            AUDIO_LEVEL => &mut ids.audio_level,
            TRANSPORT_CC => &mut ids.transport_cc,
            _ => &mut ids.abs_send_time,
        };
        if slot.is_none() {
            *slot = Some(*id);
            lines.push((*id, *uri));
        }
    }
    (lines, ids)
}
