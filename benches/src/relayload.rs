//! Relaying ChannelData through a TURN server, or through the floor.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::forwarder::{self, FIRST_CHANNEL, FIRST_RELAY_PORT};
use crate::packetload::{Load, Measurement, Report, Rhythm};
use crate::source::Pacing;
use crate::turn::{self, Allocation, Credentials};

/// RFC 8656 §12.4: channel number and length.
const CHANNEL_HEADER: usize = 4;

/// Sockets of peers; with more allocations than that, several have the same peer.
const PEERS_MAX: usize = 50;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The TURN server, or the floor
    #[arg(long, default_value = "127.0.0.1:3478")]
    pub server: SocketAddrV4,
    /// Long-term credentials; without them the server is `benches forwarder`
    #[arg(long, requires = "password")]
    pub user: Option<String>,
    #[arg(long)]
    pub password: Option<String>,
    #[arg(long, default_value_t = 50)]
    pub allocations: usize,
    /// Octets of application data in a packet
    #[arg(long, default_value_t = 1200)]
    pub size: usize,
    /// Of all allocations and both directions together
    #[arg(long, default_value_t = 21_000)]
    pub packets_per_second: u64,
    /// Packets that are sent at once, as one GSO train
    #[arg(long, default_value_t = 1)]
    pub train: usize,
    /// Every client's peer is the relayed address of another client
    #[arg(long)]
    pub between_clients: bool,
    /// Measure how long packets are under way, and never sleep
    #[arg(long)]
    pub latency: bool,
    /// Address of the clients; on the loopback device, of the first ones
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// Address of the peers
    #[arg(long, default_value = "127.0.0.1")]
    pub peer: IpAddr,
    #[command(flatten)]
    pub measurement: Measurement,
}

impl Options {
    fn rhythm(&self, flows: usize) -> Rhythm {
        let seconds = (self.train * flows) as f64 / self.packets_per_second as f64;
        let pacing = if self.train > 1 { Pacing::Train } else { Pacing::Spread };
        Rhythm { interval: Duration::from_secs_f64(seconds), packets: self.train, pacing }
    }

    fn channel_data(&self, number: u16) -> Vec<u8> {
        let mut packet = number.to_be_bytes().to_vec();
        packet.extend_from_slice(&(self.size as u16).to_be_bytes());
        packet.resize(CHANNEL_HEADER + self.size, 0x5A);
        packet
    }
}

/// One client of the server.
struct Client<'a> {
    socket: usize,
    /// `None` at the floor.
    allocation: Option<Allocation<'a>>,
    number: u16,
    relayed: SocketAddrV4,
}

pub fn run(options: &Options) -> Result<Report> {
    ensure!(options.train > 0 && options.packets_per_second > 0 && options.allocations > 0, "nothing would be sent");
    ensure!(options.size >= 8, "a packet has room for its time: at least 8 octets");
    let credentials = options.user.clone().zip(options.password.clone());
    let credentials = credentials.map(|(user, password)| Credentials { user, password });
    let mut load = Load::new()?;
    let clients = (0..options.allocations)
        .map(|index| allocate(&mut load, options, credentials.as_ref(), index))
        .collect::<Result<Vec<_>>>()?;
    if options.between_clients {
        ensure!(options.allocations.is_multiple_of(2), "clients are paired: an even number of allocations");
        let rhythm = options.rhythm(clients.len());
        for (index, client) in clients.iter().enumerate() {
            bind(&mut load, options, client, index, clients[index ^ 1].relayed)?;
            load.flow(client.socket, options.server, options.channel_data(client.number), rhythm);
        }
    } else {
        let rhythm = options.rhythm(2 * clients.len());
        let peers = (0..clients.len().min(PEERS_MAX))
            .map(|_| load.open(SocketAddr::new(options.peer, 0)))
            .collect::<Result<Vec<_>>>()?;
        for (index, client) in clients.iter().enumerate() {
            let peer = peers[index % peers.len()];
            let address = v4(load.sockets[peer].local_addr()?)?;
            bind(&mut load, options, client, index, address)?;
            load.flow(client.socket, options.server, options.channel_data(client.number), rhythm);
            load.flow(peer, client.relayed, vec![0x5A; options.size], rhythm);
        }
    }
    if options.latency {
        // Clients send and receive ChannelData; peers do not.
        let header = |socket: usize| if socket < clients.len() { CHANNEL_HEADER } else { 0 };
        load.stamp(header, header);
    }
    let report = load.measure(&options.measurement);
    for client in &clients {
        if let Some(allocation) = &client.allocation {
            allocation.release(&load.sockets[client.socket]);
        }
    }
    report
}

fn allocate<'a>(
    load: &mut Load,
    options: &Options,
    credentials: Option<&'a Credentials>,
    index: usize,
) -> Result<Client<'a>> {
    let socket = load.open(turn::client_address(options.bind, index))?;
    let Some(credentials) = credentials else {
        if index == 0 {
            load.command(socket, options.server, &[forwarder::RESET])?;
        }
        // The floor numbers its channels and ports in their order.
        let index = index as u16;
        let relayed = SocketAddrV4::new(*options.server.ip(), FIRST_RELAY_PORT + index);
        return Ok(Client { socket, allocation: None, number: FIRST_CHANNEL + index, relayed });
    };
    let allocation = Allocation::new(&load.sockets[socket], SocketAddr::V4(options.server), credentials)?;
    let relayed = v4(allocation.relayed)?;
    Ok(Client { socket, allocation: Some(allocation), number: FIRST_CHANNEL, relayed })
}

fn bind(load: &mut Load, options: &Options, client: &Client<'_>, index: usize, peer: SocketAddrV4) -> Result<()> {
    if let Some(allocation) = &client.allocation {
        return allocation.bind_channel(&load.sockets[client.socket], client.number, peer.into());
    }
    let mut command = vec![forwarder::BIND];
    command.extend_from_slice(&(index as u16).to_be_bytes());
    command.extend_from_slice(&peer.ip().octets());
    command.extend_from_slice(&peer.port().to_be_bytes());
    load.command(client.socket, options.server, &command)
}

fn v4(address: SocketAddr) -> Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => bail!("{address} is not IPv4"),
    }
}
