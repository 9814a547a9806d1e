//! A TURN client over UDP, as much as the relay bench needs (RFC 8656). Blocking: it runs before the measurement.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use md5::{Digest as _, Md5};

use crate::stun::{self, Class, Message, Writer};

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
        let request = || Writer::new(Class::Request, stun::ALLOCATE, stun::transaction_id()).requested_transport_udp();
        // RFC 8656 §7.1: the first one learns realm and nonce.
        let refusal = transact(socket, server, &request().unauthenticated())?;
        ensure!(refusal.error == Some(401), "an Allocate without credentials got {refusal:?}");
        let mut allocation = Allocation {
            server,
            credentials,
            realm: refusal.realm.context("a 401 without REALM")?,
            nonce: refusal.nonce.context("a 401 without NONCE")?,
            relayed: server,
        };
        let response = allocation.request(socket, request())?;
        allocation.relayed = response.relayed.context("no IPv4 XOR-RELAYED-ADDRESS")?;
        Ok(allocation)
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

    fn request(&self, socket: &UdpSocket, writer: Writer) -> Result<Message> {
        let Credentials { user, password } = self.credentials;
        let key = Md5::digest(format!("{user}:{}:{password}", self.realm));
        let bytes = writer.authenticated(user, &self.realm, &self.nonce, &key);
        let response = transact(socket, self.server, &bytes)?;
        ensure!(response.class == Class::Success, "the TURN server refused: {response:?}");
        Ok(response)
    }
}

/// Sends a request until its response comes.
fn transact(socket: &UdpSocket, server: SocketAddr, request: &[u8]) -> Result<Message> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let mut buffer = vec![0; 65_536];
    let mut response = None;
    'tries: for _ in 0..10 {
        socket.send_to(request, server)?;
        // What relayed traffic is still on its way comes before the response.
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            response = Message::parse(&buffer[..length]).filter(|message| message.transaction == request[8..20]);
            if response.is_some() {
                break 'tries;
            }
        }
    }
    socket.set_nonblocking(true)?;
    match response {
        Some(response) => Ok(response),
        None => bail!("no answer from the TURN server at {server}"),
    }
}
