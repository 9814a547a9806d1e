//! The Matrix side of the house as values: what homeserver and clients say goes in, what is to be done comes out.
//! Matrix' words do not leave this module; sockets are in `http` and `outbound`.
//!
//! [`Service`] is what outlives a request. `Control` holds it under the same lock as the rooms, runs its timer, carries
//! its [`Ask`]s to the homeserver and brings the [`Answer`]s.

mod access_token;
mod allowance;
mod appservice;
mod ask;
mod bearer;
pub mod delayed_leave;
mod delegation;
pub mod federation;
pub(crate) mod fuzz;
mod ghosts;
pub mod identity;
pub mod inquiry;
mod introduction;
mod member;
mod membership;
mod openid;
mod pins;
mod policy;
pub mod proxied;
mod refusal;
mod room_names;
mod seat;
mod seen_members;
mod server_name;
mod service;
mod settings;
pub mod token_request;
mod tokens;
pub mod transaction;

pub use appservice::{Appservice, Census, Limits};
pub use ask::{Answer, Ask, AskId, Method, segment};
pub use bearer::is_bearer;
pub use delayed_leave::DelayedLeaves;
pub use delegation::{Delegation, DelegationError};
pub use inquiry::Admission;
pub use member::Member;
pub use policy::{MembershipUnknown, Patterns, Policy};
pub use refusal::Refusal;
pub use seat::{Presence, Seat};
pub use server_name::{ServerName, is_device_id, is_room_id, server_of};
pub use service::{Output, Service};
pub use settings::{ISSUER, Settings};
pub use tokens::TokenCensus;
