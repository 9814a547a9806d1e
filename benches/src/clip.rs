//! What was encoded beforehand: the frames of a clip, and playing them for ever.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};

use crate::{ivf, ogg};

/// Larger files are refused: a clip is held in memory.
const FILE_MAX: u64 = 64 << 20;
/// Frames of one period of three temporal layers (L1T3).
pub const PERIOD: usize = 4;

/// Encoded frames, one per tick of the stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Clip {
    pub frames: Vec<Vec<u8>>,
    /// In pixels; zero for sound.
    pub width: u32,
    pub height: u32,
    /// Mean, without headers.
    pub bitrate: u32,
}

impl Clip {
    /// An IVF file with VP8 in three temporal layers at 30 frames a second. The clip begins with the last keyframe of the
    /// file: before it, the encoder's rate control may settle.
    pub fn open_video(path: &Path) -> Result<Arc<Clip>> {
        let context = || format!("{}", path.display());
        let video = ivf::parse(&read(path)?).with_context(context)?;
        video_clip(video).with_context(context).map(Arc::new)
    }

    /// An Ogg file with Opus in packets of 20 ms.
    pub fn open_voice(path: &Path) -> Result<Arc<Clip>> {
        let frames = ogg::parse_opus(&read(path)?).with_context(|| format!("{}", path.display()))?;
        let bitrate = rate(&frames, 50);
        Ok(Arc::new(Clip { frames, width: 0, height: 0, bitrate }))
    }
}

fn video_clip(video: ivf::Video) -> Result<Clip> {
    let ivf::Video { width, height, mut frames } = video;
    let keyframe = |frame: &Vec<u8>| frame.first().is_some_and(|first| first & 1 == 0);
    let last = frames.iter().rposition(keyframe).context("no keyframe")?;
    ensure!(last.is_multiple_of(PERIOD), "frame {last} is a keyframe inside a period of the temporal layers");
    frames.drain(..last);
    let whole = frames.len() / PERIOD * PERIOD;
    ensure!(whole > PERIOD, "only {} frames from the last keyframe on", frames.len());
    frames.truncate(whole);
    let bitrate = rate(&frames, 30);
    Ok(Clip { frames, width: width.into(), height: height.into(), bitrate })
}

fn rate(frames: &[Vec<u8>], per_second: usize) -> u32 {
    let octets: usize = frames.iter().map(Vec::len).sum();
    (octets * 8 * per_second / frames.len().max(1)) as u32
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let context = || format!("{}", path.display());
    let length = std::fs::metadata(path).with_context(context)?.len();
    ensure!(length <= FILE_MAX, "{}: {length} octets, at most {FILE_MAX} are read", path.display());
    std::fs::read(path).with_context(context)
}

/// A place in a clip that is played for ever. Video goes from its end to the period behind its keyframe: a keyframe comes
/// only when one is asked for, as from a camera, and decoders go on (what they show is not the encoder's picture any
/// more, which nobody looks at).
#[derive(Debug)]
pub struct Playback {
    clip: Arc<Clip>,
    next: usize,
    after_end: usize,
}

impl Playback {
    pub fn of_video(clip: Arc<Clip>) -> Playback {
        Playback { clip, next: 0, after_end: PERIOD }
    }

    pub fn of_voice(clip: Arc<Clip>) -> Playback {
        Playback { clip, next: 0, after_end: 0 }
    }

    /// The next frame is the keyframe.
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// The place of the next frame in the clip.
    pub fn advance(&mut self) -> (Arc<Clip>, usize) {
        let index = self.next;
        self.next = if index + 1 == self.clip.frames.len() { self.after_end } else { index + 1 };
        (Arc::clone(&self.clip), index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(keyframes: &[usize], frames: usize) -> ivf::Video {
        let frames = (0..frames).map(|index| vec![u8::from(!keyframes.contains(&index)), index as u8]).collect();
        ivf::Video { width: 320, height: 180, frames }
    }

    #[test]
    fn a_clip_begins_with_the_last_keyframe_and_repeats_without_one() {
        let clip = Arc::new(video_clip(video(&[0, 4], 14)).unwrap());
        assert_eq!(clip.frames.len(), 8);
        let mut playback = Playback::of_video(clip);
        let mut indices = |count: usize| -> Vec<usize> { (0..count).map(|_| playback.advance().1).collect() };
        assert_eq!(indices(10), [0, 1, 2, 3, 4, 5, 6, 7, 4, 5]);
        playback.rewind();
        let (clip, index) = playback.advance();
        assert_eq!((index, &clip.frames[index][..]), (0, &[0, 4][..]));
    }

    #[test]
    fn a_clip_whose_layers_cannot_be_told_is_refused() {
        for (keyframes, frames) in [(&[][..], 20), (&[2], 20), (&[16], 20)] {
            assert!(video_clip(video(keyframes, frames)).is_err(), "{keyframes:?}");
        }
    }
}
