//! What an operator does while the program runs (by signal, and over the control socket), and what its clients do meanwhile.

mod client;
mod control_socket;
mod drain;
mod reload;
mod revoke;
mod server;
mod sessions;
mod turn_crate;
