//! The server: one worker, or several on one port in one thread. What the kernel and the threads do in the program
//! happens here in a fixed order, and what one worker passes on reaches the other at the same moment.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use datapath::mux::Mux;
use datapath::neighbours::Neighbours;
use datapath::{Datagram, Deadline, Endpoint, Node, Now, Outbox, SocketEvent};
use sfu::Sfu;

/// What stands behind the one port.
pub type Plane = Mux<relay::Server, Sfu>;

/// Stands for the kernel's hash: the worker that gets what comes from an address, given how many there are.
pub type Steering = fn(SocketAddr, usize) -> usize;

/// Spreads the addresses as a hash would, the same in every run.
pub fn by_address(remote: SocketAddr, workers: usize) -> usize {
    let ip = match remote.ip() {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    // Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4).
    let mixed = (ip as u64 ^ u64::from(remote.port()) << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((u128::from(mixed) * workers as u128) >> 64) as usize
}

pub struct Workers {
    pub planes: Vec<Plane>,
    /// Of relayed addresses, by worker.
    ports: Vec<RangeInclusive<u16>>,
    steering: Steering,
}

impl Workers {
    pub fn new(planes: Vec<Plane>, ports: RangeInclusive<u16>, steering: Steering, now: Now) -> Workers {
        let count = planes.len();
        let ports: Vec<_> =
            (0..count).map(|worker| relay::partition(ports.clone(), worker as u16, count as u16)).collect();
        let planes = if count == 1 {
            planes
        } else {
            let neighbours = Neighbours::connect(&ports, &vec![None; count], now.instant);
            planes.into_iter().zip(neighbours).map(|(plane, neighbours)| plane.with_neighbours(neighbours)).collect()
        };
        Workers { planes, ports, steering }
    }

    /// Lets one worker act outside of a batch.
    pub fn act<T>(
        &mut self,
        worker: usize,
        now: Now,
        out: &mut Outbox,
        act: impl FnOnce(&mut Sfu, &mut Outbox) -> T,
    ) -> T {
        let result = self.planes[worker].with_sfu(now, out, act);
        self.settle(now, out);
        result
    }

    /// Live allocations of all workers.
    pub fn allocations(&self) -> usize {
        self.planes.iter().map(|plane| plane.relay.allocations()).sum()
    }

    /// The worker that has this relayed address.
    fn of_relayed(&self, relayed: SocketAddr) -> usize {
        let found = self.ports.iter().position(|ports| ports.contains(&relayed.port()));
        found.expect("a worker's relay socket")
    }

    fn of(&self, local: Endpoint, remote: SocketAddr) -> usize {
        match local {
            Endpoint::Relay { address } => self.of_relayed(address),
            _ => (self.steering)(remote, self.planes.len()),
        }
    }

    /// Until nobody has anything for another.
    fn settle(&mut self, now: Now, out: &mut Outbox) {
        while let Some(plane) =
            self.planes.iter_mut().find(|plane| plane.neighbours().is_some_and(Neighbours::is_waiting))
        {
            plane.handle_batch(now, &mut [], out);
        }
    }
}

impl Node for Workers {
    fn handle_batch(&mut self, now: Now, mut batch: &mut [Datagram<'_>], out: &mut Outbox) {
        while let Some(first) = batch.first() {
            let worker = self.of(first.local, first.remote);
            let same = |datagram: &&Datagram<'_>| self.of(datagram.local, datagram.remote) == worker;
            let length = batch.iter().take_while(same).count();
            let (run, rest) = batch.split_at_mut(length);
            self.planes[worker].handle_batch(now, run, out);
            batch = rest;
        }
        self.settle(now, out);
    }

    fn handle_event(&mut self, now: Now, event: SocketEvent, out: &mut Outbox) {
        let relayed = match event {
            SocketEvent::Opened { relayed }
            | SocketEvent::Failed { relayed }
            | SocketEvent::IcmpError { relayed, .. }
            | SocketEvent::Free { relayed }
            | SocketEvent::Taken { relayed }
            | SocketEvent::Closed { relayed } => relayed,
            SocketEvent::StreamClosed { .. } | SocketEvent::Peer { .. } => unreachable!("no TCP in this world"),
        };
        let worker = self.of_relayed(relayed);
        self.planes[worker].handle_event(now, event, out);
        self.settle(now, out);
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.planes.iter_mut().for_each(|plane| plane.handle_timeout(now, out));
        self.settle(now, out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.planes.iter().map(Node::poll_timeout).fold(None, Deadline::earlier)
    }
}
