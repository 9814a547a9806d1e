//! VP8 over RTP (RFC 7741) with frames that decoders accept.

/// A picture's place among the temporal layers.
#[derive(Clone, Copy, Debug)]
pub struct Temporal {
    pub layer: u8,
    /// Refers to the lowest layer only: who took lower layers may take this one from here on.
    pub sync: bool,
    /// Nothing refers to it.
    pub discardable: bool,
}

/// The pictures of a period of three temporal layers: the second and the third refer to the first, the fourth to the third.
pub const L1T3: [Temporal; 4] = [
    Temporal { layer: 0, sync: false, discardable: false },
    Temporal { layer: 2, sync: true, discardable: true },
    Temporal { layer: 1, sync: true, discardable: false },
    Temporal { layer: 2, sync: false, discardable: true },
];

/// What a payload descriptor says of its picture (RFC 7741 §4.2).
#[derive(Clone, Copy, Debug)]
pub struct Picture {
    /// 15 bits are sent.
    pub id: u32,
    /// Counts the pictures of the lowest temporal layer.
    pub tl0: u8,
    pub temporal: Temporal,
}

/// The payload descriptor with PictureID, TL0PICIDX and TID, as browsers write it for simulcast.
pub fn descriptor(packet: &mut Vec<u8>, picture: &Picture, first: bool) {
    let Temporal { layer, sync, discardable } = picture.temporal;
    packet.extend_from_slice(&[0x80 | u8::from(discardable) << 5 | u8::from(first) << 4, 0xE0]);
    packet.extend_from_slice(&((picture.id & 0x7FFF) as u16 | 0x8000).to_be_bytes());
    packet.extend_from_slice(&[picture.tl0, layer << 6 | u8::from(sync) << 5]);
}

/// Whether a payload starts a keyframe.
pub fn starts_keyframe(payload: &[u8]) -> Option<bool> {
    let (&first, mut rest) = payload.split_first()?;
    if first & 0x80 != 0 {
        let (&extended, tail) = rest.split_first()?;
        rest = tail;
        if extended & 0x80 != 0 {
            let wide = rest.first()? & 0x80 != 0;
            rest = rest.get(if wide { 2 } else { 1 }..)?;
        }
        rest = rest.get(usize::from(extended & 0x40 != 0)..)?;
        rest = rest.get(usize::from(extended & 0x30 != 0)..)?;
    }
    // S set and partition 0: the VP8 payload header follows, its lowest bit clear for a keyframe.
    Some(first & 0x17 == 0x10 && rest.first()? & 1 == 0)
}

/// Colour bars, encoded with vpxenc (`--error-resilient=1`, so that the inter frame leaves no state behind and can be
/// repeated for ever): height, keyframe, inter frame.
const FRAMES: [(u16, &[u8], &[u8]); 3] = [
    (180, include_bytes!("../frames/180-key.vp8"), include_bytes!("../frames/180-inter.vp8")),
    (360, include_bytes!("../frames/360-key.vp8"), include_bytes!("../frames/360-inter.vp8")),
    (720, include_bytes!("../frames/720-key.vp8"), include_bytes!("../frames/720-inter.vp8")),
];

/// A frame of this height (16:9): 180, 360 or 720.
pub fn frame(height: u16, keyframe: bool) -> &'static [u8] {
    let (_, key, inter) = FRAMES.iter().find(|(known, ..)| *known == height).expect("a height that we have");
    if keyframe { key } else { inter }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_have_their_size_and_are_told_from_inter_frames() {
        for (height, key, inter) in FRAMES {
            // RFC 6386 §9.1: frame tag, start code, width and height.
            assert_eq!(key[3..6], [0x9D, 0x01, 0x2A]);
            assert_eq!(u16::from_le_bytes([key[8], key[9]]), height);
            for (frame, keyframe) in [(key, true), (inter, false)] {
                let mut payload = Vec::new();
                let temporal = Temporal { layer: 0, sync: keyframe, discardable: !keyframe };
                let picture = Picture { id: 5, tl0: 5, temporal };
                descriptor(&mut payload, &picture, true);
                payload.extend_from_slice(frame);
                assert_eq!(starts_keyframe(&payload), Some(keyframe));
                payload.clear();
                descriptor(&mut payload, &picture, false);
                payload.extend_from_slice(frame);
                assert_eq!(starts_keyframe(&payload), Some(false));
            }
        }
    }
}
