//! What publishers send: recordings where there are any, else made-up content.

use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::clip::Clip;
use crate::loadgen::Options;
use crate::sdp::{Kind, OutgoingEncoding, OutgoingTrack};
use crate::session::Publication;

/// Pixels, bit/s and rid of made-up encodings.
const LAYERS: [(u32, u32, u32, &str); 3] =
    [(320, 180, 150_000, "q"), (640, 360, 500_000, "h"), (1280, 720, 2_000_000, "f")];

/// What is published instead of made-up content, read once for all publishers.
pub struct Recordings {
    /// Of each encoding, the smallest first.
    video: Vec<Arc<Clip>>,
    voice: Option<Arc<Clip>>,
}

impl Recordings {
    pub fn open(options: &Options) -> Result<Recordings> {
        ensure!(options.video.len() <= LAYERS.len(), "at most {} --video", LAYERS.len());
        let video = options.video.iter().map(|path| Clip::open_video(path)).collect::<Result<Vec<_>>>()?;
        ensure!(video.is_sorted_by_key(|clip| clip.height), "the smallest --video comes first");
        let voice = options.voice.as_deref().map(Clip::open_voice).transpose()?;
        Ok(Recordings { video, voice })
    }

    /// What publisher `member` of a room sends.
    pub fn publications(&self, options: &Options, member: usize) -> Result<Vec<Publication>> {
        let mut made = Vec::new();
        if !options.no_audio && member < options.speakers() {
            let encodings = vec![encoding(None)?];
            let cid = format!("audio-{:08x}", encodings[0].ssrc);
            let track = OutgoingTrack { cid, encodings };
            let clips = self.voice.iter().cloned().collect();
            made.push(Publication { kind: Kind::Audio, track, layers: Vec::new(), clips });
        }
        if !options.no_video {
            let layers: Vec<(u32, u32, u32)> = if self.video.is_empty() {
                let made_up = if options.simulcast { &LAYERS[..] } else { &LAYERS[2..] };
                made_up.iter().map(|&(width, height, bitrate, _)| (width, height, bitrate)).collect()
            } else {
                self.video.iter().map(|clip| (clip.width, clip.height, clip.bitrate)).collect()
            };
            let simulcast = layers.len() > 1;
            let rids = LAYERS.iter().map(|layer| simulcast.then_some(layer.3));
            let encodings = layers.iter().zip(rids).map(|(_, rid)| encoding(rid)).collect::<Result<Vec<_>>>()?;
            let cid = format!("video-{:08x}", encodings[0].ssrc);
            let track = OutgoingTrack { cid, encodings };
            made.push(Publication { kind: Kind::Video, track, layers, clips: self.video.clone() });
        }
        Ok(made)
    }
}

fn encoding(rid: Option<&'static str>) -> Result<OutgoingEncoding> {
    let ssrc = || -> Result<u32> {
        let mut octets = [0; 4];
        getrandom::fill(&mut octets)?;
        Ok(u32::from_be_bytes(octets) | 1)
    };
    Ok(OutgoingEncoding { rid, ssrc: ssrc()?, rtx_ssrc: ssrc()? })
}
