//! Where coturn listens and relays, and the keys that say the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

/// What the file says.
#[derive(Debug, Default)]
pub struct Endpoints {
    pub port: Option<u16>,
    pub tls_port: Option<u16>,
    pub alt_port: Option<u16>,
    pub proxy_port: Option<u16>,
    pub min_port: Option<u16>,
    pub max_port: Option<u16>,
    /// `Some` if it has metrics.
    pub metrics: Option<SocketAddr>,
    pub listening: Vec<IpAddr>,
    pub relay: Vec<IpAddr>,
    /// Public addresses, each with the private one that it is of, if that is said.
    pub external: Vec<(IpAddr, Option<IpAddr>)>,
    pub has_certificate: bool,
    pub no_tcp: bool,
    pub no_tls: bool,
    pub no_dtls: bool,
}

/// The same, so that it is valid.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    pub advertise: Vec<IpAddr>,
    pub udp: [SocketAddr; 2],
    pub tcp: Vec<SocketAddr>,
    pub http: SocketAddr,
    pub ports: RangeInclusive<u16>,
    /// What had to be done otherwise.
    pub remarks: Vec<String>,
}

/// RFC 8656 §7.2.
const RELAY_PORTS: RangeInclusive<u16> = 49152..=65535;
/// Others are the system's.
const RELAY_PORT_MIN: u16 = 1024;

impl Endpoints {
    pub fn plan(&self) -> Plan {
        let mut remarks = Vec::new();
        let ip = self.listener();
        if self.listening.len() > 1 {
            remarks.push(format!("listening-ip: of several addresses only all can be had, so listen has {ip}"));
        }
        let at = |port| SocketAddr::new(ip, port);
        let udp = self.udp_ports().map(at);
        if self.alt_port.is_some_and(|port| !udp.contains(&at(port))) {
            let second = udp[1].port();
            remarks.push(format!(
                "alt-listening-port: cannot be carried over: there are two UDP ports, and {second} is the second"
            ));
        }
        let tcp: Vec<SocketAddr> = self.tcp_ports().into_iter().map(at).collect();
        let ports = self.relay_ports(udp.map(|listener| listener.port()), &mut remarks);
        let http = self.http(&tcp, &mut remarks);
        let (advertise, unserved): (Vec<IpAddr>, Vec<IpAddr>) = self
            .advertise()
            .into_iter()
            .partition(|public| ip == Ipv6Addr::UNSPECIFIED || public.is_ipv4() == ip.is_ipv4());
        if !unserved.is_empty() {
            remarks.push(
                "external-ip, relay-ip: left out of advertise where listening-ip has no address of the family; \
                 with both families write \"[::]\" in listen"
                    .into(),
            );
        }
        if self.external.is_empty() && advertise.is_empty() {
            remarks.push(
                "external-ip: there is none, so advertise is empty and every address of this machine is named; behind \
                 NAT write the public one"
                    .into(),
            );
        }
        Plan { advertise, udp, tcp, http, ports, remarks }
    }

    /// Of several addresses only all can be had: the two UDP ports are all there are.
    fn listener(&self) -> IpAddr {
        match self.listening[..] {
            [ip] => ip,
            [_, ..] if self.listening.iter().all(IpAddr::is_ipv4) => Ipv4Addr::UNSPECIFIED.into(),
            _ => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    fn port(&self) -> u16 {
        self.port.unwrap_or(3478)
    }

    fn tls_port(&self) -> u16 {
        self.tls_port.unwrap_or(5349)
    }

    /// coturn answers on its TLS port over UDP too if it has DTLS there; else on the alternative one, if at all.
    fn udp_ports(&self) -> [u16; 2] {
        let first = self.port();
        let dtls = (self.has_certificate && !self.no_dtls).then(|| self.tls_port());
        let next = if first == u16::MAX { first - 1 } else { first + 1 };
        let second = dtls.into_iter().chain(self.alt_port).find(|&port| port != first);
        [first, second.unwrap_or(next)]
    }

    fn tcp_ports(&self) -> Vec<u16> {
        let plain = (!self.no_tcp).then(|| self.port());
        let tls = (self.has_certificate && !self.no_tls).then(|| self.tls_port());
        let mut ports = Vec::new();
        for port in plain.into_iter().chain(tls).chain(self.proxy_port) {
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        ports
    }

    /// A public address stands for the private one that it is of; an address without one is public itself.
    fn advertise(&self) -> Vec<IpAddr> {
        let specific = self.listening.iter().filter(|ip| !ip.is_unspecified());
        // Without relay-ip coturn relays from the addresses that it listens on.
        let relay: Vec<IpAddr> = if self.relay.is_empty() { specific.copied().collect() } else { self.relay.clone() };
        let is_mapped = |ip: &IpAddr| {
            self.external.iter().any(|(public, of)| match of {
                Some(private) => private == ip,
                None => public.is_ipv4() == ip.is_ipv4(),
            })
        };
        let own = relay.iter().filter(|ip| !is_mapped(ip));
        let mut advertise = Vec::new();
        for ip in self.external.iter().map(|(public, _)| public).chain(own) {
            if !advertise.contains(ip) {
                advertise.push(*ip);
            }
        }
        advertise
    }

    /// The largest part of the range that has no listening port and no port of the system.
    fn relay_ports(&self, listening: [u16; 2], remarks: &mut Vec<String>) -> RangeInclusive<u16> {
        let (first, last) =
            (self.min_port.unwrap_or(*RELAY_PORTS.start()), self.max_port.unwrap_or(*RELAY_PORTS.end()));
        let wanted = first..=last;
        let free = largest_part(wanted.clone(), listening)
            .unwrap_or_else(|| largest_part(RELAY_PORTS, listening).expect("two ports leave a part"));
        if free != wanted {
            remarks.push(format!(
                "min-port, max-port: relay.ports is {}-{}: it needs two ports, none below {RELAY_PORT_MIN} and none \
                 that is listened on; open these in the firewall",
                free.start(),
                free.end()
            ));
        }
        free
    }

    fn http(&self, tcp: &[SocketAddr], remarks: &mut Vec<String>) -> SocketAddr {
        let wanted = self.metrics.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 7880)));
        let is_free = |port: &u16| tcp.iter().all(|listener| listener.port() != *port);
        let port = (wanted.port()..=u16::MAX).chain(7880..8000).find(is_free).expect("so many ports are not taken");
        let http = SocketAddr::new(wanted.ip(), port);
        remarks.push(match self.metrics {
            _ if port != wanted.port() => {
                format!("listen.http, for /metrics and the API, is {http}: the port before it is taken")
            }
            Some(_) => format!("listen.http is {http}, where the metrics were; it has the page and the API too"),
            None => format!("listen.http, for /metrics and the API, is {http}: coturn has nothing like it"),
        });
        http
    }
}

fn largest_part(range: RangeInclusive<u16>, without: [u16; 2]) -> Option<RangeInclusive<u16>> {
    let (first, last) = (u32::from(*range.start().max(&RELAY_PORT_MIN)), u32::from(*range.end()));
    let mut holes = without.map(u32::from);
    holes.sort_unstable();
    let begins = [first, holes[0] + 1, holes[1] + 1].map(|begin| begin.max(first));
    let ends = [holes[0], holes[1], last + 1].map(|end| end.min(last + 1));
    let parts = begins.into_iter().zip(ends).filter(|(begin, end)| begin + 1 < *end);
    // The first one, of several that are as large.
    let (begin, end) = parts.rev().max_by_key(|(begin, end)| end - begin)?;
    Some(u16::try_from(begin).ok()?..=u16::try_from(end - 1).ok()?)
}
