//! TCP allocations (RFC 6062): connections to and from peers, and how clients bind them.

use std::net::SocketAddr;
use std::time::Instant;

use datapath::stun::{Class, Message, Method, Writer};
use datapath::{Discard, Endpoint, Now, Order, Outbox, PeerChange};

use crate::allocation::{Allocation, FiveTuple, RelaySocket};
use crate::allocations::Id;
use crate::connection::{Connection, PATIENCE, State};
use crate::credential::Authenticated;
use crate::refusal::Refusal;
use crate::reply::{Reply, count_sent};
use crate::server::Server;

/// Octets of a ConnectionAttempt indication: header, an IPv6 XOR-PEER-ADDRESS, CONNECTION-ID.
const ATTEMPT_LEN_MAX: usize = 20 + 24 + 8;

impl Server {
    /// Whether a client may connect to this peer: one that the policy admits, or an address at which another client of ours
    /// listens. Of our own addresses nothing else is reached.
    fn may_connect(&self, relayed: SocketAddr, peer: SocketAddr) -> bool {
        let admitted = peer.port() != 0 && self.settings.peer_policy.admits(peer.ip());
        peer != relayed && (admitted || self.settings.share.tcp.is_listening(peer))
    }

    /// Whether there may be a connection to or from this address: of our own ones only other clients'.
    fn may_be_connected(&self, peer: SocketAddr) -> bool {
        self.settings.peer_policy.admits(peer.ip()) || self.settings.share.tcp.is_relayed(peer)
    }

    /// RFC 6062 §5.2.
    pub(crate) fn handle_connect(
        &mut self,
        now: Now,
        id: Id,
        reply: &Reply,
        message: &Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let peer = message.xor_peer_address().ok_or(Refusal::BadRequest)?;
        let allocation = self.allocations.get(id).ok_or(Refusal::AllocationMismatch)?;
        if allocation.tcp.is_none() || matches!(allocation.socket, RelaySocket::Probing { .. }) {
            return Err(Refusal::AllocationMismatch);
        }
        if !allocation.is_of_family(peer.ip()) {
            return Err(Refusal::PeerAddressFamilyMismatch);
        }
        let relayed = allocation.relayed;
        if !self.may_connect(relayed, peer) {
            out.counters.discard(Discard::ForbiddenPeer);
            return Err(Refusal::Forbidden);
        }
        if self.connections.find(relayed, peer).is_some() {
            return Err(Refusal::ConnectionAlreadyExists);
        }
        // A ConnectionBind needs no rate of its own: it names a connection that was counted here, or that a permitted peer
        // made, or it is a guess.
        if !self.connect_rate.admits(reply.client.remote.ip(), now.instant) {
            out.counters.discard(Discard::RateLimited);
            return Err(Refusal::AllocationQuotaReached);
        }
        let state = State::Connecting { reply: Box::new(reply.clone()), until: now.instant + PATIENCE };
        if self.add_connection(id, peer, state).is_none() {
            return Err(Refusal::AllocationQuotaReached);
        }
        out.order(Order::ConnectPeer { relayed, peer });
        Ok(())
    }

    /// A new connection and its name, or `None` if there may be no more.
    fn add_connection(&mut self, id: Id, peer: SocketAddr, state: State) -> Option<u32> {
        let limits = self.settings.limits.tcp.as_ref()?;
        let allocation = self.allocations.get_mut(id)?;
        let names = allocation.tcp.as_mut().filter(|names| names.len() < limits.connections_per_allocation)?;
        if !self.settings.share.tcp.take(&allocation.user, limits) {
            return None;
        }
        let connection = Connection { allocation: id, relayed: allocation.relayed, peer, state };
        let name = self.connections.insert(connection, &mut self.entropy);
        names.push(name);
        Some(name)
    }

    /// Forgets a connection and gives its share back.
    fn remove_connection(&mut self, name: u32) -> Option<Connection> {
        let connection = self.connections.remove(name)?;
        if let Some(allocation) = self.allocations.get_mut(connection.allocation) {
            self.settings.share.tcp.give_back(&allocation.user);
            if let Some(names) = &mut allocation.tcp {
                names.retain(|other| *other != name);
            }
        }
        Some(connection)
    }

    /// The allocation whose connection a ConnectionBind names.
    pub(crate) fn connection_to_bind(&self, message: &Message<'_>) -> Option<&Allocation> {
        let name = message.connection_id().filter(|_| message.method() == Method::CONNECTION_BIND)?;
        self.allocations.get(self.connections.get(name)?.allocation)
    }

    /// RFC 6062 §5.4. `id`: an allocation that was made over this very connection.
    pub(crate) fn handle_connection_bind(
        &mut self,
        now: Now,
        id: Option<Id>,
        reply: &Reply,
        who: &Authenticated<'_>,
        message: &Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let FiveTuple { local, .. } = reply.client;
        let name = message.connection_id().ok_or(Refusal::BadRequest)?;
        if id.is_some() || !matches!(local, Endpoint::Stream { .. }) {
            return Err(Refusal::BadRequest);
        }
        // Another user's is as unknown as one that nobody has: who guesses learns nothing, and does not guess often.
        let found = self.connections.get(name).filter(|connection| {
            let allocation = self.allocations.get(connection.allocation);
            matches!(connection.state, State::Waiting { .. })
                && allocation.is_some_and(|allocation| *allocation.username == *who.username)
        });
        let Some(&Connection { relayed, peer, .. }) = found else {
            if !self.admits_stranger(now, &reply.client) {
                out.counters.discard(Discard::RateLimited);
                return Ok(());
            }
            return Err(Refusal::BadRequest);
        };
        self.connections.change(name, State::Bound);
        out.order(Order::SplicePeer { relayed, peer, client: local });
        reply.success(out, |_| ());
        Ok(())
    }

    pub(crate) fn handle_peer_change(
        &mut self,
        now: Now,
        relayed: SocketAddr,
        peer: SocketAddr,
        change: PeerChange,
        out: &mut Outbox,
    ) {
        let known = self.connections.find(relayed, peer);
        match (change, known) {
            (PeerChange::Accepted, None) => self.handle_accepted(now, relayed, peer, out),
            (PeerChange::Connected, Some(name)) => {
                let waiting = State::Waiting { until: now.instant + PATIENCE };
                if let Some(State::Connecting { reply, .. }) = self.connections.change(name, waiting) {
                    reply.success(out, |writer| _ = writer.connection_id(name));
                }
            }
            (PeerChange::Failed | PeerChange::Closed, Some(name)) => self.end_connection(name, out),
            // The client or its permission is gone since, and the order to close it is on its way.
            (PeerChange::Connected | PeerChange::Failed | PeerChange::Closed, None) => (),
            // The client connects there in the same turn: it is told that it cannot, and tries again.
            (PeerChange::Accepted, Some(_)) => out.order(Order::ClosePeer { relayed, peer }),
        }
    }

    /// RFC 6062 §5.3: a permission is needed.
    fn handle_accepted(&mut self, now: Now, relayed: SocketAddr, peer: SocketAddr, out: &mut Outbox) {
        let id = self.allocations.by_relayed(relayed);
        let permitted = id.and_then(|id| self.allocations.get(id)).is_some_and(|allocation| {
            allocation.tcp.is_some() && allocation.permissions.is_live(peer.ip(), now.instant)
        });
        // From our own addresses only other clients come, not whoever runs beside us.
        let Some(id) = id.filter(|_| permitted && self.may_be_connected(peer)) else {
            out.counters.discard(Discard::UnsolicitedPeer);
            return out.order(Order::ClosePeer { relayed, peer });
        };
        let Some(name) = self.add_connection(id, peer, State::Waiting { until: now.instant + PATIENCE }) else {
            out.counters.discard(Discard::LimitReached);
            return out.order(Order::ClosePeer { relayed, peer });
        };
        let Some(client) = self.allocations.get(id).map(|allocation| allocation.client) else { return };
        let transaction_id = self.indication_id();
        let mut written = 0;
        out.write(client.local, client.remote, ATTEMPT_LEN_MAX, |buffer| {
            let mut writer = Writer::new(buffer, Class::Indication, Method::CONNECTION_ATTEMPT, transaction_id);
            writer.xor_peer_address(peer).connection_id(name);
            let length = writer.finish();
            written = length.unwrap_or(0);
            length
        });
        count_sent(&mut out.counters, Method::CONNECTION_ATTEMPT, written);
    }

    /// Forgets a connection that is over, and answers the Connect request that perhaps waits for it.
    fn end_connection(&mut self, name: u32, out: &mut Outbox) {
        if let Some(Connection { state: State::Connecting { reply, .. }, .. }) = self.remove_connection(name) {
            reply.refuse(Refusal::ConnectionTimeoutOrFailure, out);
        }
    }

    /// Ends what has waited long enough, and what may no longer be.
    pub(crate) fn expire_connections(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(name) = self.connections.pop_due(now) {
            if let Some(&Connection { relayed, peer, .. }) = self.connections.get(name) {
                out.order(Order::ClosePeer { relayed, peer });
                self.end_connection(name, out);
            }
        }
    }

    /// The allocation is gone, and all its connections with it.
    pub(crate) fn close_tcp(&mut self, allocation: &Allocation, names: &[u32], out: &mut Outbox) {
        for name in names {
            self.connections.remove(*name);
            self.settings.share.tcp.give_back(&allocation.user);
        }
        if !matches!(allocation.socket, RelaySocket::Probing { .. }) {
            self.settings.share.tcp.set_relayed(allocation.relayed, None);
            out.order(Order::CloseTcpRelay { relayed: allocation.relayed });
        }
    }

    /// After the policy has changed: connections to and from peers that are forbidden now are to end.
    pub(crate) fn doom_forbidden(&mut self) {
        let names = self.allocations.iter().flat_map(|(_, allocation)| allocation.tcp.iter().flatten().copied());
        let is_forbidden = |name: &u32| self.connections.get(*name).is_some_and(|one| !self.may_be_connected(one.peer));
        let forbidden: Vec<u32> = names.filter(is_forbidden).collect();
        forbidden.into_iter().for_each(|name| self.connections.doom(name));
    }
}
