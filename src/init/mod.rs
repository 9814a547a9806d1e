//! `hausruf init`: asks for names and addresses, and writes everything that has to be configured.

mod answers;
mod homeserver_config;
mod proxy;
mod registration;
mod settings;
mod synapse;
mod well_known;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::cli::Init;
use crate::stdout;
use answers::Answers;
use homeserver_config::HomeserverConfig;

/// Secrets are only for who runs init; what is public is for everybody.
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// What is written, below the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    path: &'static str,
    mode: u32,
    text: String,
}

/// Made anew at each run.
#[derive(Clone)]
struct Secrets {
    as_token: String,
    hs_token: String,
    turn: String,
}

impl Secrets {
    fn generate() -> anyhow::Result<Secrets> {
        Ok(Secrets { as_token: secret()?, hs_token: secret()?, turn: secret()? })
    }
}

/// 256 bits, in characters that need no escapes anywhere.
fn secret() -> anyhow::Result<String> {
    let mut octets = [0; 32];
    getrandom::fill(&mut octets).map_err(|error| anyhow::anyhow!("the system has no randomness: {error}"))?;
    Ok(URL_SAFE_NO_PAD.encode(octets))
}

pub fn run(options: &Init) -> anyhow::Result<()> {
    let answers = Answers::gather(options)?;
    let existing = HomeserverConfig::find(options.homeserver_config.as_deref())?;
    let files = files(&answers, &existing, &Secrets::generate()?)?;
    write(&answers.directory, &files, options.force)?;
    stdout::print(&told(&answers, &existing, &files))
}

fn files(answers: &Answers, existing: &HomeserverConfig, secrets: &Secrets) -> anyhow::Result<Vec<File>> {
    let settings = settings::text(answers, secrets);
    // What was answered is judged by those who know the keys.
    if let Err(error) = config::Config::parse(&settings) {
        bail!("these answers make no configuration:\n{error}");
    }
    let private = |path, text| File { path, mode: PRIVATE, text };
    let public = |path, text| File { path, mode: PUBLIC, text };
    Ok(vec![
        private("hausruf.toml", settings),
        private("synapse/hausruf-registration.yaml", registration::text(answers, secrets)),
        private("synapse/conf.d/hausruf.yaml", synapse::text(answers, existing, secrets)),
        public("well-known/matrix/client", well_known::text(answers)),
        public("proxy/Caddyfile", proxy::caddy(answers)),
        public("proxy/nginx.conf", proxy::nginx(answers)),
    ])
}

fn write(directory: &Path, files: &[File], force: bool) -> anyhow::Result<()> {
    let present: Vec<String> = files
        .iter()
        .map(|file| directory.join(file.path))
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    if !force && !present.is_empty() {
        bail!("{} is there already; --force overwrites it, and makes new secrets", present.join(", "));
    }
    for file in files {
        let path = directory.join(file.path);
        write_one(&path, file).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn write_one(path: &Path, file: &File) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // The mode counts for a new file only, so an old one goes first: nobody reads a secret through its old mode.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut target = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(path)?;
    target.write_all(file.text.as_bytes())
}

/// What was done, and what is left to do.
fn told(answers: &Answers, existing: &HomeserverConfig, files: &[File]) -> String {
    let directory = &answers.directory;
    let mut text = String::from("Written:\n");
    for file in files {
        text.push_str(&format!("  {}\n", directory.join(file.path).display()));
    }
    text.push_str(&existing.told(answers));
    let path = |name: &str| directory.join(name).display().to_string();
    let host = answers.host();
    let site = answers.site();
    text.push_str(&format!(
        "\nThree things are left to do:\n\
         \x20 1. On Synapse's machine, and then restart Synapse{merge}:\n\
         \x20      install -o matrix-synapse -m 600 {registration} {synapse}/\n\
         \x20      install -o matrix-synapse -m 600 {conf} {synapse}/conf.d/\n\
         \x20 2. Let the name {host} lead to this machine, and give the proxy a certificate for it and the block of {caddy} or \
         {nginx}; let {site} serve {well_known}, unless Synapse serves it there; reload the proxy.\n\
         \x20 3. Stop coturn, LiveKit and lk-jwt-service, if they run here. Open UDP 3478 and 3479 and TCP 3478 in the \
         firewall. With the Debian package:\n\
         \x20      install -g hausruf -m 640 {toml} /etc/hausruf/hausruf.toml && systemctl restart hausruf\n\
         \x20    else: hausruf serve --config {toml}\n\
         \nThen, from any machine: hausruf doctor {site} --config {toml}\n",
        registration = path("synapse/hausruf-registration.yaml"),
        conf = path("synapse/conf.d/hausruf.yaml"),
        synapse = answers.synapse_directory.display(),
        merge = if existing.merges().is_empty() { "" } else { ", merging what is said above" },
        caddy = path("proxy/Caddyfile"),
        nginx = path("proxy/nginx.conf"),
        well_known = path("well-known/matrix/client"),
        toml = path("hausruf.toml"),
    ));
    text
}

/// Where Synapse finds the registration.
fn registration_path(answers: &Answers) -> PathBuf {
    answers.synapse_directory.join("hausruf-registration.yaml")
}

#[cfg(test)]
mod tests;
