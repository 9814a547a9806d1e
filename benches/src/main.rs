//! What we claim about speed, as ratios against a floor or a peer in the same run; and the load generator, which speaks
//! LiveKit's protocol and so drives any server that does.

mod client;
mod loadgen;
mod process;
mod receiver;
mod rtcp;
mod sdp;
mod session;
mod socket;
mod source;
mod srtp;
#[allow(dead_code)] // its TURN requests are for the relay bench
mod stun;
mod token;
mod vp8;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
#[command(about = "Load generator and benches", version)]
enum Command {
    /// Join a LiveKit-compatible server, publish and subscribe; prints one line of JSON
    Loadgen(loadgen::Options),
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Loadgen(options) => {
            let report = loadgen::run(&options)?;
            println!("{}", serde_json::to_string(&report)?);
        }
    }
    Ok(())
}
