//! TCP to the addresses where media goes, for clients whose network lets no UDP out.

use std::net::SocketAddr;

use super::connection::{Dial, dial};
use super::report::Verdict;

pub async fn knock(addresses: &[SocketAddr]) -> Vec<(SocketAddr, Dial)> {
    let mut dials = Vec::new();
    for &address in addresses {
        dials.push((address, dial(address).await.map_or_else(|failure| failure, |_| Dial::Connected)));
    }
    dials
}

/// `None` where this machine has no way to any of them.
pub fn judge(dials: &[(SocketAddr, Dial)]) -> Option<Verdict> {
    let dead = dials.iter().find(|(_, dial)| !matches!(dial, Dial::Connected | Dial::NoRoute));
    if let Some((address, dial)) = dead {
        let what = if *dial == Dial::Refused { "refuses connections" } else { "does not answer" };
        return Some(Verdict::Lost(format!(
            "{} {what} on TCP port {}, so whose network lets no UDP out has no sound: open that port for TCP in the \
             firewall (or forward it).",
            address.ip(),
            address.port()
        )));
    }
    let connected: Vec<String> =
        dials.iter().filter(|(_, dial)| *dial == Dial::Connected).map(|(address, _)| address.to_string()).collect();
    (!connected.is_empty()).then(|| Verdict::Fine(format!("{} take TCP, for media too.", connected.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tcp_strict_networks_are_lost() {
        let at: SocketAddr = "192.0.2.1:3478".parse().unwrap();
        let told = |dial| judge(&[(at, dial)]);
        assert!(
            matches!(told(Dial::Silent), Some(Verdict::Lost(told)) if told.contains("does not answer on TCP port 3478"))
        );
        assert!(matches!(told(Dial::Refused), Some(Verdict::Lost(told)) if told.contains("refuses connections")));
        assert!(matches!(told(Dial::Connected), Some(Verdict::Fine(_))));
        assert_eq!(told(Dial::NoRoute), None);
    }
}
