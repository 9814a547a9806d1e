//! The selective forwarding unit (RFC 7667 §3.7): transports, rooms, tracks, forwarding, layer choice and repair.
//!
//! [`Sfu`] is a [`datapath::Node`]. The control plane speaks to it in [`Command`]s and hears [`Event`]s.
//!
//! # Deviations
//! - RFC 8445 §2.5: an ICE-lite agent, so it sends no checks and no consent requests (RFC 7675). A transport counts as
//!   alive while authenticated packets come, which the peer's own consent checks see to.
//! - RFC 3550 §6.1 and RFC 5506: reports go out alone every second, without an SDES CNAME; receivers line streams up by
//!   the stream id in the answer.
//! - RFC 3711 §3.3.2: the replay window is 1024 packets; RFC 7714 §9.3: SRTCP that is not encrypted is refused.
//! - RFC 4585 §6.2.1: where a subscriber negotiated no retransmission stream, a packet is repeated only when its header
//!   cannot differ from the first time, since AES-GCM must not see a nonce twice (RFC 7714 §8.2).
//! - RFC 3550 §5.1: numbers go up by one for each packet that is sent; those of what has waited for a second for a
//!   subscriber's link, or is of an encoding that was left meanwhile, stay empty.
//! - RTP Payload Format For AV1, A.4: dependency descriptors are read (for the temporal layers of H.264) and never sent: see
//!   [`stream_header::StreamHeader`].
//! - RFC 8832 §6: data channels are opened by the peer; none is opened towards it.
//! - RFC 4585 §6.2.1, draft-holmer-rmcat-transport-wide-cc-extensions-01: of one datagram of reports 1,024 missing packets and
//!   8,192 arrivals are read, and no more is sent again than was sent.

mod backlog;
pub mod command;
pub mod congestion;
mod control;
mod deadlines;
pub mod dependency_descriptor;
mod fan_out;
mod feedback;
pub mod forwarder;
#[doc(hidden)]
pub mod fuzz;
pub mod h264;
pub mod history;
pub mod keyframe;
mod last_word;
pub mod layers;
mod lost_addresses;
pub mod loudest;
mod media;
pub mod media_packet;
pub mod nack;
mod new_ssrc;
mod pacing;
mod participant;
mod published_track;
mod reach;
mod regular;
mod replaced_ssrcs;
mod reports;
mod room;
mod routes;
pub mod rtcp;
pub mod rtp;
mod rtp_stream;
mod selection;
pub mod sender_report;
mod sent_window;
pub mod sequence;
pub mod sequence_map;
mod sfu;
mod shared_links;
pub mod speaker;
mod statistics;
pub mod stream_header;
mod subscription;
#[cfg(test)]
mod test_clock;
pub mod track;
pub mod transport;
pub mod uplink;
pub mod vp8;

pub use command::{
    Command, Delivery, Event, Fingerprint, IceCredentials, LayerWish, ParticipantId, Refusal, RoomId, Speaker, TrackId,
    TransportEnd, TransportSpec,
};
pub use sfu::{LinkState, Population, Settings, Sfu};
pub use statistics::{LinkStatistics, Portion, ReceivedStatistics, RepairRequests, SentStatistics, Tally};
pub use track::{Codec, Encoding, ExtensionIds, Kind, SubscriptionSpec, TrackSpec};

use std::time::Duration;

/// Bounds on everything that grows with what strangers or participants send. Each has a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub participants: usize,
    pub participants_per_room: usize,
    pub tracks_per_participant: usize,
    pub subscriptions_per_participant: usize,
    /// Octets queued for one participant's data channels.
    pub data_buffer_bytes: usize,
    /// DTLS datagrams that may wait until the media of the turn is out.
    pub handshakes: usize,
    /// What all participants together are sent in calls, in bit/s; `None`: no limit.
    pub uplink_bps: Option<u64>,
    /// Without an authenticated packet for this long a transport is reported as disconnected.
    pub transport_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            participants: 10_000,
            participants_per_room: 1_000,
            tracks_per_participant: 32,
            subscriptions_per_participant: 2_000,
            data_buffer_bytes: 1 << 20,
            handshakes: 1_000,
            uplink_bps: None,
            transport_timeout: Duration::from_secs(10),
        }
    }
}
