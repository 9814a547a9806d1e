//! The UDP path that the relay and the selective forwarding unit share.
//!
//! Datagrams and time go into a [`Node`]; datagrams, socket orders and a deadline come out of it. Two drivers
//! exist: real sockets ([`sockets`]) and netsim's virtual world. A node holds no socket, no clock and no source of
//! randomness, so what it does depends on its input and its seed alone.

pub mod counters;
pub mod datagram;
pub mod driver;
pub mod entropy;
mod envelope;
pub mod mux;
pub mod neighbours;
pub mod node;
pub mod outbox;
mod owners;
mod prefetch;
pub mod queue;
mod ring;
pub mod shared_counters;
pub mod sockets;
pub mod steering;
pub mod stream;
pub mod stun;
pub mod trains;

pub use counters::{Counters, Discard, Quota, Traffic};
pub use datagram::{Datagram, Endpoint};
pub use entropy::Entropy;
pub use node::{Carried, Deadline, Node, Now, PeerChange, SocketEvent};
pub use outbox::{Entry, Order, Outbox};
pub use prefetch::prefetch;
