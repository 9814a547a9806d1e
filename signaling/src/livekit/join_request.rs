//! The `join_request` parameter: base64url of a possibly compressed protobuf message.

use std::io::Read;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use livekit_protocol::{JoinRequest, WrappedJoinRequest, wrapped_join_request::Compression};
use prost::Message;

/// Octets of the message after decompression.
pub const LIMIT: usize = 1 << 20;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinRequestError {
    Missing,
    NotBase64,
    Malformed,
    /// More than [`LIMIT`] octets once decompressed.
    TooLarge,
    UnknownCompression,
}

impl JoinRequestError {
    pub fn text(self) -> &'static str {
        match self {
            JoinRequestError::Missing => "join_request is required",
            JoinRequestError::NotBase64 => "cannot base64 decode join request",
            JoinRequestError::Malformed => "cannot unmarshal join request",
            JoinRequestError::TooLarge => "cannot decompress join request: too large",
            JoinRequestError::UnknownCompression => "unknown join request compression",
        }
    }
}

/// Decodes what stands in the URL, after percent-decoding. Either base64 alphabet, with or without padding; a `+` may
/// have become a space on the way.
pub fn decode(parameter: &str) -> Result<JoinRequest, JoinRequestError> {
    if parameter.is_empty() {
        return Err(JoinRequestError::Missing);
    }
    let url_safe: Vec<u8> = parameter
        .bytes()
        .map(|byte| match byte {
            b'+' | b' ' => b'-',
            b'/' => b'_',
            other => other,
        })
        .collect();
    let bytes = LENIENT.decode(url_safe).map_err(|_| JoinRequestError::NotBase64)?;
    let wrapped = WrappedJoinRequest::decode(&bytes[..]).map_err(|_| JoinRequestError::Malformed)?;
    let inner = match Compression::try_from(wrapped.compression) {
        Ok(Compression::None) => wrapped.join_request,
        Ok(Compression::Gzip) => inflate(&wrapped.join_request)?,
        Err(_) => return Err(JoinRequestError::UnknownCompression),
    };
    if inner.len() > LIMIT {
        return Err(JoinRequestError::TooLarge);
    }
    JoinRequest::decode(&inner[..]).map_err(|_| JoinRequestError::Malformed)
}

/// Reads at most one octet more than the limit, so that a bomb costs no more than an honest request.
fn inflate(compressed: &[u8]) -> Result<Vec<u8>, JoinRequestError> {
    let mut inner = Vec::new();
    flate2::read::GzDecoder::new(compressed)
        .take(LIMIT as u64 + 1)
        .read_to_end(&mut inner)
        .map_err(|_| JoinRequestError::Malformed)?;
    if inner.len() > LIMIT {
        return Err(JoinRequestError::TooLarge);
    }
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};

    use super::*;

    fn wrap(compression: Compression, inner: &[u8]) -> Vec<u8> {
        let join_request = match compression {
            Compression::None => inner.to_vec(),
            Compression::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                writer.write_all(inner).unwrap();
                writer.finish().unwrap()
            }
        };
        WrappedJoinRequest { compression: compression as i32, join_request }.encode_to_vec()
    }

    #[test]
    fn every_spelling_of_base64_is_read() {
        let request = JoinRequest { participant_sid: "PA_???>>>~~~".into(), reconnect: true, ..Default::default() };
        for compression in [Compression::None, Compression::Gzip] {
            let bytes = wrap(compression, &request.encode_to_vec());
            let standard = BASE64_STANDARD.encode(&bytes);
            for text in [
                BASE64_URL_SAFE.encode(&bytes),
                BASE64_URL_SAFE_NO_PAD.encode(&bytes),
                standard.replace('+', " "),
                standard,
            ] {
                assert_eq!(decode(&text).as_ref(), Ok(&request), "{text}");
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_without_being_unpacked() {
        let bomb = wrap(Compression::Gzip, &vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000);
        let text = BASE64_URL_SAFE.encode(bomb);
        assert_eq!(decode(&text), Err(JoinRequestError::TooLarge));
        let plain = wrap(Compression::None, &vec![0; LIMIT + 1]);
        let text = BASE64_URL_SAFE.encode(plain);
        assert_eq!(decode(&text), Err(JoinRequestError::TooLarge));
    }

    #[test]
    fn rubbish_is_refused() {
        assert_eq!(decode(""), Err(JoinRequestError::Missing));
        assert_eq!(decode("%%%"), Err(JoinRequestError::NotBase64));
        assert_eq!(decode("////"), Err(JoinRequestError::Malformed));
        let broken = wrap(Compression::Gzip, b"x");
        let text = BASE64_URL_SAFE.encode(&broken[..broken.len() - 4]);
        assert_eq!(decode(&text), Err(JoinRequestError::Malformed));
        let unknown = WrappedJoinRequest { compression: 9, join_request: vec![] };
        let text = BASE64_URL_SAFE.encode(unknown.encode_to_vec());
        assert_eq!(decode(&text), Err(JoinRequestError::UnknownCompression));
    }
}
