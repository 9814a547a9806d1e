//! Where another server is, by its name: Server-Server API, *Resolving server names*. Who looks up what stands here;
//! looking up is not done here.

use std::net::SocketAddr;

use serde::Deserialize;

use super::ServerName;

pub const PORT: u16 = 8448;
/// The service's name since Matrix 1.8, and the one before.
pub const SERVICES: [&str; 2] = ["_matrix-fed._tcp", "_matrix._tcp"];

/// Where a server's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// For the Host header.
    pub authority: String,
    /// What the certificate has to name.
    pub name: String,
    pub place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Address(SocketAddr),
    /// Addresses of the host.
    Host {
        host: String,
        port: u16,
    },
    /// What [`SERVICES`] name, else [`PORT`] of the host.
    Service {
        host: String,
    },
}

#[derive(Deserialize)]
struct WellKnown {
    #[serde(rename = "m.server")]
    server: String,
}

/// The delegation in a `/.well-known/matrix/server`.
pub fn delegation(body: &[u8]) -> Option<ServerName> {
    let WellKnown { server } = serde_json::from_slice(body).ok()?;
    ServerName::parse(&server)
}

/// Where `server` is if its name says it, without a delegation: steps 1 and 2.
pub fn direct(server: &ServerName) -> Option<Destination> {
    let said = server.ip().is_some() || server.parts().1.is_some();
    said.then(|| destination(server))
}

/// Where `server` is, when nobody delegates it further: a delegate, or a server without a delegation.
pub fn destination(server: &ServerName) -> Destination {
    let (host, port) = server.parts();
    let place = match (server.ip(), port) {
        (Some(ip), port) => Place::Address(SocketAddr::new(ip, port.unwrap_or(PORT))),
        (None, Some(port)) => Place::Host { host: host.to_owned(), port },
        (None, None) => Place::Service { host: host.to_owned() },
    };
    Destination { authority: server.as_str().to_owned(), name: host.to_owned(), place }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServerName {
        ServerName::parse(text).unwrap()
    }

    #[test]
    fn names_with_an_address_or_a_port_are_not_delegated() {
        let at = |text: &str| direct(&name(text)).map(|destination| (destination.place, destination.name));
        let address = |text: &str| Place::Address(text.parse().unwrap());
        assert_eq!(at("192.0.2.1"), Some((address("192.0.2.1:8448"), "192.0.2.1".into())));
        assert_eq!(at("192.0.2.1:1"), Some((address("192.0.2.1:1"), "192.0.2.1".into())));
        assert_eq!(at("[2001:db8::1]"), Some((address("[2001:db8::1]:8448"), "2001:db8::1".into())));
        let host = Place::Host { host: "localhost".into(), port: 8449 };
        assert_eq!(at("localhost:8449"), Some((host, "localhost".into())));
        assert_eq!(at("example.org"), None);
    }

    #[test]
    fn a_delegate_is_found_by_its_own_name() {
        let to = |text: &str| delegation(format!(r#"{{"m.server":"{text}"}}"#).as_bytes()).as_ref().map(destination);
        let found = to("matrix.example.org").unwrap();
        assert_eq!(found.place, Place::Service { host: "matrix.example.org".into() });
        let found = to("matrix.example.org:443").unwrap();
        assert_eq!((found.authority.as_str(), found.name.as_str()), ("matrix.example.org:443", "matrix.example.org"));
        assert_eq!(found.place, Place::Host { host: "matrix.example.org".into(), port: 443 });
        assert_eq!(to("[::1]").unwrap().place, Place::Address("[::1]:8448".parse().unwrap()));
        assert_eq!(to("https://matrix.example.org"), None);
        assert_eq!(delegation(b"<html>"), None);
    }
}
