//! Receiving: recvmmsg into one arena.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use super::control::{Control, Info};
use super::{RawAddress, checked};

/// One message of the kernel: a datagram, or several of one sender coalesced by GRO.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// What [`ReceiveBatch::receive`] was told about the socket.
    pub tag: u32,
    pub remote: SocketAddr,
    /// The local address it was sent to, where the socket is told.
    pub destination: Option<IpAddr>,
    pub ecn: u8,
    /// Where its octets begin in the arena.
    pub offset: u32,
    pub length: u32,
    /// Octets of each datagram but perhaps the last; at least 1.
    pub segment: u32,
}

impl Message {
    /// The datagrams' offsets in the arena and lengths. An empty message is one empty datagram.
    pub fn segments(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let Message { offset, length, segment, .. } = *self;
        let count = length.div_ceil(segment).max(1);
        (0..count).map(move |index| {
            let start = index * segment;
            (offset + start, segment.min(length - start))
        })
    }
}

/// What a turn receives, from any number of sockets, in one contiguous arena.
pub struct ReceiveBatch {
    arena: Vec<u8>,
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
    addresses: Vec<RawAddress>,
    controls: Vec<Control>,
    messages: Vec<Message>,
    used: usize,
}

// SAFETY: the pointers in `headers` and `iovecs` are set before every call and never followed by anyone but the kernel
// during that call.
unsafe impl Send for ReceiveBatch {}

impl ReceiveBatch {
    /// Messages of one turn.
    pub const MESSAGES_MAX: usize = 64;

    /// What a coalesced message may hold: an IP datagram.
    const MESSAGE_BYTES_MAX: usize = 65_536;

    /// The distance of two messages in the arena. Not a power of two: else the first octets of all messages would
    /// contend for the same few cache lines.
    const STRIDE: usize = Self::MESSAGE_BYTES_MAX + 1_280;

    pub fn new() -> ReceiveBatch {
        let count = Self::MESSAGES_MAX;
        // SAFETY: all-zero octets are valid for these plain structures of the kernel.
        let (header, iovec) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        ReceiveBatch {
            arena: vec![0; count * Self::STRIDE],
            headers: vec![header; count],
            iovecs: vec![iovec; count],
            addresses: vec![RawAddress::zeroed(); count],
            controls: vec![Control::new(); count],
            messages: Vec::with_capacity(count),
            used: 0,
        }
    }

    /// Forgets the last turn's messages.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.used = 0;
    }

    /// How many more messages fit in this turn.
    pub fn room(&self) -> usize {
        Self::MESSAGES_MAX - self.used
    }

    /// Receives up to `limit` messages (as far as there is room) and returns how many there were. Never blocks.
    pub fn receive(&mut self, socket: impl AsFd, tag: u32, limit: usize) -> io::Result<usize> {
        let limit = limit.min(self.room());
        if limit == 0 {
            return Ok(0);
        }
        let first = self.used;
        for index in first..first + limit {
            let slot = &mut self.arena[index * Self::STRIDE..][..Self::MESSAGE_BYTES_MAX];
            self.iovecs[index] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.addresses[index]).cast();
            header.msg_namelen = RawAddress::CAPACITY;
            header.msg_iov = &raw mut self.iovecs[index];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[index].as_mut_ptr();
            header.msg_controllen = Control::CAPACITY as _;
            header.msg_flags = 0;
        }
        // SAFETY: `limit` headers from `first` on point to live, distinct buffers of the lengths given.
        let received = checked(unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers[first..].as_mut_ptr(),
                limit as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        });
        let received = match received {
            Ok(received) => received as usize,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        for index in first..first + received {
            let header = &self.headers[index];
            // SAFETY: the kernel has just filled it.
            let info = unsafe { Info::read(&header.msg_hdr) };
            let length = header.msg_len;
            if let Some(remote) = self.addresses[index].to_address() {
                self.messages.push(Message {
                    tag,
                    remote,
                    destination: info.destination,
                    ecn: info.tos & 0b11,
                    offset: (index * Self::STRIDE) as u32,
                    length,
                    segment: info.segment.unwrap_or(length).max(1),
                });
            }
        }
        self.used += received;
        Ok(received)
    }

    /// What this turn received, by ascending offset, and the arena it lies in.
    pub fn parts(&mut self) -> (&[Message], &mut [u8]) {
        (&self.messages, &mut self.arena)
    }

    pub fn arena(&self) -> &[u8] {
        &self.arena
    }
}

impl Default for ReceiveBatch {
    fn default() -> ReceiveBatch {
        ReceiveBatch::new()
    }
}
