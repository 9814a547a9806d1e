//! What an operator does while the program runs (by signal, and over the control socket), and what its clients do meanwhile.

mod bandwidth;
mod client;
mod control_socket;
mod drain;
mod participant;
mod reload;
mod removal;
mod revoke;
mod server;
mod sessions;
mod signer;
mod tcp_client;
mod turn_crate;
