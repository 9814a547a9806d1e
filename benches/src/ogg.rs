//! Opus packets out of an Ogg file (RFC 3533, RFC 7845).

use anyhow::{Context as _, Result, bail, ensure};

const PAGE_HEADER: usize = 27;
/// RFC 6716 §3.2.1: a frame has at most 1275 octets; packets of one frame have one more.
const PACKET_MAX: usize = 1276;

/// The packets of the only stream of a file, 20 ms each.
pub fn parse_opus(file: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut packets = packets(file)?.into_iter();
    ensure!(packets.next().is_some_and(|head| head.starts_with(b"OpusHead")), "the stream is not Opus");
    ensure!(packets.next().is_some_and(|tags| tags.starts_with(b"OpusTags")), "no comment header");
    let packets: Vec<Vec<u8>> = packets.collect();
    ensure!(!packets.is_empty(), "no sound");
    for packet in &packets {
        ensure!(packet.len() <= PACKET_MAX, "a packet of {} octets", packet.len());
        ensure!(
            packet.first().is_some_and(|toc| is_one_frame_of_20_ms(*toc)),
            "a packet that is not one frame of 20 ms"
        );
    }
    Ok(packets)
}

/// RFC 6716 §3.1: configuration, s, and the code for the number of frames.
fn is_one_frame_of_20_ms(toc: u8) -> bool {
    let of_20_ms = match toc >> 3 {
        silk @ 0..12 => silk % 4 == 1,
        hybrid @ 12..16 => hybrid % 2 == 1,
        celt => celt % 4 == 3,
    };
    of_20_ms && toc & 3 == 0
}

fn packets(mut rest: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut packets = Vec::new();
    let mut unfinished: Option<Vec<u8>> = None;
    let mut serial = None;
    while !rest.is_empty() {
        let head = rest.get(..PAGE_HEADER).context("the file ends inside a page's header")?;
        ensure!(head.starts_with(b"OggS\0"), "no Ogg page where one should begin");
        ensure!(*serial.get_or_insert(&head[14..18]) == &head[14..18], "more than one stream");
        let continues = head[5] & 1 == 1;
        ensure!(continues == unfinished.is_some(), "a page is missing");
        let lacing = rest.get(PAGE_HEADER..PAGE_HEADER + usize::from(head[26])).context("a page without its lacing")?;
        rest = &rest[PAGE_HEADER + lacing.len()..];
        for &length in lacing {
            let Some(segment) = rest.get(..usize::from(length)) else {
                bail!("the file ends inside a page");
            };
            rest = &rest[segment.len()..];
            let packet = unfinished.get_or_insert_default();
            packet.extend_from_slice(segment);
            // RFC 3533 §5: a segment of less than 255 octets ends its packet.
            if length < 255 {
                packets.extend(unfinished.take());
            }
        }
    }
    ensure!(unfinished.is_none(), "the file ends inside a packet");
    Ok(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(continued: bool, lacing: &[u8], body: &[u8]) -> Vec<u8> {
        let mut page = b"OggS\0".to_vec();
        page.push(u8::from(continued));
        page.resize(PAGE_HEADER - 1, 0);
        page.push(lacing.len() as u8);
        page.extend_from_slice(lacing);
        page.extend_from_slice(body);
        page
    }

    fn file() -> Vec<u8> {
        let mut long = vec![0xF8; 300];
        long[299] = 1;
        let mut file = page(false, &[8], b"OpusHead");
        file.extend(page(false, &[8], b"OpusTags"));
        file.extend(page(false, &[3, 255], &[&[0xF8, 1, 2], &long[..255]].concat()));
        file.extend(page(true, &[45], &long[255..]));
        file
    }

    #[test]
    fn packets_go_over_the_ends_of_pages() {
        let packets = parse_opus(&file()).unwrap();
        assert_eq!(packets.iter().map(Vec::len).collect::<Vec<_>>(), [3, 300]);
        assert_eq!((packets[0][2], packets[1][299]), (2, 1));
    }

    #[test]
    fn a_broken_file_is_refused() {
        let whole = file();
        let two_pages = 2 * (PAGE_HEADER + 1 + 8);
        for end in 0..whole.len() {
            assert!(parse_opus(&whole[..end]).is_err(), "{end}");
        }
        // A packet of 10 ms, one of two frames, a second stream, a missing page.
        let sound = two_pages + PAGE_HEADER + 2;
        for (at, octet) in [(sound, 0xF0), (sound, 0xF9), (two_pages + 14, 1), (two_pages + 5, 1)] {
            let mut broken = whole.clone();
            broken[at] = octet;
            assert!(parse_opus(&broken).is_err(), "{at}");
        }
    }
}
