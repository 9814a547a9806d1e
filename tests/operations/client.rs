use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use datapath::stun::{Class, ErrorCode, Message, Method, Writer};

use crate::signer::Signer;

/// Makes the credentials.
pub const SECRET: &str = "a secret shared with the homeserver";

/// An answer comes long before this.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A TURN client with a REST credential.
pub struct Client {
    pub socket: UdpSocket,
    server: SocketAddr,
    signer: Signer,
    pub relayed: Option<SocketAddr>,
}

/// Why there is no allocation.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: u16,
    pub alternate_server: Option<SocketAddr>,
}

impl Client {
    pub fn new(server: SocketAddr, user: &str, secret: &str) -> Client {
        Client::signing(server, Signer::rest(user, secret))
    }

    /// With a credential that somebody else made.
    pub fn with(server: SocketAddr, username: String, password: &str) -> Client {
        Client::signing(server, Signer::new(username, password))
    }

    fn signing(server: SocketAddr, signer: Signer) -> Client {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { socket, server, signer, relayed: None }
    }

    /// With an allocation.
    pub fn allocated(server: SocketAddr, user: &str, secret: &str) -> Client {
        let mut client = Client::new(server, user, secret);
        client.allocate().unwrap();
        client
    }

    pub fn allocate(&mut self) -> Result<(), Refused> {
        let plain = self.signer.plain_allocate();
        let challenge = self.exchange(&plain);
        self.signer.take_nonce(&challenge);
        let answer = self.ask(Method::ALLOCATE, |writer| {
            writer.requested_transport(17);
        });
        let answer = Message::parse(&answer).unwrap();
        if let Some(ErrorCode(code)) = answer.error_code() {
            return Err(Refused { code, alternate_server: answer.alternate_server() });
        }
        self.relayed = answer.xor_relayed_address();
        Ok(())
    }

    /// Whether the server agrees; with 0 the allocation ends.
    pub fn refresh(&mut self, seconds: u32) -> bool {
        let answer = self.ask(Method::REFRESH, |writer| {
            writer.lifetime(seconds);
        });
        Message::parse(&answer).unwrap().class() == Class::SuccessResponse
    }

    pub fn permit(&mut self, peer: SocketAddr) {
        let answer = self.ask(Method::CREATE_PERMISSION, |writer| {
            writer.xor_peer_address(peer);
        });
        assert_eq!(Message::parse(&answer).unwrap().class(), Class::SuccessResponse);
    }

    pub fn send(&mut self, peer: SocketAddr, data: &[u8]) {
        let mut buffer = [0; 1500];
        let mut writer = Writer::new(&mut buffer, Class::Indication, Method::SEND, self.signer.transaction());
        writer.xor_peer_address(peer).data(data);
        let length = writer.finish().unwrap();
        self.socket.send_to(&buffer[..length], self.server).unwrap();
    }

    pub fn receive(&self) -> Vec<u8> {
        let mut answer = vec![0; 1500];
        let length = self.socket.recv(&mut answer).unwrap();
        answer.truncate(length);
        answer
    }

    fn ask(&mut self, method: Method, attributes: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let request = self.signer.request(method, attributes);
        self.exchange(&request)
    }

    fn exchange(&self, request: &[u8]) -> Vec<u8> {
        self.socket.send_to(request, self.server).unwrap();
        self.receive()
    }
}
