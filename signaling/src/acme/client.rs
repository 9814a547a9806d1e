//! The requests to the ACME server go over the connections that all our questions go over.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::uri::{Scheme, Uri};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::ServerName;

use crate::control::now;
use crate::outbound::{Authorities, FetchError, Target, fetch};

/// For the whole of one request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Octets of an answer: a certificate chain has a few thousand.
const ANSWER_LIMIT: usize = 256 << 10;

#[derive(Clone)]
pub struct Client {
    authorities: Authorities,
    patience: Arc<Mutex<Option<Duration>>>,
}

impl Client {
    pub fn new(authorities: Authorities) -> Client {
        Client { authorities, patience: Arc::default() }
    }

    /// For how long the ACME server, when it last refused something, asked to be left alone (RFC 8555 §6.6). It is
    /// forgotten by this.
    pub fn take_patience(&self) -> Option<Duration> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (parts, body) = request.into_parts();
        let uri = parts.uri;
        let host = uri.host().unwrap_or_default().to_owned();
        // RFC 8555 §6.1; the directory could name other addresses.
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(other(format!("{uri} is no https address")));
        }
        let place = format!("{host}:{}", uri.port_u16().unwrap_or(443));
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let addresses: Vec<_> = tokio::net::lookup_host((bare.as_str(), uri.port_u16().unwrap_or(443)))
            .await
            .map_err(|error| other(format!("{host} cannot be resolved: {error}")))?
            .collect();
        let path = uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
        let mut request = Request::builder().method(parts.method).uri(path);
        let name = uri.authority().map_or(host.as_str(), |authority| authority.as_str()).to_owned();
        request = request.header(header::HOST, name).header(header::ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let Ok(body) = body.collect().await;
        let request = request.body(Full::new(body.to_bytes()))?;
        let tls = ServerName::try_from(bare).map_err(|_| other(format!("{host} is no host name")))?;
        let target = Target { addresses: &addresses, tls: Some(tls), authorities: &self.authorities };
        let response = fetch(target, request, ANSWER_LIMIT).await.map_err(|error| {
            other(match error {
                FetchError::Connect => format!("{place} takes no connection"),
                FetchError::Tls => format!(
                    "the certificate of {place} is not trusted; tls.acme.root can name the authority of a private one"
                ),
                FetchError::Http => format!("{place} does not answer in HTTP"),
                FetchError::TooLong => format!("the answer of {place} is too long"),
            })
        })?;
        if matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            *self.patience.lock().unwrap_or_else(PoisonError::into_inner) = retry_after(response.headers());
        }
        Ok(BytesResponse::from(response.map(Full::new)))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let exchange = self.clone().exchange(request);
        Box::pin(async move {
            let timed_out = |_| Err(other("the ACME server does not answer in time".to_owned()));
            tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(timed_out)
        })
    }
}

/// RFC 9110 §10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let now = SystemTime::UNIX_EPOCH + now().unix;
            httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
        }
    }
}

fn other(text: String) -> Error {
    Error::Other(text.into())
}

#[cfg(test)]
mod tests {
    use instant_acme::{Account, NewAccount};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::tcp::Certificates;

    /// An ACME server that says the same to everything; its directory, and who trusts it.
    async fn server(status: &'static str, headers: &'static str, body: fn(&str) -> String) -> (String, Authorities) {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf =
            rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let certificates = Certificates::new(None);
        certificates.show(vec![leaf.der().clone()], key.serialize_pem().as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let directory = format!("https://{}/dir", listener.local_addr().unwrap());
        let base = directory.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(certificates.server_config());
                let Ok(mut socket) = acceptor.accept(socket).await else { continue };
                let mut asked = [0; 8192];
                let read = socket.read(&mut asked).await.unwrap_or(0);
                let is_directory = asked[..read].starts_with(b"GET /dir ");
                let (status, body) = if is_directory { ("200 OK", directory_of(&base)) } else { (status, body(&base)) };
                let length = body.len();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = socket.shutdown().await;
            }
        });
        (directory, Authorities::with(Some(root.pem().as_bytes())).unwrap())
    }

    fn directory_of(base: &str) -> String {
        format!(r#"{{"newNonce":"{base}/n","newAccount":"{base}/a","newOrder":"{base}/o"}}"#)
    }

    async fn create(client: &Client, directory: String) -> Error {
        let wanted = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
        let builder = Account::builder_with_http(Box::new(client.clone()));
        match builder.create(&wanted, directory, None).await {
            Err(error) => error,
            Ok(_) => panic!("there is no such account"),
        }
    }

    #[tokio::test]
    async fn a_refusal_says_how_long_to_wait_and_that_is_heeded_once() {
        let refusal = |_: &str| r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}"#.to_owned();
        let headers = "retry-after: 77\r\nreplay-nonce: abc\r\n";
        let (directory, authorities) = server("429 Too Many Requests", headers, refusal).await;
        let client = Client::new(authorities);
        create(&client, directory).await;
        assert_eq!(client.take_patience(), Some(Duration::from_secs(77)));
        assert_eq!(client.take_patience(), None);
    }

    #[tokio::test]
    async fn whom_nobody_vouches_for_and_who_is_not_there_is_told() {
        let (directory, authorities) = server("200 OK", "", |_| String::new()).await;
        let stranger = Client::new(Authorities::with(None).unwrap());
        let told = create(&stranger, directory).await.to_string();
        assert!(told.contains("is not trusted") && told.contains("tls.acme.root"), "{told}");
        let client = Client::new(authorities);
        let told = create(&client, "https://127.0.0.1:1/dir".into()).await.to_string();
        assert!(told.contains("127.0.0.1:1 takes no connection"), "{told}");
        // The directory leads away from https.
        let told = create(&client, "http://127.0.0.1:1/dir".into()).await.to_string();
        assert!(told.contains("no https address"), "{told}");
        assert_eq!(client.take_patience(), None);
    }

    #[test]
    fn patience_is_told_in_seconds_or_as_a_date() {
        let after = |text: &'static str| {
            retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]))
        };
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert!(after("Tue, 31 Dec 2199 23:59:59 GMT").unwrap() > Duration::from_secs(100 * 365 * 86_400));
        assert_eq!(after("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(after("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
