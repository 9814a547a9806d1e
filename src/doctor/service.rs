//! Our own public address: that the proxy in front passes everything on, and nothing too much.

use hyper::Method;
use serde_json::json;

use super::call::participant::{self, Trouble};
use super::connection::Dialer;
use super::homeserver::ahead_s;
use super::http::HttpError;
use super::report::Verdict;

/// Where clients ask for tokens.
pub const ENDPOINTS: [&str; 3] = ["/sfu/get", "/get_token", "/delegate_delayed_leave"];

/// As long as the join request of a browser, which stands in the address.
const LONG_REQUEST: usize = 16 << 10;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub status: u16,
    pub ahead_s: Option<i64>,
}

pub async fn health(dialer: &Dialer, service: &str) -> Result<Health, HttpError> {
    let answer = dialer.get(format!("{service}/healthz")).send().await?;
    Ok(Health { status: answer.status, ahead_s: ahead_s(&answer) })
}

impl Health {
    pub fn judge(&self, service: &str) -> Verdict {
        match self.status {
            200 => Verdict::Fine(format!("{service}/healthz says that hausruf serves.")),
            502..=504 => Verdict::Wrong(format!(
                "The proxy at {service} does not reach hausruf ({}): start hausruf, or correct the address to which the \
                 proxy passes requests on.",
                self.status
            )),
            status => Verdict::Wrong(format!(
                "{service}/healthz answers {status}: let the proxy pass /healthz, /sfu/get, /get_token, \
                 /delegate_delayed_leave and /rtc on to hausruf, or correct matrix.url."
            )),
        }
    }
}

/// What one endpoint says to a page's preflight and to an empty request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub path: &'static str,
    pub preflight_status: u16,
    pub status: u16,
    pub is_readable_by_pages: bool,
    pub has_two_origins: bool,
}

pub async fn endpoints(dialer: &Dialer, service: &str) -> Result<Vec<Endpoint>, HttpError> {
    let mut endpoints = Vec::new();
    for path in ENDPOINTS {
        let url = format!("{service}{path}");
        let preflight = dialer
            .ask(Method::OPTIONS, url.clone())
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type")
            .send()
            .await?;
        let answer = dialer.post(url, json!({})).send().await?;
        endpoints.push(Endpoint {
            path,
            preflight_status: preflight.status,
            status: answer.status,
            is_readable_by_pages: preflight.is_readable_by_pages() && answer.is_readable_by_pages(),
            has_two_origins: preflight.has_two_origins() || answer.has_two_origins(),
        });
    }
    Ok(endpoints)
}

pub fn judge_endpoints(endpoints: &[Endpoint], service: &str) -> Verdict {
    // An empty request is refused by whoever understood it.
    if let Some(Endpoint { path, status, .. }) = endpoints.iter().find(|endpoint| endpoint.status != 400) {
        return Verdict::Wrong(match status {
            404 | 405 => format!(
                "{service}{path} answers {status}: let the proxy pass it on to hausruf (and hausruf have a [matrix] part)."
            ),
            _ => format!(
                "{service}{path} answers an empty request with {status} instead of 400: let the proxy pass it on to \
                 hausruf unchanged."
            ),
        });
    }
    if let Some(Endpoint { path, .. }) = endpoints.iter().find(|endpoint| endpoint.has_two_origins) {
        return Verdict::Wrong(format!(
            "{service}{path} sends Access-Control-Allow-Origin twice, which browsers refuse: remove it from the proxy, \
             since hausruf sends it."
        ));
    }
    let unreadable = |endpoint: &&Endpoint| !endpoint.is_readable_by_pages || endpoint.preflight_status >= 300;
    if let Some(Endpoint { path, .. }) = endpoints.iter().find(unreadable) {
        return Verdict::Wrong(format!(
            "No page may ask {service}{path}, since Access-Control-Allow-Origin is missing or OPTIONS fails: let the proxy \
             pass OPTIONS and hausruf's headers unchanged."
        ));
    }
    Verdict::Fine("Pages of every origin may ask for tokens.".into())
}

pub async fn metrics_are_public(dialer: &Dialer, service: &str) -> bool {
    let answer = dialer.get(format!("{service}/metrics")).send().await;
    answer.is_ok_and(|answer| answer.is_success() && answer.body.starts_with(b"# "))
}

pub fn judge_metrics(are_public: bool, service: &str) -> Verdict {
    if are_public {
        Verdict::Lost(format!(
            "Everybody can read {service}/metrics, which tells when how many people call: leave it out of the proxy."
        ))
    } else {
        Verdict::Fine("/metrics is not public.".into())
    }
}

/// What becomes of a client without a valid token, with a short and with a long address.
pub async fn socket(dialer: &Dialer, service: &str) -> (Result<(), Trouble>, Result<(), Trouble>) {
    let websocket = websocket_url(service);
    let filler = "A".repeat(LONG_REQUEST);
    let short = participant::open(dialer, &websocket, "doctor", None).await.map(|_| ());
    let long = participant::open(dialer, &websocket, "doctor", Some(&filler)).await.map(|_| ());
    (short, long)
}

/// The signalling's address: that of the service with `ws` in the place of `http`.
pub fn websocket_url(service: &str) -> String {
    service.strip_prefix("http").map_or_else(|| service.to_owned(), |rest| format!("ws{rest}"))
}

pub fn judge_socket(short: &Result<(), Trouble>, long: &Result<(), Trouble>, service: &str) -> Verdict {
    // Both carry no token: 401 is the answer of the signalling.
    match (short, long) {
        (Err(Trouble::Refused(401, _)), Err(Trouble::Refused(401, _))) => {
            Verdict::Fine(format!("{}/rtc is the signalling of calls.", websocket_url(service)))
        }
        (Err(Trouble::Refused(401, _)), Err(Trouble::Refused(status, _))) => Verdict::Wrong(format!(
            "The proxy refuses long addresses ({status}) and so the join requests of browsers: allow request lines of 32 \
             kB (nginx: large_client_header_buffers 4 32k;)."
        )),
        (Err(Trouble::Refused(401, _)), _) => Verdict::Wrong(
            "The proxy hangs up on long addresses and so on the join requests of browsers: allow request lines of 32 kB \
             (nginx: large_client_header_buffers 4 32k;)."
                .into(),
        ),
        (Err(Trouble::Refused(status, _)), _) => Verdict::Wrong(format!(
            "{service}/rtc/v1 answers {status} where the signalling answers 401: let the proxy pass /rtc and everything \
             below it on to hausruf."
        )),
        (Err(Trouble::Failed(reason)), _) => Verdict::Wrong(format!(
            "{service}/rtc/v1 takes no WebSocket ({reason}): let the proxy pass /rtc on to hausruf, with the Upgrade and \
             Connection headers."
        )),
        (Ok(()), _) => Verdict::Wrong(format!(
            "{service}/rtc/v1 lets clients in without a token: let the proxy pass /rtc on to hausruf."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::wrong;

    const AT: &str = "https://calls.example.org";

    #[test]
    fn a_proxy_without_a_server_and_one_without_routes_are_told_apart() {
        assert!(matches!(Health { status: 200, ahead_s: None }.judge(AT), Verdict::Fine(_)));
        assert!(wrong(Health { status: 502, ahead_s: None }.judge(AT)).contains("does not reach hausruf (502)"));
        assert!(wrong(Health { status: 404, ahead_s: None }.judge(AT)).contains("let the proxy pass /healthz"));
    }

    #[test]
    fn each_fault_of_an_endpoint_has_its_sentence() {
        let good = |path| Endpoint {
            path,
            preflight_status: 200,
            status: 400,
            is_readable_by_pages: true,
            has_two_origins: false,
        };
        let all = |last: Endpoint| vec![good(ENDPOINTS[0]), good(ENDPOINTS[1]), last];
        let judge = |last| judge_endpoints(&all(last), AT);
        assert!(matches!(judge(good(ENDPOINTS[2])), Verdict::Fine(_)));
        let path = ENDPOINTS[2];
        assert!(wrong(judge(Endpoint { status: 404, ..good(path) })).contains("/delegate_delayed_leave answers 404"));
        assert!(wrong(judge(Endpoint { status: 200, ..good(path) })).contains("instead of 400"));
        assert!(wrong(judge(Endpoint { has_two_origins: true, ..good(path) })).contains("twice"));
        assert!(wrong(judge(Endpoint { is_readable_by_pages: false, ..good(path) })).contains("No page may ask"));
        assert!(wrong(judge(Endpoint { preflight_status: 405, ..good(path) })).contains("OPTIONS"));
    }

    #[test]
    fn what_the_proxy_does_to_sockets_is_told() {
        let refused = |status| Err(Trouble::Refused(status, String::new()));
        assert!(matches!(judge_socket(&refused(401), &refused(401), AT), Verdict::Fine(_)));
        assert!(wrong(judge_socket(&refused(401), &refused(414), AT)).contains("large_client_header_buffers"));
        assert!(wrong(judge_socket(&refused(404), &refused(404), AT)).contains("answers 404"));
        let failed = Err(Trouble::Failed("no upgrade".into()));
        assert!(wrong(judge_socket(&failed, &failed, AT)).contains("Upgrade and Connection headers"));
        assert_eq!(websocket_url("https://a/b"), "wss://a/b");
    }
}
