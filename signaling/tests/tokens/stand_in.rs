//! A homeserver as far as we ask one: it answers what it was told to, and remembers what it was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[derive(Clone, Debug)]
#[allow(dead_code)] // Not every test looks at all of it.
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub host: String,
    pub authorization: Option<String>,
    pub body: Value,
}

/// Status, more headers, body.
type Page = (u16, Vec<(&'static str, String)>, String);

#[derive(Default)]
pub struct World {
    pub asked: Vec<Asked>,
    /// OpenID token → `sub`.
    pub openid: BTreeMap<String, String>,
    /// Room (or room and server) and who is in it, percent-encoded as in the question.
    pub joined: BTreeSet<(String, String)>,
    /// Who is in a room from the n-th question on.
    pub joins_after: BTreeMap<(String, String), usize>,
    /// Without MSC4502.
    pub is_old: bool,
    /// Every connection is closed without an answer.
    pub is_away: bool,
    /// By path.
    pub pages: BTreeMap<String, Page>,
}

#[derive(Clone)]
pub struct StandIn {
    pub address: SocketAddr,
    world: Arc<Mutex<World>>,
}

impl StandIn {
    pub async fn start(tls: Option<TlsAcceptor>) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stand_in = StandIn { address: listener.local_addr().unwrap(), world: Arc::default() };
        let accepting = stand_in.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (stand_in, tls) = (accepting.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => stand_in.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                stand_in.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        stand_in
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// `room` and `who` as in the question.
    pub fn join(&self, room: &str, who: &str) {
        self.world().joined.insert((escaped(room), escaped(who)));
    }

    pub fn leave(&self, room: &str, who: &str) {
        self.world().joined.remove(&(escaped(room), escaped(who)));
    }

    pub fn vouch(&self, token: &str, user: &str) {
        self.world().openid.insert(token.into(), user.into());
    }

    /// How often a path with this text in it was asked for.
    pub fn count(&self, text: &str) -> usize {
        self.world().asked.iter().filter(|asked| asked.path.contains(text)).count()
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        if self.world().is_away {
            return;
        }
        let service = service_fn(|request: Request<Incoming>| async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(Body::new(body), 1 << 20).await.unwrap_or_default();
            let text = |name| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let asked = Asked {
                method: parts.method.to_string(),
                path: parts.uri.to_string(),
                host: text(header::HOST).unwrap_or_default(),
                authorization: text(header::AUTHORIZATION),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            Ok::<_, Infallible>(self.answer(asked))
        });
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    fn answer(&self, asked: Asked) -> Response<Body> {
        let mut world = self.world();
        let path = asked.path.clone();
        world.asked.push(asked);
        let page = world.page(&path);
        let (status, headers, body) = page;
        let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
        for (name, value) in headers {
            response = response.header(name, value);
        }
        response.body(Body::from(Bytes::from(body))).unwrap()
    }
}

impl World {
    fn page(&mut self, path: &str) -> Page {
        let said = |status, body: Value| (status, Vec::new(), body.to_string());
        let bare = path.split('?').next().unwrap();
        if let Some(page) = self.pages.get(bare) {
            return page.clone();
        }
        if let Some(token) = path.strip_prefix("/_matrix/federation/v1/openid/userinfo?access_token=") {
            return match self.openid.get(token) {
                Some(sub) => said(200, json!({ "sub": sub })),
                None => said(401, json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "no" })),
            };
        }
        if let Some(rest) = path.strip_prefix("/_matrix/client/unstable/io.element.msc4502/rooms/")
            && !self.is_old
        {
            let (room, query) = rest.split_once("/is_joined?").unwrap();
            let (_, who) = query.split_once('=').unwrap();
            let key = (room.to_owned(), who.to_owned());
            if let Some(left) = self.joins_after.get_mut(&key) {
                if *left == 0 {
                    self.joined.insert(key.clone());
                }
                *left = left.saturating_sub(1);
            }
            return said(200, json!({ "joined": self.joined.contains(&key) }));
        }
        said(404, json!({ "errcode": "M_UNRECOGNIZED", "error": "no such thing" }))
    }
}

/// As RFC 3986 has it, but for dots.
pub fn escaped(text: &str) -> String {
    text.bytes()
        .map(|octet| match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => char::from(octet).to_string(),
            _ => format!("%{octet:02X}"),
        })
        .collect()
}
