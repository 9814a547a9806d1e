//! What forwarding must know of a publisher's packet, found once however many subscribers it goes to.

use std::time::Instant;

use crate::dependency_descriptor::DependencyDescriptor;
use crate::rtp::RtpHeader;
use crate::track::{Codec, Kind};
use crate::vp8::PictureIdUnwrapper;
use crate::{h264, vp8};

/// A frame's place among the temporal layers of its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemporalLayer {
    pub id: u8,
    /// Who has been given the layers up to this one can decode the frame, and
    pub needs: u8,
    /// from then on all that follows up to this layer.
    pub opens: u8,
}

impl From<DependencyDescriptor> for TemporalLayer {
    fn from(descriptor: DependencyDescriptor) -> TemporalLayer {
        let DependencyDescriptor { temporal_id, opens, .. } = descriptor;
        TemporalLayer { id: temporal_id, needs: temporal_id, opens }
    }
}

/// A publisher's packet as every subscription of its track sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaPacket {
    /// Index into the track's encodings.
    pub encoding: u8,
    /// Unwrapped, in the RTP stream's own numbers.
    pub sequence: u64,
    pub timestamp: u32,
    pub marker: bool,
    /// A subscriber may begin here: the first packet of a keyframe, or any audio packet.
    pub switch_point: bool,
    pub vp8: Option<vp8::Descriptor>,
    /// As the payload says it, or else a dependency descriptor; `None` where neither does.
    pub layer: Option<TemporalLayer>,
    /// Octets of payload, descriptor included, padding not; 0 for padding alone.
    pub payload_len: u16,
    pub arrival: Instant,
}

impl MediaPacket {
    /// `picture_ids` belongs to the RTP stream. `None` when the payload is malformed.
    pub fn describe(
        codec: Codec,
        encoding: u8,
        sequence: u64,
        header: &RtpHeader,
        payload: &[u8],
        picture_ids: &mut PictureIdUnwrapper,
        arrival: Instant,
    ) -> Option<MediaPacket> {
        let mut packet = MediaPacket {
            encoding,
            sequence,
            timestamp: header.timestamp,
            marker: header.marker,
            switch_point: codec.kind() == Kind::Audio,
            vp8: None,
            layer: None,
            payload_len: u16::try_from(payload.len()).ok()?,
            arrival,
        };
        if payload.is_empty() {
            packet.switch_point = false;
            return Some(packet);
        }
        match codec {
            Codec::Opus => {}
            Codec::Vp8 => {
                let mut descriptor = vp8::Descriptor::parse(payload)?;
                packet.switch_point = descriptor.is_keyframe_start(payload);
                picture_ids.unwrap(&mut descriptor);
                packet.layer = descriptor.temporal_layer.map(|id| TemporalLayer {
                    id,
                    // RFC 7741 §4.2, Y: it depends on the base layer alone.
                    needs: if descriptor.layer_sync { 0 } else { id },
                    opens: id,
                });
                packet.vp8 = Some(descriptor);
            }
            Codec::H264 => packet.switch_point = h264::is_keyframe_start(payload),
        }
        Some(packet)
    }
}
