//! The generator's UDP sockets: GRO on receipt, GSO trains on sending, epoll over many sockets. Separate from the
//! server's, so that a fault there shows here.
#![allow(unsafe_code)] // recvmmsg, sendmsg with control messages and epoll have no safe wrapper in the tree.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

const BATCH: usize = 16;
const BUFFER: usize = 65_536;
const CONTROL: usize = 64;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn set_option(socket: &UdpSocket, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer is to an int that outlives the call, and its size is given.
    checked(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(&value).cast(), size_of::<i32>() as u32)
    })
    .map(|_| ())
}

/// A non-blocking IPv4 socket that receives trains whole.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    // The system's limit clips it silently.
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 4 << 20)?;
    Ok(socket)
}

/// Receive buffers, shared by all sockets of a thread.
pub struct Arena {
    buffers: Vec<u8>,
    control: Vec<[u64; CONTROL / 8]>,
    names: Vec<libc::sockaddr_in>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Default for Arena {
    fn default() -> Arena {
        // SAFETY: all three are plain C structs for which zeroes are valid.
        let (name, vector, header) = unsafe { (zeroed(), zeroed(), zeroed()) };
        Arena {
            buffers: vec![0; BATCH * BUFFER],
            control: vec![[0; CONTROL / 8]; BATCH],
            names: vec![name; BATCH],
            vectors: vec![vector; BATCH],
            headers: vec![header; BATCH],
        }
    }
}

impl Arena {
    /// One recvmmsg; every datagram of every train goes to `each`. Returns whether more may be waiting.
    pub fn receive(&mut self, socket: &UdpSocket, mut each: impl FnMut(SocketAddr, &mut [u8])) -> io::Result<bool> {
        for index in 0..BATCH {
            self.vectors[index] =
                libc::iovec { iov_base: self.buffers[index * BUFFER..].as_mut_ptr().cast(), iov_len: BUFFER };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            header.msg_iov = &raw mut self.vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = self.control[index].as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            header.msg_flags = 0;
        }
        // SAFETY: the headers point at buffers of the given sizes, all owned by `self` and not moved meanwhile.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let received = match checked(received) {
            Ok(received) => received as usize,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // An ICMP error of an earlier send: the server is gone or not there yet.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(true),
            Err(error) => return Err(error),
        };
        for index in 0..received {
            let length = self.headers[index].msg_len as usize;
            let segment = segment_size(&self.headers[index].msg_hdr).unwrap_or(length.max(1));
            let name = &self.names[index];
            let from =
                SocketAddrV4::new(Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)), u16::from_be(name.sin_port));
            let start = index * BUFFER;
            for datagram in self.buffers[start..start + length].chunks_mut(segment) {
                each(SocketAddr::V4(from), datagram);
            }
        }
        Ok(received == BATCH)
    }
}

fn segment_size(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel filled the control buffer that the header describes; the macros stay inside it.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_UDP && (*control).cmsg_type == libc::UDP_GRO {
                let size: i32 = ptr::read_unaligned(libc::CMSG_DATA(control).cast());
                return usize::try_from(size).ok().filter(|size| *size > 0);
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

/// Sends `bytes` to `to` as datagrams of `segment` octets, the last one shorter perhaps: one GSO train.
pub fn send_train(socket: &UdpSocket, to: SocketAddrV4, bytes: &[u8], segment: usize) -> io::Result<()> {
    if bytes.len() <= segment {
        return socket.send_to(bytes, to).map(|_| ());
    }
    // SAFETY: every pointer is to a local or to `bytes`, which outlive the call; the control buffer is aligned and
    // large enough for one u16.
    checked(unsafe {
        let mut name: libc::sockaddr_in = zeroed();
        name.sin_family = libc::AF_INET as u16;
        name.sin_port = to.port().to_be();
        name.sin_addr.s_addr = u32::from(*to.ip()).to_be();
        let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut control = [0u64; 4];
        let mut header: libc::msghdr = zeroed();
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
        let message = libc::CMSG_FIRSTHDR(&header);
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
        ptr::write_unaligned(libc::CMSG_DATA(message).cast(), segment as u16);
        libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_DONTWAIT) as libc::c_int
    })
    .map(|_| ())
}

/// Level-triggered readiness of many sockets.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poller {
    pub fn new() -> io::Result<Poller> {
        // SAFETY: epoll_create1 returns a descriptor that nobody else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(checked(libc::epoll_create1(0))?) };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
        Ok(Poller { epoll, events })
    }

    pub fn add(&self, socket: &UdpSocket, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
        // SAFETY: both descriptors are open and the event outlives the call.
        checked(unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event)
        })
        .map(|_| ())
    }

    /// The keys of the sockets that are readable now; waits for none.
    pub fn ready(&mut self, keys: &mut Vec<u64>) -> io::Result<()> {
        keys.clear();
        // SAFETY: the array has the length that is given.
        let count = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), self.events.len() as libc::c_int, 0)
        };
        match checked(count) {
            Ok(count) => keys.extend(self.events[..count as usize].iter().map(|event| event.u64)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_train_arrives_as_its_datagrams() {
        let sender = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let receiver = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let SocketAddr::V4(to) = receiver.local_addr().unwrap() else { unreachable!() };
        let bytes: Vec<u8> = (0..250).collect();
        send_train(&sender, to, &bytes, 100).unwrap();
        let mut poller = Poller::new().unwrap();
        poller.add(&receiver, 7).unwrap();
        let mut keys = Vec::new();
        poller.ready(&mut keys).unwrap();
        assert_eq!(keys, [7]);
        let mut lengths = Vec::new();
        let mut arena = Arena::default();
        let from = sender.local_addr().unwrap();
        arena
            .receive(&receiver, |address, datagram| {
                assert_eq!(address, from);
                lengths.push(datagram.len());
            })
            .unwrap();
        assert_eq!(lengths, [100, 100, 50]);
    }
}
