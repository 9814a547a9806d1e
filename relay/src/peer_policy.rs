//! Which peers a client may reach through the kernel: one pure function, asked by CreatePermission, ChannelBind and
//! Send alike.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The IANA IPv4 special-purpose registry (RFC 6890), multicast and class E. What it calls globally reachable is left
/// out, but for 192.88.99.0/24, the deprecated 6to4 relays.
const SPECIAL_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// The IANA IPv6 special-purpose registry within 2000::/3; whatever lies outside of it is no global unicast address.
/// Teredo (2001::/32) and 6to4 (2002::/16) are judged by the addresses inside.
const SPECIAL_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

const GLOBAL_UNICAST: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// RFC 6052 §2.1.
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// RFC 8215.
const NAT64_LOCAL: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48);
/// RFC 4380.
const TEREDO: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32);
/// RFC 3056.
const SIX_TO_FOUR: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

/// Whom clients may reach.
///
/// An address is judged in every form it has: itself, and the IPv4 addresses inside of it when it is IPv4-mapped,
/// IPv4-compatible, NAT64, 6to4 or Teredo. Every form must be admitted. For each, the longest configured prefix
/// decides (deny wins a tie); where none matches, special-purpose addresses and this host's own are forbidden.
#[derive(Clone, Debug, Default)]
pub struct PeerPolicy {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    local: Vec<IpAddr>,
}

impl PeerPolicy {
    /// `local` is every address of this host, public ones in front of a NAT included.
    pub fn new(allow: Vec<IpNet>, deny: Vec<IpNet>, local: Vec<IpAddr>) -> PeerPolicy {
        PeerPolicy { allow, deny, local }
    }

    /// Further addresses of this host. Whether one was not known.
    pub fn add_local(&mut self, addresses: impl IntoIterator<Item = IpAddr>) -> bool {
        let known = self.local.len();
        for address in addresses {
            if !self.local.contains(&address) {
                self.local.push(address);
            }
        }
        self.local.len() > known
    }

    /// The addresses of this host, as far as they are known.
    pub fn local(&self) -> &[IpAddr] {
        &self.local
    }

    pub fn admits(&self, ip: IpAddr) -> bool {
        self.admits_form(ip) && embedded(ip).into_iter().flatten().all(|inner| self.admits_form(IpAddr::V4(inner)))
    }

    fn admits_form(&self, ip: IpAddr) -> bool {
        match (longest(&self.allow, ip), longest(&self.deny, ip)) {
            (None, None) => !self.local.contains(&ip) && !is_special(ip),
            // A prefix is about the network that this host stands in: what listens on the host itself was not meant.
            (Some(allow), _) if self.local.contains(&ip) && allow < length(ip) => false,
            (allow, deny) => allow > deny,
        }
    }
}

/// Bits of an address.
fn length(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn longest(prefixes: &[IpNet], ip: IpAddr) -> Option<u8> {
    prefixes.iter().filter(|prefix| prefix.contains(&ip)).map(IpNet::prefix_len).max()
}

fn is_special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => SPECIAL_V4.iter().any(|&range| within_v4(ip, range)),
        IpAddr::V6(ip) if within(ip, NAT64) || within(ip, TEREDO) => false,
        IpAddr::V6(ip) => !within(ip, GLOBAL_UNICAST) || SPECIAL_V6.iter().any(|&range| within(ip, range)),
    }
}

/// The IPv4 addresses that an IPv6 address stands for.
fn embedded(ip: IpAddr) -> [Option<Ipv4Addr>; 2] {
    let IpAddr::V6(ip) = ip else {
        return [None, None];
    };
    let number = u128::from(ip);
    let v4_at = |shift: u32| Some(Ipv4Addr::from((number >> shift) as u32));
    // Mapped (::ffff:0:0/96), compatible (::/96) and translated (::ffff:0:0:0/96) addresses end in the IPv4 address.
    // RFC 4291 §2.5.2, §2.5.3: :: and ::1 are addresses of their own, not compatible forms of 0.0.0.0 and 0.0.0.1.
    let leading = number >> 32;
    if leading == 0 && number > 1
        || leading == 0xFFFF
        || leading == 0xFFFF_0000
        || within(ip, NAT64)
        || within(ip, NAT64_LOCAL)
    {
        [v4_at(0), None]
    } else if within(ip, SIX_TO_FOUR) {
        [v4_at(80), None]
    } else if within(ip, TEREDO) {
        // RFC 4380 §4: the server, and the client's address with every bit inverted.
        [v4_at(64), Some(Ipv4Addr::from(!(number as u32)))]
    } else {
        [None, None]
    }
}

fn within(ip: Ipv6Addr, (network, length): (Ipv6Addr, u8)) -> bool {
    (u128::from(ip) ^ u128::from(network)) >> (128 - u32::from(length)) == 0
}

fn within_v4(ip: Ipv4Addr, (network, length): (Ipv4Addr, u8)) -> bool {
    (u32::from(ip) ^ u32::from(network)) >> (32 - u32::from(length)) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn prefixes(texts: &[&str]) -> Vec<IpNet> {
        let prefix = |text: &&str| text.parse().unwrap_or_else(|_| IpNet::from(ip(text)));
        texts.iter().map(prefix).collect()
    }

    #[test]
    fn the_public_internet_is_admitted() {
        let policy = PeerPolicy::default();
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2600::1",
            "2a00:1450:4001::1",
            "2001:200::1",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(policy.admits(ip(public)), "{public}");
        }
    }

    #[test]
    fn special_purpose_addresses_are_forbidden() {
        let policy = PeerPolicy::default();
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.255.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "100::1",
            "2001:db8::1",
            "2001:2::1",
            "2001:10::1",
            "3fff::1",
            "5f00::1",
            "4000::1",
        ] {
            assert!(!policy.admits(ip(special)), "{special}");
        }
    }

    #[test]
    fn an_ipv4_address_in_disguise_is_judged_as_itself() {
        let policy = PeerPolicy::new(vec![], prefixes(&["8.8.4.0/24"]), vec![ip("9.9.9.9")]);
        for hidden in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "8.8.4.4", "9.9.9.9"] {
            let IpAddr::V4(v4) = ip(hidden) else { unreachable!() };
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let disguises = [
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !0x0808, !0x0808),
                Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low),
            ];
            for disguise in disguises {
                assert!(!policy.admits(IpAddr::V6(disguise)), "{disguise}");
            }
        }
    }

    #[test]
    fn the_longest_configured_prefix_decides() {
        let policy = PeerPolicy::new(
            prefixes(&["10.1.2.3", "0.0.0.0/1"]),
            prefixes(&["0.0.0.0/0", "10.1.0.0/16", "10.1.2.3/32"]),
            vec![ip("7.7.7.7")],
        );
        assert!(!policy.admits(ip("10.1.2.3")), "deny wins a tie");
        assert!(!policy.admits(ip("10.1.9.9")));
        assert!(policy.admits(ip("10.2.0.1")), "allowed against the built-in list");
        assert!(!policy.admits(ip("7.7.7.7")), "ours, and only the network around it is allowed");
        assert!(!policy.admits(ip("200.1.1.1")));
        assert!(policy.admits(ip("2600::1")), "the other family is not touched");
        let allow = prefixes(&["7.7.7.0/24", "7.7.7.7"]);
        let policy = PeerPolicy::new(allow.clone(), vec![], vec![ip("7.7.7.7")]);
        assert!(policy.admits(ip("7.7.7.7")), "ours, and named itself");
        assert!(
            policy.admits(ip("7.7.7.8"))
                && !policy.admits(ip("::ffff:7.7.7.7"))
                && !policy.admits(ip("64:ff9b::10.0.0.1"))
        );
        let policy = PeerPolicy::new(allow, prefixes(&["7.7.7.7"]), vec![ip("7.7.7.7")]);
        assert!(!policy.admits(ip("7.7.7.7")), "deny wins a tie");
        let policy = PeerPolicy::new(prefixes(&["::1"]), vec![], vec![ip("::1")]);
        assert!(policy.admits(ip("::1")) && !policy.admits(ip("::")));
    }

    #[test]
    fn every_address_of_this_host_is_forbidden() {
        let mut policy = PeerPolicy::new(vec![], vec![], vec![ip("1.2.3.4")]);
        policy.add_local([ip("2600::77")]);
        assert!(!policy.admits(ip("1.2.3.4")) && !policy.admits(ip("2600::77")));
        assert!(policy.admits(ip("1.2.3.5")));
    }

    proptest! {
        /// Ranges compared per octet have let addresses through: a prefix is compared bit by bit, whatever its length.
        #[test]
        fn a_prefix_is_compared_bit_by_bit(a: [u8; 16], b: [u8; 16], shared in 0usize..=128, length in 0u8..=128) {
            let bit = |octets: &[u8; 16], i: usize| octets[i / 8] >> (7 - i % 8) & 1;
            let mut b = b;
            for i in 0..shared {
                let mask = 0x80 >> (i % 8);
                b[i / 8] = (b[i / 8] & !mask) | (a[i / 8] & mask);
            }
            let (a_ip, b_ip) = (IpAddr::from(a), IpAddr::from(b));
            let prefix = IpNet::new(a_ip, length).unwrap().trunc();
            let same = (0..usize::from(length)).all(|i| bit(&a, i) == bit(&b, i));
            prop_assert_eq!(PeerPolicy::new(vec![prefix], vec![], vec![]).admits_form(b_ip), same || {
                PeerPolicy::default().admits_form(b_ip)
            });
            let everything = vec!["::/0".parse().unwrap()];
            prop_assert_eq!(PeerPolicy::new(everything, vec![prefix], vec![]).admits_form(b_ip), !same);
        }

        /// Whatever carries an IPv4 address is never admitted where that address is not.
        #[test]
        fn no_disguise_helps(v4: [u8; 4], rest: [u8; 16], form in 0usize..6) {
            let policy = PeerPolicy::default();
            let inner = IpAddr::from(v4);
            let mut octets = match form {
                0 => [0u8; 16],
                1 => Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0).octets(),
                2 => Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0).octets(),
                3 | 4 => rest,
                _ => Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0).octets(),
            };
            match form {
                3 => { octets[..2].copy_from_slice(&[0x20, 0x02]); octets[2..6].copy_from_slice(&v4); }
                4 => { octets[..4].copy_from_slice(&[0x20, 0x01, 0, 0]); octets[12..].copy_from_slice(&v4.map(|o| !o)); }
                _ => octets[12..].copy_from_slice(&v4),
            }
            if policy.admits(IpAddr::from(octets)) {
                prop_assert!(policy.admits(inner));
            }
        }
    }
}
