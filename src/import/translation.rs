//! coturn's options as our keys, and what is to be said about the others.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use config::RelayLimits;

use super::coturn_file::{Line, lines};
use super::disposition;
use super::endpoints::Endpoints;
use super::peer_ranges::{PeerRange, covers, prefixes};

/// What is to be said. It quotes no value: that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `None`: about the file as a whole.
    pub line: Option<usize>,
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{line}: {}", self.text),
            None => write!(formatter, " {}", self.text),
        }
    }
}

#[derive(Default)]
struct Found {
    endpoints: Endpoints,
    metrics_ip: Option<IpAddr>,
    metrics_port: Option<u16>,
    realm: Option<String>,
    secrets: Vec<String>,
    /// coturn asks no user for a password once it has a secret, wherever in the file that stands.
    has_secret: bool,
    users: BTreeMap<String, String>,
    certificate: Option<String>,
    key: Option<String>,
    denied: Vec<PeerRange>,
    allowed: Vec<PeerRange>,
    limits: BTreeMap<&'static str, u64>,
    has_tcp_relay: bool,
    stun_only: bool,
}

/// The TOML, which is a valid configuration whatever the text is, and the notes.
pub fn translate(text: &str) -> (String, Vec<Note>) {
    let mut found = Found { has_tcp_relay: true, ..Found::default() };
    found.has_secret = lines(text).any(|line| matches!(line.name, "use-auth-secret" | "static-auth-secret"));
    let mut notes = Vec::new();
    for line in lines(text) {
        if let Some(note) = found.take(&line) {
            // What nobody knows is perhaps no option: the rest of a broken line, which may hold a secret.
            let name = if note == UNKNOWN { String::new() } else { format!("{}: ", line.name) };
            notes.push(Note { line: Some(line.number), text: name + &note });
        }
    }
    let toml = found.finish(&mut notes);
    (toml, notes)
}

const UNKNOWN: &str = "no option of coturn; left out";
/// Ranges that coturn relays to unless they are denied.
const PRIVATE: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
/// The largest limits that the configuration takes.
const LIMIT_MAX: u64 = 100_000_000;
const MBPS_MAX: u64 = 1_000_000;
/// Limits that somebody may meet who never met one of coturn's.
const USUAL_LIMITS: [&str; 5] =
    ["allocations", "allocations_per_user", "allocations_per_source", "permissions", "channels"];

impl Found {
    /// What is to be said of the line; nothing where a key says the same.
    fn take(&mut self, line: &Line) -> Option<String> {
        let lost = |why: &str| Some(format!("cannot be carried over: {why}"));
        let wrong = || lost("its value is not understood");
        if line.value.contains('\u{FFFD}') {
            return lost("its value is no UTF-8 text");
        }
        let value = line.value;
        let endpoints = &mut self.endpoints;
        match line.name {
            "alt-listening-port" if line.number() == Some(0) => {
                return Some("already so: the port behind the first".into());
            }
            "listening-port" | "tls-listening-port" | "alt-listening-port" | "tcp-proxy-port" | "min-port"
            | "max-port" | "prometheus-port" => {
                let port = line.number().and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0);
                let Some(port) = port else { return wrong() };
                *match line.name {
                    "listening-port" => &mut endpoints.port,
                    "tls-listening-port" => &mut endpoints.tls_port,
                    "alt-listening-port" => &mut endpoints.alt_port,
                    "tcp-proxy-port" => &mut endpoints.proxy_port,
                    "min-port" => &mut endpoints.min_port,
                    "max-port" => &mut endpoints.max_port,
                    _ => &mut self.metrics_port,
                } = Some(port);
                let is_proxy = line.name == "tcp-proxy-port";
                return is_proxy.then(|| {
                    "carried over: to listen.tcp; name the load balancer's address in listen.proxies, or its \
                     connections are not understood"
                        .into()
                });
            }
            "listening-ip" | "relay-ip" => {
                let Ok(ip) = value.parse::<IpAddr>() else { return wrong() };
                let list = if line.name == "relay-ip" { &mut endpoints.relay } else { &mut endpoints.listening };
                if ip.is_multicast() || line.name == "relay-ip" && ip.is_unspecified() {
                    return lost("nobody can send there; write the address to advertise");
                }
                if !list.contains(&ip) {
                    list.push(ip);
                }
            }
            "external-ip" => {
                let (public, private) = value.split_once('/').map_or((value, None), |(ip, of)| (ip, Some(of)));
                let Ok(public) = public.trim().parse::<IpAddr>() else {
                    return lost("it is no IP address; write the public one to advertise");
                };
                let private = match private.map(|private| private.trim().parse()) {
                    Some(Err(_)) => return wrong(),
                    private => private.and_then(Result::ok),
                };
                if public.is_unspecified() || public.is_multicast() {
                    return lost("clients cannot send there; write the public address to advertise");
                }
                endpoints.external.push((public, private));
            }
            "prometheus" => {
                endpoints.metrics = Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9641)));
                return Some("carried over: /metrics at listen.http, with names of our own".into());
            }
            "prometheus-address" => {
                let Ok(ip) = value.parse() else { return wrong() };
                self.metrics_ip = Some(ip);
            }
            "realm" if (1..=16).contains(&value.len()) => self.realm = Some(value.into()),
            "realm" => {
                return lost("at most 16 octets, so the realm is \"hausruf\"; clients take it from the server");
            }
            "static-auth-secret" if value.chars().count() < 32 => {
                return lost("shorter than 32 characters; make a new one there and in relay.secrets");
            }
            "static-auth-secret" => self.secrets.push(value.into()),
            "user" if self.has_secret => {
                return Some(
                    "not needed: beside a secret coturn lets no user in; write it to relay.users if it should be"
                        .into(),
                );
            }
            "user" => match value.split_once(':').map(|(name, password)| (name, password.trim_start())) {
                Some((_, key)) if key.starts_with("0x") => {
                    return lost("a key of coturn's realm alone; write name = \"password\" to relay.users");
                }
                Some((name, password)) if !name.is_empty() && password.chars().count() >= 8 => {
                    self.users.insert(name.into(), password.into());
                }
                _ => return lost("relay.users needs a name, and a password of at least 8 characters"),
            },
            "cert" | "pkey" => {
                if value.is_empty() {
                    return wrong();
                }
                *if line.name == "cert" { &mut self.certificate } else { &mut self.key } = Some(value.into());
                return (!value.starts_with('/'))
                    .then(|| "carried over: but coturn looked for it in several folders; write the whole path".into());
            }
            "denied-peer-ip" | "allowed-peer-ip" => {
                let Some(range) = PeerRange::parse(value) else { return wrong() };
                if line.name == "denied-peer-ip" {
                    self.denied.push(range);
                    return None;
                }
                // coturn reaches no loopback peer, whatever this option says; here a longer prefix would.
                let own = ["0.0.0.0/8", "127.0.0.0/8", "::/127"];
                if own.into_iter().filter_map(PeerRange::parse).any(|own| range.overlaps(own)) {
                    return lost("it would open this machine; public addresses are allowed anyway");
                }
                self.allowed.push(range);
            }
            "user-quota" | "total-quota" | "max-bps" | "bps-capacity" => {
                let Some(number) = line.number() else { return wrong() };
                // Octets each way there, bits both ways together here.
                let bits = number.saturating_mul(16);
                let (key, number) = match line.name {
                    "user-quota" => ("allocations_per_user", number.min(LIMIT_MAX)),
                    "total-quota" => ("allocations", number.min(LIMIT_MAX)),
                    "max-bps" => ("kilobits_per_second", bits.div_ceil(1000).min(LIMIT_MAX)),
                    _ => ("total_mbps", bits.div_ceil(1_000_000).min(MBPS_MAX)),
                };
                if number == 0 && key != "total_mbps" {
                    return lost(&format!(
                        "0 is no limit there; here relay.limits.{key} is {} unless [relay.limits] has another",
                        usual_limit(key)
                    ));
                }
                self.limits.insert(key, number);
            }
            "stun-only" => {
                let Some(on) = line.is_on() else { return wrong() };
                self.stun_only = on;
                let off = "already so: what relay.secrets and relay.users say";
                return Some(if on { "carried over: without secrets and users nobody can relay" } else { off }.into());
            }
            "no-tcp" | "no-tls" => {
                let Some(on) = line.is_on() else { return wrong() };
                *if line.name == "no-tcp" { &mut endpoints.no_tcp } else { &mut endpoints.no_tls } = on;
            }
            name => {
                match name {
                    "no-dtls" => endpoints.no_dtls = line.is_on() == Some(true),
                    "no-tcp-relay" => self.has_tcp_relay = line.is_on() == Some(false),
                    _ => (),
                }
                return Some(disposition::of(line).unwrap_or(UNKNOWN).into());
            }
        }
        None
    }

    /// What only the whole file tells, and the TOML.
    fn finish(&mut self, notes: &mut Vec<Note>) -> String {
        let endpoints = &mut self.endpoints;
        endpoints.has_certificate = self.certificate.is_some() && self.key.is_some();
        if let Some(metrics) = &mut endpoints.metrics {
            let ip = self.metrics_ip.unwrap_or(metrics.ip());
            *metrics = SocketAddr::new(ip, self.metrics_port.unwrap_or(metrics.port()));
        }
        let plan = endpoints.plan();
        let mut remarks = plan.remarks;
        let no_tls = endpoints.no_tls;
        match (&self.certificate, &self.key) {
            (Some(_), Some(_)) if no_tls => remarks.push("cert, pkey: left out, since no-tls is on".into()),
            (Some(_), Some(_)) => remarks.push(
                "cert, pkey: the service's user has to be able to read both; clients of calls are told of TURN over \
                 TLS only at the names that you write to tls.names"
                    .into(),
            ),
            (None, None) => (),
            _ => remarks.push("cert, pkey: left out, since one is missing: there is no TLS".into()),
        }
        if !self.stun_only {
            self.remark_on_relaying(&mut remarks);
        }
        notes.extend(remarks.into_iter().map(|text| Note { line: None, text }));

        let mut text = String::from("# Made from a coturn configuration; config/example.toml explains every key.\n");
        for note in &*notes {
            text += &match note.line {
                Some(_) => format!("# line {note}\n"),
                None => format!("#{note}\n"),
            };
        }
        if !plan.advertise.is_empty() {
            text += &format!("\nadvertise = {}\n", list(plan.advertise));
        }
        text += &format!("\n[listen]\nudp = {}\ntcp = {}\n", list(plan.udp), list(plan.tcp));
        text += &format!("http = {}\n", quoted(&plan.http.to_string()));
        if let (Some(certificate), Some(key), false) = (&self.certificate, &self.key, no_tls) {
            text += &format!("\n[tls]\ncertificate = {}\nkey = {}\n", quoted(certificate), quoted(key));
        }
        text += "\n[relay]\n";
        if let Some(realm) = &self.realm {
            text += &format!("realm = {}\n", quoted(realm));
        }
        if !self.stun_only {
            text += &format!("secrets = {}\n", list(&self.secrets));
        }
        text += &format!("ports = \"{}-{}\"\n", plan.ports.start(), plan.ports.end());
        text += &format!("allowed_peers = {}\n", list(prefixes(&self.allowed, &[])));
        // An address that is both is allowed, there always and here by the longer prefix.
        text += &format!("denied_peers = {}\n", list(prefixes(&self.denied, &self.allowed)));
        let users = (!self.stun_only).then_some(&self.users).filter(|users| !users.is_empty());
        if users.is_some() {
            text += "\n[relay.users]\n";
        }
        for (name, password) in users.into_iter().flatten() {
            text += &format!("{} = {}\n", quoted(name), quoted(password));
        }
        if !self.limits.is_empty() {
            text += "\n[relay.limits]\n";
        }
        for (key, number) in &self.limits {
            text += &format!("{key} = {number}\n");
        }
        text
    }

    /// Where a file that says nothing means something else there.
    fn remark_on_relaying(&mut self, remarks: &mut Vec<String>) {
        if self.secrets.is_empty() && self.users.is_empty() {
            remarks.push(
                "relay.secrets and relay.users are empty: nobody can relay. What coturn keeps in a database is not \
                 read, and there is no anonymous access"
                    .into(),
            );
        }
        let private = PRIVATE.into_iter().filter_map(PeerRange::parse);
        let spoken_of = [&self.denied[..], &self.allowed].concat();
        if private.into_iter().any(|range| !covers(&spoken_of, range)) {
            remarks.push(format!(
                "relay.allowed_peers: coturn relays to private addresses unless they are denied, this server only to \
                 those that are allowed. If a media server (a bridge, an SFU, a PBX) has one, write it there; as \
                 coturn has it: {}",
                list(PRIVATE)
            ));
        }
        if self.has_tcp_relay {
            remarks.push(
                "no-tcp-relay: TCP allocations (RFC 6062) are on there, and off here; see relay.tcp_allocations".into(),
            );
        }
        if !self.users.is_empty() && !self.limits.contains_key("allocations_per_user") {
            // Of a user in the file there are often many clients, and coturn has no limit of its own.
            let all = self.limits.get("allocations").copied().unwrap_or(usual_limit("allocations"));
            self.limits.insert("allocations_per_user", all);
            remarks.push("relay.limits.allocations_per_user: as many as in all, since many may share a user".into());
        }
        let unsaid = USUAL_LIMITS.into_iter().filter(|key| !self.limits.contains_key(key));
        let unsaid: Vec<String> = unsaid.map(|key| format!("{key} = {}", usual_limit(key))).collect();
        remarks.push(format!(
            "relay.limits: coturn has no limits but those in its file, and here there are {} besides; write more \
             where that is too little",
            unsaid.join(", ")
        ));
    }
}

/// What holds unless it is written.
fn usual_limit(key: &str) -> u64 {
    RelayLimits::default().named().into_iter().find(|(name, _)| *name == key).map_or(0, |(_, limit)| limit as u64)
}

fn quoted(text: &str) -> String {
    // JSON's escapes are TOML's, which wants one more.
    serde_json::Value::from(text).to_string().replace('\u{7F}', "\\u007F")
}

fn list(items: impl IntoIterator<Item = impl ToString>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}
