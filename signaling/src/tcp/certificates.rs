use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;

use super::Validity;
use crate::acme::{ACME_TLS, Challenges};

/// What TLS shows to clients: a certificate, which may be replaced while it serves, or none yet.
#[derive(Debug)]
pub struct Certificates {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
}

#[derive(Debug)]
struct Shown {
    current: RwLock<Option<Current>>,
    /// `None` where no ACME server asks for anything.
    challenges: Option<Arc<Challenges>>,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Current {
    certified: Arc<CertifiedKey>,
    validity: Option<Validity>,
}

/// For `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsCensus {
    /// When the certificate in use ends (Unix time).
    pub not_after: Option<Duration>,
    /// Handshakes refused because there was no certificate.
    pub refused: u64,
    /// Certificates that the ACME server issued, and attempts that failed.
    pub orders: Option<[(&'static str, u64); 2]>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(challenges) = &self.challenges
            && hello.alpn().is_some_and(|mut names| names.next() == Some(ACME_TLS) && names.next().is_none())
        {
            return challenges.certificate(hello.server_name()?);
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let certified = current.as_ref().map(|current| Arc::clone(&current.certified));
        if certified.is_none() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        certified
    }
}

impl Certificates {
    pub fn new(challenges: Option<Arc<Challenges>>) -> Certificates {
        let answers_challenges = challenges.is_some();
        let shown = Arc::new(Shown { current: RwLock::new(None), challenges, refused: AtomicU64::new(0) });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        // RFC 7443 §3.
        config.alpn_protocols = vec![b"stun.turn".to_vec(), b"http/1.1".to_vec()];
        if answers_challenges {
            // Last: RFC 8737 §3 wants it only where nothing else is offered.
            config.alpn_protocols.push(ACME_TLS.to_vec());
        }
        Certificates { config: Arc::new(config), shown }
    }

    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    pub(crate) fn challenges(&self) -> Option<&Challenges> {
        self.shown.challenges.as_deref()
    }

    /// The certificates of a PEM file.
    pub(crate) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.map_err(|error| error.to_string())?;
        if chain.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(chain) }
    }

    /// New handshakes get this chain, whose first certificate's key is in the PEM file `key`.
    pub(crate) fn show(&self, chain: Vec<CertificateDer<'static>>, key: &[u8]) -> Result<(), String> {
        let private = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
        let validity = chain.first().and_then(|leaf| Validity::of(leaf));
        let certified =
            CertifiedKey::from_der(chain, private, self.config.crypto_provider()).map_err(|error| error.to_string())?;
        let current = Current { certified: Arc::new(certified), validity };
        *self.shown.current.write().unwrap_or_else(PoisonError::into_inner) = Some(current);
        Ok(())
    }

    pub(crate) fn census(&self) -> TlsCensus {
        let current = self.shown.current.read().unwrap_or_else(PoisonError::into_inner);
        let validity = current.as_ref().and_then(|current| current.validity);
        TlsCensus {
            not_after: validity.map(|validity| validity.not_after),
            refused: self.shown.refused.load(Ordering::Relaxed),
            orders: self.shown.challenges.as_ref().map(|challenges| challenges.orders()),
        }
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Looks at whatever is shown, as an ACME server does.
    #[derive(Debug)]
    struct Anything;

    impl ServerCertVerifier for Anything {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    }

    /// The protocol and the certificate that a client who offers `protocols` gets.
    async fn connect(certificates: &Certificates, name: &str, protocols: &[&[u8]]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anything))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let (client, server) = tokio::io::duplex(1 << 14);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let accept = TlsAcceptor::from(certificates.server_config()).accept(server);
        let (client, server) = tokio::join!(TlsConnector::from(Arc::new(config)).connect(name, client), accept);
        let (client, _server) = (client.ok()?, server.ok()?);
        let session = client.get_ref().1;
        Some((session.alpn_protocol().unwrap_or_default().to_vec(), session.peer_certificates()?[0].to_vec()))
    }

    fn certificate() -> (Vec<CertificateDer<'static>>, String) {
        let made = rcgen::generate_simple_self_signed(vec!["calls.example.org".to_owned()]).unwrap();
        (vec![made.cert.der().clone()], made.signing_key.serialize_pem())
    }

    #[tokio::test]
    async fn without_a_certificate_tls_is_refused_and_counted() {
        let certificates = Certificates::new(Some(Arc::default()));
        assert_eq!(connect(&certificates, "calls.example.org", &[b"http/1.1"]).await, None);
        assert_eq!(
            certificates.census(),
            TlsCensus { refused: 1, orders: Some([("issued", 0), ("failed", 0)]), not_after: None }
        );
        let (chain, key) = certificate();
        certificates.show(chain.clone(), key.as_bytes()).unwrap();
        let shown = connect(&certificates, "calls.example.org", &[b"http/1.1"]).await;
        assert_eq!(shown, Some((b"http/1.1".to_vec(), chain[0].to_vec())));
        assert_eq!(certificates.census().not_after, Validity::of(&chain[0]).map(|validity| validity.not_after));
    }

    #[tokio::test]
    async fn a_key_of_another_certificate_changes_nothing() {
        let certificates = Certificates::new(None);
        let (chain, key) = certificate();
        certificates.show(chain.clone(), key.as_bytes()).unwrap();
        assert!(certificates.show(certificate().0, key.as_bytes()).is_err());
        assert_eq!(connect(&certificates, "calls.example.org", &[]).await.unwrap().1, chain[0].to_vec());
    }

    #[tokio::test]
    async fn a_challenge_is_answered_for_its_name_while_it_lasts_and_to_the_acme_server_alone() {
        let challenges = Arc::new(Challenges::default());
        let certificates = Certificates::new(Some(Arc::clone(&challenges)));
        let (chain, key) = certificate();
        certificates.show(chain.clone(), key.as_bytes()).unwrap();
        let name = "calls.example.org";
        assert_eq!(connect(&certificates, name, &[ACME_TLS]).await, None);

        let answering = challenges.answer_by_tls("Calls.example.org", &[0xA7; 32]).unwrap();
        let (protocol, shown) = connect(&certificates, name, &[ACME_TLS]).await.unwrap();
        assert_eq!(protocol, ACME_TLS);
        // RFC 8737 §3: id-pe 31, critical, the digest in an OCTET STRING.
        let extension = [&[6, 8, 43, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xFF, 4, 34, 4, 32][..], &[0xA7; 32]].concat();
        assert!(shown.windows(extension.len()).any(|window| window == extension));
        // RFC 5280 §4.2.1.6: the only name is a dNSName.
        let names = [&[0x30, 19, 0x82, 17][..], name.as_bytes()].concat();
        assert!(shown.windows(names.len()).any(|window| window == names));
        assert_eq!(connect(&certificates, "turn.example.org", &[ACME_TLS]).await, None);
        // Whoever offers something else besides is an ordinary client.
        let ordinary = connect(&certificates, name, &[ACME_TLS, b"http/1.1"]).await.unwrap();
        assert_eq!(ordinary, (b"http/1.1".to_vec(), chain[0].to_vec()));

        drop(answering);
        assert_eq!(connect(&certificates, name, &[ACME_TLS]).await, None);
        assert_eq!(certificates.census().refused, 0);
    }

    #[tokio::test]
    async fn where_no_acme_server_asks_its_protocol_is_unknown() {
        let certificates = Certificates::new(None);
        let (chain, key) = certificate();
        certificates.show(chain, key.as_bytes()).unwrap();
        assert_eq!(connect(&certificates, "calls.example.org", &[ACME_TLS]).await, None);
    }

    #[test]
    fn a_key_authorization_is_told_while_it_is_wanted() {
        let challenges = Arc::new(Challenges::default());
        let answering = challenges.answer_by_http("token", "token.thumbprint");
        assert_eq!(challenges.text("token").as_deref(), Some("token.thumbprint"));
        assert_eq!(challenges.text("other"), None);
        drop(answering);
        assert_eq!(challenges.text("token"), None);
    }
}
