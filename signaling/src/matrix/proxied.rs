//! MSC4195's calls as a homeserver passes them on (MSC4512): for one of its own users, or from another homeserver for one
//! of that one's.

use serde::Deserialize;
use serde_json::{Value, json};

use super::server_name::server_of;
use super::token_request::TokenRequest;
use super::{Answer, Ask, Refusal, ServerName, Settings};

/// What a path of the form `/_matrix/{client,federation}/{version}/rtc/livekit/{call}` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    federation: bool,
    /// `v1`, or `unstable/` and a name.
    version: String,
    call: Call,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    GetToken,
    DelegateDelayedLeave,
}

const PREFIX: &str = "rtc/livekit";
/// Octets of a version.
const VERSION_MAX: usize = 128;

impl Route {
    pub fn of(path: &str) -> Option<Route> {
        let rest = path.strip_prefix("/_matrix/")?;
        let (side, rest) = rest.split_once('/')?;
        let federation = match side {
            "client" => false,
            "federation" => true,
            _ => return None,
        };
        let (version, call) = rest.rsplit_once(&format!("/{PREFIX}/"))?;
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(&octet))
        };
        let known = match version.strip_prefix("unstable/") {
            Some(name) => plain(name),
            None => version.starts_with('v') && plain(version),
        };
        let call = match call {
            "get_token" => Call::GetToken,
            // Another server's users delegate to their own.
            "delegate_delayed_leave" if !federation => Call::DelegateDelayedLeave,
            _ => return None,
        };
        (known && version.len() <= VERSION_MAX).then(|| Route { federation, version: version.to_owned(), call })
    }
}

/// In whose name a homeserver calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    User(String),
    Server(ServerName),
}

impl Caller {
    /// From the headers that go with the route. The homeserver's token has been checked.
    pub fn new(route: &Route, user: Option<&str>, origin: Option<&str>) -> Result<Caller, Refusal> {
        match route.federation {
            true => origin.and_then(ServerName::parse).map(Caller::Server).ok_or(Refusal::NoToken),
            false => {
                let user = user.filter(|user| server_of(user).is_some()).ok_or(Refusal::NoToken)?;
                Ok(Caller::User(user.to_owned()))
            }
        }
    }

    /// The request, and where it is to be passed on to if it is another server's to answer.
    pub fn request(
        &self,
        settings: &Settings,
        route: &Route,
        body: &[u8],
    ) -> Result<(TokenRequest, Option<Forward>), Refusal> {
        let wants_token = route.call == Call::GetToken;
        let user = match self {
            Caller::User(user) => Some(user.as_str()),
            Caller::Server(_) => None,
        };
        let (request, addressee) = TokenRequest::proxied(body, user, wants_token)?;
        match self {
            Caller::User(user) if !server_of(user).is_some_and(|server| settings.is_local(&server)) => {
                return Err(Refusal::Policy);
            }
            Caller::User(_) => {}
            Caller::Server(origin) => {
                if request.user().and_then(server_of).as_ref() != Some(origin) {
                    return Err(Refusal::NotJoined);
                }
            }
        }
        if let (Caller::User(user), Some(server)) = (self, &addressee.server_name)
            && !settings.is_local(server)
        {
            if !wants_token {
                return Err(Refusal::NoDelegation);
            }
            let mut body: Value = serde_json::from_slice(body).map_err(|_| Refusal::NotJson)?;
            if let Some(object) = body.as_object_mut() {
                object.remove("server_name");
                object.insert("user_id".into(), user.as_str().into());
            }
            let path = format!("/_matrix/federation/{}/{PREFIX}/get_token", route.version);
            return Ok((request.without_delegation(), Some(Forward { server: server.clone(), path, body })));
        }
        if addressee.url.is_some_and(|url| !settings.is_own_url(&url)) {
            return Err(Refusal::ForeignUrl);
        }
        Ok((request, None))
    }
}

/// A request for another server's token service.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    server: ServerName,
    path: String,
    body: Value,
}

#[derive(Deserialize)]
struct Forwarded {
    status: u16,
    content: Option<Value>,
}

impl Forward {
    /// MSC4512: the homeserver signs the request and sends it.
    pub fn ask(&self) -> Ask {
        let body = json!({
            "destination": self.server.as_str(), "method": "POST", "path": self.path, "body": self.body,
        });
        Ask::post("/_matrix/client/unstable/io.element.msc4512/appservice/fed_proxy".into(), body)
    }

    /// MSC4195: a 403 and a 400 of the other server are told as they are, everything else is a 502.
    pub fn answer(answer: &Answer) -> Result<(u16, String), Refusal> {
        let Some(Forwarded { status, content: Some(content) }) = answer.json() else {
            return Err(Refusal::BadGateway);
        };
        let text = |key: &str| content.get(key).and_then(Value::as_str);
        match status {
            200 => {
                let jwt = text("jwt").ok_or(Refusal::BadGateway)?;
                let mut body = json!({ "jwt": jwt });
                if let Some(url) = text("url") {
                    body["url"] = url.into();
                }
                Ok((200, body.to_string()))
            }
            400 | 403 => {
                let errcode = text("errcode").unwrap_or("M_UNKNOWN");
                let error = text("error").unwrap_or_default();
                Ok((status, json!({ "errcode": errcode, "error": error }).to_string()))
            }
            _ => Err(Refusal::BadGateway),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_version_and_call() {
        let client = Route::of("/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token").unwrap();
        assert!(!client.federation && client.call == Call::GetToken);
        assert_eq!(client.version, "unstable/io.element.msc4195");
        assert!(Route::of("/_matrix/client/v1/rtc/livekit/delegate_delayed_leave").is_some());
        assert!(Route::of("/_matrix/federation/v1/rtc/livekit/get_token").unwrap().federation);
        for path in [
            "/_matrix/federation/v1/rtc/livekit/delegate_delayed_leave",
            "/_matrix/client/rtc/livekit/get_token",
            "/_matrix/client/v1/x/rtc/livekit/get_token",
            "/_matrix/client/unstable/../v1/rtc/livekit/get_token",
            "/_matrix/client/v1/rtc/livekit/get_token/",
            "/_matrix/client/v1/rtc/livekit/other",
            "/_matrix/media/v1/rtc/livekit/get_token",
            "/_matrix/client/v1%2f/rtc/livekit/get_token",
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }

    #[test]
    fn answers_of_another_server_are_told_or_hidden() {
        let told =
            |body: &'static str| Forward::answer(&Answer::Status { status: 200, retry_after: None, body: body.into() });
        let (status, body) = told(r#"{"status":200,"content":{"jwt":"j","url":"u","more":1}}"#).unwrap();
        assert_eq!((status, body.as_str()), (200, r#"{"jwt":"j","url":"u"}"#));
        let (status, body) =
            told(r#"{"status":403,"content":{"errcode":"M_FORBIDDEN","error":"no","secret":1}}"#).unwrap();
        assert_eq!((status, body.as_str()), (403, r#"{"errcode":"M_FORBIDDEN","error":"no"}"#));
        for other in [
            r#"{"status":200,"content":{}}"#,
            r#"{"status":500,"content":{"errcode":"M_UNKNOWN"}}"#,
            r#"{"status":401,"content":{}}"#,
            r#"{"status":200,"content":null}"#,
            "[]",
        ] {
            assert_eq!(told(other), Err(Refusal::BadGateway), "{other}");
        }
        assert_eq!(Forward::answer(&Answer::Unreachable), Err(Refusal::BadGateway));
    }
}
