//! IVF, the container in which VP8 encoders leave their frames.

use anyhow::{Context as _, Result, bail, ensure};

const FILE_HEADER: usize = 32;
const FRAME_HEADER: usize = 12;
const FRAME_MAX: usize = 1 << 20;

#[derive(Debug, PartialEq, Eq)]
pub struct Video {
    pub width: u16,
    pub height: u16,
    pub frames: Vec<Vec<u8>>,
}

/// Reads a file of VP8 at 30 frames a second.
pub fn parse(file: &[u8]) -> Result<Video> {
    let header = file.get(..FILE_HEADER).context("shorter than the header of an IVF file")?;
    let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let long = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    ensure!(header.starts_with(b"DKIF"), "no IVF file");
    ensure!(&header[8..12] == b"VP80", "the codec is not VP8");
    let (rate, scale) = (long(16), long(20));
    ensure!(u64::from(rate) == 30 * u64::from(scale), "{rate}/{scale} frames a second, not 30");
    let mut rest = file.get(usize::from(short(6))..).context("a header longer than the file")?;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let head = rest.get(..FRAME_HEADER).context("the file ends inside a frame's header")?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        ensure!((1..=FRAME_MAX).contains(&length), "frame {} has {length} octets", frames.len());
        let Some(frame) = rest.get(FRAME_HEADER..FRAME_HEADER + length) else {
            bail!("the file ends inside frame {}", frames.len());
        };
        frames.push(frame.to_vec());
        rest = &rest[FRAME_HEADER + length..];
    }
    Ok(Video { width: short(12), height: short(14), frames })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(frames: &[&[u8]]) -> Vec<u8> {
        let mut file = b"DKIF\0\0\x20\0VP80\x40\x01\xB4\0\x1E\0\0\0\x01\0\0\0".to_vec();
        file.resize(FILE_HEADER, 0);
        for frame in frames {
            file.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            file.extend_from_slice(&[0; 8]);
            file.extend_from_slice(frame);
        }
        file
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let video = parse(&file(&[b"one", b"other"])).unwrap();
        assert_eq!(video, Video { width: 320, height: 180, frames: vec![b"one".to_vec(), b"other".to_vec()] });
    }

    #[test]
    fn a_broken_file_is_refused_wherever_it_ends() {
        let whole = file(&[b"one", b"other"]);
        let ends = [FILE_HEADER, FILE_HEADER + FRAME_HEADER + 3, whole.len()];
        for end in 0..=whole.len() {
            assert_eq!(parse(&whole[..end]).is_ok(), ends.contains(&end), "{end}");
        }
        for (at, octet) in [(0, b'X'), (11, b'9'), (16, 25), (6, 255), (35, 1)] {
            let mut broken = whole.clone();
            broken[at] = octet;
            assert!(parse(&broken).is_err(), "{at}");
        }
    }
}
