//! The Matrix side of the house as values: what homeserver and clients say goes in, what is to be done comes out.

mod member;

pub use member::Member;
