//! What a subscriber decided about single tracks.

use std::collections::{BTreeMap, BTreeSet};

use livekit_protocol::UpdateTrackSettings;

use super::identifier::SID_LIMIT;

/// A client may name tracks before they exist, and some that never will.
const CHOICES_MAX: usize = 10_000;
/// Tracks that one message may name: each costs a look at it, and may cost a command.
const NAMED_MAX: usize = 1_000;

#[derive(Clone, Debug, Default)]
pub struct TrackChoice {
    pub subscribe: Option<bool>,
    pub setting: Option<UpdateTrackSettings>,
}

/// By track sid.
#[derive(Clone, Debug, Default)]
pub struct Choices(BTreeMap<String, TrackChoice>);

impl Choices {
    pub fn get(&self, track_sid: &str) -> Option<&TrackChoice> {
        self.0.get(track_sid)
    }

    /// The place to note a choice, unless there are too many or no track will ever have this sid.
    pub fn get_mut(&mut self, track_sid: &str) -> Option<&mut TrackChoice> {
        let full = self.0.len() >= CHOICES_MAX && !self.0.contains_key(track_sid);
        if full || track_sid.len() > SID_LIMIT {
            return None;
        }
        Some(self.0.entry(track_sid.to_owned()).or_default())
    }

    /// The track has ended; its sid is never used again.
    pub fn forget(&mut self, track_sid: &str) {
        self.0.remove(track_sid);
    }
}

/// The tracks that a message names, each once.
pub fn named(track_sids: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    track_sids.into_iter().take(NAMED_MAX).filter(|sid| sid.len() <= SID_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_not_too_many_and_none_is_long() {
        let mut choices = Choices::default();
        assert!(choices.get_mut(&"x".repeat(SID_LIMIT)).is_some());
        assert!(choices.get_mut(&"x".repeat(SID_LIMIT + 1)).is_none());
        for index in 1..CHOICES_MAX {
            assert!(choices.get_mut(&format!("TR_{index}")).is_some());
        }
        assert!(choices.get_mut("TR_0").is_none());
        assert!(choices.get_mut("TR_1").is_some(), "it has a place already");
        choices.forget("TR_1");
        assert!(choices.get_mut("TR_0").is_some());
    }

    #[test]
    fn a_message_names_each_track_once_and_not_without_end() {
        let sids = (0..2 * NAMED_MAX).map(|index| format!("TR_{}", index / 2));
        assert_eq!(named(sids).len(), NAMED_MAX / 2);
    }
}
