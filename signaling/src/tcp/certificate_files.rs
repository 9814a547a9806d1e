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
        let mut followed = Followed { known: self.times(), trouble: None, files: self };
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            followed.look(&certificates);
        }
    }

    fn times(&self) -> [Option<SystemTime>; 2] {
        [&self.chain, &self.key].map(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
    }
}

struct Followed {
    files: CertificateFiles,
    known: [Option<SystemTime>; 2],
    /// What was wrong with the files when they were read last. That may end without a change of them: by other permissions, say.
    trouble: Option<String>,
}

impl Followed {
    fn look(&mut self, certificates: &Certificates) {
        let times = self.files.times();
        if times == self.known && self.trouble.is_none() {
            return;
        }
        self.known = times;
        let trouble = self.files.read(certificates).err().map(|error| error.to_string());
        match &trouble {
            None => tracing::info!("a new certificate is in use"),
            Some(error) if trouble != self.trouble => {
                // The other file may follow in a moment.
                tracing::warn!(%error, "the certificate has changed, and the old one stays in use");
            }
            Some(_) => {}
        }
        self.trouble = trouble;
    }
}

fn told(path: &Path, kind: io::ErrorKind, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(kind, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// A certificate that ends in this year, and its key.
    fn made(year: i32) -> [String; 2] {
        let mut params = rcgen::CertificateParams::new(vec!["calls.example.org".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        [params.self_signed(&key).unwrap().pem(), key.serialize_pem()]
    }

    #[test]
    fn what_could_not_be_read_is_tried_again() {
        let folder = std::env::temp_dir().join(format!("hausruf-certificate-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [chain, key] = ["chain.pem", "key.pem"].map(|name| folder.join(name));
        let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let write = |path: &Path, text: &str, age_s: u64| {
            std::fs::write(path, text).unwrap();
            File::options().write(true).open(path).unwrap().set_modified(begun + Duration::from_secs(age_s)).unwrap();
        };
        let [first, second] = [made(2100), made(2200)];
        write(&chain, &first[0], 0);
        write(&key, &first[1], 0);
        let (certificates, files) = CertificateFiles::open(&chain, &key).unwrap();
        let ends = || certificates.census().not_after.unwrap();
        let end = ends();
        let mut followed = Followed { known: files.times(), trouble: None, files };
        write(&chain, &second[0], 1);
        write(&key, "nothing yet", 1);
        followed.look(&certificates);
        assert_eq!(ends(), end);
        write(&key, &second[1], 1);
        followed.look(&certificates);
        assert!(ends() > end);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
