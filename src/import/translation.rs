//! coturn's options as our keys, and what is to be said about the others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::coturn_file::{Line, lines};
use super::disposition;
use super::peer_ranges::{PeerRange, prefixes};

#[derive(Default)]
struct Found {
    port: Option<u16>,
    tls_port: Option<u16>,
    listening: Vec<IpAddr>,
    advertise: Vec<String>,
    ports: [Option<u16>; 2],
    realm: Option<String>,
    secrets: Vec<String>,
    users: BTreeMap<String, String>,
    certificate: Option<String>,
    key: Option<String>,
    denied: Vec<PeerRange>,
    allowed: Vec<PeerRange>,
    limits: BTreeMap<&'static str, u64>,
    no_tcp: bool,
    no_tls: bool,
    stun_only: bool,
}

/// The TOML, and the notes, each with its line's number first. No note quotes a value: it may be a secret.
pub fn translate(text: &str) -> (String, Vec<String>) {
    let mut found = Found::default();
    let notes: Vec<String> = lines(text)
        .filter_map(|line| {
            let note = found.take(&line)?;
            // What nobody knows is perhaps no option: the rest of a broken line, which may hold a secret.
            let name = if note == UNKNOWN { String::new() } else { format!("{}: ", line.name) };
            Some(format!("{}: {name}{note}", line.number))
        })
        .collect();
    (found.toml(&notes), notes)
}

const UNKNOWN: &str = "an unknown option; left out";

impl Found {
    fn take(&mut self, line: &Line) -> Option<String> {
        const WRONG: &str = "left out: its value is not understood";
        let wrong = || Some(WRONG.to_owned());
        let value = line.value;
        match line.name {
            "listening-port" | "tls-listening-port" | "min-port" | "max-port" => {
                let Some(port) = value.parse().ok().filter(|&port: &u16| port > 0) else { return wrong() };
                *match line.name {
                    "listening-port" => &mut self.port,
                    "tls-listening-port" => &mut self.tls_port,
                    "min-port" => &mut self.ports[0],
                    _ => &mut self.ports[1],
                } = Some(port);
                None
            }
            "listening-ip" | "relay-ip" | "external-ip" => {
                let public = value.split('/').next().unwrap_or_default().trim();
                let Ok(ip) = public.parse::<IpAddr>() else { return wrong() };
                match line.name {
                    "listening-ip" => {
                        self.listening.push(ip);
                        if self.listening.len() > 1 {
                            return Some(
                                "one of several: every address is listened on; see listen.udp and listen.tcp".into(),
                            );
                        }
                    }
                    "external-ip" if !self.advertise.contains(&ip.to_string()) => self.advertise.push(ip.to_string()),
                    "relay-ip" => return Some("not needed: clients are told of advertise".into()),
                    _ => {}
                }
                None
            }
            "realm" if (1..=16).contains(&value.len()) => {
                self.realm = Some(value.into());
                None
            }
            "realm" => {
                Some("left out: at most 16 octets, the realm is \"hausruf\"; clients take it from the server".into())
            }
            "static-auth-secret" if value.chars().count() < 32 => {
                Some("left out: shorter than 32 characters; make a new one there and in relay.secrets".into())
            }
            "static-auth-secret" => {
                self.secrets.push(value.into());
                None
            }
            "user" => match value.split_once(':') {
                Some((_, key)) if key.starts_with("0x") => {
                    Some("left out: a key cannot be carried over; write the password to relay.users".into())
                }
                Some((name, password))
                    if !name.is_empty() && !password.contains(':') && password.chars().count() >= 8 =>
                {
                    self.users.insert(name.into(), password.into());
                    None
                }
                _ => Some("left out: relay.users needs a name, and a password of at least 8 characters".into()),
            },
            "cert" => {
                self.certificate = Some(value.into());
                None
            }
            "pkey" => {
                self.key = Some(value.into());
                None
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
                    return Some("left out: it would open this machine; public addresses are allowed anyway".into());
                }
                self.allowed.push(range);
                None
            }
            "user-quota" | "total-quota" | "max-bps" | "bps-capacity" => {
                let Ok(number) = value.parse::<u64>() else { return wrong() };
                let (key, number) = match line.name {
                    "user-quota" => ("allocations_per_user", number),
                    "total-quota" => ("allocations", number),
                    // Octets each way there, bits both ways together here.
                    "max-bps" => ("kilobits_per_second", number.saturating_mul(16).div_ceil(1000)),
                    _ => ("total_mbps", number.saturating_mul(16).div_ceil(1_000_000)),
                };
                if number == 0 && key != "total_mbps" {
                    return Some("0 is no limit there; here the default stays".into());
                }
                self.limits.insert(key, number);
                None
            }
            "stun-only" => {
                let Some(on) = line.is_on() else { return wrong() };
                self.stun_only = on;
                on.then(|| "secrets and users are left out: without them nobody can relay".into())
            }
            "no-tcp" | "no-tls" => {
                let Some(on) = line.is_on() else { return wrong() };
                *if line.name == "no-tcp" { &mut self.no_tcp } else { &mut self.no_tls } = on;
                None
            }
            name => Some(disposition::of(name).unwrap_or(UNKNOWN).into()),
        }
    }

    fn toml(&self, notes: &[String]) -> String {
        let mut text = String::from("# Made from a coturn configuration; config/example.toml explains every key.\n");
        for note in notes {
            text += &format!("# line {note}\n");
        }
        if !self.advertise.is_empty() {
            text += &format!("\nadvertise = {}\n", list(&self.advertise));
        }
        text += &self.listen();
        if let (Some(certificate), Some(key), false) = (&self.certificate, &self.key, self.no_tls) {
            text += &format!("\n[tls]\ncertificate = {}\nkey = {}\n", quoted(certificate), quoted(key));
        }
        text += "\n[relay]\n";
        if let Some(realm) = &self.realm {
            text += &format!("realm = {}\n", quoted(realm));
        }
        if !self.stun_only {
            text += &format!("secrets = {}\n", list(&self.secrets));
        }
        let [first, last] = self.ports;
        text += &format!("ports = \"{}-{}\"\n", first.unwrap_or(49152), last.unwrap_or(65535));
        text += &format!("allowed_peers = {}\n", list(&prefixes(&self.allowed, &[])));
        // There an address that is both is allowed.
        text += &format!("denied_peers = {}\n", list(&prefixes(&self.denied, &self.allowed)));
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

    fn listen(&self) -> String {
        // Of several addresses only all can be had: two UDP ports are all there are.
        let ip = match self.listening[..] {
            [ip] => ip,
            _ => "::".parse().expect("an address"),
        };
        let port = self.port.unwrap_or(3478);
        let at = |port| SocketAddr::new(ip, port).to_string();
        let mut tcp = Vec::new();
        if !self.no_tcp {
            tcp.push(at(port));
        }
        let tls_port = self.tls_port.unwrap_or(5349);
        if self.certificate.is_some() && self.key.is_some() && !self.no_tls && (tcp.is_empty() || tls_port != port) {
            tcp.push(at(tls_port));
        }
        let second = port.checked_add(1).unwrap_or(3479);
        format!("\n[listen]\nudp = {}\ntcp = {}\n", list(&[at(port), at(second)]), list(&tcp))
    }
}

fn quoted(text: &str) -> String {
    // JSON's escapes are TOML's.
    serde_json::Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}
