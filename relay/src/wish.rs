//! What CreatePermission and ChannelBind ask of an allocation. The answer may have to wait for the relay socket.

use std::net::{IpAddr, SocketAddr};

use datapath::stun::{Message, channel_data};
use datapath::{Discard, Now, Order, Outbox, Quota};

use crate::allocation::RelaySocket;
use crate::allocations::Id;
use crate::quota::Holding;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::server::{Reach, Server};

/// Requests of one allocation that may wait for its relay socket. A browser asks for a permission per candidate at once.
const HELD_MAX: usize = 64;

/// A request whose answer waits for the relay socket.
#[derive(Debug)]
pub struct Held {
    pub reply: Reply,
    pub wish: Wish,
}

/// What a request asks of an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `of_sibling` have the other address family: the sibling permits them afterwards.
    Permit {
        peers: Vec<IpAddr>,
        of_sibling: Vec<IpAddr>,
    },
    Bind {
        number: u16,
        peer: SocketAddr,
    },
}

impl Server {
    /// RFC 8656 §10.2. Also whose wish it is: that of the allocation or of its sibling.
    pub(crate) fn wish_for_permissions(&self, message: &Message<'_>, id: Id) -> Result<(Id, Wish), Refusal> {
        let first = message.xor_peer_address().ok_or(Refusal::BadRequest)?;
        let of_family = |peer| self.allocations.of_family(id, peer).ok_or(Refusal::PeerAddressFamilyMismatch);
        let owner = of_family(first.ip())?;
        let mut wish = (Vec::new(), Vec::new());
        for peer in message.xor_peer_addresses() {
            let list = if of_family(peer.ip())? == owner { &mut wish.0 } else { &mut wish.1 };
            list.push(peer.ip());
        }
        Ok((owner, Wish::Permit { peers: wish.0, of_sibling: wish.1 }))
    }

    /// RFC 8656 §12.2. Also whose wish it is.
    pub(crate) fn wish_for_channel(&self, message: &Message<'_>, id: Id) -> Result<(Id, Wish), Refusal> {
        let (Some(number), Some(peer)) = (message.channel_number(), message.xor_peer_address()) else {
            return Err(Refusal::BadRequest);
        };
        if !channel_data::NUMBERS.contains(&number) {
            return Err(Refusal::BadRequest);
        }
        let owner = self.allocations.of_family(id, peer.ip()).ok_or(Refusal::PeerAddressFamilyMismatch)?;
        // Channels carry datagrams.
        if self.allocations.get(owner).is_some_and(|allocation| allocation.tcp.is_some()) {
            return Err(Refusal::BadRequest);
        }
        Ok((owner, Wish::Bind { number, peer }))
    }

    /// Fulfils the wish and answers, or holds the answer until the relay socket is open that the wish needs.
    pub(crate) fn handle_wish(
        &mut self,
        now: Now,
        id: Id,
        reply: &Reply,
        wish: Wish,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let reach = self.reach_of(&wish).ok_or(Refusal::Forbidden)?;
        let missing = self.missing(id, &wish)?;
        if let Wish::Permit { of_sibling, .. } = &wish
            && !of_sibling.iter().all(|peer| self.reach_ip(*peer).is_some())
        {
            return Err(Refusal::Forbidden);
        }
        let allocation = self.allocations.get_mut(id).ok_or(Refusal::AllocationMismatch)?;
        let (quotas, limits) = (&self.settings.share.quotas, &self.settings.limits);
        let source = allocation.client.remote.ip();
        quotas.room(&allocation.user, source, missing, limits).map_err(|quota| over(quota, out))?;
        let held = || Held { reply: reply.clone(), wish: wish.clone() };
        let is_tcp = allocation.tcp.is_some();
        // Other clients of ours, too, reach an address for TCP through the kernel.
        let needs_socket = reach == Reach::Outside || is_tcp;
        match &mut allocation.socket {
            RelaySocket::Closed if needs_socket => {
                let relayed = allocation.relayed;
                allocation.socket = RelaySocket::Opening(vec![held()]);
                out.order(if is_tcp { Order::ListenTcp { relayed } } else { Order::OpenRelay { relayed } });
                return Ok(());
            }
            RelaySocket::Opening(waiting) if needs_socket => {
                let transaction_id = reply.transaction_id;
                if waiting.iter().all(|held| held.reply.transaction_id != transaction_id) {
                    if waiting.len() < HELD_MAX {
                        waiting.push(held());
                    } else {
                        // The client asks again.
                        out.counters.discard(Discard::LimitReached);
                    }
                }
                return Ok(());
            }
            // Nobody has been told of this allocation yet.
            RelaySocket::Probing { .. } => return Err(Refusal::AllocationMismatch),
            _ => (),
        }
        self.fulfil_and_answer(now, id, reply, wish, out)
    }

    /// Fulfils the wish; then the sibling's part of it, or answers.
    pub(crate) fn fulfil_and_answer(
        &mut self,
        now: Now,
        id: Id,
        reply: &Reply,
        wish: Wish,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        self.fulfil(now, id, &wish, out)?;
        match wish {
            Wish::Permit { of_sibling, .. } if !of_sibling.is_empty() => {
                let sibling = self.allocations.get(id).and_then(|allocation| allocation.sibling);
                let rest = Wish::Permit { peers: of_sibling, of_sibling: Vec::new() };
                self.handle_wish(now, sibling.ok_or(Refusal::PeerAddressFamilyMismatch)?, reply, rest, out)
            }
            _ => {
                reply.success(out, |_| ());
                Ok(())
            }
        }
    }

    /// `None` if a peer is forbidden.
    fn reach_of(&self, wish: &Wish) -> Option<Reach> {
        match wish {
            Wish::Bind { peer, .. } => self.reach(*peer),
            Wish::Permit { peers, .. } => peers.iter().try_fold(Reach::Memory, |reach, peer| {
                let of_peer = self.reach_ip(*peer)?;
                Some(if reach == Reach::Outside { reach } else { of_peer })
            }),
        }
    }

    /// What the allocation needs beyond what it has. Everything that has run out was pruned before.
    fn missing(&self, id: Id, wish: &Wish) -> Result<Holding, Refusal> {
        let allocation = self.allocations.get(id).ok_or(Refusal::AllocationMismatch)?;
        let limits = &self.settings.limits;
        let (mut peer_ip, mut channels) = (None::<[IpAddr; 1]>, 0);
        let peers = match wish {
            Wish::Permit { peers, .. } => &peers[..],
            Wish::Bind { number, peer } => {
                channels = allocation.channels.missing(*number, *peer, limits.channels)?;
                // RFC 8656 §12: a number stands for one peer, whichever family it has.
                let sibling = allocation.sibling.and_then(|sibling| self.allocations.get(sibling));
                let other = sibling.and_then(|sibling| sibling.channels.by_number(*number));
                if other.is_some() {
                    return Err(Refusal::BadRequest);
                }
                peer_ip.insert([peer.ip()])
            }
        };
        let permissions = allocation.permissions.missing(peers, limits.permissions);
        let permissions = permissions.ok_or(Refusal::InsufficientCapacity)?;
        Ok(Holding { allocations: 0, permissions, channels })
    }

    /// Installs permissions or binds the channel (RFC 8656 §10.2, §12.2).
    pub(crate) fn fulfil(&mut self, now: Now, id: Id, wish: &Wish, out: &mut Outbox) -> Result<(), Refusal> {
        // What waited for a socket may find the table full, or the number taken, by now.
        let missing = self.missing(id, wish)?;
        let outside = self.reach_of(wish).ok_or(Refusal::Forbidden)? == Reach::Outside;
        let allocation = self.allocations.get_mut(id).ok_or(Refusal::AllocationMismatch)?;
        let (quotas, limits) = (&self.settings.share.quotas, &self.settings.limits);
        let source = allocation.client.remote.ip();
        quotas.take(&allocation.user, source, missing, limits).map_err(|quota| over(quota, out))?;
        let mut permit = |peer: IpAddr| {
            let until = allocation.permissions.permit(peer, now.instant);
            allocation.channels.permit(peer, until);
            until
        };
        // Of both ends the permission's comes first.
        let mut next_end = None;
        match wish {
            Wish::Permit { peers, .. } => peers.iter().for_each(|peer| next_end = Some(permit(*peer))),
            Wish::Bind { number, peer } => {
                let until = permit(peer.ip());
                allocation.channels.bind(*number, *peer, outside, now.instant, until);
                next_end = Some(until);
            }
        }
        if let Some(next_end) = next_end {
            self.wake_by(id, next_end);
        }
        Ok(())
    }
}

/// RFC 8656 §10.2 and §12.2 have no other code for it than 508: 486 is Allocate's.
fn over(quota: Quota, out: &mut Outbox) -> Refusal {
    out.counters.refuse(quota);
    Refusal::InsufficientCapacity
}
