//! The part of the examination that concerns media: UDP, TCP and the relay.

use std::net::{IpAddr, SocketAddr};

use super::connection::resolve;
use super::examination::{Found, Patient, TOKEN_LIFE_S, origin, unix_s, unknown};
use super::report::{Check, Report, Verdict};
use super::stun::{self, Probe};
use super::turn::{self, Credentials};
use super::udp::Udp;
use super::{reach, tcp, turn_server};

/// The usual port, where no configuration says another.
const UDP_PORTS: [u16; 2] = [3478, 3479];

/// Whether a listener is for addresses of this family.
fn serves(listener: &SocketAddr, ip: &IpAddr) -> bool {
    let serves_both = listener.ip().is_unspecified() && listener.is_ipv6();
    serves_both || listener.is_ipv4() == ip.is_ipv4()
}

impl Patient {
    pub(super) async fn look_at_relay(&self, report: &mut Report, found: &mut Found) {
        let udp = self.knock_over_udp(found).await;
        let Some(udp) = udp else {
            report.add(Check::Udp, unknown("No address of the server is known, so UDP is not checked."));
            return;
        };
        for (address, probe) in &udp.probes {
            if let Probe::Answered(seen_as) = probe {
                found.udp.push(*address);
                found.seen_as = found.seen_as.or(Some(*seen_as));
            }
        }
        report.add(Check::Udp, udp.judge());
        if let Some(config) = &self.config {
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for listener in &config.listen.tcp {
                let ips = udp.probes.iter().map(|(address, _)| address.ip());
                let served = ips.filter(|ip| serves(listener, ip));
                addresses.extend(served.map(|ip| SocketAddr::new(ip, listener.port())));
            }
            addresses.sort_unstable();
            addresses.dedup();
            if let Some(verdict) = tcp::judge(&tcp::knock(&addresses).await) {
                report.add(Check::Tcp, verdict);
            }
        }
        if !found.udp.is_empty() {
            self.try_own_credentials(report, found).await;
        } else if self.config.is_some() {
            // No TURN server answers where no UDP does.
            return;
        }
        if let (Some(base), Some(account)) = (&found.base, found.anybody()) {
            let verdict = match turn_server::ask(&self.dialer, base, &account.token).await {
                Ok(server) => turn_server::try_out(server.as_ref()).await.judge(),
                Err(error) => {
                    let origin = origin(base).expect("it was reached before");
                    reach::judge_request(&origin, &error, "Synapse")
                }
            };
            report.add(Check::TurnServer, verdict);
        }
    }

    /// `None` where nothing says where to knock.
    async fn knock_over_udp(&self, found: &Found) -> Option<Udp> {
        let service = found.service.as_deref().or(self.own_url()).and_then(origin);
        let named: Vec<SocketAddr> = match &service {
            Some(service) => resolve(service).await,
            None => Vec::new(),
        };
        let ports: Vec<u16> = match &self.config {
            Some(config) => config.listen.udp.iter().map(SocketAddr::port).collect(),
            None => UDP_PORTS.to_vec(),
        };
        let advertised = self.config.as_ref().map(|config| config.advertise.clone()).unwrap_or_default();
        let is_advertised = !advertised.is_empty();
        let ips = if is_advertised { advertised } else { named.iter().map(SocketAddr::ip).collect() };
        if ips.is_empty() {
            return None;
        }
        let mut udp = Udp { is_advertised, is_guess: self.config.is_none(), ..Udp::default() };
        let mut knocks = tokio::task::JoinSet::new();
        let listens = |ip: &IpAddr, port: u16| {
            // Without a configuration nobody says that there is a second port, so its silence is no fault.
            self.config.as_ref().is_none_or(|config| {
                config.listen.udp.iter().any(|listener| listener.port() == port && serves(listener, ip))
            })
        };
        let ports_tried = if self.config.is_some() { ports.len() } else { 1 };
        for &ip in &ips {
            for &port in ports.iter().take(ports_tried).filter(|port| listens(&ip, **port)) {
                let address = SocketAddr::new(ip, port);
                knocks.spawn(async move { (false, address, stun::probe(address).await) });
            }
        }
        for other in named.iter().filter(|address| !ips.contains(&address.ip())) {
            let address = SocketAddr::new(other.ip(), ports[0]);
            knocks.spawn(async move { (true, address, stun::probe(address).await) });
        }
        while let Some(Ok((is_other, address, probe))) = knocks.join_next().await {
            let probes = if is_other { &mut udp.others } else { &mut udp.probes };
            probes.push((address, probe));
        }
        udp.probes.sort_unstable_by_key(|(address, _)| *address);
        udp.others.sort_unstable_by_key(|(address, _)| *address);
        Some(udp)
    }

    async fn try_own_credentials(&self, report: &mut Report, found: &Found) {
        let Some(config) = &self.config else {
            return;
        };
        let Some(secret) = config.relay.secrets.first() else {
            let told = "hausruf.toml has no relay.secrets, so calls of the older kind (one to one) get no relay: write one \
                        there, and the same as turn_shared_secret in Synapse's configuration.";
            return report.add(Check::Turn, Verdict::Lost(told.into()));
        };
        let server = found.udp[0];
        let credentials = rest_credentials(secret.reveal());
        let echo = turn::echo(server, &credentials).await;
        let works = echo.is_ok();
        report.add(Check::Turn, turn_server::judge_own(server, &echo));
        // A datagram from the server's own machine comes from nowhere outside.
        if let Some(seen_as) = found.seen_as.filter(|seen_as| works && seen_as.ip() != server.ip()) {
            let ports = format!("{}-{}", config.relay.ports.start(), config.relay.ports.end());
            let heard = turn::hears_from_outside(server, seen_as, &credentials).await;
            if let Some(verdict) = turn_server::judge_range(heard, &ports) {
                report.add(Check::Turn, verdict);
            }
        }
    }
}

/// Credentials of the REST scheme, good for five minutes.
fn rest_credentials(secret: &str) -> Credentials {
    let username = format!("{}:doctor", unix_s() + TOKEN_LIFE_S);
    let password = relay::rest_password(secret.as_bytes(), &username);
    Credentials { username, password }
}
