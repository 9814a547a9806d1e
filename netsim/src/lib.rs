//! A virtual world for the packet plane, and a real-time emulator of poor links for real clients.

pub mod emulator;
pub mod kernel;
pub mod link;
pub mod loss;
pub mod nat;
pub mod schedule;
pub mod world;
