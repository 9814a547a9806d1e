//! `hausruf import`: another server's configuration file becomes ours.

mod coturn_file;
mod disposition;
mod endpoints;
mod peer_ranges;
mod translation;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::cli::Import;
use crate::stdout;

pub fn run(options: &Import) -> anyhow::Result<()> {
    let path = options.file.display();
    let octets = std::fs::read(&options.file).with_context(|| format!("cannot read {path}"))?;
    // coturn reads octets; a comment in another encoding is no obstacle.
    let (toml, notes) = translation::translate(&String::from_utf8_lossy(&octets));
    // What is written has to be right: judged by those who know the keys.
    if let Err(error) = config::Config::parse(&toml) {
        bail!("{path} makes no valid configuration:\n{error}");
    }
    match &options.output {
        Some(output) => write(output, &toml, options.force)?,
        None => stdout::print(&toml)?,
    }
    for note in notes {
        eprintln!("{path}:{note}");
    }
    Ok(())
}

/// Whole or not at all: what is there stays until the new file is complete.
fn write(path: &Path, toml: &str, force: bool) -> anyhow::Result<()> {
    let told = || format!("cannot write {}", path.display());
    if !force && path.exists() {
        bail!("{} is there already; --force overwrites it", path.display());
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = Path::new(&beside);
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside).with_context(told)?;
    let written = target.write_all(toml.as_bytes()).and_then(|()| std::fs::rename(beside, path));
    if written.is_err() {
        // There is nothing to be done if that fails too.
        let _ = std::fs::remove_file(beside);
    }
    written.with_context(told)
}

#[cfg(test)]
mod tests;
