//! A segment on the wire. Its octets stand behind an UDP header here, so that what the IP packet takes is right: 20 octets of
//! TCP header, 12 of timestamps, and 4 + 8 for each block of SACK.

/// Octets of data in a full segment: 1500 less the headers.
pub const SEGMENT_SIZE: usize = 1448;
/// IP and TCP headers with timestamps are 52 octets, of which the wire adds 28.
const HEADER: usize = 24;
/// Tells it from everything that a media port takes.
const TAG: u8 = 0xF0;
/// Blocks that fit beside timestamps.
pub const SACK_BLOCKS: usize = 3;
/// Ends the connection at once.
const RESET: u8 = 4;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Stands for the client's port.
    pub connection: u16,
    pub reset: bool,
    /// Where its octets stand in the stream; below 2³².
    pub begin: u64,
    pub data: Vec<u8>,
    /// Everything before this octet has arrived.
    pub acknowledged: u64,
    /// What has arrived beyond, the latest first.
    pub sacks: Vec<(u64, u64)>,
}

pub fn is_segment(packet: &[u8]) -> bool {
    packet.first() == Some(&TAG)
}

impl Segment {
    pub fn write(&self) -> Vec<u8> {
        let mut packet = vec![TAG, if self.reset { RESET } else { 0 }];
        packet.extend(self.connection.to_be_bytes());
        packet.extend((self.begin as u32).to_be_bytes());
        packet.extend((self.acknowledged as u32).to_be_bytes());
        packet.push(self.sacks.len() as u8);
        packet.resize(HEADER, 0);
        if !self.sacks.is_empty() {
            packet.extend([0; 4]);
        }
        for (begin, end) in &self.sacks {
            packet.extend((*begin as u32).to_be_bytes());
            packet.extend((*end as u32).to_be_bytes());
        }
        packet.extend_from_slice(&self.data);
        packet
    }

    pub fn read(packet: &[u8]) -> Option<Segment> {
        let word = |at: usize| Some(u64::from(u32::from_be_bytes(*packet.get(at..)?.first_chunk()?)));
        if !is_segment(packet) {
            return None;
        }
        let blocks = usize::from(*packet.get(12)?);
        let mut at = HEADER + if blocks > 0 { 4 } else { 0 };
        let mut sacks = Vec::new();
        for _ in 0..blocks {
            sacks.push((word(at)?, word(at + 4)?));
            at += 8;
        }
        Some(Segment {
            connection: u16::from_be_bytes(*packet.get(2..)?.first_chunk()?),
            reset: packet[1] & RESET != 0,
            begin: word(4)?,
            acknowledged: word(8)?,
            sacks,
            data: packet.get(at..)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_as_written_and_takes_what_it_takes() {
        let segment = Segment {
            connection: 7,
            reset: false,
            begin: 3_000_000_000,
            data: vec![5; SEGMENT_SIZE],
            acknowledged: 17,
            sacks: vec![(30, 40), (20, 25)],
        };
        let packet = segment.write();
        assert_eq!(Segment::read(&packet), Some(segment.clone()));
        assert_eq!(packet.len() + 28, 52 + 4 + 16 + SEGMENT_SIZE);
        assert_eq!(Segment { sacks: Vec::new(), ..segment }.write().len() + 28, 1500);
        assert_eq!(Segment::read(&packet[..30]), None);
        assert_eq!(Segment::read(&[128; 40]), None);
    }
}
