//! Why somebody gets no token, and how that is said over HTTP.

use std::time::Duration;

use serde_json::json;

use super::DelegationError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotJson,
    /// What is missing or wrong, in words.
    BadJson(String),
    TooLarge,
    /// Proxied, but without the homeserver's token.
    NoToken,
    /// Proxied with another's token.
    WrongToken,
    /// One text for everything that can go wrong with a proof of identity: it must not tell what lies behind the name of
    /// a server, nor who is in a room.
    Unauthorised(Unproven),
    /// The server or the room has no calls here.
    Policy,
    NotJoined,
    /// Nobody can tell whether the user is in the room.
    MembershipUnknown,
    /// Leaves can be delegated by those only whose homeserver this is.
    NoDelegation,
    /// The same where a token was asked for as well.
    NoDelegationWithToken,
    /// The `url` is none of ours.
    ForeignUrl,
    Limited(Duration),
    /// Our own limits, or the homeserver does not answer.
    Busy,
    ShuttingDown,
    /// Another server's answer that is no answer.
    BadGateway,
    Internal,
}

/// For the metrics and the log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// Nobody of that server is in the room, so it was not asked.
    ServerNotInRoom,
    /// The server cannot be found or asked, or has no such token.
    UserInfo,
    /// The token is somebody else's.
    OtherUser,
    /// The token was used for another room or device.
    Pinned,
}

impl From<DelegationError> for Refusal {
    fn from(error: DelegationError) -> Refusal {
        Refusal::BadJson(error.text().to_owned())
    }
}

impl Refusal {
    pub fn status(&self) -> u16 {
        match self {
            Refusal::NotJson | Refusal::BadJson(_) | Refusal::NoDelegationWithToken | Refusal::ForeignUrl => 400,
            Refusal::Unauthorised(_) | Refusal::NoToken => 401,
            Refusal::WrongToken
            | Refusal::Policy
            | Refusal::NotJoined
            | Refusal::MembershipUnknown
            | Refusal::NoDelegation => 403,
            Refusal::TooLarge => 413,
            Refusal::Limited(_) => 429,
            Refusal::Internal => 500,
            Refusal::BadGateway => 502,
            Refusal::Busy | Refusal::ShuttingDown => 503,
        }
    }

    pub fn errcode(&self) -> &'static str {
        match self {
            Refusal::NotJson => "M_NOT_JSON",
            Refusal::BadJson(_) | Refusal::NoDelegationWithToken => "M_BAD_JSON",
            Refusal::ForeignUrl => "M_INVALID_PARAM",
            Refusal::TooLarge => "M_TOO_LARGE",
            Refusal::Unauthorised(_) | Refusal::NoToken => "M_UNAUTHORIZED",
            Refusal::WrongToken
            | Refusal::Policy
            | Refusal::NotJoined
            | Refusal::MembershipUnknown
            | Refusal::NoDelegation => "M_FORBIDDEN",
            Refusal::Limited(_) => "M_LIMIT_EXCEEDED",
            Refusal::Busy | Refusal::ShuttingDown | Refusal::BadGateway | Refusal::Internal => "M_UNKNOWN",
        }
    }

    fn text(&self) -> &str {
        match self {
            Refusal::NotJson => "the request is no JSON object",
            Refusal::BadJson(text) => text,
            Refusal::TooLarge => "the request is too long",
            Refusal::NoToken => "the homeserver's token is missing",
            Refusal::WrongToken => "this is not the homeserver's token",
            Refusal::Unauthorised(_) => "the request could not be authorised",
            Refusal::Policy => "there are no calls here for this server or room",
            Refusal::NotJoined => "you are not in this room",
            Refusal::MembershipUnknown => "it cannot be found out whether you are in this room",
            Refusal::NoDelegation | Refusal::NoDelegationWithToken => {
                "only users of this homeserver can delegate their leaves"
            }
            Refusal::ForeignUrl => "url is no address of this server",
            Refusal::Limited(_) => "too many requests",
            Refusal::Busy => "the server is busy, or its homeserver does not answer",
            Refusal::ShuttingDown => "the server is shutting down",
            Refusal::BadGateway => "the other server did not give a token",
            Refusal::Internal => "internal error",
        }
    }

    /// For the metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Refusal::NotJson => "not_json",
            Refusal::BadJson(_) => "bad_json",
            Refusal::TooLarge => "too_large",
            Refusal::NoToken => "no_hs_token",
            Refusal::WrongToken => "wrong_hs_token",
            Refusal::Unauthorised(Unproven::ServerNotInRoom) => "server_not_in_room",
            Refusal::Unauthorised(Unproven::UserInfo) => "openid_refused",
            Refusal::Unauthorised(Unproven::OtherUser) => "openid_other_user",
            Refusal::Unauthorised(Unproven::Pinned) => "openid_pinned",
            Refusal::Policy => "policy",
            Refusal::NotJoined => "not_joined",
            Refusal::MembershipUnknown => "membership_unknown",
            Refusal::NoDelegation | Refusal::NoDelegationWithToken => "no_delegation",
            Refusal::ForeignUrl => "foreign_url",
            Refusal::Limited(_) => "limited",
            Refusal::Busy => "busy",
            Refusal::ShuttingDown => "shutting_down",
            Refusal::BadGateway => "bad_gateway",
            Refusal::Internal => "internal",
        }
    }

    /// Matrix' form of an error.
    pub fn body(&self) -> String {
        let mut body = json!({ "errcode": self.errcode(), "error": self.text() });
        if let Refusal::Limited(after) = self {
            body["retry_after_ms"] = (after.as_millis() as u64).into();
        }
        body.to_string()
    }
}
