//! Tokens for the users of a homeserver, on real sockets.

#[path = "../common/mod.rs"]
mod common;
mod entering;
mod granting;
mod inquiring;
mod proxying;
mod refusing;
mod server;
mod stand_in;
