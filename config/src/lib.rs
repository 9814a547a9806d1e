//! The configuration: TOML in, checked values out. Every wrong value gets a message that names the key, the value and
//! the fix; nothing is opened before all of them are right. `example.toml` documents every key.

mod acme;
mod file;
mod matrix;
mod notes;
mod problem;
mod reload;
mod secret;
mod syntax;

pub use acme::{Acme, Challenge};
pub use file::{Limits, MatrixPolicy, Media, RelayLimits};
pub use matrix::{Federation, Matrix, MembershipUnknown};
pub use problem::{Error, Problem};
pub use secret::Secret;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

/// Everything that an operator decides. [`Config::default`] is the empty file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// A filter of `tracing-subscriber`.
    pub log: String,
    /// The addresses under which clients reach us, best first; empty: every usable interface address.
    pub advertise: Vec<IpAddr>,
    /// Threads that serve the UDP ports, 1 to 32.
    pub workers: u8,
    pub listen: Listen,
    /// `None` without `tls.certificate` and `tls.acme.domains`.
    pub tls: Option<Tls>,
    /// Key → secret of those who may sign tokens.
    pub api_keys: BTreeMap<String, Secret>,
    pub rooms: Rooms,
    /// `None` without `matrix.homeserver`.
    pub matrix: Option<Matrix>,
    /// Opens the operator's page; `None` without `admin.token`.
    pub admin_token: Option<Secret>,
    pub control_socket: ControlSocket,
    pub relay: Relay,
    pub media: Media,
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// One or two; calls use the first, TURN for clients of calls the second.
    pub udp: Vec<SocketAddr>,
    /// TURN and ICE over TCP and TLS, HTTPS; each on another port than `http`, which serves the same.
    pub tcp: Vec<SocketAddr>,
    pub http: SocketAddr,
    /// Whose TCP connections begin with a PROXY header.
    pub proxies: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub certificate: Certificate,
    /// The names by which clients reach us, as the certificate has them.
    pub names: Vec<String>,
}

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// PEM files, followed when they change.
    Files {
        chain: PathBuf,
        key: PathBuf,
    },
    Acme(Acme),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rooms {
    pub auto_create: bool,
    pub empty_timeout: Duration,
    pub departure_timeout: Duration,
    /// 0: no number of its own.
    pub max_participants: u32,
}

/// Where the program takes the operator's commands while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlSocket {
    /// In the directory that systemd makes for the service; nowhere if there is none.
    Auto,
    Nowhere,
    /// An absolute path.
    At(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// At most 16 octets.
    pub realm: String,
    /// Shared with whoever hands out REST credentials.
    pub secrets: Vec<Secret>,
    pub strict_expiry: bool,
    /// How long an allocation may outlive its credential when expiry is strict.
    pub expiry_grace: Duration,
    /// Where clients are sent while this server drains.
    pub alternate_server: Option<SocketAddr>,
    /// How long the end of the program may wait for the last allocation to go.
    pub drain_deadline: Duration,
    pub ports: RangeInclusive<u16>,
    /// Whether clients may connect to peers over TCP (RFC 6062).
    pub tcp_allocations: bool,
    /// The file that keeps whom the relay shuts out; empty: none.
    pub store: PathBuf,
    pub allowed_peers: Vec<IpNet>,
    pub denied_peers: Vec<IpNet>,
    /// Name → password.
    pub users: BTreeMap<String, Secret>,
    pub limits: RelayLimits,
}

impl Default for Config {
    fn default() -> Config {
        Config::parse("").expect("the defaults are valid")
    }
}

impl Config {
    pub fn load(path: &Path) -> Result<Config, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::Unreadable(path.to_owned(), error))?;
        Config::parse(&text)
    }

    pub fn parse(text: &str) -> Result<Config, Error> {
        let file: file::File = toml::from_str(text).map_err(|error| Error::Syntax(syntax::explain(text, &error)))?;
        let mut problems = Problems::default();
        let config = Config {
            log: problems.log(&file.log),
            advertise: problems.advertise(&file.advertise),
            workers: problems.workers(file.workers),
            listen: problems.listen(&file.listen),
            tls: problems.tls(file.tls),
            api_keys: problems.api_keys(file.api_keys),
            rooms: Rooms {
                auto_create: file.rooms.auto_create,
                empty_timeout: Duration::from_secs(file.rooms.empty_timeout_s.into()),
                departure_timeout: Duration::from_secs(file.rooms.departure_timeout_s.into()),
                max_participants: file.rooms.max_participants,
            },
            matrix: problems.matrix(file.matrix),
            admin_token: problems.admin(file.admin),
            control_socket: problems.control(file.control),
            relay: problems.relay(file.relay),
            media: file.media,
            limits: file.limits,
        };
        problems.limits("limits", &config.limits.named());
        problems.families(&config);
        problems.parts(&config);
        if problems.0.is_empty() { Ok(config) } else { Err(Error::Invalid(problems.0)) }
    }
}

/// Collects what is wrong, so that all of it is told at once.
#[derive(Default)]
struct Problems(Vec<Problem>);

/// Octets of the longest realm: it is sent to whoever asks, so a longer one only amplifies.
const REALM_LEN_MAX: usize = 16;

/// Characters of the shortest secret that signs tokens or TURN credentials.
const SECRET_LEN_MIN: usize = 32;

/// More would spend more memory on what leads from each to each than they could save.
const WORKERS_MAX: u8 = 32;

/// unix(7): the path stands in 108 octets, with a zero behind it.
const SOCKET_PATH_LEN_MAX: usize = 107;

impl Problems {
    fn add(&mut self, key: impl Into<String>, value: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Problem { key: key.into(), value: value.into(), fix: fix.into() });
    }

    fn log(&mut self, log: &str) -> String {
        // The log's own parser takes a blank for part of a name.
        let trimmed = |directive: &str| directive.split('=').map(str::trim).collect::<Vec<_>>().join("=");
        let log = log.split(',').map(trimmed).collect::<Vec<_>>().join(",");
        // `info,sfu=debug`: levels, alone or behind a target.
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        let known = |directive: &str| {
            let level = directive.rsplit('=').next().unwrap_or_default();
            levels.contains(&level.to_lowercase().as_str())
        };
        if !log.split(',').all(known) {
            let fix = r#"write "error", "warn", "info", "debug" or "trace", or a filter such as "info,sfu=debug""#;
            self.add("log", format!("{log:?}"), fix);
        }
        log
    }

    fn advertise(&mut self, advertise: &[String]) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for text in advertise {
            let key = "advertise";
            match text.parse::<IpAddr>() {
                Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                    let fix = "clients cannot send there; write the address under which they reach this server";
                    self.add(key, format!("{text:?}"), fix);
                }
                Ok(ip) if addresses.contains(&ip) => {
                    self.add(key, format!("{text:?}"), "stands there twice; leave one")
                }
                Ok(ip) => addresses.push(ip),
                Err(_) => {
                    let fix = r#"no IP address; write one without a port, such as "203.0.113.5""#;
                    self.add(key, format!("{text:?}"), fix);
                }
            }
        }
        addresses
    }

    fn workers(&mut self, workers: usize) -> u8 {
        match u8::try_from(workers) {
            Ok(workers) if (1..=WORKERS_MAX).contains(&workers) => workers,
            _ => {
                let fix = format!("write a number from 1 to {WORKERS_MAX}, no more than there are cores");
                self.add("workers", workers.to_string(), fix);
                1
            }
        }
    }

    fn address(&mut self, key: &str, text: &str, example: &str) -> Option<SocketAddr> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => {
                self.add(key, format!("{text:?}"), format!("port 0 is none; write one such as {example:?}"));
                None
            }
            Ok(address) => Some(address),
            Err(_) => {
                let fix = format!("no IP address with a port; write one such as {example:?}");
                self.add(key, format!("{text:?}"), fix);
                None
            }
        }
    }

    fn listen(&mut self, listen: &file::Listen) -> Listen {
        let udp: Vec<SocketAddr> =
            listen.udp.iter().filter_map(|text| self.address("listen.udp", text, "[::]:3478")).collect();
        let value = format!("{:?}", listen.udp);
        if !(1..=2).contains(&listen.udp.len()) {
            let fix = r#"write the port for calls and the one for TURN: ["[::]:3478", "[::]:3479"]"#;
            self.add("listen.udp", value, fix);
        } else if let [first, second] = udp[..]
            && first.port() == second.port()
        {
            let fix = format!("two listeners on one port; write {} for the second", first.port().wrapping_add(1));
            self.add("listen.udp", value, fix);
        }
        let http = self.address("listen.http", &listen.http, "0.0.0.0:7880");
        let http = http.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 7880)));
        let tcp: Vec<SocketAddr> = match &listen.tcp {
            None => udp.first().copied().filter(|first| first.port() != http.port()).into_iter().collect(),
            Some(tcp) => tcp.iter().filter_map(|text| self.address("listen.tcp", text, "[::]:443")).collect(),
        };
        for (index, listener) in tcp.iter().enumerate() {
            if listener.port() == http.port() {
                let fix = "listen.http has this port and serves the same there; leave it out";
                self.add("listen.tcp", format!("\"{listener}\""), fix);
            } else if tcp[..index].contains(listener) {
                self.add("listen.tcp", format!("\"{listener}\""), "stands there twice; leave one");
            } else if let Some(all) = tcp.iter().find(|all| includes(**all, *listener)) {
                let fix = format!("\"{all}\" is this address too; leave it out");
                self.add("listen.tcp", format!("\"{listener}\""), fix);
            }
        }
        Listen { udp, tcp, http, proxies: self.prefixes("listen.proxies", &listen.proxies) }
    }

    fn tls(&mut self, tls: file::Tls) -> Option<Tls> {
        let acme = self.acme(&tls.acme);
        let paths = [("tls.certificate", &tls.certificate), ("tls.key", &tls.key)];
        if acme.is_none() && paths.iter().all(|(_, path)| path.is_empty()) {
            if !tls.names.is_empty() {
                let fix = "there is no certificate for them; name its files in tls.certificate and tls.key, or write \
                           tls.acme.domains";
                self.add("tls.names", format!("{:?}", tls.names), fix);
            }
            return None;
        }
        for (key, path) in paths {
            if acme.is_none() && path.is_empty() {
                self.add(key, r#""""#, "the certificate and its key belong together; write the path of a PEM file");
            }
        }
        if acme.is_some()
            && let Some((key, path)) = paths.iter().find(|(_, path)| !path.is_empty())
        {
            let fix = "tls.acme.domains has the certificate come from an ACME server; leave out one of the two";
            self.add(*key, format!("{path:?}"), fix);
        }
        for name in &tls.names {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            if name.is_empty() || !name.chars().all(fits) {
                self.add("tls.names", format!("{name:?}"), r#"write a host name such as "calls.example.org""#);
            } else if acme.as_ref().is_some_and(|acme| !acme.domains.contains(&name.to_ascii_lowercase())) {
                self.add("tls.names", format!("{name:?}"), "the certificate is not for it; add it to tls.acme.domains");
            }
        }
        Some(match acme {
            // Every name of such a certificate is proven to lead here.
            Some(acme) if tls.names.is_empty() => {
                Tls { names: acme.domains.clone(), certificate: Certificate::Acme(acme) }
            }
            Some(acme) => Tls { names: tls.names, certificate: Certificate::Acme(acme) },
            None => {
                let certificate = Certificate::Files { chain: tls.certificate.into(), key: tls.key.into() };
                Tls { names: tls.names, certificate }
            }
        })
    }

    fn api_keys(&mut self, api_keys: BTreeMap<String, Secret>) -> BTreeMap<String, Secret> {
        for (name, secret) in &api_keys {
            if name.is_empty() {
                self.add("api_keys", r#""""#, "a key needs a name; write one before the equals sign");
            }
            self.secret(&format!("api_keys.{name}"), secret);
        }
        api_keys
    }

    fn admin(&mut self, admin: file::Admin) -> Option<Secret> {
        if admin.token.reveal().is_empty() {
            return None;
        }
        self.secret("admin.token", &admin.token);
        if !admin.token.reveal().chars().all(|c| c.is_ascii_graphic()) {
            self.add("admin.token", "…", "write letters, digits and signs of ASCII without blanks");
        }
        Some(admin.token)
    }

    fn control(&mut self, control: file::Control) -> ControlSocket {
        let socket = control.socket;
        let fix = match socket.as_str() {
            "auto" => return ControlSocket::Auto,
            "none" => return ControlSocket::Nowhere,
            path if !path.starts_with('/') || path.ends_with('/') => {
                r#"write "auto", "none" or an absolute path such as "/run/hausruf/control.sock""#.to_owned()
            }
            path if path.len() > SOCKET_PATH_LEN_MAX => {
                format!("the system takes no path of more than {SOCKET_PATH_LEN_MAX} octets; write a shorter one")
            }
            _ => return ControlSocket::At(socket.into()),
        };
        self.add("control.socket", format!("{socket:?}"), fix);
        ControlSocket::Nowhere
    }

    fn secret(&mut self, key: &str, secret: &Secret) {
        let length = secret.reveal().chars().count();
        if length < SECRET_LEN_MIN {
            let fix = format!(
                "{length} characters can be guessed; write at least {SECRET_LEN_MIN} (`openssl rand -base64 32` makes \
                 them)"
            );
            self.add(key, "…", fix);
        }
    }

    fn relay(&mut self, relay: file::Relay) -> Relay {
        if relay.realm.is_empty() || relay.realm.len() > REALM_LEN_MAX {
            let fix = format!("write 1 to {REALM_LEN_MAX} octets, such as your domain or \"hausruf\"");
            self.add("relay.realm", format!("{:?}", relay.realm), fix);
        }
        for secret in &relay.secrets {
            self.secret("relay.secrets", secret);
        }
        for (name, password) in &relay.users {
            if name.is_empty() || name.contains(':') {
                let fix = "write a name without a colon: what has one is read as a REST credential";
                self.add("relay.users", format!("{name:?}"), fix);
            }
            if password.reveal().chars().count() < 8 {
                self.add(format!("relay.users.{name}"), "…", "write a password of at least 8 characters");
            }
        }
        self.limits("relay.limits", &relay.limits.named());
        self.optional_limits("relay.limits", &relay.limits.named_optional());
        Relay {
            ports: self.ports(&relay.ports),
            tcp_allocations: relay.tcp_allocations,
            store: relay.store.into(),
            allowed_peers: self.prefixes("relay.allowed_peers", &relay.allowed_peers),
            denied_peers: self.prefixes("relay.denied_peers", &relay.denied_peers),
            realm: relay.realm,
            secrets: relay.secrets,
            strict_expiry: relay.strict_expiry,
            expiry_grace: Duration::from_secs(relay.expiry_grace_s.into()),
            alternate_server: match relay.alternate_server.as_str() {
                "" => None,
                text => self.address("relay.alternate_server", text, "203.0.113.6:3478"),
            },
            drain_deadline: Duration::from_secs(relay.drain_deadline_s.into()),
            users: relay.users,
            limits: relay.limits,
        }
    }

    fn ports(&mut self, text: &str) -> RangeInclusive<u16> {
        let range = text.split_once('-').and_then(|(first, last)| {
            let first: u16 = first.trim().parse().ok()?;
            let last: u16 = last.trim().parse().ok()?;
            (first >= 1024 && first < last).then_some(first..=last)
        });
        range.unwrap_or_else(|| {
            let fix = r#"write the first and the last port, from 1024 to 65535, such as "49152-65535""#;
            self.add("relay.ports", format!("{text:?}"), fix);
            49152..=65535
        })
    }

    fn prefixes(&mut self, key: &str, texts: &[String]) -> Vec<IpNet> {
        let mut prefixes = Vec::new();
        for text in texts {
            match prefix(text) {
                Ok(prefix) => prefixes.push(prefix),
                Err(fix) => self.add(key, format!("{text:?}"), fix),
            }
        }
        prefixes
    }

    fn limits(&mut self, table: &str, limits: &[(&str, usize)]) {
        for &(name, value) in limits {
            if !(1..=100_000_000).contains(&value) {
                let fix = "write a number from 1 to 100000000, or leave the key out";
                self.add(format!("{table}.{name}"), value.to_string(), fix);
            }
        }
    }

    fn optional_limits(&mut self, table: &str, limits: &[(&str, usize, usize)]) {
        for &(name, value, most) in limits {
            if value > most {
                let fix = format!("write a number up to {most}, or 0 for no limit");
                self.add(format!("{table}.{name}"), value.to_string(), fix);
            }
        }
    }

    /// Each worker has a part of the relayed ports: at least a pair of them.
    fn parts(&mut self, config: &Config) {
        let (ports, workers) = (config.relay.ports.len(), usize::from(config.workers));
        if workers > 1 && ports < 2 * (workers + 1) {
            let fix = format!("relay.ports has only {ports} ports to divide; write fewer workers or more ports");
            self.add("workers", workers.to_string(), fix);
        }
    }

    /// Listeners and advertised addresses have to fit each other, and ports must not meet.
    fn families(&mut self, config: &Config) {
        for &ip in &config.advertise {
            let serves = |listener: &SocketAddr| match listener.ip() {
                IpAddr::V6(listener) if listener.is_unspecified() => true,
                listener => listener.is_ipv4() == ip.is_ipv4(),
            };
            if !config.listen.udp.is_empty() && !config.listen.udp.iter().any(serves) {
                let fix = "no UDP listener has this address family; leave it out or listen on \"[::]:3478\"";
                self.add("advertise", format!("\"{ip}\""), fix);
            }
        }
        for listener in &config.listen.udp {
            if config.relay.ports.contains(&listener.port()) {
                let ports = format!("\"{}-{}\"", config.relay.ports.start(), config.relay.ports.end());
                let fix = format!("contains the listening port {}; write a range without it", listener.port());
                self.add("relay.ports", ports, fix);
            }
        }
    }
}

/// Whether who listens at all addresses of a port has this other one too. "[::]" is IPv4 as well.
fn includes(all: SocketAddr, other: SocketAddr) -> bool {
    all != other && all.port() == other.port() && all.ip().is_unspecified() && (all.is_ipv6() || other.is_ipv4())
}

/// The prefix, or what is to be written instead. A single address is its own prefix.
fn prefix(text: &str) -> Result<IpNet, String> {
    let example = r#"write a prefix such as "192.168.7.0/24" or "2001:db8::/32""#;
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| format!("no IP address; {example}"))?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(bits), |length| length.parse().ok());
    let prefix = length.and_then(|length| IpNet::new(address, length).ok());
    let prefix = prefix.ok_or_else(|| format!("the number behind the slash goes from 0 to {bits}; {example}"))?;
    if prefix.trunc() != prefix {
        return Err(format!(r#"bits are set behind the prefix; write "{}""#, prefix.trunc()));
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests;
