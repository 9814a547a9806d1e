//! What clients ask for. Binding and Refresh are answered here, Allocate in `allocate.rs`, CreatePermission and
//! ChannelBind in `wish.rs`, Connect and ConnectionBind in `connect.rs`.

use std::time::Duration;

use datapath::stun::{AttributeType, Message, Method, Writer};
use datapath::{Discard, Endpoint, Now, Order, Outbox};

use crate::allocate::Family;
use crate::allocation::{Allocation, FiveTuple};
use crate::allocations::Id;
use crate::credential::{Authenticated, PasswordAlgorithm};
use crate::nonce::Standing;
use crate::quota::Holding;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::server::Server;

impl Server {
    pub(crate) fn handle_request(&mut self, now: Now, client: FiveTuple, message: &Message<'_>, out: &mut Outbox) {
        let mut reply = Reply::to(client, message);
        if message.method() == Method::BINDING {
            return self.handle_binding(now, &reply, message, out);
        }
        let bound = self.connection_to_bind(message);
        let who = match self.authenticate(now, &client, bound, message) {
            Ok(who) => who,
            Err(refusal) => return self.refuse_stranger(now, &reply, refusal, out),
        };
        reply.seal = Some(who.seal.clone());
        let outcome = match understood(message) {
            Ok(()) => self.handle_authenticated(now, &reply, &who, message, out),
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(()) => out.prove(client.local, client.remote),
            Err(refusal) => reply.refuse(refusal, out),
        }
    }

    fn handle_binding(&mut self, now: Now, reply: &Reply, message: &Message<'_>, out: &mut Outbox) {
        if !self.admits_stranger(now, &reply.client) {
            return out.counters.discard(Discard::RateLimited);
        }
        match understood(message) {
            Ok(()) => reply.success(out, |writer| {
                writer.xor_mapped_address(reply.client.remote);
            }),
            Err(refusal) => reply.refuse(refusal, out),
        }
    }

    /// RFC 8489 §9.2.4, but the nonce comes before the user: it costs one HMAC and proves the source address.
    fn authenticate<'a>(
        &self,
        now: Now,
        client: &FiveTuple,
        bound: Option<&Allocation>,
        message: &Message<'a>,
    ) -> Result<Authenticated<'a>, Refusal> {
        if !message.has_integrity() && !message.has_integrity_sha256() {
            return Err(Refusal::Unauthenticated);
        }
        let (Some(_), Some(nonce)) = (message.realm(), message.nonce()) else {
            return Err(Refusal::BadRequest);
        };
        if message.username().is_none() && message.userhash().is_none() {
            return Err(Refusal::BadRequest);
        }
        // A ConnectionBind may come with the nonce of the connection over which its client was told of the peer's: TCP has
        // proved the address of either.
        let standing = |client: &FiveTuple| self.nonces.judge(nonce, client, now.unix);
        let of_client = standing(client);
        let is_valid = |standing| standing == Standing::Valid;
        if !is_valid(of_client) && !bound.is_some_and(|allocation| is_valid(standing(&allocation.client))) {
            return Err(if of_client == Standing::Expired { Refusal::ExpiredNonce } else { Refusal::StaleNonce });
        }
        let credentials = &self.settings.credentials;
        let algorithm = PasswordAlgorithm::of(message).ok_or(Refusal::BadRequest)?;
        let who = credentials.authenticate(message, algorithm).ok_or(Refusal::Unauthenticated)?;
        let begins = message.method() == Method::ALLOCATE && self.allocations.by_client(client).is_none();
        let expired = who.expires.is_some_and(|expires| expires <= now.unix);
        // An allocation that lives may be used until the grace is over.
        let over = who
            .expires
            .zip(credentials.grace())
            .is_some_and(|(expires, grace)| expires.saturating_add(grace) <= now.unix);
        if expired && begins || over {
            return Err(Refusal::Unauthenticated);
        }
        Ok(who)
    }

    /// Whether a client that has not authenticated may be answered once more. TCP has proved its address: those who forge
    /// theirs, or have many, do not use up what such clients have.
    pub(crate) fn admits_stranger(&mut self, now: Now, client: &FiveTuple) -> bool {
        let rate = match client.local {
            Endpoint::Stream { .. } => &mut self.stream_rate,
            _ => &mut self.rate,
        };
        rate.admits(client.remote.ip(), now.instant)
    }

    /// Answers who is not authenticated: few octets, and not too often. Who brings a nonce of ours back has got it from us at
    /// this address, and is told at any rate that it is over, so that no flood ends an allocation.
    fn refuse_stranger(&mut self, now: Now, reply: &Reply, refusal: Refusal, out: &mut Outbox) {
        if refusal != Refusal::ExpiredNonce && !self.admits_stranger(now, &reply.client) {
            return out.counters.discard(Discard::RateLimited);
        }
        let challenge = matches!(refusal, Refusal::Unauthenticated | Refusal::StaleNonce | Refusal::ExpiredNonce);
        reply.refuse_with(refusal, out, |writer: &mut Writer<'_>| {
            if challenge {
                writer.realm(self.settings.credentials.realm().as_bytes());
                writer.nonce(&self.nonces.make(&reply.client, now.unix));
                writer.attribute(AttributeType::PASSWORD_ALGORITHMS, &PasswordAlgorithm::OFFERED);
            }
        });
    }

    fn handle_authenticated(
        &mut self,
        now: Now,
        reply: &Reply,
        who: &Authenticated<'_>,
        message: &Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let id = self.allocations.by_client(&reply.client);
        if message.method() == Method::CONNECTION_BIND {
            return self.handle_connection_bind(now, id, reply, who, message, out);
        }
        if message.method() == Method::ALLOCATE {
            return match id {
                Some(id) => self.allocate_again(id, reply, who, out),
                None => self.allocate(now, reply, who, message, out),
            };
        }
        let id = match (id, message.mobility_ticket()) {
            (None, Some(ticket)) if message.method() == Method::REFRESH && !ticket.is_empty() => {
                self.move_here(now, reply, who, ticket, out)?
            }
            (id, _) => id.ok_or(Refusal::AllocationMismatch)?,
        };
        let allocation = self.allocations.get(id).ok_or(Refusal::AllocationMismatch)?;
        // RFC 8656 §5: all requests of an allocation have the same username.
        if *allocation.username != *who.username {
            return Err(Refusal::WrongCredentials);
        }
        match message.method() {
            Method::REFRESH => self.refresh(now, id, reply, who, message, out),
            Method::CREATE_PERMISSION => {
                let (id, wish) = self.wish_for_permissions(message, id)?;
                self.handle_wish(now, id, reply, wish, out)
            }
            Method::CONNECT => self.handle_connect(now, id, reply, message, out),
            _ => {
                let (id, wish) = self.wish_for_channel(message, id)?;
                self.handle_wish(now, id, reply, wish, out)
            }
        }
    }

    /// RFC 8656 §7.2: what is asked for, within the limits. No longer than the credential and its grace.
    pub(crate) fn lifetime(&self, now: Now, who: &Authenticated<'_>, message: &Message<'_>) -> Duration {
        let limits = &self.settings.limits;
        let asked = Duration::from_secs(message.lifetime().unwrap_or(0).into());
        let lifetime = asked.min(limits.lifetime_max).max(limits.lifetime_default);
        match who.expires {
            Some(expires) => match self.settings.credentials.grace() {
                // What is over was refused, so at least a part of a second is left.
                Some(grace) => {
                    lifetime.min(expires.saturating_add(grace).saturating_sub(now.unix)).max(Duration::from_secs(1))
                }
                None => lifetime,
            },
            None => lifetime,
        }
    }

    /// RFC 8016 §3.2: who shows the last ticket of an allocation of its own has it from now on.
    fn move_here(
        &mut self,
        now: Now,
        reply: &Reply,
        who: &Authenticated<'_>,
        ticket: &[u8],
        out: &mut Outbox,
    ) -> Result<Id, Refusal> {
        let (id, serial) = self.tickets.read(ticket, &who.username).ok_or(Refusal::BadRequest)?;
        let allocation = self.allocations.get(id).ok_or(Refusal::AllocationMismatch)?;
        if allocation.ticket != Some(serial) || *allocation.username != *who.username {
            return Err(Refusal::AllocationMismatch);
        }
        let (former, to) = (allocation.client, reply.client);
        let both = self.allocations.with_sibling(id);
        let holdings = both.clone().filter_map(|id| Some(self.allocations.get(id)?.holding()));
        let holding = holdings.fold(Holding::default(), Holding::and);
        let (quotas, limits) = (&self.settings.share.quotas, &self.settings.limits);
        let relocated = quotas.relocate(former.remote.ip(), to.remote.ip(), holding, limits, now.instant);
        let bandwidth = relocated.inspect_err(|quota| out.counters.refuse(*quota))?;
        self.allocations.move_client(id, to);
        for id in both {
            if let Some(allocation) = self.allocations.get_mut(id) {
                allocation.bandwidth.prefix = bandwidth.clone();
            }
        }
        for (local, keep) in [(former.local, false), (to.local, true)] {
            if matches!(local, Endpoint::Stream { .. }) {
                out.order(Order::KeepStream { local, keep });
            }
        }
        if let Some(allocation) = self.allocations.get_mut(id) {
            // A ticket takes its client to one place.
            allocation.ticket = Some(serial.wrapping_add(1));
        }
        Ok(id)
    }

    /// The present ticket, if the client has asked for one.
    pub(crate) fn write_ticket(&self, id: Id, writer: &mut Writer<'_>) {
        if let Some(allocation) = self.allocations.get(id)
            && let Some(serial) = allocation.ticket
        {
            writer.mobility_ticket(&self.tickets.make(id, serial, &allocation.username));
        }
    }

    /// RFC 8656 §8.2.
    fn refresh(
        &mut self,
        now: Now,
        id: Id,
        reply: &Reply,
        who: &Authenticated<'_>,
        message: &Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let allocation = self.allocations.get(id).ok_or(Refusal::AllocationMismatch)?;
        // RFC 8656 §8.2: with REQUESTED-ADDRESS-FAMILY one of two siblings, else both.
        let mut chosen = [Some(id), allocation.sibling];
        if message.requested_address_family().is_some() {
            let family = Family::requested(message).map_err(|_| Refusal::PeerAddressFamilyMismatch)?;
            for one in &mut chosen {
                *one = one
                    .filter(|id| self.allocations.get(*id).is_some_and(|one| Family::of(one.relayed.ip()) == family));
            }
            if chosen == [None, None] {
                return Err(Refusal::PeerAddressFamilyMismatch);
            }
        }
        let lifetime = match message.lifetime() {
            Some(0) => Duration::ZERO,
            _ => self.lifetime(now, who, message),
        };
        for id in chosen.into_iter().flatten() {
            if lifetime.is_zero() {
                self.remove(id, out);
            } else {
                self.set_expiry(id, now.instant + lifetime);
                if let Some(allocation) = self.allocations.get_mut(id) {
                    allocation.origin = who.origin;
                }
            }
        }
        // Of two siblings one may be left.
        let left = self.allocations.by_client(&reply.client).unwrap_or(id);
        reply.success(out, |writer| {
            writer.lifetime(lifetime.as_secs() as u32);
            self.write_ticket(left, writer);
        });
        Ok(())
    }
}

/// Every attribute that a request to us may carry.
fn understood(message: &Message<'_>) -> Result<(), Refusal> {
    let unknown = message.unknown_required(|kind| {
        matches!(
            kind,
            AttributeType::USERNAME
                | AttributeType::USERHASH
                | AttributeType::PASSWORD_ALGORITHM
                | AttributeType::REALM
                | AttributeType::NONCE
                | AttributeType::CHANNEL_NUMBER
                | AttributeType::LIFETIME
                | AttributeType::XOR_PEER_ADDRESS
                | AttributeType::DATA
                | AttributeType::REQUESTED_ADDRESS_FAMILY
                | AttributeType::EVEN_PORT
                | AttributeType::DONT_FRAGMENT
                | AttributeType::REQUESTED_TRANSPORT
                | AttributeType::CONNECTION_ID
                | AttributeType::RESERVATION_TOKEN
                | AttributeType::PRIORITY
                | AttributeType::USE_CANDIDATE
        )
    });
    if unknown.is_empty() { Ok(()) } else { Err(Refusal::UnknownAttributes(unknown)) }
}
