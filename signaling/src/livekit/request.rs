//! A client message, decoded outside the lock that all rooms share.

use livekit_protocol::{SignalRequest, signal_request::Message as ClientMessage};
use prost::Message;

use super::sdp::{Offer, OfferError};

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Lives for one call.
pub enum Request {
    Offer {
        id: u32,
        offer: Result<Offer, OfferError>,
    },
    Other(ClientMessage),
    /// A message of a newer protocol.
    Unknown,
}

impl Request {
    /// `None` if the octets are no message at all.
    pub fn decode(bytes: &[u8]) -> Option<Request> {
        Some(Request::from(SignalRequest::decode(bytes).ok()?))
    }

    /// The JSON form (proto3 JSON mapping) of a text frame.
    pub fn decode_json(text: &str) -> Option<Request> {
        Some(Request::from(serde_json::from_str::<SignalRequest>(text).ok()?))
    }
}

impl From<SignalRequest> for Request {
    fn from(request: SignalRequest) -> Request {
        match request.message {
            Some(ClientMessage::Offer(description)) => Request::Offer {
                id: description.id,
                offer: if description.r#type == "offer" {
                    Offer::parse(description.sdp.as_bytes())
                } else {
                    Err(OfferError::Malformed)
                },
            },
            Some(message) => Request::Other(message),
            None => Request::Unknown,
        }
    }
}
