use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use datapath::stun::{Class, Message, Method, Writer};

use crate::client::{PATIENCE, SECRET};
use crate::signer::Signer;

/// Of `requested_transport` (RFC 6062 §4.1).
const TCP: u8 = 6;

/// A TURN client over TCP whose allocation is for TCP too (RFC 6062).
pub struct TcpClient {
    server: SocketAddr,
    control: TcpStream,
    signer: Signer,
    pub relayed: SocketAddr,
}

impl TcpClient {
    pub fn allocated(server: SocketAddr, user: &str) -> TcpClient {
        let (control, signer) = (connect(server), Signer::rest(user, SECRET));
        let mut client = TcpClient { server, control, signer, relayed: server };
        let challenge = exchange(&mut client.control, &client.signer.plain_allocate());
        client.signer.take_nonce(&challenge);
        let answer = client.ask(Method::ALLOCATE, |writer| _ = writer.requested_transport(TCP));
        client.relayed = Message::parse(&answer).unwrap().xor_relayed_address().unwrap();
        client
    }

    /// A connection over which data passes to and from the peer.
    pub fn connected(&mut self, peer: SocketAddr) -> TcpStream {
        let answer = self.ask(Method::CONNECT, |writer| _ = writer.xor_peer_address(peer));
        let name = Message::parse(&answer).unwrap().connection_id().unwrap();
        let request = self.signer.request(Method::CONNECTION_BIND, |writer| _ = writer.connection_id(name));
        let mut data = connect(self.server);
        let answer = exchange(&mut data, &request);
        assert_eq!(Message::parse(&answer).unwrap().class(), Class::SuccessResponse);
        data
    }

    fn ask(&mut self, method: Method, attributes: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let request = self.signer.request(method, attributes);
        exchange(&mut self.control, &request)
    }
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn exchange(stream: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).unwrap();
    let mut answer = vec![0; 20];
    stream.read_exact(&mut answer).unwrap();
    answer.resize(20 + usize::from(u16::from_be_bytes([answer[2], answer[3]])), 0);
    stream.read_exact(&mut answer[20..]).unwrap();
    answer
}
