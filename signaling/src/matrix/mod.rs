//! The Matrix side of the house as values: what homeserver and clients say goes in, what is to be done comes out.

mod member;
mod seat;

pub use member::Member;
pub use seat::{Presence, Seat};
