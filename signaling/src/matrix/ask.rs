//! What the homeserver is asked over HTTP, and what it answers, as values.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An [`Ask`]'s number; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
}

/// One request to the configured homeserver; no other server is ever the target of one.
#[derive(Clone, PartialEq)]
pub struct Ask {
    pub method: Method,
    /// Path and query, as they go over the wire. Made of [`segment`]s where a stranger's text is part of it.
    pub path: String,
    /// Whether the as_token goes along.
    pub authorised: bool,
    pub body: Option<Value>,
}

impl Ask {
    pub fn get(path: String) -> Ask {
        Ask { method: Method::Get, path, authorised: true, body: None }
    }

    pub fn post(path: String, body: Value) -> Ask {
        Ask { method: Method::Post, path, authorised: true, body: Some(body) }
    }

    /// The homeserver's own rights decide, not the appservice's.
    pub fn without_token(self) -> Ask {
        Ask { authorised: false, ..self }
    }
}

/// The path may hold an OpenID token, the body anything.
impl std::fmt::Debug for Ask {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        write!(formatter, "{:?} {path}", self.method)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Status {
        status: u16,
        /// Of the header; a 429 of Matrix may have it in the body only: see [`Answer::retry_after`].
        retry_after: Option<Duration>,
        /// At most [`Answer::LIMIT`] octets.
        body: Bytes,
    },
    /// Refused, reset, too slow, too long or not HTTP; or too much is being asked already.
    Unreachable,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MatrixError {
    errcode: String,
    retry_after_ms: Option<u64>,
}

impl Answer {
    /// Octets of an answer's body.
    pub const LIMIT: usize = 64 << 10;

    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        match self {
            Answer::Status { status: 200..=299, body, .. } => serde_json::from_slice(body).ok(),
            _ => None,
        }
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Answer::Status { status, .. } => Some(*status),
            Answer::Unreachable => None,
        }
    }

    fn error(&self) -> MatrixError {
        match self {
            Answer::Status { body, .. } => serde_json::from_slice(body).unwrap_or_default(),
            Answer::Unreachable => MatrixError::default(),
        }
    }

    /// Matrix' name of the error; empty if there is none.
    pub fn errcode(&self) -> String {
        self.error().errcode
    }

    /// How long the homeserver wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Answer::Status { retry_after: Some(after), .. } => Some(*after),
            Answer::Status { status: 429, .. } => self.error().retry_after_ms.map(Duration::from_millis),
            _ => None,
        }
    }
}

/// `text` as one segment of a path, or one value of a query (RFC 3986 §2.3: all but unreserved characters is escaped).
pub fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => escaped.push(octet.into()),
            // A dot is unreserved too, but a segment of dots alone is not what it seems.
            _ => {
                let _ = write!(escaped, "%{octet:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("!room:example.org"), "%21room%3Aexample%2Eorg");
        assert_eq!(segment("../x?y#z&a=b %ä"), "%2E%2E%2Fx%3Fy%23z%26a%3Db%20%25%C3%A4");
    }

    #[test]
    fn a_429_says_when_to_come_back_in_either_place() {
        let answer = |retry_after, body: &'static str| Answer::Status { status: 429, retry_after, body: body.into() };
        let header = answer(Some(Duration::from_secs(2)), r#"{"retry_after_ms":1}"#);
        assert_eq!(header.retry_after(), Some(Duration::from_secs(2)));
        let body = answer(None, r#"{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":1500}"#);
        assert_eq!(body.retry_after(), Some(Duration::from_millis(1500)));
        assert_eq!(body.errcode(), "M_LIMIT_EXCEEDED");
        assert_eq!(answer(None, "[").retry_after(), None);
        assert_eq!(Answer::Unreachable.errcode(), "");
    }

    #[test]
    fn tokens_in_an_address_are_not_shown() {
        let ask = Ask::get("/_matrix/federation/v1/openid/userinfo?access_token=abc".into());
        assert!(!format!("{ask:?}").contains("abc"));
    }
}
