//! TCP as a stream's sender and receiver of today have it, in virtual time: CUBIC (RFC 9438) with HyStart, SACK
//! (RFC 2018), loss detection by RACK-TLP (RFC 8985), the retransmission timer of RFC 6298 and delayed acknowledgements.
//!
//! - [`Connection`] is one end: octets in, [`segment`]s out and back. [`sender`] and [`receiver`] are its halves; [`cubic`]
//!   and [`hystart`] say how much may be under way.
//! - [`download`] puts transfers beside a call.
//!
//! Deviations: there is no handshake of its own (each side's first octet stands for its SYN, which costs the same round trip
//! and is repeated by the same timer), the window of the receiver never closes, and after a timeout nothing is undone.

pub mod connection;
pub mod cubic;
pub mod download;
pub mod hystart;
pub mod receiver;
pub mod segment;
pub mod sender;

pub use connection::Connection;
