//! A token as clients get it: a room on the homeserver, an OpenID token, and our own endpoint.

use serde_json::{Value, json};

use super::connection::Dialer;
use super::http::HttpError;
use super::report::Verdict;
use super::url::encoded;

/// A room of our own, empty but for whoever made it.
pub struct Room {
    pub id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    Token(String),
    /// The homeserver made no room or no OpenID token: what, and what it said.
    NoProof(&'static str, String),
    /// Our endpoint said no.
    Refused(u16, String),
}

pub async fn create_room(dialer: &Dialer, base: &str, token: &str) -> Result<Result<Room, Granted>, HttpError> {
    let wish = json!({
        "preset": "private_chat",
        "name": "hausruf doctor",
        "creation_content": { "m.federate": false },
    });
    let answer = dialer.post(format!("{base}/_matrix/client/v3/createRoom"), wish).token(token).send().await?;
    let id = answer.json().and_then(|json| json["room_id"].as_str().map(str::to_owned));
    Ok(id.map(|id| Room { id }).ok_or_else(|| Granted::NoProof("room", answer.told())))
}

impl Room {
    /// Leaves nothing behind; what fails here harms nobody.
    pub async fn leave(self, dialer: &Dialer, base: &str, token: &str) {
        let room = encoded(&self.id);
        for verb in ["leave", "forget"] {
            let url = format!("{base}/_matrix/client/v3/rooms/{room}/{verb}");
            let _ = dialer.post(url, json!({})).token(token).send().await;
        }
    }
}

/// Whose token is asked for.
pub struct Asker<'a> {
    pub base: &'a str,
    pub token: &'a str,
    pub user: &'a str,
}

/// The token for `device` in `room`.
pub async fn ask(
    dialer: &Dialer,
    service: &str,
    asker: &Asker<'_>,
    room: &Room,
    device: &str,
) -> Result<Granted, HttpError> {
    let url = format!("{}/_matrix/client/v3/user/{}/openid/request_token", asker.base, encoded(asker.user));
    let proof = dialer.post(url, json!({})).token(asker.token).send().await?;
    if !proof.is_success() {
        return Ok(Granted::NoProof("OpenID token", proof.told()));
    }
    let openid = proof.json().unwrap_or(Value::Null);
    let wish = json!({ "room": room.id, "openid_token": openid, "device_id": device });
    let answer = dialer.post(format!("{service}/sfu/get"), wish).send().await?;
    let jwt = answer.json().and_then(|json| json["jwt"].as_str().map(str::to_owned));
    Ok(jwt.map_or_else(|| Granted::Refused(answer.status, answer.told()), Granted::Token))
}

impl Granted {
    /// What this says about OpenID.
    pub fn judge_openid(&self, homeserver: Option<&str>) -> Verdict {
        let at = homeserver.unwrap_or("…");
        match self {
            Granted::NoProof(what, told) => Verdict::Unknown(format!(
                "The homeserver answers {told} to the wish for a {what}, so the way to a token is not checked."
            )),
            Granted::Refused(401, _) => Verdict::Wrong(format!(
                "hausruf cannot make sure of OpenID tokens: let matrix.homeserver = \"{at}\" in hausruf.toml name a \
                 listener of Synapse that has the resource openid (or federation)."
            )),
            Granted::Refused(500.., told) => Verdict::Wrong(format!(
                "hausruf fails to ask the homeserver about OpenID tokens ({told}): let matrix.homeserver = \"{at}\" in \
                 hausruf.toml name Synapse as hausruf's machine reaches it."
            )),
            Granted::Refused(..) | Granted::Token(_) => {
                Verdict::Fine("hausruf asks the homeserver who its users are (OpenID).".into())
            }
        }
    }

    /// What this says about tokens, when OpenID is fine.
    pub fn judge_grant(&self) -> Option<Verdict> {
        match self {
            Granted::Refused(status @ ..500, told) if *status != 401 => Some(Verdict::Wrong(format!(
                "hausruf refuses a token to a member of a room ({told}): see [matrix.policy] in hausruf.toml, and whether \
                 the homeserver tells it who is in a room (membership, appservice)."
            ))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openid_and_membership_are_told_apart() {
        let at = Some("http://127.0.0.1:8008");
        let openid = Granted::Refused(401, "401 M_UNAUTHORIZED".into());
        assert!(matches!(openid.judge_openid(at), Verdict::Wrong(told) if told.contains("resource openid")));
        assert_eq!(openid.judge_grant(), None);
        let broken = Granted::Refused(500, "500 M_UNKNOWN".into());
        assert!(matches!(broken.judge_openid(at), Verdict::Wrong(told) if told.contains("127.0.0.1:8008")));
        let policy = Granted::Refused(403, "403 M_FORBIDDEN".into());
        assert!(matches!(policy.judge_openid(at), Verdict::Fine(_)));
        assert!(matches!(policy.judge_grant(), Some(Verdict::Wrong(told)) if told.contains("[matrix.policy]")));
        assert!(matches!(Granted::NoProof("room", "403".into()).judge_openid(at), Verdict::Unknown(_)));
    }
}
