//! The addresses of this host, looked up again while it runs: an interface may come up late, a provider change a prefix.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use datapath::sockets::interface_addresses;
use tracing::warn;

use crate::worker::{Instruction, Operator};

const INTERVAL: Duration = Duration::from_secs(60);

/// Tells the relays of them. Never ends.
pub async fn tell(relays: Vec<Operator>) {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        match interface_addresses() {
            Ok(interfaces) => {
                let addresses: Arc<[IpAddr]> = interfaces.iter().map(|interface| interface.ip).collect();
                relays.iter().for_each(|relay| relay.instruct(Instruction::Own(addresses.clone())));
            }
            Err(error) => warn!(%error, "cannot list the network interfaces: new addresses of this host stay unknown"),
        }
    }
}
