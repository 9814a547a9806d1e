//! A certificate from an ACME server (RFC 8555): got, shown to TLS, and renewed in time.
//!
//! `Schedule` decides when, without a clock; `Store` keeps what a restart needs; `order` asks, over `Client`; `Challenges`
//! has what the ACME server looks at meanwhile.

mod challenges;
mod client;
mod order;
mod renewal;
mod schedule;
mod store;

pub(crate) use challenges::{ACME_TLS, Challenges};
pub use renewal::Renewal;

use std::path::PathBuf;

/// What the program decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The names that the certificate is for, in lower case.
    pub domains: Vec<String>,
    /// `mailto:` addresses.
    pub contact: Vec<String>,
    /// RFC 8555 §7.1.1: an `https` address.
    pub directory: String,
    pub challenge: Challenge,
    /// The folder of accounts and certificates.
    pub store: PathBuf,
}

/// How the ACME server sees that a name leads here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// RFC 8737.
    TlsAlpn01,
    /// RFC 8555 §8.3.
    Http01,
}
