use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Certificates;

/// How often the files are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// A certificate chain and its key in PEM files, which somebody else replaces.
#[derive(Debug)]
pub struct CertificateFiles {
    chain: PathBuf,
    key: PathBuf,
}

impl CertificateFiles {
    /// # Errors
    /// A file cannot be read, has nothing of its kind, or the key is not that of the first certificate.
    pub fn open(chain: &Path, key: &Path) -> io::Result<(Certificates, CertificateFiles)> {
        let files = CertificateFiles { chain: chain.to_owned(), key: key.to_owned() };
        let certificates = Certificates::new(None);
        files.read(&certificates)?;
        Ok((certificates, files))
    }

    /// Reads the files. What is wrong with them changes nothing.
    fn read(&self, certificates: &Certificates) -> io::Result<()> {
        let pem = |path: &Path| std::fs::read(path).map_err(|error| told(path, error.kind(), error));
        let chain = Certificates::chain(&pem(&self.chain)?)
            .map_err(|error| told(&self.chain, io::ErrorKind::InvalidData, error))?;
        let key = pem(&self.key)?;
        certificates.show(chain, &key).map_err(|error| told(&self.key, io::ErrorKind::InvalidData, error))
    }

    /// Follows the files for as long as it is polled.
    pub async fn watch(self, certificates: Arc<Certificates>) {
        let mut known = self.times();
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let times = self.times();
            if times == known {
                continue;
            }
            known = times;
            match self.read(&certificates) {
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

fn told(path: &Path, kind: io::ErrorKind, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(kind, format!("{}: {error}", path.display()))
}
