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

/// The octets of a frame of this size.
pub fn frame(size: (u16, u16), keyframe: bool) -> Vec<u8> {
    if keyframe {
        // RFC 6386 §9.1: frame tag, start code, width and height.
        let mut frame = vec![0x10, 0x02, 0x00, 0x9D, 0x01, 0x2A];
        frame.extend_from_slice(&size.0.to_le_bytes());
        frame.extend_from_slice(&size.1.to_le_bytes());
        frame
    } else {
        vec![0x11, 0x02, 0x00]
    }
}
