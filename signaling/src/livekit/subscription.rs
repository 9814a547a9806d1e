//! A track as one subscriber gets it, and how much of it the subscriber wants.

use livekit_protocol::{UpdateTrackSettings, VideoLayer, VideoQuality};
use sfu::{Kind, LayerWish, ParticipantId};

use super::dynacast;
use super::sdp::{Choice, CodecKey};

#[derive(Clone, Debug)]
pub struct Subscription {
    pub publisher: ParticipantId,
    pub kind: Kind,
    pub codec: CodecKey,
    /// `a=msid` of our section.
    pub stream_id: String,
    pub track_sid: String,
    pub ssrc: u32,
    pub rtx_ssrc: u32,
    /// The section that carries it; none until the client offers one.
    pub bound: Option<Bound>,
    /// The client has no codec for it; nothing is tried again.
    pub impossible: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    pub mid: String,
    pub choice: Choice,
}

/// The layer that a subscriber's settings ask for.
///
/// `layers` are the published ones, lowest quality first. A size decides when it is there (proto3 makes a missing
/// quality LOW); a tenth less than what is asked for is still good enough.
pub fn layer_wish(
    setting: Option<&UpdateTrackSettings>,
    adaptive_stream: bool,
    layers: &[VideoLayer],
    qualities: &[VideoQuality],
) -> LayerWish {
    let Some(setting) = setting else {
        return LayerWish { spatial_max: if adaptive_stream { 0 } else { u8::MAX }, ..LayerWish::EVERYTHING };
    };
    let spatial_max = if setting.width > 0 && setting.height > 0 {
        let heights: Vec<u32> = layers.iter().take(qualities.len()).map(|layer| layer.height).collect();
        layer_for_height(setting.height, &heights)
    } else {
        match VideoQuality::try_from(setting.quality) {
            Ok(VideoQuality::Off) => {
                return LayerWish { paused: true, ..LayerWish::EVERYTHING };
            }
            Ok(quality) => dynacast::index_of(quality, qualities),
            Err(_) => u8::MAX,
        }
    };
    LayerWish { paused: setting.disabled, spatial_max, temporal_max: 7 }
}

fn layer_for_height(wanted: u32, heights: &[u32]) -> u8 {
    let enough = u64::from(wanted) * 9;
    let Some(found) = heights.iter().position(|height| u64::from(*height) * 10 >= enough) else {
        return u8::MAX;
    };
    // Of neighbours of one height the upper has the better picture.
    let last = heights.iter().rposition(|height| *height == heights[found]).unwrap_or(found);
    last.min(usize::from(u8::MAX)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const LMH: [VideoQuality; 3] = [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High];

    fn wish(width: u32, height: u32, quality: VideoQuality, disabled: bool) -> LayerWish {
        let layers = [180, 360, 720].map(|height| VideoLayer { height, width: height * 16 / 9, ..Default::default() });
        let setting = UpdateTrackSettings { width, height, quality: quality as i32, disabled, ..Default::default() };
        layer_wish(Some(&setting), true, &layers, &LMH)
    }

    #[test]
    fn a_size_chooses_the_lowest_layer_that_nearly_fills_it() {
        for (height, layer) in [(1, 0), (180, 0), (200, 0), (201, 1), (400, 1), (401, 2), (720, 2)] {
            assert_eq!(wish(640, height, VideoQuality::Low, false).spatial_max, layer, "{height}");
        }
        assert_eq!(wish(1920, 1080, VideoQuality::Low, false).spatial_max, u8::MAX);
    }

    #[test]
    fn a_quality_without_size_is_a_cap_and_disabled_pauses() {
        assert_eq!(wish(0, 0, VideoQuality::Medium, false).spatial_max, 1);
        assert_eq!(wish(0, 0, VideoQuality::High, false).spatial_max, 2);
        assert!(wish(0, 0, VideoQuality::High, true).paused);
        assert!(wish(0, 0, VideoQuality::Off, false).paused);
        assert!(!wish(640, 360, VideoQuality::Off, false).paused);
    }

    #[test]
    fn before_any_setting_an_adaptive_client_gets_the_lowest() {
        assert_eq!(layer_wish(None, true, &[], &LMH).spatial_max, 0);
        assert_eq!(layer_wish(None, false, &[], &LMH), LayerWish::EVERYTHING);
    }

    #[test]
    fn equal_heights_choose_the_upper() {
        assert_eq!(layer_for_height(300, &[360, 360, 720]), 1);
    }
}
