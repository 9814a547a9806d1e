//! What a simulated encoder puts into packets: enough for a receiver to see whether it is the right one's, whole, and
//! decodable.

use std::time::Duration;

/// A VP8 frame's first octets (RFC 6386 §9.1), of a keyframe: tag, start code, width and height.
const VP8_HEADER: usize = 10;
/// Octets of a written [`Mark`], without the filler behind it.
pub const MARK: usize = VP8_HEADER + 41;

/// Stands at the front of every payload, behind the payload descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub room: u64,
    pub track: u64,
    pub encoding: u8,
    pub keyframe: bool,
    /// Number of the frame in its encoding, from 0.
    pub frame: u32,
    /// The frame that this one is predicted from; a keyframe names itself.
    pub reference: u32,
    /// Position of the packet in the frame, and the frame's packets.
    pub packet: u8,
    pub packets: u8,
    /// When the frame was captured, since the Unix epoch.
    pub captured: Duration,
    /// Audio: the frame before this one is in the payload too ([`crate::opus_fec`]).
    pub repeats: bool,
}

impl Mark {
    /// Writes the mark and a filler that follows from it: `length` octets in all.
    pub fn write(&self, length: usize, size: (u16, u16)) -> Vec<u8> {
        let mut payload = Vec::with_capacity(length.max(MARK));
        // The lowest bit is P, the inverse of "keyframe".
        payload.push(u8::from(!self.keyframe));
        payload.extend([0, 0, 0x9D, 0x01, 0x2A]);
        payload.extend(size.0.to_le_bytes());
        payload.extend(size.1.to_le_bytes());
        payload.extend(self.room.to_be_bytes());
        payload.extend(self.track.to_be_bytes());
        payload.push(self.encoding);
        payload.extend(self.frame.to_be_bytes());
        payload.extend(self.reference.to_be_bytes());
        payload.extend([self.packet, self.packets]);
        payload.extend((self.captured.as_micros() as u64).to_be_bytes());
        payload.push(u8::from(self.repeats));
        payload.extend([0; 5]);
        while payload.len() < length {
            payload.push(self.filler(payload.len()));
        }
        payload
    }

    fn filler(&self, at: usize) -> u8 {
        (self.frame as u8).wrapping_mul(31) ^ self.packet.wrapping_mul(7) ^ at as u8
    }

    /// Reads a payload; `None` when an octet of it is not as it was written.
    pub fn read(payload: &[u8]) -> Option<Mark> {
        let body = payload.get(VP8_HEADER..)?;
        let u64_at = |at: usize| Some(u64::from_be_bytes(*body.get(at..)?.first_chunk()?));
        let u32_at = |at: usize| Some(u32::from_be_bytes(*body.get(at..)?.first_chunk()?));
        let mark = Mark {
            keyframe: payload[0] & 1 == 0,
            room: u64_at(0)?,
            track: u64_at(8)?,
            encoding: body[16],
            frame: u32_at(17)?,
            reference: u32_at(21)?,
            packet: *body.get(25)?,
            packets: *body.get(26)?,
            captured: Duration::from_micros(u64_at(27)?),
            repeats: *body.get(35)? == 1,
        };
        let filler = payload.get(MARK..)?.iter().zip(MARK..);
        let intact = filler.clone().all(|(&octet, at)| octet == mark.filler(at));
        intact.then_some(mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_written_and_a_changed_octet_shows() {
        let mark = Mark {
            room: 1,
            track: 2,
            encoding: 1,
            keyframe: true,
            frame: 70_000,
            reference: 69_999,
            packet: 3,
            packets: 7,
            captured: Duration::from_micros(1_767_225_600_000_123),
            repeats: true,
        };
        for length in [0, 100, 1200] {
            let payload = mark.write(length, (320, 180));
            assert_eq!(payload.len(), length.max(MARK));
            assert_eq!(Mark::read(&payload), Some(mark));
        }
        let mut payload = mark.write(200, (320, 180));
        payload[150] ^= 1;
        assert_eq!(Mark::read(&payload), None);
        assert_eq!(Mark::read(&payload[..40]), None);
    }
}
