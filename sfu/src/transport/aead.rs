//! AES-GCM with keys whose memory can be fetched ahead.
//!
//! It is aws-lc's, called directly: aws-lc-rs shows nobody where the half kilobyte of a key lies, and a worker that has one
//! for each subscriber waits for it with every frame (6 % of what forwarding costs at 1 to 50).
#![allow(unsafe_code)] // calls of a C library

use std::ptr::{NonNull, null};

use aws_lc_rs::error::Unspecified;
use aws_lc_sys::{
    EVP_AEAD_CTX, EVP_AEAD_CTX_free, EVP_AEAD_CTX_new, EVP_AEAD_CTX_open_gather, EVP_AEAD_CTX_seal_scatter,
    EVP_aead_aes_128_gcm, EVP_aead_aes_256_gcm,
};
use datapath::prefetch;

/// Octets of a nonce, and of a tag.
pub const NONCE: usize = 12;
pub const TAG: usize = 16;

/// A key of AES-128-GCM or AES-256-GCM, ready for use. Its memory is cleared in the end.
pub struct AeadKey(NonNull<EVP_AEAD_CTX>);

// SAFETY: the context is this value's alone and belongs to no thread.
unsafe impl Send for AeadKey {}

impl AeadKey {
    /// `key` has 16 or 32 octets.
    pub fn new(key: &[u8]) -> AeadKey {
        // SAFETY: both functions return a constant.
        let algorithm = match key.len() {
            16 => unsafe { EVP_aead_aes_128_gcm() },
            32 => unsafe { EVP_aead_aes_256_gcm() },
            length => panic!("a key of {length} octets"),
        };
        // SAFETY: the key is read during the call, and is as long as said.
        let context = unsafe { EVP_AEAD_CTX_new(algorithm, key.as_ptr(), key.len(), TAG) };
        AeadKey(NonNull::new(context).expect("a key of the right length, and memory"))
    }

    /// Has the key in the cache soon (see [`prefetch()`]).
    pub fn prefetch(&self) {
        // SAFETY: it points to a live context, which nobody changes.
        prefetch(unsafe { self.0.as_ref() });
    }

    /// Encrypts `plain` to `text`, which is as long, or without it `text` in place, and writes the tag of it and `additional`
    /// to `tag`. No nonce is used for two messages.
    pub fn seal(
        &self,
        nonce: &[u8; NONCE],
        additional: &[u8],
        plain: Option<&[u8]>,
        text: &mut [u8],
        tag: &mut [u8; TAG],
    ) {
        assert!(plain.is_none_or(|plain| plain.len() == text.len()));
        let from = plain.map_or(text.as_ptr(), <[u8]>::as_ptr);
        let mut tag_length = 0;
        // SAFETY: every pointer is to as many octets as the length behind it says; the plain text may lie where the
        // encrypted one is written, or wholly elsewhere; a context is not changed by its use.
        let done = unsafe {
            EVP_AEAD_CTX_seal_scatter(
                self.0.as_ptr(),
                text.as_mut_ptr(),
                tag.as_mut_ptr(),
                &mut tag_length,
                TAG,
                nonce.as_ptr(),
                NONCE,
                from,
                text.len(),
                null(),
                0,
                additional.as_ptr(),
                additional.len(),
            )
        };
        assert!(done == 1 && tag_length == TAG, "a packet is far shorter than GCM's limit");
    }

    /// Decrypts `text` in place, if the tag is that of it and `additional`. Else nothing useful is left of it.
    pub fn open(
        &self,
        nonce: &[u8; NONCE],
        additional: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<(), Unspecified> {
        // SAFETY: as in `seal`.
        let done = unsafe {
            EVP_AEAD_CTX_open_gather(
                self.0.as_ptr(),
                text.as_mut_ptr(),
                nonce.as_ptr(),
                NONCE,
                text.as_ptr(),
                text.len(),
                tag.as_ptr(),
                TAG,
                additional.as_ptr(),
                additional.len(),
            )
        };
        if done == 1 { Ok(()) } else { Err(Unspecified) }
    }
}

impl Drop for AeadKey {
    fn drop(&mut self) {
        // SAFETY: it was made by EVP_AEAD_CTX_new and is freed once.
        unsafe { EVP_AEAD_CTX_free(self.0.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    use super::*;

    #[test]
    fn seals_and_opens_as_the_safe_interface_does() {
        for (algorithm, length) in [(&AES_128_GCM, 16), (&AES_256_GCM, 32)] {
            let octets: Vec<u8> = (0..length).collect();
            let ours = AeadKey::new(&octets);
            let theirs = LessSafeKey::new(UnboundKey::new(algorithm, &octets).unwrap());
            for size in [0, 1, 16, 17, 1200] {
                let (nonce, additional) = ([size as u8; NONCE], [7; 20]);
                let plain: Vec<u8> = (0..size).map(|at| at as u8).collect();
                let (mut text, mut tag) = (plain.clone(), [0; TAG]);
                ours.prefetch();
                ours.seal(&nonce, &additional, None, &mut text, &mut tag);
                let mut expected = plain.clone();
                theirs
                    .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(additional), &mut expected)
                    .unwrap();
                assert_eq!([&text[..], &tag].concat(), expected);
                let (mut elsewhere, mut other_tag) = (vec![0xFF; size], [0; TAG]);
                ours.seal(&nonce, &additional, Some(&plain), &mut elsewhere, &mut other_tag);
                assert_eq!((&elsewhere, other_tag), (&text, tag));
                assert!(ours.open(&nonce, &additional, &mut text, &tag).is_ok());
                assert_eq!(text, plain);
            }
        }
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let key = AeadKey::new(&[1; 16]);
        let (mut text, mut tag) = ([5; 100], [0; TAG]);
        key.seal(&[2; NONCE], &[3], None, &mut text, &mut tag);
        let sealed = text;
        assert!(key.open(&[2; NONCE], &[4], &mut text, &tag).is_err());
        text = sealed;
        text[99] ^= 1;
        assert!(key.open(&[2; NONCE], &[3], &mut text, &tag).is_err());
        text = sealed;
        assert!(key.open(&[2; NONCE], &[3], &mut text, &[0; TAG]).is_err());
        text = sealed;
        assert!(key.open(&[9; NONCE], &[3], &mut text, &tag).is_err());
        text = sealed;
        assert!(key.open(&[2; NONCE], &[3], &mut text, &tag).is_ok());
        assert_eq!(text, [5; 100]);
    }
}
