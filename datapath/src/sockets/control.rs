//! Control messages (cmsg(3)): packet info, TOS, segment size.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Room for a packet info of IPv6, a traffic class and a segment size, or for an extended error with its offender.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control([u8; Control::CAPACITY]);

impl Control {
    pub const CAPACITY: usize = 128;

    pub fn new() -> Control {
        Control([0; Control::CAPACITY])
    }

    pub fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.0.as_mut_ptr().cast()
    }
}

/// What the kernel says about a received message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Info {
    /// The local address that it was sent to.
    pub destination: Option<IpAddr>,
    pub tos: u8,
    /// Octets of each coalesced datagram; none when there is just one.
    pub segment: Option<u32>,
    /// IP_RECVERR or IPV6_RECVERR.
    pub error: Option<ExtendedError>,
}

/// What of sock_extended_err(7) is of use.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExtendedError {
    pub origin: u8,
    pub errno: u32,
    pub kind: u8,
    pub code: u8,
    pub info: u32,
}

impl Info {
    /// Reads the control messages of a header that recvmsg or recvmmsg has just filled.
    ///
    /// # Safety
    /// The header's control pointer and length describe memory that the kernel wrote.
    pub unsafe fn read(header: &libc::msghdr) -> Info {
        let mut info = Info::default();
        // SAFETY: the CMSG functions walk within the control length; values may be unaligned.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(header);
            while let Some(cmsg) = message.as_ref() {
                let data = libc::CMSG_DATA(cmsg);
                let length = (cmsg.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                match (cmsg.cmsg_level, cmsg.cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) if length >= size_of::<libc::in_pktinfo>() => {
                        let raw: libc::in_pktinfo = data.cast::<libc::in_pktinfo>().read_unaligned();
                        let ip = Ipv4Addr::from(raw.ipi_addr.s_addr.to_ne_bytes());
                        info.destination = Some(IpAddr::V4(ip));
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if length >= size_of::<libc::in6_pktinfo>() => {
                        let raw = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        let ip = Ipv6Addr::from(raw.ipi6_addr.s6_addr);
                        info.destination = Some(IpAddr::V6(ip));
                    }
                    (libc::IPPROTO_IP, libc::IP_TOS) if length >= 1 => info.tos = data.read(),
                    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if length >= 4 => {
                        info.tos = data.cast::<libc::c_int>().read_unaligned() as u8;
                    }
                    (libc::SOL_UDP, libc::UDP_GRO) if length >= 4 => {
                        let segment = data.cast::<libc::c_int>().read_unaligned();
                        info.segment = u32::try_from(segment).ok().filter(|&size| size > 0);
                    }
                    (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
                        if length >= size_of::<libc::sock_extended_err>() =>
                    {
                        let raw = data.cast::<libc::sock_extended_err>().read_unaligned();
                        info.error = Some(ExtendedError {
                            origin: raw.ee_origin,
                            errno: raw.ee_errno,
                            kind: raw.ee_type,
                            code: raw.ee_code,
                            info: raw.ee_info,
                        });
                    }
                    _ => {}
                }
                message = libc::CMSG_NXTHDR(header, cmsg);
            }
        }
        info
    }
}

/// Writes the control messages of one message to send, one after another.
pub(super) struct Writer<'a> {
    control: &'a mut Control,
    length: usize,
}

impl<'a> Writer<'a> {
    pub fn new(control: &'a mut Control) -> Writer<'a> {
        Writer { control, length: 0 }
    }

    pub fn push<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        // SAFETY: these two compute sizes only.
        let (space, filled) = unsafe {
            let size = size_of::<T>() as u32;
            (libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(size))
        };
        assert!(self.length + space <= Control::CAPACITY);
        // SAFETY: the space was checked, the control buffer is aligned for a cmsghdr and every CMSG_SPACE keeps that.
        unsafe {
            let header = self.control.0.as_mut_ptr().add(self.length);
            let header = header.cast::<libc::cmsghdr>();
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = filled as _;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        self.length += space;
    }

    /// Octets written.
    pub fn length(&self) -> usize {
        self.length
    }
}

/// The packet info that makes a message leave from `ip`.
pub(super) fn push_source(writer: &mut Writer<'_>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => writer.push(
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            },
        ),
        IpAddr::V6(ip) => writer.push(
            libc::IPPROTO_IPV6,
            libc::IPV6_PKTINFO,
            libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 },
        ),
    }
}
