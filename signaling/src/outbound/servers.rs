//! Servers of other users, found by their names. A stranger chooses the name, so every address that it leads to is judged
//! before anything is sent there, and the one that was judged is the one that is used. Whatever goes wrong, the answer is
//! the same.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::uri::{PathAndQuery, Uri};
use axum::http::{Request, Response, StatusCode, header};
use bytes::Bytes;
use domain::base::Name;
use domain::resolv::StubResolver;
use http_body_util::Full;
use rustls::pki_types::ServerName as TlsName;
use tokio::sync::Semaphore;

use super::Authorities;
use super::fetch::{FetchError, Target, fetch};
use crate::control::now;
use crate::matrix::federation::{self, Destination, Place, SERVICES};
use crate::matrix::{Answer, ServerName};
use crate::options::AddressPolicy;

/// For the whole of one request: every look-up and every exchange.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Requests under way at once; beyond it they are refused.
const CONCURRENT: usize = 32;
/// Of it, for the delegation, and for each service that DNS may know: nothing of them need be there.
const WELL_KNOWN_TIMEOUT: Duration = Duration::from_millis(2_500);
const SERVICE_TIMEOUT: Duration = Duration::from_millis(700);
/// Addresses of one host, and services of one name, that are tried.
const ADDRESSES_MAX: usize = 4;
const SERVICES_MAX: usize = 4;
const REDIRECTS_MAX: usize = 3;
const HTTPS_PORT: u16 = 443;
/// Servers that are remembered: delegations, and failures.
const REMEMBERED_MAX: usize = 1_000;
const DELEGATION_LIFE: Duration = Duration::from_secs(3600);
/// A server that could not be asked is left alone for this long.
const FAILURE_LIFE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Servers(Arc<Inner>);

struct Inner {
    authorities: Authorities,
    may_ask: AddressPolicy,
    resolver: StubResolver,
    turns: Semaphore,
    /// Names are strangers' choice; the table is bounded.
    memory: Mutex<BTreeMap<ServerName, Memory>>,
}

#[derive(Clone)]
struct Memory {
    until: Instant,
    /// `None`: it could not be asked.
    destination: Option<Destination>,
}

impl Servers {
    pub fn new(authorities: Authorities, may_ask: AddressPolicy) -> Servers {
        let turns = Semaphore::new(CONCURRENT);
        let resolver = StubResolver::new();
        Servers(Arc::new(Inner { authorities, may_ask, resolver, turns, memory: Mutex::default() }))
    }

    /// GET `path` at `server`.
    pub async fn get(&self, server: &ServerName, path: &str) -> Answer {
        let Ok(_turn) = self.0.turns.try_acquire() else {
            return Answer::Unreachable;
        };
        let known = self.0.recall(server);
        if matches!(known, Some(Memory { destination: None, .. })) {
            return Answer::Unreachable;
        }
        let known = known.and_then(|memory| memory.destination);
        let fresh = known.is_none();
        let asked = tokio::time::timeout(TIMEOUT, self.0.get(server, known, path)).await;
        match asked.unwrap_or(Err(FetchError::Connect)) {
            Ok((destination, response)) => {
                if fresh {
                    self.0.remember(server, Some(destination), DELEGATION_LIFE);
                }
                let status = response.status().as_u16();
                Answer::Status { status, retry_after: None, body: response.into_body() }
            }
            Err(error) => {
                tracing::debug!(%server, ?error, "another server cannot be asked");
                self.0.remember(server, None, FAILURE_LIFE);
                Answer::Unreachable
            }
        }
    }
}

impl Inner {
    fn recall(&self, server: &ServerName) -> Option<Memory> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.get(server).filter(|memory| memory.until > now().instant).cloned()
    }

    fn remember(&self, server: &ServerName, destination: Option<Destination>, life: Duration) {
        let now = now().instant;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() >= REMEMBERED_MAX && !memory.contains_key(server) {
            memory.retain(|_, memory| memory.until > now);
            if memory.len() >= REMEMBERED_MAX {
                memory.pop_first();
            }
        }
        memory.insert(server.clone(), Memory { until: now + life, destination });
    }

    async fn get(
        &self,
        server: &ServerName,
        known: Option<Destination>,
        path: &str,
    ) -> Result<(Destination, Response<Bytes>), FetchError> {
        let destination = match known {
            Some(destination) => destination,
            None => match federation::direct(server) {
                Some(destination) => destination,
                None => {
                    let asked = tokio::time::timeout(WELL_KNOWN_TIMEOUT, self.well_known(server.parts().0)).await;
                    federation::destination(asked.ok().flatten().as_ref().unwrap_or(server))
                }
            },
        };
        let addresses = self.addresses(&destination.place).await?;
        let response = self.request(&addresses, &destination.name, &destination.authority, path).await?;
        Ok((destination, response))
    }

    /// One GET over TLS. The certificate has to name `name`.
    async fn request(
        &self,
        addresses: &[SocketAddr],
        name: &str,
        authority: &str,
        path: &str,
    ) -> Result<Response<Bytes>, FetchError> {
        let path: PathAndQuery = path.parse().map_err(|_| FetchError::Http)?;
        let request = Request::get(Uri::from(path)).header(header::HOST, authority).body(Full::default());
        let request = request.map_err(|_| FetchError::Http)?;
        let tls = Some(TlsName::try_from(name.to_owned()).map_err(|_| FetchError::Tls)?);
        fetch(Target { addresses, tls, authorities: &self.authorities }, request, Answer::LIMIT).await
    }

    /// Whom `host` delegates to. Every failure means that it does not.
    async fn well_known(&self, host: &str) -> Option<ServerName> {
        self.well_known_at(format!("https://{host}/.well-known/matrix/server").parse().ok()?).await
    }

    async fn well_known_at(&self, mut at: Uri) -> Option<ServerName> {
        for _ in 0..=REDIRECTS_MAX {
            let authority = at.authority()?.clone();
            // A redirect is a stranger's choice as much as the first name: a name as above, over TLS, judged anew.
            let name = ServerName::parse(authority.as_str())?;
            let (host, port) = name.parts();
            let addresses = self.lookup(host, port.unwrap_or(HTTPS_PORT)).await.ok()?;
            let path = at.path_and_query().map_or("/", PathAndQuery::as_str);
            let response = self.request(&addresses, host, authority.as_str(), path).await.ok()?;
            match response.status() {
                StatusCode::OK => return federation::delegation(response.body()),
                status if status.is_redirection() => {
                    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
                    at = redirected(&authority, location)?;
                }
                _ => return None,
            }
        }
        None
    }

    async fn addresses(&self, place: &Place) -> Result<Vec<SocketAddr>, FetchError> {
        match place {
            Place::Address(address) => self.judged(&mut [*address].into_iter()),
            Place::Host { host, port } => self.lookup(host, *port).await,
            Place::Service { host } => {
                for service in SERVICES {
                    let targets = self.services(service, host).await;
                    if targets.is_empty() {
                        continue;
                    }
                    let mut addresses = Vec::new();
                    for (target, port) in targets {
                        addresses.extend(self.lookup(&target, port).await.unwrap_or_default());
                    }
                    return self.judged(&mut addresses.into_iter());
                }
                self.lookup(host, federation::PORT).await
            }
        }
    }

    /// SRV records (RFC 2782) in the order in which they are to be tried.
    async fn services(&self, service: &str, host: &str) -> Vec<(String, u16)> {
        let (Ok(service), Ok(host)) =
            (service.parse::<domain::base::RelativeName<Vec<u8>>>(), host.parse::<Name<Vec<u8>>>())
        else {
            return Vec::new();
        };
        // Port 0 marks the answer that there is no such record.
        let looked_up = tokio::time::timeout(SERVICE_TIMEOUT, self.resolver.lookup_srv(service, host, 0)).await;
        let Ok(Ok(Some(found))) = looked_up else {
            return Vec::new();
        };
        let records = found.into_srvs().filter(|record| record.port() > 0).take(SERVICES_MAX);
        records.map(|record| (record.target().to_string(), record.port())).collect()
    }

    async fn lookup(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, FetchError> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.judged(&mut [SocketAddr::new(ip, port)].into_iter());
        }
        let mut found = tokio::net::lookup_host((host, port)).await.map_err(|_| FetchError::Connect)?;
        self.judged(&mut found)
    }

    /// Only if all of them may be asked: a name that leads to a public and to a hidden address is up to something.
    fn judged(&self, addresses: &mut dyn Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, FetchError> {
        let addresses: Vec<SocketAddr> = addresses.take(ADDRESSES_MAX).collect();
        let fine = !addresses.is_empty() && addresses.iter().all(|address| (self.may_ask)(address.ip()));
        if fine { Ok(addresses) } else { Err(FetchError::Connect) }
    }
}

/// RFC 9110 §10.2.2, as far as `https` and paths of the same host go.
fn redirected(authority: &axum::http::uri::Authority, location: &str) -> Option<Uri> {
    let uri: Uri = match location.starts_with('/') && !location.starts_with("//") {
        true => format!("https://{authority}{location}").parse().ok()?,
        false => location.parse().ok()?,
    };
    (uri.scheme_str() == Some("https") && uri.authority().is_some()).then_some(uri)
}

#[cfg(test)]
mod tests;
