//! TCP connections, told apart by their first octets: HTTP, TLS, TURN and ICE.

mod certificate_files;
mod certificates;
mod first_octets;
mod places;
mod proxy_header;
mod validity;

pub use certificate_files::CertificateFiles;
pub(crate) use certificates::provider;
pub use certificates::{Certificates, TlsCensus};
pub use first_octets::{Kind, Peeked};
pub use places::{Place, Places};
pub use proxy_header::fuzz_proxy_header;
pub use validity::Validity;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use datapath::driver::Stream;
use datapath::steering;
use datapath::stream::Framing;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::acme::{ACME_TLS, Renewal};
use proxy_header::ProxyHeader;

/// Hands a connection to a worker's queue; `false` when the queue is full. Never blocks.
pub type StreamSink = Box<dyn Fn(Stream) -> bool + Send + Sync>;

/// What TCP serves beside plain HTTP.
#[derive(Default)]
pub struct Tcp {
    /// Listeners that serve everything but plain HTTP.
    pub listeners: Vec<std::net::TcpListener>,
    /// Without certificates there is no TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// Who replaces them in time.
    pub keeper: Option<Keeper>,
    /// Proxies whose connections begin with a PROXY header (version 2).
    pub proxies: Vec<IpNet>,
    /// Where connections go that carry TURN or ICE, by worker number.
    pub streams: Vec<StreamSink>,
    /// Goes round the workers with connections that belong to none.
    pub next_worker: AtomicUsize,
}

/// Where a new certificate comes from.
pub enum Keeper {
    Files(CertificateFiles),
    Acme(Box<Renewal>),
}

impl Keeper {
    /// Replaces the certificates in time, for as long as it is polled.
    pub async fn run(self, certificates: Arc<Certificates>) {
        match self {
            Keeper::Files(files) => files.watch(certificates).await,
            Keeper::Acme(renewal) => renewal.run(certificates).await,
        }
    }
}

/// Everything that comes before the first request: a PROXY header, a handshake, ten octets.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection that speaks HTTP.
pub enum Http {
    Plain(Peeked<TcpStream>),
    Encrypted(Box<Peeked<TlsStream<Peeked<TcpStream>>>>),
}

/// A connection that is sorted.
pub enum Sorted {
    Http(Http, Place),
    /// It carries datagrams and belongs to a worker now, or was nothing that is served.
    Gone,
}

impl Tcp {
    /// Finds out what a new connection is. `plain_http`: whether HTTP may come without TLS.
    pub async fn sort(&self, socket: TcpStream, plain_http: bool, place: Place) -> Sorted {
        match timeout(PATIENCE, self.try_sort(socket, plain_http, place)).await {
            Ok(Ok(sorted)) => sorted,
            Ok(Err(error)) => {
                tracing::trace!(%error, "connection refused");
                Sorted::Gone
            }
            Err(_) => Sorted::Gone,
        }
    }

    async fn try_sort(&self, socket: TcpStream, plain_http: bool, mut place: Place) -> io::Result<Sorted> {
        socket.set_nodelay(true)?;
        let (mut remote, mut local) = (canonical(socket.peer_addr()?), canonical(socket.local_addr()?));
        let mut socket = Peeked::new(socket);
        if self.proxies.iter().any(|proxy| proxy.contains(&remote.ip())) {
            // A health check of the proxy's own has no addresses to tell.
            if let Some(ProxyHeader { source, destination }) = ProxyHeader::read(&mut socket).await? {
                (remote, local) = (canonical(source), canonical(destination));
            }
        }
        if !place.is_for(remote.ip()) {
            return Err(refused("too many from its network"));
        }
        let framing = match socket.kind().await? {
            Kind::Http if plain_http => return Ok(Sorted::Http(Http::Plain(socket), place)),
            Kind::Http => return Err(refused("HTTP without TLS")),
            Kind::Framed(framing) => {
                let worker = self.worker_for(&mut socket, framing).await?;
                let (socket, unread) = socket.into_parts();
                let socket = socket.into_std()?;
                let stream = Stream { socket, tls: None, framing, unread, remote, local, guard: Box::new(place) };
                return self.hand_over(worker, stream);
            }
            Kind::Tls => {
                let certificates = self.certificates.as_ref().ok_or_else(|| refused("TLS without a certificate"))?;
                let acceptor = TlsAcceptor::from(certificates.server_config());
                let mut socket = Peeked::new(acceptor.accept(socket).await?);
                let protocol = socket.inner().get_ref().1.alpn_protocol();
                if protocol == Some(ACME_TLS) {
                    // RFC 8737 §3: the handshake has said everything.
                    socket.shutdown().await?;
                    return Ok(Sorted::Gone);
                }
                let is_http = protocol == Some(b"http/1.1");
                match if is_http { Kind::Http } else { socket.kind().await? } {
                    Kind::Http => return Ok(Sorted::Http(Http::Encrypted(Box::new(socket)), place)),
                    Kind::Tls => return Err(refused("TLS within TLS")),
                    Kind::Framed(framing) => (framing, socket),
                }
            }
        };
        let (framing, mut socket) = framing;
        let worker = self.worker_for(&mut socket, framing).await?;
        let (socket, unread) = socket.into_parts();
        let (socket, tls) = socket.into_inner();
        let (socket, encrypted) = socket.into_parts();
        if !encrypted.is_empty() {
            return Err(refused("a handshake left octets behind"));
        }
        let (socket, tls) = (socket.into_std()?, Some(Box::new(tls)));
        self.hand_over(worker, Stream { socket, tls, framing, unread, remote, local, guard: Box::new(place) })
    }

    /// A connection stays with one worker: the one that its first datagram names, else any.
    async fn worker_for<S: AsyncRead + Unpin>(&self, socket: &mut Peeked<S>, framing: Framing) -> io::Result<usize> {
        let workers = self.streams.len();
        if workers <= 1 {
            return Ok(0);
        }
        let named = match (socket.datagram(framing).await?, framing) {
            (Some(check), Framing::Ice) => steering::of_check(check),
            (Some(request), Framing::Turn) => steering::of_request(request),
            (None, _) => None,
        };
        let named = named.map(usize::from).filter(|&worker| worker < workers);
        Ok(named.unwrap_or_else(|| self.next_worker.fetch_add(1, Ordering::Relaxed) % workers))
    }

    fn hand_over(&self, worker: usize, stream: Stream) -> io::Result<Sorted> {
        match self.streams.get(worker) {
            Some(sink) if sink(stream) => Ok(Sorted::Gone),
            _ => Err(refused("no worker takes it")),
        }
    }
}

fn refused(why: &'static str) -> io::Error {
    io::Error::other(why)
}

/// An IPv4 client of a listener for both families is an IPv4 client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(IpAddr::to_canonical(&address.ip()), address.port())
}
