//! What a token's grant permits, and what a grant says that permits as much.

use livekit_protocol::{ParticipantPermission, TrackSource};

use super::token::VideoGrant;

/// What a grant permits; what it does not mention is permitted, but for changing one's own metadata.
pub fn permission(grant: &VideoGrant) -> ParticipantPermission {
    let can_publish = grant.can_publish.unwrap_or(true);
    let sources = grant.can_publish_sources.as_deref().unwrap_or_default();
    #[allow(deprecated)]
    ParticipantPermission {
        can_subscribe: grant.can_subscribe.unwrap_or(true),
        can_publish,
        can_publish_data: grant.can_publish_data.unwrap_or(can_publish),
        can_publish_sources: sources
            .iter()
            // A name that we do not know still confines to something: none at all would permit everything.
            .map(|name| TrackSource::from_str_name(&name.to_ascii_uppercase()).unwrap_or(TrackSource::Unknown) as i32)
            .collect(),
        can_update_metadata: grant.can_update_own_metadata.unwrap_or(false),
        hidden: grant.hidden,
        recorder: grant.recorder,
        agent: grant.agent,
        can_subscribe_metrics: grant.can_subscribe_metrics.unwrap_or(false),
        can_manage_agent_session: grant.can_manage_agent_session.unwrap_or(false),
    }
}

impl VideoGrant {
    /// Makes it say what a participant is permitted now, for a token that lets it come back with no more and no less.
    pub fn permit(&mut self, permission: &ParticipantPermission) {
        self.can_publish = Some(permission.can_publish);
        self.can_subscribe = Some(permission.can_subscribe);
        self.can_publish_data = Some(permission.can_publish_data);
        self.can_update_own_metadata = Some(permission.can_update_metadata);
        self.hidden = permission.hidden;
        let sources = permission.can_publish_sources.iter();
        let sources: Vec<String> = sources
            .map(|source| TrackSource::try_from(*source).unwrap_or(TrackSource::Unknown))
            .map(|source| source.as_str_name().to_ascii_lowercase())
            .collect();
        // None named: all of them.
        self.can_publish_sources = (!sources.is_empty()).then_some(sources);
        self.can_subscribe_metrics = permission.can_subscribe_metrics.then_some(true);
        self.can_manage_agent_session = permission.can_manage_agent_session.then_some(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_grant_does_not_mention_is_permitted() {
        let open = permission(&VideoGrant::default());
        assert!(open.can_publish && open.can_subscribe && open.can_publish_data);
        assert!(!open.can_update_metadata && open.can_publish_sources.is_empty());
        let listener = permission(&VideoGrant { can_publish: Some(false), ..Default::default() });
        assert!(!listener.can_publish && !listener.can_publish_data);
        let voice = permission(&VideoGrant {
            can_publish_sources: Some(vec!["microphone".into(), "screen_share".into()]),
            ..Default::default()
        });
        assert_eq!(voice.can_publish_sources, [2, 3]);
        let newer = VideoGrant { can_publish_sources: Some(vec!["hologram".into()]), ..Default::default() };
        assert_eq!(permission(&newer).can_publish_sources, [0]);
    }

    #[test]
    fn a_grant_that_is_made_to_permit_something_permits_just_that() {
        let narrow = ParticipantPermission {
            can_publish: true,
            can_publish_sources: vec![TrackSource::Camera as i32, TrackSource::ScreenShareAudio as i32],
            can_subscribe_metrics: true,
            hidden: true,
            ..Default::default()
        };
        let wide = ParticipantPermission {
            can_subscribe: true,
            can_publish: true,
            can_publish_data: true,
            can_update_metadata: true,
            can_manage_agent_session: true,
            ..Default::default()
        };
        let mut grant = VideoGrant::default();
        for asked in [narrow, wide] {
            grant.permit(&asked);
            assert_eq!(permission(&grant), asked);
        }
        assert_eq!(grant.can_publish_sources, None);
    }
}
