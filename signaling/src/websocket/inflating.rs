//! What a client sends compressed becomes what the library behind reads: frames without the extension.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use flate2::{Decompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::MESSAGE_LIMIT;
use super::deflate::TAIL;

/// Two octets, a length of eight, a masking key (RFC 6455 §5.2).
const HEADER_MAX: usize = 14;
const FINAL: u8 = 0x80;
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;

/// A stream on which compressed messages are replaced by plain ones. Everything else passes as it comes, mistakes as well.
pub struct Inflating<S> {
    inner: S,
    active: bool,
    frames: Frames,
    /// Read and not yet taken.
    plain: Vec<u8>,
    taken: usize,
}

impl<S> Inflating<S> {
    pub fn new(inner: S, active: bool) -> Inflating<S> {
        Inflating { inner, active, frames: Frames::default(), plain: Vec::new(), taken: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Inflating<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.active {
            return Pin::new(&mut this.inner).poll_read(cx, buffer);
        }
        while this.taken == this.plain.len() {
            // Nothing is set aside for a client that is silent.
            (this.plain, this.taken) = (Vec::new(), 0);
            let mut octets = [0; 4096];
            let mut read = ReadBuf::new(&mut octets);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.frames.push(read.filled(), &mut this.plain)?;
        }
        let rest = &this.plain[this.taken..];
        let part = &rest[..rest.len().min(buffer.remaining())];
        buffer.put_slice(part);
        this.taken += part.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Inflating<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// The client's frames, octet by octet.
#[derive(Default)]
struct Frames {
    header: Vec<u8>,
    /// Octets of the payload that are still to come, and the masking key of a frame whose payload is kept.
    left: u64,
    kept: Option<[u8; 4]>,
    at: usize,
    is_final: bool,
    /// The compressed message that has begun: its kind, and what there is of it.
    message: Option<(u8, Vec<u8>)>,
}

impl Frames {
    /// Takes the next octets from the client and appends what the library is to read.
    fn push(&mut self, mut octets: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        while !octets.is_empty() {
            if self.left > 0 {
                let (part, rest) = octets.split_at(usize::try_from(self.left).unwrap_or(usize::MAX).min(octets.len()));
                octets = rest;
                self.left -= part.len() as u64;
                self.payload(part, plain)?;
            } else {
                self.header.push(octets[0]);
                octets = &octets[1..];
                if self.header.len() == header_length(&self.header) {
                    self.begin(plain)?;
                }
            }
        }
        Ok(())
    }

    /// The header is whole.
    fn begin(&mut self, plain: &mut Vec<u8>) -> io::Result<()> {
        let header = std::mem::take(&mut self.header);
        let opcode = header[0] & 0xF;
        self.left = match header[1] & 0x7F {
            126 => u16::from_be_bytes([header[2], header[3]]).into(),
            127 => u64::from_be_bytes(*header[2..].first_chunk().expect("a length of eight octets is there")),
            short => short.into(),
        };
        let begins = header[0] & RSV1 != 0 && matches!(opcode, 1 | 2) && self.message.is_none();
        let goes_on = header[0] & RSV1 == 0 && opcode == 0 && self.message.is_some();
        if !begins && !goes_on {
            plain.extend_from_slice(&header);
            return Ok(());
        }
        let Some(mask) = header.last_chunk::<4>().filter(|_| header[1] & MASKED != 0) else {
            return Err(refused("a client's frame without a mask"));
        };
        let (_, message) = self.message.get_or_insert((opcode, Vec::new()));
        if self.left > (MESSAGE_LIMIT - message.len()) as u64 {
            return Err(refused("a message that is too long"));
        }
        (self.kept, self.at, self.is_final) = (Some(*mask), 0, header[0] & FINAL != 0);
        if self.left == 0 { self.payload(&[], plain) } else { Ok(()) }
    }

    fn payload(&mut self, octets: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        let (Some(mask), Some((opcode, message))) = (self.kept, &mut self.message) else {
            plain.extend_from_slice(octets);
            return Ok(());
        };
        message.extend(octets.iter().zip(self.at..).map(|(octet, at)| octet ^ mask[at % 4]));
        self.at += octets.len();
        if self.left > 0 {
            return Ok(());
        }
        self.kept = None;
        if self.is_final {
            let inflated = inflate(message)?;
            // Masked, as a client's frames are, with a key that changes nothing.
            plain.extend_from_slice(&[FINAL | *opcode, MASKED | 127]);
            plain.extend_from_slice(&(inflated.len() as u64).to_be_bytes());
            plain.extend_from_slice(&[0; 4]);
            plain.extend_from_slice(&inflated);
            self.message = None;
        }
        Ok(())
    }
}

/// How long a header is that begins like this.
fn header_length(begun: &[u8]) -> usize {
    let Some(&second) = begun.get(1) else { return HEADER_MAX };
    let length = match second & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & MASKED != 0 { 4 } else { 0 }
}

/// RFC 7692 §7.2.2.
fn inflate(message: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    message.extend_from_slice(&TAIL);
    let mut inflate = Decompress::new(false);
    let mut out = Vec::new();
    loop {
        let before = (inflate.total_in(), inflate.total_out());
        if out.len() == out.capacity() {
            out.reserve(message.len().clamp(1024, MESSAGE_LIMIT));
        }
        let rest = &message[before.0 as usize..];
        let status = inflate.decompress_vec(rest, &mut out, FlushDecompress::Sync);
        let status = status.map_err(|_| refused("a message that is not what it says"))?;
        if out.len() > MESSAGE_LIMIT {
            return Err(refused("a message that is too long"));
        }
        let read = inflate.total_in() as usize == message.len();
        let stands = before == (inflate.total_in(), inflate.total_out());
        if status == Status::StreamEnd || (read && out.len() < out.capacity()) {
            return Ok(out);
        }
        if stands && out.len() < out.capacity() {
            return Err(refused("a message that ends too early"));
        }
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[doc(hidden)]
pub fn fuzz_websocket(octets: &[u8]) {
    let (mut whole, mut single) = (Vec::new(), Vec::new());
    let at_once = Frames::default().push(octets, &mut whole).is_ok();
    let mut frames = Frames::default();
    let one_by_one = octets.iter().all(|octet| frames.push(&[*octet], &mut single).is_ok());
    assert_eq!(at_once, one_by_one);
    assert_eq!(whole, single);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(MASKED | short as u8),
            long => {
                frame.push(MASKED | 126);
                frame.extend_from_slice(&(long as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(0..).map(|(octet, at)| octet ^ MASK[at % 4]));
        frame
    }

    fn deflated(octets: &[u8]) -> Vec<u8> {
        let mut deflate = flate2::Compress::new(flate2::Compression::default(), false);
        let mut out = Vec::with_capacity(octets.len() + 100);
        deflate.compress_vec(octets, &mut out, flate2::FlushCompress::Sync).unwrap();
        out.truncate(out.len() - TAIL.len());
        out
    }

    fn read(octets: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Frames::default().push(octets, &mut plain).map(|()| plain)
    }

    fn plain(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![FINAL | opcode, MASKED | 127];
        frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn compressed_messages_come_out_plain_between_others_that_do_not_change() {
        let text = b"a=rtpmap:96 VP8/90000\r\n".repeat(700);
        let ping = frame(FINAL | 9, b"ping");
        let short = frame(FINAL | 2, b"short");
        let packed = deflated(&text);
        assert!(packed.len() < 300);
        let (head, tail) = packed.split_at(20);
        let octets =
            [&short[..], &frame(FINAL | RSV1 | 2, &packed), &frame(RSV1 | 1, head), &ping, &frame(FINAL, tail), &short]
                .concat();
        let expected = [&short[..], &plain(2, &text), &ping, &plain(1, &text), &short].concat();
        assert_eq!(read(&octets).unwrap(), expected);
        fuzz_websocket(&octets);
        // RFC 7692 §7.2.3.6: an empty message, and one whose last block says so.
        assert_eq!(read(&frame(FINAL | RSV1 | 2, &[0])).unwrap(), plain(2, b""));
        let last = [0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00];
        assert_eq!(read(&frame(FINAL | RSV1 | 1, &last)).unwrap(), plain(1, b"Hello"));
    }

    #[test]
    fn what_grows_without_end_and_what_is_no_deflate_is_refused() {
        let bomb = deflated(&vec![0; MESSAGE_LIMIT + 1]);
        assert!(bomb.len() < 5000);
        assert!(read(&frame(FINAL | RSV1 | 2, &bomb)).is_err());
        assert!(read(&frame(FINAL | RSV1 | 2, &deflated(&vec![0; MESSAGE_LIMIT]))).is_ok());
        assert!(read(&frame(FINAL | RSV1 | 2, &[0xFF; 50])).is_err());
        assert!(read(&[FINAL | RSV1 | 2, 1, 0]).is_err());
        let mut endless = vec![RSV1 | 2, MASKED | 127];
        endless.extend_from_slice(&u64::MAX.to_be_bytes());
        endless.extend_from_slice(&MASK);
        assert!(read(&endless).is_err());
    }
}
