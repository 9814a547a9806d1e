//! One participant as the signalling knows it, from its join until it has left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use livekit_protocol::participant_info::{Kind as ParticipantKind, State};
use livekit_protocol::{ParticipantInfo, ParticipantPermission, TrackSource};
use sfu::{ParticipantId, TrackId};

use super::choices::Choices;
use super::measuring::Link;
use super::negotiation::Negotiation;
use super::output::ConnectionId;
use super::publication::Publication;
use super::subscription::Subscription;
use super::subscription_rule::SubscriptionRule;
use super::token::Claims;
use crate::links::Quality;
use crate::matrix::Seat;

/// How far a lost transport has been given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportState {
    /// Never up yet.
    Connecting,
    Connected,
    /// Silent; the client has not been told.
    Silent,
    /// The client has been told to resume.
    Failed,
}

/// Tests of clients ask the server to misbehave at the next resumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResumeTrouble {
    pub close_after_messages: bool,
    /// This many resumes are cut without any message.
    pub silent: u8,
}

/// What the client said about itself.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub protocol: i32,
    pub capabilities: Vec<i32>,
    pub auto_subscribe: bool,
    pub adaptive_stream: bool,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub id: ParticipantId,
    pub sid: String,
    pub identity: String,
    pub name: String,
    pub metadata: String,
    pub attributes: BTreeMap<String, String>,
    pub kind: ParticipantKind,
    pub permission: ParticipantPermission,
    pub client: Client,
    /// As the client presented them; refreshed tokens repeat them.
    pub claims: Claims,
    /// Since the Unix epoch.
    pub joined: Duration,
    pub state: State,
    /// Grows with every change that others are told.
    pub version: u32,
    pub transport: TransportState,
    /// When the client last said something on its socket, or came back over one.
    pub heard: Instant,
    /// When it last asked for something: by then it had heard the answer to its return.
    pub asked: Instant,
    /// Whether the Matrix side was told that it is here.
    pub present: bool,
    pub link: Link,
    /// Of its connection, with the score; `None` before it is known.
    pub quality: Option<(Quality, f32)>,
    /// What its client was told of connections, its own among them.
    pub qualities_told: BTreeMap<ParticipantId, Quality>,
    /// None while the client is away.
    pub connection: Option<ConnectionId>,
    pub negotiation: Negotiation,
    pub publications: BTreeMap<TrackId, Publication>,
    pub subscriptions: BTreeMap<TrackId, Subscription>,
    pub choices: Choices,
    /// Who may subscribe to this participant's tracks; none: everybody.
    pub subscription_rule: Option<SubscriptionRule>,
    /// Tracks that a permission keeps from this participant, which has been told so.
    pub forbidden: BTreeSet<TrackId>,
    /// The last reliable data packet that came from this participant.
    pub data_sequence: u32,
    pub resume_trouble: ResumeTrouble,
}

impl Session {
    /// The seat that it has for a homeserver.
    pub fn seat(&self, call: &str) -> Option<Seat> {
        let member = self.claims.matrix.clone()?;
        Some(Seat { member, call: call.to_owned(), identity: self.identity.clone() })
    }

    pub fn info(&self) -> ParticipantInfo {
        let live = || self.publications.values().filter(|publication| publication.live.is_some());
        ParticipantInfo {
            sid: self.sid.clone(),
            identity: self.identity.clone(),
            state: self.state as i32,
            tracks: live().map(|publication| publication.info.clone()).collect(),
            metadata: self.metadata.clone(),
            joined_at: self.joined.as_secs() as i64,
            joined_at_ms: self.joined.as_millis() as i64,
            name: self.name.clone(),
            version: self.version,
            permission: Some(self.permission.clone()),
            is_publisher: self.is_publisher(),
            kind: self.kind as i32,
            attributes: self.attributes.clone().into_iter().collect(),
            client_protocol: self.client.protocol,
            capabilities: self.client.capabilities.clone(),
            ..Default::default()
        }
    }

    pub fn is_publisher(&self) -> bool {
        self.publications.values().any(|publication| publication.live.is_some())
    }

    pub fn publication_by_sid(&self, sid: &str) -> Option<&Publication> {
        self.publications.values().find(|publication| publication.info.sid == sid)
    }

    pub fn may_publish(&self, source: TrackSource) -> bool {
        let sources = &self.permission.can_publish_sources;
        self.permission.can_publish && (sources.is_empty() || sources.contains(&(source as i32)))
    }

    /// Whether this participant lets `subscriber` have the track.
    pub fn lets_subscribe(&self, subscriber: &Session, track_sid: &str) -> bool {
        self.subscription_rule
            .as_ref()
            .is_none_or(|rule| rule.permits(&subscriber.identity, &subscriber.sid, track_sid))
    }

    pub fn wants(&self, track_sid: &str) -> bool {
        self.choices.get(track_sid).and_then(|choice| choice.subscribe).unwrap_or(self.client.auto_subscribe)
    }
}

pub fn kind(name: &str) -> ParticipantKind {
    ParticipantKind::from_str_name(&name.to_ascii_uppercase()).unwrap_or(ParticipantKind::Standard)
}
