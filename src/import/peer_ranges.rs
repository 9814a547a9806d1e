//! Ranges of addresses, as coturn has them, and the prefixes that they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Both ends belong to it, and both are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRange {
    first: IpAddr,
    last: IpAddr,
}

impl PeerRange {
    /// `a`, `a-b`, or a prefix.
    pub fn parse(text: &str) -> Option<PeerRange> {
        if let Some((address, length)) = text.split_once('/') {
            let (address, length): (IpAddr, u32) = (address.trim().parse().ok()?, length.trim().parse().ok()?);
            let host_bits = bits(address).checked_sub(length)?;
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            let first = number(address) & mask;
            let last = first | !mask & number(end(address));
            return Some(PeerRange { first: from_number(first, address), last: from_number(last, address) });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(PeerRange { first, last })
    }

    pub fn overlaps(&self, other: PeerRange) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4() && self.first <= other.last && other.first <= self.last
    }

    /// What is left of it: nothing, itself, or one or two pieces.
    fn without(self, hole: PeerRange) -> Vec<PeerRange> {
        if !self.overlaps(hole) {
            return vec![self];
        }
        let of = |ip| number(ip);
        let mut pieces = Vec::new();
        if self.first < hole.first {
            pieces.push(PeerRange { first: self.first, last: from_number(of(hole.first) - 1, self.first) });
        }
        if hole.last < self.last {
            pieces.push(PeerRange { first: from_number(of(hole.last) + 1, self.first), last: self.last });
        }
        pieces
    }

    /// The fewest prefixes that make it up.
    fn prefixes(self) -> Vec<String> {
        let (mut next, last) = (number(self.first), number(self.last));
        let mut prefixes = Vec::new();
        loop {
            // The largest block that begins here and does not pass the end.
            let mut host_bits = next.trailing_zeros().min(bits(self.first));
            while host_bits > 0
                && (host_bits >= 128 || last - next < (1 << host_bits) - 1)
                && !(host_bits == 128 && last == u128::MAX)
            {
                host_bits -= 1;
            }
            let address = from_number(next, self.first);
            prefixes.push(match host_bits {
                0 => address.to_string(),
                _ => format!("{address}/{}", bits(self.first) - host_bits),
            });
            match 1u128.checked_shl(host_bits).and_then(|size| next.checked_add(size)) {
                Some(after) if after <= last => next = after,
                _ => return prefixes,
            }
        }
    }
}

/// Whether all of `range` lies in `ranges`.
pub fn covers(ranges: &[PeerRange], range: PeerRange) -> bool {
    let mut left = vec![range];
    for &hole in ranges {
        left = left.into_iter().flat_map(|range| range.without(hole)).collect();
    }
    left.is_empty()
}

/// The prefixes of `ranges`, but for those that lie in `except` as a whole.
pub fn prefixes(ranges: &[PeerRange], except: &[PeerRange]) -> Vec<String> {
    let mut prefixes = Vec::new();
    for prefix in ranges.iter().flat_map(|range| range.prefixes()) {
        let is_covered = PeerRange::parse(&prefix).is_some_and(|range| covers(except, range));
        if !is_covered && !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    prefixes
}

fn bits(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The last address of the family.
fn end(of_family: IpAddr) -> IpAddr {
    if of_family.is_ipv4() { Ipv4Addr::BROADCAST.into() } else { Ipv6Addr::from_bits(u128::MAX).into() }
}

fn from_number(number: u128, of_family: IpAddr) -> IpAddr {
    match of_family {
        IpAddr::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(ranges: &[&str], holes: &[&str]) -> Vec<String> {
        let read = |texts: &[&str]| -> Vec<_> { texts.iter().map(|text| PeerRange::parse(text).unwrap()).collect() };
        prefixes(&read(ranges), &read(holes))
    }

    #[test]
    fn ranges_become_the_prefixes_they_are() {
        assert_eq!(written(&["10.0.0.0-10.255.255.255"], &[]), ["10.0.0.0/8"]);
        assert_eq!(written(&["192.0.2.7"], &[]), ["192.0.2.7"]);
        assert_eq!(written(&["0.0.0.0-255.255.255.255"], &[]), ["0.0.0.0/0"]);
        assert_eq!(written(&["192.0.2.3-192.0.2.9"], &[]), ["192.0.2.3", "192.0.2.4/30", "192.0.2.8/31"]);
        assert_eq!(written(&["64:ff9b::-64:ff9b::ffff:ffff"], &[]), ["64:ff9b::/96"]);
        assert_eq!(written(&["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], &[]), ["::/0"]);
        // One of each size up to fe00::, and fe00::/7.
        assert_eq!(written(&["fd00::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], &[]).len(), 120 + 1);
        assert_eq!(written(&["10.1.2.3/8", "::1/128", "2001:db8::/32"], &[]), ["10.0.0.0/8", "::1", "2001:db8::/32"]);
    }

    #[test]
    fn only_prefixes_that_are_excepted_as_a_whole_are_left_out() {
        assert_eq!(written(&["10.0.0.0-10.0.0.7"], &["10.0.0.2"]), ["10.0.0.0/29"]);
        assert_eq!(written(&["10.0.0.2-10.0.0.9"], &["10.0.0.0-10.0.0.3", "::"]), ["10.0.0.4/30", "10.0.0.8/31"]);
        assert_eq!(written(&["10.0.0.4/30"], &["10.0.0.4/31", "10.0.0.6/31"]), [""; 0]);
        assert_eq!(written(&["10.0.0.0-10.0.0.7"], &["0.0.0.0/0"]), [""; 0]);
        assert_eq!(written(&["::/0"], &["8000::/1"]), ["::/0"]);
    }

    #[test]
    fn a_range_may_be_covered_by_several() {
        let read = |text| PeerRange::parse(text).unwrap();
        let halves = [read("10.0.0.0-10.127.255.255"), read("10.128.0.0-10.255.255.255")];
        assert!(covers(&halves, read("10.0.0.0/8")));
        assert!(!covers(&halves[..1], read("10.0.0.0/8")) && !covers(&[], read("10.0.0.1")));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "here", "10.0.0.9-10.0.0.1", "10.0.0.1-::1", "10.0.0.0/33", "10.0.0.0-", "1.2.3.4-5"] {
            assert_eq!(PeerRange::parse(text), None, "{text}");
        }
    }
}
