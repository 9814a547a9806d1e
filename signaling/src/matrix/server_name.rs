//! Matrix' identifiers, as far as we have to take them apart.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// What stands behind the colon of a user id: a host or an IP address, perhaps with a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerName(String);

/// Octets; Matrix appendices, *Server name*: a user id of 255 octets has no room for more.
const SERVER_NAME_MAX: usize = 230;
/// Octets of a user id, a room id and everything like them.
pub const ID_MAX: usize = 255;

impl ServerName {
    /// Matrix appendices, *Server name*. `None` for everything else.
    pub fn parse(text: &str) -> Option<ServerName> {
        if text.len() > SERVER_NAME_MAX {
            return None;
        }
        let (host, port) = split(text)?;
        if let Some(port) = port
            && (port.is_empty() || port.len() > 5 || !port.bytes().all(|octet| octet.is_ascii_digit()))
        {
            return None;
        }
        let valid = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty() && host.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-.".contains(&octet))
            }
        };
        valid.then(|| ServerName(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host without brackets, and the port if one is named. Port 0 is none.
    pub fn parts(&self) -> (&str, Option<u16>) {
        let (host, port) = split(&self.0).unwrap_or((&self.0, None));
        (host.trim_start_matches('[').trim_end_matches(']'), port.and_then(|port| port.parse().ok()))
    }

    pub fn ip(&self) -> Option<IpAddr> {
        self.parts().0.parse().ok()
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Host with its brackets, and port.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if text.starts_with('[') {
        let end = text.find(']')? + 1;
        let (host, rest) = text.split_at(end);
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    Some(match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

/// The server of a well-formed user id: `@`, a localpart, a colon, a server name, at most 255 octets.
pub fn server_of(user_id: &str) -> Option<ServerName> {
    let (_localpart, server) = user_id.strip_prefix('@')?.split_once(':')?;
    // Old rooms have localparts of any characters; what could break a line or a log stays out.
    let clean = !user_id.chars().any(char::is_control);
    (user_id.len() <= ID_MAX && clean).then(|| ServerName::parse(server))?
}

/// A room id: `!` and an opaque text, since room version 12 without a server.
pub fn is_room_id(text: &str) -> bool {
    text.len() > 1 && text.len() <= ID_MAX && text.starts_with('!') && !text.chars().any(char::is_control)
}

/// A device id that can stand in an identity: one with a colon could be another user's server name.
pub fn is_device_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID_MAX && !text.contains(':') && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_are_hosts_and_addresses() {
        for (text, host, port) in [
            ("example.org", "example.org", None),
            ("localhost:8448", "localhost", Some(8448)),
            ("1.2.3.4", "1.2.3.4", None),
            ("1.2.3.4:1", "1.2.3.4", Some(1)),
            ("[::1]", "::1", None),
            ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
        ] {
            let name = ServerName::parse(text).unwrap();
            assert_eq!(name.parts(), (host, port), "{text}");
            assert_eq!(name.as_str(), text);
        }
        for text in [
            "",
            ":8448",
            "a:",
            "a:b",
            "a:123456",
            "a/b",
            "a@b",
            "a b",
            "[::1",
            "[::1]x",
            "[a]",
            "::1",
            "a:1:2",
            "ä.de",
            "a?b",
            "a#b",
            "a%2f",
            "a\r\nb",
            &"a".repeat(231),
        ] {
            assert_eq!(ServerName::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_user_belongs_to_a_server() {
        assert_eq!(server_of("@a:hs:8448").unwrap().as_str(), "hs:8448");
        assert_eq!(server_of("@:hs").unwrap().as_str(), "hs");
        for text in ["", "@", "@a", "a:hs", "@a:", "@a:b/c", "@a\n:hs", &format!("@{}:hs", "a".repeat(255))] {
            assert_eq!(server_of(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_colon_makes_no_device() {
        assert!(is_device_id("ABCDEFGHIJ"));
        for text in ["", "8448:D", "a\nb", &"a".repeat(256)] {
            assert!(!is_device_id(text), "{text:?}");
        }
        assert!(is_room_id("!abc:hs") && is_room_id("!opaque"));
        assert!(!is_room_id("!") && !is_room_id("#a:hs") && !is_room_id("!a\n"));
    }
}
