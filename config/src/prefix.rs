use std::fmt;
use std::net::IpAddr;

/// An IP prefix such as `192.0.2.0/24`; a single address is its own prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    pub address: IpAddr,
    /// Bits that are compared: at most 32 or 128.
    pub length: u8,
}

impl Prefix {
    /// The prefix, or what is to be written instead.
    pub fn parse(text: &str) -> Result<Prefix, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let example = r#"write a prefix such as "192.168.7.0/24" or "2001:db8::/32""#;
        let address: IpAddr = address.parse().map_err(|_| format!("no IP address; {example}"))?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) => length
                .parse()
                .ok()
                .filter(|&length| length <= bits)
                .ok_or_else(|| format!("the number behind the slash goes from 0 to {bits}; {example}"))?,
            None => bits,
        };
        let masked = masked(address, length);
        if masked != address {
            return Err(format!(r#"bits are set behind the prefix; write "{masked}/{length}""#));
        }
        Ok(Prefix { address, length })
    }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_and_written() {
        for text in ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.1/32", "::/0", "2001:db8::/32"] {
            assert_eq!(Prefix::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Prefix::parse("192.0.2.1").unwrap().length, 32);
        assert_eq!(Prefix::parse("::1").unwrap().length, 128);
    }

    #[test]
    fn a_wrong_prefix_is_explained() {
        for (text, word) in [
            ("here", "no IP address"),
            ("192.0.2.0/33", "0 to 32"),
            ("::/-1", "0 to 128"),
            ("192.0.2.1/24", r#""192.0.2.0/24""#),
            ("2001:db8::1/32", r#""2001:db8::/32""#),
        ] {
            let message = Prefix::parse(text).unwrap_err();
            assert!(message.contains(word), "{text}: {message}");
        }
    }
}
