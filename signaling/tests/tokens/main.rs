//! Tokens for the users of a homeserver, on real sockets.

mod entering;
mod granting;
mod inquiring;
mod proxying;
mod refusing;
mod server;
mod stand_in;
