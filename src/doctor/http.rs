//! Requests, one connection each, and what of the answers the checks look at.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use super::connection::{ConnectError, Dialer, Origin};

/// A homeserver that is asked to ping us waits for our answer first.
const PATIENCE: Duration = Duration::from_secs(20);
const BODY_LIMIT: usize = 1 << 20;

/// The page that asks, as far as servers are concerned: CORS is for pages of elsewhere.
const PAGE: &str = "https://call.example";

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    Connect(ConnectError),
    /// Connected, but no HTTP came back.
    NoHttp,
    Silent,
}

impl Answer {
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Matrix's `errcode`, or nothing.
    pub fn errcode(&self) -> String {
        let text = |value: Value| value["errcode"].as_str().map(str::to_owned);
        self.json().and_then(text).unwrap_or_default()
    }

    /// The status, and Matrix's error code where there is one.
    pub fn told(&self) -> String {
        match self.errcode() {
            code if code.is_empty() => self.status.to_string(),
            code => format!("{} {code}", self.status),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether a page of any origin may read this.
    pub fn is_readable_by_pages(&self) -> bool {
        let allowed: Vec<_> = self.headers.get_all("access-control-allow-origin").iter().collect();
        // Two headers, which a proxy and the server behind it make together, are none to a browser (Fetch §4.9).
        matches!(allowed[..], [value] if value == "*" || value == PAGE)
    }

    pub fn has_two_origins(&self) -> bool {
        self.headers.get_all("access-control-allow-origin").iter().count() > 1
    }
}

/// One request under construction.
pub struct Ask<'a> {
    dialer: &'a Dialer,
    method: Method,
    url: String,
    token: Option<&'a str>,
    body: Option<Value>,
    headers: Vec<(&'static str, String)>,
}

impl Dialer {
    pub fn get(&self, url: impl Into<String>) -> Ask<'_> {
        self.ask(Method::GET, url)
    }

    pub fn post(&self, url: impl Into<String>, body: Value) -> Ask<'_> {
        let mut ask = self.ask(Method::POST, url);
        ask.body = Some(body);
        ask
    }

    pub fn ask(&self, method: Method, url: impl Into<String>) -> Ask<'_> {
        Ask { dialer: self, method, url: url.into(), token: None, body: None, headers: Vec::new() }
    }
}

impl<'a> Ask<'a> {
    pub fn token(mut self, token: &'a str) -> Ask<'a> {
        self.token = Some(token);
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Ask<'a> {
        self.headers.push((name, value.into()));
        self
    }

    pub async fn send(self) -> Result<Answer, HttpError> {
        let exchange = self.exchange();
        timeout(PATIENCE, exchange).await.unwrap_or(Err(HttpError::Silent))
    }

    async fn exchange(self) -> Result<Answer, HttpError> {
        let url: Uri = self.url.parse().map_err(|_| HttpError::NoHttp)?;
        let origin = Origin::of(&url).ok_or(HttpError::NoHttp)?;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let authority = url.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let mut request = Request::builder()
            .method(self.method)
            .uri(path)
            .header(HOST, authority)
            .header(ORIGIN, PAGE)
            .header(USER_AGENT, "hausruf-doctor");
        if let Some(token) = self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let body = match self.body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(body)).map_err(|_| HttpError::NoHttp)?;

        let stream = self.dialer.connect(&origin).await.map_err(HttpError::Connect)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|_| HttpError::NoHttp)?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await;
        let answer = match answer {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(|_| HttpError::NoHttp)?;
                Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
            }
            Err(_) => Err(HttpError::NoHttp),
        };
        connection.abort();
        answer
    }
}
