//! A virtual world for the packet plane, and a real-time emulator of poor links for real clients.
//!
//! - [`link`] is the one model of a link: loss, a serialiser with a drop-tail queue, a delay. [`schedule`] reads what it
//!   does when from a file. [`emulator`] runs it in real time (`netsim link`), [`world`] in virtual time.
//! - [`world::World`] runs [`datapath::Node`]s on hosts, behind [`nat`]s where wanted. One seed is one run, down to the
//!   last octet: [`world::World::digest`].
//! - [`meeting::Meeting`] is a world with the real server in it, and the control plane that signalling would be. Its
//!   [`caller`]s publish payloads that tell whose they are, and decode what they are given.
//! - [`publisher_rate`] and [`opus_fec`] let a publisher follow its uplink as a browser does.
//! - [`tcp`] puts downloads beside a call.
//! - [`net_eq`] says what a listener hears of it; [`suite`] runs the named scenarios of poor links and scores them.
//! - [`check`] holds the invariants of the wire, which every meeting is judged by; [`swarm`] makes random meetings.

pub mod caller;
pub mod check;
pub mod dependency_descriptor;
pub mod emulator;
pub mod ice_agent;
pub mod kernel;
pub mod link;
pub mod loss;
pub mod meeting;
pub mod nat;
pub mod net_eq;
pub mod opus_fec;
pub mod picture;
pub mod publisher_rate;
pub mod received_stream;
pub mod remb_estimator;
pub mod schedule;
pub mod sent_stream;
pub mod suite;
pub mod swarm;
pub mod tcp;
#[cfg(test)]
mod test_clock;
pub mod turn_client;
pub mod workers;
pub mod world;
