//! What an operator does while the program runs: by signal, and over the control socket.

mod client;
mod control_socket;
mod drain;
mod reload;
mod server;
mod sessions;
