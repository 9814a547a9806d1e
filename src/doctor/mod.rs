//! `hausruf doctor`: the whole chain of a call, from the outside in, and in one sentence each what is wrong with it and
//! what to change.
//!
//! Each file of a check has two halves: one asks the network and answers with plain values, the other judges the values.

mod account;
mod appservice;
mod call;
mod connection;
mod discovery;
mod examination;
mod features;
mod grant;
mod homeserver;
mod http;
mod media_path;
mod random;
mod reach;
mod report;
mod service;
mod stun;
mod tcp;
mod transports;
mod turn;
mod turn_server;
mod udp;
mod url;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use hyper::Uri;

use crate::cli::Doctor;
use crate::stdout;
use connection::{Dialer, Origin};
use examination::Patient;

/// Examines, prints the report, and says with the exit code whether all is well.
pub fn run(options: &Doctor) -> anyhow::Result<ExitCode> {
    let config = options.config.as_deref().map(crate::load).transpose()?;
    let site = site(&options.server)?;
    let as_user = options.as_user.clone().or_else(|| std::env::var("HAUSRUF_DOCTOR_TOKEN").ok());
    let ca_file = config.as_ref().and_then(|config| config.matrix.as_ref()?.federation.ca_file.clone());
    let dialer = Dialer::new(ca_file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let report = runtime.block_on(Patient { dialer, site, config, as_user }.examine());
    stdout::print(&if options.json { report.json() } else { report.text() })?;
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `example.org` and `https://example.org/` are the same: an address without a slash at its end.
fn site(server: &str) -> anyhow::Result<String> {
    let text = if server.contains("://") { server.to_owned() } else { format!("https://{server}") };
    let text = text.trim_end_matches('/').to_owned();
    let url: Uri = match text.parse() {
        Ok(url) => url,
        Err(_) => bail!("{server:?} is no server name; write the homeserver's, such as https://example.org"),
    };
    if Origin::of(&url).is_none() || url.path().len() > 1 {
        bail!("{server:?} is no server name; write the homeserver's, such as https://example.org");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::site;

    #[test]
    fn a_server_is_named_with_or_without_the_scheme() {
        assert_eq!(site("example.org").unwrap(), "https://example.org");
        assert_eq!(site("https://example.org/").unwrap(), "https://example.org");
        assert_eq!(site("http://127.0.0.1:8008").unwrap(), "http://127.0.0.1:8008");
        for nonsense in ["", "https://", "ftp://example.org", "https://example.org/path", "a b"] {
            assert!(site(nonsense).is_err(), "{nonsense}");
        }
    }
}
