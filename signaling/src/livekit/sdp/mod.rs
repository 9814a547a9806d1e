//! Offers as clients send them and the answers we give (RFC 8829, RFC 8866).

pub mod answer;
pub mod codec;
pub mod extension;
pub mod offer;

pub use answer::{Answer, SectionAnswer, SendStream};
pub use codec::{Choice, CodecKey};
pub use offer::{Direction, Format, Offer, OfferError, Section, SectionKind, is_token};
