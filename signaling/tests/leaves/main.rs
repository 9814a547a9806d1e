//! Delegated delayed leaves beside a homeserver that is a value: no socket, no thread, no sleep.

mod homeserver;
mod leaving;
mod restarting;
mod trouble;
