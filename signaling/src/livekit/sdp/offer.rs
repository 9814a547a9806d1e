//! What a client's offer says, as far as it concerns a forwarding unit.

use std::collections::BTreeSet;

use sfu::{Fingerprint, IceCredentials};

/// Octets of a session description.
pub const SDP_LIMIT: usize = 1 << 20;
/// Media sections of one offer.
pub const SECTION_LIMIT: usize = 512;
/// RFC 8285 one-byte header extensions carry at most 16 octets, and the mid travels in one.
const MID_LIMIT: usize = 16;
/// RFC 8830 §2 ends a track's id at 64 octets; everybody in the room is told of it.
const TRACK_ID_LIMIT: usize = 256;
/// Payload types that can stand in one section (RFC 3551 §6).
const FORMAT_LIMIT: usize = 128;
const SSRC_LIMIT: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferError {
    TooLarge,
    Malformed,
    NoSections,
    TooManySections,
    /// A section without a mid, with one that is no token, or with another section's.
    BadMid,
    /// No usable ufrag and password, or not the same in all bundled sections.
    BadIce,
    /// No SHA-256 fingerprint (RFC 8122 §5).
    NoFingerprint,
    /// The client insists on being the DTLS server (RFC 5763 §5).
    BadSetup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    Audio,
    Video,
    Application,
    /// Something that is always rejected.
    Unknown,
}

/// RFC 8866 §6.7, as seen by the offerer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// One payload type of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pub payload_type: u8,
    pub name: String,
    pub clock_rate: u32,
    pub channels: u8,
    pub fmtp: String,
    pub feedback: Vec<String>,
}

impl Format {
    /// The value of one `key=value` of the format parameters.
    pub fn parameter(&self, key: &str) -> Option<&str> {
        self.fmtp.split(';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case(key).then(|| value.trim())
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub kind: SectionKind,
    pub mid: String,
    /// Port 0 without `a=bundle-only` (RFC 9143 §7.3).
    pub rejected: bool,
    pub direction: Direction,
    /// The `m=` line as it came, for echoing a rejected section.
    pub media: String,
    pub proto: String,
    pub fmt: String,
    /// In the order of the `m=` line, which is the order of preference.
    pub formats: Vec<Format>,
    /// Header extension id and URI.
    pub extensions: Vec<(u8, String)>,
    /// The track id of `a=msid` (RFC 8830).
    pub track_id: Option<String>,
    /// Restriction ids in the order of `a=simulcast:send` (RFC 8853), or of the `a=rid` lines.
    pub send_rids: Vec<String>,
    pub ssrcs: Vec<u32>,
    /// (stream, its retransmissions) of `a=ssrc-group:FID`.
    pub retransmissions: Vec<(u32, u32)>,
    /// `a=ssrc-group:SIM`, simulcast without rids.
    pub simulcast_ssrcs: Vec<u32>,
}

impl Section {
    pub fn format(&self, payload_type: u8) -> Option<&Format> {
        self.formats.iter().find(|format| format.payload_type == payload_type)
    }

    pub fn retransmission_of(&self, ssrc: u32) -> Option<u32> {
        self.retransmissions.iter().find(|(stream, _)| *stream == ssrc).map(|(_, rtx)| *rtx)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub ice: IceCredentials,
    pub fingerprint: Fingerprint,
    pub extmap_allow_mixed: bool,
    pub sections: Vec<Section>,
}

impl Offer {
    pub fn parse(sdp: &[u8]) -> Result<Offer, OfferError> {
        if sdp.len() > SDP_LIMIT {
            return Err(OfferError::TooLarge);
        }
        let session = sdp_types::Session::parse(sdp).map_err(|_| OfferError::Malformed)?;
        if session.medias.is_empty() {
            return Err(OfferError::NoSections);
        }
        if session.medias.len() > SECTION_LIMIT {
            return Err(OfferError::TooManySections);
        }
        let sections: Vec<Section> = session.medias.iter().map(section).collect::<Result<_, _>>()?;
        let mut mids = BTreeSet::new();
        if !sections.iter().all(|section| mids.insert(&section.mid)) {
            return Err(OfferError::BadMid);
        }
        // RFC 9143 §7.1.3: what a bundled section says of the transport is what all of them say; one that is not
        // rejected speaks for the bundle.
        let speaker = session
            .medias
            .iter()
            .zip(&sections)
            .find(|(_, section)| !section.rejected)
            .map(|(media, _)| media)
            .ok_or(OfferError::NoSections)?;
        let look_up = |name: &str| value(&speaker.attributes, name).or_else(|| value(&session.attributes, name));
        let ice = IceCredentials {
            ufrag: look_up("ice-ufrag").ok_or(OfferError::BadIce)?.to_owned(),
            pwd: look_up("ice-pwd").ok_or(OfferError::BadIce)?.to_owned(),
        };
        // RFC 8839 §5.4.
        if !(4..=256).contains(&ice.ufrag.len())
            || !(22..=256).contains(&ice.pwd.len())
            || !ice.ufrag.bytes().chain(ice.pwd.bytes()).all(is_ice_char)
        {
            return Err(OfferError::BadIce);
        }
        if look_up("setup").is_some_and(|setup| setup == "passive" || setup == "holdconn") {
            return Err(OfferError::BadSetup);
        }
        let fingerprint = speaker
            .attributes
            .iter()
            .chain(&session.attributes)
            .filter(|attribute| attribute.attribute == "fingerprint")
            .filter_map(|attribute| attribute.value.as_deref())
            .find_map(sha256)
            .ok_or(OfferError::NoFingerprint)?;
        Ok(Offer {
            ice,
            fingerprint,
            extmap_allow_mixed: session.attributes.iter().any(|attribute| attribute.attribute == "extmap-allow-mixed"),
            sections,
        })
    }
}

fn value<'a>(attributes: &'a [sdp_types::Attribute], name: &str) -> Option<&'a str> {
    attributes
        .iter()
        .find(|attribute| attribute.attribute == name)
        .and_then(|attribute| attribute.value.as_deref())
        .map(str::trim)
}

fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// What may stand as one word in a description: token-chars of RFC 8866 §9.
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'{'..=b'~'
                )
        })
}

fn sha256(value: &str) -> Option<Fingerprint> {
    let (algorithm, hex) = value.trim().split_once(' ')?;
    if !algorithm.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut bytes = [0; 32];
    let mut pairs = hex.trim().split(':');
    for byte in &mut bytes {
        let pair = pairs.next().filter(|pair| pair.len() == 2)?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(Fingerprint(bytes))
}

fn section(media: &sdp_types::Media) -> Result<Section, OfferError> {
    let kind = match media.media.as_str() {
        "audio" => SectionKind::Audio,
        "video" => SectionKind::Video,
        "application" if media.fmt == "webrtc-datachannel" => SectionKind::Application,
        _ => SectionKind::Unknown,
    };
    let mid = value(&media.attributes, "mid").ok_or(OfferError::BadMid)?;
    if mid.len() > MID_LIMIT || !is_token(mid) {
        return Err(OfferError::BadMid);
    }
    let mut section = Section {
        kind,
        mid: mid.to_owned(),
        rejected: media.port == 0,
        direction: Direction::SendRecv,
        media: media.media.clone(),
        proto: media.proto.clone(),
        fmt: media.fmt.clone(),
        formats: formats(&media.fmt),
        extensions: Vec::new(),
        track_id: None,
        send_rids: Vec::new(),
        ssrcs: Vec::new(),
        retransmissions: Vec::new(),
        simulcast_ssrcs: Vec::new(),
    };
    let mut simulcast = None;
    for attribute in &media.attributes {
        let value = attribute.value.as_deref().unwrap_or_default();
        match attribute.attribute.as_str() {
            "bundle-only" => section.rejected = false,
            "sendrecv" => section.direction = Direction::SendRecv,
            "sendonly" => section.direction = Direction::SendOnly,
            "recvonly" => section.direction = Direction::RecvOnly,
            "inactive" => section.direction = Direction::Inactive,
            "rtpmap" => section.read_rtpmap(value),
            "fmtp" => section.read_format(value, |format, rest| format.fmtp = rest.to_owned()),
            "rtcp-fb" => section.read_feedback(value),
            "extmap" => section.read_extension(value),
            "msid" => {
                let id = value.split_whitespace().nth(1).filter(|id| id.len() <= TRACK_ID_LIMIT);
                section.track_id = id.map(str::to_owned);
            }
            "rid" => section.read_rid(value),
            "simulcast" => simulcast = sent_rids(value),
            "ssrc" => section.read_ssrc(value),
            "ssrc-group" => section.read_group(value),
            _ => {}
        }
    }
    if let Some(order) = simulcast {
        let declared = std::mem::take(&mut section.send_rids);
        section.send_rids = order.into_iter().filter(|rid| declared.contains(rid)).collect();
    }
    Ok(section)
}

/// The payload types of an `m=` line; without `a=rtpmap` they stay nameless and match no codec.
fn formats(fmt: &str) -> Vec<Format> {
    fmt.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .filter(|payload_type| *payload_type < 128)
        .take(FORMAT_LIMIT)
        .map(|payload_type| Format {
            payload_type,
            name: String::new(),
            clock_rate: 0,
            channels: 1,
            fmtp: String::new(),
            feedback: Vec::new(),
        })
        .collect()
}

/// `send q;~h;f recv …` (RFC 8853 §5.1): the first alternative of each stream, whether paused or not.
fn sent_rids(value: &str) -> Option<Vec<String>> {
    let mut words = value.split_whitespace();
    while let Some(direction) = words.next() {
        let streams = words.next()?;
        if direction == "send" {
            return Some(
                streams
                    .split(';')
                    .filter_map(|stream| stream.split(',').next())
                    .map(|rid| rid.trim_start_matches('~').to_owned())
                    .collect(),
            );
        }
    }
    None
}

impl Section {
    fn read_format(&mut self, value: &str, apply: impl Fn(&mut Format, &str)) {
        let Some((payload_type, rest)) = value.split_once(' ') else {
            return;
        };
        for format in &mut self.formats {
            if payload_type == "*" || payload_type.parse() == Ok(format.payload_type) {
                apply(format, rest.trim());
            }
        }
    }

    fn read_rtpmap(&mut self, value: &str) {
        self.read_format(value, |format, rest| {
            let mut parts = rest.split('/');
            format.name = parts.next().unwrap_or_default().to_owned();
            format.clock_rate = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
            format.channels = parts.next().and_then(|count| count.parse().ok()).unwrap_or(1);
        });
    }

    fn read_feedback(&mut self, value: &str) {
        self.read_format(value, |format, rest| {
            if format.feedback.len() < 16 {
                format.feedback.push(rest.to_owned());
            }
        });
    }

    fn read_extension(&mut self, value: &str) {
        let mut words = value.split_whitespace();
        let id = words.next().and_then(|id| id.split('/').next()?.parse().ok());
        if let (Some(id), Some(uri)) = (id, words.next())
            && self.extensions.len() < 64
        {
            self.extensions.push((id, uri.to_owned()));
        }
    }

    fn read_rid(&mut self, value: &str) {
        let mut words = value.split_whitespace();
        if let (Some(rid), Some("send")) = (words.next(), words.next())
            // RFC 8851 §10 allows letters, digits, - and _; the header extension at most 16 octets.
            && rid.len() <= MID_LIMIT
            && rid
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && self.send_rids.len() < SSRC_LIMIT
            && !self.send_rids.iter().any(|known| known == rid)
        {
            self.send_rids.push(rid.to_owned());
        }
    }

    fn read_ssrc(&mut self, value: &str) {
        let ssrc = value.split_whitespace().next().and_then(|word| word.parse().ok());
        if let Some(ssrc) = ssrc
            && !self.ssrcs.contains(&ssrc)
            && self.ssrcs.len() < SSRC_LIMIT
        {
            self.ssrcs.push(ssrc);
        }
    }

    fn read_group(&mut self, value: &str) {
        let mut words = value.split_whitespace();
        let semantics = words.next();
        let ssrcs: Vec<u32> = words.filter_map(|word| word.parse().ok()).take(SSRC_LIMIT).collect();
        match (semantics, &ssrcs[..]) {
            (Some("FID"), [stream, rtx]) if self.retransmissions.len() < SSRC_LIMIT => {
                self.retransmissions.push((*stream, *rtx));
            }
            (Some("SIM"), [_, ..]) => self.simulcast_ssrcs = ssrcs,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISH: &[u8] = include_bytes!("../../../fuzz/corpus/sdp/chromium156_offer_publish_simulcast.sdp");
    const LAYOUT: &[u8] = include_bytes!("../../../fuzz/corpus/sdp/chromium156_offer_v1_layout.sdp");

    #[test]
    fn a_browsers_simulcast_section_is_read() {
        let offer = Offer::parse(PUBLISH).unwrap();
        assert_eq!(offer.ice.ufrag, "duxX");
        assert_eq!(offer.fingerprint.0[0], 0x69);
        assert!(offer.extmap_allow_mixed);
        let video = &offer.sections[7];
        assert_eq!(video.mid, "14");
        assert_eq!(video.direction, Direction::SendOnly);
        assert_eq!(video.send_rids, ["q", "h", "f"]);
        assert_eq!(video.track_id.as_deref(), Some("5f1f16c6-3bee-4944-902a-8de951315029"));
        let h264 = video.format(108).unwrap();
        assert_eq!(h264.parameter("profile-level-id"), Some("42e01f"));
        assert_eq!(h264.feedback.len(), 5);
        let audio = &offer.sections[6];
        assert_eq!(audio.ssrcs, [461_076_484]);
        assert_eq!(audio.formats[0].channels, 2);
        assert_eq!(offer.sections[8].kind, SectionKind::Application);
    }

    #[test]
    fn the_layout_of_a_join_is_all_recvonly() {
        let offer = Offer::parse(LAYOUT).unwrap();
        let media = offer.sections.iter().filter(|section| section.kind != SectionKind::Application);
        assert_eq!(media.clone().count(), 6);
        assert!(media.into_iter().all(|section| section.direction == Direction::RecvOnly));
    }

    fn altered(from: &str, to: &str) -> Result<Offer, OfferError> {
        let text = std::str::from_utf8(LAYOUT).unwrap();
        assert!(text.contains(from));
        Offer::parse(text.replace(from, to).as_bytes())
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        assert_eq!(Offer::parse(b""), Err(OfferError::Malformed));
        assert_eq!(Offer::parse(b"v=0\r\n"), Err(OfferError::NoSections));
        assert_eq!(Offer::parse(&vec![b'a'; SDP_LIMIT + 1]), Err(OfferError::TooLarge));
        assert_eq!(altered("a=fingerprint:sha-256", "a=fingerprint:sha-1"), Err(OfferError::NoFingerprint));
        assert_eq!(altered("a=ice-pwd:", "a=ice-pwd:short\r\na=x:"), Err(OfferError::BadIce));
        assert_eq!(altered("a=mid:1\r\n", "a=mid:0\r\n"), Err(OfferError::BadMid));
        assert_eq!(altered("a=mid:1\r\n", ""), Err(OfferError::BadMid));
        assert_eq!(altered("a=setup:actpass", "a=setup:passive"), Err(OfferError::BadSetup));
    }

    #[test]
    fn a_track_id_without_end_is_none() {
        let id = |length: usize| {
            let line = format!("a=mid:0\r\na=msid:- {}\r\n", "x".repeat(length));
            altered("a=mid:0\r\n", &line).unwrap().sections[0].track_id.as_ref().map(String::len)
        };
        assert_eq!((id(TRACK_ID_LIMIT), id(TRACK_ID_LIMIT + 1)), (Some(TRACK_ID_LIMIT), None));
    }

    #[test]
    fn bundle_only_sections_are_alive_and_others_with_port_0_are_not() {
        let offer = altered("m=video 9 ", "m=video 0 ").unwrap();
        assert!(offer.sections[3].rejected);
        let offer = altered("m=video 9 UDP/TLS/RTP/SAVPF 96", "m=video 0 UDP/TLS/RTP/SAVPF 96");
        assert!(offer.unwrap().sections[3].rejected);
        let text = std::str::from_utf8(LAYOUT).unwrap();
        let text = text.replace("m=video 9 ", "m=video 0 ").replace("a=mid:3\r\n", "a=mid:3\r\na=bundle-only\r\n");
        let offer = Offer::parse(text.as_bytes()).unwrap();
        assert!(!offer.sections[3].rejected);
        assert!(offer.sections[4].rejected);
    }
}
