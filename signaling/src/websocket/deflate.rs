//! Messages that leave compressed (RFC 7692 §7.2.1).

use flate2::{Compress, Compression, FlushCompress};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// Shorter messages leave as they are: a packet is a packet.
const WORTH_IT: usize = 256;
/// What a flush ends with; both sides leave it out.
pub const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// What one client is sent.
///
/// Messages that wait for each other are compressed as one: an answer has much of what stands in the JoinResponse before it.
/// When nothing waits any more the past is forgotten, so that an idle connection keeps no dictionary.
pub struct Deflate {
    /// The client keeps no dictionary either.
    each_alone: bool,
    earlier: Option<Compress>,
}

impl Deflate {
    pub fn new(each_alone: bool) -> Deflate {
        Deflate { each_alone, earlier: None }
    }

    /// A message with these octets, compressed if that makes it shorter.
    pub fn message(&mut self, octets: Vec<u8>) -> Message {
        match self.shorter(&octets) {
            Some(payload) => {
                let header = FrameHeader {
                    is_final: true,
                    rsv1: true,
                    opcode: OpCode::Data(Data::Binary),
                    ..Default::default()
                };
                Message::Frame(Frame::from_payload(header, payload.into()))
            }
            None => Message::Binary(octets.into()),
        }
    }

    /// What comes next refers to nothing before it.
    pub fn forget(&mut self) {
        self.earlier = None;
    }

    fn shorter(&mut self, octets: &[u8]) -> Option<Vec<u8>> {
        if octets.len() < WORTH_IT {
            return None;
        }
        let mut deflate = self.earlier.take().unwrap_or_else(|| Compress::new(Compression::default(), false));
        let before = deflate.total_in();
        // With less room the message has not become shorter.
        let mut out = Vec::with_capacity(octets.len());
        deflate.compress_vec(octets, &mut out, FlushCompress::Sync).ok()?;
        let whole = deflate.total_in() - before == octets.len() as u64 && out.len() < out.capacity();
        let length = out.len().checked_sub(TAIL.len()).filter(|&length| whole && out[length..] == TAIL)?;
        out.truncate(length);
        // Of what leaves as it is the client's dictionary has nothing (RFC 7692 §7.2.3.2), so ours begins anew as well.
        self.earlier = Some(deflate).filter(|_| !self.each_alone);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(octets: usize) -> Vec<u8> {
        let mut state = 1u32;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(octets)
        .collect()
    }

    #[test]
    fn what_does_not_become_shorter_leaves_as_it_is() {
        let mut deflate = Deflate::new(false);
        assert!(matches!(deflate.message(vec![7; 100]), Message::Binary(octets) if octets.len() == 100));
        let random = noise(5000);
        assert!(matches!(deflate.message(random.clone()), Message::Binary(octets) if octets == random));
        assert!(matches!(deflate.message(vec![7; 5000]), Message::Frame(frame) if frame.payload().len() < 50));
    }

    /// What a client that keeps its dictionary from message to message makes of them.
    fn inflated(messages: &[Message]) -> Vec<Vec<u8>> {
        let mut inflate = flate2::Decompress::new(false);
        let read = |message: &Message| match message {
            Message::Frame(frame) => {
                let mut out = Vec::with_capacity(1 << 16);
                let payload = [frame.payload(), &TAIL].concat();
                inflate.decompress_vec(&payload, &mut out, flate2::FlushDecompress::Sync).unwrap();
                out
            }
            message => message.clone().into_data().to_vec(),
        };
        messages.iter().map(read).collect()
    }

    #[test]
    fn what_waits_together_is_compressed_as_one() {
        let text: Vec<u8> = (0..300u32).flat_map(|number| (number * number).to_string().into_bytes()).collect();
        let random = noise(1000);
        let mut deflate = Deflate::new(false);
        let mut sent: Vec<Message> = Vec::new();
        for octets in [&text, &text, &vec![1; 100], &text, &random, &text] {
            sent.push(deflate.message(octets.clone()));
        }
        deflate.forget();
        sent.push(deflate.message(text.clone()));
        let lengths: Vec<usize> = sent.iter().map(Message::len).collect();
        let alone = lengths[0];
        assert!([1, 3].iter().all(|&at| lengths[at] < 40), "{lengths:?}");
        assert_eq!([2, 4, 5, 6].map(|at| lengths[at]), [100, 1000, alone, alone]);
        assert_eq!(inflated(&sent), [&text, &text, &vec![1; 100], &text, &random, &text, &text].map(Vec::clone));
        let mut deflate = Deflate::new(true);
        assert_eq!([(); 2].map(|()| deflate.message(text.clone()).len()), [alone; 2]);
    }
}
