//! What the listeners and the interfaces make of `advertise`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context, bail};
use config::Config;
use datapath::sockets::{InterfaceAddress, interface_addresses};

/// The addresses of this host, seen from inside and outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Every address of every interface.
    pub own: Vec<IpAddr>,
    /// Those under which clients reach us, best first.
    pub advertised: Vec<IpAddr>,
}

impl Addresses {
    /// `advertise` as configured, else every reachable interface address; then the loopback ones if they are wanted.
    pub fn find(advertise: &[IpAddr], with_loopback: bool) -> anyhow::Result<Addresses> {
        let interfaces = interface_addresses().context("cannot list the network interfaces")?;
        Addresses::choose(&interfaces, advertise, with_loopback)
    }

    fn choose(interfaces: &[InterfaceAddress], advertise: &[IpAddr], with_loopback: bool) -> anyhow::Result<Addresses> {
        let own = interfaces.iter().map(|interface| interface.ip).collect();
        let mut advertised = advertise.to_vec();
        if advertised.is_empty() {
            let reachable = interfaces.iter().filter(|interface| interface.is_reachable());
            let loopback = interfaces.iter().filter(|interface| with_loopback && interface.ip.is_loopback());
            for interface in reachable.chain(loopback) {
                if !advertised.contains(&interface.ip) {
                    advertised.push(interface.ip);
                }
            }
            if advertised.is_empty() {
                bail!(
                    "advertise = []: no network interface has an address that clients could reach; \
                     write the public one, such as advertise = [\"203.0.113.5\"]"
                );
            }
        }
        Ok(Addresses { own, advertised })
    }

    /// The advertised transport addresses of one UDP listener.
    pub fn behind(&self, listener: SocketAddr) -> Vec<SocketAddr> {
        let serves = |ip: &IpAddr| match listener.ip() {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
            listener => listener.is_ipv4() == ip.is_ipv4(),
        };
        let port = listener.port();
        self.advertised.iter().filter(|ip| serves(ip)).map(|&ip| SocketAddr::new(ip, port)).collect()
    }
}

/// The URLs at which a client of a call finds TURN (RFC 7065): over UDP, TCP, and TLS by the names in the certificate.
pub fn turn_urls(config: &Config, addresses: &Addresses) -> Vec<String> {
    let listen = &config.listen;
    let over = |transport: &str, listener: Option<&SocketAddr>| -> Vec<String> {
        let addresses = listener.map(|&listener| addresses.behind(listener)).unwrap_or_default();
        addresses.iter().map(|address| format!("turn:{address}?transport={transport}")).collect()
    };
    // What looks like HTTPS passes most firewalls.
    let usual = [443, 5349].into_iter().find(|port| listen.tcp.iter().any(|listener| listener.port() == *port));
    let port = usual.or(listen.tcp.first().map(SocketAddr::port));
    let names = config.tls.iter().flat_map(|tls| &tls.names);
    let encrypted = names.filter_map(|name| Some(format!("turns:{name}:{}?transport=tcp", port?))).collect();
    // A browser takes everything that comes from a TURN server's UDP port for TURN, so never the first of them.
    [over("udp", listen.udp.get(1)), over("tcp", listen.tcp.first()), encrypted].concat()
}

/// The URL of the web page, as somebody at this machine or (where an address is advertised) elsewhere opens it.
pub fn page_url(listen: SocketAddr, advertise: &[IpAddr]) -> String {
    let ip = match (listen.ip(), advertise.first()) {
        (ip, _) if !ip.is_unspecified() => ip,
        (_, Some(&advertised)) => advertised,
        (_, None) => IpAddr::from([127, 0, 0, 1]),
    };
    format!("http://{}/", SocketAddr::new(ip, listen.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interfaces() -> Vec<InterfaceAddress> {
        let of = |(ip, loopback): (&str, bool)| InterfaceAddress { ip: ip.parse().unwrap(), loopback };
        [
            ("127.0.0.1", true),
            ("::1", true),
            ("192.0.2.7", false),
            ("169.254.3.4", false),
            ("2001:db8::7", false),
            ("fe80::1", false),
        ]
        .map(of)
        .to_vec()
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn by_default_every_reachable_address_is_advertised() {
        let chosen = |loopback| Addresses::choose(&interfaces(), &[], loopback).unwrap().advertised;
        assert_eq!(chosen(false), ips(&["192.0.2.7", "2001:db8::7"]));
        assert_eq!(chosen(true), ips(&["192.0.2.7", "2001:db8::7", "127.0.0.1", "::1"]));
    }

    #[test]
    fn what_is_configured_is_all() {
        let public = ips(&["203.0.113.5"]);
        let addresses = Addresses::choose(&interfaces(), &public, true).unwrap();
        assert_eq!(addresses.advertised, public);
        assert_eq!(addresses.own.len(), 6);
    }

    #[test]
    fn without_any_address_the_fix_is_told() {
        let error = Addresses::choose(&interfaces()[..2], &[], false).unwrap_err().to_string();
        assert!(error.contains("advertise = [\"203.0.113.5\"]"), "{error}");
    }

    #[test]
    fn a_listener_serves_its_family() {
        let addresses = Addresses { own: Vec::new(), advertised: ips(&["192.0.2.7", "2001:db8::7"]) };
        let behind = |listener: &str| addresses.behind(listener.parse().unwrap());
        assert_eq!(behind("[::]:3478").len(), 2);
        assert_eq!(behind("0.0.0.0:3478"), ["192.0.2.7:3478".parse().unwrap()]);
        assert_eq!(behind("[::1]:3478"), ["[2001:db8::7]:3478".parse().unwrap()]);
    }

    #[test]
    fn clients_of_calls_find_turn_wherever_it_is_but_at_the_port_of_the_media() {
        let addresses = Addresses { own: Vec::new(), advertised: ips(&["192.0.2.7", "2001:db8::7"]) };
        let urls = |text: &str| turn_urls(&Config::parse(text).unwrap(), &addresses);
        let tcp = ["turn:192.0.2.7:3478?transport=tcp", "turn:[2001:db8::7]:3478?transport=tcp"];
        let udp = ["turn:192.0.2.7:3479?transport=udp", "turn:[2001:db8::7]:3479?transport=udp"];
        assert_eq!(urls(""), [udp, tcp].concat());
        assert_eq!(urls("listen.udp = [\"[::]:3478\"]"), tcp);
        let tls = "tls.certificate = \"/c.pem\"\ntls.key = \"/k.pem\"\ntls.names = [\"calls.example.org\"]\n";
        let all = urls(&format!("{tls}listen.tcp = [\"[::]:3478\", \"[::]:443\"]"));
        assert_eq!(all.last().unwrap(), "turns:calls.example.org:443?transport=tcp");
        assert_eq!(urls("listen.udp = [\"[::]:3478\"]\nlisten.tcp = []"), [""; 0]);
    }

    #[test]
    fn the_page_has_an_address_that_a_browser_can_open() {
        let url = |listen: &str, advertise: &[&str]| page_url(listen.parse().unwrap(), &ips(advertise));
        assert_eq!(url("127.0.0.1:7880", &["192.0.2.7"]), "http://127.0.0.1:7880/");
        assert_eq!(url("0.0.0.0:7880", &[]), "http://127.0.0.1:7880/");
        assert_eq!(url("0.0.0.0:7880", &["192.0.2.7"]), "http://192.0.2.7:7880/");
        assert_eq!(url("[::1]:7880", &[]), "http://[::1]:7880/");
    }
}
