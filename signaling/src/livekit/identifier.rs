//! Ids in the form that clients know: a prefix and random characters.

use datapath::{Entropy, steering};

/// Letters and digits that cannot be taken for one another.
const ALPHABET: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// RFC 8839 §5.4: ice-char.
const ICE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn random(entropy: &mut Entropy, alphabet: &[u8], length: usize) -> String {
    (0..length).map(|_| char::from(alphabet[entropy.below(alphabet.len() as u64) as usize])).collect()
}

/// Octets of a sid that clients may name: ours are shorter, and one that is longer is nobody's.
pub const SID_LIMIT: usize = 64;

/// `prefix` and 12 characters (70 bits).
pub fn sid(entropy: &mut Entropy, prefix: &str) -> String {
    format!("{prefix}{}", random(entropy, ALPHABET, 12))
}

/// RFC 8445 §5.3 asks for 24 bits of ufrag and 128 of password; the ufrag names the worker that has the
/// room, so that a check finds it.
pub fn ice_credentials(entropy: &mut Entropy, worker: usize) -> sfu::IceCredentials {
    sfu::IceCredentials {
        ufrag: steering::ufrag(worker as u8, &random(entropy, ICE, 8)),
        pwd: random(entropy, ICE, 24),
    }
}

/// An SSRC that is neither 0 nor all ones, which some stacks take for "none".
pub fn ssrc(entropy: &mut Entropy) -> u32 {
    1 + entropy.below(u64::from(u32::MAX) - 1) as u32
}
