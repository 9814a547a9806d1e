use std::net::IpAddr;
use std::time::{Duration, Instant};

/// RFC 8656 §9: a permission lasts five minutes.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// The IP addresses whose datagrams a client wants, and to which it may send.
#[derive(Debug, Default)]
pub struct Permissions(Vec<(IpAddr, Instant)>);

impl Permissions {
    pub fn is_live(&self, peer: IpAddr, now: Instant) -> bool {
        self.0.iter().any(|&(ip, expires)| ip == peer && now < expires)
    }

    /// Installs or refreshes a permission and returns its end, or `None` if there are `max` others.
    pub fn permit(&mut self, peer: IpAddr, now: Instant, max: usize) -> Option<Instant> {
        let expires = now + LIFETIME;
        if let Some(permission) = self.0.iter_mut().find(|(ip, _)| *ip == peer) {
            permission.1 = expires;
            return Some(expires);
        }
        if !self.has_room(&[peer], now, max) {
            return None;
        }
        self.0.retain(|&(_, expires)| now < expires);
        self.0.push((peer, expires));
        Some(expires)
    }

    /// Takes back the permissions of all other peers.
    pub fn retain(&mut self, keep: impl Fn(IpAddr) -> bool) {
        self.0.retain(|&(ip, _)| keep(ip));
    }

    /// Whether all of `peers` would find a place.
    pub fn has_room(&self, peers: &[IpAddr], now: Instant, max: usize) -> bool {
        if peers.len() > max {
            return false;
        }
        let live = self.0.iter().filter(|&&(ip, expires)| now < expires && !peers.contains(&ip)).count();
        let distinct = peers.iter().enumerate().filter(|(index, ip)| !peers[..*index].contains(ip)).count();
        live + distinct <= max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a monotonic time to start from")]
    fn what_has_ended_takes_no_room() {
        let mut permissions = Permissions::default();
        let mut now = Instant::now();
        for host in 0..200 {
            assert!(permissions.permit([9, 9, 9, host].into(), now, 2).is_some());
            now += LIFETIME / 2;
        }
        assert!(permissions.0.len() <= 2);
    }
}
