//! Which of the last frames are forwarded.

use crate::media_packet::MediaPacket;

/// Frames remembered: two seconds.
const FRAMES_MAX: usize = 64;

/// `timestamp` is the source's.
#[derive(Clone, Copy, Debug)]
struct Decided {
    encoding: u8,
    timestamp: u32,
    is_wanted: bool,
}

/// They lie apart from what every packet needs: one place of them is written with each frame.
#[derive(Clone, Debug)]
pub struct DecidedFrames {
    /// Written round and round.
    frames: Box<[Option<Decided>; FRAMES_MAX]>,
    next: usize,
}

impl Default for DecidedFrames {
    fn default() -> DecidedFrames {
        DecidedFrames { frames: Box::new([None; FRAMES_MAX]), next: 0 }
    }
}

impl DecidedFrames {
    /// The packet's frame is forwarded, or not.
    pub fn note(&mut self, packet: &MediaPacket, is_wanted: bool) {
        let &MediaPacket { encoding, timestamp, .. } = packet;
        self.frames[self.next] = Some(Decided { encoding, timestamp, is_wanted });
        self.next = (self.next + 1) % FRAMES_MAX;
    }

    /// Whether the packet's frame is forwarded, if that was decided lately.
    pub fn is_wanted(&self, packet: &MediaPacket) -> Option<bool> {
        let is_its_own =
            |decided: &&Decided| (decided.encoding, decided.timestamp) == (packet.encoding, packet.timestamp);
        self.frames.iter().flatten().find(is_its_own).map(|decided| decided.is_wanted)
    }

    /// Whether a frame of the packet's encoding from before its own is remembered.
    pub fn has_older(&self, packet: &MediaPacket) -> bool {
        let is_older = |decided: &Decided| {
            decided.encoding == packet.encoding && (packet.timestamp.wrapping_sub(decided.timestamp) as i32) > 0
        };
        self.frames.iter().flatten().any(is_older)
    }
}
