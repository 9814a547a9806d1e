//! What the homeserver asks of its appservice: `/_matrix/app/v1/…`.

use axum::body::Body;
use axum::http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};

use super::{App, read, text};
use crate::matrix::is_bearer;

/// Octets of a transaction: a hundred events of 64 KiB each, and as much again of what we do not look at.
const BODY_LIMIT: usize = 16 << 20;

/// `path` is what stands behind `/_matrix/app/v1/`.
pub async fn call(app: &App, path: &str, parts: &Parts, body: Body) -> Response<Body> {
    let authorization = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let judged = app.control.step_matrix(|service, _, _| {
        let known = authorization.map(|authorization| is_bearer(authorization, &service.settings().hs_token));
        if known != Some(true) {
            service.appservice(|appservice| appservice.count_refused());
        }
        known
    });
    // Nothing of a stranger's body is read.
    match judged {
        None => return text(StatusCode::NOT_FOUND, ""),
        Some(None) => return error(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "hs_token is missing"),
        Some(Some(false)) => return error(StatusCode::FORBIDDEN, "M_FORBIDDEN", "hs_token is wrong"),
        Some(Some(true)) => {}
    }
    match (&parts.method, path.split_once('/')) {
        (&Method::PUT, Some(("transactions", id))) => transaction(app, id, body).await,
        (&Method::POST, None) if path == "ping" => json(StatusCode::OK, "{}"),
        // We have no users and no aliases of our own.
        (&Method::GET | &Method::HEAD, Some(("users" | "rooms", _))) => json(StatusCode::NOT_FOUND, "{}"),
        (_, Some(("transactions" | "users" | "rooms", _))) => unknown(StatusCode::METHOD_NOT_ALLOWED),
        _ if path == "ping" => unknown(StatusCode::METHOD_NOT_ALLOWED),
        _ => unknown(StatusCode::NOT_FOUND),
    }
}

/// `/healthz`, for whoever watches whether this program lives; a homeserver that is away is not its illness. Whoever knows
/// the hs_token learns besides how many transactions have come.
pub fn health(app: &App, parts: &Parts) -> Response<Body> {
    let authorization = parts.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let transactions = app.control.step_matrix(|service, _, _| {
        is_bearer(authorization, &service.settings().hs_token).then(|| service.census().transactions)
    });
    match transactions {
        Some(Some(transactions)) => {
            json(StatusCode::OK, serde_json::json!({ "transactions": transactions }).to_string())
        }
        _ => text(StatusCode::OK, ""),
    }
}

async fn transaction(app: &App, id: &str, body: Body) -> Response<Body> {
    let body = match read(body, BODY_LIMIT).await {
        Ok(body) => body,
        Err(StatusCode::PAYLOAD_TOO_LARGE) => {
            return error(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", "the transaction is too long");
        }
        Err(status) => return error(status, "M_UNKNOWN", "the transaction took too long"),
    };
    let handled = app
        .control
        .step_matrix(|service, _, now| service.appservice(|appservice| appservice.handle_transaction(now, id, &body)));
    match handled {
        Some(Ok(())) => json(StatusCode::OK, "{}"),
        _ => error(StatusCode::BAD_REQUEST, "M_BAD_JSON", "the transaction has no list of events"),
    }
}

fn unknown(status: StatusCode) -> Response<Body> {
    error(status, "M_UNRECOGNIZED", "unknown request")
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    json(status, serde_json::json!({ "errcode": code, "error": message }).to_string())
}

fn json(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = text(status, body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
