//! DNS, TCP and TLS of one host.

use std::net::IpAddr;

use super::connection::{ConnectError, Dial, Origin, Reach, TlsFault};
use super::http::HttpError;
use super::report::Verdict;

/// What is wrong between here and `reach.origin`. `server` is what should answer there, in words.
pub fn judge(reach: &Reach, server: &str) -> Verdict {
    let origin = &reach.origin;
    let at = |wanted: fn(&Dial) -> bool| -> Vec<IpAddr> {
        reach.dials.iter().filter(|(_, dial)| wanted(dial)).map(|(ip, _)| *ip).collect()
    };
    if reach.dials.is_empty() {
        return Verdict::Wrong(no_address(origin));
    }
    let connected = at(|dial| *dial == Dial::Connected);
    let failed = reach.dials.iter().find(|(_, dial)| !matches!(dial, Dial::Connected | Dial::NoRoute));
    match (&failed, connected.is_empty()) {
        (Some((ip, dial)), true) => return Verdict::Wrong(undialled(origin, *ip, dial, server)),
        (None, true) => {
            return Verdict::Wrong(format!(
                "This machine has no way to {}, the address of {}: run doctor where the internet is reachable, or give \
                 the name an address of the other family.",
                list(&at(|_| true)),
                origin.host
            ));
        }
        // Half of the clients meet it: the name promises an address that does not serve.
        (Some((ip, dial)), false) => return Verdict::Wrong(half_dialled(origin, *ip, dial)),
        (None, false) => {}
    }
    match &reach.tls {
        Some(Err(fault)) => Verdict::Wrong(untrusted(origin, fault)),
        Some(Ok(true)) => Verdict::Lost(format!(
            "The certificate of {} ends within ten days: renew it, and see why that did not happen by itself.",
            origin.host
        )),
        Some(Ok(false)) => Verdict::Fine(format!("{origin} ({}) answers with a valid certificate.", list(&connected))),
        None => Verdict::Lost(format!(
            "{origin} ({}) answers without TLS: browsers give camera and microphone to pages of https:// only.",
            list(&connected)
        )),
    }
}

/// The same for a request that failed although the host was reached before.
pub fn judge_request(origin: &Origin, error: &HttpError, server: &str) -> Verdict {
    Verdict::Wrong(match error {
        HttpError::Connect(ConnectError::NoAddress) => no_address(origin),
        HttpError::Connect(ConnectError::Tls(fault)) => untrusted(origin, fault),
        HttpError::Connect(ConnectError::Dial(Dial::Refused)) => {
            format!("{origin} refuses connections on TCP port {}: start {server}.", origin.port)
        }
        HttpError::Connect(ConnectError::Dial(_)) | HttpError::Silent => {
            format!("{origin} does not answer on TCP port {}: see whether {server} hangs.", origin.port)
        }
        HttpError::NoHttp => format!(
            "What answers at {origin} on TCP port {} does not speak HTTP: let {server} listen there.",
            origin.port
        ),
    })
}

fn no_address(origin: &Origin) -> String {
    format!("{} has no address: add an A or AAAA record for it to the DNS.", origin.host)
}

fn undialled(origin: &Origin, ip: IpAddr, dial: &Dial, server: &str) -> String {
    let port = origin.port;
    match dial {
        Dial::Refused => format!(
            "{} ({ip}) refuses connections on TCP port {port}: start {server} there, or correct the DNS record.",
            origin.host
        ),
        Dial::Failed(reason) => format!(
            "Connecting to {} ({ip}) on TCP port {port} fails ({reason}): see what stands between.",
            origin.host
        ),
        _ => format!(
            "{} ({ip}) does not answer on TCP port {port}: open it in the firewall (or forward it), or correct the DNS \
             record.",
            origin.host
        ),
    }
}

fn half_dialled(origin: &Origin, ip: IpAddr, dial: &Dial) -> String {
    let record = if ip.is_ipv4() { "A" } else { "AAAA" };
    let what = if *dial == Dial::Refused { "refuses connections" } else { "does not answer" };
    format!(
        "{ip}, one of the addresses of {}, {what} on TCP port {}: serve there too, or remove its {record} record.",
        origin.host, origin.port
    )
}

fn untrusted(origin: &Origin, fault: &TlsFault) -> String {
    let host = &origin.host;
    match fault {
        TlsFault::WrongName => {
            format!("The certificate that {origin} shows is not for {host}: get one that names {host}.")
        }
        TlsFault::Expired => format!("The certificate of {origin} has expired: renew it."),
        TlsFault::NotYetValid => {
            format!("The certificate of {origin} is not valid yet: set this machine's clock, or wait until it is.")
        }
        TlsFault::UnknownIssuer => format!(
            "The certificate of {origin} is signed by nobody whom this system trusts: get one from a public authority \
             such as Let's Encrypt, with the intermediate certificates in the file."
        ),
        TlsFault::NoTls => format!(
            "What answers at {host} on TCP port {} does not speak TLS: let the proxy serve https there.",
            origin.port
        ),
        TlsFault::Silent => {
            format!("{host} takes connections on TCP port {} but does not answer in TLS: see why.", origin.port)
        }
        TlsFault::Other(reason) => format!("TLS with {origin} fails ({reason}): correct the proxy's TLS settings."),
    }
}

fn list(ips: &[IpAddr]) -> String {
    let texts: Vec<String> = ips.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(dials: &[(&str, Dial)], tls: Option<Result<bool, TlsFault>>) -> Reach {
        let dials = dials.iter().map(|(ip, dial)| (ip.parse().unwrap(), dial.clone())).collect();
        Reach { origin: Origin { is_tls: true, host: "example.org".into(), port: 443 }, dials, tls }
    }

    fn sentence(reach: &Reach) -> String {
        match judge(reach, "the proxy") {
            Verdict::Wrong(sentence) => sentence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_without_addresses_or_with_dead_ones_is_wrong() {
        assert!(sentence(&reach(&[], None)).starts_with("example.org has no address"));
        assert!(
            sentence(&reach(&[("192.0.2.1", Dial::Refused)], None)).contains("refuses connections on TCP port 443")
        );
        assert!(sentence(&reach(&[("192.0.2.1", Dial::Silent)], None)).contains("open it in the firewall"));
        assert!(sentence(&reach(&[("2001:db8::1", Dial::NoRoute)], None)).contains("no way to 2001:db8::1"));
    }

    #[test]
    fn one_dead_address_of_two_is_wrong_unless_this_machine_has_no_way_to_it() {
        let two = |dial| reach(&[("192.0.2.1", Dial::Connected), ("2001:db8::1", dial)], Some(Ok(false)));
        assert!(sentence(&two(Dial::Silent)).contains("remove its AAAA record"));
        assert!(matches!(judge(&two(Dial::NoRoute), "the proxy"), Verdict::Fine(_)));
    }

    #[test]
    fn certificates_are_told_apart() {
        let tls = |fault| sentence(&reach(&[("192.0.2.1", Dial::Connected)], Some(Err(fault))));
        assert!(tls(TlsFault::WrongName).contains("not for example.org"));
        assert!(tls(TlsFault::Expired).contains("has expired: renew it"));
        assert!(tls(TlsFault::UnknownIssuer).contains("signed by nobody whom this system trusts"));
        assert!(tls(TlsFault::NoTls).contains("does not speak TLS"));
        let soon = judge(&reach(&[("192.0.2.1", Dial::Connected)], Some(Ok(true))), "the proxy");
        assert!(matches!(soon, Verdict::Lost(sentence) if sentence.contains("ten days")));
    }
}
