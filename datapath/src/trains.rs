//! Grouping a turn's datagrams into GSO trains.

use std::net::{IpAddr, SocketAddr};

use crate::{Endpoint, Entry};

/// Datagrams for one destination that leave in one message: all as long as the first but the last, which may be
/// shorter (UDP_SEGMENT of udp(7)).
#[derive(Clone, Debug)]
pub struct Train {
    pub local: Endpoint,
    pub remote: SocketAddr,
    pub tos: u8,
    /// Octets of every datagram but perhaps the last.
    pub segment: u32,
    pub count: u32,
    pub bytes: u32,
    first: u32,
    last: u32,
    /// A datagram shorter than the others ended it.
    ended: bool,
}

impl Train {
    /// What Linux takes since UDP_SEGMENT exists (UDP_MAX_SEGMENTS).
    pub const SEGMENTS_MAX: u32 = 64;
    /// Below the 65,507 octets that a UDP datagram over IPv4 can hold.
    pub const BYTES_MAX: u32 = 65_000;

    fn takes(&self, length: u32) -> bool {
        !self.ended
            && length > 0
            && length <= self.segment
            && self.count < Self::SEGMENTS_MAX
            && self.bytes + length <= Self::BYTES_MAX
    }
}

/// Forms the trains of a turn, reusing its memory. O(n) whatever the addresses are.
#[derive(Debug)]
pub struct Trains {
    trains: Vec<Train>,
    /// For each entry, the next one of its train ([`NONE`] at the end).
    next: Vec<u32>,
    /// Open addressing: the train that a destination's next datagram may join. A slot counts when its turn does.
    table: Vec<Slot>,
    turn: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    turn: u32,
    train: u32,
}

const NONE: u32 = u32::MAX;

/// Slots that are looked at for one destination. A sender who finds colliding addresses gets shorter trains, nothing
/// else: this bound, not the hash, is what keeps the forming linear.
const PROBES: usize = 8;

impl Trains {
    pub fn new() -> Trains {
        Trains { trains: Vec::new(), next: Vec::new(), table: vec![Slot::default(); 256], turn: 0 }
    }

    /// Groups `entries` by local end, remote end and TOS. Within a destination and TOS the order is kept, both inside
    /// the trains and between them.
    pub fn form(&mut self, entries: &[Entry]) {
        self.trains.clear();
        self.next.clear();
        self.next.resize(entries.len(), NONE);
        if self.table.len() < entries.len() * 2 {
            self.table = vec![Slot::default(); (entries.len() * 2).next_power_of_two()];
            self.turn = 0;
        }
        self.turn = self.turn.wrapping_add(1);
        if self.turn == 0 {
            self.table.fill(Slot::default());
            self.turn = 1;
        }
        // The train of the entry before: a run to one destination needs no look-up.
        let mut before: Option<u32> = None;
        for (index, entry) in entries.iter().enumerate() {
            let slot = match before {
                Some(train) if self.is_for(train, entry) && self.takes(train, entry) => {
                    self.join(train, index as u32, entry);
                    continue;
                }
                _ => self.find(entry),
            };
            let train = match slot {
                Some(slot) if self.table[slot].turn == self.turn => {
                    let train = self.table[slot].train;
                    if self.takes(train, entry) {
                        self.join(train, index as u32, entry);
                        train
                    } else {
                        self.begin(Some(slot), index as u32, entry)
                    }
                }
                slot => self.begin(slot, index as u32, entry),
            };
            before = Some(train);
        }
    }

    /// In the order of their first datagrams.
    pub fn trains(&self) -> &[Train] {
        &self.trains
    }

    /// The indices of a train's entries, in order.
    pub fn members<'a>(&'a self, train: &Train) -> impl Iterator<Item = usize> + 'a {
        let first = Some(train.first).filter(|&first| first != NONE);
        std::iter::successors(first, |&index| Some(self.next[index as usize]).filter(|&next| next != NONE))
            .map(|index| index as usize)
    }

    fn is_for(&self, train: u32, entry: &Entry) -> bool {
        let train = &self.trains[train as usize];
        train.remote == entry.remote && train.local == entry.local && train.tos == entry.tos
    }

    fn takes(&self, train: u32, entry: &Entry) -> bool {
        self.trains[train as usize].takes(entry.len() as u32)
    }

    /// The slot of this destination or the free one where it belongs; none when its neighbourhood is full.
    fn find(&self, entry: &Entry) -> Option<usize> {
        let mask = self.table.len() - 1;
        let start = spread(entry);
        (0..PROBES).map(|probe| (start + probe) & mask).find(|&slot| {
            let slot = self.table[slot];
            slot.turn != self.turn || self.is_for(slot.train, entry)
        })
    }

    fn begin(&mut self, slot: Option<usize>, index: u32, entry: &Entry) -> u32 {
        let train = self.trains.len() as u32;
        self.trains.push(Train {
            local: entry.local,
            remote: entry.remote,
            tos: entry.tos,
            segment: entry.len() as u32,
            count: 1,
            bytes: entry.len() as u32,
            first: index,
            last: index,
            // An empty datagram has no segment size.
            ended: entry.is_empty(),
        });
        if let Some(slot) = slot {
            self.table[slot] = Slot { turn: self.turn, train };
        }
        train
    }

    fn join(&mut self, train: u32, index: u32, entry: &Entry) {
        let train = &mut self.trains[train as usize];
        self.next[train.last as usize] = index;
        train.last = index;
        train.count += 1;
        train.bytes += entry.len() as u32;
        train.ended = (entry.len() as u32) < train.segment;
    }
}

impl Default for Trains {
    fn default() -> Trains {
        Trains::new()
    }
}

/// Spreads destinations over the table.
fn spread(entry: &Entry) -> usize {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let ip = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ (ip.to_bits() as u64).rotate_left(17),
    };
    let local = match entry.local {
        Endpoint::Listener { index, ip: local } => ip(local) ^ u64::from(index) << 40,
        Endpoint::Stream { id, .. } => id,
        Endpoint::Relay { address } | Endpoint::Memory { address } => {
            ip(address.ip()) ^ u64::from(address.port()) << 32
        }
    };
    let remote = ip(entry.remote.ip()) ^ u64::from(entry.remote.port()) << 32;
    let mixed = (remote ^ u64::from(entry.tos) << 56).wrapping_mul(ODD);
    let mixed = (mixed ^ mixed >> 32 ^ local).wrapping_mul(ODD);
    (mixed >> 32) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn entry(port: u16, length: u32) -> Entry {
        Entry {
            local: Endpoint::Listener { index: 0, ip: IpAddr::V4(Ipv4Addr::LOCALHOST) },
            remote: SocketAddr::from(([192, 0, 2, 1], port)),
            tos: 0,
            head: 0..length / 2,
            body: 0..length.div_ceil(2),
        }
    }

    fn formed(entries: &[Entry]) -> Vec<Vec<usize>> {
        let mut trains = Trains::new();
        trains.form(entries);
        let members = |train| trains.members(train).collect();
        trains.trains().iter().map(members).collect()
    }

    #[test]
    fn a_frame_to_many_subscribers_is_one_train_each() {
        let mut entries = Vec::new();
        for _ in 0..7 {
            entries.extend((0..50).map(|port| entry(port, 1200)));
        }
        let formed = formed(&entries);
        assert_eq!(formed.len(), 50);
        for (port, members) in formed.iter().enumerate() {
            let expected: Vec<_> = (0..7).map(|packet| packet * 50 + port).collect();
            assert_eq!(*members, expected);
        }
    }

    #[test]
    fn a_shorter_datagram_ends_its_train_and_a_longer_one_begins_another() {
        let lengths = [1100, 1100, 900, 900, 901, 901, 1];
        let entries: Vec<_> = lengths.iter().map(|&length| entry(1, length)).collect();
        assert_eq!(formed(&entries), [vec![0, 1, 2], vec![3], vec![4, 5, 6]]);
    }

    #[test]
    fn a_train_stays_within_what_the_kernel_takes() {
        let entries = vec![entry(1, 100); 130];
        let sizes: Vec<_> = formed(&entries).iter().map(Vec::len).collect();
        assert_eq!(sizes, [64, 64, 2]);
        let entries = vec![entry(1, 1300); 100];
        let sizes: Vec<_> = formed(&entries).iter().map(Vec::len).collect();
        assert_eq!(sizes, [50, 50]);
    }

    proptest! {
        /// Every entry in exactly one train; each train sendable; each destination's order kept.
        #[test]
        fn nothing_is_lost_or_reordered(
            entries in prop::collection::vec((0u16..40, 0u32..4, 0u8..2), 0..600),
        ) {
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(port, length, tos)| Entry { tos, ..entry(port, length * 300) })
                .collect();
            let mut trains = Trains::new();
            // The memory of an earlier turn does not matter.
            trains.form(&vec![entry(7, 300); 300]);
            trains.form(&entries);
            let mut orders: BTreeMap<(SocketAddr, u8), Vec<usize>> = BTreeMap::new();
            for train in trains.trains() {
                let members: Vec<_> = trains.members(train).collect();
                prop_assert_eq!(members.len(), train.count as usize);
                let lengths: Vec<_> = members.iter().map(|&m| entries[m].len() as u32).collect();
                prop_assert_eq!(lengths.iter().sum::<u32>(), train.bytes);
                let (last, others) = lengths.split_last().unwrap();
                prop_assert!(others.iter().all(|&length| length == train.segment));
                prop_assert!(*last <= train.segment && (*last > 0 || members.len() == 1));
                for member in members {
                    let entry = &entries[member];
                    prop_assert_eq!((entry.remote, entry.tos), (train.remote, train.tos));
                    orders.entry((train.remote, train.tos)).or_default().push(member);
                }
            }
            let mut count = 0;
            for order in orders.values() {
                prop_assert!(order.is_sorted());
                count += order.len();
            }
            prop_assert_eq!(count, entries.len());
        }
    }
}
