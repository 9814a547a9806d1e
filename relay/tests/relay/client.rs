use std::net::{IpAddr, SocketAddr};

use datapath::Endpoint;
use datapath::stun::{Class, ErrorCode, Key, Message, Method, TransactionId, Writer};
use md5::{Digest, Md5};
use relay::rest_password;

use crate::world::{PEER, SECRET, Sent, Turn, World, address};

/// A TURN client with long-term credentials.
#[derive(Clone)]
pub struct Client {
    pub local: Endpoint,
    pub address: SocketAddr,
    pub username: String,
    pub key: Key,
    pub nonce: Vec<u8>,
    pub transactions: u64,
    pub relayed: SocketAddr,
}

pub const LISTENER: Endpoint = Endpoint::Listener { index: 0, ip: IpAddr::V4(std::net::Ipv4Addr::new(5, 5, 5, 5)) };

pub fn long_term_key(username: &str, password: &str) -> Key {
    Key::new(&Md5::digest(format!("{username}:hausruf:{password}")))
}

impl Client {
    /// Bob at 7.7.7.7, who has no nonce yet.
    pub fn bob() -> Client {
        Client::named("bob", "builder", "7.7.7.7:1000")
    }

    pub fn named(username: &str, password: &str, from: &str) -> Client {
        Client {
            local: LISTENER,
            address: address(from),
            username: username.to_owned(),
            key: long_term_key(username, password),
            nonce: Vec::new(),
            transactions: 0,
            relayed: address("0.0.0.0:0"),
        }
    }

    /// With a REST credential.
    pub fn rest(username: &str, from: &str) -> Client {
        Client::named(username, &rest_password(SECRET, username), from)
    }

    /// With a nonce, and an allocation.
    pub fn allocated(mut self, world: &mut World) -> Client {
        self.challenge(world);
        let turn = self.allocate(world);
        self.accept_allocation(&turn);
        self
    }

    /// Also with a permission for [`PEER`] and an open relay socket.
    pub fn permitted(self, world: &mut World) -> Client {
        let mut client = self.allocated(world);
        let relayed = client.permit(world, PEER).opens();
        assert_eq!(relayed, client.relayed);
        assert_success(&world.opened(relayed));
        client
    }

    /// Asks without credentials and learns the nonce.
    pub fn challenge(&mut self, world: &mut World) {
        let request = self.plain(Method::ALLOCATE);
        let turn = self.send(world, &request);
        self.learn_nonce(&turn);
    }

    pub fn learn_nonce(&mut self, turn: &Turn) {
        self.nonce = parse(turn.only()).nonce().expect("a nonce").to_vec();
    }

    pub fn accept_allocation(&mut self, turn: &Turn) {
        assert_success(turn);
        self.relayed = parse(turn.only()).xor_relayed_address().unwrap();
    }

    pub fn allocate(&mut self, world: &mut World) -> Turn {
        self.ask(world, Method::ALLOCATE, |writer| {
            writer.requested_transport(17);
        })
    }

    pub fn refresh(&mut self, world: &mut World, seconds: u32) -> Turn {
        self.ask(world, Method::REFRESH, |writer| {
            writer.lifetime(seconds);
        })
    }

    pub fn permit(&mut self, world: &mut World, peer: &str) -> Turn {
        let peer = address(peer);
        self.ask(world, Method::CREATE_PERMISSION, |writer| {
            writer.xor_peer_address(peer);
        })
    }

    pub fn bind(&mut self, world: &mut World, number: u16, peer: &str) -> Turn {
        let peer = address(peer);
        self.ask(world, Method::CHANNEL_BIND, |writer| {
            writer.channel_number(number).xor_peer_address(peer);
        })
    }

    pub fn send_data(&mut self, world: &mut World, peer: &str, data: &[u8]) -> Turn {
        let mut buffer = [0; 2048];
        let mut writer = Writer::new(&mut buffer, Class::Indication, Method::SEND, TransactionId::default());
        writer.xor_peer_address(address(peer)).data(data);
        let length = writer.finish().unwrap();
        self.send(world, &buffer[..length])
    }

    pub fn send_channel(&mut self, world: &mut World, number: u16, data: &[u8]) -> Turn {
        let header = datapath::stun::channel_data::header(number, data.len() as u16);
        self.send(world, &[&header, data].concat())
    }

    /// An authenticated request.
    pub fn ask(&mut self, world: &mut World, method: Method, attributes: impl FnOnce(&mut Writer<'_>)) -> Turn {
        let request = self.request(method, attributes);
        self.send(world, &request)
    }

    pub fn request(&mut self, method: Method, attributes: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut buffer = vec![0; 1500];
        let mut writer = Writer::new(&mut buffer, Class::Request, method, self.next_transaction());
        attributes(&mut writer);
        writer.username(self.username.as_bytes()).realm(b"hausruf").nonce(&self.nonce);
        let length = writer.finish_with_integrity(&self.key, false).unwrap();
        buffer.truncate(length);
        buffer
    }

    /// A request of twenty octets.
    pub fn plain(&mut self, method: Method) -> Vec<u8> {
        let mut buffer = vec![0; 20];
        let id = self.next_transaction();
        Writer::new(&mut buffer, Class::Request, method, id).finish().unwrap();
        buffer
    }

    pub fn send(&self, world: &mut World, payload: &[u8]) -> Turn {
        world.deliver(self.local, self.address, payload)
    }

    fn next_transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        let mut id = [0; 12];
        id[..8].copy_from_slice(&self.transactions.to_be_bytes());
        TransactionId(id)
    }
}

pub fn parse(sent: &Sent) -> Message<'_> {
    Message::parse(&sent.payload).expect("a STUN message")
}

pub fn error_of(turn: &Turn) -> Option<ErrorCode> {
    let message = parse(turn.only());
    assert_eq!(message.class(), Class::ErrorResponse);
    message.error_code()
}

#[track_caller]
pub fn assert_error(turn: &Turn, code: u16) {
    assert_eq!(error_of(turn), Some(ErrorCode(code)));
}

#[track_caller]
pub fn assert_success(turn: &Turn) {
    let message = parse(turn.only());
    assert_eq!(message.class(), Class::SuccessResponse, "{:?}", message.error_code());
}
