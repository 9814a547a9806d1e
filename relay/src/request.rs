//! What clients ask for. Binding, Allocate and Refresh are answered here, CreatePermission and ChannelBind in `wish.rs`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use datapath::stun::{AttributeType, Message, Method, Writer};
use datapath::{Discard, Endpoint, Now, Outbox};

use crate::allocation::{Allocation, FiveTuple, RESERVATION_LIFETIME, RelaySocket, Reservation};
use crate::allocations::Id;
use crate::channel::Channels;
use crate::credential::Authenticated;
use crate::permission::Permissions;
use crate::ports::{self, Parity};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::server::Server;
use crate::wish::Wish;

/// The IP protocol number of UDP.
const UDP: u8 = 17;

/// REQUESTED-ADDRESS-FAMILY (RFC 8656 §18.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The requested one; IPv4 where nothing is said (RFC 8656 §7.2).
    fn requested(message: &Message<'_>) -> Result<Family, Refusal> {
        match message.requested_address_family() {
            None | Some(1) => Ok(Family::V4),
            Some(2) => Ok(Family::V6),
            Some(_) => Err(Refusal::AddressFamilyNotSupported),
        }
    }
}

/// The relayed address that an allocation gets, and the one that is kept for another.
struct Chosen {
    relayed: SocketAddr,
    reserve: Option<SocketAddr>,
}

impl Server {
    pub(crate) fn handle_request(&mut self, now: Now, client: FiveTuple, message: &Message<'_>, out: &mut Outbox) {
        let mut reply = Reply::to(client, message);
        if message.method() == Method::BINDING {
            return self.handle_binding(now, &reply, message, out);
        }
        let who = match self.authenticate(now, &client, message) {
            Ok(who) => who,
            Err(refusal) => return self.refuse_stranger(now, &reply, refusal, out),
        };
        reply.key = Some(who.key.clone());
        let outcome = match understood(message) {
            Ok(()) => self.handle_authenticated(now, &reply, &who, message, out),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = outcome {
            reply.refuse(refusal, out);
        }
    }

    fn handle_binding(&mut self, now: Now, reply: &Reply, message: &Message<'_>, out: &mut Outbox) {
        if !self.rate.admits(reply.client.remote.ip(), now.instant) {
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
        message: &Message<'a>,
    ) -> Result<Authenticated<'a>, Refusal> {
        if !message.has_integrity() {
            return Err(Refusal::Unauthenticated);
        }
        let (Some(_), Some(_), Some(nonce)) = (message.username(), message.realm(), message.nonce()) else {
            return Err(Refusal::BadRequest);
        };
        if !self.nonces.is_valid(nonce, client, now.unix) {
            return Err(Refusal::StaleNonce);
        }
        let credentials = &self.settings.credentials;
        let who = credentials.authenticate(message).ok_or(Refusal::Unauthenticated)?;
        let begins = message.method() == Method::ALLOCATE && self.allocations.by_client(client).is_none();
        let expired = who.expires.is_some_and(|expires| expires <= now.unix);
        if expired && (begins || credentials.strict_expiry()) {
            return Err(Refusal::Unauthenticated);
        }
        Ok(who)
    }

    /// Answers who is not authenticated: few octets, and not too often.
    fn refuse_stranger(&mut self, now: Now, reply: &Reply, refusal: Refusal, out: &mut Outbox) {
        if !self.rate.admits(reply.client.remote.ip(), now.instant) {
            return out.counters.discard(Discard::RateLimited);
        }
        let challenge = matches!(refusal, Refusal::Unauthenticated | Refusal::StaleNonce);
        reply.refuse_with(refusal, out, |writer: &mut Writer<'_>| {
            if challenge {
                writer.realm(self.settings.credentials.realm().as_bytes());
                writer.nonce(&self.nonces.make(&reply.client, now.unix));
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
        if message.method() == Method::ALLOCATE {
            return match id {
                Some(id) => self.allocate_again(id, reply, who, out),
                None => self.allocate(now, reply, who, message, out),
            };
        }
        let id = id.ok_or(Refusal::AllocationMismatch)?;
        let allocation = self.allocations.get(id).ok_or(Refusal::AllocationMismatch)?;
        // RFC 8656 §5: all requests of an allocation have the same username.
        if *allocation.username != *who.username {
            return Err(Refusal::WrongCredentials);
        }
        match message.method() {
            Method::REFRESH => self.refresh(now, id, reply, who, message, out),
            Method::CREATE_PERMISSION => {
                let wish = Wish::permissions(message, allocation)?;
                self.handle_wish(now, id, reply, wish, out)
            }
            _ => {
                let wish = Wish::channel(message, allocation)?;
                self.handle_wish(now, id, reply, wish, out)
            }
        }
    }

    /// RFC 8656 §7.2: the same request again gets the same answer, any other 437.
    fn allocate_again(&self, id: Id, reply: &Reply, who: &Authenticated<'_>, out: &mut Outbox) -> Result<(), Refusal> {
        let again = self.allocations.get(id).filter(|allocation| {
            allocation.transaction_id == reply.transaction_id && *allocation.username == *who.username
        });
        answer_allocate(again.ok_or(Refusal::AllocationMismatch)?, reply, out);
        Ok(())
    }

    /// RFC 8656 §7.2.
    fn allocate(
        &mut self,
        now: Now,
        reply: &Reply,
        who: &Authenticated<'_>,
        message: &Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        match message.requested_transport() {
            None => return Err(Refusal::BadRequest),
            Some(UDP) => (),
            Some(_) => return Err(Refusal::UnsupportedTransportProtocol),
        }
        let chosen = self.choose_relayed(now, &reply.client, who, message)?;
        let source = reply.client.remote.ip();
        if !self.quotas.take(who.user, source, &self.settings.limits) {
            return Err(Refusal::AllocationQuotaReached);
        }
        let lifetime = self.lifetime(now, who, message);
        let reservation = chosen.reserve.map(|relayed| Reservation {
            token: self.allocations.new_token(&mut self.entropy),
            relayed,
            expires: now.instant + RESERVATION_LIFETIME,
        });
        let expires = now.instant + lifetime;
        let id = self.allocations.insert(Allocation {
            client: reply.client,
            relayed: chosen.relayed,
            username: who.username.into(),
            user: who.user.into(),
            transaction_id: reply.transaction_id,
            lifetime_granted: lifetime.as_secs() as u32,
            expires,
            wake_at: expires,
            socket: RelaySocket::Closed,
            permissions: Permissions::default(),
            channels: Channels::default(),
            reservation,
        });
        self.deadlines.set(expires, id);
        if let Some(allocation) = self.allocations.get(id) {
            answer_allocate(allocation, reply, out);
        }
        Ok(())
    }

    fn choose_relayed(
        &mut self,
        now: Now,
        client: &FiveTuple,
        who: &Authenticated<'_>,
        message: &Message<'_>,
    ) -> Result<Chosen, Refusal> {
        let even_port = message.even_port();
        if let Some(token) = message.reservation_token() {
            if even_port.is_some() || message.requested_address_family().is_some() {
                return Err(Refusal::BadRequest);
            }
            return self.reserved(now, &token, who).ok_or(Refusal::InsufficientCapacity);
        }
        let family = Family::requested(message)?;
        let ip = self.relayed_ip(client, family).ok_or(Refusal::AddressFamilyNotSupported)?;
        let parity = match even_port {
            None => Parity::Any,
            Some(false) => Parity::Even,
            Some(true) => Parity::EvenWithNext,
        };
        let allocations = &self.allocations;
        let is_free = |port| allocations.is_free(SocketAddr::new(ip, port), now.instant);
        let port = ports::choose(&self.settings.ports, parity, &mut self.entropy, is_free)
            .ok_or(Refusal::InsufficientCapacity)?;
        Ok(Chosen {
            relayed: SocketAddr::new(ip, port),
            reserve: (parity == Parity::EvenWithNext).then(|| SocketAddr::new(ip, port + 1)),
        })
    }

    /// The address behind a token, if it still waits and is claimed by the user who has it.
    fn reserved(&self, now: Now, token: &[u8; 8], who: &Authenticated<'_>) -> Option<Chosen> {
        let owner = self.allocations.get(self.allocations.by_token(token)?)?;
        let reservation = owner.reservation.filter(|reservation| now.instant < reservation.expires)?;
        (*owner.user == *who.user).then_some(Chosen { relayed: reservation.relayed, reserve: None })
    }

    /// The address that the client talks to, if peers see us there too, else the first of the family.
    fn relayed_ip(&self, client: &FiveTuple, family: Family) -> Option<IpAddr> {
        let mut ips = self.settings.relayed.iter().copied().filter(|ip| Family::of(*ip) == family);
        let here = match client.local {
            Endpoint::Listener { ip, .. } => ips.clone().find(|relayed| *relayed == ip),
            Endpoint::Relay { .. } | Endpoint::Memory { .. } => None,
        };
        here.or_else(|| ips.next())
    }

    /// RFC 8656 §7.2: what is asked for, within the limits. With strict expiry no longer than the credential.
    fn lifetime(&self, now: Now, who: &Authenticated<'_>, message: &Message<'_>) -> Duration {
        let limits = &self.settings.limits;
        let asked = Duration::from_secs(message.lifetime().unwrap_or(0).into());
        let lifetime = asked.min(limits.lifetime_max).max(limits.lifetime_default);
        match who.expires {
            Some(expires) if self.settings.credentials.strict_expiry() => {
                // Expired credentials were refused, so at least a part of a second is left.
                lifetime.min(expires.saturating_sub(now.unix)).max(Duration::from_secs(1))
            }
            _ => lifetime,
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
        if message.requested_address_family().is_some()
            && Family::requested(message) != Ok(Family::of(allocation.relayed.ip()))
        {
            return Err(Refusal::PeerAddressFamilyMismatch);
        }
        let lifetime = if message.lifetime() == Some(0) {
            self.remove(id, out);
            Duration::ZERO
        } else {
            let lifetime = self.lifetime(now, who, message);
            self.set_expiry(id, now.instant + lifetime);
            lifetime
        };
        reply.success(out, |writer| {
            writer.lifetime(lifetime.as_secs() as u32);
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
                | AttributeType::REALM
                | AttributeType::NONCE
                | AttributeType::CHANNEL_NUMBER
                | AttributeType::LIFETIME
                | AttributeType::XOR_PEER_ADDRESS
                | AttributeType::DATA
                | AttributeType::REQUESTED_ADDRESS_FAMILY
                | AttributeType::EVEN_PORT
                | AttributeType::REQUESTED_TRANSPORT
                | AttributeType::RESERVATION_TOKEN
                | AttributeType::PRIORITY
                | AttributeType::USE_CANDIDATE
        )
    });
    if unknown.is_empty() { Ok(()) } else { Err(Refusal::UnknownAttributes(unknown)) }
}

fn answer_allocate(allocation: &Allocation, reply: &Reply, out: &mut Outbox) {
    reply.success(out, |writer| {
        writer.xor_relayed_address(allocation.relayed);
        writer.lifetime(allocation.lifetime_granted);
        writer.xor_mapped_address(allocation.client.remote);
        if let Some(reservation) = allocation.reservation {
            writer.reservation_token(reservation.token);
        }
    });
}
