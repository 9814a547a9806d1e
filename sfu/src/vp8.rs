//! The VP8 payload descriptor (RFC 7741 §4.2), and keyframes.
//!
//! - [`Descriptor::parse`] reads it, [`Descriptor::write`] writes it again with other picture numbers. What follows it
//!   in the payload is never touched: under end-to-end encryption it is ciphertext and authenticated data.
//! - [`keyframe_size`] reads the size from the clear octets of a keyframe.

/// The longest descriptor in octets.
pub const DESCRIPTOR_LEN_MAX: usize = 6;

/// A picture id of this many values wraps.
const PICTURE_ID_MASK: u16 = 0x7FFF;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Octets that it took in the payload it was read from.
    pub len: u8,
    /// N: no other frame depends on this one.
    pub non_reference: bool,
    /// S: a partition begins here.
    pub start: bool,
    /// PID, 0-7.
    pub partition: u8,
    /// Seven or fifteen bits in the payload, see `picture_id_is_long`.
    pub picture_id: Option<u16>,
    pub picture_id_is_long: bool,
    /// Counts the frames of temporal layer 0.
    pub tl0_picture_index: Option<u8>,
    /// TID, 0-3.
    pub temporal_layer: Option<u8>,
    /// Y: from here on a receiver may take this temporal layer in (meaningful with a temporal layer alone).
    pub layer_sync: bool,
    /// Five bits, counts keyframes.
    pub key_index: Option<u8>,
}

impl Descriptor {
    /// `None` when the payload is shorter than its descriptor or holds nothing after it.
    pub fn parse(payload: &[u8]) -> Option<Descriptor> {
        let mut octets = payload.iter().copied();
        let first = octets.next()?;
        let mut descriptor = Descriptor {
            non_reference: first & 0x20 != 0,
            start: first & 0x10 != 0,
            partition: first & 0x07,
            ..Descriptor::default()
        };
        if first & 0x80 != 0 {
            let present = octets.next()?;
            if present & 0x80 != 0 {
                let high = octets.next()?;
                if high & 0x80 != 0 {
                    let low = octets.next()?;
                    descriptor.picture_id = Some(u16::from_be_bytes([high & 0x7F, low]));
                    descriptor.picture_id_is_long = true;
                } else {
                    descriptor.picture_id = Some(u16::from(high));
                }
            }
            if present & 0x40 != 0 {
                descriptor.tl0_picture_index = Some(octets.next()?);
            }
            if present & 0x30 != 0 {
                let layers = octets.next()?;
                if present & 0x20 != 0 {
                    descriptor.temporal_layer = Some(layers >> 6);
                    descriptor.layer_sync = layers & 0x20 != 0;
                }
                if present & 0x10 != 0 {
                    descriptor.key_index = Some(layers & 0x1F);
                }
            }
        }
        let left = octets.len();
        descriptor.len = (payload.len() - left) as u8;
        (left > 0).then_some(descriptor)
    }

    /// Writes the descriptor, a picture id always with fifteen bits, and returns its length.
    pub fn write(&self, buffer: &mut [u8; DESCRIPTOR_LEN_MAX]) -> usize {
        // Put together in a register: octets written one by one would have to be written out before the copy of a packet
        // could read them as one.
        let mut octets = 0u64;
        let mut present = 0u8;
        let mut len = 2;
        let mut put = |octet: u8| {
            octets |= u64::from(octet) << (8 * len);
            len += 1;
        };
        if let Some(picture_id) = self.picture_id {
            present |= 0x80;
            put(0x80 | (picture_id >> 8) as u8);
            put(picture_id as u8);
        }
        if let Some(index) = self.tl0_picture_index {
            present |= 0x40;
            put(index);
        }
        if self.temporal_layer.is_some() || self.key_index.is_some() {
            let mut layers = 0;
            if let Some(layer) = self.temporal_layer {
                present |= 0x20;
                layers |= layer << 6 | u8::from(self.layer_sync) << 5;
            }
            if let Some(index) = self.key_index {
                present |= 0x10;
                layers |= index & 0x1F;
            }
            put(layers);
        }
        let first = u8::from(self.non_reference) << 5
            | u8::from(self.start) << 4
            | self.partition & 0x07
            | if present != 0 { 0x80 } else { 0 };
        octets |= u64::from(first) | u64::from(present) << 8;
        buffer.copy_from_slice(&octets.to_le_bytes()[..DESCRIPTOR_LEN_MAX]);
        if present != 0 { len } else { 1 }
    }

    /// True in the first packet of a frame.
    pub fn is_frame_start(&self) -> bool {
        self.start && self.partition == 0
    }

    /// True in the first packet of a keyframe; `payload` is the whole RTP payload.
    pub fn is_keyframe_start(&self, payload: &[u8]) -> bool {
        // RFC 7741 §4.3: P, the inverse of "key frame", is the lowest bit of the payload header.
        self.is_frame_start() && payload.get(usize::from(self.len)).is_some_and(|octet| octet & 1 == 0)
    }
}

/// Width and height in pixels, from the first packet of a keyframe (RFC 6386 §9.1).
pub fn keyframe_size(descriptor: &Descriptor, payload: &[u8]) -> Option<(u16, u16)> {
    if !descriptor.is_keyframe_start(payload) {
        return None;
    }
    let frame = payload.get(usize::from(descriptor.len)..)?;
    match *frame.first_chunk::<10>()? {
        [_, _, _, 0x9D, 0x01, 0x2A, w0, w1, h0, h1] => Some((
            // The two bits above are the scale.
            u16::from_le_bytes([w0, w1]) & 0x3FFF,
            u16::from_le_bytes([h0, h1]) & 0x3FFF,
        )),
        _ => None,
    }
}

/// `a − b` of picture ids, modulo 2¹⁵, as a signed distance.
pub fn picture_id_distance(a: u16, b: u16) -> i16 {
    // Shifted to the top of 16 bits, so that the sign is that of 15.
    ((a.wrapping_sub(b) << 1) as i16) >> 1
}

/// Moves a picture id, modulo 2¹⁵.
pub fn picture_id_add(picture_id: u16, offset: u16) -> u16 {
    picture_id.wrapping_add(offset) & PICTURE_ID_MASK
}

/// Widens seven-bit picture ids to fifteen, for one RTP stream. Fifteen-bit ones pass.
#[derive(Clone, Debug, Default)]
pub struct PictureIdUnwrapper {
    highest: Option<u16>,
}

impl PictureIdUnwrapper {
    /// Packets may be late by up to 63 pictures.
    pub fn unwrap(&mut self, descriptor: &mut Descriptor) {
        let Some(picture_id) = descriptor.picture_id else {
            return;
        };
        if descriptor.picture_id_is_long {
            return;
        }
        let Some(highest) = self.highest else {
            self.highest = Some(picture_id);
            return;
        };
        let forward = picture_id.wrapping_sub(highest) & 0x7F;
        let full = if forward < 64 {
            let full = picture_id_add(highest, forward);
            self.highest = Some(full);
            full
        } else {
            picture_id_add(highest, forward.wrapping_sub(128))
        };
        descriptor.picture_id = Some(full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_descriptor_that_browsers_send() {
        let payload = [0x90, 0xE0, 0x92, 0x34, 0x56, 0xA0, 0x00, 1, 2];
        let descriptor = Descriptor::parse(&payload).unwrap();
        assert_eq!(
            descriptor,
            Descriptor {
                len: 6,
                non_reference: false,
                start: true,
                partition: 0,
                picture_id: Some(0x1234),
                picture_id_is_long: true,
                tl0_picture_index: Some(0x56),
                temporal_layer: Some(2),
                layer_sync: true,
                key_index: None,
            }
        );
        assert!(descriptor.is_keyframe_start(&payload));
        let mut out = [0; DESCRIPTOR_LEN_MAX];
        assert_eq!(descriptor.write(&mut out), 6);
        assert_eq!(out, payload[..6]);
    }

    #[test]
    fn the_shortest_descriptor_stays_one_octet() {
        let descriptor = Descriptor::parse(&[0x10, 0x01]).unwrap();
        assert_eq!(descriptor.len, 1);
        assert!(descriptor.is_frame_start());
        assert!(!descriptor.is_keyframe_start(&[0x10, 0x01]));
        let mut out = [0; DESCRIPTOR_LEN_MAX];
        assert_eq!(descriptor.write(&mut out), 1);
        assert_eq!(out[0], 0x10);
    }

    #[test]
    fn a_seven_bit_picture_id_leaves_with_fifteen() {
        let descriptor = Descriptor::parse(&[0x90, 0x80, 0x7F, 0]).unwrap();
        let mut out = [0; DESCRIPTOR_LEN_MAX];
        assert_eq!(descriptor.write(&mut out), 4);
        assert_eq!(out[..4], [0x90, 0x80, 0x80, 0x7F]);
    }

    #[test]
    fn a_descriptor_without_a_payload_is_refused() {
        for payload in [
            &[][..],
            &[0x10],
            &[0x90],
            &[0x90, 0x80],
            &[0x90, 0x80, 0x80],
            &[0x90, 0x80, 0x80, 0x01],
            &[0x90, 0x40],
            &[0x90, 0x20],
        ] {
            assert_eq!(Descriptor::parse(payload), None, "{payload:?}");
        }
    }

    #[test]
    fn reads_the_size_of_a_keyframe() {
        let mut payload = vec![0x10, 0x00, 0, 0, 0x9D, 0x01, 0x2A, 0x00, 0x45, 0xD0, 0x02];
        let descriptor = Descriptor::parse(&payload).unwrap();
        assert_eq!(keyframe_size(&descriptor, &payload), Some((1280, 720)));
        payload[4] = 0;
        assert_eq!(keyframe_size(&descriptor, &payload), None);
        assert_eq!(keyframe_size(&descriptor, &payload[..5]), None);
        // A later partition or packet is no start.
        let payload = [0x11, 0x00, 0, 0, 0x9D, 0x01, 0x2A, 0, 0, 0, 0];
        assert!(!Descriptor::parse(&payload).unwrap().is_keyframe_start(&payload));
    }

    #[test]
    fn picture_ids_wrap_at_fifteen_bits() {
        assert_eq!(picture_id_add(0x7FFF, 1), 0);
        assert_eq!(picture_id_distance(0, 0x7FFF), 1);
        assert_eq!(picture_id_distance(0x7FFF, 0), -1);
        let mut unwrapper = PictureIdUnwrapper::default();
        let mut unwrap = |value| {
            let mut descriptor = Descriptor { picture_id: Some(value), ..Descriptor::default() };
            unwrapper.unwrap(&mut descriptor);
            descriptor.picture_id.unwrap()
        };
        assert_eq!(unwrap(126), 126);
        assert_eq!(unwrap(1), 129);
        assert_eq!(unwrap(127), 127);
        assert_eq!(unwrap(3), 131);
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_alike(payload in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Some(descriptor) = Descriptor::parse(&payload) {
                let mut out = [0; DESCRIPTOR_LEN_MAX];
                let len = descriptor.write(&mut out);
                let mut rewritten = out[..len].to_vec();
                rewritten.push(0);
                let again = Descriptor::parse(&rewritten).unwrap();
                prop_assert_eq!(usize::from(again.len), len);
                let expected = Descriptor {
                    len: again.len,
                    picture_id_is_long: descriptor.picture_id.is_some(),
                    ..descriptor
                };
                prop_assert_eq!(again, expected);
                keyframe_size(&descriptor, &payload);
            }
        }
    }
}
