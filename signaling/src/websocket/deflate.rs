//! Messages that leave compressed (RFC 7692 §7.2.1).

use flate2::{Compress, Compression, FlushCompress};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// Shorter messages leave as they are: a packet is a packet.
const WORTH_IT: usize = 256;
/// What a flush ends with; both sides leave it out.
pub const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// A message with these octets, compressed if that makes it shorter.
pub fn message(octets: Vec<u8>) -> Message {
    match shorter(&octets) {
        Some(payload) => {
            let header =
                FrameHeader { is_final: true, rsv1: true, opcode: OpCode::Data(Data::Binary), ..Default::default() };
            Message::Frame(Frame::from_payload(header, payload.into()))
        }
        None => Message::Binary(octets.into()),
    }
}

fn shorter(octets: &[u8]) -> Option<Vec<u8>> {
    if octets.len() < WORTH_IT {
        return None;
    }
    let mut deflate = Compress::new(Compression::default(), false);
    // With less room the message has not become shorter.
    let mut out = Vec::with_capacity(octets.len());
    deflate.compress_vec(octets, &mut out, FlushCompress::Sync).ok()?;
    let whole = deflate.total_in() == octets.len() as u64 && out.len() < out.capacity();
    let length = out.len().checked_sub(TAIL.len()).filter(|&length| whole && out[length..] == TAIL)?;
    out.truncate(length);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_become_shorter_leaves_as_it_is() {
        assert!(matches!(message(vec![7; 100]), Message::Binary(octets) if octets.len() == 100));
        let mut noise = 1u32;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .take(5000)
        .collect();
        assert!(matches!(message(random.clone()), Message::Binary(octets) if octets == random));
        assert!(matches!(message(vec![7; 5000]), Message::Frame(frame) if frame.payload().len() < 50));
    }
}
