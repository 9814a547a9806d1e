//! Sending: a turn's trains in one sendmmsg.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use super::control::{Control, Writer, push_source};
use super::{RawAddress, UdpSocket, checked};
use crate::trains::{Train, Trains};
use crate::{Endpoint, Entry};

/// Sends trains, reusing its memory.
pub struct SendBatch {
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
    addresses: Vec<RawAddress>,
    controls: Vec<Control>,
}

// SAFETY: the pointers in `headers` and `iovecs` are set before every call and never followed by anyone but the kernel
// during that call.
unsafe impl Send for SendBatch {}

/// The turn's entries and where their octets lie.
#[derive(Clone, Copy, Debug)]
pub struct Payloads<'a> {
    pub entries: &'a [Entry],
    /// [`crate::Outbox::arena`].
    pub heads: &'a [u8],
    /// [`super::ReceiveBatch::arena`].
    pub bodies: &'a [u8],
}

impl<'a> Payloads<'a> {
    pub fn parts(&self, entry: &Entry) -> [&'a [u8]; 2] {
        [
            &self.heads[entry.head.start as usize..entry.head.end as usize],
            &self.bodies[entry.body.start as usize..entry.body.end as usize],
        ]
    }
}

impl SendBatch {
    /// Messages of one system call (UIO_MAXIOV).
    const MESSAGES_MAX: usize = 1_024;

    pub fn new() -> SendBatch {
        SendBatch { headers: Vec::new(), iovecs: Vec::new(), addresses: Vec::new(), controls: Vec::new() }
    }

    /// Sends the trains of `chosen` (indices into `trains`), in order, and returns how many datagrams the kernel
    /// refused. Never blocks: what does not fit into the socket's buffer is late already.
    pub fn send(&mut self, socket: &UdpSocket, trains: &Trains, chosen: &[u32], payloads: Payloads<'_>) -> u64 {
        let mut refused = 0;
        for chosen in chosen.chunks(Self::MESSAGES_MAX) {
            refused += self.send_chunk(socket, trains, chosen, payloads);
        }
        refused
    }

    fn send_chunk(&mut self, socket: &UdpSocket, trains: &Trains, chosen: &[u32], payloads: Payloads<'_>) -> u64 {
        self.prepare(socket, trains, chosen, payloads);
        let fd = socket.as_fd().as_raw_fd();
        let train = |index: usize| &trains.trains()[chosen[index] as usize];
        let mut refused = 0;
        let mut done = 0;
        // An ICMP error that an earlier datagram brought is reported to the next call, whose own message is fine.
        let mut tried = false;
        while done < chosen.len() {
            let rest = &mut self.headers[done..chosen.len()];
            // SAFETY: every header points to live buffers of the lengths given.
            let sent = checked(unsafe {
                libc::sendmmsg(fd, rest.as_mut_ptr(), rest.len() as libc::c_uint, libc::MSG_DONTWAIT as _)
            });
            let error = match sent {
                Ok(sent) => {
                    done += sent as usize;
                    tried = false;
                    continue;
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN) => {
                    refused += (done..chosen.len()).map(|index| u64::from(train(index).count)).sum::<u64>();
                    break;
                }
                // The route cannot segment: no checksum offload (EIO), or the segments exceed its MTU (EINVAL).
                Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE) if train(done).count > 1 => {
                    refused += self.send_singly(socket, done, trains, train(done), payloads);
                }
                _ if !tried => {
                    tried = true;
                    continue;
                }
                _ => refused += u64::from(train(done).count),
            }
            tried = false;
            done += 1;
        }
        refused
    }

    /// Fills one header for each train.
    fn prepare(&mut self, socket: &UdpSocket, trains: &Trains, chosen: &[u32], payloads: Payloads<'_>) {
        if self.headers.len() < chosen.len() {
            // SAFETY: all-zero octets are a valid mmsghdr.
            let header = unsafe { std::mem::zeroed() };
            self.headers.resize(chosen.len(), header);
            self.addresses.resize(chosen.len(), RawAddress::zeroed());
            self.controls.resize(chosen.len(), Control::new());
        }
        self.iovecs.clear();
        for (index, &train) in chosen.iter().enumerate() {
            let train = &trains.trains()[train as usize];
            let first = self.iovecs.len();
            for member in trains.members(train) {
                for part in payloads.parts(&payloads.entries[member]) {
                    self.push_iovec(first, part);
                }
            }
            let (address, address_length) = RawAddress::from_address(train.remote);
            self.addresses[index] = address;
            let mut control = Writer::new(&mut self.controls[index]);
            write_control(&mut control, socket, train, train.count);
            let control_length = control.length();
            let header = &mut self.headers[index].msg_hdr;
            header.msg_namelen = address_length;
            header.msg_iovlen = (self.iovecs.len() - first) as _;
            header.msg_controllen = control_length as _;
            header.msg_flags = 0;
        }
        // The arrays no longer grow: now they have addresses.
        let mut first = 0;
        for index in 0..chosen.len() {
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.addresses[index]).cast();
            header.msg_iov = self.iovecs[first..].as_mut_ptr();
            header.msg_control = self.controls[index].as_mut_ptr();
            first += header.msg_iovlen as usize;
        }
    }

    /// Adds a part to the message that begins at iovec `first`, merging it with the part that lies right before it.
    fn push_iovec(&mut self, first: usize, part: &[u8]) {
        if part.is_empty() {
            return;
        }
        if let Some(last) = self.iovecs[first..].last_mut() {
            let end = last.iov_base.cast::<u8>().wrapping_add(last.iov_len);
            if std::ptr::eq(end, part.as_ptr()) {
                last.iov_len += part.len();
                return;
            }
        }
        self.iovecs.push(libc::iovec {
            // The kernel does not write to what it sends.
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        });
    }

    /// Sends the datagrams of a refused train one by one, in order. `index` is its prepared header.
    fn send_singly(
        &mut self,
        socket: &UdpSocket,
        index: usize,
        trains: &Trains,
        train: &Train,
        payloads: Payloads<'_>,
    ) -> u64 {
        let mut refused = 0;
        for member in trains.members(train) {
            let mut iovecs = payloads
                .parts(&payloads.entries[member])
                .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
            let mut writer = Writer::new(&mut self.controls[index]);
            write_control(&mut writer, socket, train, 1);
            let control_length = writer.length();
            let mut header = self.headers[index].msg_hdr;
            header.msg_iov = iovecs.as_mut_ptr();
            header.msg_iovlen = iovecs.len() as _;
            header.msg_controllen = control_length as _;
            // SAFETY: the header points to live buffers of the lengths given.
            let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &header, libc::MSG_DONTWAIT) };
            refused += u64::from(checked(sent as libc::c_int).is_err());
        }
        refused
    }
}

fn write_control(control: &mut Writer<'_>, socket: &UdpSocket, train: &Train, count: u32) {
    if let Endpoint::Listener { ip, .. } = train.local
        && socket.names_source()
        && !ip.is_unspecified()
    {
        push_source(control, ip);
    }
    push_tos(control, train.remote, train.tos);
    if count > 1 {
        control.push(libc::SOL_UDP, libc::UDP_SEGMENT, train.segment as u16);
    }
}

fn push_tos(control: &mut Writer<'_>, remote: SocketAddr, tos: u8) {
    if tos != 0 {
        let tos = libc::c_int::from(tos);
        if remote.is_ipv6() {
            control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, tos);
        } else {
            control.push(libc::IPPROTO_IP, libc::IP_TOS, tos);
        }
    }
}

/// Sends one datagram that the parts make up together. Never blocks.
pub(super) fn send_one(socket: impl AsFd, remote: SocketAddr, tos: u8, parts: [&[u8]; 2]) -> io::Result<()> {
    let mut iovecs = parts.map(|part| libc::iovec {
        // The kernel does not write to what it sends.
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    });
    let (mut address, address_length) = RawAddress::from_address(remote);
    let mut control = Control::new();
    let mut writer = Writer::new(&mut control);
    push_tos(&mut writer, remote, tos);
    let control_length = writer.length();
    // SAFETY: all-zero octets are a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut address).cast();
    header.msg_namelen = address_length;
    header.msg_iov = iovecs.as_mut_ptr();
    header.msg_iovlen = iovecs.len() as _;
    header.msg_control = control.as_mut_ptr();
    header.msg_controllen = control_length as _;
    // SAFETY: the header points to live buffers of the lengths given.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &header, libc::MSG_DONTWAIT) };
    checked(sent as libc::c_int)?;
    Ok(())
}

impl Default for SendBatch {
    fn default() -> SendBatch {
        SendBatch::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ReceiveBatch, UdpSocket};
    use super::*;

    #[test]
    fn a_train_that_the_route_cannot_segment_leaves_singly_and_in_order() {
        let bind = || UdpSocket::listener("127.0.0.1:0".parse().unwrap(), 1 << 20, false).unwrap();
        let (sender, receiver) = (bind(), bind());
        // Without checksums the kernel refuses to segment, as it does for a device without checksum offload.
        sender.set(libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
        let heads: Vec<u8> = (0..7).flat_map(|index| [index; 100]).collect();
        let entry = |index: u32| Entry {
            local: Endpoint::Listener { index: 0, ip: sender.address().ip() },
            remote: receiver.address(),
            tos: 0,
            head: index * 100..(index + 1) * 100,
            body: 0..0,
        };
        let entries: Vec<Entry> = (0..7).map(entry).collect();
        let mut trains = Trains::new();
        trains.form(&entries);
        assert_eq!(trains.trains().len(), 1);
        let payloads = Payloads { entries: &entries, heads: &heads, bodies: &[] };
        assert_eq!(SendBatch::new().send(&sender, &trains, &[0], payloads), 0);

        let mut batch = ReceiveBatch::new();
        assert_eq!(batch.receive(&receiver, 0, 16).unwrap(), 7);
        let (messages, arena) = batch.parts();
        let received: Vec<u8> = messages.iter().map(|message| arena[message.offset as usize]).collect();
        assert_eq!(received, [0, 1, 2, 3, 4, 5, 6]);
        assert!(messages.iter().all(|message| message.length == 100));
    }
}
