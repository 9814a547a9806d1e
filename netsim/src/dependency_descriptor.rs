//! The dependency descriptor (RTP Payload Format For AV1, Appendix A) as an encoder with three temporal layers writes it.

/// What follows the three mandatory octets in a keyframe's first packet: five templates (the base layer's keyframe and its
/// other frames, the middle layer, the upper layer twice), three decode targets, one chain, 640x360.
const STRUCTURE: &str = "10000 000000 00010 \
    00 01 01 00 11 \
    101010 101010 000110 000001 000001 \
    0 100110 100010 100000 100000 \
    01 0000 0100 0010 0001 0011 \
    1 0000001001111111 0000000101100111";

/// Where a packet stands: `layer` 0-2 is that of its frame, numbered `frame` in its encoding.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub frame: u32,
    pub keyframe: bool,
    pub layer: u8,
    /// The frame's first packet, and its last.
    pub is_first: bool,
    pub is_last: bool,
}

impl Position {
    pub fn write(&self) -> Vec<u8> {
        let template = if self.keyframe { 0 } else { self.layer + 1 };
        let [high, low] = (self.frame as u16).to_be_bytes();
        let mut descriptor = vec![u8::from(self.is_first) << 7 | u8::from(self.is_last) << 6 | template, high, low];
        if self.keyframe && self.is_first {
            let bits: Vec<u8> = STRUCTURE.bytes().filter(|bit| *bit != b' ').map(|bit| bit - b'0').collect();
            let octet = |bits: &[u8]| (0..).zip(bits).fold(0, |octet, (index, bit)| octet | bit << (7 - index));
            descriptor.extend(bits.chunks(8).map(octet));
        }
        descriptor
    }
}
