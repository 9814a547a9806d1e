use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// Replaces the filter of the log.
pub type Refilter = Box<dyn Fn(EnvFilter) + Send>;

/// The configured filter, unless `RUST_LOG` says another.
pub fn filter(configured: &str) -> anyhow::Result<EnvFilter> {
    Ok(match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => {
            EnvFilter::try_new(&filter).with_context(|| format!("RUST_LOG={filter} is no filter such as \"info\""))?
        }
        _ => EnvFilter::try_new(configured)
            .with_context(|| format!("log = {configured:?} is no filter such as \"info,sfu=debug\""))?,
    })
}

/// Logs to standard error.
pub fn start(configured: &str) -> anyhow::Result<Refilter> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(configured)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    // The log lives as long as the program.
    Ok(Box::new(move |filter| _ = handle.reload(filter)))
}
