use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An IP prefix such as `192.0.2.0/24`, `2001:db8::/32` or a single address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// Not an IP address before the slash.
    Address,
    /// Not a number of bits that the family has.
    Length,
    /// Bits are set behind the prefix: a typing error, most likely.
    HostBits,
}

impl fmt::Display for PrefixError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            PrefixError::Address => "no IP address",
            PrefixError::Length => "the number of bits is no number or too large",
            PrefixError::HostBits => "bits are set behind the prefix",
        })
    }
}

impl std::error::Error for PrefixError {}

impl Prefix {
    pub fn new(address: IpAddr, length: u8) -> Result<Prefix, PrefixError> {
        if length > bits(address) {
            return Err(PrefixError::Length);
        }
        if masked(address, length) != number(address) {
            return Err(PrefixError::HostBits);
        }
        Ok(Prefix { address, length })
    }

    /// Bits that are compared.
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether `ip` is of the same family and begins with this prefix.
    pub fn contains(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.address.is_ipv4() && masked(ip, self.length) == number(self.address)
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Prefix {
        let length = bits(address);
        Prefix { address, length }
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Prefix, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Address)?;
        let length = match length {
            Some(length) => length.parse().map_err(|_| PrefixError::Length)?,
            None => bits(address),
        };
        Prefix::new(address, length)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The address in the upper bits, whatever its family.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn masked(ip: IpAddr, length: u8) -> u128 {
    number(ip) & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parsing() {
        let parse = |text: &str| text.parse::<Prefix>();
        assert_eq!(parse("192.0.2.0/24").unwrap().to_string(), "192.0.2.0/24");
        assert_eq!(parse("2001:db8::1").unwrap().to_string(), "2001:db8::1/128");
        assert_eq!(parse("192.0.2.0/33"), Err(PrefixError::Length));
        assert_eq!(parse("192.0.2.0/"), Err(PrefixError::Length));
        assert_eq!(parse("192.0.2.1/24"), Err(PrefixError::HostBits));
        assert_eq!(parse("example.org/24"), Err(PrefixError::Address));
    }

    #[test]
    fn everything_and_one_address() {
        let all: Prefix = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.1.2.3".parse().unwrap()));
        assert!(!all.contains("::".parse().unwrap()));
        let all: Prefix = "::/0".parse().unwrap();
        assert!(all.contains("ffff::1".parse().unwrap()));
        let one: Prefix = "10.0.0.1".parse().unwrap();
        assert!(one.contains("10.0.0.1".parse().unwrap()) && !one.contains("10.0.0.0".parse().unwrap()));
    }

    proptest! {
        /// Bit by bit, as the definition says.
        #[test]
        fn contains_compares_the_first_bits(a: [u8; 16], b: [u8; 16], shared in 0usize..=128, length in 0u8..=128) {
            let mut b = b;
            for bit in 0..shared {
                let mask = 0x80 >> (bit % 8);
                b[bit / 8] = (b[bit / 8] & !mask) | (a[bit / 8] & mask);
            }
            let bit = |octets: &[u8; 16], i: usize| octets[i / 8] >> (7 - i % 8) & 1;
            let same = (0..usize::from(length)).all(|i| bit(&a, i) == bit(&b, i));
            let base = IpAddr::from((masked(IpAddr::from(a), length)).to_be_bytes());
            let prefix = Prefix::new(base, length).unwrap();
            prop_assert_eq!(prefix.contains(IpAddr::from(b)), same);
        }
    }
}
