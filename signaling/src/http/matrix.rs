//! The token service: `/sfu/get`, `/get_token`, `/delegate_delayed_leave`, and the same by way of a homeserver.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{App, text};
use crate::livekit::token;
use crate::matrix::inquiry::{Inquiry, Reentry, ReentryStep, Step};
use crate::matrix::proxied::{Caller, Forward, Route};
use crate::matrix::token_request::{BODY_MAX, TokenRequest};
use crate::matrix::{Admission, Member, Refusal, Settings, is_bearer};
use crate::outbound::homeserver::{Homeserver, Lane};
use crate::outbound::servers::Servers;

/// Requests under way at once, those that wait for other servers included.
const CONCURRENT: usize = 512;
/// For sockets that wait for the homeserver's word.
const REENTRY_TIMEOUT: Duration = Duration::from_secs(4);

/// What the token service needs besides the rooms.
pub struct TokenService {
    pub settings: Settings,
    pub homeserver: Homeserver,
    pub servers: Servers,
    turns: Semaphore,
}

impl TokenService {
    pub fn new(settings: Settings, homeserver: Homeserver, servers: Servers) -> TokenService {
        TokenService { settings, homeserver, servers, turns: Semaphore::new(CONCURRENT) }
    }
}

/// The public endpoints, by path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    SfuGet,
    GetToken,
    DelegateDelayedLeave,
}

impl Endpoint {
    pub fn of(path: &str) -> Option<Endpoint> {
        match path {
            "/sfu/get" => Some(Endpoint::SfuGet),
            "/get_token" => Some(Endpoint::GetToken),
            "/delegate_delayed_leave" => Some(Endpoint::DelegateDelayedLeave),
            _ => None,
        }
    }
}

fn json_response(status: u16, body: String) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = text(status, body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refused(app: &App, refusal: &Refusal) -> Response<Body> {
    app.control.step_matrix(|service, _, _| service.count_refused(refusal));
    tracing::debug!(reason = refusal.label(), "no token");
    let mut response = json_response(refusal.status(), refusal.body());
    if let Refusal::Limited(after) = refusal {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs() + 1));
    }
    response
}

/// What a browser asks before it dares to post.
pub fn preflight() -> Response<Body> {
    json_response(200, String::new())
}

/// A request to one of the public endpoints.
pub async fn public(app: &App, endpoint: Endpoint, method: &Method, body: Body) -> Response<Body> {
    let Some(service) = &app.tokens else {
        return text(StatusCode::NOT_FOUND, "");
    };
    if method != Method::POST {
        return json_response(405, "".into());
    }
    let answer = answer(app, service, body, |body| match endpoint {
        Endpoint::SfuGet => TokenRequest::sfu_get(body),
        Endpoint::GetToken => TokenRequest::get_token(body),
        Endpoint::DelegateDelayedLeave => TokenRequest::delegate_delayed_leave(body),
    });
    match answer.await {
        Ok(answer) => json_response(200, answer),
        Err(refusal) => refused(app, &refusal),
    }
}

/// A request that a homeserver passes on (MSC4512): ours for its user, or another for one of its own.
pub async fn proxied(app: &App, route: Route, parts: &Parts, body: Body) -> Response<Body> {
    let Some(service) = &app.tokens else {
        return text(StatusCode::NOT_FOUND, "");
    };
    if parts.method != Method::POST {
        return json_response(405, "".into());
    }
    match proxied_answer(app, service, &route, parts, body).await {
        Ok((status, answer)) => json_response(status, answer),
        Err(refusal) => refused(app, &refusal),
    }
}

async fn proxied_answer(
    app: &App,
    service: &TokenService,
    route: &Route,
    parts: &Parts,
    body: Body,
) -> Result<(u16, String), Refusal> {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = parts.headers.get(header::AUTHORIZATION).ok_or(Refusal::NoToken)?;
    if !is_bearer(authorization.as_bytes(), &service.settings.hs_token) {
        return Err(Refusal::WrongToken);
    }
    let caller = Caller::new(route, header("x-matrix-user-identifier"), header("x-matrix-origin"))?;
    let body = read(body).await?;
    let (request, forward) = caller.request(&service.settings, route, &body)?;
    let Some(forward) = forward else {
        let answer = decide(app, service, request).await?;
        return Ok((200, answer));
    };
    pass_on(app, service, request, forward).await
}

/// A user of ours wants to hear another server's call: that server's own service decides.
async fn pass_on(
    app: &App,
    service: &TokenService,
    request: TokenRequest,
    forward: Forward,
) -> Result<(u16, String), Refusal> {
    let _turn = service.turns.try_acquire().map_err(|_| Refusal::Busy)?;
    // Only who is in the room may have us ask.
    inquire(app, service, request).await?;
    let answer = service.homeserver.ask(Lane::Strangers, &forward.ask()).await;
    Forward::answer(&answer)
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    super::read(body, BODY_MAX).await.map_err(|status| match status {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
        _ => Refusal::Busy,
    })
}

async fn answer(
    app: &App,
    service: &TokenService,
    body: Body,
    parse: impl FnOnce(&[u8]) -> Result<TokenRequest, Refusal>,
) -> Result<String, Refusal> {
    let body = read(body).await?;
    decide(app, service, parse(&body)?).await
}

/// The whole way from a well-formed request to the answer's body.
async fn decide(app: &App, service: &TokenService, request: TokenRequest) -> Result<String, Refusal> {
    let _turn = service.turns.try_acquire().map_err(|_| Refusal::Busy)?;
    let admission = inquire(app, service, request).await?;
    if let Some(delegation) = &admission.delegation {
        let delegated = app.control.delegate(admission.seat.clone(), delegation.clone()).await;
        delegated.map_err(|_| Refusal::Busy)?;
    }
    if !admission.wants_token {
        return Ok("{}".to_owned());
    }
    let claims = app.control.step_matrix(|service, rooms, now| service.admit(rooms, now, &admission));
    let claims = claims.ok_or(Refusal::Internal)?;
    let jwt = token::sign(&claims, &app.settings.api_keys).ok_or(Refusal::Internal)?;
    Ok(json!({ "url": service.settings.websocket_url, "jwt": jwt }).to_string())
}

async fn inquire(app: &App, service: &TokenService, request: TokenRequest) -> Result<Admission, Refusal> {
    if app.control.step(|rooms, _| rooms.is_draining()) {
        return Err(Refusal::ShuttingDown);
    }
    let mut inquiry = Inquiry::new(request);
    let mut step = app.control.step_matrix(|service, _, now| inquiry.start(service, now));
    loop {
        let answer = match step.ok_or(Refusal::Internal)? {
            Step::Done(result) => return result,
            Step::Wait(after) => {
                tokio::time::sleep(after).await;
                step = Some(inquiry.handle_waited());
                continue;
            }
            Step::AskHomeserver(ask) => service.homeserver.ask(Lane::Strangers, &ask).await,
            Step::AskServer { server, path } => service.servers.get(&server, &path).await,
        };
        step = app.control.step_matrix(|service, _, now| inquiry.handle_answer(service, now, &answer));
    }
}

/// Whether the user of a token is still in the room, when a socket is opened with it.
pub async fn may_enter(app: &App, member: &Member) -> bool {
    let Some(service) = &app.tokens else {
        return false;
    };
    let mut reentry = Reentry::new(member.clone());
    let asked = tokio::time::timeout(REENTRY_TIMEOUT, async {
        let mut step = app.control.step_matrix(|service, _, _| reentry.start(service));
        loop {
            step = match step {
                None => return false,
                Some(ReentryStep::Done(joined)) => return joined,
                Some(ReentryStep::Wait(after)) => {
                    tokio::time::sleep(after).await;
                    Some(reentry.handle_waited())
                }
                Some(ReentryStep::AskHomeserver(ask)) => {
                    let answer = service.homeserver.ask(Lane::Members, &ask).await;
                    app.control.step_matrix(|service, _, now| reentry.handle_answer(service, now, &answer))
                }
            };
        }
    });
    match asked.await {
        Ok(joined) => joined,
        // A homeserver that is slow is one that does not answer.
        Err(_) => app.control.step_matrix(|service, _, now| reentry.handle_silence(service, now)).unwrap_or(false),
    }
}
