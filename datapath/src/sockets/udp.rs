//! One UDP socket with the options that the packet path needs.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::control::{Control, ExtendedError, Info};
use super::send::send_one;
use super::{RawAddress, checked};

#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    address: SocketAddr,
    ipv6: bool,
}

/// An ICMP error that came back for a datagram of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Where the datagram went.
    pub remote: SocketAddr,
    pub kind: u8,
    pub code: u8,
    /// Octets of an IP packet that the next link takes, where the datagram was too long for it; else 0.
    pub mtu: u32,
}

/// An entry of a socket's error queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketError {
    Icmp(IcmpError),
    /// A datagram that must not be fragmented was longer than the path, as far as it is known, takes.
    TooLong {
        mtu: u32,
    },
    Other,
}

impl UdpSocket {
    /// A listener: of one address family, and told where each datagram was sent to, if that can be several addresses.
    /// `shared`: several workers bind the same address, and the kernel spreads the five-tuples over them.
    pub fn listener(address: SocketAddr, buffer_bytes: usize, shared: bool) -> io::Result<UdpSocket> {
        let socket = UdpSocket::new(address, buffer_bytes)?;
        // Without SO_REUSEPORT a second instance fails loudly instead of taking half of the datagrams.
        socket.socket.set_reuse_port(shared)?;
        match (socket.names_source(), socket.ipv6) {
            (true, true) => socket.set(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?,
            (true, false) => socket.set(libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
            (false, _) => {}
        }
        socket.bound(address)
    }

    /// A relay socket: its own address, and told about ICMP errors.
    pub fn relay(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
        let socket = UdpSocket::new(address, buffer_bytes)?;
        if socket.ipv6 {
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
        } else {
            socket.set(libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
        }
        socket.bound(address)
    }

    /// Whether this address can be bound at the moment.
    pub fn probe(address: SocketAddr) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())
    }

    fn new(address: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket { socket, address, ipv6: address.is_ipv6() };
        if socket.ipv6 {
            // IPv4 has a socket of its own: the traffic class of a mapped address would be ignored.
            socket.socket.set_only_v6(true)?;
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        } else {
            socket.set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        }
        // A kernel without GRO delivers the datagrams one by one.
        let _ = socket.set(libc::SOL_UDP, libc::UDP_GRO, 1);
        socket.set_buffers(buffer_bytes);
        Ok(socket)
    }

    fn bound(mut self, address: SocketAddr) -> io::Result<UdpSocket> {
        self.socket.bind(&address.into())?;
        let bound = self.socket.local_addr()?;
        self.address = bound.as_socket().unwrap_or(address);
        Ok(self)
    }

    /// Asks for buffers of this size: beyond the system's limit when we may, up to it otherwise.
    fn set_buffers(&self, bytes: usize) {
        let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        for (forced, limited) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
            if self.set(libc::SOL_SOCKET, forced, value).is_err() {
                let _ = self.set(libc::SOL_SOCKET, limited, value);
            }
        }
    }

    pub(super) fn set(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the value lives through the call and its size is given.
        checked(unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        })?;
        Ok(())
    }

    /// The address that it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn is_ipv6(&self) -> bool {
        self.ipv6
    }

    /// Whether each datagram must say which address it leaves from: this socket has all of the host's. Of one that has a
    /// single address the kernel knows it, and is spared looking it up.
    pub(super) fn names_source(&self) -> bool {
        self.address.ip().is_unspecified()
    }

    /// Octets of receive buffer that the kernel granted (it counts its own overhead in).
    pub fn receive_buffer_bytes(&self) -> usize {
        self.socket.recv_buffer_size().unwrap_or(0)
    }

    /// Takes one entry from the error queue: `Ok(None)` when it is empty.
    pub fn take_error(&self) -> io::Result<Option<SocketError>> {
        let mut address = RawAddress::zeroed();
        let mut control = Control::new();
        // SAFETY: all-zero octets are a valid msghdr.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = (&raw mut address).cast();
        header.msg_namelen = RawAddress::CAPACITY;
        header.msg_control = control.as_mut_ptr();
        header.msg_controllen = Control::CAPACITY as _;
        // SAFETY: the header's pointers are to live locals with the sizes given; no payload is asked for.
        let received = unsafe {
            let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
            checked(libc::recvmsg(self.socket.as_raw_fd(), &mut header, flags) as libc::c_int)
        };
        match received {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        // SAFETY: recvmsg has just filled the header.
        let info = unsafe { Info::read(&header) };
        Ok(Some(match (info.error, address.to_address()) {
            (Some(error), _) if error.origin == libc::SO_EE_ORIGIN_LOCAL && error.errno == libc::EMSGSIZE as u32 => {
                SocketError::TooLong { mtu: error.info }
            }
            (Some(ExtendedError { origin, kind, code, info, .. }), Some(remote))
                if origin == libc::SO_EE_ORIGIN_ICMP || origin == libc::SO_EE_ORIGIN_ICMP6 =>
            {
                let too_long = (kind, code) == too_long(remote);
                SocketError::Icmp(IcmpError { remote, kind, code, mtu: if too_long { info } else { 0 } })
            }
            _ => SocketError::Other,
        }))
    }

    /// Sends a datagram that nobody may fragment on its way: over IPv4 with the DF bit. `EMSGSIZE`: it is too long for
    /// the path as far as it is known; the error queue says how long it may be.
    ///
    /// Linux knows no control message for this, so the socket is switched over and back: two system calls more.
    pub fn send_unfragmented(&self, remote: SocketAddr, tos: u8, parts: [&[u8]; 2]) -> io::Result<()> {
        let (level, name, never, default) = match self.ipv6 {
            true => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO, libc::IPV6_PMTUDISC_WANT),
            false => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO, libc::IP_PMTUDISC_WANT),
        };
        self.set(level, name, never)?;
        let sent = send_one(self, remote, tos, parts);
        self.set(level, name, default)?;
        sent
    }
}

/// The ICMP type and code that say that a datagram to `remote` was too long (RFC 1191 §4, RFC 4443 §3.2).
pub fn too_long(remote: SocketAddr) -> (u8, u8) {
    if remote.is_ipv4() { (3, 4) } else { (2, 0) }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
