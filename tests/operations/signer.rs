use datapath::stun::{Class, Key, Message, Method, TransactionId, Writer};
use md5::{Digest, Md5};

/// What a TURN user signs its requests with, over UDP or TCP.
pub struct Signer {
    username: String,
    key: Key,
    nonce: Vec<u8>,
    transactions: u8,
}

impl Signer {
    pub fn new(username: String, password: &str) -> Signer {
        let key = Key::new(&Md5::digest(format!("{username}:hausruf:{password}")));
        Signer { username, key, nonce: Vec::new(), transactions: 0 }
    }

    /// With a REST credential made with the secret.
    pub fn rest(user: &str, secret: &str) -> Signer {
        let username = format!("4000000000:{user}");
        let password = relay::rest_password(secret.as_bytes(), &username);
        Signer::new(username, &password)
    }

    /// Asks for an allocation without a seal; the answer has a nonce.
    pub fn plain_allocate(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 1500];
        let writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, self.transaction());
        let length = writer.finish().unwrap();
        buffer.truncate(length);
        buffer
    }

    pub fn take_nonce(&mut self, answer: &[u8]) {
        self.nonce = Message::parse(answer).unwrap().nonce().unwrap().to_vec();
    }

    pub fn request(&mut self, method: Method, attributes: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut buffer = vec![0; 1500];
        let mut writer = Writer::new(&mut buffer, Class::Request, method, self.transaction());
        attributes(&mut writer);
        writer.username(self.username.as_bytes()).realm(b"hausruf").nonce(&self.nonce);
        let length = writer.finish_with_integrity(&self.key, false).unwrap();
        buffer.truncate(length);
        buffer
    }

    pub fn transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        TransactionId([self.transactions; 12])
    }
}
