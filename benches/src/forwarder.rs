//! The floor: what moving the same packets costs when nothing is decided about them. It runs in the server's own driver,
//! so that receiving, trains and sending are the same, and what a server adds is the difference.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use datapath::driver::{Driver, Settings};
use datapath::{Datagram, Deadline, Endpoint, Node, Now, Order, Outbox, SocketEvent};

use crate::srtp::{Srtp, TAG};

/// Forget everybody.
pub const RESET: u8 = b'R';
/// [`SUBSCRIBE`], room: the sender wants a copy of every RTP packet of this room, the last octet of its SSRC.
pub const SUBSCRIBE: u8 = b'S';
/// [`BIND`], index, peer's IPv4 address, peer's port: relay between the sender and the peer (big-endian).
pub const BIND: u8 = b'B';

/// RFC 8656 §12: the first channel number.
pub const FIRST_CHANNEL: u16 = 0x4000;
/// The relay socket of allocation 0; the others follow.
pub const FIRST_RELAY_PORT: u16 = 50_000;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[arg(long, default_value = "127.0.0.1:3478")]
    pub listen: SocketAddr,
}

/// Serves until the process is killed.
pub fn run(options: &Options) -> Result<()> {
    let mut driver = Driver::bind(&Settings::new(vec![options.listen]))?;
    let mut forwarder = Forwarder { ip: options.listen.ip(), rooms: Vec::new(), relayed: Vec::new() };
    loop {
        driver.turn(&mut forwarder, Duration::from_secs(1))?;
    }
}

struct Forwarder {
    ip: IpAddr,
    /// By room.
    rooms: Vec<Vec<Subscriber>>,
    relayed: Vec<Relayed>,
}

struct Subscriber {
    local: Endpoint,
    remote: SocketAddr,
    srtp: Srtp,
}

struct Relayed {
    local: Endpoint,
    client: SocketAddr,
    peer: SocketAddr,
    relay: SocketAddr,
}

impl Node for Forwarder {
    fn handle_batch(&mut self, _now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        for datagram in batch {
            if let Endpoint::Relay { address } = datagram.local {
                self.to_client(address, datagram, out);
                continue;
            }
            match datagram.payload.first() {
                Some(64..=127) if datagram.payload.len() > 12 => self.to_peer(datagram, out),
                Some(128..=191) => self.fan_out(datagram, out),
                Some(_) => self.control(datagram, out),
                None => {}
            }
        }
    }

    fn handle_event(&mut self, _now: Now, _event: SocketEvent, _out: &mut Outbox) {}

    fn handle_timeout(&mut self, _now: Now, _out: &mut Outbox) {}

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

impl Forwarder {
    fn fan_out(&self, datagram: &Datagram<'_>, out: &mut Outbox) {
        let packet = &*datagram.payload;
        let Some(length) = packet.len().checked_sub(TAG) else { return };
        let Some(room) = packet.get(11).and_then(|room| self.rooms.get(usize::from(*room))) else { return };
        for subscriber in room {
            out.write(subscriber.local, subscriber.remote, packet.len(), |buffer| {
                buffer[..length].copy_from_slice(&packet[..length]);
                subscriber.srtp.protect_rtp(buffer, length, 0)
            });
        }
    }

    fn to_peer(&self, datagram: &Datagram<'_>, out: &mut Outbox) {
        let number = u16::from_be_bytes([datagram.payload[0], datagram.payload[1]]);
        let length = usize::from(u16::from_be_bytes([datagram.payload[2], datagram.payload[3]]));
        let index = usize::from(number.wrapping_sub(FIRST_CHANNEL));
        if let Some(relayed) = self.relayed.get(index)
            && 4 + length <= datagram.payload.len()
        {
            let local = Endpoint::Relay { address: relayed.relay };
            out.forward(local, relayed.peer, &[], datagram, 4..4 + length);
        }
    }

    fn to_client(&self, relay: SocketAddr, datagram: &Datagram<'_>, out: &mut Outbox) {
        let index = relay.port() - FIRST_RELAY_PORT;
        if let Some(relayed) = self.relayed.get(usize::from(index)) {
            let [a, b] = (FIRST_CHANNEL + index).to_be_bytes();
            let [c, d] = (datagram.payload.len() as u16).to_be_bytes();
            out.forward(relayed.local, relayed.client, &[a, b, c, d], datagram, 0..datagram.payload.len());
        }
    }

    fn control(&mut self, datagram: &Datagram<'_>, out: &mut Outbox) {
        match *datagram.payload {
            [RESET] => {
                self.rooms.clear();
                for relayed in self.relayed.drain(..) {
                    out.order(Order::CloseRelay { relayed: relayed.relay });
                }
            }
            [SUBSCRIBE, room] => {
                let srtp = Srtp::new(&[7; 32], &[9; 12]).expect("lengths of AES-256-GCM");
                let (local, remote) = (datagram.local, datagram.remote);
                let room = usize::from(room);
                if room >= self.rooms.len() {
                    self.rooms.resize_with(room + 1, Vec::new);
                }
                // A command that was repeated counts once.
                if self.rooms[room].iter().all(|subscriber| subscriber.remote != remote) {
                    self.rooms[room].push(Subscriber { local, remote, srtp });
                }
            }
            [BIND, i0, i1, a, b, c, d, p0, p1] => {
                let index = u16::from_be_bytes([i0, i1]);
                let peer = SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p0, p1])));
                if usize::from(index) == self.relayed.len() {
                    let relay = SocketAddr::new(self.ip, FIRST_RELAY_PORT + index);
                    out.order(Order::OpenRelay { relayed: relay });
                    self.relayed.push(Relayed { local: datagram.local, client: datagram.remote, peer, relay });
                }
            }
            _ => return,
        }
        out.send(datagram.local, datagram.remote, datagram.payload);
    }
}
