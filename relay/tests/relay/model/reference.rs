use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use datapath::stun::Method;

use super::effect::Effect;
use super::{CHANNELS, IN_TOTAL, OF_SOURCE, OF_USER, PEERS, PERMISSIONS, USERS};
use crate::world::{CANDIDATE, address};

#[derive(Clone, Debug)]
pub enum Wish {
    Permit(Vec<SocketAddr>),
    Bind(u16, SocketAddr),
}

#[derive(Debug)]
pub enum Socket {
    Closed,
    Opening(Vec<Wish>),
    Open,
}

#[derive(Debug)]
pub struct Allocation {
    pub relayed: SocketAddr,
    pub transaction: u64,
    pub expires: u64,
    pub permissions: BTreeMap<IpAddr, u64>,
    /// The peer, whether it is outside, and the end.
    pub channels: BTreeMap<u16, (SocketAddr, bool, u64)>,
    pub socket: Socket,
}

#[derive(Default)]
pub struct Model {
    pub now: u64,
    pub allocations: BTreeMap<usize, Allocation>,
}

/// The number of whoever has the same name behind the expiry.
fn user(client: usize) -> usize {
    let name = |client: usize| USERS[client].split_once(':').unwrap().1;
    (0..client).find(|other| name(*other) == name(client)).unwrap_or(client)
}

fn source(client: usize) -> usize {
    client % 2
}

impl Model {
    /// Ends what has run out.
    pub fn expire(&mut self) -> Vec<Effect> {
        let ended: Vec<usize> =
            self.allocations.iter().filter(|(_, a)| a.expires <= self.now).map(|(client, _)| *client).collect();
        ended.into_iter().flat_map(|client| self.end(client)).collect()
    }

    pub fn end(&mut self, client: usize) -> Option<Effect> {
        let allocation = self.allocations.remove(&client)?;
        let relayed = allocation.relayed;
        (!matches!(allocation.socket, Socket::Closed)).then_some(Effect::Close { relayed })
    }

    pub fn peer(&self, index: usize) -> SocketAddr {
        match PEERS.get(index) {
            Some(peer) => address(peer),
            None => {
                let relayed = self.allocations.get(&(index - PEERS.len())).map(|allocation| allocation.relayed);
                relayed.unwrap_or(address("5.5.5.5:49999"))
            }
        }
    }

    pub fn is_in_memory(&self, peer: SocketAddr) -> bool {
        peer == address(CANDIDATE) || self.allocations.values().any(|allocation| allocation.relayed == peer)
    }

    /// `Some(true)`: outside.
    pub fn reach(&self, peer: SocketAddr) -> Option<bool> {
        if self.is_in_memory(peer) { Some(false) } else { peer.ip().to_string().starts_with("9.9.9.").then_some(true) }
    }

    pub fn has_room(&self, client: usize, wish: &Wish) -> Result<(), u16> {
        let allocation = &self.allocations[&client];
        let mut permissions: BTreeSet<IpAddr> =
            allocation.permissions.iter().filter(|(_, end)| **end > self.now).map(|(ip, _)| *ip).collect();
        match wish {
            Wish::Permit(peers) => permissions.extend(peers.iter().map(SocketAddr::ip)),
            Wish::Bind(number, peer) => {
                let mut bound: BTreeMap<u16, SocketAddr> = BTreeMap::new();
                for (number, (peer, _, end)) in &allocation.channels {
                    if *end > self.now {
                        bound.insert(*number, *peer);
                    }
                }
                if bound.get(number).is_some_and(|other| other != peer)
                    || bound.iter().any(|(other, bound_to)| bound_to == peer && other != number)
                {
                    return Err(400);
                }
                bound.insert(*number, *peer);
                if bound.len() > CHANNELS {
                    return Err(508);
                }
                permissions.insert(peer.ip());
            }
        }
        if permissions.len() > PERMISSIONS { Err(508) } else { Ok(()) }
    }

    /// Whether all together have room for what this wish adds to what its client has.
    fn within_quotas(&self, client: usize, wish: &Wish) -> Result<(), u16> {
        let live = |client: usize| {
            let allocation = &self.allocations[&client];
            let permissions = allocation.permissions.iter().filter(|(_, end)| **end > self.now).map(|(ip, _)| *ip);
            let channels = allocation.channels.iter().filter(|(_, (_, _, end))| *end > self.now).map(|(n, _)| *n);
            (permissions.collect::<BTreeSet<_>>(), channels.collect::<BTreeSet<_>>())
        };
        let (mut permissions, mut channels) = live(client);
        match wish {
            Wish::Permit(peers) => permissions.extend(peers.iter().map(SocketAddr::ip)),
            Wish::Bind(number, peer) => {
                permissions.insert(peer.ip());
                channels.insert(*number);
            }
        }
        for (kind, [_, most_permissions, most_channels]) in
            [(user as fn(usize) -> usize, OF_USER), (source, OF_SOURCE), (|_| 0, IN_TOTAL)]
        {
            let others = self.allocations.keys().filter(|other| **other != client && kind(**other) == kind(client));
            let others: Vec<_> = others.map(|other| live(*other)).collect();
            let all_permissions =
                permissions.len() + others.iter().map(|(permissions, _)| permissions.len()).sum::<usize>();
            let all_channels = channels.len() + others.iter().map(|(_, channels)| channels.len()).sum::<usize>();
            if all_permissions > most_permissions || all_channels > most_channels {
                return Err(508);
            }
        }
        Ok(())
    }

    pub fn fulfil(&mut self, client: usize, wish: &Wish) -> Effect {
        let method = if matches!(wish, Wish::Permit(_)) { Method::CREATE_PERMISSION } else { Method::CHANNEL_BIND };
        if let Err(code) = self.has_room(client, wish) {
            return Effect::Refusal { client, code };
        }
        let outside = match wish {
            // The other client may have gone while the answer was held.
            Wish::Bind(_, peer) => match self.reach(*peer) {
                Some(outside) => outside,
                None => return Effect::Refusal { client, code: 403 },
            },
            Wish::Permit(_) => false,
        };
        if let Err(code) = self.within_quotas(client, wish) {
            return Effect::Refusal { client, code };
        }
        let now = self.now;
        let allocation = self.allocations.get_mut(&client).unwrap();
        match wish {
            Wish::Permit(peers) => {
                allocation.permissions.extend(peers.iter().map(|peer| (peer.ip(), now + 300)));
            }
            Wish::Bind(number, peer) => {
                allocation.permissions.insert(peer.ip(), now + 300);
                allocation.channels.insert(*number, (*peer, outside, now + 600));
            }
        }
        Effect::Success { client, method: method.0 }
    }

    pub fn ask(&mut self, client: usize, wish: Wish) -> Vec<Effect> {
        let refused = |code| vec![Effect::Refusal { client, code }];
        if !self.allocations.contains_key(&client) {
            return refused(437);
        }
        let (peers, outside) = match &wish {
            Wish::Permit(peers) => {
                let own: IpAddr = [5, 5, 5, 5].into();
                let reach = |peer: &SocketAddr| if peer.ip() == own { Some(false) } else { self.reach(*peer) };
                (peers.clone(), peers.iter().map(reach).collect::<Option<Vec<bool>>>())
            }
            Wish::Bind(number, _) if !(0x4000..=0x7FFE).contains(number) => return refused(400),
            Wish::Bind(_, peer) => (vec![*peer], self.reach(*peer).map(|outside| vec![outside])),
        };
        if peers.is_empty() {
            return refused(400);
        }
        if peers.iter().any(SocketAddr::is_ipv6) {
            return refused(443);
        }
        let Some(outside) = outside else {
            return refused(403);
        };
        if let Err(code) = self.has_room(client, &wish).and_then(|()| self.within_quotas(client, &wish)) {
            return refused(code);
        }
        let allocation = self.allocations.get_mut(&client).unwrap();
        let relayed = allocation.relayed;
        if outside.contains(&true) {
            match &mut allocation.socket {
                Socket::Closed => {
                    allocation.socket = Socket::Opening(vec![wish]);
                    return vec![Effect::Open { relayed }];
                }
                Socket::Opening(held) => {
                    held.push(wish);
                    return vec![];
                }
                Socket::Open => (),
            }
        }
        vec![self.fulfil(client, &wish)]
    }

    pub fn send(&mut self, client: usize, peer: SocketAddr, outside: bool) -> Vec<Effect> {
        let allocation = self.allocations.get_mut(&client).unwrap();
        let relayed = allocation.relayed;
        let mut effects = vec![Effect::ToPeer { relayed, peer, outside }];
        if outside && matches!(allocation.socket, Socket::Closed) {
            allocation.socket = Socket::Opening(vec![]);
            effects.push(Effect::Open { relayed });
        }
        effects
    }

    pub fn is_permitted(&self, client: usize, peer: SocketAddr) -> bool {
        self.allocations[&client].permissions.get(&peer.ip()).is_some_and(|end| *end > self.now)
    }

    pub fn peer_sends(&self, client: usize, peer: SocketAddr, in_memory: bool) -> Option<Effect> {
        let allocation = self.allocations.get(&client)?;
        if !self.is_permitted(client, peer) {
            return None;
        }
        let bound = allocation.channels.iter().find(|(_, (to, _, end))| *to == peer && *end > self.now);
        match bound {
            Some((_, (_, outside, _))) if !in_memory && !outside => None,
            Some((number, _)) => Some(Effect::ChannelToClient { client, number: *number }),
            None if !in_memory && self.is_in_memory(peer) => None,
            None => Some(Effect::DataToClient { client, peer }),
        }
    }

    pub fn allocate(&mut self, client: usize, transaction: u64) -> Result<(), u16> {
        if let Some(allocation) = self.allocations.get(&client) {
            return if allocation.transaction == transaction { Ok(()) } else { Err(437) };
        }
        let count =
            |kind: fn(usize) -> usize| self.allocations.keys().filter(|other| kind(**other) == kind(client)).count();
        if count(user) >= OF_USER[0] || count(source) >= OF_SOURCE[0] {
            return Err(486);
        }
        if self.allocations.len() >= IN_TOTAL[0] {
            return Err(508);
        }
        let allocation = Allocation {
            // Learned from the answer.
            relayed: address("0.0.0.0:0"),
            transaction,
            expires: self.now + 600,
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
            socket: Socket::Closed,
        };
        self.allocations.insert(client, allocation);
        Ok(())
    }
}
