//! The bodies of the requests for a token, and for the delegation of a leave.

use serde::Deserialize;
use serde_json::error::Category;

use super::identity::{self, CALL_SLOT};
use super::server_name::{ID_MAX, ServerName, is_device_id, is_room_id, server_of};
use super::{Delegation, Refusal};

/// Octets of a request.
pub const BODY_MAX: usize = 16 << 10;
/// Octets of an OpenID token.
const ACCESS_TOKEN_MAX: usize = 1024;
/// MSC4195 asks for leaves an hour ahead and does not tell us of it; one that is put off every eight minutes is safe from
/// far shorter ones too.
const DELAY_UNTOLD_MS: u64 = 600_000;

/// Whose request it is, as far as the request itself says.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// To be shown to the server that is said to have made it.
    OpenId { access_token: String, server: ServerName, claimed_user: Option<String> },
    /// The homeserver says so: the user.
    Homeserver { user_id: String },
}

/// How the participant is named at the SFU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    Plain { device_id: String },
    Hashed { device_id: String, member_id: String },
    Member { member_id: String },
}

impl Naming {
    pub fn identity(&self, user_id: &str) -> String {
        match self {
            Naming::Plain { device_id } => identity::plain_identity(user_id, device_id),
            Naming::Hashed { device_id, member_id } => identity::hashed_identity(user_id, device_id, member_id),
            Naming::Member { member_id } => identity::member_identity(user_id, member_id),
        }
    }

    /// Where devices are not named, the membership's id takes the place of one: it stands in the same part of the room's
    /// state.
    pub fn device_id(&self) -> &str {
        match self {
            Naming::Plain { device_id } | Naming::Hashed { device_id, .. } => device_id,
            Naming::Member { member_id } => member_id,
        }
    }
}

/// One request, well-formed. It says what is wanted, and proves nothing yet.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenRequest {
    pub room_id: String,
    pub slot_id: String,
    pub naming: Naming,
    pub proof: Proof,
    pub delegation: Option<Delegation>,
    /// False where only a leave is delegated.
    pub wants_token: bool,
}

/// Which server a proxied request is for, and by which address the SFU was named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addressee {
    pub server_name: Option<ServerName>,
    pub url: Option<String>,
}

/// Keys that we do not know are left alone: clients are newer than servers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    room: Option<String>,
    room_id: Option<String>,
    slot_id: Option<String>,
    device_id: Option<String>,
    openid_token: Option<OpenIdToken>,
    member: Option<MemberBody>,
    member_id: Option<String>,
    user_id: Option<String>,
    server_name: Option<String>,
    url: Option<String>,
    delay_id: Option<String>,
    delay_timeout: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OpenIdToken {
    access_token: Option<String>,
    matrix_server_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MemberBody {
    id: Option<String>,
    claimed_user_id: Option<String>,
    claimed_device_id: Option<String>,
}

fn read(body: &[u8]) -> Result<Body, Refusal> {
    // An array would be read as the fields in their order.
    if body.iter().find(|octet| !octet.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Refusal::NotJson);
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => Refusal::BadJson(format!("the request is malformed: {error}")),
        _ => Refusal::NotJson,
    })
}

/// Names everything that is missing, at once. An empty text is as good as none.
#[derive(Default)]
struct Missing(Vec<&'static str>);

impl Missing {
    fn text(&mut self, name: &'static str, text: Option<String>) -> String {
        let text = text.unwrap_or_default();
        if text.is_empty() {
            self.0.push(name);
        }
        text
    }

    fn check(self) -> Result<(), Refusal> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Refusal::BadJson(format!("missing: {}", self.0.join(", ")))),
        }
    }
}

fn bad(text: &str) -> Refusal {
    Refusal::BadJson(text.to_owned())
}

fn valid(condition: bool, text: &str) -> Result<(), Refusal> {
    if condition { Ok(()) } else { Err(bad(text)) }
}

fn check_id(text: &str, name: &str) -> Result<(), Refusal> {
    valid(text.len() <= ID_MAX, &format!("{name} has more than {ID_MAX} octets"))
}

fn openid(missing: &mut Missing, token: Option<OpenIdToken>) -> (String, String) {
    let token = token.unwrap_or_default();
    let access_token = missing.text("openid_token.access_token", token.access_token);
    (access_token, missing.text("openid_token.matrix_server_name", token.matrix_server_name))
}

fn proof(access_token: String, server: &str, claimed_user: Option<String>) -> Result<Proof, Refusal> {
    let plain = access_token.bytes().all(|octet| octet.is_ascii_graphic());
    valid(plain && access_token.len() <= ACCESS_TOKEN_MAX, "openid_token.access_token is no token")?;
    let server = ServerName::parse(server).ok_or_else(|| bad("openid_token.matrix_server_name is no server name"))?;
    Ok(Proof::OpenId { access_token, server, claimed_user })
}

/// Both or neither.
fn optional_delegation(id: Option<String>, timeout: Option<u64>) -> Result<Option<Delegation>, Refusal> {
    match (id.unwrap_or_default(), timeout.unwrap_or_default()) {
        (id, 0) if id.is_empty() => Ok(None),
        (id, timeout) if !id.is_empty() && timeout > 0 => Ok(Some(Delegation::new(&id, timeout)?)),
        _ => Err(bad("missing: delay_id or delay_timeout")),
    }
}

impl TokenRequest {
    /// `POST /sfu/get`.
    pub fn sfu_get(body: &[u8]) -> Result<TokenRequest, Refusal> {
        let body = read(body)?;
        let mut missing = Missing::default();
        let room_id = missing.text("room", body.room);
        let device_id = missing.text("device_id", body.device_id);
        let (access_token, server) = openid(&mut missing, body.openid_token);
        missing.check()?;
        TokenRequest {
            room_id,
            slot_id: CALL_SLOT.to_owned(),
            naming: Naming::Plain { device_id },
            proof: proof(access_token, &server, None)?,
            delegation: optional_delegation(body.delay_id, body.delay_timeout)?,
            wants_token: true,
        }
        .checked()
    }

    /// `POST /get_token`.
    pub fn get_token(body: &[u8]) -> Result<TokenRequest, Refusal> {
        let body = read(body)?;
        let delegation = optional_delegation(body.delay_id.clone(), body.delay_timeout)?;
        TokenRequest::of_member(body, delegation, true)
    }

    /// `POST /delegate_delayed_leave`.
    pub fn delegate_delayed_leave(body: &[u8]) -> Result<TokenRequest, Refusal> {
        let body = read(body)?;
        let delegation = match optional_delegation(body.delay_id.clone(), body.delay_timeout)? {
            Some(delegation) => Some(delegation),
            None => return Err(bad("missing: delay_id, delay_timeout")),
        };
        TokenRequest::of_member(body, delegation, false)
    }

    fn of_member(body: Body, delegation: Option<Delegation>, wants_token: bool) -> Result<TokenRequest, Refusal> {
        let mut missing = Missing::default();
        let room_id = missing.text("room_id", body.room_id);
        let slot_id = missing.text("slot_id", body.slot_id);
        let member = body.member.unwrap_or_default();
        let member_id = missing.text("member.id", member.id);
        let claimed_user = missing.text("member.claimed_user_id", member.claimed_user_id);
        let device_id = missing.text("member.claimed_device_id", member.claimed_device_id);
        let (access_token, server) = openid(&mut missing, body.openid_token);
        missing.check()?;
        TokenRequest {
            room_id,
            slot_id,
            naming: Naming::Hashed { device_id, member_id },
            proof: proof(access_token, &server, Some(claimed_user))?,
            delegation,
            wants_token,
        }
        .checked()
    }

    /// MSC4195's request by way of the homeserver (MSC4512). `user_id` is the homeserver's word, or, where another
    /// homeserver speaks for its user, still in the body.
    pub fn proxied(
        body: &[u8],
        user_id: Option<&str>,
        wants_token: bool,
    ) -> Result<(TokenRequest, Addressee), Refusal> {
        let body = read(body)?;
        let mut missing = Missing::default();
        let room_id = missing.text("room_id", body.room_id);
        let slot_id = missing.text("slot_id", body.slot_id);
        let (naming, claimed_user) = match body.member {
            Some(member) => {
                let member_id = missing.text("member.id", member.id);
                let device_id = missing.text("member.claimed_device_id", member.claimed_device_id);
                (Naming::Hashed { device_id, member_id }, member.claimed_user_id)
            }
            None => (Naming::Member { member_id: missing.text("member_id", body.member_id) }, None),
        };
        let user_id = match user_id {
            Some(user_id) => user_id.to_owned(),
            None => missing.text("user_id", body.user_id.or(claimed_user)),
        };
        let delay_id = match wants_token {
            true => body.delay_id,
            false => Some(missing.text("delay_id", body.delay_id)),
        };
        missing.check()?;
        let delegation = match delay_id.filter(|id| !id.is_empty()) {
            Some(id) => Some(Delegation::new(&id, body.delay_timeout.unwrap_or(DELAY_UNTOLD_MS))?),
            None => None,
        };
        let server_name = match body.server_name.filter(|name| !name.is_empty()) {
            Some(name) => Some(ServerName::parse(&name).ok_or_else(|| bad("server_name is no server name"))?),
            None => None,
        };
        let request =
            TokenRequest { room_id, slot_id, naming, proof: Proof::Homeserver { user_id }, delegation, wants_token };
        Ok((request.checked()?, Addressee { server_name, url: body.url.filter(|url| !url.is_empty()) }))
    }

    /// Where the request says who it is from.
    pub fn user(&self) -> Option<&str> {
        match &self.proof {
            Proof::OpenId { claimed_user, .. } => claimed_user.as_deref(),
            Proof::Homeserver { user_id } => Some(user_id),
        }
    }

    pub fn without_delegation(self) -> TokenRequest {
        TokenRequest { delegation: None, ..self }
    }

    fn checked(self) -> Result<TokenRequest, Refusal> {
        valid(is_room_id(&self.room_id), "room_id is no room id")?;
        check_id(&self.slot_id, "slot_id")?;
        match &self.naming {
            Naming::Plain { device_id } => valid(is_device_id(device_id), "device_id is no device id")?,
            Naming::Hashed { device_id, member_id } => {
                valid(is_device_id(device_id), "member.claimed_device_id is no device id")?;
                check_id(member_id, "member.id")?;
            }
            Naming::Member { member_id } => check_id(member_id, "member_id")?,
        }
        valid(self.user().is_none_or(|user| server_of(user).is_some()), "the user id is none")?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn legacy() -> Value {
        json!({
            "room": "!r:hs", "device_id": "DEV",
            "openid_token": {"access_token": "t", "token_type": "Bearer", "matrix_server_name": "hs", "expires_in": 3600},
        })
    }

    fn member() -> Value {
        json!({
            "room_id": "!r:hs", "slot_id": "m.call#ROOM",
            "member": {"id": "M", "claimed_user_id": "@a:hs", "claimed_device_id": "DEV"},
            "openid_token": {"access_token": "t", "token_type": "Bearer", "matrix_server_name": "hs", "expires_in": 3600},
            "delay_id": "d", "delay_timeout": 3_600_000, "delay_cs_api_url": "https://evil.example",
        })
    }

    fn with(mut value: Value, pointer: &str, new: Value) -> Vec<u8> {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[key] = new;
        value.to_string().into_bytes()
    }

    fn words(result: Result<TokenRequest, Refusal>) -> String {
        match result {
            Err(Refusal::BadJson(text)) => text,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("accepted"),
        }
    }

    #[test]
    fn what_clients_send_is_read() {
        let request = TokenRequest::sfu_get(legacy().to_string().as_bytes()).unwrap();
        assert_eq!(request.slot_id, "m.call#ROOM");
        assert_eq!(request.naming.identity("@a:hs"), "@a:hs:DEV");
        assert!(request.delegation.is_none() && request.wants_token);
        let request = TokenRequest::get_token(member().to_string().as_bytes()).unwrap();
        assert_eq!(request.delegation.unwrap().delay_id(), "d");
        let request = TokenRequest::delegate_delayed_leave(member().to_string().as_bytes()).unwrap();
        assert!(!request.wants_token);
        let unknown = with(legacy(), "/something_new", json!({"deep": [1]}));
        assert!(TokenRequest::sfu_get(&unknown).is_ok());
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        assert_eq!(
            words(TokenRequest::sfu_get(b"{}")),
            "missing: room, device_id, openid_token.access_token, openid_token.matrix_server_name"
        );
        assert_eq!(
            words(TokenRequest::get_token(b" {\"room_id\":\"!r\",\"slot_id\":\"\",\"member\":null}")),
            "missing: slot_id, member.id, member.claimed_user_id, member.claimed_device_id, \
             openid_token.access_token, openid_token.matrix_server_name"
        );
        let mut bare = member();
        bare.as_object_mut().unwrap().remove("delay_timeout");
        let bare = bare.to_string();
        assert!(words(TokenRequest::get_token(bare.as_bytes())).contains("delay_timeout"));
        assert!(words(TokenRequest::delegate_delayed_leave(bare.as_bytes())).contains("delay_timeout"));
    }

    #[test]
    fn what_is_no_json_is_told_from_what_is_wrong() {
        for body in ["", "[]", "null", "\"x\"", "{", "{}}", "[\"!r\"]", "{\"room\":", &"{\"a\":".repeat(500)] {
            assert!(matches!(TokenRequest::sfu_get(body.as_bytes()), Err(Refusal::NotJson)), "{body}");
        }
        for body in ["{\"room\":1}", "{\"openid_token\":[]}", "{\"room\":\"!a\",\"room\":\"!b\"}"] {
            let result = TokenRequest::sfu_get(body.as_bytes());
            assert!(matches!(result, Err(Refusal::BadJson(_))), "{body}");
        }
    }

    #[test]
    fn a_device_cannot_lend_itself_to_another_user() {
        // `@a:hs` with the device `8448:D` would be `@a:hs:8448` with the device `D`.
        for (pointer, value) in [
            ("/device_id", json!("8448:D")),
            ("/room", json!("r")),
            ("/room", json!(format!("!{}", "r".repeat(255)))),
            ("/openid_token/matrix_server_name", json!("hs/../x")),
            ("/openid_token/matrix_server_name", json!("hs@127.0.0.1")),
            ("/openid_token/access_token", json!("a b")),
            ("/openid_token/access_token", json!("a".repeat(1025))),
        ] {
            words(TokenRequest::sfu_get(&with(legacy(), pointer, value)));
        }
        for (pointer, value) in [
            ("/member/claimed_device_id", json!("8448:D")),
            ("/member/claimed_user_id", json!("a")),
            ("/member/id", json!("m".repeat(256))),
            ("/slot_id", json!("m".repeat(256))),
            ("/delay_id", json!("../../x")),
            ("/delay_timeout", json!(1)),
            ("/delay_timeout", json!(-1)),
            ("/delay_timeout", json!(1e99)),
        ] {
            words(TokenRequest::get_token(&with(member(), pointer, value)));
        }
    }

    #[test]
    fn both_forms_of_a_proxied_request_are_read() {
        let new = json!({"room_id": "!r", "slot_id": "s", "member_id": "M", "url": "wss://x"}).to_string();
        let (request, addressee) = TokenRequest::proxied(new.as_bytes(), Some("@a:hs"), true).unwrap();
        assert_eq!(request.naming.identity("@a:hs"), identity::member_identity("@a:hs", "M"));
        assert_eq!(addressee, Addressee { server_name: None, url: Some("wss://x".into()) });
        let old = json!({
            "room_id": "!r", "slot_id": "s", "member": {"id": "M", "claimed_device_id": "D"}, "server_name": "other",
            "delay_id": "d",
        })
        .to_string();
        let (request, addressee) = TokenRequest::proxied(old.as_bytes(), Some("@a:hs"), false).unwrap();
        assert_eq!(request.naming.identity("@a:hs"), identity::hashed_identity("@a:hs", "D", "M"));
        assert_eq!(addressee.server_name, ServerName::parse("other"));
        assert!(request.delegation.is_some());
        // Another homeserver speaks for its user in the body.
        let refused = TokenRequest::proxied(new.as_bytes(), None, true).map(|(request, _)| request);
        assert_eq!(words(refused), "missing: user_id");
    }
}
