//! TURN with the server's own credentials, and with those that the homeserver hands out.

use std::net::SocketAddr;

use serde_json::Value;

use super::connection::{Dialer, Origin, resolve};
use super::http::HttpError;
use super::report::Verdict;
use super::turn::{Credentials, TurnError};

/// Two allocations with credentials made from our own secret, and a datagram through both.
pub fn judge_own(server: SocketAddr, echo: &Result<(), TurnError>) -> Verdict {
    match echo {
        Ok(()) => Verdict::Fine(format!("{server} relays.")),
        Err(TurnError::Refused(401)) => Verdict::Wrong(format!(
            "{server} refuses credentials made with the secret of this hausruf.toml: give doctor the file with which the \
             server runs, or restart the server."
        )),
        Err(error) => unrelayed(&server.to_string(), error),
    }
}

fn unrelayed(server: &str, error: &TurnError) -> Verdict {
    Verdict::Wrong(match error {
        TurnError::Silent => format!(
            "{server} does not answer TURN requests: let it name the UDP port of hausruf, and open that in the firewall."
        ),
        TurnError::Refused(437 | 486 | 508) => {
            format!("{server} has no room for another allocation: raise the limits in [relay.limits].")
        }
        TurnError::Refused(code) => format!("{server} refuses an allocation (error {code}): see hausruf's log."),
        TurnError::NoEcho => format!(
            "{server} makes allocations, but relays no datagram between them: look whether another TURN server listens \
             there."
        ),
    })
}

/// Whether a peer elsewhere reaches a relayed address.
pub fn judge_range(heard: Option<bool>, ports: &str) -> Option<Verdict> {
    match heard {
        Some(false) => Some(Verdict::Lost(format!(
            "Datagrams from outside do not reach relayed addresses, which calls of the older kind (one to one) may need: \
             open the UDP ports {ports} in the firewall; calls of Element Call need none of them."
        ))),
        _ => None,
    }
}

/// `/voip/turnServer`.
#[derive(Clone)]
pub struct TurnServer {
    pub credentials: Credentials,
    pub uris: Vec<String>,
}

pub async fn ask(dialer: &Dialer, base: &str, token: &str) -> Result<Option<TurnServer>, HttpError> {
    let answer = dialer.get(format!("{base}/_matrix/client/v3/voip/turnServer")).token(token).send().await?;
    let json = answer.json().unwrap_or(Value::Null);
    let uris: Vec<String> =
        json["uris"].as_array().into_iter().flatten().filter_map(|uri| uri.as_str().map(str::to_owned)).collect();
    let (Some(username), Some(password)) = (json["username"].as_str(), json["password"].as_str()) else {
        return Ok(None);
    };
    let credentials = Credentials { username: username.to_owned(), password: password.to_owned() };
    Ok((!uris.is_empty()).then_some(TurnServer { credentials, uris }))
}

/// A `turn:` URI over UDP (RFC 7065).
pub fn udp_server(uri: &str) -> Option<Origin> {
    let rest = uri.strip_prefix("turn:")?;
    let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.split('&').any(|pair| pair.starts_with("transport=") && pair != "transport=udp") {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, 3478),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Origin { is_tls: false, host, port })
}

/// What the homeserver hands out, tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandedOut {
    Nothing,
    /// No URI over UDP is among these.
    NoUdp(Vec<String>),
    NoAddress(String),
    Tried(String, Result<(), TurnError>),
}

pub async fn try_out(server: Option<&TurnServer>) -> HandedOut {
    let Some(server) = server else {
        return HandedOut::Nothing;
    };
    let Some((uri, origin)) = server.uris.iter().find_map(|uri| Some((uri, udp_server(uri)?))) else {
        return HandedOut::NoUdp(server.uris.clone());
    };
    match resolve(&origin).await.first() {
        Some(&address) => HandedOut::Tried(uri.clone(), super::turn::echo(address, &server.credentials).await),
        None => HandedOut::NoAddress(uri.clone()),
    }
}

impl HandedOut {
    pub fn judge(&self) -> Verdict {
        match self {
            HandedOut::Nothing => Verdict::Wrong(
                "The homeserver hands out no TURN server, so calls of the older kind (one to one) fail behind strict \
                 networks: set turn_uris, turn_shared_secret and turn_user_lifetime in Synapse's configuration, and restart \
                 it."
                    .into(),
            ),
            HandedOut::NoUdp(uris) => Verdict::Lost(format!(
                "turn_uris in Synapse's configuration name no TURN server over UDP but {}: add turn:…:3478?transport=udp.",
                uris.join(", ")
            )),
            HandedOut::NoAddress(uri) => Verdict::Wrong(format!(
                "The host in {uri} has no address: correct turn_uris in Synapse's configuration, and restart it."
            )),
            HandedOut::Tried(uri, Ok(())) => Verdict::Fine(format!("The homeserver hands out {uri}, and it relays.")),
            HandedOut::Tried(uri, Err(TurnError::Refused(401))) => Verdict::Wrong(format!(
                "{uri} refuses the credentials that the homeserver hands out: let turn_shared_secret in Synapse's \
                 configuration be one of relay.secrets in hausruf.toml, and restart both."
            )),
            HandedOut::Tried(uri, Err(TurnError::Silent)) => Verdict::Wrong(format!(
                "{uri}, which the homeserver hands out, does not answer: correct turn_uris in Synapse's configuration, and \
                 restart it."
            )),
            HandedOut::Tried(uri, Err(error)) => unrelayed(uri, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::wrong;

    #[test]
    fn what_the_homeserver_hands_out_is_judged() {
        let uri = || "turn:calls.example.org:3478?transport=udp".to_owned();
        let tried = |echo| HandedOut::Tried(uri(), echo).judge();
        assert!(matches!(tried(Ok(())), Verdict::Fine(_)));
        assert!(wrong(tried(Err(TurnError::Refused(401)))).contains("turn_shared_secret"));
        assert!(wrong(tried(Err(TurnError::Silent))).contains("correct turn_uris"));
        assert!(wrong(tried(Err(TurnError::NoEcho))).contains("relays no datagram"));
        assert!(wrong(HandedOut::Nothing.judge()).contains("set turn_uris"));
        assert!(matches!(HandedOut::NoUdp(vec!["turns:a".into()]).judge(), Verdict::Lost(_)));
    }

    #[test]
    fn uris_over_udp_are_read() {
        let read = |uri| udp_server(uri).map(|origin| (origin.host, origin.port));
        assert_eq!(read("turn:calls.example.org?transport=udp"), Some(("calls.example.org".into(), 3478)));
        assert_eq!(read("turn:192.0.2.1:3479"), Some(("192.0.2.1".into(), 3479)));
        assert_eq!(read("turn:[2001:db8::1]:3479"), Some(("2001:db8::1".into(), 3479)));
        assert_eq!(read("turn:[2001:db8::1]"), Some(("2001:db8::1".into(), 3478)));
        assert_eq!(read("turn:a:3478?transport=tcp"), None);
        assert_eq!(read("turns:a:5349"), None);
    }
}
