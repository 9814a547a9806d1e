//! What we ask others over HTTP: the configured homeserver, and other users' servers who they are.

mod authorities;
mod fetch;
pub mod homeserver;
pub mod servers;

pub use authorities::Authorities;
