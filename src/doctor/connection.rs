//! From a host name to a stream, with a name for every way in which that fails.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use hyper::Uri;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier as _;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};

/// A handshake takes a few round trips; whoever needs longer than this drops what it is sent.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A certificate that expires within this is told.
const EXPIRY_NOTICE: Duration = Duration::from_secs(10 * 24 * 3600);

/// Scheme, host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub is_tls: bool,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
}

impl Origin {
    /// Of `http`, `https`, `ws` and `wss` URLs.
    pub fn of(url: &Uri) -> Option<Origin> {
        let is_tls = match url.scheme_str()? {
            "https" | "wss" => true,
            "http" | "ws" => false,
            _ => return None,
        };
        let host = url.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Some(Origin { is_tls, host, port })
    }
}

impl fmt::Display for Origin {
    /// As people say it: without the port that goes without saying.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = if self.is_tls { 443 } else { 80 };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == usual { write!(formatter, "{host}") } else { write!(formatter, "{host}:{}", self.port) }
    }
}

/// What came of an attempt to connect to one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dial {
    Connected,
    Refused,
    Silent,
    /// This machine has no way there: mostly an IPv6 address seen from a network without.
    NoRoute,
    Failed(String),
}

/// Why TLS was not agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    WrongName,
    Expired,
    NotYetValid,
    UnknownIssuer,
    /// What answers does not speak TLS.
    NoTls,
    Silent,
    Other(String),
}

/// What is known of a host after having knocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub origin: Origin,
    /// Every address of the name, or none.
    pub dials: Vec<(IpAddr, Dial)>,
    /// `None` where none was wanted or no connection stood. `Ok(true)`: the certificate ends soon.
    pub tls: Option<Result<bool, TlsFault>>,
}

/// Why there is no stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    NoAddress,
    Dial(Dial),
    Tls(TlsFault),
}

/// Makes connections, and trusts what the system trusts.
#[derive(Clone)]
pub struct Dialer {
    connector: TlsConnector,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Dialer {
    /// `ca_file` (PEM) is trusted besides.
    pub fn new(ca_file: Option<&Path>) -> anyhow::Result<Dialer> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca_file {
            let unreadable = || format!("cannot read certificates from {}, matrix.federation.ca_file", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(unreadable)? {
                roots.add(certificate.with_context(unreadable)?).with_context(unreadable)?;
            }
        }
        if roots.is_empty() {
            anyhow::bail!("this system trusts no certificate authority: install the package ca-certificates");
        }
        let roots = Arc::new(roots);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .context("cannot verify certificates")?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("cannot speak TLS")?
            .with_webpki_verifier(verifier.clone())
            .with_no_client_auth();
        Ok(Dialer { connector: TlsConnector::from(Arc::new(config)), verifier })
    }

    /// Tries every address of the host, and TLS at the first that takes the connection.
    pub async fn reach(&self, origin: &Origin) -> Reach {
        let mut reach = Reach { origin: origin.clone(), dials: Vec::new(), tls: None };
        for address in resolve(origin).await {
            let dial = match dial(address).await {
                Ok(tcp) => {
                    if origin.is_tls && reach.tls.is_none() {
                        let handshake = self.handshake(&origin.host, tcp).await;
                        reach.tls = Some(handshake.map(|stream| self.ends_soon(&origin.host, &stream)));
                    }
                    Dial::Connected
                }
                Err(dial) => dial,
            };
            reach.dials.push((address.ip(), dial));
        }
        reach
    }

    pub async fn connect(&self, origin: &Origin) -> Result<Stream, ConnectError> {
        let mut failed = ConnectError::NoAddress;
        for address in resolve(origin).await {
            match dial(address).await {
                Ok(tcp) if origin.is_tls => {
                    let stream = self.handshake(&origin.host, tcp).await.map_err(ConnectError::Tls)?;
                    return Ok(Stream::Tls(Box::new(stream)));
                }
                Ok(tcp) => return Ok(Stream::Plain(tcp)),
                Err(dial) => failed = ConnectError::Dial(dial),
            }
        }
        Err(failed)
    }

    async fn handshake(&self, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, TlsFault> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsFault::WrongName)?;
        match timeout(PATIENCE, self.connector.connect(name, tcp)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(TlsFault::of(&error)),
            Err(_) => Err(TlsFault::Silent),
        }
    }

    /// Whether a clock that is ahead by [`EXPIRY_NOTICE`] would refuse the certificate.
    #[allow(clippy::disallowed_methods)] // the real clock
    fn ends_soon(&self, host: &str, stream: &TlsStream<TcpStream>) -> bool {
        let (Some([leaf, rest @ ..]), Ok(name)) = (stream.get_ref().1.peer_certificates(), ServerName::try_from(host))
        else {
            return false;
        };
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let later = UnixTime::since_unix_epoch(unix + EXPIRY_NOTICE);
        let rest: &[CertificateDer<'_>] = rest;
        let verified = self.verifier.verify_server_cert(leaf, rest, &name, &[], later);
        verified.is_err_and(|error| TlsFault::of_rustls(&error) == TlsFault::Expired)
    }
}

impl TlsFault {
    fn of(error: &io::Error) -> TlsFault {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => TlsFault::of_rustls(error),
            // Who speaks something else often just hangs up.
            None if error.kind() == io::ErrorKind::UnexpectedEof => TlsFault::NoTls,
            None => TlsFault::Other(error.to_string()),
        }
    }

    fn of_rustls(error: &rustls::Error) -> TlsFault {
        use CertificateError as Certificate;
        match error {
            rustls::Error::InvalidCertificate(reason) => match reason {
                Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => TlsFault::WrongName,
                Certificate::Expired | Certificate::ExpiredContext { .. } => TlsFault::Expired,
                Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => TlsFault::NotYetValid,
                Certificate::UnknownIssuer => TlsFault::UnknownIssuer,
                // A certificate that signs itself, as test certificates do.
                other if format!("{other:?}").contains("CaUsedAsEndEntity") => TlsFault::UnknownIssuer,
                other => TlsFault::Other(other.to_string()),
            },
            rustls::Error::InvalidMessage(_) => TlsFault::NoTls,
            other => TlsFault::Other(other.to_string()),
        }
    }
}

/// Every address of the host, each once, IPv4 first: whoever has no IPv6 hears of IPv4 problems.
pub async fn resolve(origin: &Origin) -> Vec<SocketAddr> {
    let looked_up = timeout(PATIENCE, tokio::net::lookup_host((origin.host.as_str(), origin.port))).await;
    let mut addresses: Vec<SocketAddr> = match looked_up {
        Ok(Ok(addresses)) => addresses.collect(),
        _ => Vec::new(),
    };
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

pub async fn dial(address: SocketAddr) -> Result<TcpStream, Dial> {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => Dial::Refused,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => Dial::NoRoute,
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => Dial::Silent,
            _ => Dial::Failed(error.to_string()),
        }),
        Err(_) => Err(Dial::Silent),
    }
}

/// A connection with or without TLS.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
