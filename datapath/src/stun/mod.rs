//! STUN (RFC 8489) as both the relay and the transports read and write it: views over the received octets, and a
//! writer into the caller's buffer. Nothing here allocates.
//!
//! # Deviations
//! - USERNAME and REALM are compared as octets; no PRECIS profile is applied (RFC 8489 §14.3, §14.9).
//! - A message whose known attribute has an impossible length is malformed as a whole and is dropped (RFC 8489 §6.3),
//!   not answered with 400.

mod address;
mod attribute;
pub mod channel_data;
mod error_code;
mod integrity;
mod message;
mod message_type;
mod writer;

pub use attribute::{Attribute, AttributeType};
pub use channel_data::ChannelData;
pub use error_code::ErrorCode;
pub use integrity::{Key, KeySha256};
pub use message::{Message, ParseError, UnknownAttributes};
pub use message_type::{Class, Method, TransactionId};
pub use writer::Writer;

/// RFC 8489 §5: the fixed second word of every message.
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

/// Octets of the message header.
pub const HEADER_LEN: usize = 20;

#[cfg(test)]
mod vectors;

/// The body of the fuzz target `stun`: no input may panic, and what parses must survive a second reading.
#[doc(hidden)]
pub fn fuzz_stun(data: &[u8]) {
    let _ = (crate::steering::of_check(data), crate::steering::of_request(data));
    let key = Key::new(b"key");
    if let Ok(message) = Message::parse(data) {
        let key_sha256 = KeySha256::new(b"key");
        let _ = (message.verify_integrity(&key), message.verify_integrity_sha256(&key_sha256));
        let _ = message.fingerprint_is_valid();
        let mut buffer = [0u8; 2048];
        let mut writer = Writer::new(&mut buffer, message.class(), message.method(), message.transaction_id());
        for attribute in message.attributes() {
            writer.attribute(attribute.kind, attribute.value);
        }
        message.exercise_getters();
        if let Some(length) = writer.finish_with_integrity(&key, true) {
            let again = Message::parse(&buffer[..length]).expect("what is written parses");
            assert!(again.verify_integrity(&key) && again.fingerprint_is_valid());
            assert!(message.attributes().eq(again.attributes()));
        }
        let mut writer = Writer::new(&mut buffer, message.class(), message.method(), message.transaction_id());
        for attribute in message.attributes() {
            writer.attribute(attribute.kind, attribute.value);
        }
        if let Some(length) = writer.finish_with_integrity_sha256(&key_sha256, true) {
            let again = Message::parse(&buffer[..length]).expect("what is written parses");
            assert!(again.verify_integrity_sha256(&key_sha256) && again.fingerprint_is_valid());
            assert!(message.attributes().eq(again.attributes()));
        }
    }
    if let Some(channel_data) = ChannelData::parse(data) {
        assert!(channel_data.payload.end <= data.len());
    }
}
