//! One HTTP exchange over a connection of its own, bounded in time and octets. Redirects are answers like any other.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::Authorities;

pub const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("hausruf/", env!("CARGO_PKG_VERSION")));

/// Octets of an answer's head.
const HEAD_LIMIT: usize = 16 << 10;
/// For one address out of several.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Nobody who asked is told more: what lies behind an address is not a stranger's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchError {
    Connect,
    Tls,
    Http,
    TooLong,
}

/// Where a request goes. Nothing is resolved here: the addresses are the ones that were judged.
pub struct Target<'a> {
    pub addresses: &'a [SocketAddr],
    /// Whom the certificate has to name; `None` for plain HTTP.
    pub tls: Option<ServerName<'static>>,
    pub authorities: &'a Authorities,
}

/// The caller bounds the time of the whole.
pub async fn fetch(
    target: Target<'_>,
    mut request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Response<Bytes>, FetchError> {
    request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
    request.headers_mut().entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    let stream = connect(target.addresses).await?;
    match target.tls {
        None => exchange(stream, request, limit).await,
        Some(name) => {
            let connector = TlsConnector::from(target.authorities.config());
            let stream = connector.connect(name, stream).await.map_err(|error| {
                tracing::debug!(%error, "no TLS");
                FetchError::Tls
            })?;
            exchange(stream, request, limit).await
        }
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    for address in addresses {
        if let Ok(Ok(stream)) = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
    }
    Err(FetchError::Connect)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Response<Bytes>, FetchError> {
    let handshake = http1::Builder::new().max_buf_size(HEAD_LIMIT).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|_| FetchError::Http)?;
    // Ends with this exchange, whatever becomes of it.
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        let _ = connection.await;
    });
    let response = sender.send_request(request).await.map_err(|_| FetchError::Http)?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, limit).collect().await.map_err(|error| {
        let too_long = error.is::<http_body_util::LengthLimitError>();
        if too_long { FetchError::TooLong } else { FetchError::Http }
    })?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}
