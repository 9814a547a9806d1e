//! What making an allocation costs a TURN server, and what it then keeps.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::Result;
use serde::Serialize;

use crate::process;
use crate::socket;
use crate::turn::{self, Allocation, Credentials};

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The TURN server
    #[arg(long, default_value = "127.0.0.1:3478")]
    pub server: SocketAddrV4,
    #[arg(long)]
    pub user: String,
    #[arg(long)]
    pub password: String,
    /// Allocations, each of a client's port of its own
    #[arg(long, default_value_t = 10_000)]
    pub count: usize,
    /// The server's process
    #[arg(long)]
    pub pid: u32,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub allocations: usize,
    pub server_cpu_ns: u64,
    pub resident_bytes: u64,
    pub resident_bytes_before: u64,
}

/// Requests under way at once.
const AT_ONCE: usize = 50;

/// Makes the allocations and leaves them.
pub fn run(options: &Options) -> Result<Report> {
    let Options { user, password, .. } = options.clone();
    let credentials = Credentials { user, password };
    let server = SocketAddr::V4(options.server);
    // One before, so that what the first one brings once is not counted.
    let client = |number| socket::bind(turn::client_address(Ipv4Addr::LOCALHOST.into(), number));
    let mut sockets = vec![client(0)?];
    Allocation::new(&sockets[0], server, &credentials)?;
    for number in 1..=options.count {
        sockets.push(client(number)?);
    }
    let (resident_bytes_before, cpu_before) = (process::resident_bytes(options.pid)?, process::cpu_ns(options.pid)?);
    for sockets in sockets[1..].chunks(AT_ONCE) {
        Allocation::several(&sockets.iter().collect::<Vec<_>>(), server, &credentials)?;
    }
    Ok(Report {
        allocations: options.count,
        server_cpu_ns: process::cpu_ns(options.pid)? - cpu_before,
        resident_bytes: process::resident_bytes(options.pid)?,
        resident_bytes_before,
    })
}
