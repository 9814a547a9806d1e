//! OpenID tokens: who somebody is, in the words of their own homeserver.

use serde::Deserialize;

use super::server_name::{ServerName, server_of};
use super::{Answer, segment};

#[derive(Deserialize)]
struct UserInfo {
    sub: String,
}

/// Server-Server API, `/openid/userinfo`.
pub fn userinfo_path(access_token: &str) -> String {
    format!("/_matrix/federation/v1/openid/userinfo?access_token={}", segment(access_token))
}

/// The user, if the answer of `server` names one of its own.
pub fn user(answer: &Answer, server: &ServerName) -> Option<String> {
    let UserInfo { sub } = answer.json()?;
    (server_of(&sub)? == *server).then_some(sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_vouches_for_its_own_users_only() {
        let answer = |status, body: String| Answer::Status { status, retry_after: None, body: body.into() };
        let server = ServerName::parse("hs:8448").unwrap();
        let says = |sub: &str| user(&answer(200, format!(r#"{{"sub":"{sub}","more":1}}"#)), &server);
        assert_eq!(says("@a:hs:8448").as_deref(), Some("@a:hs:8448"));
        for sub in ["@a:other", "@a:hs", "@a:hs:8448.other", "a:hs:8448", "", "@a:hs:8448\\n"] {
            assert_eq!(says(sub), None, "{sub}");
        }
        assert_eq!(user(&answer(401, r#"{"sub":"@a:hs:8448"}"#.into()), &server), None);
        assert_eq!(user(&answer(200, "{}".into()), &server), None);
        assert_eq!(user(&Answer::Unreachable, &server), None);
        assert_eq!(userinfo_path("a&b"), "/_matrix/federation/v1/openid/userinfo?access_token=a%26b");
    }
}
