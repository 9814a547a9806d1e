//! The addresses of this host's network interfaces.

use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::{RawAddress, checked};

/// One address of one interface that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    pub ip: IpAddr,
    pub loopback: bool,
}

impl InterfaceAddress {
    /// Whether another host can send there without knowing an interface of ours (RFC 6724 §3.1: scopes).
    pub fn is_reachable(&self) -> bool {
        let link_local = match self.ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        !self.loopback && !link_local && !self.ip.is_loopback() && !self.ip.is_unspecified()
    }
}

/// In the kernel's order.
pub fn interface_addresses() -> io::Result<Vec<InterfaceAddress>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the call writes one pointer.
    checked(unsafe { libc::getifaddrs(&mut list) })?;
    let mut addresses = Vec::new();
    let mut next = list;
    // SAFETY: the list is the kernel library's until it is freed below, and ends with a null pointer.
    while let Some(interface) = unsafe { next.as_ref() } {
        next = interface.ifa_next;
        let flags = interface.ifa_flags as c_int;
        if flags & libc::IFF_UP == 0 || interface.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: the family says how long the address is.
        let address = unsafe { read(interface.ifa_addr) };
        if let Some(ip) = address.map(|address| address.ip()) {
            addresses.push(InterfaceAddress { ip, loopback: flags & libc::IFF_LOOPBACK != 0 });
        }
    }
    // SAFETY: the list came from getifaddrs and is not used any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(addresses)
}

/// # Safety
/// `address` points to a socket address as long as its family says.
unsafe fn read(address: *const libc::sockaddr) -> Option<SocketAddr> {
    let mut raw = RawAddress::zeroed();
    // SAFETY: as the caller promises.
    unsafe {
        match c_int::from((*address).sa_family) {
            libc::AF_INET => raw.v4 = address.cast::<libc::sockaddr_in>().read_unaligned(),
            libc::AF_INET6 => raw.v6 = address.cast::<libc::sockaddr_in6>().read_unaligned(),
            _ => return None,
        }
    }
    raw.to_address()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there_and_reaches_nobody() {
        let addresses = interface_addresses().unwrap();
        let loopback = addresses.iter().find(|address| address.ip == IpAddr::from([127, 0, 0, 1])).unwrap();
        assert!(loopback.loopback && !loopback.is_reachable());
    }
}
