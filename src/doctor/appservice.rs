//! The way from the homeserver to us: it is asked to ping its appservice.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::connection::Dialer;
use super::http::{Answer, HttpError};
use super::report::Verdict;

/// The `id` in the registration that `init` writes.
pub const ID: &str = "hausruf";

const TRANSACTION_PATIENCE: Duration = Duration::from_secs(5);
const TRANSACTION_POLL: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ping {
    /// Milliseconds there and back.
    Answered(u64),
    /// The registration has another id.
    OtherId,
    NoUrl,
    NoConnection,
    Timeout,
    /// What we answered to the homeserver.
    Status(u64),
    /// A homeserver without this call.
    Unsupported(String),
}

pub async fn ping(dialer: &Dialer, base: &str, as_token: &str) -> Result<Ping, HttpError> {
    let url = format!("{base}/_matrix/client/v1/appservice/{ID}/ping");
    Ok(read(&dialer.post(url, json!({})).token(as_token).send().await?))
}

fn read(answer: &Answer) -> Ping {
    let json = answer.json().unwrap_or(Value::Null);
    if answer.is_success() {
        return Ping::Answered(json["duration_ms"].as_u64().unwrap_or(0));
    }
    // Without the prefix of the proposal that brought them.
    let code = answer.errcode();
    match code.trim_start_matches("FI.MAU.MSC2659_").trim_start_matches("M_") {
        "URL_NOT_SET" => Ping::NoUrl,
        "CONNECTION_FAILED" => Ping::NoConnection,
        "CONNECTION_TIMEOUT" => Ping::Timeout,
        "BAD_STATUS" => Ping::Status(json["status"].as_u64().unwrap_or(0)),
        "FORBIDDEN" => Ping::OtherId,
        _ => Ping::Unsupported(answer.told()),
    }
}

/// `listen` is where we listen for HTTP, as the configuration says.
pub fn judge(ping: &Ping, listen: &str) -> Verdict {
    match ping {
        Ping::Answered(ms) => Verdict::Fine(format!("The homeserver reaches its appservice within {ms} ms.")),
        Ping::OtherId => Verdict::Lost(format!(
            "The registration has another id than \"{ID}\", so the way from the homeserver to hausruf is not checked: \
             write id: {ID} into it and restart Synapse."
        )),
        Ping::NoUrl => Verdict::Wrong(format!(
            "The registration has no url, so the homeserver tells hausruf nothing: write url: http://… with the address \
             where hausruf listens ({listen}) into it and restart Synapse."
        )),
        Ping::NoConnection => Verdict::Wrong(format!(
            "The homeserver cannot connect to its appservice: start hausruf, or let url in the registration name the \
             address where hausruf listens ({listen}) as Synapse's machine reaches it, and restart Synapse."
        )),
        Ping::Timeout => Verdict::Wrong(format!(
            "The homeserver gets no answer from its appservice: let the firewall pass connections from Synapse to the \
             url in the registration (hausruf listens on {listen})."
        )),
        Ping::Status(401 | 403) => Verdict::Wrong(
            "hausruf refuses the homeserver's hs_token: let the registration and hausruf.toml have the same hs_token, and \
             restart both."
                .into(),
        ),
        Ping::Status(404) => Verdict::Wrong(format!(
            "What answers at the url in the registration is no hausruf with a [matrix] part: let it name the address \
             where hausruf listens ({listen}) and restart Synapse."
        )),
        Ping::Status(status) => Verdict::Wrong(format!(
            "The appservice answers the homeserver with status {status}: let url in the registration name the address \
             where hausruf listens ({listen}), not a proxy, and restart Synapse."
        )),
        Ping::Unsupported(told) => Verdict::Unknown(format!(
            "The homeserver cannot be asked to ping its appservice ({told}), so the way from it to hausruf is not checked."
        )),
    }
}

/// Transactions that have reached us, if we say so.
pub async fn transactions(dialer: &Dialer, service: &str, hs_token: &str) -> Option<u64> {
    let answer = dialer.get(format!("{service}/healthz")).token(hs_token).send().await.ok()?;
    answer.json()?["transactions"].as_u64()
}

/// Waits until more transactions have come than `before`: a homeserver sends within a second what happens in a room.
/// `None`: it cannot be seen.
pub async fn hears(dialer: &Dialer, service: &str, hs_token: &str, before: Option<u64>) -> Option<bool> {
    let before = before?;
    let deadline = Instant::now() + TRANSACTION_PATIENCE;
    loop {
        if transactions(dialer, service, hs_token).await? > before {
            return Some(true);
        }
        if Instant::now() >= deadline {
            return Some(false);
        }
        tokio::time::sleep(TRANSACTION_POLL).await;
    }
}

pub fn judge_transactions(heard: Option<bool>) -> Verdict {
    match heard {
        Some(true) => Verdict::Fine("hausruf hears what happens in the homeserver's rooms.".into()),
        Some(false) => Verdict::Wrong(
            "hausruf hears nothing of what happens in rooms, so nobody who is kicked or left behind goes from a call: put \
             rooms: [{exclusive: false, regex: \"!.*\"}] under namespaces into the registration, and restart Synapse."
                .into(),
        ),
        None => Verdict::Unknown(
            "What answers at /healthz does not say whether transactions come, so that is not checked.".into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_failing_has_its_sentence() {
        for (ping, told) in [
            (Ping::NoUrl, "has no url"),
            (Ping::NoConnection, "cannot connect to its appservice: start hausruf"),
            (Ping::Timeout, "let the firewall pass"),
            (Ping::Status(401), "refuses the homeserver's hs_token"),
            (Ping::Status(404), "no hausruf with a [matrix] part"),
            (Ping::Status(502), "status 502"),
        ] {
            let verdict = judge(&ping, "0.0.0.0:7880");
            assert!(matches!(&verdict, Verdict::Wrong(sentence) if sentence.contains(told)), "{verdict:?}");
        }
        assert!(matches!(judge(&Ping::Answered(3), ""), Verdict::Fine(_)));
        assert!(matches!(judge(&Ping::OtherId, ""), Verdict::Lost(_)));
        assert!(matches!(judge(&Ping::Unsupported("404 M_UNRECOGNIZED".into()), ""), Verdict::Unknown(_)));
    }

    #[test]
    fn an_appservice_that_hears_nothing_is_wrong() {
        let told = judge_transactions(Some(false));
        assert!(matches!(told, Verdict::Wrong(told) if told.contains("under namespaces into the registration")));
        assert!(matches!(judge_transactions(Some(true)), Verdict::Fine(_)));
        assert!(matches!(judge_transactions(None), Verdict::Unknown(_)));
    }

    #[test]
    fn the_homeserver_s_codes_are_read() {
        let answer =
            |status, body: Value| Answer { status, headers: Default::default(), body: body.to_string().into() };
        let of = |status, body| read(&answer(status, body));
        assert_eq!(of(200, json!({ "duration_ms": 7 })), Ping::Answered(7));
        assert_eq!(of(502, json!({ "errcode": "M_BAD_STATUS", "status": 403, "body": "{}" })), Ping::Status(403));
        assert_eq!(of(502, json!({ "errcode": "M_CONNECTION_FAILED" })), Ping::NoConnection);
        assert_eq!(of(504, json!({ "errcode": "M_CONNECTION_TIMEOUT" })), Ping::Timeout);
        assert_eq!(of(400, json!({ "errcode": "M_URL_NOT_SET" })), Ping::NoUrl);
        assert_eq!(of(403, json!({ "errcode": "M_FORBIDDEN" })), Ping::OtherId);
        assert_eq!(of(404, json!({ "errcode": "M_UNRECOGNIZED" })), Ping::Unsupported("404 M_UNRECOGNIZED".into()));
    }
}
