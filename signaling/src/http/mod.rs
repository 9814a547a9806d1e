//! What is asked over HTTP, path by path.

mod admin;
mod appservice;
mod cors;
mod demo;
mod matrix;
mod rtc;
mod twirp;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{Method, Request, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;

use self::matrix::Endpoint;
pub use self::matrix::TokenService;
use crate::control::Control;
use crate::livekit::Settings;
use crate::matrix::proxied::Route;
use crate::options::MetricsSource;
use crate::tcp::{Certificates, Place};
use crate::{metrics, page};

/// A request's head has come by then, and so should its body: each holds a connection.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

pub struct App {
    pub control: Arc<Control>,
    pub settings: Settings,
    pub metrics: MetricsSource,
    pub demo_key: Option<String>,
    /// `None` without a homeserver.
    pub tokens: Option<TokenService>,
    pub admin_token: Option<String>,
    pub certificates: Option<Arc<Certificates>>,
    /// Since the Unix epoch.
    pub started: Duration,
}

/// A body of at most `limit` octets, or why there is none: 413, 408.
async fn read(body: Body, limit: usize) -> Result<Bytes, StatusCode> {
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, limit)).await {
        Ok(body) => body.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// Answers one request. `place` is the connection's share of the limit; what outlives the request keeps it. Not everybody is
/// shown the metrics.
pub async fn respond(
    app: Arc<App>,
    request: Request<Incoming>,
    place: Arc<Place>,
    shows_metrics: bool,
) -> Result<Response<Body>, Infallible> {
    let (mut parts, body) = request.into_parts();
    if let Some(tokens) = &app.tokens {
        strip(&mut parts, tokens.settings.path_prefix());
    }
    let wish = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let head = parts.method == Method::HEAD;
    let endpoint = Endpoint::of(&path(&parts)).filter(|_| app.tokens.is_some());
    let is_admin = admin::owns(parts.uri.path());
    let mut response = match endpoint {
        Some(_) if parts.method == Method::OPTIONS => matrix::preflight(),
        Some(endpoint) => matrix::public(&app, endpoint, &parts.method, Body::new(body)).await,
        None => route(app, parts, Body::new(body), place, shows_metrics).await,
    };
    match endpoint {
        Some(_) => cors::allow_posts(&mut response),
        // The operator's page is for itself alone.
        None if is_admin => {}
        // A page opens WebSockets to any origin without (RFC 6455 §10.2), and on a poor link every octet before the first
        // message is in the way.
        None if response.status() == StatusCode::SWITCHING_PROTOCOLS => {}
        None => cors::allow_everybody(&mut response, wish),
    }
    if head {
        *response.body_mut() = Body::empty();
    }
    Ok(response)
}

/// A proxy may pass on the path at which the public sees us, or take it off.
fn strip(parts: &mut Parts, prefix: &str) {
    let asked = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = asked.strip_prefix(prefix).filter(|rest| rest.starts_with('/'));
    if let Some(Ok(rest)) = rest.map(str::parse::<PathAndQuery>) {
        parts.uri = Uri::from(rest);
    }
}

/// Clients whose base address ends in a slash ask for `//rtc`.
fn path(parts: &Parts) -> String {
    format!("/{}", parts.uri.path().trim_start_matches('/'))
}

async fn route(app: Arc<App>, mut parts: Parts, body: Body, place: Arc<Place>, shows_metrics: bool) -> Response<Body> {
    let path = path(&parts);
    if parts.method == Method::OPTIONS {
        return text(StatusCode::OK, "");
    }
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    match path.as_str() {
        "/rtc/validate" | "/rtc/v1/validate" if reads => rtc::validate(&app, &parts, &path).await,
        "/rtc" | "/rtc/v1" if reads => rtc::join(app, &mut parts, &path, place).await,
        "/metrics" if reads && shows_metrics => {
            let workers = (app.metrics)();
            let tls = app.certificates.as_ref().map(|certificates| certificates.census());
            match metrics::render(&workers, app.control.census(), &app.control.link_census(), tls.as_ref()) {
                Some(body) => text(StatusCode::OK, body),
                None => text(StatusCode::INTERNAL_SERVER_ERROR, "metrics clash"),
            }
        }
        "/healthz" if reads => appservice::health(&app, &parts),
        "/demo/token" if parts.method == Method::POST => demo::token(&app, body).await,
        "/" if reads => {
            let browser = parts
                .headers
                .get(header::ACCEPT)
                .and_then(|accept| accept.to_str().ok())
                .is_some_and(|accept| accept.contains("text/html"));
            let index = browser.then(|| page::file("/")).flatten();
            index.unwrap_or_else(|| text(StatusCode::OK, "OK"))
        }
        other => {
            if let Some(method) = other.strip_prefix("/twirp/livekit.RoomService/") {
                let method = method.to_owned();
                return twirp::call(&app, &method, &parts, body).await;
            }
            if let Some(token) = other.strip_prefix("/.well-known/acme-challenge/") {
                let challenges = app.certificates.as_ref().and_then(|certificates| certificates.challenges());
                // RFC 8555 §8.3.
                return match challenges.and_then(|challenges| challenges.text(token)) {
                    Some(key_authorization) => text(StatusCode::OK, key_authorization),
                    None => text(StatusCode::NOT_FOUND, ""),
                };
            }
            if admin::owns(other) {
                return admin::call(&app, other, &parts, body).await;
            }
            if let Some(path) = other.strip_prefix("/_matrix/app/v1/") {
                return appservice::call(&app, path, &parts, body).await;
            }
            if let Some(route) = Route::of(other) {
                return matrix::proxied(&app, route, &parts, body).await;
            }
            let file = if reads { page::file(other) } else { None };
            file.unwrap_or_else(|| text(StatusCode::NOT_FOUND, ""))
        }
    }
}

pub fn text(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Returns when no client is connected any more.
pub async fn until_idle(control: &Control) {
    while control.census().connections > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
