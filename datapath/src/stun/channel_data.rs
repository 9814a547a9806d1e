//! ChannelData (RFC 8656 §12.4): four octets, then application data.

use std::ops::Range;

/// Octets of the header.
pub const HEADER_LEN: usize = 4;

/// The channel numbers that a client may bind. RFC 8656 §12 ends at 0x4FFF; RFC 5766 clients use more.
pub const NUMBERS: std::ops::RangeInclusive<u16> = 0x4000..=0x7FFE;

/// Where the application data lies in a received ChannelData message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelData {
    pub number: u16,
    pub payload: Range<usize>,
}

impl ChannelData {
    /// RFC 8656 §12.4: over UDP the message need not be padded, but may be: what follows the length is ignored.
    pub fn parse(message: &[u8]) -> Option<ChannelData> {
        let &[n0, n1, l0, l1, ref rest @ ..] = message else {
            return None;
        };
        let number = u16::from_be_bytes([n0, n1]);
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        (number & 0xC000 == 0x4000 && length <= rest.len())
            .then_some(ChannelData { number, payload: HEADER_LEN..HEADER_LEN + length })
    }
}

/// The header before `length` octets of application data.
pub fn header(number: u16, length: u16) -> [u8; HEADER_LEN] {
    let [n0, n1] = number.to_be_bytes();
    let [l0, l1] = length.to_be_bytes();
    [n0, n1, l0, l1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_checked_against_the_datagram() {
        assert_eq!(ChannelData::parse(&[0x40, 0, 0]), None);
        assert_eq!(ChannelData::parse(&[0x40, 0, 0, 2, 1]), None);
        assert_eq!(ChannelData::parse(&[0x80, 0, 0, 0]), None);
        let padded = ChannelData::parse(&[0x40, 1, 0, 1, 9, 0, 0, 0]).unwrap();
        assert_eq!((padded.number, padded.payload), (0x4001, 4..5));
        assert_eq!(header(0x4001, 1), [0x40, 1, 0, 1]);
    }
}
