//! VP8 over RTP (RFC 7741) with frames that decoders accept.

/// The payload descriptor with PictureID, TL0PICIDX, TID and KEYIDX, as browsers write it for simulcast.
pub fn descriptor(packet: &mut Vec<u8>, frame: u32, keyframe: bool, first: bool) {
    let picture = (frame & 0x7FFF) as u16 | 0x8000;
    packet.extend_from_slice(&[0x80 | u8::from(first) << 4, 0xF0]);
    packet.extend_from_slice(&picture.to_be_bytes());
    // One temporal layer: every frame counts up TL0PICIDX, and a keyframe may be switched to (the Y bit).
    packet.extend_from_slice(&[frame as u8, u8::from(keyframe) << 5 | 1]);
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
                descriptor(&mut payload, 5, keyframe, true);
                payload.extend_from_slice(frame);
                assert_eq!(starts_keyframe(&payload), Some(keyframe));
                payload.clear();
                descriptor(&mut payload, 5, keyframe, false);
                payload.extend_from_slice(frame);
                assert_eq!(starts_keyframe(&payload), Some(false));
            }
        }
    }
}
