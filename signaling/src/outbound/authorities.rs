//! Who vouches for the servers that we ask.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Certificate authorities: the system's, and perhaps some of the operator's own.
#[derive(Clone)]
pub struct Authorities(Arc<ClientConfig>);

impl Authorities {
    /// `extra` is a PEM file. What the system has is taken as far as it can be read; a machine without any has to be
    /// told by `extra`.
    pub fn load(extra: Option<&Path>) -> io::Result<Authorities> {
        let pem = extra.map(std::fs::read).transpose()?;
        Authorities::with(pem.as_deref())
    }

    pub(crate) fn with(extra: Option<&[u8]>) -> io::Result<Authorities> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if let Some(pem) = extra {
            let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
            let mut count = 0;
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
                roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
                count += 1;
            }
            if count == 0 {
                return Err(invalid("there is no certificate in it".into()));
            }
        }
        if roots.is_empty() {
            tracing::warn!("this machine trusts no certificate authority: no server can be asked over https");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Authorities(Arc::new(config)))
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}
