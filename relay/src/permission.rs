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

    /// How many live.
    pub fn live(&self, now: Instant) -> usize {
        self.0.iter().filter(|&&(_, expires)| now < expires).count()
    }

    /// Installs or refreshes a permission, after [`Permissions::missing`], and returns its end.
    pub fn permit(&mut self, peer: IpAddr, now: Instant) -> Instant {
        let expires = now + LIFETIME;
        match self.0.iter_mut().find(|(ip, _)| *ip == peer) {
            Some(permission) => permission.1 = expires,
            None => self.0.push((peer, expires)),
        }
        expires
    }

    /// Takes back the permissions of all other peers. Returns how many.
    pub fn retain(&mut self, keep: impl Fn(IpAddr) -> bool) -> usize {
        let before = self.0.len();
        self.0.retain(|&(ip, _)| keep(ip));
        before - self.0.len()
    }

    /// How many of `peers` have none yet, if all of them find a place among `max`.
    pub fn missing(&self, peers: &[IpAddr], max: usize) -> Option<usize> {
        if peers.len() > max {
            return None;
        }
        let has_one = |peer: &IpAddr| self.0.iter().any(|(ip, _)| ip == peer);
        let is_first = |index: usize| !peers[..index].contains(&peers[index]);
        let missing = peers.iter().enumerate().filter(|(index, peer)| is_first(*index) && !has_one(peer)).count();
        (self.0.len() + missing <= max).then_some(missing)
    }

    /// Those that have not been pruned: what the quotas count.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Ends what has run out. Returns how many.
    pub fn prune(&mut self, now: Instant) -> usize {
        let before = self.0.len();
        self.0.retain(|&(_, expires)| now < expires);
        before - self.0.len()
    }

    pub fn next_end(&self) -> Option<Instant> {
        self.0.iter().map(|&(_, expires)| expires).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    #[test]
    fn what_has_ended_takes_no_room() {
        let mut permissions = Permissions::default();
        let mut now = start();
        let peer = |host: u8| IpAddr::from([9, 9, 9, host]);
        for host in 0..200 {
            permissions.prune(now);
            assert_eq!(permissions.missing(&[peer(host), peer(host)], 2), Some(1));
            let end = permissions.permit(peer(host), now);
            assert_eq!(permissions.missing(&[peer(host)], 2), Some(0));
            assert!(permissions.next_end().is_some_and(|next| next <= end));
            now += LIFETIME / 2;
        }
        assert_eq!(permissions.len(), 2);
        assert_eq!(permissions.missing(&[peer(200)], 2), None);
        assert_eq!(permissions.prune(now + LIFETIME), 2);
    }
}
