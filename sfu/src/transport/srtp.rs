//! SRTP and SRTCP in place (RFC 3711, RFC 7714). A sender and a receiver context each hold one direction's keys.

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use super::aead::{AeadKey, NONCE, TAG};
use super::sources::Sources;

/// Octets that protecting an RTP packet may add, whatever the profile.
pub const RTP_OVERHEAD: usize = 16;
/// Octets that protecting an RTCP packet may add: tag and the word with the E flag and the index.
pub const RTCP_OVERHEAD: usize = 20;

/// The protection profiles of RFC 5764 and RFC 7714 that we negotiate, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    AeadAes256Gcm,
    AeadAes128Gcm,
    Aes128CmSha1_80,
}

impl Profile {
    /// Master key and master salt, octets (RFC 5764 §4.1.2, RFC 7714 §12).
    pub fn key_and_salt(self) -> (usize, usize) {
        match self {
            Profile::AeadAes256Gcm => (32, 12),
            Profile::AeadAes128Gcm => (16, 12),
            Profile::Aes128CmSha1_80 => (16, 14),
        }
    }

    /// Octets of the authentication tag.
    pub fn tag_length(self) -> usize {
        match self {
            Profile::AeadAes256Gcm | Profile::AeadAes128Gcm => 16,
            Profile::Aes128CmSha1_80 => 10,
        }
    }
}

/// The master keys of both directions.
#[derive(Clone)]
pub struct MasterKeys {
    pub profile: Profile,
    client: Vec<u8>,
    server: Vec<u8>,
}

impl MasterKeys {
    /// Splits DTLS keying material: client key, server key, client salt, server salt (RFC 5764 §4.2). `None` when it is
    /// too short for the profile.
    pub fn from_keying_material(profile: Profile, material: &[u8]) -> Option<MasterKeys> {
        let (key, salt) = profile.key_and_salt();
        let material = material.get(..2 * (key + salt))?;
        let (keys, salts) = material.split_at(2 * key);
        Some(MasterKeys {
            profile,
            client: [&keys[..key], &salts[..salt]].concat(),
            server: [&keys[key..], &salts[salt..]].concat(),
        })
    }

    /// What the DTLS server (we) sends with and receives with.
    pub fn server_contexts(&self) -> (SrtpSender, SrtpReceiver) {
        (SrtpSender::new(self.profile, &self.server), SrtpReceiver::new(self.profile, &self.client))
    }

    /// What a DTLS client (a simulated or generated peer) sends with and receives with.
    pub fn client_contexts(&self) -> (SrtpSender, SrtpReceiver) {
        (SrtpSender::new(self.profile, &self.client), SrtpReceiver::new(self.profile, &self.server))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrtpError {
    /// Shorter than a header and a tag.
    Short,
    /// Seen before, or older than the replay window.
    Replayed,
    /// The authentication tag does not verify.
    BadTag,
}

/// The session keys of one direction and one of RTP and RTCP.
enum Cipher {
    Gcm { key: AeadKey, salt: [u8; 12] },
    CounterMode(Box<CounterMode>),
}

/// AES-CM with HMAC-SHA1: boxed, since its two keys take 1.7 KB and hardly anybody negotiates it.
struct CounterMode {
    key: EncryptingKey,
    salt: [u8; 14],
    authentication: hmac::Key,
}

/// Key derivation labels of RFC 3711 §4.3.1: RTP; RTCP adds three.
const LABEL_ENCRYPTION: u8 = 0;
const LABEL_AUTHENTICATION: u8 = 1;
const LABEL_SALT: u8 = 2;

impl Cipher {
    fn derive(profile: Profile, master: &[u8], rtcp: bool) -> Cipher {
        let (key_length, salt_length) = profile.key_and_salt();
        assert_eq!(master.len(), key_length + salt_length, "master key of another profile");
        let (master_key, master_salt) = master.split_at(key_length);
        let base = if rtcp { 3 } else { 0 };
        let derive = |label: u8, length: usize| {
            let mut output = vec![0; length];
            derive_key(master_key, master_salt, base + label, &mut output);
            output
        };
        let session_key = derive(LABEL_ENCRYPTION, key_length);
        let session_salt = derive(LABEL_SALT, salt_length);
        match profile {
            Profile::AeadAes256Gcm | Profile::AeadAes128Gcm => {
                let salt = session_salt.try_into().expect("derived with this length");
                Cipher::Gcm { key: AeadKey::new(&session_key), salt }
            }
            Profile::Aes128CmSha1_80 => {
                let authentication = derive(LABEL_AUTHENTICATION, 20);
                Cipher::CounterMode(Box::new(CounterMode {
                    key: counter_key(&session_key),
                    salt: session_salt.try_into().expect("derived with this length"),
                    authentication: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &authentication),
                }))
            }
        }
    }
}

fn counter_key(key: &[u8]) -> EncryptingKey {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    let key = UnboundCipherKey::new(algorithm, key).expect("16 or 32 octets");
    EncryptingKey::ctr(key).expect("counter mode has no other condition")
}

/// XORs the key stream that begins at `iv` into `data`.
fn apply_counter_mode(key: &EncryptingKey, iv: [u8; 16], data: &mut [u8]) {
    key.less_safe_encrypt(data, EncryptionContext::Iv128(FixedLength::from(iv)))
        .expect("counter mode takes any length");
}

/// RFC 3711 §4.3.1 with a key derivation rate of 0; §4.3.3 AES-CM as the function. A 96-bit salt stands at the left of
/// the 112 bits (RFC 7714 §11).
fn derive_key(master_key: &[u8], master_salt: &[u8], label: u8, output: &mut [u8]) {
    let mut iv = [0; 16];
    iv[..master_salt.len()].copy_from_slice(master_salt);
    iv[7] ^= label;
    output.fill(0);
    apply_counter_mode(&counter_key(master_key), iv, output);
}

fn xor(octets: &mut [u8], value: &[u8]) {
    for (octet, value) in octets.iter_mut().zip(value) {
        *octet ^= value;
    }
}

/// RFC 7714 §8.1: two octets of zero, the SSRC and the 48-bit index.
fn gcm_rtp_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> [u8; NONCE] {
    gcm_nonce(salt, u64::from(ssrc) << 16 | index >> 32, index as u32)
}

/// RFC 7714 §9.1: two octets of zero, the SSRC, two more and the 31-bit index.
fn gcm_rtcp_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> [u8; NONCE] {
    gcm_nonce(salt, u64::from(ssrc) << 16, index)
}

/// Masks with the salt. In integers as wide as the reads of the cipher: octets written one by one could not be forwarded
/// to it from the store buffer, and it would wait until the packet before the nonce is written out (a tenth of the time
/// of a copy).
fn gcm_nonce(salt: &[u8; 12], first: u64, last: u32) -> [u8; NONCE] {
    let (first_salt, last_salt) = salt.split_at(8);
    let first_salt = u64::from_be_bytes(first_salt.try_into().expect("eight octets"));
    let last_salt = u32::from_be_bytes(last_salt.try_into().expect("four octets"));
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&(first_salt ^ first).to_be_bytes());
    nonce[8..].copy_from_slice(&(last_salt ^ last).to_be_bytes());
    nonce
}

/// RFC 3711 §4.1.1.
fn counter_mode_iv(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(salt);
    xor(&mut iv[4..8], &ssrc.to_be_bytes());
    xor(&mut iv[8..14], &index.to_be_bytes()[2..]);
    iv
}

fn sha1_tag(key: &hmac::Key, parts: [&[u8]; 2]) -> [u8; 10] {
    let mut context = hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref()[..10].try_into().expect("HMAC-SHA1 has 20 octets")
}

const RTCP_HEADER: usize = 8;
const ENCRYPTED_FLAG: u32 = 1 << 31;

/// Protects what we send to one peer.
pub struct SrtpSender {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    /// RFC 3711 §3.4: the 31-bit SRTCP index, one for all sources of this context.
    rtcp_index: u32,
}

impl SrtpSender {
    fn new(profile: Profile, master: &[u8]) -> SrtpSender {
        SrtpSender {
            profile,
            rtp: Cipher::derive(profile, master, false),
            rtcp: Cipher::derive(profile, master, true),
            rtcp_index: 0,
        }
    }

    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Has the key of RTP in the cache soon.
    pub fn prefetch(&self) {
        if let Cipher::Gcm { key, .. } = &self.rtp {
            key.prefetch();
        }
    }

    /// Protects the RTP packet in `buffer[..length]` whose header takes `header_length` octets, and returns the protected
    /// length. `buffer` has [`RTP_OVERHEAD`] octets to spare. `index` is the 48-bit packet index (RFC 3711 §3.3.1); each
    /// (ssrc, index) is used for one packet only, or for identical octets.
    pub fn protect_rtp(&self, buffer: &mut [u8], header_length: usize, length: usize, ssrc: u32, index: u64) -> usize {
        self.protect(&mut buffer[..length + RTP_OVERHEAD], header_length, None, ssrc, index)
    }

    /// The same where the payload lies elsewhere: `buffer` has the header and room for the rest.
    pub fn protect_rtp_of(
        &self,
        buffer: &mut [u8],
        header_length: usize,
        payload: &[u8],
        ssrc: u32,
        index: u64,
    ) -> usize {
        let end = header_length + payload.len() + RTP_OVERHEAD;
        self.protect(&mut buffer[..end], header_length, Some(payload), ssrc, index)
    }

    /// `buffer` ends with the octets to spare.
    fn protect(&self, buffer: &mut [u8], header_length: usize, payload: Option<&[u8]>, ssrc: u32, index: u64) -> usize {
        let length = buffer.len() - RTP_OVERHEAD;
        let (packet, spare) = buffer.split_at_mut(length);
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let (header, text) = packet.split_at_mut(header_length);
                let nonce = gcm_rtp_nonce(salt, ssrc, index);
                let (tag, _) = spare.split_first_chunk_mut().expect("there are octets to spare");
                key.seal(&nonce, header, payload, text, tag);
                length + TAG
            }
            Cipher::CounterMode(mode) => {
                let CounterMode { key, salt, authentication } = &**mode;
                if let Some(payload) = payload {
                    packet[header_length..].copy_from_slice(payload);
                }
                apply_counter_mode(key, counter_mode_iv(salt, ssrc, index), &mut packet[header_length..]);
                let rollover = ((index >> 16) as u32).to_be_bytes();
                spare[..10].copy_from_slice(&sha1_tag(authentication, [packet, &rollover]));
                length + 10
            }
        }
    }

    /// Protects the (compound) RTCP packet in `buffer[..length]`, at least 8 octets, and returns the protected length.
    /// `buffer` has [`RTCP_OVERHEAD`] octets to spare.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> usize {
        let index = self.rtcp_index;
        self.rtcp_index = (index + 1) & !ENCRYPTED_FLAG;
        let ssrc = u32::from_be_bytes(buffer[4..8].try_into().expect("four octets"));
        let word = (index | ENCRYPTED_FLAG).to_be_bytes();
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let (packet, spare) = buffer.split_at_mut(length);
                let (header, payload) = packet.split_at_mut(RTCP_HEADER);
                let mut aad = [0; RTCP_HEADER + 4];
                aad[..RTCP_HEADER].copy_from_slice(header);
                aad[RTCP_HEADER..].copy_from_slice(&word);
                let (tag, spare) = spare.split_first_chunk_mut().expect("there are octets to spare");
                key.seal(&gcm_rtcp_nonce(salt, ssrc, index), &aad, None, payload, tag);
                spare[..4].copy_from_slice(&word);
                length + TAG + 4
            }
            Cipher::CounterMode(mode) => {
                let CounterMode { key, salt, authentication } = &**mode;
                let iv = counter_mode_iv(salt, ssrc, u64::from(index));
                apply_counter_mode(key, iv, &mut buffer[RTCP_HEADER..length]);
                buffer[length..length + 4].copy_from_slice(&word);
                let tag = sha1_tag(authentication, [&buffer[..length + 4], &[]]);
                buffer[length + 4..length + 14].copy_from_slice(&tag);
                length + 14
            }
        }
    }
}

/// Unprotects what one peer sends. State for a source begins only with its first authentic packet.
pub struct SrtpReceiver {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_sources: Sources,
    rtcp_sources: Sources,
}

impl SrtpReceiver {
    fn new(profile: Profile, master: &[u8]) -> SrtpReceiver {
        SrtpReceiver {
            profile,
            rtp: Cipher::derive(profile, master, false),
            rtcp: Cipher::derive(profile, master, true),
            rtp_sources: Sources::default(),
            rtcp_sources: Sources::default(),
        }
    }

    /// Unprotects an RTP packet in place. `header_length`, `ssrc` and `sequence` come from its parsed header. Returns the
    /// length of the plain packet and its 48-bit index.
    pub fn unprotect_rtp(
        &mut self,
        packet: &mut [u8],
        header_length: usize,
        ssrc: u32,
        sequence: u16,
    ) -> Result<(usize, u64), SrtpError> {
        let length = packet.len().checked_sub(self.profile.tag_length()).ok_or(SrtpError::Short)?;
        if length < header_length {
            return Err(SrtpError::Short);
        }
        let place = self.rtp_sources.find(ssrc);
        let index = self.rtp_sources.guess_index(&place, sequence);
        if !self.rtp_sources.is_fresh(&place, index) {
            return Err(SrtpError::Replayed);
        }
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let (packet, tag) = packet.split_last_chunk_mut().ok_or(SrtpError::Short)?;
                let (header, payload) = packet.split_at_mut(header_length);
                key.open(&gcm_rtp_nonce(salt, ssrc, index), header, payload, tag).map_err(|_| SrtpError::BadTag)?;
            }
            Cipher::CounterMode(mode) => {
                let CounterMode { key, salt, authentication } = &**mode;
                let (packet, tag) = packet.split_at_mut(length);
                let rollover = ((index >> 16) as u32).to_be_bytes();
                verify_slices_are_equal(&sha1_tag(authentication, [packet, &rollover]), tag)
                    .map_err(|_| SrtpError::BadTag)?;
                apply_counter_mode(key, counter_mode_iv(salt, ssrc, index), &mut packet[header_length..]);
            }
        }
        self.rtp_sources.accept(place, ssrc, index);
        Ok((length, index))
    }

    /// Unprotects a (compound) RTCP packet in place and returns the length of the plain packet.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let tag_length = self.profile.tag_length();
        if packet.len() < RTCP_HEADER + 4 + tag_length {
            return Err(SrtpError::Short);
        }
        let ssrc = u32::from_be_bytes(packet[4..8].try_into().expect("four octets"));
        let length = packet.len() - 4 - tag_length;
        let word_at = match self.profile {
            // RFC 7714 §9.2: the word follows the tag.
            Profile::AeadAes256Gcm | Profile::AeadAes128Gcm => packet.len() - 4,
            // RFC 3711 §3.4: the tag follows the word.
            Profile::Aes128CmSha1_80 => length,
        };
        let word = u32::from_be_bytes(packet[word_at..word_at + 4].try_into().expect("four octets"));
        let index = word & !ENCRYPTED_FLAG;
        let encrypted = word & ENCRYPTED_FLAG != 0;
        let place = self.rtcp_sources.find(ssrc);
        if !self.rtcp_sources.is_fresh(&place, u64::from(index)) {
            return Err(SrtpError::Replayed);
        }
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                // RFC 7714 §9.3 allows SRTCP that is only authenticated; no endpoint sends it, and we refuse it.
                if !encrypted {
                    return Err(SrtpError::BadTag);
                }
                let mut aad = [0; RTCP_HEADER + 4];
                aad[..RTCP_HEADER].copy_from_slice(&packet[..RTCP_HEADER]);
                aad[RTCP_HEADER..].copy_from_slice(&word.to_be_bytes());
                let sealed = &mut packet[RTCP_HEADER..length + tag_length];
                let (payload, tag) = sealed.split_last_chunk_mut().ok_or(SrtpError::Short)?;
                key.open(&gcm_rtcp_nonce(salt, ssrc, index), &aad, payload, tag).map_err(|_| SrtpError::BadTag)?;
            }
            Cipher::CounterMode(mode) => {
                let CounterMode { key, salt, authentication } = &**mode;
                let tag = sha1_tag(authentication, [&packet[..length + 4], &[]]);
                verify_slices_are_equal(&tag, &packet[length + 4..]).map_err(|_| SrtpError::BadTag)?;
                if encrypted {
                    let iv = counter_mode_iv(salt, ssrc, u64::from(index));
                    apply_counter_mode(key, iv, &mut packet[RTCP_HEADER..length]);
                }
            }
        }
        self.rtcp_sources.accept(place, ssrc, u64::from(index));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILES: [Profile; 3] = [Profile::AeadAes256Gcm, Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80];

    fn keys(profile: Profile) -> MasterKeys {
        let material: Vec<u8> = (0..88).collect();
        MasterKeys::from_keying_material(profile, &material).unwrap()
    }

    fn rtp(sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 96, 0, 0, 0, 0, 0, 1, 0xca, 0xfe, 0xba, 0xbe];
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet.extend((0..100).map(|i| i ^ sequence as u8));
        packet
    }

    #[test]
    fn rfc_3711_b3_key_derivation() {
        let key = [0xE1, 0xF9, 0x7A, 0x0D, 0x3E, 0x01, 0x8B, 0xE0, 0xD6, 0x4F, 0xA3, 0x2C, 0x06, 0xDE, 0x41, 0x39];
        let salt = [0x0E, 0xC6, 0x75, 0xAD, 0x49, 0x8A, 0xFE, 0xEB, 0xB6, 0x96, 0x0B, 0x3A, 0xAB, 0xE6];
        let mut cipher_key = [0; 16];
        derive_key(&key, &salt, 0, &mut cipher_key);
        assert_eq!(
            cipher_key,
            [0xC6, 0x1E, 0x7A, 0x93, 0x74, 0x4F, 0x39, 0xEE, 0x10, 0x73, 0x4A, 0xFE, 0x3F, 0xF7, 0xA0, 0x87]
        );
        let mut cipher_salt = [0; 14];
        derive_key(&key, &salt, 2, &mut cipher_salt);
        assert_eq!(cipher_salt, [0x30, 0xCB, 0xBC, 0x08, 0x86, 0x3D, 0x8C, 0x85, 0xD4, 0x9D, 0xB3, 0x4A, 0x9A, 0xE1]);
        let mut authentication = [0; 20];
        derive_key(&key, &salt, 1, &mut authentication);
        assert_eq!(
            authentication[..16],
            [0xCE, 0xBE, 0x32, 0x1F, 0x6F, 0xF7, 0x71, 0x6B, 0x6F, 0xD4, 0xAB, 0x49, 0xAF, 0x25, 0x6A, 0x15]
        );
    }

    #[test]
    fn what_one_side_protects_the_other_unprotects() {
        for profile in PROFILES {
            let (sender, _) = keys(profile).server_contexts();
            let (_, mut receiver) = keys(profile).client_contexts();
            for index in [65_534u64, 65_535, 65_536, 65_537] {
                let plain = rtp(index as u16);
                let mut packet = plain.clone();
                packet.resize(plain.len() + RTP_OVERHEAD, 0);
                let length = sender.protect_rtp(&mut packet, 12, plain.len(), 0xcafe_babe, index);
                let mut copy = [&plain[..12], &vec![0; packet.len() - 12]].concat();
                assert_eq!(sender.protect_rtp_of(&mut copy, 12, &plain[12..], 0xcafe_babe, index), length);
                assert_eq!(copy[..length], packet[..length]);
                assert_ne!(packet[12..plain.len()], plain[12..]);
                packet.truncate(length);
                let mut again = packet.clone();
                let (length, got) = receiver.unprotect_rtp(&mut packet, 12, 0xcafe_babe, index as u16).unwrap();
                assert_eq!((&packet[..length], got), (&plain[..], index), "{profile:?}");
                assert_eq!(receiver.unprotect_rtp(&mut again, 12, 0xcafe_babe, index as u16), Err(SrtpError::Replayed));
            }
        }
    }

    #[test]
    fn rtcp_there_and_back() {
        for profile in PROFILES {
            let (mut sender, _) = keys(profile).server_contexts();
            let (_, mut receiver) = keys(profile).client_contexts();
            for _ in 0..3 {
                let plain: Vec<u8> = [0x81, 206, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8].to_vec();
                let mut packet = plain.clone();
                packet.resize(plain.len() + RTCP_OVERHEAD, 0);
                let length = sender.protect_rtcp(&mut packet, plain.len());
                packet.truncate(length);
                let mut again = packet.clone();
                let length = receiver.unprotect_rtcp(&mut packet).unwrap();
                assert_eq!(packet[..length], plain[..], "{profile:?}");
                assert_eq!(receiver.unprotect_rtcp(&mut again), Err(SrtpError::Replayed));
            }
        }
    }

    #[test]
    fn any_changed_bit_is_noticed_and_leaves_no_state() {
        for profile in PROFILES {
            let (mut sender, _) = keys(profile).server_contexts();
            let (_, mut receiver) = keys(profile).client_contexts();
            let mut packet = rtp(7);
            let plain = packet.len();
            packet.resize(plain + RTP_OVERHEAD, 0);
            let length = sender.protect_rtp(&mut packet, 12, plain, 0xcafe_babe, 7);
            for at in [1, 12, 50, length - 1] {
                let mut broken = packet[..length].to_vec();
                broken[at] ^= 1;
                assert_eq!(receiver.unprotect_rtp(&mut broken, 12, 0xcafe_babe, 7), Err(SrtpError::BadTag));
            }
            let mut rtcp = vec![0x80, 201, 0, 1, 1, 2, 3, 4];
            rtcp.resize(8 + RTCP_OVERHEAD, 0);
            let length = sender.protect_rtcp(&mut rtcp, 8);
            for at in 0..length {
                let mut broken = rtcp[..length].to_vec();
                broken[at] ^= 1;
                assert!(receiver.unprotect_rtcp(&mut broken).is_err());
            }
            assert!(receiver.rtp_sources.is_empty() && receiver.rtcp_sources.is_empty());
        }
    }

    #[test]
    fn short_packets_are_refused() {
        for profile in PROFILES {
            let (_, mut receiver) = keys(profile).client_contexts();
            for length in 0..28 {
                let mut packet = vec![0x80; length];
                assert!(receiver.unprotect_rtp(&mut packet, 12, 1, 1).is_err());
                assert!(receiver.unprotect_rtcp(&mut packet).is_err());
            }
        }
    }

    #[test]
    fn a_source_that_was_displaced_comes_back_and_its_old_packets_do_not() {
        let (sender, _) = keys(Profile::AeadAes128Gcm).server_contexts();
        let (_, mut receiver) = keys(Profile::AeadAes128Gcm).client_contexts();
        let mut receive = |ssrc: u32, index: u64| {
            let mut packet = rtp(index as u16);
            packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
            let plain = packet.len();
            packet.resize(plain + RTP_OVERHEAD, 0);
            sender.protect_rtp(&mut packet, 12, plain, ssrc, index);
            receiver.unprotect_rtp(&mut packet, 12, ssrc, index as u16).map(|(_, index)| index)
        };
        for index in [40_000, 65_000, 65_540] {
            assert_eq!(receive(7, index), Ok(index));
        }
        for ssrc in 100..300 {
            assert_eq!(receive(ssrc, 1), Ok(1));
        }
        assert_eq!(receive(7, 65_540), Err(SrtpError::Replayed));
        assert_eq!(receive(7, 65_539), Err(SrtpError::Replayed));
        assert_eq!(receive(7, 65_541), Ok(65_541));
        assert_eq!(receive(100, 1), Err(SrtpError::Replayed));
    }
}
