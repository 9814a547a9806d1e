use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;

/// How often the files are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// A certificate chain and its key, read from PEM files and read again when they change.
#[derive(Debug)]
pub struct Certificates {
    chain: PathBuf,
    key: PathBuf,
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner())))
    }
}

impl Certificates {
    /// # Errors
    /// A file cannot be read, has nothing of its kind, or the key is not that of the first certificate.
    pub fn load(chain: &Path, key: &Path) -> io::Result<Certificates> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certified = read(&provider, chain, key)?;
        let current = Arc::new(Current(RwLock::new(Arc::new(certified))));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        // RFC 7443 §3.
        config.alpn_protocols = vec![b"stun.turn".to_vec(), b"http/1.1".to_vec()];
        Ok(Certificates { chain: chain.to_owned(), key: key.to_owned(), config: Arc::new(config), current })
    }

    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Reads the files again. What is wrong with them changes nothing.
    pub fn reload(&self) -> io::Result<()> {
        let certified = read(self.config.crypto_provider(), &self.chain, &self.key)?;
        *self.current.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(certified);
        Ok(())
    }

    /// Follows the files for as long as it is polled.
    pub async fn watch(self: Arc<Self>) {
        let mut known = self.times();
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let times = self.times();
            if times == known {
                continue;
            }
            known = times;
            match self.reload() {
                Ok(()) => tracing::info!("a new certificate is in use"),
                // The other file may follow in a moment.
                Err(error) => tracing::warn!(%error, "the certificate has changed, and the old one stays in use"),
            }
        }
    }

    fn times(&self) -> [Option<SystemTime>; 2] {
        [&self.chain, &self.key].map(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
    }
}

fn read(provider: &CryptoProvider, chain: &Path, key: &Path) -> io::Result<CertifiedKey> {
    let told =
        |path: &Path, error: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()));
    let pem = |path: &Path| {
        std::fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem(chain)?)
        .collect::<Result<_, _>>()
        .map_err(|error| told(chain, error.to_string()))?;
    if certificates.is_empty() {
        return Err(told(chain, "there is no certificate in it".into()));
    }
    let private = PrivateKeyDer::from_pem_slice(&pem(key)?).map_err(|error| told(key, error.to_string()))?;
    CertifiedKey::from_der(certificates, private, provider).map_err(|error| told(key, error.to_string()))
}
