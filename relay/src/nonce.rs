use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use datapath::Endpoint;

use crate::allocation::FiveTuple;

/// Octets of a nonce on the wire.
pub const NONCE_LEN: usize = 22;
const TIME_LEN: usize = 4;
const MAC_LEN: usize = 12;

/// Makes and knows nonces without remembering any: a nonce is the time it was made and a MAC over that time and the
/// client's five-tuple. Who returns one has received it, so its address is no forgery.
#[derive(Debug)]
pub struct Nonces {
    key: hmac::Key,
    lifetime: Duration,
}

impl Nonces {
    pub fn new(key: &[u8; 32], lifetime: Duration) -> Nonces {
        Nonces { key: hmac::Key::new(hmac::HMAC_SHA256, key), lifetime }
    }

    /// `unix` is the time since the Unix epoch.
    pub fn make(&self, client: &FiveTuple, unix: Duration) -> [u8; NONCE_LEN] {
        self.text(client, (unix.as_secs() as u32).to_be_bytes())
    }

    pub fn is_valid(&self, nonce: &[u8], client: &FiveTuple, unix: Duration) -> bool {
        let mut octets = [0; TIME_LEN + MAC_LEN];
        if nonce.len() != NONCE_LEN || URL_SAFE_NO_PAD.decode_slice_unchecked(nonce, &mut octets).is_err() {
            return false;
        }
        let [a, b, c, d, ..] = octets;
        let made = [a, b, c, d];
        let age = (unix.as_secs() as u32).wrapping_sub(u32::from_be_bytes(made));
        constant_time::verify_slices_are_equal(&self.text(client, made), nonce).is_ok()
            && u64::from(age) <= self.lifetime.as_secs()
    }

    fn text(&self, client: &FiveTuple, made: [u8; TIME_LEN]) -> [u8; NONCE_LEN] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&made);
        match client.local {
            Endpoint::Listener { index, ip } => {
                context.update(&[index]);
                update_ip(&mut context, ip);
            }
            Endpoint::Stream { id, .. } => context.update(&id.to_be_bytes()),
            Endpoint::Relay { .. } | Endpoint::Memory { .. } => (),
        }
        update_ip(&mut context, client.remote.ip());
        context.update(&client.remote.port().to_be_bytes());
        let mut octets = [0; TIME_LEN + MAC_LEN];
        octets[..TIME_LEN].copy_from_slice(&made);
        octets[TIME_LEN..].copy_from_slice(&context.sign().as_ref()[..MAC_LEN]);
        let mut text = [0; NONCE_LEN];
        let length = URL_SAFE_NO_PAD.encode_slice(octets, &mut text);
        assert_eq!(length, Ok(NONCE_LEN));
        text
    }
}

fn update_ip(context: &mut hmac::Context, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            context.update(&[4]);
            context.update(&ip.octets());
        }
        IpAddr::V6(ip) => {
            context.update(&[6]);
            context.update(&ip.octets());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(port: u16) -> FiveTuple {
        FiveTuple {
            local: Endpoint::Listener { index: 0, ip: [192, 0, 2, 1].into() },
            remote: ([192, 0, 2, 9], port).into(),
        }
    }

    #[test]
    fn valid_for_its_client_and_its_time_only() {
        let nonces = Nonces::new(&[7; 32], Duration::from_secs(600));
        let at = Duration::from_secs(1_800_000_000);
        let nonce = nonces.make(&client(1), at);
        assert!(nonces.is_valid(&nonce, &client(1), at));
        assert!(nonces.is_valid(&nonce, &client(1), at + Duration::from_secs(600)));
        assert!(!nonces.is_valid(&nonce, &client(1), at + Duration::from_secs(601)));
        assert!(!nonces.is_valid(&nonce, &client(1), at - Duration::from_secs(1)), "from the future");
        assert!(!nonces.is_valid(&nonce, &client(2), at));
        assert!(!Nonces::new(&[8; 32], Duration::from_secs(600)).is_valid(&nonce, &client(1), at));
    }

    #[test]
    fn every_octet_counts() {
        let nonces = Nonces::new(&[7; 32], Duration::from_secs(600));
        let at = Duration::from_secs(1_800_000_000);
        let nonce = nonces.make(&client(1), at);
        for index in 0..NONCE_LEN {
            for other in 0..=255 {
                let mut changed = nonce;
                changed[index] = other;
                assert_eq!(nonces.is_valid(&changed, &client(1), at), changed == nonce);
            }
        }
        assert!(!nonces.is_valid(&nonce[..21], &client(1), at));
        assert!(!nonces.is_valid(&[], &client(1), at));
    }
}
