use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Instant;

use datapath::stun::{Class, Message, Method};
use datapath::{
    Carried, Datagram, Deadline, Discard, Endpoint, Entropy, Node, Now, Order, Outbox, SocketEvent, Traffic,
};

use crate::allocation::{FiveTuple, RelaySocket};
use crate::allocations::{Allocations, Id};
use crate::connection::Connections;
use crate::deadlines::Deadlines;
use crate::nonce::{Features, Nonces};
use crate::ports;
use crate::quota::Holding;
use crate::rate::RateLimiter;
use crate::refusal::Refusal;
use crate::reply::traffic;
use crate::revocations::Revocations;
use crate::settings::{Settings, Terms};
use crate::ticket::Tickets;

/// A STUN and TURN server without sockets or clocks.
///
/// What clients ask is answered in `request.rs`, what passes between clients and peers goes through `forward.rs`.
#[derive(Debug)]
pub struct Server {
    pub(crate) settings: Settings,
    /// The IP addresses of candidates and relayed addresses: behind them are peers that are reached in memory.
    own: Vec<IpAddr>,
    /// This worker's part of the ports.
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) nonces: Nonces,
    pub(crate) tickets: Tickets,
    /// New allocations are refused, and their clients perhaps sent elsewhere.
    pub(crate) draining: bool,
    pub(crate) revocations: Revocations,
    pub(crate) rate: RateLimiter,
    /// The same for clients that come over TCP.
    pub(crate) stream_rate: RateLimiter,
    pub(crate) connect_rate: RateLimiter,
    pub(crate) allocations: Allocations,
    pub(crate) connections: Connections,
    pub(crate) deadlines: Deadlines,
    pub(crate) entropy: Entropy,
}

/// How a peer is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is an ICE candidate of ours or a relayed address of a client.
    Memory,
    /// Through the allocation's relay socket.
    Outside,
}

impl Server {
    pub fn new(mut settings: Settings, mut entropy: Entropy, now: Now) -> Server {
        let mut own: Vec<IpAddr> = settings.relayed.clone();
        own.extend(settings.candidates.iter().map(SocketAddr::ip));
        own.sort_unstable();
        own.dedup();
        settings.peer_policy.add_local(own.iter().copied());
        let of_strangers = settings.limits.rate.clone().divided(settings.share.workers);
        let rate = RateLimiter::new(of_strangers, &mut entropy, now.instant);
        Server {
            nonces: nonces(&settings),
            ports: ports::partition(
                settings.ports.clone(),
                settings.share.worker.into(),
                settings.share.workers.into(),
            ),
            tickets: Tickets::new(&settings.nonce_key, settings.share.worker),
            draining: false,
            revocations: Revocations::default(),
            stream_rate: rate.clone(),
            rate,
            connect_rate: RateLimiter::new(
                settings.limits.connect_rate().divided(settings.share.workers),
                &mut entropy,
                now.instant,
            ),
            allocations: Allocations::new(settings.share.worker),
            connections: Connections::new(settings.share.worker, now.instant),
            deadlines: Deadlines::default(),
            settings,
            own,
            entropy,
        }
    }

    /// Live allocations.
    pub fn allocations(&self) -> usize {
        self.allocations.len()
    }

    /// TCP connections to and from peers, those included that are only tried.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// From now on no allocation is made; clients are sent to [`Settings::alternate_server`] if there is one. Those that
    /// there are live on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// From now on other terms hold. No packet reaches a peer that is forbidden now. An allocation whose user or secret is
    /// gone can ask for nothing more; where expiry is strict it ends after the grace, like one whose credential expires.
    pub fn reload(&mut self, now: Now, terms: Terms) {
        let Terms { credentials, mut peer_policy, alternate_server, limits } = terms;
        let settings = &mut self.settings;
        // What was this host's once is not given up for the sake of a file.
        peer_policy.add_local(settings.peer_policy.local().iter().copied());
        (settings.credentials, settings.peer_policy) = (credentials, peer_policy);
        (settings.alternate_server, settings.limits) = (alternate_server, limits);
        self.nonces = nonces(settings);
        let of_strangers = settings.limits.rate.clone().divided(settings.share.workers);
        self.rate.change(of_strangers.clone());
        self.stream_rate.change(of_strangers);
        self.connect_rate.change(settings.limits.connect_rate().divided(settings.share.workers));
        self.part_from_forbidden();
        if let Some(grace) = self.settings.credentials.grace() {
            self.end_forsaken(now.instant + grace);
        }
    }

    /// The addresses of this host's interfaces, as they are now: they come and go while it runs, and a client reaches none of
    /// them from inside.
    pub fn note_own_addresses(&mut self, addresses: &[IpAddr]) {
        if self.settings.peer_policy.add_local(addresses.iter().copied()) {
            self.part_from_forbidden();
        }
    }

    /// Nobody keeps a way to a peer that the policy no longer admits.
    fn part_from_forbidden(&mut self) {
        let settings = &mut self.settings;
        let policy = &settings.peer_policy;
        for allocation in self.allocations.iter_mut() {
            let gone = Holding {
                allocations: 0,
                permissions: allocation.permissions.retain(|peer| self.own.contains(&peer) || policy.admits(peer)),
                channels: allocation.channels.retain(|channel| !channel.outside || policy.admits(channel.peer.ip())),
            };
            settings.share.quotas.give_back(&allocation.user, allocation.client.remote.ip(), gone);
            allocation.bandwidth.end_lease();
        }
        self.doom_forbidden();
    }

    /// Lets nothing live longer than this whose user or secret is gone.
    fn end_forsaken(&mut self, at: Instant) {
        let credentials = &self.settings.credentials;
        let forsaken = self.allocations.iter().filter(|(_, allocation)| !credentials.vouch_for(allocation.origin));
        let ends: Vec<_> = forsaken.map(|(id, allocation)| (id, allocation.expires.min(at))).collect();
        for (id, end) in ends {
            self.set_expiry(id, end);
        }
    }

    /// Ends every allocation of a user (a static user's name, or what stands behind the expiry of a REST username), and makes
    /// no more for it (403) until `until`, which may be now. Returns how many there were; `None` if [`REVOCATIONS_MAX`]
    /// users are shut out already: then nothing has changed.
    ///
    /// [`REVOCATIONS_MAX`]: crate::REVOCATIONS_MAX
    pub fn revoke(&mut self, now: Now, user: &[u8], until: Instant, out: &mut Outbox) -> Option<usize> {
        if !self.revocations.set(now.instant, user, until) {
            return None;
        }
        Some(self.end_allocations(|of| *of == *user, out))
    }

    /// The same for users whom the program itself gave credentials, and who are to have nothing of them any more. It never
    /// fails: when there are too many, those whose turn came first are let in again.
    pub fn withdraw(&mut self, now: Now, users: &[String], until: Instant, out: &mut Outbox) -> usize {
        for user in users {
            self.revocations.withdraw(now.instant, user.as_bytes(), until);
        }
        let users: HashSet<&[u8]> = users.iter().map(String::as_bytes).collect();
        self.end_allocations(|of| users.contains(of), out)
    }

    fn end_allocations(&mut self, is_meant: impl Fn(&[u8]) -> bool, out: &mut Outbox) -> usize {
        let meant: Vec<Id> =
            self.allocations.iter().filter(|(_, allocation)| is_meant(&allocation.user)).map(|(id, _)| id).collect();
        for &id in &meant {
            self.remove(id, out);
        }
        meant.len()
    }

    pub(crate) fn reach(&self, peer: SocketAddr) -> Option<Reach> {
        if self.is_in_memory(peer) {
            Some(Reach::Memory)
        } else if peer.port() != 0 && self.settings.peer_policy.admits(peer.ip()) {
            Some(Reach::Outside)
        } else {
            None
        }
    }

    /// The same for a permission, which has no port: who may name one of our own addresses learns when sending to
    /// which of its ports.
    pub(crate) fn reach_ip(&self, peer: IpAddr) -> Option<Reach> {
        if self.own.contains(&peer) {
            Some(Reach::Memory)
        } else if self.settings.peer_policy.admits(peer) {
            Some(Reach::Outside)
        } else {
            None
        }
    }

    pub(crate) fn is_in_memory(&self, peer: SocketAddr) -> bool {
        self.settings.candidates.contains(&peer)
            || self.allocations.by_relayed(peer).is_some()
            || self.is_of_another_worker(peer)
    }

    /// Whether another worker has this relayed address, or nobody: only that worker knows.
    fn is_of_another_worker(&self, peer: SocketAddr) -> bool {
        let port = peer.port();
        self.settings.ports.contains(&port) && !self.ports.contains(&port) && self.settings.relayed.contains(&peer.ip())
    }

    pub(crate) fn remove(&mut self, id: Id, out: &mut Outbox) {
        let Some(allocation) = self.allocations.remove(id) else {
            return;
        };
        let source = allocation.client.remote.ip();
        self.settings.share.quotas.give_back(&allocation.user, source, allocation.holding());
        let local = allocation.client.local;
        if matches!(local, Endpoint::Stream { .. }) && self.allocations.by_client(&allocation.client).is_none() {
            out.order(Order::KeepStream { local, keep: false });
        }
        if let Some(names) = &allocation.tcp {
            self.close_tcp(&allocation, names, out);
        } else if !matches!(allocation.socket, RelaySocket::Closed | RelaySocket::Probing { .. }) {
            let relayed = allocation.relayed;
            out.order(Order::CloseRelay { relayed });
        }
        self.prune_deadlines();
    }

    /// Sets the allocation's end.
    pub(crate) fn set_expiry(&mut self, id: Id, expires: Instant) {
        if let Some(allocation) = self.allocations.get_mut(id) {
            allocation.expires = expires;
            self.wake_by(id, expires);
        }
    }

    /// Something of the allocation ends at this time: that becomes its deadline if it comes before the one there is.
    pub(crate) fn wake_by(&mut self, id: Id, end: Instant) {
        if let Some(allocation) = self.allocations.get_mut(id)
            && end < allocation.wake_at
        {
            allocation.wake_at = end;
            self.deadlines.set(end, id);
            self.prune_deadlines();
        }
    }

    fn prune_deadlines(&mut self) {
        let allocations = &self.allocations;
        self.deadlines
            .prune(allocations.len(), |at, id| allocations.get(id).is_some_and(|allocation| allocation.wake_at == at));
    }

    /// Ends what has run out. Runs before every batch, so nothing outlives its lifetime for want of a wake-up.
    fn expire(&mut self, now: Instant, out: &mut Outbox) {
        self.expire_connections(now, out);
        while let Some((at, id)) = self.deadlines.pop_due(now) {
            let Some(allocation) = self.allocations.get_mut(id) else {
                continue;
            };
            if allocation.wake_at != at {
                continue;
            }
            if allocation.expires <= now {
                self.remove(id, out);
                continue;
            }
            let gone = allocation.prune(now);
            allocation.wake_at = allocation.next_end();
            self.settings.share.quotas.give_back(&allocation.user, allocation.client.remote.ip(), gone);
            self.deadlines.set(allocation.wake_at, id);
        }
    }

    /// Asserts that the quotas count what there is, if this is the only worker.
    pub(crate) fn check_quotas(&self) {
        let holdings = self.allocations.iter().map(|(_, allocation)| allocation.holding());
        assert_eq!(self.settings.share.quotas.total(), holdings.fold(Holding::default(), Holding::and));
    }

    fn handle_client(&mut self, now: Now, datagram: &Datagram<'_>, out: &mut Outbox) {
        match datagram.payload.first() {
            Some(0..=3) => self.handle_stun(now, datagram, out),
            Some(64..=127) => {
                out.counters.received(Traffic::ChannelData, datagram.payload.len());
                self.handle_channel_data(now, datagram, out);
            }
            _ => out.counters.discard(Discard::UnknownProtocol),
        }
    }

    fn handle_stun(&mut self, now: Now, datagram: &Datagram<'_>, out: &mut Outbox) {
        let message = match Message::parse(datagram.payload) {
            Ok(message) if !message.has_fingerprint() || message.fingerprint_is_valid() => message,
            _ => return out.counters.discard(Discard::MalformedStun),
        };
        out.counters.received(traffic(message.method()), datagram.payload.len());
        let client = FiveTuple { local: datagram.local, remote: datagram.remote };
        // RFC 8656 §21: responses, and methods that are not ours, are never answered: two servers could go on for ever.
        match (message.class(), message.method()) {
            (
                Class::Request,
                Method::BINDING | Method::ALLOCATE | Method::REFRESH | Method::CREATE_PERMISSION | Method::CHANNEL_BIND,
            ) => self.handle_request(now, client, &message, out),
            (Class::Request, Method::CONNECT | Method::CONNECTION_BIND) if self.settings.limits.tcp.is_some() => {
                self.handle_request(now, client, &message, out)
            }
            (Class::Indication, Method::SEND) => self.handle_send(now, client, &message, datagram, out),
            // RFC 8489 §11: a keep-alive.
            (Class::Indication, Method::BINDING) => (),
            _ => out.counters.discard(Discard::UnexpectedStun),
        }
    }

    /// The relay socket is bound, or cannot be: the requests that waited for it are answered.
    fn handle_socket(&mut self, now: Now, relayed: SocketAddr, opened: bool, out: &mut Outbox) {
        let Some(id) = self.allocations.by_relayed(relayed) else {
            return;
        };
        let Some(allocation) = self.allocations.get_mut(id) else {
            return;
        };
        let next = if opened { RelaySocket::Open } else { RelaySocket::Closed };
        if allocation.tcp.is_some() && matches!(allocation.socket, RelaySocket::Opening(_)) {
            self.settings.share.tcp.set_relayed(relayed, Some(opened));
        }
        let held = match std::mem::replace(&mut allocation.socket, next) {
            RelaySocket::Opening(held) => held,
            former => {
                allocation.socket = former;
                return;
            }
        };
        for held in held {
            let outcome = match opened {
                true => self.fulfil_and_answer(now, id, &held.reply, held.wish, out),
                false => Err(Refusal::InsufficientCapacity),
            };
            if let Err(refusal) = outcome {
                held.reply.refuse(refusal, out);
            }
        }
    }
}

fn nonces(settings: &Settings) -> Nonces {
    let features = Features { username_anonymity: settings.credentials.username_anonymity() };
    Nonces::new(&settings.nonce_key, settings.limits.nonce_lifetime, features)
}

impl Node for Server {
    fn handle_batch(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        self.expire(now.instant, out);
        for datagram in batch {
            match datagram.local {
                Endpoint::Listener { .. } | Endpoint::Stream { .. } => self.handle_client(now, datagram, out),
                Endpoint::Relay { address } | Endpoint::Memory { address } => {
                    self.handle_peer(now, address, datagram, out);
                }
            }
        }
    }

    fn handle_event(&mut self, now: Now, event: SocketEvent, out: &mut Outbox) {
        self.expire(now.instant, out);
        match event {
            SocketEvent::Opened { relayed } => self.handle_socket(now, relayed, true, out),
            SocketEvent::Failed { relayed } => self.handle_socket(now, relayed, false, out),
            SocketEvent::Free { relayed } => self.handle_probe(now, relayed, true, out),
            SocketEvent::Taken { relayed } => self.handle_probe(now, relayed, false, out),
            SocketEvent::IcmpError { relayed, remote, kind, code, mtu } => {
                self.handle_icmp(now, relayed, remote, (kind, code, mtu), out)
            }
            SocketEvent::Peer { relayed, peer, change } => self.handle_peer_change(now, relayed, peer, change, out),
            SocketEvent::StreamClosed { local, remote } => {
                let client = FiveTuple { local, remote };
                while let Some(id) = self.allocations.by_client(&client) {
                    // RFC 8016: whoever has a ticket may come back from elsewhere.
                    if self.allocations.get(id).is_some_and(|allocation| allocation.ticket.is_some()) {
                        break;
                    }
                    self.remove(id, out);
                }
            }
            SocketEvent::Closed { relayed } => {
                let id = self.allocations.by_relayed(relayed);
                if let Some(allocation) = id.and_then(|id| self.allocations.get_mut(id))
                    && matches!(allocation.socket, RelaySocket::Open)
                {
                    // The next packet to an outside peer opens another.
                    allocation.socket = RelaySocket::Closed;
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.expire(now.instant, out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let allocation = self.deadlines.next().map(|at| Deadline { at, reason: "something of an allocation ends" });
        let connection = self.connections.next().map(|at| Deadline { at, reason: "a connection waits no longer" });
        Deadline::earlier(allocation, connection)
    }

    fn allowance(&mut self, now: Now, relayed: SocketAddr, has_waited: bool) -> usize {
        let id = self.allocations.by_relayed(relayed);
        let allocation = id.and_then(|id| self.allocations.get_mut(id));
        allocation.map_or(0, |allocation| allocation.bandwidth.allowance(has_waited, &self.settings, now.instant))
    }

    fn handle_carried(&mut self, now: Now, relayed: SocketAddr, carried: Carried) {
        let id = self.allocations.by_relayed(relayed);
        if let Some(allocation) = id.and_then(|id| self.allocations.get_mut(id)) {
            allocation.data.to_peers.bytes += carried.to_peer;
            allocation.data.to_client.bytes += carried.to_client;
            allocation.bandwidth.spend(carried.to_peer + carried.to_client, &self.settings, now.instant);
        }
    }
}

#[cfg(test)]
mod tests {
    /// The tables of permissions and channels grow with use; the limits bound them.
    #[test]
    fn an_idle_allocation_is_small() {
        assert!(size_of::<crate::allocation::Allocation>() <= 512);
    }
}
