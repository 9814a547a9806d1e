use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use instant_acme::AccountCredentials;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::schedule::Retry;
use crate::replace_file;

/// What is known of one ACME server: the account there, its newest certificate with the key, and what failed. Each is a
/// file of its own that is replaced as a whole, so that a kill -9 leaves the old one or the new one.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// An account (RFC 8555 §7.1.2), and the contacts that the ACME server has of it.
#[derive(Serialize, Deserialize)]
pub struct StoredAccount {
    pub contact: Vec<String>,
    pub credentials: AccountCredentials,
}

/// What failed, and for which names: others are worth an attempt at once.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRetry {
    pub domains: Vec<String>,
    #[serde(flatten)]
    pub retry: Retry,
}

const ACCOUNT: &str = "account.json";
const CERTIFICATE: &str = "certificate.pem";
const RETRY: &str = "retry.json";

impl Store {
    /// In `store`, which is made if need be, each ACME server has a folder: the certificate of a server for tests is not
    /// taken for that of the real one.
    pub fn open(store: &Path, directory: &str) -> io::Result<Store> {
        let hash = digest(&SHA256, directory.as_bytes());
        let hash: String = hash.as_ref().iter().take(4).map(|octet| format!("{octet:02x}")).collect();
        let host = directory
            .split('/')
            .nth(2)
            .unwrap_or_default()
            .replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
        let folder = store.join(format!("{host}-{hash}"));
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        Ok(Store { folder })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn account(&self) -> io::Result<Option<StoredAccount>> {
        self.read_json(ACCOUNT)
    }

    pub fn keep_account(&self, account: &StoredAccount) -> io::Result<()> {
        self.write(ACCOUNT, &serde_json::to_vec(account)?)
    }

    /// The key and the chain (PEM).
    pub fn certificate(&self) -> io::Result<Option<Vec<u8>>> {
        self.read(CERTIFICATE)
    }

    pub fn keep_certificate(&self, pem: &[u8]) -> io::Result<()> {
        self.write(CERTIFICATE, pem)
    }

    pub fn retry(&self) -> io::Result<Option<StoredRetry>> {
        self.read_json(RETRY)
    }

    pub fn keep_retry(&self, retry: &StoredRetry) -> io::Result<()> {
        self.write(RETRY, &serde_json::to_vec(retry)?)
    }

    pub fn forget_retry(&self) -> io::Result<()> {
        match fs::remove_file(self.folder.join(RETRY)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.folder.join(name)) {
            Ok(octets) => Ok(Some(octets)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", self.folder.join(name).display()))),
        }
    }

    /// What is no such thing is passed over, and written anew sooner or later.
    fn read_json<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let Some(octets) = self.read(name)? else { return Ok(None) };
        match serde_json::from_slice(&octets) {
            Ok(value) => Ok(Some(value)),
            // The parser's message could quote a key.
            Err(_) => {
                tracing::warn!("{} cannot be understood and is not used", self.folder.join(name).display());
                Ok(None)
            }
        }
    }

    fn write(&self, name: &str, octets: &[u8]) -> io::Result<()> {
        replace_file(&self.folder.join(name), octets).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DIRECTORY: &str = "https://acme.example.org:14000/dir";

    /// A folder of the test's own; gone with it.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let place = std::env::temp_dir().join(format!("hausruf-store-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&place);
            Place(place)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn retry(failures: u32) -> StoredRetry {
        let retry = Retry { failures, not_before: Duration::from_secs(1_795_824_000) };
        StoredRetry { domains: vec!["calls.example.org".into()], retry }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_kept_is_found_again_and_nobody_else_reads_it() {
        let place = Place::new("kept");
        let store = Store::open(&place.0, DIRECTORY).unwrap();
        assert!(store.certificate().unwrap().is_none() && store.retry().unwrap().is_none());
        store.keep_certificate(b"one").unwrap();
        store.keep_certificate(b"two").unwrap();
        store.keep_retry(&retry(3)).unwrap();
        let store = Store::open(&place.0, DIRECTORY).unwrap();
        assert_eq!(store.certificate().unwrap().unwrap(), b"two");
        assert_eq!(store.retry().unwrap(), Some(retry(3)));
        assert_eq!((mode(&place.0), mode(store.folder())), (0o700, 0o700));
        assert_eq!(mode(&store.folder().join(CERTIFICATE)), 0o600);
        store.forget_retry().unwrap();
        store.forget_retry().unwrap();
        assert_eq!(store.retry().unwrap(), None);
    }

    #[test]
    fn each_acme_server_has_a_folder_of_its_own() {
        let place = Place::new("servers");
        let one = Store::open(&place.0, DIRECTORY).unwrap();
        one.keep_certificate(b"one").unwrap();
        let other = Store::open(&place.0, "https://acme.example.org:14000/other").unwrap();
        assert!(other.certificate().unwrap().is_none());
        let name = one.folder().file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("acme.example.org-14000-"), "{name}");
    }

    #[test]
    fn what_a_killed_run_left_half_written_does_no_harm() {
        let place = Place::new("killed");
        let store = Store::open(&place.0, DIRECTORY).unwrap();
        store.keep_retry(&retry(1)).unwrap();
        fs::write(store.folder().join("retry.json.new"), b"{\"domains\":[\"ca").unwrap();
        assert_eq!(store.retry().unwrap(), Some(retry(1)));
        store.keep_retry(&retry(2)).unwrap();
        assert_eq!(store.retry().unwrap(), Some(retry(2)));
        assert_eq!(mode(&store.folder().join(RETRY)), 0o600);
    }

    #[test]
    fn what_cannot_be_understood_is_nothing_and_what_cannot_be_read_is_told() {
        let place = Place::new("broken");
        let store = Store::open(&place.0, DIRECTORY).unwrap();
        fs::write(store.folder().join(RETRY), b"{").unwrap();
        assert_eq!(store.retry().unwrap(), None);
        fs::create_dir(store.folder().join(ACCOUNT)).unwrap();
        let Err(error) = store.account() else { panic!() };
        assert!(error.to_string().contains("account.json"), "{error}");
        let file = place.0.join("file");
        fs::write(&file, b"").unwrap();
        assert!(Store::open(&file, DIRECTORY).is_err());
    }
}
