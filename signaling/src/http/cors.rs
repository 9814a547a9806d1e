//! Pages of any origin may read every answer: tokens, not origins, decide who gets in. Without this a browser cannot
//! tell a refusal from a server that does not answer.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, header};

pub fn allow_everybody(response: &mut Response<Body>, requested_headers: Option<HeaderValue>) {
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 4] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "OPTIONS, HEAD, GET, POST, PATCH, DELETE"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "*"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // `*` would not cover Authorization (Fetch §4.9), so what was asked for is repeated.
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        requested_headers.unwrap_or_else(|| HeaderValue::from_static("*")),
    );
}

/// The same for the token service, in the words of the service that clients know.
pub fn allow_posts(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
