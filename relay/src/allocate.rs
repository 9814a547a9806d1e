//! The Allocate request (RFC 8656 §7.2).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use datapath::stun::{AttributeType, Message};
use datapath::{Endpoint, Now, Order, Outbox};

use crate::allocation::{Allocation, FiveTuple, RESERVATION_LIFETIME, RelaySocket, Reservation};
use crate::allocations::Id;
use crate::bandwidth::Bandwidth;
use crate::channel::Channels;
use crate::credential::Authenticated;
use crate::permission::Permissions;
use crate::ports::{self, Parity};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::server::Server;
use crate::usage::Relayed;

/// IP protocol numbers.
const UDP: u8 = 17;
const TCP: u8 = 6;

/// Ports that are asked after at the kernel for one allocation: the range of relayed ports may overlap the one from
/// which the system serves its other programs.
const PROBES_MAX: u8 = 8;

/// REQUESTED-ADDRESS-FAMILY (RFC 8656 §18.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The requested one; IPv4 where nothing is said (RFC 8656 §7.2).
    pub fn requested(message: &Message<'_>) -> Result<Family, Refusal> {
        match message.requested_address_family() {
            None | Some(1) => Ok(Family::V4),
            Some(2) => Ok(Family::V6),
            Some(_) => Err(Refusal::AddressFamilyNotSupported),
        }
    }

    fn other(self) -> Family {
        if self == Family::V4 { Family::V6 } else { Family::V4 }
    }

    /// The number in the attributes.
    fn number(self) -> u8 {
        if self == Family::V4 { 1 } else { 2 }
    }
}

/// The relayed address that an allocation gets.
struct Chosen {
    relayed: SocketAddr,
    parity: Parity,
    /// Another one is tried when this one turns out to be taken.
    replaceable: bool,
    is_tcp: bool,
}

impl Server {
    /// The same request again gets the same answer, any other 437.
    pub(crate) fn allocate_again(
        &self,
        id: Id,
        reply: &Reply,
        who: &Authenticated<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let again = self.allocations.get(id).filter(|allocation| {
            allocation.transaction_id == reply.transaction_id && *allocation.username == *who.username
        });
        // The first one's answer is on its way while its ports are probed.
        if again.ok_or(Refusal::AllocationMismatch)?.unanswered.is_none() {
            self.answer_allocate(id, reply, out);
        }
        Ok(())
    }

    pub(crate) fn allocate(
        &mut self,
        now: Now,
        reply: &Reply,
        who: &Authenticated<'_>,
        message: &Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        if self.revocations.holds(now.instant, &who.user) {
            return Err(Refusal::Forbidden);
        }
        match message.requested_transport() {
            None => return Err(Refusal::BadRequest),
            Some(UDP) => (),
            Some(TCP) if self.settings.limits.tcp.is_some() => return self.allocate_tcp(now, reply, who, message, out),
            Some(_) => return Err(Refusal::UnsupportedTransportProtocol),
        }
        // RFC 8016 §3.1.2: what is to be had here is a ticket; a Refresh shows one.
        if message.mobility_ticket().is_some_and(|ticket| !ticket.is_empty()) {
            return Err(Refusal::BadRequest);
        }
        // RFC 8489 §10: what is new goes elsewhere.
        if self.draining {
            return Err(self.elsewhere(&reply.client));
        }
        let lifetime = self.lifetime(now, who, message);
        let id = if message.additional_address_family().is_some() {
            self.allocate_both(now, reply, who, message, lifetime, out)?
        } else {
            let chosen = self.choose_relayed(now, &reply.client, who, message)?;
            self.make(now, reply, who, chosen, lifetime, None, out)?
        };
        for one in self.allocations.with_sibling(id) {
            if let Some(allocation) = self.allocations.get_mut(one) {
                // RFC 8016 §3.1.1: an empty ticket asks for one.
                allocation.ticket = message.mobility_ticket().map(|_| 0);
            }
        }
        if let Some(allocation) = self.allocations.get_mut(id) {
            allocation.unanswered = Some(Box::new(reply.clone()));
        }
        Ok(())
    }

    /// RFC 8489 §14.15: the other server's address is of the family in which the request came.
    fn elsewhere(&self, client: &FiveTuple) -> Refusal {
        let there = self.settings.alternate_server.filter(|there| there.is_ipv4() == client.remote.is_ipv4());
        there.map_or(Refusal::InsufficientCapacity, Refusal::TryAlternate)
    }

    /// RFC 6062 §5.1. ADDITIONAL-ADDRESS-FAMILY and MOBILITY-TICKET are ignored, as by a server that does not know them.
    fn allocate_tcp(
        &mut self,
        now: Now,
        reply: &Reply,
        who: &Authenticated<'_>,
        message: &Message<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let is_stream = matches!(reply.client.local, Endpoint::Stream { .. });
        let of_udp = message.even_port().is_some()
            || message.reservation_token().is_some()
            || message.attribute(AttributeType::DONT_FRAGMENT).is_some();
        if !is_stream || of_udp {
            return Err(Refusal::BadRequest);
        }
        if self.draining {
            return Err(self.elsewhere(&reply.client));
        }
        let lifetime = self.lifetime(now, who, message);
        let chosen = self.choose(now, &reply.client, Family::requested(message)?, Parity::Any)?;
        let chosen = Chosen { is_tcp: true, ..chosen };
        let id = self.make(now, reply, who, chosen, lifetime, None, out)?;
        if let Some(allocation) = self.allocations.get_mut(id) {
            allocation.unanswered = Some(Box::new(reply.clone()));
        }
        Ok(())
    }

    /// An allocation for each address family. If only one can be had, that is a success.
    fn allocate_both(
        &mut self,
        now: Now,
        reply: &Reply,
        who: &Authenticated<'_>,
        message: &Message<'_>,
        lifetime: Duration,
        out: &mut Outbox,
    ) -> Result<Id, Refusal> {
        if message.additional_address_family() != Some(Family::V6.number())
            || message.requested_address_family().is_some()
            || message.reservation_token().is_some()
            || message.even_port() == Some(true)
        {
            return Err(Refusal::BadRequest);
        }
        let parity = if message.even_port().is_some() { Parity::Even } else { Parity::Any };
        let mut make = |server: &mut Server, family, sibling| {
            let chosen = server.choose(now, &reply.client, family, parity)?;
            server.make(now, reply, who, chosen, lifetime, sibling, out)
        };
        let first = make(self, Family::V4, None);
        let second = make(self, Family::V6, first.ok());
        let (id, refusal) = match (first, second) {
            (Ok(id), Ok(_)) => return Ok(id),
            (Ok(id), Err(refusal)) | (Err(refusal), Ok(id)) => (id, refusal),
            (Err(refusal), Err(_)) => return Err(refusal),
        };
        if let Some(allocation) = self.allocations.get_mut(id) {
            allocation.sibling_refused = Some(refusal);
        }
        Ok(id)
    }

    /// Makes an allocation whose port is still to be probed.
    #[expect(clippy::too_many_arguments, reason = "the request, and what was read from it")]
    fn make(
        &mut self,
        now: Now,
        reply: &Reply,
        who: &Authenticated<'_>,
        chosen: Chosen,
        lifetime: Duration,
        sibling: Option<Id>,
        out: &mut Outbox,
    ) -> Result<Id, Refusal> {
        let source = reply.client.remote.ip();
        let admitted = self.settings.share.quotas.admit(&who.user, source, &self.settings.limits, now.instant);
        let [user, prefix] = admitted.inspect_err(|quota| out.counters.refuse(*quota))?;
        let with_next = chosen.parity == Parity::EvenWithNext;
        let reservation = with_next.then(|| Reservation {
            token: self.allocations.new_token(&mut self.entropy),
            relayed: next(chosen.relayed),
            expires: now.instant + RESERVATION_LIFETIME,
        });
        let expires = now.instant + lifetime;
        let tries_left = if chosen.replaceable { PROBES_MAX - 1 } else { 0 };
        let id = self.allocations.insert(Allocation {
            client: reply.client,
            relayed: chosen.relayed,
            username: (*who.username).into(),
            user: (*who.user).into(),
            origin: who.origin,
            transaction_id: reply.transaction_id,
            lifetime_granted: lifetime.as_secs() as u32,
            expires,
            wake_at: expires,
            socket: RelaySocket::Probing { parity: chosen.parity, tries_left },
            permissions: Permissions::default(),
            channels: Channels::default(),
            tcp: chosen.is_tcp.then(Vec::new),
            reservation,
            sibling,
            sibling_refused: None,
            ticket: None,
            bandwidth: Bandwidth::new(user, prefix, chosen.relayed.port()),
            began: now.instant,
            data: Relayed::default(),
            unanswered: None,
        });
        self.deadlines.set(expires, id);
        let local = reply.client.local;
        if matches!(local, Endpoint::Stream { .. }) {
            out.order(Order::KeepStream { local, keep: true });
        }
        out.order(probe(chosen.relayed, with_next, chosen.is_tcp));
        Ok(id)
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
            let relayed = self.reserved(now, &token, who).ok_or(Refusal::InsufficientCapacity)?;
            return Ok(Chosen { relayed, parity: Parity::Any, replaceable: false, is_tcp: false });
        }
        let parity = match even_port {
            None => Parity::Any,
            Some(false) => Parity::Even,
            Some(true) => Parity::EvenWithNext,
        };
        self.choose(now, client, Family::requested(message)?, parity)
    }

    fn choose(&mut self, now: Now, client: &FiveTuple, family: Family, parity: Parity) -> Result<Chosen, Refusal> {
        let ip = self.relayed_ip(client, family).ok_or(Refusal::AddressFamilyNotSupported)?;
        let relayed = self.choose_port(now, ip, parity).ok_or(Refusal::InsufficientCapacity)?;
        Ok(Chosen { relayed, parity, replaceable: true, is_tcp: false })
    }

    fn choose_port(&mut self, now: Now, ip: IpAddr, parity: Parity) -> Option<SocketAddr> {
        let allocations = &self.allocations;
        let is_free = |port| allocations.is_free(SocketAddr::new(ip, port), now.instant);
        let port = ports::choose(&self.ports, parity, &mut self.entropy, is_free)?;
        Some(SocketAddr::new(ip, port))
    }

    /// The address behind a token, if it still waits and is claimed by the user who has it.
    fn reserved(&self, now: Now, token: &[u8; 8], who: &Authenticated<'_>) -> Option<SocketAddr> {
        let owner = self.allocations.get(self.allocations.by_token(token)?)?;
        let reservation = owner.reservation.filter(|reservation| now.instant < reservation.expires)?;
        (*owner.user == *who.user).then_some(reservation.relayed)
    }

    /// The address that the client talks to, if peers see us there too, else the first of the family.
    fn relayed_ip(&self, client: &FiveTuple, family: Family) -> Option<IpAddr> {
        let mut ips = self.settings.relayed.iter().copied().filter(|ip| Family::of(*ip) == family);
        let here = match client.local {
            Endpoint::Listener { ip, .. } | Endpoint::Stream { ip, .. } => ips.clone().find(|relayed| *relayed == ip),
            Endpoint::Relay { .. } | Endpoint::Memory { .. } => None,
        };
        here.or_else(|| ips.next())
    }

    /// The kernel says whether the port can be had. If not, another one is asked after.
    pub(crate) fn handle_probe(&mut self, now: Now, relayed: SocketAddr, free: bool, out: &mut Outbox) {
        let Some(id) = self.allocations.by_relayed(relayed) else {
            return;
        };
        let Some(allocation) = self.allocations.get_mut(id) else {
            return;
        };
        let RelaySocket::Probing { parity, tries_left } = allocation.socket else {
            return;
        };
        let is_tcp = allocation.tcp.is_some();
        if free {
            allocation.socket = RelaySocket::Closed;
            if is_tcp {
                self.settings.share.tcp.set_relayed(relayed, Some(false));
            }
            return self.answer_probed(id, out);
        }
        let another = if tries_left > 0 { self.choose_port(now, relayed.ip(), parity) } else { None };
        let Some(another) = another else {
            return self.fail_probed(id, out);
        };
        let with_next = parity == Parity::EvenWithNext;
        self.allocations.rehome(id, another, with_next.then(|| next(another)));
        if let Some(allocation) = self.allocations.get_mut(id) {
            allocation.socket = RelaySocket::Probing { parity, tries_left: tries_left - 1 };
        }
        out.order(probe(another, with_next, is_tcp));
    }

    /// Answers the request that made this allocation, and perhaps its sibling, if nothing is left to be probed.
    fn answer_probed(&mut self, id: Id, out: &mut Outbox) {
        let mut first = None;
        for id in self.allocations.with_sibling(id) {
            let Some(allocation) = self.allocations.get(id) else { continue };
            if matches!(allocation.socket, RelaySocket::Probing { .. }) {
                return;
            }
            if allocation.unanswered.is_some() {
                first = Some(id);
            }
        }
        let Some(first) = first else { return };
        if let Some(reply) = self.allocations.get_mut(first).and_then(|allocation| allocation.unanswered.take()) {
            self.answer_allocate(first, &reply, out);
        }
    }

    /// No port can be had: the sibling, if there is one, is the whole answer.
    fn fail_probed(&mut self, id: Id, out: &mut Outbox) {
        let Some(allocation) = self.allocations.get_mut(id) else {
            return;
        };
        let refusal = Refusal::InsufficientCapacity;
        let (reply, sibling) = (allocation.unanswered.take(), allocation.sibling);
        self.remove(id, out);
        match sibling.and_then(|sibling| Some((sibling, self.allocations.get_mut(sibling)?))) {
            Some((sibling, allocation)) => {
                allocation.sibling_refused = Some(refusal);
                allocation.unanswered = reply.or(allocation.unanswered.take());
                self.answer_probed(sibling, out);
            }
            None => {
                if let Some(reply) = reply {
                    reply.refuse(refusal, out);
                }
            }
        }
    }

    fn answer_allocate(&self, id: Id, reply: &Reply, out: &mut Outbox) {
        let Some(allocation) = self.allocations.get(id) else {
            return;
        };
        let sibling = allocation.sibling.and_then(|sibling| self.allocations.get(sibling));
        reply.success(out, |writer| {
            writer.xor_relayed_address(allocation.relayed);
            if let Some(sibling) = sibling {
                writer.xor_relayed_address(sibling.relayed);
            }
            if let Some(refusal) = allocation.sibling_refused {
                let family = Family::of(allocation.relayed.ip()).other();
                writer.address_error_code(family.number(), refusal.error_code());
            }
            writer.lifetime(allocation.lifetime_granted);
            writer.xor_mapped_address(allocation.client.remote);
            if let Some(reservation) = allocation.reservation {
                writer.reservation_token(reservation.token);
            }
            self.write_ticket(id, writer);
        });
    }
}

fn probe(relayed: SocketAddr, with_next: bool, is_tcp: bool) -> Order {
    if is_tcp { Order::ProbeTcpRelay { relayed } } else { Order::ProbeRelay { relayed, with_next } }
}

fn next(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + 1)
}
