//! The configured homeserver: where it is, the operator says.

use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::{PathAndQuery, Scheme, Uri};
use axum::http::{Method as HttpMethod, Request, header};
use bytes::Bytes;
use http_body_util::Full;
use rustls::pki_types::ServerName;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::Authorities;
use super::fetch::{FetchError, Target, fetch};
use crate::control::Control;
use crate::matrix::{Answer, Ask, AskId, Method};

/// For the whole of one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests under way at once, in each lane; others wait their turn within their own time.
const CONCURRENT: usize = 32;

/// Strangers must not keep members waiting, nor anybody the leaves of those who are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// For who has proven nothing yet.
    Strangers,
    /// For who holds a token of ours.
    Members,
    /// For ourselves: whoever asks bounds it.
    Own,
}

#[derive(Clone)]
pub struct Homeserver(Arc<Inner>);

struct Inner {
    base: Uri,
    as_token: String,
    authorities: Authorities,
    strangers: Semaphore,
    members: Semaphore,
}

impl Homeserver {
    /// `None` if `base` is no `http` or `https` address.
    pub fn new(base: &str, as_token: &str, authorities: Authorities) -> Option<Homeserver> {
        let base: Uri = base.parse().ok()?;
        base.host()?;
        let scheme = base.scheme()?;
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            return None;
        }
        Some(Homeserver(Arc::new(Inner {
            base,
            as_token: as_token.to_owned(),
            authorities,
            strangers: Semaphore::new(CONCURRENT),
            members: Semaphore::new(CONCURRENT),
        })))
    }

    pub async fn ask(&self, lane: Lane, ask: &Ask) -> Answer {
        let turns = match lane {
            Lane::Strangers => Some(&self.0.strangers),
            Lane::Members => Some(&self.0.members),
            Lane::Own => None,
        };
        let answer = tokio::time::timeout(TIMEOUT, async {
            let _turn = match turns {
                Some(turns) => Some(turns.acquire().await.map_err(|_| FetchError::Connect)?),
                None => None,
            };
            self.0.ask(ask).await
        });
        let answer = answer.await.unwrap_or(Err(FetchError::Connect));
        match &answer {
            Ok(Answer::Status { status, .. }) => tracing::debug!(?ask, status, "homeserver asked"),
            Ok(Answer::Unreachable) => {}
            Err(error) => tracing::debug!(?ask, ?error, "homeserver asked in vain"),
        }
        answer.unwrap_or(Answer::Unreachable)
    }
}

impl Inner {
    async fn ask(&self, ask: &Ask) -> Result<Answer, FetchError> {
        let host = self.base.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let secure = self.base.scheme() == Some(&Scheme::HTTPS);
        let port = self.base.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses: Vec<_> = tokio::net::lookup_host((bare, port)).await.map_err(|_| FetchError::Connect)?.collect();
        let tls = match secure {
            true => Some(ServerName::try_from(bare.to_owned()).map_err(|_| FetchError::Tls)?),
            false => None,
        };
        let path = format!("{}{}", self.base.path().trim_end_matches('/'), ask.path);
        let path: PathAndQuery = path.parse().map_err(|_| FetchError::Http)?;
        let mut request = Request::builder()
            .method(match ask.method {
                Method::Get => HttpMethod::GET,
                Method::Post => HttpMethod::POST,
                Method::Put => HttpMethod::PUT,
            })
            .uri(Uri::from(path))
            .header(header::HOST, self.base.authority().map_or(host, |authority| authority.as_str()));
        if ask.authorised {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.as_token));
        }
        let body = match &ask.body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(body)).map_err(|_| FetchError::Http)?;
        let target = Target { addresses: &addresses, tls, authorities: &self.authorities };
        let response = fetch(target, request, Answer::LIMIT).await?;
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        Ok(Answer::Status { status: response.status().as_u16(), retry_after, body: response.into_body() })
    }
}

/// Carries out what the Matrix side wants asked, until nobody asks any more.
pub async fn run(homeserver: Homeserver, control: Arc<Control>, mut asks: mpsc::Receiver<(AskId, Ask)>) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            ask = asks.recv(), if running.len() < CONCURRENT => {
                let Some((id, ask)) = ask else { break };
                let (homeserver, control) = (homeserver.clone(), Arc::clone(&control));
                running.spawn(async move {
                    let answer = homeserver.ask(Lane::Own, &ask).await;
                    control.step_matrix(|service, _, now| service.handle_answer(now, id, &answer));
                });
            }
            Some(_) = running.join_next() => {}
        }
    }
}
