//! UDP to the addresses where media goes.

use std::net::SocketAddr;

use super::report::Verdict;
use super::stun::Probe;

/// What UDP to each of our addresses brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Udp {
    /// `advertise`, or where it says nothing, the addresses of the public name; with each UDP port.
    pub probes: Vec<(SocketAddr, Probe)>,
    /// Addresses of the public name that are not among those, with the first port.
    pub others: Vec<(SocketAddr, Probe)>,
    /// Whether `advertise` says something.
    pub is_advertised: bool,
    /// No configuration says the ports.
    pub is_guess: bool,
}

impl Udp {
    pub fn judge(&self) -> Verdict {
        let answers = |(_, probe): &&(SocketAddr, Probe)| matches!(probe, Probe::Answered(_));
        let dead = self.probes.iter().find(|(_, probe)| matches!(probe, Probe::Silent | Probe::Refused));
        let Some((address, probe)) = dead else {
            let answering: Vec<String> = self.probes.iter().filter(answers).map(|(at, _)| at.to_string()).collect();
            if answering.is_empty() {
                return Verdict::Unknown(
                    "This machine has no way to the server's addresses, so UDP is not checked.".into(),
                );
            }
            return Verdict::Fine(format!("{} answer over UDP.", answering.join(", ")));
        };
        if self.is_guess {
            return Verdict::Unknown(format!(
                "{address}, the usual UDP port, does not answer; which one it is only --config FILE tells."
            ));
        }
        if let Some((other, _)) = self.others.iter().find(answers)
            && self.is_advertised
            && !self.probes.iter().any(|(at, probe)| at.ip() == address.ip() && matches!(probe, Probe::Answered(_)))
        {
            return Verdict::Wrong(format!(
                "{} is advertised but does not answer over UDP, while {} does: write advertise = [\"{}\"] into \
                 hausruf.toml, and restart it.",
                address.ip(),
                other.ip(),
                other.ip()
            ));
        }
        let whose = if self.is_advertised { ", or correct advertise in hausruf.toml" } else { "" };
        Verdict::Wrong(match probe {
            Probe::Refused => format!(
                "Nothing listens on UDP port {} of {}: start hausruf there, or correct listen.udp in hausruf.toml{whose}.",
                address.port(),
                address.ip()
            ),
            _ => format!(
                "{} does not answer on UDP port {}, so calls have no sound: open that port for UDP in the firewall (or \
                 forward it){whose}.",
                address.ip(),
                address.port()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::wrong;

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_silent_address_is_the_firewall_or_the_wrong_one() {
        let answered = Probe::Answered(at("198.51.100.1:5"));
        let udp = |probe, others, is_advertised| Udp {
            probes: vec![(at("192.0.2.1:3478"), probe)],
            others,
            is_advertised,
            is_guess: false,
        };
        assert!(matches!(udp(answered, vec![], true).judge(), Verdict::Fine(_)));
        let silent = wrong(udp(Probe::Silent, vec![], false).judge());
        assert!(silent.contains("192.0.2.1 does not answer on UDP port 3478") && !silent.contains("advertise"));
        assert!(wrong(udp(Probe::Refused, vec![], true).judge()).contains("Nothing listens on UDP port 3478"));
        let other = vec![(at("203.0.113.5:3478"), answered)];
        assert!(wrong(udp(Probe::Silent, other, true).judge()).contains("write advertise = [\"203.0.113.5\"]"));
        let guess = Udp { is_guess: true, ..udp(Probe::Silent, vec![], false) };
        assert!(matches!(guess.judge(), Verdict::Unknown(told) if told.contains("--config FILE")));
        assert!(matches!(udp(Probe::NoRoute, vec![], true).judge(), Verdict::Unknown(_)));
    }

    #[test]
    fn one_dead_port_of_two_is_the_firewall_even_beside_another_address() {
        let answered = Probe::Answered(at("198.51.100.1:5"));
        let udp = Udp {
            probes: vec![(at("192.0.2.1:3478"), answered), (at("192.0.2.1:3479"), Probe::Silent)],
            others: vec![(at("203.0.113.5:3478"), answered)],
            is_advertised: true,
            is_guess: false,
        };
        assert!(wrong(udp.judge()).contains("does not answer on UDP port 3479"));
    }
}
