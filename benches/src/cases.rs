//! What is measured, on whom, and what it is to come to.

use crate::servers::{self, Running, Server};

/// Something that is measured on several servers.
pub struct Case {
    pub name: &'static str,
    pub load: Load,
    /// The server under test may take at most so many times what the other takes.
    pub goals: &'static [(Server, f64)],
}

pub enum Load {
    FanOut {
        rooms: usize,
        subscribers: usize,
        pacing: &'static str,
        /// Subscribers tell of their links by reports and REMB only. The floor hears of no link at all, so this is what
        /// forwarding alone costs above it.
        reports_only: bool,
    },
    Relay {
        size: usize,
        packets_per_second: u32,
        train: usize,
        allocations: usize,
        between_clients: bool,
    },
    /// How long a relayed packet is under way, at a load that wakes a server for each.
    Latency,
}

/// A server that finds out what its subscribers' links carry does so in the first seconds of a call.
const PROBING_SECONDS: u32 = 4;

/// Packets a second of all flows together in [`Load::Latency`].
const LATENCY_PACKETS_PER_SECOND: u32 = 2_000;

const fn relay(size: usize, packets_per_second: u32, train: usize) -> Load {
    Load::Relay { size, packets_per_second, train, allocations: 50, between_clients: false }
}

pub const FEW_ALLOCATIONS: &str = "relay 160 B, 10 allocations";
pub const MANY_ALLOCATIONS: &str = "relay 160 B, 10,000 allocations";

pub const CASES: [Case; 14] = [
    Case {
        name: "fan-out 1→10, trains of 7",
        load: Load::FanOut { rooms: 1, subscribers: 10, pacing: "train", reports_only: false },
        goals: &[],
    },
    Case {
        name: "fan-out 1→50, trains of 7",
        load: Load::FanOut { rooms: 1, subscribers: 50, pacing: "train", reports_only: false },
        goals: &[(Server::Floor, 1.7), (Server::LiveKit, 0.2)],
    },
    Case {
        name: "fan-out 1→50, trains of 7, reports only",
        load: Load::FanOut { rooms: 1, subscribers: 50, pacing: "train", reports_only: true },
        goals: &[(Server::Floor, 1.5), (Server::LiveKit, 0.2)],
    },
    Case {
        name: "fan-out 1→10, trains of 1",
        load: Load::FanOut { rooms: 1, subscribers: 10, pacing: "spread", reports_only: false },
        goals: &[],
    },
    Case {
        name: "fan-out 1→50, trains of 1",
        load: Load::FanOut { rooms: 1, subscribers: 50, pacing: "spread", reports_only: false },
        goals: &[(Server::Floor, 1.7)],
    },
    Case {
        name: "4 × fan-out 1→50, trains of 7",
        load: Load::FanOut { rooms: 4, subscribers: 50, pacing: "train", reports_only: false },
        goals: &[],
    },
    Case {
        name: "relay 160 B, 100,000/s",
        load: relay(160, 100_000, 1),
        goals: &[(Server::Floor, 1.1), (Server::Coturn, 0.65)],
    },
    Case {
        name: "relay 160 B, 100,000/s in trains of 8",
        load: relay(160, 100_000, 8),
        goals: &[(Server::Floor, 1.1), (Server::Coturn, 0.45)],
    },
    Case {
        name: "relay 1200 B, 50,000/s",
        load: relay(1200, 50_000, 1),
        goals: &[(Server::Floor, 1.1), (Server::Coturn, 0.65)],
    },
    Case {
        name: "relay 1200 B, 50,000/s in trains of 8",
        load: relay(1200, 50_000, 8),
        goals: &[(Server::Floor, 1.1), (Server::Coturn, 0.45)],
    },
    Case {
        name: "relay ↔ relay 160 B, 50,000/s",
        load: Load::Relay { size: 160, packets_per_second: 50_000, train: 1, allocations: 50, between_clients: true },
        goals: &[(Server::Coturn, 0.5)],
    },
    Case {
        name: FEW_ALLOCATIONS,
        load: Load::Relay { size: 160, packets_per_second: 20_000, train: 1, allocations: 10, between_clients: false },
        goals: &[],
    },
    Case {
        name: MANY_ALLOCATIONS,
        load: Load::Relay {
            size: 160,
            packets_per_second: 20_000,
            train: 1,
            allocations: 10_000,
            between_clients: false,
        },
        goals: &[],
    },
    Case { name: "latency of a relayed packet at 2,000/s", load: Load::Latency, goals: &[] },
];

impl Case {
    /// Whether the server can do this at all, and is worth being compared.
    pub fn concerns(&self, server: Server) -> bool {
        match self.load {
            Load::FanOut { .. } => matches!(server, Server::Floor | Server::Hausruf | Server::LiveKit),
            Load::Relay { allocations, .. } if allocations > 1000 => {
                matches!(server, Server::Floor | Server::Hausruf)
            }
            Load::Relay { .. } => server != Server::LiveKit,
            Load::Latency => matches!(server, Server::Floor | Server::Hausruf | Server::Coturn),
        }
    }

    /// What ought to arrive: every subscriber has seven packets in 33⅓ ms.
    pub fn packets_per_second(&self) -> f64 {
        match self.load {
            Load::FanOut { rooms, subscribers, .. } => (rooms * subscribers * 7 * 30) as f64,
            Load::Relay { packets_per_second, .. } => packets_per_second.into(),
            Load::Latency => LATENCY_PACKETS_PER_SECOND.into(),
        }
    }

    /// The generator's command line, but for the measurement.
    pub fn arguments(&self, running: &Running, round: usize) -> String {
        match (&self.load, running.server) {
            (Load::FanOut { rooms, subscribers, pacing, .. }, Server::Floor) => format!(
                "fanout --server {} --rooms {rooms} --subscribers {subscribers} --pacing {pacing}",
                servers::FLOOR
            ),
            (Load::FanOut { rooms, subscribers, pacing, reports_only }, _) => format!(
                "loadgen {} --room bench-{round}-{rooms}-{subscribers}-{pacing}-{reports_only} --rooms {rooms} --publishers 1 \
                 --subscribers {subscribers} --pacing {pacing} --no-audio --settle {PROBING_SECONDS}{}",
                running.login(),
                if *reports_only { " --reports-only" } else { "" }
            ),
            (Load::Relay { size, packets_per_second, train, allocations, between_clients }, _) => format!(
                "relay {} --allocations {allocations} --size {size} --packets-per-second {packets_per_second} \
                 --train {train}{}",
                running.turn_login(),
                if *between_clients { " --between-clients" } else { "" }
            ),
            (Load::Latency, _) => format!(
                "relay {} --allocations 10 --size 160 --packets-per-second {LATENCY_PACKETS_PER_SECOND} --latency",
                running.turn_login()
            ),
        }
    }
}
