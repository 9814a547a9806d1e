use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use datapath::Endpoint;

use crate::allocation::FiveTuple;

/// Octets of a nonce on the wire.
pub const NONCE_LEN: usize = COOKIE.len() + FEATURES_LEN + SECRET_LEN;
/// RFC 8489 §9.2: a nonce that begins with this tells which security features the server has, so that nobody on the way
/// can make the client believe that it has none.
const COOKIE: &[u8; 9] = b"obMatJos2";
/// Base64 of 24 bits.
const FEATURES_LEN: usize = 4;
/// Base64 of time and MAC: with the realm at its longest, a challenge has 92 octets.
const SECRET_LEN: usize = 15;
const TIME_LEN: usize = 3;
const MAC_LEN: usize = 8;
const TIME_MASK: u32 = 0xFF_FFFF;

/// The bits of RFC 8489 §18.1, the first leftmost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Names of users may be hashed (USERHASH). PASSWORD-ALGORITHMS is always offered.
    pub username_anonymity: bool,
}

/// Makes and knows nonces without remembering any: a nonce is the time it was made and a MAC over that time and the
/// client's five-tuple. Who returns one has received it, so its address is no forgery.
#[derive(Debug)]
pub struct Nonces {
    key: hmac::Key,
    lifetime: Duration,
    features: [u8; FEATURES_LEN],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Valid,
    /// Ours, made for this client, and too old.
    Expired,
    Foreign,
}

impl Nonces {
    /// `lifetime` is below the 194 days that three octets of seconds hold.
    pub fn new(key: &[u8; 32], lifetime: Duration, features: Features) -> Nonces {
        let bits = [0x80 | u8::from(features.username_anonymity) << 6, 0, 0];
        let mut text = [0; FEATURES_LEN];
        let length = STANDARD_NO_PAD.encode_slice(bits, &mut text);
        assert_eq!(length, Ok(FEATURES_LEN));
        Nonces { key: hmac::Key::new(hmac::HMAC_SHA256, key), lifetime, features: text }
    }

    /// `unix` is the time since the Unix epoch.
    pub fn make(&self, client: &FiveTuple, unix: Duration) -> [u8; NONCE_LEN] {
        self.text(client, unix.as_secs() as u32)
    }

    pub fn judge(&self, nonce: &[u8], client: &FiveTuple, unix: Duration) -> Standing {
        let mut octets = [0; TIME_LEN + MAC_LEN];
        let Some(secret) = nonce.get(COOKIE.len() + FEATURES_LEN..).filter(|secret| secret.len() == SECRET_LEN) else {
            return Standing::Foreign;
        };
        if URL_SAFE_NO_PAD.decode_slice_unchecked(secret, &mut octets).is_err() {
            return Standing::Foreign;
        }
        let [a, b, c, ..] = octets;
        let now = unix.as_secs() as u32;
        let age = now.wrapping_sub(u32::from_be_bytes([0, a, b, c])) & TIME_MASK;
        if constant_time::verify_slices_are_equal(&self.text(client, now.wrapping_sub(age)), nonce).is_err() {
            Standing::Foreign
        } else if u64::from(age) <= self.lifetime.as_secs() {
            Standing::Valid
        } else {
            Standing::Expired
        }
    }

    fn text(&self, client: &FiveTuple, made: u32) -> [u8; NONCE_LEN] {
        let made = made.to_be_bytes();
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
        octets[..TIME_LEN].copy_from_slice(&made[1..]);
        octets[TIME_LEN..].copy_from_slice(&context.sign().as_ref()[..MAC_LEN]);
        let mut text = [0; NONCE_LEN];
        let (cookie, rest) = text.split_at_mut(COOKIE.len());
        let (features, secret) = rest.split_at_mut(FEATURES_LEN);
        cookie.copy_from_slice(COOKIE);
        features.copy_from_slice(&self.features);
        let length = URL_SAFE_NO_PAD.encode_slice(octets, secret);
        assert_eq!(length, Ok(SECRET_LEN));
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

    const NAMED: Features = Features { username_anonymity: false };

    impl Nonces {
        fn is_valid(&self, nonce: &[u8], client: &FiveTuple, unix: Duration) -> bool {
            self.judge(nonce, client, unix) == Standing::Valid
        }
    }

    #[test]
    fn a_nonce_tells_the_features() {
        let text = |username_anonymity| {
            let nonces = Nonces::new(&[7; 32], Duration::from_secs(600), Features { username_anonymity });
            String::from_utf8(nonces.make(&client(1), Duration::ZERO).to_vec()).unwrap()
        };
        assert!(text(false).starts_with("obMatJos2gAAA"));
        assert!(text(true).starts_with("obMatJos2wAAA"));
    }

    #[test]
    fn an_old_nonce_does_not_come_round_again() {
        let nonces = Nonces::new(&[7; 32], Duration::from_secs(600), NAMED);
        let at = Duration::from_secs(1_800_000_000);
        let nonce = nonces.make(&client(1), at);
        assert!(!nonces.is_valid(&nonce, &client(1), at + Duration::from_secs(1 << 24)));
    }

    fn client(port: u16) -> FiveTuple {
        FiveTuple {
            local: Endpoint::Listener { index: 0, ip: [192, 0, 2, 1].into() },
            remote: ([192, 0, 2, 9], port).into(),
        }
    }

    #[test]
    fn valid_for_its_client_and_its_time_only() {
        let nonces = Nonces::new(&[7; 32], Duration::from_secs(600), NAMED);
        let at = Duration::from_secs(1_800_000_000);
        let nonce = nonces.make(&client(1), at);
        assert!(nonces.is_valid(&nonce, &client(1), at));
        assert!(nonces.is_valid(&nonce, &client(1), at + Duration::from_secs(600)));
        assert_eq!(nonces.judge(&nonce, &client(1), at + Duration::from_secs(601)), Standing::Expired);
        assert_eq!(nonces.judge(&nonce, &client(2), at + Duration::from_secs(601)), Standing::Foreign);
        assert!(!nonces.is_valid(&nonce, &client(1), at - Duration::from_secs(1)), "from the future");
        assert!(!nonces.is_valid(&nonce, &client(2), at));
        assert!(!Nonces::new(&[8; 32], Duration::from_secs(600), NAMED).is_valid(&nonce, &client(1), at));
    }

    #[test]
    fn every_octet_counts() {
        let nonces = Nonces::new(&[7; 32], Duration::from_secs(600), NAMED);
        let at = Duration::from_secs(1_800_000_000);
        let nonce = nonces.make(&client(1), at);
        for index in 0..NONCE_LEN {
            for other in 0..=255 {
                let mut changed = nonce;
                changed[index] = other;
                assert_eq!(nonces.is_valid(&changed, &client(1), at), changed == nonce);
            }
        }
        assert!(!nonces.is_valid(&nonce[..NONCE_LEN - 1], &client(1), at));
        assert!(!nonces.is_valid(&[], &client(1), at));
    }
}
