//! What we claim about speed, as ratios against a floor or a peer in the same run; and the load generator, which speaks
//! LiveKit's protocol and so drives any server that does.

mod allocations;
mod cases;
mod client;
mod clip;
mod data;
mod forwarder;
mod ivf;
mod loadgen;
mod ogg;
mod packetload;
mod process;
mod receiver;
mod recordings;
mod relayload;
mod rtcp;
mod sdp;
mod servers;
mod session;
mod socket;
mod source;
mod srtp;
mod stun;
mod suite;
mod token;
mod turn;
mod vp8;

use anyhow::{Context as _, Result};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Load generator and benches", version)]
enum Command {
    /// Join a LiveKit-compatible server, publish and subscribe; prints one line of JSON
    Loadgen(loadgen::Options),
    /// The floor: forward to subscribers or relay to peers and nothing else
    Forwarder(forwarder::Options),
    /// Load the floor with fan-out; prints one line of JSON
    Fanout(packetload::FanOutOptions),
    /// Load a TURN server, or the floor, with ChannelData both ways; prints one line of JSON
    Relay(relayload::Options),
    /// Make TURN allocations that nobody uses; prints one line of JSON
    Allocate(allocations::Options),
    /// Measure everything, in a network namespace of its own, and print the table
    All(suite::Options),
}

fn main() -> Result<()> {
    // Ten thousand clients, peers and relayed addresses have a socket each.
    datapath::sockets::raise_descriptor_limit().context("raising the limit of open descriptors")?;
    match Command::parse() {
        Command::Loadgen(options) => {
            let report = loadgen::run(&options)?;
            println!("{}", serde_json::to_string(&report)?);
        }
        Command::Forwarder(options) => forwarder::run(&options)?,
        Command::Fanout(options) => println!("{}", serde_json::to_string(&packetload::fan_out(&options)?)?),
        Command::Allocate(options) => println!("{}", serde_json::to_string(&allocations::run(&options)?)?),
        Command::All(options) => suite::run(&options)?,
        Command::Relay(options) => println!("{}", serde_json::to_string(&relayload::run(&options)?)?),
    }
    Ok(())
}
