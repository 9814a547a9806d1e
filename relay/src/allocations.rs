use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use datapath::Entropy;

use crate::allocation::{Allocation, FiveTuple};

/// A place in the table, and which of its successive tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    index: u32,
    generation: u32,
}

impl Id {
    pub fn parts(self) -> [u32; 2] {
        [self.index, self.generation]
    }

    pub fn from_parts([index, generation]: [u32; 2]) -> Id {
        Id { index, generation }
    }
}

/// All allocations, found by client and by relayed address.
#[derive(Debug, Default)]
pub struct Allocations {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The key is chosen by clients: SipHash.
    by_client: HashMap<FiveTuple, Id>,
    by_relayed: HashMap<SocketAddr, Tenant>,
    /// Keyed by 56 random bits of ours behind the worker's number.
    by_token: HashMap<[u8; 8], Id>,
    worker: u8,
    /// What the packet path found last: packets come in trains. Forgotten whenever the tables change.
    last_client: Option<(FiveTuple, Id)>,
    last_relayed: Option<(SocketAddr, Id)>,
}

#[derive(Debug, Default)]
pub struct Slot {
    generation: u32,
    pub allocation: Option<Allocation>,
}

/// Who holds a relayed transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tenant {
    Allocation(Id),
    /// Reserved by this allocation for another.
    Reservation(Id),
}

impl Allocations {
    pub fn new(worker: u8) -> Allocations {
        Allocations { worker, ..Allocations::default() }
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The client's allocation; of two siblings the first.
    pub fn by_client(&self, client: &FiveTuple) -> Option<Id> {
        self.by_client.get(client).copied()
    }

    pub fn by_relayed(&self, relayed: SocketAddr) -> Option<Id> {
        match self.by_relayed.get(&relayed)? {
            Tenant::Allocation(id) => Some(*id),
            Tenant::Reservation(_) => None,
        }
    }

    /// The same as [`Allocations::by_client`], faster for the client of the packet before.
    pub fn by_packet_of_client(&mut self, client: &FiveTuple) -> Option<Id> {
        match &self.last_client {
            Some((last, id)) if last == client => Some(*id),
            _ => {
                let id = self.by_client(client)?;
                self.last_client = Some((*client, id));
                Some(id)
            }
        }
    }

    /// The same as [`Allocations::by_relayed`], faster for the address of the packet before.
    pub fn by_packet_of_peer(&mut self, relayed: SocketAddr) -> Option<Id> {
        match self.last_relayed {
            Some((last, id)) if last == relayed => Some(id),
            _ => {
                let id = self.by_relayed(relayed)?;
                self.last_relayed = Some((relayed, id));
                Some(id)
            }
        }
    }

    /// The allocation and its sibling, if it has one.
    pub fn with_sibling(&self, id: Id) -> impl Iterator<Item = Id> + Clone + use<> {
        let sibling = self.get(id).and_then(|allocation| allocation.sibling);
        [Some(id), sibling].into_iter().flatten()
    }

    /// The allocation itself or its sibling: whichever has the address family of `peer`.
    pub fn of_family(&self, id: Id, peer: IpAddr) -> Option<Id> {
        let allocation = self.get(id)?;
        if allocation.is_of_family(peer) { Some(id) } else { allocation.sibling }
    }

    /// The allocation that made this reservation.
    pub fn by_token(&self, token: &[u8; 8]) -> Option<Id> {
        self.by_token.get(token).copied()
    }

    pub fn get(&self, id: Id) -> Option<&Allocation> {
        let slot = self.slots.get(id.index as usize)?;
        slot.allocation.as_ref().filter(|_| slot.generation == id.generation)
    }

    pub fn get_mut(&mut self, id: Id) -> Option<&mut Allocation> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.allocation.as_mut().filter(|_| slot.generation == id.generation)
    }

    /// Whether nobody holds this address, or only a reservation that has run out.
    pub fn is_free(&self, relayed: SocketAddr, now: Instant) -> bool {
        match self.by_relayed.get(&relayed) {
            None => true,
            Some(Tenant::Allocation(_)) => false,
            Some(Tenant::Reservation(id)) => {
                let reservation = self.get(*id).and_then(|allocation| allocation.reservation);
                reservation.is_none_or(|reservation| reservation.expires <= now)
            }
        }
    }

    /// Panics if the client has an allocation that is no sibling, or the address belongs to another: the caller has asked.
    pub fn insert(&mut self, allocation: Allocation) -> Id {
        (self.last_client, self.last_relayed) = (None, None);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let id = Id { index, generation: slot.generation };
        self.clear_reservation(allocation.relayed);
        if let Some(reservation) = allocation.reservation {
            self.clear_reservation(reservation.relayed);
            self.by_relayed.insert(reservation.relayed, Tenant::Reservation(id));
            self.by_token.insert(reservation.token, id);
        }
        match allocation.sibling {
            Some(first) => self.get_mut(first).expect("a sibling lives").sibling = Some(id),
            None => {
                let former = self.by_client.insert(allocation.client, id);
                assert!(former.is_none(), "one request makes the allocations of a five-tuple");
            }
        }
        let former = self.by_relayed.insert(allocation.relayed, Tenant::Allocation(id));
        assert!(former.is_none(), "one allocation per relayed address");
        self.slots[index as usize].allocation = Some(allocation);
        id
    }

    /// Gives the allocation another relayed address, which nobody holds.
    pub fn rehome(&mut self, id: Id, relayed: SocketAddr, reserved: Option<SocketAddr>) {
        (self.last_client, self.last_relayed) = (None, None);
        self.clear_reservation(relayed);
        reserved.into_iter().for_each(|reserved| self.clear_reservation(reserved));
        let Some(allocation) = self.get_mut(id) else { return };
        let former = std::mem::replace(&mut allocation.relayed, relayed);
        let reservation = allocation.reservation.as_mut().zip(reserved);
        let former_reserved =
            reservation.map(|(reservation, reserved)| std::mem::replace(&mut reservation.relayed, reserved));
        self.by_relayed.remove(&former);
        if let Some(former) = former_reserved {
            self.by_relayed.remove(&former);
        }
        let replaced = self.by_relayed.insert(relayed, Tenant::Allocation(id));
        assert!(replaced.is_none(), "one allocation per relayed address");
        if let Some(reserved) = reserved {
            self.by_relayed.insert(reserved, Tenant::Reservation(id));
        }
    }

    /// The client of the allocation, and of its sibling, has another five-tuple now, which has none.
    pub fn move_client(&mut self, id: Id, client: FiveTuple) {
        (self.last_client, self.last_relayed) = (None, None);
        let mut first = id;
        for one in self.with_sibling(id) {
            let Some(allocation) = self.get_mut(one) else { continue };
            let former = std::mem::replace(&mut allocation.client, client);
            if let Some(id) = self.by_client.remove(&former) {
                first = id;
            }
        }
        self.by_client.insert(client, first);
    }

    pub fn remove(&mut self, id: Id) -> Option<Allocation> {
        (self.last_client, self.last_relayed) = (None, None);
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let allocation = slot.allocation.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        match allocation.sibling {
            Some(sibling) => {
                self.get_mut(sibling).expect("a sibling lives").sibling = None;
                self.by_client.insert(allocation.client, sibling);
            }
            None => _ = self.by_client.remove(&allocation.client),
        }
        self.by_relayed.remove(&allocation.relayed);
        if let Some(reservation) = allocation.reservation {
            self.by_token.remove(&reservation.token);
            if self.by_relayed.get(&reservation.relayed) == Some(&Tenant::Reservation(id)) {
                self.by_relayed.remove(&reservation.relayed);
            }
        }
        Some(allocation)
    }

    /// Forgets the reservation of this address, if there is one.
    fn clear_reservation(&mut self, relayed: SocketAddr) {
        let Some(Tenant::Reservation(id)) = self.by_relayed.get(&relayed).copied() else {
            return;
        };
        self.by_relayed.remove(&relayed);
        if let Some(reservation) = self.get_mut(id).and_then(|allocation| allocation.reservation.take()) {
            self.by_token.remove(&reservation.token);
        }
    }

    /// All places, those that are empty too.
    pub fn places(&self) -> &[Slot] {
        &self.slots
    }

    /// The allocations in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Allocation)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let id = Id { index: index as u32, generation: slot.generation };
            Some((id, slot.allocation.as_ref()?))
        })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Allocation> {
        self.slots.iter_mut().filter_map(|slot| slot.allocation.as_mut())
    }

    /// A token that no reservation has. The first octet names the worker ([`datapath::steering`]).
    pub fn new_token(&self, entropy: &mut Entropy) -> [u8; 8] {
        loop {
            let mut token = entropy.u64().to_be_bytes();
            token[0] = self.worker;
            if !self.by_token.contains_key(&token) {
                return token;
            }
        }
    }
}
