//! A TURN client over UDP, as much as the relay bench needs (RFC 8656). Blocking: it runs before the measurement.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use md5::{Digest as _, Md5};

use crate::stun::{self, Class, Message, Writer};

/// Clients that share a network.
const CLIENTS_OF_A_NETWORK: usize = 200;

/// Where the client of that number is, the first one being at `first`. A server answers only so many strangers of a network
/// in a second, and many clients are of many networks: on the loopback device they have a /24 for every few.
pub fn client_address(first: IpAddr, number: usize) -> SocketAddr {
    let ip = match first {
        IpAddr::V4(first) if first.is_loopback() => {
            let network = (number / CLIENTS_OF_A_NETWORK) as u32;
            IpAddr::V4(Ipv4Addr::from_bits(first.to_bits().wrapping_add(network << 8)))
        }
        _ => first,
    };
    SocketAddr::new(ip, 0)
}

pub struct Credentials {
    pub user: String,
    pub password: String,
}

/// One allocation, made and authenticated.
pub struct Allocation<'a> {
    server: SocketAddr,
    credentials: &'a Credentials,
    realm: String,
    nonce: Vec<u8>,
    pub relayed: SocketAddr,
}

impl<'a> Allocation<'a> {
    pub fn new(socket: &UdpSocket, server: SocketAddr, credentials: &'a Credentials) -> Result<Allocation<'a>> {
        let mut made = Allocation::several(&[socket], server, credentials)?;
        made.pop().context("one was asked for")
    }

    /// One for each socket, all requested at once.
    pub fn several(
        sockets: &[&UdpSocket],
        server: SocketAddr,
        credentials: &'a Credentials,
    ) -> Result<Vec<Allocation<'a>>> {
        let request = || Writer::new(Class::Request, stun::ALLOCATE, stun::transaction_id()).requested_transport_udp();
        // RFC 8656 §7.1: the first one learns realm and nonce.
        let first = sockets.iter().map(|socket| (*socket, request().unauthenticated())).collect::<Vec<_>>();
        let mut allocations = Vec::new();
        for refusal in transact(&first, server)? {
            ensure!(refusal.error == Some(401), "an Allocate without credentials got {refusal:?}");
            allocations.push(Allocation {
                server,
                credentials,
                realm: refusal.realm.context("a 401 without REALM")?,
                nonce: refusal.nonce.context("a 401 without NONCE")?,
                relayed: server,
            });
        }
        let second = sockets.iter().zip(&allocations);
        let second = second.map(|(socket, allocation)| (*socket, allocation.signed(request()))).collect::<Vec<_>>();
        for (allocation, response) in allocations.iter_mut().zip(transact(&second, server)?) {
            ensure!(response.class == Class::Success, "the TURN server refused: {response:?}");
            allocation.relayed = response.relayed.context("no IPv4 XOR-RELAYED-ADDRESS")?;
        }
        Ok(allocations)
    }

    pub fn bind_channel(&self, socket: &UdpSocket, number: u16, peer: SocketAddr) -> Result<()> {
        let writer = Writer::new(Class::Request, stun::CHANNEL_BIND, stun::transaction_id());
        self.request(socket, writer.channel(number).peer(peer)).map(|_| ())
    }

    /// RFC 8656 §3.2: a Refresh with a lifetime of 0 ends it, so that the next run may have the same port.
    pub fn release(&self, socket: &UdpSocket) {
        let writer = Writer::new(Class::Request, stun::REFRESH, stun::transaction_id());
        // Its answer may be lost behind relayed traffic; then the repeated request meets no allocation any more.
        let _ = self.request(socket, writer.lifetime(0));
    }

    fn signed(&self, writer: Writer) -> Vec<u8> {
        let Credentials { user, password } = self.credentials;
        let key = Md5::digest(format!("{user}:{}:{password}", self.realm));
        writer.authenticated(user, &self.realm, &self.nonce, &key)
    }

    fn request(&self, socket: &UdpSocket, writer: Writer) -> Result<Message> {
        let response = transact(&[(socket, self.signed(writer))], self.server)?;
        let response = response.into_iter().next().context("one was asked for")?;
        ensure!(response.class == Class::Success, "the TURN server refused: {response:?}");
        Ok(response)
    }
}

/// Sends the requests, and each again until its response comes.
fn transact(requests: &[(&UdpSocket, Vec<u8>)], server: SocketAddr) -> Result<Vec<Message>> {
    for (socket, request) in requests {
        socket.send_to(request, server)?;
    }
    requests.iter().map(|(socket, request)| response(socket, request, server)).collect()
}

fn response(socket: &UdpSocket, request: &[u8], server: SocketAddr) -> Result<Message> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut buffer = vec![0; 65_536];
    let mut response = None;
    'tries: for _ in 0..10 {
        // What relayed traffic is still on its way comes before the response.
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            response = Message::parse(&buffer[..length]).filter(|message| message.transaction == request[8..20]);
            if response.is_some() {
                break 'tries;
            }
        }
        socket.send_to(request, server)?;
    }
    socket.set_nonblocking(true)?;
    response.with_context(|| format!("no answer from the TURN server at {server}"))
}
