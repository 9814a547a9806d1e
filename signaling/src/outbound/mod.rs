//! What we ask others over HTTP: the configured homeserver, other users' servers who they are, and an ACME server
//! for certificates.

mod authorities;
mod fetch;
pub mod homeserver;
pub mod servers;

pub use authorities::Authorities;
pub use fetch::{FetchError, Target, fetch};
