use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datapath::stun::{AttributeType, Key, KeySha256, Message, Writer};
use md5::{Digest, Md5};

/// Octets of the longest realm: a longer one only makes the 401 larger that anybody can call for.
const REALM_LEN_MAX: usize = 16;

/// Who may allocate: users with a password, and whoever shows a REST credential made with one of the secrets.
#[derive(Clone)]
pub struct Credentials {
    realm: String,
    users: Vec<User>,
    secrets: Vec<Secret>,
    origins: BTreeSet<Origin>,
    /// How long an allocation may outlive its credential; `None`: for ever.
    grace: Option<Duration>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("realm", &self.realm).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct User {
    name: Vec<u8>,
    /// USERHASH (RFC 8489 §14.4).
    hash: [u8; 32],
    /// The long-term keys of both algorithms (RFC 8489 §18.5.1).
    md5: [u8; 16],
    sha256: [u8; 32],
}

#[derive(Clone)]
struct Secret {
    key: hmac::Key,
    origin: Origin,
}

/// The user's password or the shared secret that is behind a credential, as 64 bits of its hash: an allocation remembers
/// it without knowing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin([u8; 8]);

impl Origin {
    fn of(hash: &[u8; 32]) -> Origin {
        let [a, b, c, d, e, f, g, h, ..] = *hash;
        Origin([a, b, c, d, e, f, g, h])
    }
}

impl User {
    fn origin(&self) -> Origin {
        Origin::of(&self.sha256)
    }
}

/// How a password becomes a key (RFC 8489 §18.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordAlgorithm {
    Md5,
    Sha256,
}

impl PasswordAlgorithm {
    /// The value of PASSWORD-ALGORITHMS: SHA-256, then MD5, neither with parameters.
    pub const OFFERED: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

    /// RFC 8489 §9.2.4: MD5 where the client says nothing. `None` when what it says was not offered: somebody on the way
    /// may have taken the better one out.
    pub fn of(message: &Message<'_>) -> Option<PasswordAlgorithm> {
        let offered = message.attribute(AttributeType::PASSWORD_ALGORITHMS);
        match (offered, message.attribute(AttributeType::PASSWORD_ALGORITHM)) {
            (None, None) => Some(PasswordAlgorithm::Md5),
            (Some(offered), Some(chosen)) if *offered == Self::OFFERED => match chosen {
                [0, 1, 0, 0] => Some(PasswordAlgorithm::Md5),
                [0, 2, 0, 0] => Some(PasswordAlgorithm::Sha256),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The key of whichever attribute seals a client's messages.
#[derive(Clone, Debug)]
pub enum Seal {
    Sha1(Key),
    Sha256(KeySha256),
}

impl Seal {
    /// For the seal that the message has; the stronger one if it has both.
    fn of(message: &Message<'_>, key: &[u8]) -> Seal {
        if message.has_integrity_sha256() { Seal::Sha256(KeySha256::new(key)) } else { Seal::Sha1(Key::new(key)) }
    }

    fn verifies(&self, message: &Message<'_>) -> bool {
        match self {
            Seal::Sha1(key) => message.verify_integrity(key),
            Seal::Sha256(key) => message.verify_integrity_sha256(key),
        }
    }

    pub fn finish(&self, writer: Writer<'_>, fingerprint: bool) -> Option<usize> {
        match self {
            Seal::Sha1(key) => writer.finish_with_integrity(key, fingerprint),
            Seal::Sha256(key) => writer.finish_with_integrity_sha256(key, fingerprint),
        }
    }
}

/// A user who has proved to know the password.
#[derive(Clone, Debug)]
pub struct Authenticated<'a> {
    pub username: Cow<'a, [u8]>,
    /// Whom the quota counts: the part behind the expiry of a REST username, where there is one.
    pub user: Cow<'a, [u8]>,
    pub seal: Seal,
    pub origin: Origin,
    /// When the credential expires, since the Unix epoch.
    pub expires: Option<Duration>,
}

impl Credentials {
    /// Panics if the realm is longer than 16 octets: the configuration has been validated.
    pub fn new(realm: &str) -> Credentials {
        assert!(realm.len() <= REALM_LEN_MAX, "the realm is longer than {REALM_LEN_MAX} octets");
        Credentials {
            realm: realm.to_owned(),
            users: Vec::new(),
            secrets: Vec::new(),
            origins: BTreeSet::new(),
            grace: None,
        }
    }

    /// Adds a user with a password.
    pub fn with_user(mut self, name: &str, password: &str) -> Credentials {
        let name = name.as_bytes();
        let text = long_term_text(name, &self.realm, password);
        let user_and_realm = [name, b":", self.realm.as_bytes()].concat();
        let user = User {
            name: name.to_owned(),
            hash: sha256(&user_and_realm),
            md5: Md5::digest(&text).into(),
            sha256: sha256(&text),
        };
        self.origins.insert(user.origin());
        self.users.push(user);
        self
    }

    /// Adds a secret shared with whoever hands out REST credentials. Several may be valid, so that one can be replaced.
    pub fn with_secret(mut self, secret: &[u8]) -> Credentials {
        let origin = Origin::of(&sha256(secret));
        self.origins.insert(origin);
        self.secrets.push(Secret { key: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret), origin });
        self
    }

    /// Ends an allocation this long after its credential has expired, or has been taken back by a reload. Without this a call may outlast the credential it
    /// began with.
    pub fn with_expiry(mut self, grace: Duration) -> Credentials {
        self.grace = Some(grace);
        self
    }

    pub fn realm(&self) -> &str {
        &self.realm
    }

    pub(crate) fn grace(&self) -> Option<Duration> {
        self.grace
    }

    /// Whether what is behind a credential still counts.
    pub(crate) fn vouch_for(&self, origin: Origin) -> bool {
        self.origins.contains(&origin)
    }

    /// Whether every user's name may come hashed: that of a REST credential is needed to know its password.
    pub(crate) fn username_anonymity(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Who sent the message, if its seal was made with that user's password. Whether the credential has expired is the
    /// caller's question.
    pub(crate) fn authenticate<'a>(
        &self,
        message: &Message<'a>,
        algorithm: PasswordAlgorithm,
    ) -> Option<Authenticated<'a>> {
        let sealed = |key: &[u8]| Some(Seal::of(message, key)).filter(|seal| seal.verifies(message));
        let (name, hash) = (message.username(), message.userhash());
        let known = |user: &&User| match name {
            Some(name) => *user.name == *name,
            None => hash == Some(user.hash),
        };
        if let Some(user) = self.users.iter().find(known) {
            let key = match algorithm {
                PasswordAlgorithm::Md5 => &user.md5[..],
                PasswordAlgorithm::Sha256 => &user.sha256,
            };
            let seal = sealed(key)?;
            let name = name.map_or_else(|| Cow::Owned(user.name.clone()), Cow::Borrowed);
            let origin = user.origin();
            return Some(Authenticated { username: name.clone(), user: name, seal, origin, expires: None });
        }
        let username = name?;
        let (expires, user) = rest_username(username)?;
        for secret in &self.secrets {
            let text = long_term_text(username, &self.realm, &password(&secret.key, username));
            let seal = match algorithm {
                PasswordAlgorithm::Md5 => sealed(&Md5::digest(&text)),
                PasswordAlgorithm::Sha256 => sealed(&sha256(&text)),
            };
            if let Some(seal) = seal {
                let (username, user) = (Cow::Borrowed(username), Cow::Borrowed(user.unwrap_or(username)));
                let origin = secret.origin;
                return Some(Authenticated { username, user, seal, origin, expires: Some(expires) });
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

/// What both algorithms hash to the key (RFC 8489 §18.5.1).
fn long_term_text(username: &[u8], realm: &str, password: &str) -> Vec<u8> {
    [username, b":", realm.as_bytes(), b":", password.as_bytes()].concat()
}

fn sha256(text: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, text).as_ref());
    hash
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
    use datapath::stun::{Class, Method, TransactionId};

    use super::*;

    fn request(buffer: &mut [u8], username: &str, password: &str) -> usize {
        let mut writer = Writer::new(buffer, Class::Request, Method::ALLOCATE, TransactionId([3; 12]));
        writer.username(username.as_bytes());
        let key = Key::new(&Md5::digest(long_term_text(username.as_bytes(), "hausruf", password)));
        writer.finish_with_integrity(&key, false).unwrap()
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
            credentials.authenticate(&message, PasswordAlgorithm::Md5).map(|who| (who.user.to_vec(), who.expires))
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
