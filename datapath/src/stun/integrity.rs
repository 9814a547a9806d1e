use aws_lc_rs::{constant_time, hmac};

use super::HEADER_LEN;

/// Octets of MESSAGE-INTEGRITY's value.
pub(super) const TAG_LEN: usize = 20;

/// Octets of MESSAGE-INTEGRITY-SHA256's value. RFC 8489 §14.6 lets a STUN usage truncate it; neither ICE nor TURN does.
pub(super) const TAG_SHA256_LEN: usize = 32;

/// A key of MESSAGE-INTEGRITY with its inner and outer hash state computed, so that a message costs two blocks less.
///
/// Short-term credentials: the ICE password. Long-term: MD5 of `username ":" realm ":" password` (RFC 8489 §9.2.2).
#[derive(Clone)]
pub struct Key(hmac::Key);

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(..)")
    }
}

impl Key {
    pub fn new(key: &[u8]) -> Key {
        Key(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key))
    }

    /// RFC 8489 §14.5: the HMAC covers the message up to MESSAGE-INTEGRITY, with a header length that ends behind it.
    /// `covered` is that part of the message as it stands; its length field is not looked at.
    pub(super) fn tag(&self, covered: &[u8]) -> [u8; TAG_LEN] {
        let length = (covered.len() - HEADER_LEN + 4 + TAG_LEN) as u16;
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&covered[..2]);
        context.update(&length.to_be_bytes());
        context.update(&covered[4..]);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    pub(super) fn verifies(&self, covered: &[u8], tag: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.tag(covered), tag).is_ok()
    }
}

/// A key of MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.6).
#[derive(Clone)]
pub struct KeySha256(hmac::Key);

impl std::fmt::Debug for KeySha256 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("KeySha256(..)")
    }
}

impl KeySha256 {
    pub fn new(key: &[u8]) -> KeySha256 {
        KeySha256(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// As [`Key::tag`], with the length of this attribute.
    pub(super) fn tag(&self, covered: &[u8]) -> [u8; TAG_SHA256_LEN] {
        let length = (covered.len() - HEADER_LEN + 4 + TAG_SHA256_LEN) as u16;
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&covered[..2]);
        context.update(&length.to_be_bytes());
        context.update(&covered[4..]);
        let mut tag = [0; TAG_SHA256_LEN];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    pub(super) fn verifies(&self, covered: &[u8], tag: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.tag(covered), tag).is_ok()
    }
}

/// RFC 8489 §14.7: CRC-32 of the message up to FINGERPRINT, with a header length that ends behind it, XOR "STUN".
pub(super) fn fingerprint(covered: &[u8]) -> u32 {
    let length = (covered.len() - HEADER_LEN + 8) as u16;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&covered[..2]);
    crc.update(&length.to_be_bytes());
    crc.update(&covered[4..]);
    crc.finalize() ^ 0x5354_554E
}
