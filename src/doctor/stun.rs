//! STUN over UDP (RFC 8489), with another implementation than the server's: one mistake is not on both sides.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use stun_rs::attributes::stun::XorMappedAddress;
use stun_rs::methods::BINDING;
use stun_rs::{
    DecoderContextBuilder, HMACKey, MessageClass, MessageDecoderBuilder, MessageEncoderBuilder, StunMessage,
    StunMessageBuilder,
};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// When a request is repeated. A single loss, or two, is no finding.
const TRIES: [Duration; 4] =
    [Duration::from_millis(300), Duration::from_millis(600), Duration::from_millis(900), Duration::from_millis(1200)];

/// What came of asking one address over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// With our own address as the server saw it.
    Answered(SocketAddr),
    Silent,
    /// The host says that nothing listens there.
    Refused,
    NoRoute,
}

/// A socket for IPv4 and, where this machine has it, IPv6.
pub async fn bind() -> io::Result<UdpSocket> {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await {
        Ok(socket) => Ok(socket),
        Err(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await,
    }
}

/// `address` as `socket` has to name it.
pub fn mapped(socket: &UdpSocket, address: SocketAddr) -> SocketAddr {
    match (socket.local_addr(), address) {
        (Ok(SocketAddr::V6(_)), SocketAddr::V4(four)) => {
            SocketAddr::new(four.ip().to_ipv6_mapped().into(), four.port())
        }
        _ => address,
    }
}

pub fn encode(message: &StunMessage) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 2048];
    let length = MessageEncoderBuilder::default().build().encode(&mut buffer, message).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

/// The message; with a key only if its integrity verifies.
pub fn decode(datagram: &[u8], key: Option<&HMACKey>) -> Option<StunMessage> {
    let context = match key {
        Some(key) => DecoderContextBuilder::default().with_key(key.clone()).with_validation(),
        None => DecoderContextBuilder::default(),
    };
    let decoder = MessageDecoderBuilder::default().with_context(context.build()).build();
    decoder.decode(datagram).ok().map(|(message, _)| message)
}

/// A connected socket: the kernel then tells what comes back by ICMP.
pub async fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// Sends `request` until an answer with its transaction id comes. `Err(None)`: silence.
pub async fn transact(socket: &UdpSocket, request: &StunMessage) -> Result<Vec<u8>, Option<io::Error>> {
    let Some(octets) = encode(request) else {
        return Err(None);
    };
    let mut buffer = vec![0; 2048];
    for wait in TRIES {
        socket.send(&octets).await.map_err(Some)?;
        let answered = timeout(wait, async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                // The transaction id (RFC 8489 §5).
                if buffer[..length].get(8..20) == octets.get(8..20) {
                    return Ok(length);
                }
            }
        });
        match answered.await {
            Ok(Ok(length)) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Ok(Err(error)) => return Err(Some(error)),
            Err(_) => {}
        }
    }
    Err(None)
}

/// A Binding request.
pub async fn probe(server: SocketAddr) -> Probe {
    let Ok(socket) = connect(server).await else {
        return Probe::NoRoute;
    };
    let request = StunMessageBuilder::new(BINDING, MessageClass::Request).build();
    match transact(&socket, &request).await {
        Ok(answer) => {
            let mapped = decode(&answer, None)
                .and_then(|message| message.get::<XorMappedAddress>()?.as_xor_mapped_address().ok().cloned())
                .map(|address| *address.socket_address());
            mapped.map_or(Probe::Silent, Probe::Answered)
        }
        Err(Some(error)) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Probe::Refused,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Probe::NoRoute,
            _ => Probe::Silent,
        },
        Err(None) => Probe::Silent,
    }
}
