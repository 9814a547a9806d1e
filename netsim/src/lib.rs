//! A virtual world for the packet plane, and a real-time emulator of poor links for real clients.

pub mod caller;
pub mod check;
pub mod emulator;
pub mod ice_agent;
pub mod kernel;
pub mod link;
pub mod loss;
pub mod meeting;
pub mod nat;
pub mod picture;
pub mod received_stream;
pub mod schedule;
pub mod sent_stream;
pub mod swarm;
pub mod turn_client;
pub mod world;
