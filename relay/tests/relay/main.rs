//! The relay as a value: datagrams, events and time in, datagrams and orders out.

mod allocate;
mod attack;
mod channel;
mod client;
mod drain;
mod dual;
mod far_expiry;
mod memory;
mod mobility;
mod model;
mod permission;
mod pitfalls;
mod probe;
mod quota;
mod reload;
mod security;
mod tcp;
mod tcp_bounds;
mod usage;
mod workers;
mod world;
