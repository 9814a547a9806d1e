//! Whom a participant lets have which of its tracks.

use std::collections::{BTreeMap, BTreeSet};

use livekit_protocol::{SubscriptionPermission, TrackPermission};

use super::identifier::SID_LIMIT;
use super::settings::NAME_LIMIT;

/// Participants that a rule may name.
const PARTICIPANTS_MAX: usize = 10_000;
/// Tracks that it may name, for all of them together.
const TRACKS_MAX: usize = 10_000;

#[derive(Clone, Debug, Default)]
struct Permitted {
    all_tracks: bool,
    /// By sid; they may not exist yet.
    tracks: BTreeSet<String>,
}

impl Permitted {
    fn has(&self, track_sid: &str) -> bool {
        self.all_tracks || self.tracks.contains(track_sid)
    }
}

/// Looked at for every pair of participants and every track, so it is kept by whom it names.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionRule {
    everybody: bool,
    by_identity: BTreeMap<String, Permitted>,
    /// Those who are named without an identity.
    by_sid: BTreeMap<String, Permitted>,
}

impl SubscriptionRule {
    /// What is beyond the bounds is not permitted to anybody.
    pub fn new(permission: SubscriptionPermission) -> SubscriptionRule {
        let mut rule = SubscriptionRule { everybody: permission.all_participants, ..Default::default() };
        let mut rest = TRACKS_MAX;
        for permission in permission.track_permissions.into_iter().take(PARTICIPANTS_MAX) {
            let TrackPermission { participant_sid, participant_identity, all_tracks, track_sids } = permission;
            let (named, name, limit) = match participant_identity.is_empty() {
                true => (&mut rule.by_sid, participant_sid, SID_LIMIT),
                false => (&mut rule.by_identity, participant_identity, NAME_LIMIT),
            };
            if name.len() > limit {
                continue;
            }
            let permitted = named.entry(name).or_default();
            permitted.all_tracks |= all_tracks;
            let considered = rest.min(track_sids.len());
            rest -= considered;
            permitted.tracks.extend(track_sids.into_iter().take(considered).filter(|sid| sid.len() <= SID_LIMIT));
        }
        rule
    }

    pub fn is_for_everybody(&self) -> bool {
        self.everybody
    }

    pub fn permits(&self, identity: &str, sid: &str, track_sid: &str) -> bool {
        let permitted = [self.by_identity.get(identity), self.by_sid.get(sid)];
        self.everybody || permitted.into_iter().flatten().any(|permitted| permitted.has(track_sid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(identity: &str, sid: &str, tracks: Vec<String>) -> TrackPermission {
        TrackPermission {
            participant_identity: identity.into(),
            participant_sid: sid.into(),
            all_tracks: tracks.is_empty(),
            track_sids: tracks,
        }
    }

    fn rule(track_permissions: Vec<TrackPermission>) -> SubscriptionRule {
        SubscriptionRule::new(SubscriptionPermission { all_participants: false, track_permissions })
    }

    #[test]
    fn an_identity_counts_before_a_sid_and_all_entries_together() {
        let rule = rule(vec![
            permission("bert", "PA_clara", vec![]),
            permission("clara", "", vec!["TR_1".into()]),
            permission("clara", "", vec!["TR_2".into()]),
            permission("", "PA_dora", vec!["TR_1".into()]),
        ]);
        assert!(rule.permits("bert", "PA_bert", "TR_9"));
        let clara = ["TR_1", "TR_2", "TR_9"].map(|track| rule.permits("clara", "PA_clara", track));
        assert_eq!(clara, [true, true, false]);
        assert!(rule.permits("dora", "PA_dora", "TR_1") && !rule.permits("dora", "PA_other", "TR_1"));
    }

    #[test]
    fn what_is_beyond_all_bounds_permits_nothing() {
        let long = "x".repeat(NAME_LIMIT + 1);
        let many: Vec<String> = (0..TRACKS_MAX).map(|index| format!("TR_{index}")).collect();
        let rule = rule(vec![
            permission(&long, "", vec![]),
            permission("bert", "", vec![long.clone()]),
            permission("clara", "", many),
        ]);
        assert!(!rule.permits(&long, "", "TR_1"));
        assert!(!rule.permits("bert", "", &long));
        assert!(rule.permits("clara", "", "TR_0"));
        assert!(!rule.permits("clara", "", &format!("TR_{}", TRACKS_MAX - 1)), "bert's entry took its place");
    }
}
