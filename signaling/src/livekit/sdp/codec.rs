//! Which of a section's payload types we can forward.

use sfu::Codec;

use super::offer::{Format, Section, SectionKind};

/// H.264 streams differ in ways that a receiver cares about (RFC 6184 §8.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264Stream {
    profile: H264Profile,
    packetization_mode: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    High,
    /// profile_idc and profile_iop of any other.
    Other(u8, u8),
}

impl H264Profile {
    /// From `profile-level-id` (RFC 6184 §8.1, table 5); absent means 420010.
    fn parse(parameter: Option<&str>) -> Option<H264Profile> {
        let text = parameter.unwrap_or("420010");
        if text.len() != 6 || !text.is_ascii() {
            return None;
        }
        let idc = u8::from_str_radix(&text[..2], 16).ok()?;
        let iop = u8::from_str_radix(&text[2..4], 16).ok()?;
        Some(match idc {
            0x42 if iop & 0x40 != 0 => H264Profile::ConstrainedBaseline,
            0x4d if iop & 0x80 != 0 => H264Profile::ConstrainedBaseline,
            0x58 if iop & 0xc0 == 0xc0 => H264Profile::ConstrainedBaseline,
            0x42 => H264Profile::Baseline,
            0x4d => H264Profile::Main,
            0x64 => H264Profile::High,
            _ => H264Profile::Other(idc, iop),
        })
    }

    /// Every decoder of Baseline, Main or High decodes Constrained Baseline as well (H.264 A.2).
    fn decodes(self, stream: H264Profile) -> bool {
        self == stream || (stream == H264Profile::ConstrainedBaseline && !matches!(self, H264Profile::Other(..)))
    }
}

/// What has to agree between a publisher's and a subscriber's payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecKey {
    Opus,
    Vp8,
    H264(H264Stream),
}

impl CodecKey {
    pub fn of(format: &Format) -> Option<CodecKey> {
        let named = |name: &str, rate| format.name.eq_ignore_ascii_case(name) && format.clock_rate == rate;
        if named("opus", 48_000) && format.channels == 2 {
            Some(CodecKey::Opus)
        } else if named("VP8", 90_000) {
            Some(CodecKey::Vp8)
        } else if named("H264", 90_000) {
            let profile = H264Profile::parse(format.parameter("profile-level-id"))?;
            let mode = format.parameter("packetization-mode").unwrap_or("0");
            let packetization_mode = mode.parse().ok().filter(|mode| *mode <= 1)?;
            Some(CodecKey::H264(H264Stream { profile, packetization_mode }))
        } else {
            None
        }
    }

    pub fn codec(self) -> Codec {
        match self {
            CodecKey::Opus => Codec::Opus,
            CodecKey::Vp8 => Codec::Vp8,
            CodecKey::H264(_) => Codec::H264,
        }
    }

    /// As in `TrackInfo.mime_type`.
    pub fn mime_type(self) -> &'static str {
        mime_type(self.codec())
    }

    /// Whether a receiver of `self` can take `stream`; lower is better.
    fn distance(self, stream: CodecKey) -> Option<u8> {
        match (self, stream) {
            (CodecKey::H264(ours), CodecKey::H264(theirs)) => (ours.packetization_mode == theirs.packetization_mode
                && ours.profile.decodes(theirs.profile))
            .then_some(u8::from(ours != theirs)),
            _ => (self == stream).then_some(0),
        }
    }

    /// What most receivers can take comes first: Firefox decodes Constrained Baseline only.
    fn rank(self) -> u8 {
        match self {
            CodecKey::H264(H264Stream { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 }) => 0,
            CodecKey::H264(H264Stream { packetization_mode: 1, .. }) => 1,
            CodecKey::H264(_) => 2,
            _ => 0,
        }
    }
}

pub fn mime_type(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "audio/opus",
        Codec::Vp8 => "video/VP8",
        Codec::H264 => "video/H264",
    }
}

/// The short name that clients use in requests and that we use in quality updates.
pub fn short_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus",
        Codec::Vp8 => "vp8",
        Codec::H264 => "h264",
    }
}

/// A payload type of a section, with the one that carries its retransmissions (RFC 4588).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub key: CodecKey,
    pub payload_type: u8,
    pub rtx_payload_type: Option<u8>,
}

/// Everything in the section that we can forward, in the client's order.
pub fn supported(section: &Section) -> Vec<Choice> {
    section
        .formats
        .iter()
        .filter_map(|format| {
            let key = CodecKey::of(format)?;
            let kind = match key.codec().kind() {
                sfu::Kind::Audio => SectionKind::Audio,
                sfu::Kind::Video => SectionKind::Video,
            };
            (kind == section.kind).then(|| Choice {
                key,
                payload_type: format.payload_type,
                rtx_payload_type: retransmission_format(section, format.payload_type),
            })
        })
        .collect()
}

fn retransmission_format(section: &Section, payload_type: u8) -> Option<u8> {
    section
        .formats
        .iter()
        .find(|format| {
            format.name.eq_ignore_ascii_case("rtx")
                && format.parameter("apt").and_then(|apt| apt.parse().ok()) == Some(payload_type)
        })
        .map(|format| format.payload_type)
}

/// The format in which a publisher is to send: the codec it wished for when it is offered, else its own first.
pub fn choose_for_publisher(section: &Section, wish: Option<&str>) -> Option<Choice> {
    let choices = supported(section);
    let wished = |choice: &&Choice| wish.is_some_and(|wish| short_name(choice.key.codec()).eq_ignore_ascii_case(wish));
    let codec = choices.iter().find(wished).or(choices.first())?.key.codec();
    choices.into_iter().filter(|choice| choice.key.codec() == codec).min_by_key(|choice| choice.key.rank())
}

/// The subscriber's format for a stream that is published as `stream`.
pub fn choose_for_subscriber(section: &Section, stream: CodecKey) -> Option<Choice> {
    supported(section)
        .into_iter()
        .filter_map(|choice| Some((choice.key.distance(stream)?, choice)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, choice)| choice)
}

#[cfg(test)]
mod tests {
    use super::super::offer::Offer;
    use super::*;

    fn offer() -> Offer {
        Offer::parse(include_bytes!("../../../fuzz/corpus/sdp/chromium156_offer_publish_simulcast.sdp")).unwrap()
    }

    #[test]
    fn the_wish_decides_and_constrained_baseline_is_preferred() {
        let offer = offer();
        let video = &offer.sections[7];
        let vp8 = choose_for_publisher(video, Some("vp8")).unwrap();
        assert_eq!((vp8.payload_type, vp8.rtx_payload_type), (96, Some(97)));
        let h264 = choose_for_publisher(video, Some("h264")).unwrap();
        assert_eq!((h264.payload_type, h264.rtx_payload_type), (108, Some(109)));
        // What we cannot forward falls back to the client's first that we can.
        let other = choose_for_publisher(video, Some("av1")).unwrap();
        assert_eq!(other.payload_type, 96);
    }

    #[test]
    fn a_subscriber_gets_its_own_number_for_the_same_profile_and_mode() {
        let offer = offer();
        let publisher = choose_for_publisher(&offer.sections[7], Some("h264")).unwrap();
        let subscriber = choose_for_subscriber(&offer.sections[3], publisher.key).unwrap();
        assert_eq!(subscriber.payload_type, 108);
        let mut narrow = offer.sections[3].clone();
        narrow.formats.retain(|format| format.payload_type != 108);
        // 42001f, mode 1, decodes it too; mode 0 would not do.
        let subscriber = choose_for_subscriber(&narrow, publisher.key).unwrap();
        assert_eq!(subscriber.payload_type, 102);
        narrow.formats.retain(|format| format.name == "VP8");
        assert_eq!(choose_for_subscriber(&narrow, publisher.key), None);
    }

    #[test]
    fn opus_has_two_channels_or_is_none() {
        let offer = offer();
        let mut audio = offer.sections[6].clone();
        assert_eq!(supported(&audio).len(), 1);
        audio.formats[0].channels = 1;
        assert!(supported(&audio).is_empty());
    }
}
