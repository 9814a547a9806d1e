use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::CertifiedKey;

use crate::tcp::provider;

/// The application protocol of validation by TLS (RFC 8737 §6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// What the ACME server wants to see, for as long as it wants to.
#[derive(Debug, Default)]
pub struct Challenges {
    answers: Mutex<Answers>,
    pub(super) issued: AtomicU64,
    pub(super) failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Answers {
    /// By domain.
    certificates: BTreeMap<String, Arc<CertifiedKey>>,
    /// Key authorizations by token (RFC 8555 §8.1).
    texts: BTreeMap<String, String>,
}

/// An answer is given until this is dropped.
pub struct Answering {
    challenges: Arc<Challenges>,
    domain: String,
    token: String,
}

impl Challenges {
    /// RFC 8737 §3: the domain shows a certificate that names it and bears the digest of the key authorization.
    pub fn answer_by_tls(self: &Arc<Self>, domain: &str, digest: &[u8; 32]) -> Result<Answering, rcgen::Error> {
        let domain = domain.to_ascii_lowercase();
        let certified = certificate(&domain, digest)?;
        self.answers().certificates.insert(domain.clone(), Arc::new(certified));
        Ok(self.answering(&domain, ""))
    }

    /// RFC 8555 §8.3.
    pub fn answer_by_http(self: &Arc<Self>, token: &str, key_authorization: &str) -> Answering {
        self.answers().texts.insert(token.to_owned(), key_authorization.to_owned());
        self.answering("", token)
    }

    pub fn certificate(&self, domain: &str) -> Option<Arc<CertifiedKey>> {
        self.answers().certificates.get(&domain.to_ascii_lowercase()).cloned()
    }

    /// What `/.well-known/acme-challenge/TOKEN` says.
    pub fn text(&self, token: &str) -> Option<String> {
        self.answers().texts.get(token).cloned()
    }

    pub fn orders(&self) -> [(&'static str, u64); 2] {
        [("issued", self.issued.load(Ordering::Relaxed)), ("failed", self.failed.load(Ordering::Relaxed))]
    }

    fn answering(self: &Arc<Self>, domain: &str, token: &str) -> Answering {
        Answering { challenges: Arc::clone(self), domain: domain.to_owned(), token: token.to_owned() }
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut answers = self.challenges.answers();
        answers.certificates.remove(&self.domain);
        answers.texts.remove(&self.token);
    }
}

fn certificate(domain: &str, digest: &[u8; 32]) -> Result<CertifiedKey, rcgen::Error> {
    let mut params = CertificateParams::new(vec![domain.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    let signing_key = provider().key_provider.load_private_key(private.into());
    let signing_key = signing_key.map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    // Not `from_der`: it looks at the certificate, and does not know this critical extension.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signing_key))
}
