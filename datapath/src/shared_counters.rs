//! A worker's counters as the other threads see them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::counters::PacketsAndBytes;
use crate::{Counters, Discard, Quota, Traffic};

/// How long a worker's loop keeps arriving packets waiting: the time of a turn from its receive to the next poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopLag {
    /// Turns since the start.
    pub turns: u64,
    /// The sum over all turns.
    pub total: Duration,
    /// The longest turn of the last interval of publication (about a second).
    pub longest: Duration,
}

impl LoopLag {
    pub fn record(&mut self, turn: Duration) {
        self.turns += 1;
        self.total += turn;
        self.longest = self.longest.max(turn);
    }
}

/// What one worker tells about itself.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub counters: Counters,
    pub lag: LoopLag,
    /// Relay sockets open now.
    pub relay_sockets: u64,
    /// TCP connections that carry datagrams now.
    pub streams: u64,
    /// TCP connections to and from peers now.
    pub peer_connections: u64,
}

/// Written by one worker about once a second and read by anyone, without a lock. A reader may see a mixture of two
/// publications, which a rate over seconds does not notice.
#[derive(Debug, Default)]
pub struct SharedCounters {
    received: [SharedPacketsAndBytes; Traffic::ALL.len()],
    sent: [SharedPacketsAndBytes; Traffic::ALL.len()],
    discarded: [AtomicU64; Discard::ALL.len()],
    over_quota: [AtomicU64; Quota::ALL.len()],
    relay_sockets_opened: AtomicU64,
    relay_sockets: AtomicU64,
    streams: AtomicU64,
    peer_connections: AtomicU64,
    peer_connections_opened: AtomicU64,
    octets_to_peers: AtomicU64,
    octets_to_clients: AtomicU64,
    memory_handovers: AtomicU64,
    passed_to_workers: AtomicU64,
    malformed_extensions: AtomicU64,
    events_lost: AtomicU64,
    turns: AtomicU64,
    lag_total_ns: AtomicU64,
    lag_longest_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct SharedPacketsAndBytes {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl SharedCounters {
    pub fn new() -> SharedCounters {
        SharedCounters::default()
    }

    pub fn publish(&self, snapshot: &Snapshot) {
        let store = |cell: &AtomicU64, value| cell.store(value, Ordering::Relaxed);
        let counters = &snapshot.counters;
        for (shared, counts) in [(&self.received, &counters.received), (&self.sent, &counters.sent)] {
            for (shared, count) in shared.iter().zip(counts) {
                store(&shared.packets, count.packets);
                store(&shared.bytes, count.bytes);
            }
        }
        for (shared, count) in self.discarded.iter().zip(&counters.discarded) {
            store(shared, *count);
        }
        for (shared, count) in self.over_quota.iter().zip(&counters.over_quota) {
            store(shared, *count);
        }
        store(&self.relay_sockets_opened, counters.relay_sockets_opened);
        store(&self.memory_handovers, counters.memory_handovers);
        store(&self.passed_to_workers, counters.passed_to_workers);
        store(&self.malformed_extensions, counters.malformed_extensions);
        store(&self.events_lost, counters.events_lost);
        store(&self.relay_sockets, snapshot.relay_sockets);
        store(&self.streams, snapshot.streams);
        store(&self.peer_connections, snapshot.peer_connections);
        store(&self.peer_connections_opened, counters.peer_connections_opened);
        store(&self.octets_to_peers, counters.octets_to_peers);
        store(&self.octets_to_clients, counters.octets_to_clients);
        store(&self.turns, snapshot.lag.turns);
        store(&self.lag_total_ns, nanoseconds(snapshot.lag.total));
        store(&self.lag_longest_ns, nanoseconds(snapshot.lag.longest));
    }

    pub fn snapshot(&self) -> Snapshot {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let pairs = |shared: &[SharedPacketsAndBytes; Traffic::ALL.len()]| {
            std::array::from_fn(|index| PacketsAndBytes {
                packets: load(&shared[index].packets),
                bytes: load(&shared[index].bytes),
            })
        };
        Snapshot {
            counters: Counters {
                received: pairs(&self.received),
                sent: pairs(&self.sent),
                discarded: std::array::from_fn(|index| load(&self.discarded[index])),
                over_quota: std::array::from_fn(|index| load(&self.over_quota[index])),
                relay_sockets_opened: load(&self.relay_sockets_opened),
                memory_handovers: load(&self.memory_handovers),
                passed_to_workers: load(&self.passed_to_workers),
                peer_connections_opened: load(&self.peer_connections_opened),
                octets_to_peers: load(&self.octets_to_peers),
                octets_to_clients: load(&self.octets_to_clients),
                malformed_extensions: load(&self.malformed_extensions),
                events_lost: load(&self.events_lost),
            },
            lag: LoopLag {
                turns: load(&self.turns),
                total: Duration::from_nanos(load(&self.lag_total_ns)),
                longest: Duration::from_nanos(load(&self.lag_longest_ns)),
            },
            relay_sockets: load(&self.relay_sockets),
            streams: load(&self.streams),
            peer_connections: load(&self.peer_connections),
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let mut snapshot = Snapshot::default();
        snapshot.counters.received(Traffic::Rtp, 1200);
        snapshot.counters.sent(Traffic::Padding, 255);
        snapshot.counters.discard(Discard::SendFailed);
        snapshot.counters.refuse(Quota::Source);
        snapshot.counters.memory_handovers = 3;
        snapshot.counters.events_lost = 4;
        snapshot.counters.malformed_extensions = 11;
        snapshot.counters.passed_to_workers = 6;
        snapshot.counters.relay_sockets_opened = 2;
        snapshot.relay_sockets = 1;
        snapshot.streams = 5;
        snapshot.peer_connections = 7;
        snapshot.counters.peer_connections_opened = 8;
        snapshot.counters.octets_to_peers = 9;
        snapshot.counters.octets_to_clients = 10;
        snapshot.lag.record(Duration::from_micros(5));
        snapshot.lag.record(Duration::from_micros(3));
        let shared = SharedCounters::new();
        shared.publish(&snapshot);
        let read = shared.snapshot();
        assert_eq!(read.counters.received, snapshot.counters.received);
        assert_eq!(read.counters.sent, snapshot.counters.sent);
        assert_eq!(read.counters.discarded, snapshot.counters.discarded);
        assert_eq!(read.counters.over_quota, [0, 1, 0]);
        assert_eq!(read.counters.memory_handovers, 3);
        assert_eq!(read.counters.events_lost, 4);
        assert_eq!(read.counters.malformed_extensions, 11);
        assert_eq!(read.counters.passed_to_workers, 6);
        assert_eq!(read.counters.relay_sockets_opened, 2);
        assert_eq!(read.relay_sockets, 1);
        assert_eq!(read.streams, 5);
        assert_eq!(read.peer_connections, 7);
        assert_eq!(read.counters.peer_connections_opened, 8);
        assert_eq!(read.counters.octets_to_peers, 9);
        assert_eq!(read.counters.octets_to_clients, 10);
        assert_eq!(read.lag, snapshot.lag);
        assert_eq!(read.lag.longest, Duration::from_micros(5));
    }
}
