//! What the control plane tells the SFU, and what it hears back. No LiveKit or Matrix words: those stay in signaling.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::statistics::LinkStatistics;
use crate::track::{SubscriptionSpec, TrackSpec};

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        /// Chosen by the control plane; unique for the life of the process, never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);
    };
}

id!(
    /// A room: nothing crosses from one to another.
    RoomId
);
id!(
    /// One joined participant with one transport.
    ParticipantId
);
id!(
    /// What one participant publishes in one media section.
    TrackId
);

/// RFC 8839 §5.4: 4-256 characters of ufrag, 22-256 of password.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    pub ufrag: String,
    pub pwd: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IceCredentials({}, …)", self.ufrag)
    }
}

/// SHA-256 of a DER certificate (RFC 8122 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// What an offer and its answer agreed on for the one ICE/DTLS transport of a participant. We are ICE-lite and
/// controlled, and the DTLS server (`setup:passive`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportSpec {
    pub local_ice: IceCredentials,
    pub remote_ice: IceCredentials,
    pub remote_fingerprint: Fingerprint,
}

/// The two ways in which data is delivered; the label of the data channel is the control plane's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    Reliable,
    Lossy,
}

/// What a subscriber wants of a video track. Audio looks at `paused` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerWish {
    /// Nothing is to be forwarded (no visible element shows it).
    pub paused: bool,
    /// Index into [`TrackSpec::encodings`], lowest quality first; higher than the track has means its highest.
    pub spatial_max: u8,
    /// Temporal layers above this are not needed (0-7).
    pub temporal_max: u8,
}

impl LayerWish {
    pub const EVERYTHING: LayerWish = LayerWish { paused: false, spatial_max: u8::MAX, temporal_max: 7 };
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A participant of `room`, still without a transport. The room begins with its first participant.
    Join {
        room: RoomId,
        participant: ParticipantId,
    },
    /// The first offer, or an ICE restart: the DTLS association, the keys and the SSRCs live on through a restart, and
    /// the old ufrag stays valid until a check with the new one verifies.
    SetTransport {
        participant: ParticipantId,
        transport: TransportSpec,
    },
    /// Ends everything that the participant has. The room ends with its last participant.
    Leave {
        participant: ParticipantId,
    },
    Publish {
        participant: ParticipantId,
        track: TrackId,
        spec: TrackSpec,
    },
    /// Ends the track and every subscription to it.
    Unpublish {
        track: TrackId,
    },
    /// Packets of a muted track are discarded. Unmuting a video track asks its publisher for a keyframe.
    SetMuted {
        track: TrackId,
        muted: bool,
    },
    Subscribe {
        participant: ParticipantId,
        track: TrackId,
        spec: SubscriptionSpec,
    },
    Unsubscribe {
        participant: ParticipantId,
        track: TrackId,
    },
    SetWish {
        participant: ParticipantId,
        track: TrackId,
        wish: LayerWish,
    },
    /// Sends one message on the participant's data channel with this label. While the channel is not open, a reliable
    /// message waits, within the limit, and a lossy one is dropped.
    SendData {
        participant: ParticipantId,
        label: &'static str,
        delivery: Delivery,
        payload: Bytes,
    },
    /// Caps what the participant is sent, in bit/s; `None` lifts the cap. For tests of poor links.
    LimitBandwidth {
        participant: ParticipantId,
        bitrate_bps: Option<u64>,
    },
}

impl Command {
    /// Whom a refusal of this command is told about.
    pub fn participant(&self) -> Option<ParticipantId> {
        match *self {
            Command::Join { participant, .. }
            | Command::SetTransport { participant, .. }
            | Command::Leave { participant }
            | Command::Publish { participant, .. }
            | Command::Subscribe { participant, .. }
            | Command::Unsubscribe { participant, .. }
            | Command::SetWish { participant, .. }
            | Command::SendData { participant, .. }
            | Command::LimitBandwidth { participant, .. } => Some(participant),
            Command::Unpublish { .. } | Command::SetMuted { .. } => None,
        }
    }
}

/// Why a participant's transport came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportEnd {
    /// No authenticated packet for [`crate::Limits::transport_timeout`].
    Silent,
    /// The DTLS handshake failed, or its certificate is not the one in the offer.
    HandshakeFailed,
    /// The peer closed DTLS.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speaker {
    pub participant: ParticipantId,
    /// 0 (silent) to 1, linear, smoothed and quantised to 1/8.
    pub level: f32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// ICE and DTLS are done: media can flow both ways.
    Connected { participant: ParticipantId, remote: SocketAddr },
    /// The transport is silent; it comes back by itself (`Connected` again) when packets do.
    Disconnected { participant: ParticipantId, end: TransportEnd },
    /// The speakers of a room whose level changed; a level of 0 means that they stopped.
    Speakers { room: RoomId, speakers: Vec<Speaker> },
    /// The highest encoding of a video track that any subscriber wants now; `None` when nobody wants any.
    EncodingsWanted { track: TrackId, highest: Option<u8> },
    /// A video subscription was paused (or resumed) by us because it does not fit.
    SubscriptionPaused { participant: ParticipantId, track: TrackId, paused: bool },
    /// A message on a data channel of the participant.
    Data { participant: ParticipantId, label: String, payload: Bytes },
    /// How links do: once a second for everybody whose transport has been up. Those of one turn come together.
    Measured { links: Vec<(ParticipantId, Box<LinkStatistics>)> },
    /// The SFU's answer about what it cannot do; the control plane ends the session so that the client comes back.
    Refused { participant: ParticipantId, reason: Refusal },
}

impl Event {
    /// How this participant's link does, if the event says so.
    pub fn link_of(&self, participant: ParticipantId) -> Option<&LinkStatistics> {
        let Event::Measured { links } = self else { return None };
        links.iter().find(|(id, _)| *id == participant).map(|(_, link)| &**link)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A limit of [`crate::Limits`] is reached.
    LimitReached,
    UnknownParticipant,
    /// A ufrag or SSRC that is already in use.
    Conflict,
}
