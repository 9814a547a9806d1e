//! The Matrix side of the house as values: what homeserver and clients say goes in, what is to be done comes out.

pub mod delayed_leave;
mod delegation;
mod member;
mod seat;

pub use delayed_leave::DelayedLeaves;
pub use delegation::{Delegation, DelegationError};
pub use member::Member;
pub use seat::{Presence, Seat};
