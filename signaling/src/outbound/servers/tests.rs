//! Servers behind TLS on loopback, under an authority of their own.

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use self::stand_in::StandIn;
use super::*;

#[path = "../../../tests/tokens/stand_in.rs"]
#[allow(dead_code)]
mod stand_in;

/// Signs certificates, and is what the servers under test trust.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    fn authorities(&self) -> Authorities {
        Authorities::with(Some(self.certificate.pem().as_bytes())).unwrap()
    }

    async fn server(&self, name: &str) -> StandIn {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        StandIn::start(Some(TlsAcceptor::from(Arc::new(config)))).await
    }
}

/// Those that may be asked: 127.0.0.1 alone. 127.0.0.2 and ::1 are hidden.
fn servers(authorities: Authorities) -> Servers {
    Servers::new(authorities, Arc::new(|ip| ip == IpAddr::from([127, 0, 0, 1])))
}

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

fn page(stand_in: &StandIn, path: &str, status: u16, location: Option<&str>, body: &str) {
    let headers = location.map(|location| ("location", location.to_owned())).into_iter().collect();
    stand_in.world().pages.insert(path.to_owned(), (status, headers, body.to_owned()));
}

const WELL_KNOWN: &str = "/.well-known/matrix/server";

fn is_answered(answer: &Answer) -> bool {
    answer.status() == Some(200)
}

#[tokio::test]
async fn a_server_with_a_port_is_asked_there_over_tls() {
    let authority = Authority::new();
    let servers = servers(authority.authorities());
    let server = authority.server("127.0.0.1").await;
    page(&server, "/x", 200, None, "{}");
    let at = name(&server.address.to_string());
    assert!(is_answered(&servers.get(&at, "/x").await));
    assert_eq!(server.world().asked[0].host, at.as_str());
    // The certificate names another.
    let other = authority.server("localhost").await;
    page(&other, "/x", 200, None, "{}");
    assert_eq!(servers.get(&name(&other.address.to_string()), "/x").await, Answer::Unreachable);
    assert!(other.world().asked.is_empty());
}

#[tokio::test]
async fn another_authoritys_word_is_nothing() {
    let other = Authority::new().server("127.0.0.1").await;
    page(&other, "/x", 200, None, "{}");
    let servers = servers(Authority::new().authorities());
    let server = name(&format!("127.0.0.1:{}", other.address.port()));
    assert_eq!(servers.get(&server, "/x").await, Answer::Unreachable);
}

#[tokio::test]
async fn hidden_addresses_see_no_packet() {
    let authority = Authority::new();
    let servers = servers(authority.authorities());
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for hidden in [format!("127.0.0.2:{port}"), format!("[::ffff:127.0.0.2]:{port}"), format!("[::1]:{port}")] {
        assert_eq!(servers.get(&name(&hidden), "/x").await, Answer::Unreachable, "{hidden}");
    }
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err());
}

#[tokio::test]
async fn a_delegation_and_its_redirects_are_followed_and_judged() {
    let authority = Authority::new();
    let delegate = authority.server("127.0.0.1").await;
    page(&delegate, "/x", 200, None, "{}");
    let to_delegate = format!(r#"{{"m.server":"127.0.0.1:{}"}}"#, delegate.address.port());
    let hidden = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let hidden_port = hidden.local_addr().unwrap().port();
    let inner = servers(authority.authorities());
    let well_known = |first: &str| {
        let (inner, first) = (inner.clone(), first.to_owned());
        async move { inner.0.well_known_at(format!("https://{first}{WELL_KNOWN}").parse().unwrap()).await }
    };
    let by_address = authority.server("127.0.0.1").await;
    let at = format!("127.0.0.1:{}", by_address.address.port());
    page(&by_address, WELL_KNOWN, 200, None, &to_delegate);
    let found = well_known(&at).await.unwrap();
    assert_eq!(found.as_str(), format!("127.0.0.1:{}", delegate.address.port()));
    assert!(is_answered(&inner.get(&found, "/x").await));

    page(&by_address, "/elsewhere", 200, None, &to_delegate);
    for location in ["/elsewhere".to_owned(), format!("https://{at}/elsewhere")] {
        page(&by_address, WELL_KNOWN, 302, Some(&location), "");
        assert_eq!(well_known(&at).await.as_ref(), Some(&found), "{location}");
    }
    for location in [
        format!("http://{at}/elsewhere"),
        format!("https://127.0.0.2:{hidden_port}/elsewhere"),
        format!("https://a:b@{at}/elsewhere"),
        format!("//127.0.0.2:{hidden_port}/elsewhere"),
        "ftp://x".to_owned(),
        // Round and round.
        WELL_KNOWN.to_owned(),
    ] {
        page(&by_address, WELL_KNOWN, 301, Some(&location), "");
        assert_eq!(well_known(&at).await, None, "{location}");
    }
    assert!(tokio::time::timeout(Duration::from_millis(50), hidden.accept()).await.is_err());
    for (status, body) in [(404, to_delegate.as_str()), (200, "<html>"), (200, r#"{"m.server":"https://x"}"#)] {
        page(&by_address, WELL_KNOWN, status, None, body);
        assert_eq!(well_known(&at).await, None, "{status} {body}");
    }
    page(&by_address, WELL_KNOWN, 200, None, &format!(r#"{{"m.server":"x","pad":"{}"}}"#, "x".repeat(70_000)));
    assert_eq!(well_known(&at).await, None, "too long");
}

#[tokio::test]
async fn a_server_that_cannot_be_asked_is_left_alone_for_a_while() {
    let authority = Authority::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = name(&listener.local_addr().unwrap().to_string());
    let servers = servers(authority.authorities());
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        drop(stream);
    };
    let (answer, ()) = tokio::join!(servers.get(&server, "/x"), accept);
    assert_eq!(answer, Answer::Unreachable);
    assert_eq!(servers.get(&server, "/x").await, Answer::Unreachable);
    let again = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(again.is_err(), "it was asked at once");
}

#[tokio::test]
async fn the_table_of_servers_is_bounded() {
    let servers = servers(Authority::new().authorities());
    for index in 0..REMEMBERED_MAX + 10 {
        servers.0.remember(&name(&format!("server{index}")), None, FAILURE_LIFE);
    }
    assert_eq!(servers.0.memory.lock().unwrap().len(), REMEMBERED_MAX);
}

#[test]
fn a_redirect_stays_on_https() {
    let authority = "hs".parse().unwrap();
    assert_eq!(redirected(&authority, "/a?b").unwrap().to_string(), "https://hs/a?b");
    assert_eq!(redirected(&authority, "https://other:8443/a").unwrap().to_string(), "https://other:8443/a");
    for location in ["http://other/", "//other/a", "a", "", "https://", "javascript:x"] {
        assert_eq!(redirected(&authority, location), None, "{location}");
    }
}
