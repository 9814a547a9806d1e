use std::io::{BufRead, IsTerminal as _, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::cli::Init;

/// Everything that init needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// What stands behind the colon of user ids.
    pub server_name: String,
    /// Our public base address.
    pub url: String,
    /// The IP addresses of this machine, as the internet reaches it.
    pub addresses: Vec<IpAddr>,
    /// Synapse's client API, as this machine reaches it and as clients do.
    pub homeserver: String,
    pub homeserver_url: String,
    /// Where we listen, and where Synapse finds us.
    pub listen: SocketAddr,
    pub appservice_url: String,
    pub synapse_directory: PathBuf,
    pub directory: PathBuf,
}

impl Answers {
    /// Flags first; what is missing is asked for at a terminal.
    pub fn gather(options: &Init) -> anyhow::Result<Answers> {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            Answers::ask(options, &mut Some((stdin.lock(), std::io::stdout())))
        } else {
            Answers::ask::<std::io::Empty, std::io::Sink>(options, &mut None)
        }
    }

    pub fn ask<R: BufRead, W: Write>(options: &Init, dialogue: &mut Option<(R, W)>) -> anyhow::Result<Answers> {
        let server_name = answer(
            dialogue,
            options.server_name.as_ref(),
            "The homeserver's name, behind the colon of user ids (example.org)",
            None,
            "--server-name",
        )?;
        // The name without a port, where it has one.
        let domain = server_name.split(':').next().unwrap_or_default().to_owned();
        let url = answer(
            dialogue,
            options.url.as_ref(),
            "The public address of calls",
            Some(format!("https://calls.{domain}")),
            "--url",
        )?;
        let url = base_url(&url, "--url")?;
        let addresses = match (&options.address[..], dialogue.is_some()) {
            ([], true) => {
                let question = "The public IP address of this machine (several: with commas)";
                let text = answer(dialogue, None, question, None, "--address")?;
                let parse = |text: &str| text.trim().parse().with_context(|| format!("{text:?} is no IP address"));
                text.split(',').map(parse).collect::<Result<_, _>>()?
            }
            ([], false) => bail!("--address is missing: the public IP address of this machine"),
            (given, _) => given.to_vec(),
        };
        let homeserver = answer(
            dialogue,
            options.homeserver.as_ref(),
            "Synapse's client API, as this machine reaches it",
            Some("http://127.0.0.1:8008".to_owned()),
            "--homeserver",
        )?;
        let homeserver_url = answer(
            dialogue,
            options.homeserver_url.as_ref(),
            "The same, as clients reach it",
            Some(format!("https://{domain}")),
            "--homeserver-url",
        )?;
        let appservice_url = match &options.appservice_url {
            Some(url) => base_url(url, "--appservice-url")?,
            None => format!("http://{}", reachable(options.listen)),
        };
        Ok(Answers {
            server_name,
            url,
            addresses,
            homeserver: base_url(&homeserver, "--homeserver")?,
            homeserver_url: base_url(&homeserver_url, "--homeserver-url")?,
            listen: options.listen,
            appservice_url,
            synapse_directory: options.synapse_directory.clone(),
            directory: options.directory.clone(),
        })
    }

    /// Host and port of our public address.
    pub fn authority(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, authority)| authority)
    }

    /// The host of our public address.
    pub fn host(&self) -> &str {
        let authority = self.authority();
        match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => host,
            _ => authority,
        }
    }

    /// Where clients look for the homeserver's well-known document.
    pub fn site(&self) -> String {
        format!("https://{}", self.server_name)
    }
}

/// `given`, or what is answered, or for an empty answer `usual`.
fn answer<R: BufRead, W: Write>(
    dialogue: &mut Option<(R, W)>,
    given: Option<&String>,
    question: &str,
    usual: Option<String>,
    flag: &str,
) -> anyhow::Result<String> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    let Some((input, output)) = dialogue else {
        return usual.with_context(|| format!("{flag} is missing: {}", lower(question)));
    };
    loop {
        match &usual {
            Some(usual) => write!(output, "{question} [{usual}]: ")?,
            None => write!(output, "{question}: ")?,
        }
        output.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            bail!("{flag} is missing: {}", lower(question));
        }
        match (line.trim(), &usual) {
            ("", Some(usual)) => return Ok(usual.clone()),
            ("", None) => {}
            (text, _) => return Ok(text.to_owned()),
        }
    }
}

fn lower(question: &str) -> String {
    let mut letters = question.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// An address without a path, since proxies are configured for a host.
fn base_url(text: &str, flag: &str) -> anyhow::Result<String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let text = text.trim_end_matches('/');
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    if authority.is_empty() || !authority.chars().all(allowed) {
        bail!("{flag} {text}: write an address without a path, such as https://calls.example.org");
    }
    Ok(text.to_owned())
}

/// Where somebody on this machine finds what listens there.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}
