use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::refusal::Refusal;

/// RFC 8656 §12: a channel lasts ten minutes, its permission five.
pub const LIFETIME: Duration = Duration::from_secs(600);

/// A number that stands for a peer.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    pub number: u16,
    pub peer: SocketAddr,
    /// Whether the peer is reached through the kernel, not in memory.
    pub outside: bool,
    expires: Instant,
    permitted_until: Instant,
}

impl Channel {
    pub fn is_bound(&self, now: Instant) -> bool {
        now < self.expires
    }

    /// Whether data may pass: the channel and the permission live.
    pub fn is_open(&self, now: Instant) -> bool {
        now < self.expires.min(self.permitted_until)
    }
}

/// The channels of one allocation: few, so a look-up walks them.
#[derive(Debug, Default)]
pub struct Channels(Vec<Channel>);

impl Channels {
    /// How many are bound.
    pub fn bound(&self, now: Instant) -> usize {
        self.0.iter().filter(|channel| channel.is_bound(now)).count()
    }

    pub fn by_number(&self, number: u16) -> Option<&Channel> {
        self.0.iter().find(|channel| channel.number == number)
    }

    pub fn by_peer(&self, peer: SocketAddr) -> Option<&Channel> {
        self.0.iter().find(|channel| channel.peer == peer)
    }

    /// RFC 8656 §12.2: a number stands for one peer and a peer has one number, as long as the channel is bound. Returns how
    /// many channels there would be more.
    pub fn missing(&self, number: u16, peer: SocketAddr, max: usize) -> Result<usize, Refusal> {
        if self.0.iter().any(|channel| (channel.number == number) != (channel.peer == peer)) {
            return Err(Refusal::BadRequest);
        }
        let missing = usize::from(self.by_number(number).is_none());
        if self.0.len() + missing > max {
            return Err(Refusal::InsufficientCapacity);
        }
        Ok(missing)
    }

    /// Binds or refreshes, after [`Channels::missing`].
    pub fn bind(&mut self, number: u16, peer: SocketAddr, outside: bool, now: Instant, permitted_until: Instant) {
        self.0.retain(|channel| channel.number != number);
        self.0.push(Channel { number, peer, outside, expires: now + LIFETIME, permitted_until });
    }

    /// Unbinds all others. Returns how many.
    pub fn retain(&mut self, keep: impl Fn(&Channel) -> bool) -> usize {
        let before = self.0.len();
        self.0.retain(keep);
        before - self.0.len()
    }

    /// Those that have not been pruned: what the quotas count.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Ends what has run out. Returns how many.
    pub fn prune(&mut self, now: Instant) -> usize {
        self.retain(|channel| channel.is_bound(now))
    }

    pub fn next_end(&self) -> Option<Instant> {
        self.0.iter().map(|channel| channel.expires).min()
    }

    /// A permission was refreshed: every channel to that address may pass data longer.
    pub fn permit(&mut self, peer: IpAddr, until: Instant) {
        for channel in self.0.iter_mut().filter(|channel| channel.peer.ip() == peer) {
            channel.permitted_until = until;
        }
    }
}
