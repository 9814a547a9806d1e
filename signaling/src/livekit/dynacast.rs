//! Tells a publisher which encodings nobody watches, so that it stops making them.

use std::time::{Duration, Instant};

use livekit_protocol::{SubscribedCodec, SubscribedQuality, SubscribedQualityUpdate, VideoQuality};

/// Fewer layers are asked for only when nobody wanted more for this long.
const DECREASE_DELAY: Duration = Duration::from_secs(5);
/// A new track keeps all its layers for this long.
const START_DELAY: Duration = Duration::from_secs(10);

/// The highest encoding that is wanted; `None` when none is.
type Highest = Option<u8>;

#[derive(Clone, Debug)]
pub struct Dynacast {
    published: Instant,
    wanted: Highest,
    told: Highest,
    /// When `told` follows `wanted` downward.
    decrease: Option<Instant>,
}

impl Dynacast {
    pub fn new(now: Instant, encodings: usize) -> Dynacast {
        let all = u8::try_from(encodings.saturating_sub(1)).ok();
        Dynacast { published: now, wanted: all, told: all, decrease: None }
    }

    pub fn told(&self) -> Highest {
        self.told
    }

    /// When [`Dynacast::handle_timeout`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.decrease
    }

    /// True if the publisher is to be told now.
    pub fn handle_wanted(&mut self, now: Instant, highest: Highest) -> bool {
        self.wanted = highest;
        // None is less than Some(0).
        if highest > self.told {
            self.told = highest;
            self.decrease = None;
            return true;
        }
        if highest == self.told {
            self.decrease = None;
        } else if self.decrease.is_none() {
            self.decrease = Some((now + DECREASE_DELAY).max(self.published + START_DELAY));
        }
        false
    }

    /// True if the publisher is to be told now.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.decrease.is_none_or(|at| at > now) {
            return false;
        }
        self.decrease = None;
        self.told = self.wanted;
        true
    }
}

/// Every quality is named, since clients leave one that is missing as it was.
pub fn quality_update(
    track_sid: &str,
    codec: &str,
    qualities: &[VideoQuality],
    highest: Highest,
) -> SubscribedQualityUpdate {
    let list: Vec<SubscribedQuality> = [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High]
        .into_iter()
        .map(|quality| SubscribedQuality {
            quality: quality as i32,
            enabled: highest.is_some_and(|highest| index_of(quality, qualities) <= highest),
        })
        .collect();
    #[allow(deprecated)]
    SubscribedQualityUpdate {
        track_sid: track_sid.into(),
        subscribed_qualities: list.clone(),
        subscribed_codecs: vec![SubscribedCodec { codec: codec.into(), qualities: list }],
    }
}

/// The encoding that stands for `quality` among the published ones, lowest first.
pub fn index_of(quality: VideoQuality, published: &[VideoQuality]) -> u8 {
    let top = published.len().saturating_sub(1).min(2) as u8;
    match quality {
        VideoQuality::Low => 0,
        VideoQuality::Medium if published.first() == Some(&VideoQuality::Medium) => 0,
        VideoQuality::Medium => top.min(1),
        VideoQuality::High | VideoQuality::Off => top,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> Instant {
        test_clock::start().instant
    }

    #[test]
    fn less_comes_late_and_more_at_once() {
        let start = start();
        let mut dynacast = Dynacast::new(start, 3);
        // Nobody watches yet: nothing happens for ten seconds.
        assert!(!dynacast.handle_wanted(start, None));
        assert_eq!(dynacast.deadline(), Some(start + 10 * SECOND));
        assert!(!dynacast.handle_timeout(start + 9 * SECOND));
        assert!(dynacast.handle_timeout(start + 10 * SECOND));
        assert_eq!(dynacast.told(), None);
        assert!(dynacast.handle_wanted(start + 11 * SECOND, Some(1)));
        assert_eq!(dynacast.told(), Some(1));
        // A dip that ends within five seconds is never told.
        assert!(!dynacast.handle_wanted(start + 12 * SECOND, Some(0)));
        assert!(!dynacast.handle_wanted(start + 14 * SECOND, Some(1)));
        assert_eq!(dynacast.deadline(), None);
        assert!(!dynacast.handle_wanted(start + 20 * SECOND, Some(0)));
        assert!(!dynacast.handle_wanted(start + 22 * SECOND, None));
        assert!(dynacast.handle_timeout(start + 25 * SECOND));
        assert_eq!(dynacast.told(), None);
    }

    fn enabled(published: &[VideoQuality], highest: Highest) -> Vec<bool> {
        quality_update("TR_x", "vp8", published, highest).subscribed_codecs[0]
            .qualities
            .iter()
            .map(|quality| quality.enabled)
            .collect()
    }

    #[test]
    fn layers_are_ranks_among_the_published_qualities() {
        use VideoQuality::{High, Low, Medium};
        assert_eq!(enabled(&[Low, Medium, High], Some(1)), [true, true, false]);
        assert_eq!(enabled(&[Low, Medium], Some(0)), [true, false, false]);
        assert_eq!(enabled(&[Medium, High], Some(0)), [true, true, false]);
        assert_eq!(enabled(&[Low, High], Some(1)), [true, true, true]);
        // A single encoding counts as LOW in clients, so nothing of it may be off while it is watched.
        assert_eq!(enabled(&[High], Some(0)), [true, true, true]);
        assert_eq!(enabled(&[High], None), [false, false, false]);
    }
}
