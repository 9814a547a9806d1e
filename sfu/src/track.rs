//! Tracks as the offer and the answer describe them (RFC 7656: a track's encodings are RTP streams).

use crate::command::LayerWish;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Audio,
    Video,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 6184.
    H264,
}

impl Codec {
    pub fn kind(self) -> Kind {
        match self {
            Codec::Opus => Kind::Audio,
            Codec::Vp8 | Codec::H264 => Kind::Video,
        }
    }

    /// RTP timestamp units per second.
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::Vp8 | Codec::H264 => 90_000,
        }
    }
}

/// RTP header extension ids (RFC 8285: 1-14 in the one-byte form) that a section negotiated; `None`: not negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// urn:ietf:params:rtp-hdrext:sdes:mid
    pub mid: Option<u8>,
    /// …:sdes:rtp-stream-id (RFC 8852)
    pub rid: Option<u8>,
    /// …:sdes:repaired-rtp-stream-id (RFC 8852)
    pub repaired_rid: Option<u8>,
    /// …:ssrc-audio-level (RFC 6464)
    pub audio_level: Option<u8>,
    /// transport-wide congestion control, draft-holmer-rmcat-transport-wide-cc-extensions-01
    pub transport_cc: Option<u8>,
    pub abs_send_time: Option<u8>,
    pub abs_capture_time: Option<u8>,
    /// RTP Payload Format For AV1, Appendix A. It is read and never written.
    pub dependency_descriptor: Option<u8>,
}

/// One encoding (simulcast layer) of a published track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// The RTP stream id (RFC 8851) by which the stream is recognised; `None` for a track without simulcast.
    pub rid: Option<String>,
    /// Known in advance when the offer has `a=ssrc`; else learned from mid and rid.
    pub ssrc: Option<u32>,
    pub rtx_ssrc: Option<u32>,
    /// Nominal size in pixels (0 when unknown) and bitrate in bit/s (0 when unknown).
    pub width: u16,
    pub height: u16,
    pub bitrate_bps: u32,
}

/// What a participant publishes in one media section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackSpec {
    pub codec: Codec,
    /// The section's `a=mid` (RFC 8843 §15): binds an SSRC to the section.
    pub mid: String,
    pub payload_type: u8,
    /// RFC 4588.
    pub rtx_payload_type: Option<u8>,
    /// At least one, lowest quality first, at most three.
    pub encodings: Vec<Encoding>,
    pub extensions: ExtensionIds,
    /// Generic NACK was negotiated for this section.
    pub nack: bool,
    pub muted: bool,
    /// It shows a screen: in a narrow link it comes before a camera that is shown as large, and its sharpness before its
    /// motion.
    pub screen: bool,
}

/// How a track is sent to one subscriber: the numbers of the subscriber's own section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionSpec {
    pub mid: String,
    /// Chosen at random by the control plane, since it stands in the answer.
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
    pub payload_type: u8,
    pub rtx_payload_type: Option<u8>,
    pub extensions: ExtensionIds,
    pub nack: bool,
    pub wish: LayerWish,
}
