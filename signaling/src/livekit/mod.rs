//! The LiveKit protocol as a state machine: [`Rooms`] takes client messages, SFU events and time, and gives client
//! messages and SFU commands. LiveKit's words do not leave this module.

mod choices;
mod data;
mod departures;
mod dynacast;
pub(crate) mod fuzz;
mod identifier;
pub mod join_request;
mod joining;
mod measuring;
mod negotiation;
mod offering;
mod output;
mod permission;
mod publication;
mod publishing;
mod quality;
mod request;
mod requests;
mod room;
mod room_service;
mod rooms;
pub mod sdp;
mod session;
mod settings;
mod subscribing;
mod subscription;
mod subscription_rule;
mod survey;
mod timers;
pub mod token;
mod transport;
mod turn_grants;

pub use joining::Join;
pub use measuring::LinkEntry;
pub use output::{ConnectionId, Output};
pub use request::Request;
pub use room_service::ServiceError;
pub use rooms::{JoinRefusal, Opening, Rooms};
pub use settings::Settings;
pub use survey::{LinkView, ParticipantView, RoomView, Survey, TrackView, VideoView};

/// A name for this server, new with every start.
pub fn node_id(entropy: &mut datapath::Entropy) -> String {
    identifier::sid(entropy, "ND_")
}
