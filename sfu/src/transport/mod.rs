//! One participant's transport: ICE-lite, DTLS, SRTP and SCTP on one five-tuple.

mod aead;
mod allowance;
pub mod data_channels;
pub mod dtls;
pub mod ice;
pub mod replay;
mod sources;
pub mod srtp;

pub use data_channels::{DataChannels, MESSAGE_MAX, Sent};
pub use dtls::{Certificate, DtlsEvent, DtlsOutput, DtlsSession};
pub use ice::{Check, FiveTuple, IceLite};
pub use srtp::{MasterKeys, Profile, SrtpError, SrtpReceiver, SrtpSender};
