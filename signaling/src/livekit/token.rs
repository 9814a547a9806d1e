//! Access tokens: JWTs signed with HS256 by the holder of an API secret.

use std::collections::BTreeMap;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::matrix::Member;

/// Clocks may differ by this much (seconds).
const LEEWAY: u64 = 60;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// The API key.
    pub iss: String,
    /// The participant's identity.
    pub sub: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoGrant>,
    #[serde(rename = "roomConfig", skip_serializing_if = "Option::is_none")]
    pub room_config: Option<serde_json::Value>,
    /// Our own: whom a homeserver vouched for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Member>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VideoGrant {
    #[serde(skip_serializing_if = "is_false")]
    pub room_create: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub room_list: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub room_admin: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub room_join: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub room: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_data: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_sources: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_update_own_metadata: Option<bool>,
    #[serde(skip_serializing_if = "is_false")]
    pub hidden: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub recorder: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub agent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe_metrics: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_manage_agent_session: Option<bool>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Claims {
    /// `sub`, or `jti` where old token makers put the identity.
    pub fn identity(&self) -> &str {
        if self.sub.is_empty() { &self.jti } else { &self.sub }
    }

    pub fn grant(&self) -> VideoGrant {
        self.video.clone().unwrap_or_default()
    }
}

/// Why a token is refused; every one of them is a 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    Missing,
    Malformed,
    UnknownKey,
    BadSignature,
    Expired,
    NotYetValid,
    PermissionDenied,
}

impl TokenError {
    /// The words of the reference where a client looks at them.
    pub fn text(self) -> &'static str {
        match self {
            TokenError::Missing => "no authorization token was provided",
            TokenError::Malformed => "invalid authorization token: malformed",
            TokenError::UnknownKey => "invalid API key",
            TokenError::BadSignature => "invalid authorization token: signature is invalid",
            TokenError::Expired => "invalid authorization token: token is expired",
            TokenError::NotYetValid => "invalid authorization token: token is not valid yet",
            TokenError::PermissionDenied => "permissions denied",
        }
    }
}

/// Checks signature and times of `token`. `unix_s` is the present in seconds since the epoch.
pub fn verify(token: &str, keys: &BTreeMap<String, String>, unix_s: u64) -> Result<Claims, TokenError> {
    let issuer: Claims =
        jsonwebtoken::dangerous::insecure_decode::<Claims>(token).map_err(|_| TokenError::Malformed)?.claims;
    let secret = keys.get(&issuer.iss).ok_or(TokenError::UnknownKey)?;
    let mut validation = Validation::new(Algorithm::HS256);
    // The times are judged below by the clock that the caller brought.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let key = DecodingKey::from_secret(secret.as_bytes());
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation).map_err(|_| TokenError::BadSignature)?.claims;
    match claims.exp {
        Some(exp) if unix_s <= exp.saturating_add(LEEWAY) => {}
        _ => return Err(TokenError::Expired),
    }
    if claims.nbf.is_some_and(|nbf| nbf > unix_s.saturating_add(LEEWAY)) {
        return Err(TokenError::NotYetValid);
    }
    Ok(claims)
}

/// Signs `claims` with the secret of `claims.iss`; `None` if there is no such key.
pub fn sign(claims: &Claims, keys: &BTreeMap<String, String>) -> Option<String> {
    let secret = keys.get(&claims.iss)?;
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> BTreeMap<String, String> {
        BTreeMap::from([("devkey".to_owned(), "secret".to_owned())])
    }

    fn claims(exp: u64) -> Claims {
        Claims {
            iss: "devkey".into(),
            sub: "anna".into(),
            exp: Some(exp),
            video: Some(VideoGrant { room_join: true, room: "kitchen".into(), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_signed_verifies_until_a_minute_after_its_expiry() {
        let token = sign(&claims(1_000), &keys()).unwrap();
        assert_eq!(verify(&token, &keys(), 1_060).unwrap().identity(), "anna");
        assert_eq!(verify(&token, &keys(), 1_061), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_without_expiry_or_of_the_future_is_refused() {
        let mut open = claims(0);
        open.exp = None;
        let token = sign(&open, &keys()).unwrap();
        assert_eq!(verify(&token, &keys(), 1), Err(TokenError::Expired));
        let mut future = claims(10_000);
        future.nbf = Some(5_000);
        let token = sign(&future, &keys()).unwrap();
        assert_eq!(verify(&token, &keys(), 4_939), Err(TokenError::NotYetValid));
        assert!(verify(&token, &keys(), 4_940).is_ok());
    }

    #[test]
    fn a_foreign_key_secret_or_algorithm_is_refused() {
        let other = BTreeMap::from([("devkey".to_owned(), "other".to_owned())]);
        let token = sign(&claims(1_000), &other).unwrap();
        assert_eq!(verify(&token, &keys(), 1), Err(TokenError::BadSignature));
        let none = BTreeMap::new();
        assert_eq!(verify(&token, &none, 1), Err(TokenError::UnknownKey));
        assert_eq!(verify("x.y.z", &keys(), 1), Err(TokenError::Malformed));
        let stronger =
            jsonwebtoken::encode(&Header::new(Algorithm::HS384), &claims(1_000), &EncodingKey::from_secret(b"secret"))
                .unwrap();
        assert_eq!(verify(&stronger, &keys(), 1), Err(TokenError::BadSignature));
        // {"alg":"none"}
        let body = token.split('.').nth(1).unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
        assert!(verify(&unsigned, &keys(), 1).is_err());
    }
}
