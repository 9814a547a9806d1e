//! One participant's transport: ICE-lite, DTLS, SRTP and SCTP on one five-tuple.

pub mod replay;
pub mod srtp;

pub use srtp::{MasterKeys, Profile, SrtpError, SrtpReceiver, SrtpSender};
