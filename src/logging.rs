use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// Logs to standard error. `RUST_LOG` takes precedence over the configured filter.
pub fn start(configured: &str) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => {
            EnvFilter::try_new(&filter).with_context(|| format!("RUST_LOG={filter} is no filter such as \"info\""))?
        }
        _ => EnvFilter::try_new(configured)
            .with_context(|| format!("log = {configured:?} is no filter such as \"info,sfu=debug\""))?,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}
