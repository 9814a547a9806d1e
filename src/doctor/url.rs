//! Percent-encoding of what stands in an address.

use std::fmt::Write as _;

/// Everything but the unreserved characters (RFC 3986 §2.3) is encoded.
pub fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(octet.into()),
            _ => {
                let _ = write!(encoded, "%{octet:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_survive_as_one_segment() {
        assert_eq!(super::encoded("!a/b:c ü"), "%21a%2Fb%3Ac%20%C3%BC");
        assert_eq!(super::encoded("A-z_0.~"), "A-z_0.~");
    }
}
