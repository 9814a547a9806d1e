//! What the homeserver can do for calls: memberships, proxying, delayed events. A homeserver that lacks one of them works
//! too, with less.

use serde_json::{Value, json};

use super::connection::Dialer;
use super::http::HttpError;
use super::report::Verdict;
use super::url::encoded;

/// Element Call delays its leave by an hour when we take care of it.
const DELAY_MS_MIN: u64 = 3_600_000;

/// MSC4502.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    Told,
    Unserved,
    Forbidden,
    Failed(String),
}

pub async fn membership(dialer: &Dialer, base: &str, as_token: &str, user: &str) -> Result<Membership, HttpError> {
    let server = user.split_once(':').map_or("", |(_, server)| server);
    let room = encoded(&format!("!doctor:{server}"));
    let user = encoded(user);
    let url = format!("{base}/_matrix/client/unstable/io.element.msc4502/rooms/{room}/is_joined?mxid={user}");
    let answer = dialer.get(url).token(as_token).send().await?;
    Ok(match answer.status {
        200 if answer.json().is_some_and(|json| json["joined"].is_boolean()) => Membership::Told,
        404 => Membership::Unserved,
        403 => Membership::Forbidden,
        _ => Membership::Failed(answer.told()),
    })
}

impl Membership {
    pub fn judge(&self) -> Verdict {
        match self {
            Membership::Told => Verdict::Fine("The homeserver tells who is in a room (MSC4502).".into()),
            Membership::Unserved => Verdict::Lost(
                "The homeserver does not tell who is in a room (MSC4502), so hausruf knows only the memberships it was \
                 sent: set msc4502_enabled: true under experimental_features, or update Synapse."
                    .into(),
            ),
            Membership::Forbidden => Verdict::Wrong(
                "The registration lacks the scope for asking who is in a room: add io.element.msc4502.scopes: \
                 [\"urn:matrix:client:io.element.msc4502:rooms:is_joined\"] to it, and restart Synapse."
                    .into(),
            ),
            Membership::Failed(told) => Verdict::Wrong(format!(
                "The homeserver answers {told} when asked who is in a room (MSC4502): see its log for the reason."
            )),
        }
    }
}

/// MSC4512: calls under `rtc/livekit` are passed on to us, with the user's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxying {
    Passed,
    Unserved,
    Failed(String),
}

pub async fn proxying(dialer: &Dialer, base: &str, token: &str) -> Result<Proxying, HttpError> {
    let url = format!("{base}/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token");
    let answer = dialer.post(url, json!({})).token(token).send().await?;
    Ok(match answer.status {
        // An empty request is refused by whoever understood it.
        400 => Proxying::Passed,
        404 | 405 => Proxying::Unserved,
        _ => Proxying::Failed(answer.told()),
    })
}

impl Proxying {
    pub fn judge(&self) -> Verdict {
        match self {
            Proxying::Passed => Verdict::Fine("The homeserver passes calls' requests on to hausruf (MSC4512).".into()),
            Proxying::Unserved => Verdict::Lost(
                "The homeserver passes no requests on to hausruf (MSC4512), so clients prove who they are by OpenID at \
                 the public address instead: set msc4512_enabled: true under experimental_features and \
                 io.element.msc4512.proxy_prefix in the registration, or update Synapse."
                    .into(),
            ),
            Proxying::Failed(told) => Verdict::Wrong(format!(
                "Requests for calls that the homeserver should pass on to hausruf (MSC4512) end in {told}: let \
                 io.element.msc4512.proxy_url in the registration name the address where hausruf listens, and restart \
                 Synapse."
            )),
        }
    }
}

/// MSC4140.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DelayedEvents {
    Unserved,
    /// Milliseconds; 0: forbidden.
    UpTo(u64),
    Failed(String),
}

pub async fn delayed_events(dialer: &Dialer, base: &str, token: &str) -> Result<DelayedEvents, HttpError> {
    let answer = dialer.get(format!("{base}/_matrix/client/v3/capabilities")).token(token).send().await?;
    if answer.status != 200 {
        return Ok(DelayedEvents::Failed(answer.told()));
    }
    let json = answer.json().unwrap_or(Value::Null);
    let capability = &json["capabilities"]["org.matrix.msc4140.delayed_events"];
    Ok(match capability["max_delay_ms"].as_u64() {
        Some(max) => DelayedEvents::UpTo(max),
        None => older(dialer, base).await?,
    })
}

/// Older homeservers name the feature, but not how long a delay may be.
async fn older(dialer: &Dialer, base: &str) -> Result<DelayedEvents, HttpError> {
    let answer = dialer.get(format!("{base}/_matrix/client/versions")).send().await?;
    let json = answer.json().unwrap_or(Value::Null);
    Ok(match json["unstable_features"]["org.matrix.msc4140"].as_bool() {
        None => DelayedEvents::Unserved,
        Some(false) => DelayedEvents::UpTo(0),
        Some(true) => DelayedEvents::UpTo(u64::MAX),
    })
}

impl DelayedEvents {
    pub fn judge(&self) -> Verdict {
        match self {
            DelayedEvents::UpTo(0) => Verdict::Wrong(
                "The homeserver forbids delayed events, so whoever loses the connection stays in the call as a ghost: set \
                 max_event_delay_duration: 24h in Synapse's configuration, and restart it."
                    .into(),
            ),
            DelayedEvents::UpTo(max) if *max < DELAY_MS_MIN => Verdict::Wrong(format!(
                "The homeserver delays events by {} s at most, and clients ask for an hour: set max_event_delay_duration: \
                 24h in Synapse's configuration, and restart it.",
                max / 1000
            )),
            DelayedEvents::UpTo(u64::MAX) => {
                Verdict::Fine("The homeserver delays events (for how long it does not tell).".into())
            }
            DelayedEvents::UpTo(max) => {
                Verdict::Fine(format!("The homeserver delays events by up to {} h.", max / DELAY_MS_MIN))
            }
            DelayedEvents::Unserved => Verdict::Lost(
                "The homeserver has no delayed events (MSC4140), so whoever loses the connection stays in the call as a \
                 ghost for hours: update it."
                    .into(),
            ),
            DelayedEvents::Failed(told) => Verdict::Unknown(format!(
                "The homeserver answers {told} when asked what it can do, so delayed events are not checked."
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_lost_and_what_is_misconfigured_is_wrong() {
        let lost = |verdict: Verdict| matches!(verdict, Verdict::Lost(_));
        let wrong = |verdict: Verdict, told: &str| matches!(verdict, Verdict::Wrong(text) if text.contains(told));
        assert!(lost(Membership::Unserved.judge()));
        assert!(wrong(Membership::Forbidden.judge(), "io.element.msc4502.scopes"));
        assert!(lost(Proxying::Unserved.judge()));
        assert!(wrong(Proxying::Failed("502".into()).judge(), "proxy_url"));
        assert!(lost(DelayedEvents::Unserved.judge()));
        assert!(wrong(DelayedEvents::UpTo(0).judge(), "max_event_delay_duration: 24h"));
        assert!(wrong(DelayedEvents::UpTo(18_000).judge(), "by 18 s at most"));
        assert!(matches!(DelayedEvents::UpTo(3_600_000).judge(), Verdict::Fine(_)));
    }
}
