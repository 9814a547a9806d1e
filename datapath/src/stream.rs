//! Datagrams in a stream of octets: where one ends, and which of them wait to be sent.

use std::collections::VecDeque;
use std::ops::Range;

use crate::stun::{HEADER_LEN, channel_data};

/// How a TCP connection carries datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// STUN messages and padded ChannelData, which tell their own length (RFC 8656 §12.5).
    Turn,
    /// ICE over TCP: sixteen bits of length before each datagram (RFC 4571 §2, RFC 6544 §3).
    Ice,
}

/// The stream is not what it was taken for: nobody can tell where the next datagram begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unframed;

/// Octets of the longest frame: a STUN header and the longest length that it can tell.
pub const FRAME_LEN_MAX: usize = HEADER_LEN + u16::MAX as usize;

/// The next frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The datagram.
    pub payload: Range<usize>,
    /// Where the frame after it begins.
    pub end: usize,
}

impl Framing {
    /// The frame at the beginning of `octets`, or `None` when it is not whole yet.
    pub fn next(self, octets: &[u8]) -> Result<Option<Frame>, Unframed> {
        let length_at = |at: usize| Some(usize::from(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?])));
        let frame = match self {
            Framing::Ice => length_at(0).map(|length| Frame { payload: 2..2 + length, end: 2 + length }),
            Framing::Turn => match octets.first() {
                None => None,
                Some(0..=3) => match length_at(2) {
                    // RFC 8489 §5: the last two bits of the length are zero.
                    Some(length) if length % 4 != 0 => return Err(Unframed),
                    length => length.map(|length| Frame { payload: 0..HEADER_LEN + length, end: HEADER_LEN + length }),
                },
                Some(64..=127) => length_at(2).map(|length| {
                    let end = channel_data::HEADER_LEN + length;
                    Frame { payload: 0..end, end: end.next_multiple_of(4) }
                }),
                Some(_) => return Err(Unframed),
            },
        };
        Ok(frame.filter(|frame| frame.end <= octets.len()))
    }

    /// Whether octets behind this datagram need not be datagrams: a ConnectionBind request (RFC 6062 §4.3) perhaps makes the
    /// connection one that carries what its client and a peer like.
    pub fn may_end_with(self, payload: &[u8]) -> bool {
        self == Framing::Turn && payload.starts_with(&[0x00, 0x0B])
    }

    /// What the first octets of a connection say: none as long as they can still be both.
    pub fn sniff(octets: &[u8]) -> Result<Option<Framing>, Unframed> {
        let cookie = crate::stun::MAGIC_COOKIE.to_be_bytes();
        let has_cookie = |at: usize| octets.get(at..at + 4).map(|octets| *octets == cookie);
        match (octets.first(), has_cookie(4), has_cookie(6)) {
            (Some(0..=3), Some(true), _) => Ok(Some(Framing::Turn)),
            (_, _, Some(true)) if octets[2] <= 3 => Ok(Some(Framing::Ice)),
            (_, Some(_), Some(_)) => Err(Unframed),
            _ => Ok(None),
        }
    }
}

/// Whether a datagram is worth nothing when it comes late: what is repaired or concealed by its receiver, and not the
/// answers to requests or a handshake.
fn is_media(first: Option<u8>) -> bool {
    // A STUN indication (Data) has 0 in the first octet; responses have the class bit 0x0100.
    matches!(first, Some(0 | 64..=191))
}

/// What waits to be sent on one stream. When it is full, the oldest media in it is late and makes room: whole frames,
/// so that the stream stays readable.
#[derive(Debug)]
pub struct SendQueue {
    octets: Vec<u8>,
    /// Octets of `octets` that are gone.
    sent: usize,
    frames: VecDeque<Waiting>,
    /// Octets of frames of media, what is gone of the first one included.
    media: usize,
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    length: usize,
    is_media: bool,
}

impl SendQueue {
    /// At most `limit` octets of media wait. What must not be lost may take as much again.
    pub fn new(limit: usize) -> SendQueue {
        SendQueue { octets: Vec::new(), sent: 0, frames: VecDeque::new(), media: 0, limit }
    }

    /// Adds the datagram that the parts make up together. Returns how many datagrams were given up for want of room,
    /// perhaps this one.
    pub fn push(&mut self, framing: Framing, parts: [&[u8]; 2]) -> u64 {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let first = parts.iter().find_map(|part| part.first()).copied();
        let is_media = is_media(first);
        let (prefix, padding) = match framing {
            Framing::Ice => (2, 0),
            Framing::Turn => (0, length.next_multiple_of(4) - length),
        };
        let whole = prefix + length + padding;
        if prefix > 0 && length > usize::from(u16::MAX) {
            return 1;
        }
        let mut lost = 0;
        if self.len() + whole > self.limit {
            // What must not be lost has its place first.
            let rest = self.octets.len() - self.media + whole;
            lost += self.give_up_media((self.limit / 2).min(self.limit.saturating_sub(rest)));
            let limit = if is_media { self.limit } else { 2 * self.limit };
            if self.len() + whole > limit {
                return lost + 1;
            }
        }
        if prefix > 0 {
            self.octets.extend_from_slice(&(length as u16).to_be_bytes());
        }
        parts.iter().for_each(|part| self.octets.extend_from_slice(part));
        self.octets.resize(self.octets.len() + padding, 0);
        self.frames.push_back(Waiting { length: whole, is_media });
        self.media += if is_media { whole } else { 0 };
        lost
    }

    /// Drops the oldest media until no more than `keep` octets of it wait. A frame whose beginning is sent stays.
    fn give_up_media(&mut self, keep: usize) -> u64 {
        let begun = self.sent > 0;
        let of_first = self.frames.front().filter(|first| begun && first.is_media).map_or(0, |first| first.length);
        let mut media = self.media - of_first;
        if media <= keep {
            return 0;
        }
        let (mut lost, mut from, mut to) = (0, 0, 0);
        let mut index = 0;
        let octets = &mut self.octets;
        self.frames.retain(|frame| {
            let drop = frame.is_media && media > keep && !(begun && index == 0);
            index += 1;
            if drop {
                media -= frame.length;
                lost += 1;
            } else {
                octets.copy_within(from..from + frame.length, to);
                to += frame.length;
            }
            from += frame.length;
            !drop
        });
        octets.truncate(to);
        self.media = media + of_first;
        lost
    }

    /// Octets that wait.
    pub fn len(&self) -> usize {
        self.octets.len() - self.sent
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn octets(&self) -> &[u8] {
        &self.octets[self.sent..]
    }

    /// What waits, frame by frame; of the first perhaps the rest.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let mut end = 0;
        self.frames.iter().map(move |frame| {
            let begin = end.max(self.sent);
            end += frame.length;
            &self.octets[begin..end]
        })
    }

    /// The first `count` octets are gone.
    pub fn advance(&mut self, count: usize) {
        // `sent` counts from the beginning of the first frame that is not wholly gone.
        self.sent += count;
        let mut gone = 0;
        while let Some(first) = self.frames.front()
            && gone + first.length <= self.sent
        {
            gone += first.length;
            self.media -= if first.is_media { first.length } else { 0 };
            self.frames.pop_front();
        }
        if self.frames.is_empty() {
            self.octets.clear();
            self.sent = 0;
            // An idle connection keeps no more than it needs.
            if self.octets.capacity() > 4096 {
                self.octets = Vec::new();
            }
        } else if gone > 0 {
            self.octets.drain(..gone);
            self.sent -= gone;
        }
    }
}

/// The body of the fuzz target `stream`: reading in pieces finds the frames of reading at once, and what is queued
/// comes out as whole frames.
#[doc(hidden)]
pub fn fuzz_stream(data: &[u8]) {
    let [kind, size, octets @ ..] = data else { return };
    let _ = Framing::sniff(octets);
    let framing = if kind & 1 == 0 { Framing::Turn } else { Framing::Ice };
    let whole = split(framing, octets);
    // In pieces.
    let mut pieces = Vec::new();
    let mut waiting: Vec<u8> = Vec::new();
    for piece in octets.chunks(usize::from(*size).max(1)) {
        waiting.extend_from_slice(piece);
        let (frames, rest, ok) = split(framing, &waiting);
        pieces.extend(frames);
        waiting.drain(..waiting.len() - rest);
        if !ok {
            break;
        }
    }
    assert_eq!(whole.0, pieces);
    let mut queue = SendQueue::new(2000);
    let mut out = Vec::new();
    let mut pushed = 0;
    for (index, frame) in pieces.iter().enumerate() {
        let (head, body) = frame.split_at(frame.len() / 2);
        pushed += 1;
        pushed -= queue.push(framing, [head, body]);
        if index % 3 == usize::from(kind >> 1) % 3 {
            let count = queue.len().min(usize::from(*size));
            out.extend_from_slice(&queue.octets()[..count]);
            queue.advance(count);
        }
        assert!(queue.len() <= 4000);
    }
    out.extend_from_slice(queue.octets());
    let (frames, rest, ok) = split(framing, &out);
    assert!(ok && rest == 0);
    assert_eq!(frames.len() as u64, pushed);
    assert!(frames.iter().all(|frame| pieces.contains(frame)));
}

/// Every whole frame, the octets that remain, and whether the stream could be read on.
fn split(framing: Framing, octets: &[u8]) -> (Vec<Vec<u8>>, usize, bool) {
    let (mut frames, mut at) = (Vec::new(), 0);
    loop {
        match framing.next(&octets[at..]) {
            Ok(Some(frame)) => {
                frames.push(octets[at..][frame.payload].to_vec());
                at += frame.end;
            }
            Ok(None) => return (frames, octets.len() - at, true),
            Err(Unframed) => return (frames, octets.len() - at, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binding() -> Vec<u8> {
        [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat()
    }

    #[test]
    fn the_first_octets_tell_the_framing() {
        assert_eq!(Framing::sniff(&binding()), Ok(Some(Framing::Turn)));
        let framed = [&[0, 20][..], &binding()].concat();
        assert_eq!(Framing::sniff(&framed), Ok(Some(Framing::Ice)));
        for length in 0..10 {
            assert_eq!(Framing::sniff(&framed[..length]), Ok(None), "{length}");
        }
        assert_eq!(Framing::sniff(&[0; 20]), Err(Unframed));
    }

    #[test]
    fn channel_data_is_padded() {
        let mut queue = SendQueue::new(1000);
        assert_eq!(queue.push(Framing::Turn, [&[0x40, 0, 0, 3], b"abc"]), 0);
        assert_eq!(queue.octets(), b"\x40\0\0\x03abc\0");
        let frame = Framing::Turn.next(queue.octets()).unwrap().unwrap();
        assert_eq!((frame.payload, frame.end), (0..7, 8));
        assert_eq!(Framing::Turn.next(&queue.octets()[..7]), Ok(None), "the padding belongs to the frame");
        assert_eq!(Framing::Turn.next(&[22, 3, 1]), Err(Unframed));
    }

    #[test]
    fn a_length_that_no_stun_message_has_ends_the_stream() {
        assert_eq!(Framing::Turn.next(&[0, 1, 0]), Ok(None));
        for length in 1..4 {
            assert_eq!(Framing::Turn.next(&[0, 1, 0, length]), Err(Unframed));
        }
        assert_eq!(Framing::Turn.next(&[0, 1, 0, 4]), Ok(None));
    }

    #[test]
    fn late_media_makes_room_and_answers_stay() {
        let mut queue = SendQueue::new(100);
        let answer = [1, 1, 0, 0];
        assert_eq!(queue.push(Framing::Ice, [&[128; 10], &[1; 8]]), 0);
        queue.advance(5);
        assert_eq!(queue.push(Framing::Ice, [&answer, &[]]), 0);
        let mut lost = 0;
        for number in 0..20 {
            lost += queue.push(Framing::Ice, [&[128; 10], &[number; 8]]);
        }
        assert!(lost > 10 && queue.len() <= 100);
        let rest = queue.octets();
        assert_eq!(rest[..15], [128, 128, 128, 128, 128, 128, 128, 1, 1, 1, 1, 1, 1, 1, 1]);
        let (frames, left, ok) = split(Framing::Ice, &rest[15..]);
        assert!(ok && left == 0);
        assert_eq!(frames[0], answer);
        assert_eq!(frames.last().unwrap()[10..], [19; 8], "the newest is there");
    }

    #[test]
    fn media_gives_way_to_answers_and_not_to_older_media() {
        let mut queue = SendQueue::new(100);
        assert_eq!(queue.push(Framing::Ice, [&[128; 10], &[0; 18]]), 0);
        for _ in 0..2 {
            assert_eq!(queue.push(Framing::Ice, [&[1; 28], &[]]), 0);
        }
        assert_eq!(queue.push(Framing::Ice, [&[128; 10], &[1; 18]]), 1, "the older one");
        assert!(queue.frames().any(|frame| frame.ends_with(&[1; 18])));
        assert_eq!(queue.push(Framing::Ice, [&[1; 28], &[]]), 1);
        assert_eq!(queue.push(Framing::Ice, [&[128; 10], &[2; 18]]), 1, "there is no room for it");
        assert_eq!(queue.len(), 90);
    }

    proptest! {
        #[test]
        fn the_fuzz_target_holds(data in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz_stream(&data);
        }

        #[test]
        fn whole_frames_come_out(
            sizes in prop::collection::vec((0usize..200, any::<bool>()), 1..60),
            taken in 1usize..300,
            turn: bool,
        ) {
            let framing = if turn { Framing::Turn } else { Framing::Ice };
            let mut data = vec![u8::from(!turn), taken.min(255) as u8];
            for (size, media) in sizes {
                let mut frame = match (framing, media) {
                    (Framing::Turn, true) => [&[0x40, 0, 0, size as u8][..], &vec![5; size]].concat(),
                    (Framing::Turn, false) => {
                        let size = size & !3;
                        [&[1, 1, 0, size as u8][..], &[5; 16], &vec![6; size]].concat()
                    }
                    (Framing::Ice, media) => {
                        let first = if media { 128 } else { 1 };
                        [&[0, size as u8 + 1, first][..], &vec![7; size]].concat()
                    }
                };
                if framing == Framing::Turn {
                    frame.resize(frame.len().next_multiple_of(4), 0);
                }
                data.extend(frame);
            }
            fuzz_stream(&data);
        }
    }
}
