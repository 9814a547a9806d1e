//! Batched UDP sockets of Linux: recvmmsg with UDP_GRO in, sendmmsg with UDP_SEGMENT out, epoll around them.
//!
//! Nearly all unsafe code of the packet plane (the rest fetches memory ahead, and calls AES-GCM). What is unsafe here is
//! always the same: a system call is given pointers into buffers that this module owns, set anew before every call.
#![allow(unsafe_code, reason = "recvmmsg, sendmmsg and epoll take raw pointers")]
#![allow(clippy::unnecessary_cast, reason = "the widths of lengths differ between C libraries")]

mod control;
mod interfaces;
mod poll;
mod receive;
mod send;
pub mod tcp;
mod udp;

pub use interfaces::{InterfaceAddress, interface_addresses};
pub use poll::{Poll, Readiness, Waker, raise_descriptor_limit};
pub use receive::{Message, ReceiveBatch};
pub use send::{Payloads, SendBatch};
pub use udp::{IcmpError, SocketError, UdpSocket, too_long};

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The error of the last call when it returned -1, else its value.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A socket address as the kernel has it; the family says which half is alive.
#[derive(Clone, Copy)]
#[repr(C)]
union RawAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddress {
    const CAPACITY: libc::socklen_t = size_of::<RawAddress>() as libc::socklen_t;

    fn zeroed() -> RawAddress {
        // SAFETY: all-zero octets are a valid sockaddr_in6.
        unsafe { std::mem::zeroed() }
    }

    fn from_address(address: SocketAddr) -> (RawAddress, libc::socklen_t) {
        let mut raw = RawAddress::zeroed();
        let length = match address {
            SocketAddr::V4(address) => {
                raw.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(address) => {
                raw.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                size_of::<libc::sockaddr_in6>()
            }
        };
        (raw, length as libc::socklen_t)
    }

    fn to_address(self) -> Option<SocketAddr> {
        // SAFETY: the family lies at the same place in both halves, and zeroed memory has family 0.
        let family = libc::c_int::from(unsafe { self.v4.sin_family });
        match family {
            libc::AF_INET => {
                // SAFETY: the family says so.
                let raw = unsafe { self.v4 };
                let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                let port = u16::from_be(raw.sin_port);
                Some(SocketAddr::V4(SocketAddrV4::new(ip, port)))
            }
            libc::AF_INET6 => {
                // SAFETY: the family says so.
                let raw = unsafe { self.v6 };
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                let port = u16::from_be(raw.sin6_port);
                // The flow label changes from packet to packet and is no part of an address.
                let address = SocketAddrV6::new(ip, port, 0, raw.sin6_scope_id);
                Some(SocketAddr::V6(address))
            }
            _ => None,
        }
    }
}
