//! `/admin`: the operator's page, and what it asks for. Without `[admin] token` there is nothing here.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize};

use super::{App, read, text};
use crate::matrix::is_bearer;
use crate::page;

/// Of the logs of links: all of them, or, with a participant's sid behind it, one.
const LINKS: &str = "/admin/api/links";
const BODY_LIMIT: usize = 4 << 10;
/// Rooms that one page watches.
const WATCHED_MAX: usize = 20;

/// Nothing from elsewhere, and into no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Which rooms the page shows in full.
#[derive(Deserialize)]
struct Watch {
    rooms: Vec<String>,
}

#[derive(Deserialize)]
struct End {
    room: String,
}

#[derive(Deserialize)]
struct Remove {
    room: String,
    participant: String,
}

pub fn owns(path: &str) -> bool {
    let path = path.trim_start_matches('/');
    path == "admin" || path.starts_with("admin/") || path == "admin.html"
}

pub async fn call(app: &App, path: &str, parts: &Parts, body: Body) -> Response<Body> {
    let mut response = answer(app, path, parts, body).await;
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 3] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn answer(app: &App, path: &str, parts: &Parts, body: Body) -> Response<Body> {
    let Some(token) = &app.admin_token else {
        return text(StatusCode::NOT_FOUND, "");
    };
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    // The page itself tells nothing: it asks for the token.
    if path == "/admin" && reads {
        return page::file("/admin.html").unwrap_or_else(|| text(StatusCode::NOT_FOUND, "the page was not built"));
    }
    let link = path.strip_prefix(LINKS).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let asks = ["/admin/survey", "/admin/end", "/admin/remove"];
    if !asks.contains(&path) && link.is_none() {
        return text(StatusCode::NOT_FOUND, "");
    }
    if !(parts.method == Method::POST && link.is_none() || reads && link.is_some()) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    let authorization = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    if !authorization.is_some_and(|authorization| is_bearer(authorization, token)) {
        return text(StatusCode::UNAUTHORIZED, "the token is wrong");
    }
    if let Some(link) = link {
        return links(app, link.trim_start_matches('/'), parts.uri.query());
    }
    let body = match read(body, BODY_LIMIT).await {
        Ok(body) => body,
        Err(status) => return text(status, "the request is too long, or took too long"),
    };
    let done = match path {
        "/admin/survey" => serde_json::from_slice(&body).map(|watch: Watch| survey(app, &watch)),
        "/admin/end" => serde_json::from_slice(&body)
            .map(|end: End| found(app.control.step(|rooms, now| rooms.end_room(now, &end.room)))),
        _ => serde_json::from_slice(&body).map(|remove: Remove| {
            let removed = app.control.step(|rooms, now| rooms.remove_session(now, &remove.room, &remove.participant));
            found(removed)
        }),
    };
    done.unwrap_or_else(|_| text(StatusCode::BAD_REQUEST, "the request could not be read"))
}

fn survey(app: &App, watch: &Watch) -> Response<Body> {
    let sids: Vec<&str> = watch.rooms.iter().take(WATCHED_MAX).map(String::as_str).collect();
    json(&app.control.survey(&sids))
}

/// How the links of everybody, or of the participant with this sid, did.
fn links(app: &App, sid: &str, query: Option<&str>) -> Response<Body> {
    if sid.is_empty() {
        return json(&app.control.step(|rooms, now| rooms.links(now)));
    }
    let Some(minutes) = utc_offset_minutes(query) else {
        return text(StatusCode::BAD_REQUEST, "utc_offset_minutes is not a number of minutes between -1080 and 1080");
    };
    match app.control.step(|rooms, now| rooms.link(now, sid, minutes * 60)) {
        Some(answer) => json(&answer),
        None => text(StatusCode::NOT_FOUND, "nobody with this sid was here within the last minutes"),
    }
}

/// 0 if it is not there; `None` if it makes no sense.
fn utc_offset_minutes(query: Option<&str>) -> Option<i32> {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    match pairs.find(|(key, _)| *key == "utc_offset_minutes") {
        Some((_, value)) => value.parse().ok().filter(|minutes: &i32| minutes.abs() <= 18 * 60),
        None => Some(0),
    }
}

fn json(value: &impl Serialize) -> Response<Body> {
    let mut response = text(StatusCode::OK, serde_json::to_string(value).unwrap_or_default());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn found(done: bool) -> Response<Body> {
    if done { text(StatusCode::OK, "") } else { text(StatusCode::NOT_FOUND, "it is over already") }
}
