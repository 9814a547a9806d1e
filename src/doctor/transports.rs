//! `rtc/transports`: where the homeserver sends its users for calls.

use serde_json::Value;

use super::connection::Dialer;
use super::discovery::livekit_urls;
use super::http::HttpError;
use super::report::Verdict;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transports {
    /// The service addresses of the LiveKit transports.
    Listed(Vec<String>),
    /// The homeserver does not know the call.
    Unserved,
    Failed(String),
}

pub async fn ask(dialer: &Dialer, base: &str, token: &str) -> Result<Transports, HttpError> {
    let url = format!("{base}/_matrix/client/unstable/org.matrix.msc4143/rtc/transports");
    let answer = dialer.get(url).token(token).send().await?;
    Ok(match answer.status {
        200 => Transports::Listed(livekit_urls(&answer.json().unwrap_or(Value::Null)["rtc_transports"])),
        404 => Transports::Unserved,
        _ => Transports::Failed(answer.told()),
    })
}

impl Transports {
    /// `service` is our own address, where it is known.
    pub fn judge(&self, service: Option<&str>) -> Verdict {
        let ours = service.unwrap_or("https://…");
        match self {
            Transports::Unserved => Verdict::Wrong(
                "The homeserver does not serve rtc/transports, so Element finds no calls: set msc4143_enabled: true under \
                 experimental_features in Synapse's configuration, and restart it."
                    .into(),
            ),
            Transports::Failed(told) => Verdict::Wrong(format!(
                "The homeserver answers {told} when asked for rtc/transports: see its log for the reason."
            )),
            Transports::Listed(urls) if urls.is_empty() => Verdict::Wrong(format!(
                "The homeserver names no transport for calls: put matrix_rtc: {{transports: [{{type: livekit, \
                 livekit_service_url: \"{ours}\"}}]}} into Synapse's configuration, and restart it."
            )),
            Transports::Listed(urls) => match service {
                Some(service) if !urls.iter().any(|url| url == service) => Verdict::Wrong(format!(
                    "The homeserver sends calls to {} and not to {service}: correct livekit_service_url under matrix_rtc \
                     in Synapse's configuration (or matrix.url in hausruf.toml), and restart.",
                    urls.join(", ")
                )),
                _ => Verdict::Fine(format!("The homeserver sends calls to {}.", urls.join(", "))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_sentence() {
        let ours = "https://calls.example.org";
        for (transports, told) in [
            (Transports::Unserved, "msc4143_enabled: true"),
            (Transports::Failed("500".into()), "answers 500"),
            (Transports::Listed(Vec::new()), "livekit_service_url: \"https://calls.example.org\""),
            (Transports::Listed(vec!["https://old".into()]), "sends calls to https://old and not to https://calls."),
        ] {
            let verdict = transports.judge(Some(ours));
            assert!(matches!(&verdict, Verdict::Wrong(sentence) if sentence.contains(told)), "{verdict:?}");
        }
        let listed = Transports::Listed(vec![ours.into()]);
        assert!(matches!(listed.judge(Some(ours)), Verdict::Fine(_)));
        assert!(matches!(listed.judge(None), Verdict::Fine(_)));
    }
}
