//! `[matrix]`: the homeserver beside which this program stands.

use std::path::PathBuf;

use crate::file::{self, MatrixPolicy};
use ipnet::IpNet;

use crate::{Problems, Secret};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Base address of the homeserver's client API as this machine reaches it, without a slash at the end.
    pub homeserver: String,
    /// What stands behind the colon of the homeserver's user ids.
    pub server_name: String,
    /// Public base address of this program: `livekit_service_url` for clients; without a slash at the end.
    pub url: String,
    pub as_token: Secret,
    pub hs_token: Secret,
    /// Where delegated leaves survive a restart.
    pub store: PathBuf,
    pub membership_unknown: MembershipUnknown,
    pub policy: MatrixPolicy,
    pub federation: Federation,
}

impl Matrix {
    /// The address of the signalling: that of the service with `ws` in the place of `http`.
    pub fn websocket_url(&self) -> String {
        format!("ws{}", self.url.trim_start_matches("http"))
    }
}

/// What happens when neither the homeserver nor the events it sent tell whether a user is in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipUnknown {
    Refuse,
    Trust,
}

/// How servers of other users are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Federation {
    /// PEM, besides the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// Addresses that are asked although they are no public ones.
    pub allowed_addresses: Vec<IpNet>,
}

const HOMESERVER: &str = "http://127.0.0.1:8008";

/// The scheme's `http` or `https`, then a host, and no query: the address without slashes at its end.
fn base_url(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let authority = rest.split('/').next().unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]%".contains(c);
    let port_is_fine = match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok_and(|port| port > 0),
        _ => true,
    };
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    (!host.is_empty() && port_is_fine && rest.chars().all(allowed)).then(|| text.trim_end_matches('/').to_owned())
}

/// As in user ids: host or address, perhaps a port.
fn is_server_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 230
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-.:[]".contains(c))
        && !text.starts_with(':')
}

/// What to write instead of a pattern that fits nothing of the kind that the key is about.
fn misfit(key: &str, pattern: &str) -> Option<&'static str> {
    let is_server = |c: char| c.is_ascii_alphanumeric() || "-.:[]*".contains(c);
    Some(match key {
        _ if pattern.is_empty() => r#"an empty pattern fits nothing; leave it out, or write "*""#,
        "servers" | "opening_servers" if pattern.chars().all(is_server) => return None,
        "servers" | "opening_servers" => {
            r#"no server's name; write what stands behind the colon of user ids, such as "example.org" or "*.example.org""#
        }
        "rooms" if pattern.starts_with(['!', '*']) => return None,
        "rooms" => {
            r#"no room's id, which begins with "!"; write that and not the alias (clients show it in the room's settings)"#
        }
        _ if pattern.starts_with(['@', '*']) => return None,
        _ => r#"no user's id, which begins with "@"; write one such as "@anna:example.org", or "@*:example.org""#,
    })
}

impl Problems {
    pub(crate) fn matrix(&mut self, matrix: file::Matrix) -> Option<Matrix> {
        if matrix.homeserver.is_empty() {
            let unused = !matrix.server_name.is_empty()
                || !matrix.url.is_empty()
                || !matrix.as_token.reveal().is_empty()
                || !matrix.hs_token.reveal().is_empty();
            if unused {
                let fix = format!("write the address of the homeserver's client API, such as {HOMESERVER:?}");
                self.add("matrix.homeserver", r#""""#, fix);
            }
            return None;
        }
        let homeserver = self.base_url("matrix.homeserver", &matrix.homeserver, HOMESERVER);
        let url = self.base_url("matrix.url", &matrix.url, "https://calls.example.org");
        if !is_server_name(&matrix.server_name) {
            let fix = r#"write what stands behind the colon of your users' ids, such as "example.org""#;
            self.add("matrix.server_name", format!("{:?}", matrix.server_name), fix);
        }
        for (key, token) in [("matrix.as_token", &matrix.as_token), ("matrix.hs_token", &matrix.hs_token)] {
            self.secret(key, token);
            // It travels in a header.
            if !token.reveal().chars().all(|c| c.is_ascii_graphic()) {
                self.add(key, "…", "write letters, digits and signs of ASCII without blanks");
            }
        }
        if matrix.as_token == matrix.hs_token && !matrix.as_token.reveal().is_empty() {
            self.add("matrix.hs_token", "…", "is the as_token too; each direction needs a secret of its own");
        }
        let membership_unknown = match matrix.membership_unknown.as_str() {
            "refuse" => MembershipUnknown::Refuse,
            "trust" => MembershipUnknown::Trust,
            other => {
                self.add("matrix.membership_unknown", format!("{other:?}"), r#"write "refuse" or "trust""#);
                MembershipUnknown::Refuse
            }
        };
        if matrix.store.is_empty() {
            self.add("matrix.store", r#""""#, r#"write a file's path, such as "/var/lib/hausruf/matrix.redb""#);
        }
        for (key, patterns) in matrix.policy.named() {
            for pattern in patterns {
                if let Some(fix) = misfit(key, pattern) {
                    self.add(format!("matrix.policy.{key}"), format!("{pattern:?}"), fix);
                }
            }
        }
        let federation = matrix.federation;
        let key = "matrix.federation.allowed_addresses";
        Some(Matrix {
            homeserver,
            server_name: matrix.server_name,
            url,
            as_token: matrix.as_token,
            hs_token: matrix.hs_token,
            store: matrix.store.into(),
            membership_unknown,
            policy: matrix.policy,
            federation: Federation {
                ca_file: (!federation.ca_file.is_empty()).then(|| federation.ca_file.into()),
                allowed_addresses: self.prefixes(key, &federation.allowed_addresses),
            },
        })
    }

    fn base_url(&mut self, key: &str, text: &str, example: &str) -> String {
        base_url(text).unwrap_or_else(|| {
            let fix = format!("no address of the kind that is needed; write one such as {example:?}");
            self.add(key, format!("{text:?}"), fix);
            String::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, Error};

    const MATRIX: &str = r#"
[matrix]
homeserver = "http://127.0.0.1:8008/"
server_name = "example.org"
url = "https://calls.example.org/"
as_token = "0123456789012345678901234567890a"
hs_token = "0123456789012345678901234567890h"
"#;

    #[test]
    fn a_homeserver_is_enough_of_a_table() {
        let matrix = Config::parse(MATRIX).unwrap().matrix.unwrap();
        assert_eq!(matrix.homeserver, "http://127.0.0.1:8008");
        assert_eq!(matrix.url, "https://calls.example.org");
        assert_eq!(matrix.websocket_url(), "wss://calls.example.org");
        assert_eq!(Config::parse("[matrix]").unwrap().matrix, None);
    }

    #[test]
    fn every_wrong_value_is_named_with_its_fix() {
        for (from, to, key, fix) in [
            ("http://127.0.0.1:8008/", "", "matrix.homeserver", "127.0.0.1:8008"),
            ("http://127.0.0.1:8008/", "localhost:8008", "matrix.homeserver", "127.0.0.1:8008"),
            ("http://127.0.0.1:8008/", "http://:8008", "matrix.homeserver", "127.0.0.1:8008"),
            ("http://127.0.0.1:8008/", "http://a:99999", "matrix.homeserver", "127.0.0.1:8008"),
            ("https://calls.example.org/", "https://a/?b", "matrix.url", "calls.example.org"),
            ("https://calls.example.org/", "wss://calls.example.org", "matrix.url", "https://calls.example.org"),
            ("\"example.org\"", "\"@a:example.org\"", "matrix.server_name", "example.org"),
            ("0123456789012345678901234567890a", "short", "matrix.as_token", "openssl rand"),
            ("0123456789012345678901234567890h", "0123456789 12345678901234567890h", "matrix.hs_token", "blanks"),
            ("0123456789012345678901234567890h", "0123456789012345678901234567890a", "matrix.hs_token", "of its own"),
        ] {
            let Err(Error::Invalid(problems)) = Config::parse(&MATRIX.replace(from, to)) else {
                panic!("{to}");
            };
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(problems[0].key, key);
            assert!(problems[0].fix.contains(fix), "{}", problems[0]);
        }
        for (line, key) in [
            ("membership_unknown = \"maybe\"", "matrix.membership_unknown"),
            ("store = \"\"", "matrix.store"),
            ("policy.rooms = [\"\"]", "matrix.policy.rooms"),
            ("policy.rooms = [\"!a:example.org\", \"#a:example.org\"]", "matrix.policy.rooms"),
            ("policy.servers = [\"https://example.org\"]", "matrix.policy.servers"),
            ("policy.opening_servers = [\"@*:example.org\"]", "matrix.policy.opening_servers"),
            ("policy.camera = [\"anna:example.org\"]", "matrix.policy.camera"),
            ("federation.allowed_addresses = [\"here\"]", "matrix.federation.allowed_addresses"),
        ] {
            let Err(Error::Invalid(problems)) = Config::parse(&format!("{MATRIX}{line}")) else {
                panic!("{line}");
            };
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(problems[0].key, key);
        }
    }

    #[test]
    fn patterns_of_the_right_kind_are_taken() {
        for line in [
            "servers = [\"*\", \"*.example.org\", \"[2001:db8::1]:8448\"]",
            "rooms = [\"*:example.org\", \"!a:example.org\"]",
            "screen = [\"@*:example.org\", \"*:example.com\"]",
        ] {
            assert!(Config::parse(&format!("{MATRIX}policy.{line}")).is_ok(), "{line}");
        }
    }

    #[test]
    fn tokens_do_not_appear_in_messages() {
        let secret = "a secret that nobody may read, ever";
        let message = Config::parse(&format!("[matrix]\nas_token = [\"{secret}\"]")).unwrap_err().to_string();
        assert!(!message.contains(secret), "{message}");
        let config = Config::parse(MATRIX).unwrap();
        assert!(!format!("{config:?}").contains("0123456789"));
    }
}
