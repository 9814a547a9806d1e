use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datapath::stun::{Key, Message};
use md5::{Digest, Md5};

/// Octets of the longest realm: a longer one only makes the 401 larger that anybody can call for.
const REALM_LEN_MAX: usize = 16;

/// Who may allocate: users with a password, and whoever shows a REST credential made with one of the secrets.
#[derive(Clone)]
pub struct Credentials {
    realm: String,
    users: Vec<(Vec<u8>, Key)>,
    secrets: Vec<hmac::Key>,
    strict_expiry: bool,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("realm", &self.realm).finish_non_exhaustive()
    }
}

/// A user who has proved to know the password.
#[derive(Clone, Debug)]
pub struct Authenticated<'a> {
    pub username: &'a [u8],
    /// Whom the quota counts: the part behind the expiry of a REST username, where there is one.
    pub user: &'a [u8],
    pub key: Key,
    /// When the credential expires, since the Unix epoch.
    pub expires: Option<Duration>,
}

impl Credentials {
    /// Panics if the realm is longer than 16 octets: the configuration has been validated.
    pub fn new(realm: &str) -> Credentials {
        assert!(realm.len() <= REALM_LEN_MAX, "the realm is longer than {REALM_LEN_MAX} octets");
        Credentials { realm: realm.to_owned(), users: Vec::new(), secrets: Vec::new(), strict_expiry: false }
    }

    /// Adds a user with a password.
    pub fn with_user(mut self, name: &str, password: &str) -> Credentials {
        let key = long_term_key(name.as_bytes(), &self.realm, password);
        self.users.push((name.as_bytes().to_owned(), key));
        self
    }

    /// Adds a secret shared with whoever hands out REST credentials. Several may be valid, so that one can be replaced.
    pub fn with_secret(mut self, secret: &[u8]) -> Credentials {
        self.secrets.push(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret));
        self
    }

    /// Ends an allocation when its credential expires. Without this a call may outlast the credential it began with.
    pub fn with_strict_expiry(mut self) -> Credentials {
        self.strict_expiry = true;
        self
    }

    pub fn realm(&self) -> &str {
        &self.realm
    }

    pub(crate) fn strict_expiry(&self) -> bool {
        self.strict_expiry
    }

    /// Who sent the message, if its MESSAGE-INTEGRITY was made with that user's password. Whether the credential has
    /// expired is the caller's question.
    pub(crate) fn authenticate<'a>(&self, message: &Message<'a>) -> Option<Authenticated<'a>> {
        let username = message.username()?;
        for (name, key) in &self.users {
            if name == username {
                return message.verify_integrity(key).then(|| Authenticated {
                    username,
                    user: username,
                    key: key.clone(),
                    expires: None,
                });
            }
        }
        let (expires, user) = rest_username(username)?;
        for secret in &self.secrets {
            let key = long_term_key(username, &self.realm, &password(secret, username));
            if message.verify_integrity(&key) {
                return Some(Authenticated { username, user: user.unwrap_or(username), key, expires: Some(expires) });
            }
        }
        None
    }
}

/// The password of a REST credential: base64 of HMAC-SHA1 over the username (draft-uberti-behave-turn-rest §2.2).
pub fn rest_password(secret: &[u8], username: &str) -> String {
    let secret = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    password(&secret, username.as_bytes())
}

fn password(secret: &hmac::Key, username: &[u8]) -> String {
    STANDARD.encode(hmac::sign(secret, username))
}

/// RFC 8489 §9.2.2.
fn long_term_key(username: &[u8], realm: &str, password: &str) -> Key {
    let mut hash = Md5::new();
    hash.update(username);
    hash.update(b":");
    hash.update(realm.as_bytes());
    hash.update(b":");
    hash.update(password.as_bytes());
    Key::new(&hash.finalize())
}

/// `expiry[:user]`: seconds since the Unix epoch, and who it was made for.
fn rest_username(username: &[u8]) -> Option<(Duration, Option<&[u8]>)> {
    let digits = username.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let (expiry, rest) = username.split_at(digits);
    let user = match rest {
        [] => None,
        [b':', user @ ..] => Some(user),
        _ => return None,
    };
    // More digits than a number holds are in the far future, but nobody means that.
    let expiry: u64 = std::str::from_utf8(expiry).ok()?.parse().ok()?;
    Some((Duration::from_secs(expiry), user.filter(|user| !user.is_empty())))
}

#[cfg(test)]
mod tests {
    use datapath::stun::{Class, Method, TransactionId, Writer};

    use super::*;

    fn request(buffer: &mut [u8], username: &str, password: &str) -> usize {
        let mut writer = Writer::new(buffer, Class::Request, Method::ALLOCATE, TransactionId([3; 12]));
        writer.username(username.as_bytes());
        writer.finish_with_integrity(&long_term_key(username.as_bytes(), "hausruf", password), false).unwrap()
    }

    #[test]
    fn rest_usernames() {
        let read = |name: &'static str| rest_username(name.as_bytes());
        let expiry = Duration::from_secs(1_800_000_000);
        assert_eq!(read("1800000000"), Some((expiry, None)));
        assert_eq!(read("1800000000:"), Some((expiry, None)));
        assert_eq!(read("1800000000:@a:example.org"), Some((expiry, Some(&b"@a:example.org"[..]))));
        assert_eq!(read(""), None);
        assert_eq!(read(":a"), None);
        assert_eq!(read("1800000000a"), None);
        assert_eq!(read("99999999999999999999999"), None);
    }

    #[test]
    fn rest_password_of_a_known_secret() {
        // printf '1800000000:alice' | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(rest_password(b"north", "1800000000:alice"), "sIm7pn/teO7y3AyXGeXl/xAQR6Q=");
    }

    #[test]
    fn a_message_is_proof_of_the_password() {
        let credentials =
            Credentials::new("hausruf").with_user("bob", "builder").with_secret(b"old").with_secret(b"new");
        let mut buffer = [0; 256];
        let mut user_of = |name: &str, password: &str| {
            let length = request(&mut buffer, name, password);
            let message = Message::parse(&buffer[..length]).unwrap();
            credentials.authenticate(&message).map(|who| (who.user.to_vec(), who.expires))
        };
        assert_eq!(user_of("bob", "builder"), Some((b"bob".to_vec(), None)));
        assert_eq!(user_of("bob", "breaker"), None);
        assert_eq!(user_of("eve", "builder"), None);
        for secret in [b"old", b"new"] {
            let password = rest_password(secret, "1800000000:alice");
            let expected = Some((b"alice".to_vec(), Some(Duration::from_secs(1_800_000_000))));
            assert_eq!(user_of("1800000000:alice", &password), expected);
            assert_eq!(user_of("1800000001:alice", &password), None, "the expiry is part of the proof");
        }
        assert_eq!(user_of("1800000000:alice", &rest_password(b"stolen", "1800000000:alice")), None);
    }
}
