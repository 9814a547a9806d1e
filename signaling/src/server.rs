//! The HTTP listener: accepts connections within bounds, and ends them in an orderly way.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sfu::Event;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::control::{Control, now};
use crate::http::{self, App, TokenService};
use crate::leave_store;
use crate::livekit::{Rooms, Settings};
use crate::matrix::{ISSUER, Service};
use crate::options::{CommandSink, Options};
use crate::outbound::homeserver::{self, Homeserver};
use crate::outbound::servers::Servers;
use crate::tcp::{Http, Place, Places, Sorted, Tcp};

/// A request's head: the join request of a browser stands in its first line.
const HEAD_LIMIT: usize = 256 << 10;
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Questions to the homeserver that wait for their turn.
const ASKS: usize = 1024;
/// After an error of accept (out of descriptors, mostly) there is no use in trying at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves clients on `listener` until `shutdown` is ready; then sends them away so that they reconnect, and returns
/// when they are gone or [`crate::Drain::timeout`] is over. `workers` are the command queues, by worker number;
/// `events` brings the events of all workers.
pub async fn serve(
    listener: TcpListener,
    mut options: Options,
    workers: Vec<CommandSink>,
    events: mpsc::Receiver<Event>,
    shutdown: impl Future<Output = ()>,
) {
    let mut entropy = options.entropy;
    let mut api_keys = options.api_keys;
    if let Some(matrix) = &options.matrix {
        api_keys.insert(ISSUER.to_owned(), matrix.settings.token_secret());
    }
    let settings = Settings {
        api_keys,
        candidates: options.media_candidates,
        tcp_candidates: options.media_tcp_candidates,
        fingerprint: options.fingerprint,
        turn: options.turn,
        room_defaults: options.room_defaults,
        workers: workers.len(),
        node_id: crate::livekit::node_id(&mut entropy),
        limits: options.limits.clone(),
    };
    let rooms = Rooms::new(settings.clone(), entropy);
    let mut leave_store = None;
    let service = options.matrix.as_mut().map(|matrix| {
        leave_store = matrix.leave_store.take();
        Service::new(now(), matrix.settings.clone(), std::mem::take(&mut matrix.leaves))
    });
    let (asks, asked) = mpsc::channel(ASKS);
    let control = Arc::new(Control::new(rooms, workers, options.turn_withdrawals, service, asks));
    let tokens = options.matrix.and_then(|matrix| {
        let settings = matrix.settings;
        let homeserver = Homeserver::new(&settings.homeserver, &settings.as_token, matrix.authorities.clone())?;
        Some(TokenService::new(settings, homeserver, Servers::new(matrix.authorities, matrix.may_ask)))
    });
    let homeserver = tokens.as_ref().map(|tokens| tokens.homeserver.clone());
    let app = Arc::new(App {
        control: Arc::clone(&control),
        settings,
        metrics: options.metrics,
        demo_key: options.demo_key,
        admin_token: options.admin_token,
        tokens,
        certificates: options.tcp.certificates.clone(),
        started: now().unix,
    });
    let mut background = JoinSet::new();
    if let Some(homeserver) = homeserver {
        background.spawn(homeserver::run(homeserver, Arc::clone(&control), asked));
    }
    if let Some(store) = leave_store {
        control.keep_leaves();
        background.spawn(leave_store::run(Arc::clone(&control), store));
    }
    let events_control = Arc::clone(&control);
    background.spawn(async move { events_control.run_events(events).await });
    let timers_control = Arc::clone(&control);
    background.spawn(async move { timers_control.run_timers().await });

    let places = Places::new(options.limits.connections);
    let listeners = std::mem::take(&mut options.tcp.listeners);
    let keeper = options.tcp.keeper.take();
    let tcp = Arc::new(options.tcp);
    if let (Some(certificates), Some(keeper)) = (&tcp.certificates, keeper) {
        background.spawn(keeper.run(Arc::clone(certificates)));
    }
    let mut doors = JoinSet::new();
    doors.spawn(Door { listener, plain_http: true, app: app.clone(), tcp: tcp.clone(), places: places.clone() }.run());
    for listener in listeners {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                let door =
                    Door { listener, plain_http: false, app: app.clone(), tcp: tcp.clone(), places: places.clone() };
                doors.spawn(door.run());
            }
            Err(error) => tracing::error!(%error, "cannot serve a TCP listener"),
        }
    }
    shutdown.await;
    // Who asks now gets "connection refused" and tries again, which is what is wanted.
    doors.shutdown().await;
    control.step_matrix(|service, _, _| service.appservice(|appservice| appservice.leaves.drain()));
    control.step(|rooms, now| rooms.drain(now));
    let _ = tokio::time::timeout(options.drain.timeout, http::until_idle(&control)).await;
    background.shutdown().await;
}

/// A listener and what is behind it.
struct Door {
    listener: TcpListener,
    /// Whether HTTP may come without TLS, and `/metrics` is shown: the operator's own door.
    plain_http: bool,
    app: Arc<App>,
    tcp: Arc<Tcp>,
    places: Arc<Places>,
}

impl Door {
    async fn run(self) {
        let plain_http = self.plain_http;
        loop {
            let socket = match self.listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Beyond the limit a connection is closed at once: a queue of them would only hide it.
            let Some(place) = self.places.take(plain_http) else {
                continue;
            };
            let (app, tcp) = (Arc::clone(&self.app), Arc::clone(&self.tcp));
            tokio::spawn(async move {
                match tcp.sort(socket, plain_http, place).await {
                    Sorted::Http(Http::Plain(stream), place) => serve_http(stream, app, place, plain_http).await,
                    Sorted::Http(Http::Encrypted(stream), place) => serve_http(*stream, app, place, plain_http).await,
                    Sorted::Gone => {}
                }
            });
        }
    }
}

async fn serve_http<S>(stream: S, app: Arc<App>, place: Place, shows_metrics: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // An upgraded connection outlives this task; its handler takes the place along.
    let place = Arc::new(place);
    let service = service_fn(|request: Request<Incoming>| {
        http::respond(Arc::clone(&app), request, Arc::clone(&place), shows_metrics)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::trace!(%error, "connection ended");
    }
}
