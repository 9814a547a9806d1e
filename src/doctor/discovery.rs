//! `/.well-known/matrix/client`: how clients find the homeserver, and older ones the calls.

use serde_json::Value;

use super::connection::Dialer;
use super::http::{Answer, HttpError};
use super::report::Verdict;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WellKnown {
    pub status: u16,
    pub is_readable_by_pages: bool,
    pub is_json: bool,
    /// `m.homeserver`, without a slash at its end.
    pub base_url: Option<String>,
    /// `livekit_service_url` of each LiveKit focus.
    pub foci: Vec<String>,
}

pub async fn ask(dialer: &Dialer, site: &str) -> Result<WellKnown, HttpError> {
    dialer.get(format!("{site}/.well-known/matrix/client")).send().await.map(|answer| WellKnown::of(&answer))
}

/// The service addresses in a list of transports or foci.
pub fn livekit_urls(list: &Value) -> Vec<String> {
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let urls = entries.iter().filter(|entry| entry["type"] == "livekit").filter_map(|entry| {
        let url = entry["livekit_service_url"].as_str()?;
        Some(url.trim_end_matches('/').to_owned())
    });
    urls.collect()
}

impl WellKnown {
    fn of(answer: &Answer) -> WellKnown {
        let json = answer.json();
        let value = json.clone().unwrap_or_default();
        let base_url = value["m.homeserver"]["base_url"].as_str();
        WellKnown {
            status: answer.status,
            is_readable_by_pages: answer.is_readable_by_pages(),
            is_json: json.is_some(),
            base_url: base_url.map(|url| url.trim_end_matches('/').to_owned()),
            foci: livekit_urls(&value["org.matrix.msc4143.rtc_foci"]),
        }
    }

    /// `site` is the address of the server name; `service` our own, where it is known.
    pub fn judge(&self, site: &str, service: Option<&str>) -> Verdict {
        let page = format!("{site}/.well-known/matrix/client");
        if self.status != 200 {
            return Verdict::Wrong(format!(
                "{page} answers {}: let the web server of that name serve the file well-known/matrix/client that \
                 `hausruf init` wrote.",
                self.status
            ));
        }
        if !self.is_json {
            return Verdict::Wrong(format!("{page} is no JSON: replace it with the file that `hausruf init` wrote."));
        }
        if self.base_url.is_none() {
            return Verdict::Wrong(format!(
                "{page} names no homeserver: write \"m.homeserver\": {{\"base_url\": \"https://…\"}} into it."
            ));
        }
        if !self.is_readable_by_pages {
            return Verdict::Wrong(format!(
                "{page} comes without the header Access-Control-Allow-Origin: *, so no browser reads it: let the web \
                 server add that header, once."
            ));
        }
        match (self.foci.first(), service) {
            (None, _) => Verdict::Lost(format!(
                "{page} names no org.matrix.msc4143.rtc_foci, so older clients find no calls: write what `hausruf \
                 init` wrote."
            )),
            (Some(_), Some(service)) if !self.foci.iter().any(|focus| focus == service) => Verdict::Wrong(format!(
                "{page} sends older clients to {} and not to {service}: correct livekit_service_url in its \
                 org.matrix.msc4143.rtc_foci.",
                self.foci.join(", ")
            )),
            (Some(_), _) => Verdict::Fine(format!("{page} names the homeserver and the calls.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> WellKnown {
        WellKnown {
            status: 200,
            is_readable_by_pages: true,
            is_json: true,
            base_url: Some("https://matrix.example.org".into()),
            foci: vec!["https://calls.example.org".into()],
        }
    }

    #[test]
    fn each_fault_has_its_sentence() {
        let judge = |well_known: WellKnown| well_known.judge("https://example.org", Some("https://calls.example.org"));
        assert!(matches!(judge(good()), Verdict::Fine(_)));
        for (faulty, told) in [
            (WellKnown { status: 404, ..good() }, "answers 404: let the web server"),
            (WellKnown { is_json: false, ..good() }, "is no JSON"),
            (WellKnown { base_url: None, ..good() }, "names no homeserver"),
            (WellKnown { is_readable_by_pages: false, ..good() }, "Access-Control-Allow-Origin: *"),
            (WellKnown { foci: vec!["https://old.example".into()], ..good() }, "sends older clients to https://old"),
        ] {
            let verdict = judge(faulty);
            assert!(matches!(&verdict, Verdict::Wrong(sentence) if sentence.contains(told)), "{verdict:?}");
        }
        let without = WellKnown { foci: Vec::new(), ..good() };
        assert!(matches!(judge(without), Verdict::Lost(sentence) if sentence.contains("older clients find no calls")));
    }

    #[test]
    fn service_addresses_are_read_from_both_lists() {
        let list = serde_json::json!([
            { "type": "other" },
            { "type": "livekit", "livekit_service_url": "https://calls.example.org/" },
            { "type": "livekit" },
        ]);
        assert_eq!(livekit_urls(&list), ["https://calls.example.org"]);
        assert!(livekit_urls(&Value::Null).is_empty());
    }
}
