//! SRTP and SRTCP of a client, AEAD GCM profiles only (RFC 7714), with the key derivation of RFC 3711 §4.3.

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use dimpl::SrtpProfile;

/// Octets that protection adds to an RTP packet.
pub const TAG: usize = 16;

/// One direction of one transport.
pub struct Srtp {
    rtp: LessSafeKey,
    rtp_salt: [u8; 12],
    rtcp: LessSafeKey,
    rtcp_salt: [u8; 12],
    rtcp_index: u32,
}

/// What DTLS-SRTP agreed on: the client's direction and the server's (RFC 5764 §4.2).
pub fn pair(profile: SrtpProfile, material: &[u8]) -> Result<(Srtp, Srtp)> {
    let key_length = match profile {
        SrtpProfile::AEAD_AES_128_GCM => 16,
        SrtpProfile::AEAD_AES_256_GCM => 32,
        other => bail!("the server chose {other} though an AEAD profile was offered"),
    };
    ensure!(material.len() == 2 * (key_length + 12), "keying material length");
    let (keys, salts) = material.split_at(2 * key_length);
    Ok((Srtp::new(&keys[..key_length], &salts[..12])?, Srtp::new(&keys[key_length..], &salts[12..])?))
}

impl Srtp {
    pub fn new(master_key: &[u8], master_salt: &[u8]) -> Result<Srtp> {
        let salt = *master_salt.first_chunk().context("a salt has 12 octets")?;
        let derive = |label: u8, length: usize| derive(master_key, &salt, label, length);
        let aead = |key: Vec<u8>| -> Result<LessSafeKey> {
            let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
            Ok(LessSafeKey::new(UnboundKey::new(algorithm, &key)?))
        };
        let salt_of = |bytes: Vec<u8>| *bytes.first_chunk().expect("twelve octets were derived");
        Ok(Srtp {
            rtp: aead(derive(0, master_key.len())?)?,
            rtp_salt: salt_of(derive(2, 12)?),
            rtcp: aead(derive(3, master_key.len())?)?,
            rtcp_salt: salt_of(derive(5, 12)?),
            rtcp_index: 0,
        })
    }

    /// Protects `packet[..length]` in place; the buffer has room for [`TAG`] more octets.
    pub fn protect_rtp(&self, packet: &mut [u8], length: usize, rollover: u32) -> Option<usize> {
        let header = rtp_header_length(&packet[..length])?;
        let nonce = self.rtp_nonce(packet, rollover)?;
        let (aad, rest) = packet.split_at_mut(header);
        let (payload, tag) = rest.split_at_mut(length - header);
        let sealed = self.rtp.seal_in_place_separate_tag(nonce, Aad::from(&*aad), payload);
        tag.get_mut(..TAG)?.copy_from_slice(sealed.ok()?.as_ref());
        Some(length + TAG)
    }

    /// Opens a packet in place: the range of its payload, or `None` when the tag does not verify.
    pub fn open_rtp(&self, packet: &mut [u8], rollover: u32) -> Option<std::ops::Range<usize>> {
        let header = rtp_header_length(packet)?;
        let nonce = self.rtp_nonce(packet, rollover)?;
        let (aad, sealed) = packet.split_at_mut(header);
        let plain = self.rtp.open_in_place(nonce, Aad::from(&*aad), sealed).ok()?;
        Some(header..header + plain.len())
    }

    /// RFC 7714 §8.1, in integers: the cipher reads it back at once, and from octets written one by one it could not
    /// until they have left the store buffer.
    fn rtp_nonce(&self, packet: &[u8], rollover: u32) -> Option<Nonce> {
        let ssrc = u32::from_be_bytes(*packet.get(8..12)?.first_chunk()?);
        let number = u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]);
        let first = u64::from(ssrc) << 16 | u64::from(rollover >> 16);
        let last = rollover << 16 | u32::from(number);
        let (first_salt, last_salt) = self.rtp_salt.split_at(8);
        let first_salt = u64::from_be_bytes(*first_salt.first_chunk()?);
        let last_salt = u32::from_be_bytes(*last_salt.first_chunk()?);
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&(first_salt ^ first).to_be_bytes());
        nonce[8..].copy_from_slice(&(last_salt ^ last).to_be_bytes());
        Some(Nonce::assume_unique_for_key(nonce))
    }

    /// RFC 7714 §9: the compound packet becomes header, sealed rest, E bit and index.
    pub fn protect_rtcp(&mut self, packet: &mut Vec<u8>) -> Option<()> {
        let index = self.rtcp_index;
        self.rtcp_index += 1;
        let trailer = (index | 1 << 31).to_be_bytes();
        let nonce = self.rtcp_nonce(packet, index)?;
        let mut aad = packet.get(..8)?.to_vec();
        aad.extend_from_slice(&trailer);
        let tag = self.rtcp.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut packet[8..]).ok()?;
        packet.extend_from_slice(tag.as_ref());
        packet.extend_from_slice(&trailer);
        Some(())
    }

    /// Opens a compound packet in place and returns its length.
    pub fn open_rtcp(&self, packet: &mut [u8]) -> Option<usize> {
        let body_end = packet.len().checked_sub(4).filter(|end| *end >= 8 + TAG)?;
        let trailer: [u8; 4] = *packet.last_chunk()?;
        let index = u32::from_be_bytes(trailer);
        if index >> 31 == 0 {
            return None;
        }
        let nonce = self.rtcp_nonce(packet, index & 0x7FFF_FFFF)?;
        let mut aad = packet[..8].to_vec();
        aad.extend_from_slice(&trailer);
        let body = &mut packet[8..body_end];
        let plain = self.rtcp.open_in_place(nonce, Aad::from(aad), body).ok()?;
        Some(8 + plain.len())
    }

    fn rtcp_nonce(&self, packet: &[u8], index: u32) -> Option<Nonce> {
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(packet.get(4..8)?);
        nonce[8..].copy_from_slice(&index.to_be_bytes());
        Some(masked(nonce, &self.rtcp_salt))
    }
}

fn masked(mut nonce: [u8; 12], salt: &[u8; 12]) -> Nonce {
    for (octet, salt) in nonce.iter_mut().zip(salt) {
        *octet ^= salt;
    }
    Nonce::assume_unique_for_key(nonce)
}

/// The fixed header, the CSRC list and the header extension (RFC 3550 §5.1).
pub fn rtp_header_length(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let mut length = 12 + 4 * usize::from(first & 0xF);
    if first & 0x10 != 0 {
        let words = packet.get(length + 2..length + 4)?;
        length += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    (length <= packet.len()).then_some(length)
}

/// RFC 3711 §4.3.3 with AES-CM; RFC 7714 §11 keeps it, with a salt of 96 bits padded to 112.
fn derive(master_key: &[u8], salt: &[u8; 12], label: u8, length: usize) -> Result<Vec<u8>> {
    let mut iv = [0; 16];
    iv[..12].copy_from_slice(salt);
    iv[7] ^= label;
    let algorithm = if master_key.len() == 16 { &AES_128 } else { &AES_256 };
    let key = EncryptingKey::ctr(UnboundCipherKey::new(algorithm, master_key)?)?;
    let mut stream = vec![0; length];
    key.less_safe_encrypt(&mut stream, EncryptionContext::Iv128(iv.into()))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_protected_opens_again_and_a_changed_header_does_not() {
        let mut srtp = Srtp::new(&[3; 32], &[5; 12]).unwrap();
        let mut packet = vec![0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend_from_slice(b"payload");
        let length = packet.len();
        packet.resize(length + TAG, 0);
        assert_eq!(srtp.protect_rtp(&mut packet, length, 4), Some(length + TAG));
        let mut changed = packet.clone();
        changed[1] = 97;
        assert_eq!(srtp.open_rtp(&mut changed, 4), None);
        let range = srtp.open_rtp(&mut packet, 4).unwrap();
        assert_eq!(&packet[range], b"payload");

        let plain = vec![0x80, 201, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4];
        let mut report = plain.clone();
        srtp.protect_rtcp(&mut report).unwrap();
        let length = srtp.open_rtcp(&mut report).unwrap();
        assert_eq!(report[..length], plain);
    }
}
