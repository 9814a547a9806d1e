use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use datapath::Entropy;

use crate::allocations::Id;
use crate::reply::Reply;

/// RFC 6062 §5.2 and §5.3: so long is a connection tried, and so long does it wait for its client.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A TCP connection between a relayed transport address and a peer (RFC 6062 §3: a peer data connection).
#[derive(Debug)]
pub struct Connection {
    pub allocation: Id,
    pub relayed: SocketAddr,
    pub peer: SocketAddr,
    pub state: State,
}

#[derive(Debug)]
pub enum State {
    /// The Connect request waits for the outcome.
    Connecting { reply: Box<Reply>, until: Instant },
    /// For a ConnectionBind.
    Waiting { until: Instant },
    /// Joined to a client's connection.
    Bound,
}

impl State {
    pub fn until(&self) -> Option<Instant> {
        match self {
            State::Connecting { until, .. } | State::Waiting { until } => Some(*until),
            State::Bound => None,
        }
    }
}

/// All of them, found by name (CONNECTION-ID) and by their two addresses.
#[derive(Debug)]
pub struct Connections {
    /// Keyed by 24 random bits of ours behind the worker's number.
    by_name: HashMap<u32, Connection>,
    /// By relayed address and peer. Clients and peers choose a part of the key: SipHash.
    by_addresses: HashMap<(SocketAddr, SocketAddr), u32>,
    /// When who waits is given up, in this order: all wait equally long. What does not wait any more stays until then.
    deadlines: VecDeque<(Instant, u32)>,
    /// To be ended at once.
    doomed: Vec<u32>,
    worker: u8,
    /// Long enough ago to be due at once.
    start: Instant,
}

impl Connections {
    pub fn new(worker: u8, now: Instant) -> Connections {
        Connections {
            by_name: HashMap::new(),
            by_addresses: HashMap::new(),
            deadlines: VecDeque::new(),
            doomed: Vec::new(),
            worker,
            start: now,
        }
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn get(&self, name: u32) -> Option<&Connection> {
        self.by_name.get(&name)
    }

    pub fn find(&self, relayed: SocketAddr, peer: SocketAddr) -> Option<u32> {
        self.by_addresses.get(&(relayed, peer)).copied()
    }

    /// Names the connection. The first octet is the worker's number ([`datapath::steering`]).
    pub fn insert(&mut self, connection: Connection, entropy: &mut Entropy) -> u32 {
        let name = loop {
            let name = u32::from(self.worker) << 24 | entropy.u64() as u32 >> 8;
            if !self.by_name.contains_key(&name) {
                break name;
            }
        };
        self.by_addresses.insert((connection.relayed, connection.peer), name);
        let until = connection.state.until();
        self.by_name.insert(name, connection);
        self.set_deadline(name, until);
        name
    }

    /// Gives it another state, and returns the one before.
    pub fn change(&mut self, name: u32, state: State) -> Option<State> {
        let until = state.until();
        let connection = self.by_name.get_mut(&name)?;
        let former = std::mem::replace(&mut connection.state, state);
        self.set_deadline(name, until);
        Some(former)
    }

    pub fn remove(&mut self, name: u32) -> Option<Connection> {
        let connection = self.by_name.remove(&name)?;
        self.by_addresses.remove(&(connection.relayed, connection.peer));
        if self.by_name.is_empty() {
            self.deadlines.clear();
            self.doomed.clear();
        }
        Some(connection)
    }

    fn set_deadline(&mut self, name: u32, until: Option<Instant>) {
        let Some(until) = until else { return };
        self.deadlines.push_back((until, name));
        // A client that connects and gives up all day must not fill the memory.
        if self.deadlines.len() > 64 + 2 * self.by_name.len() {
            let by_name = &self.by_name;
            let waits = |&(at, name): &(Instant, u32)| {
                by_name.get(&name).is_some_and(|connection| connection.state.until() == Some(at))
            };
            self.deadlines.retain(waits);
        }
    }

    /// The connection is to be ended as soon as the server is woken.
    pub fn doom(&mut self, name: u32) {
        self.doomed.push(name);
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Instant> {
        if self.doomed.is_empty() { self.deadlines.front().map(|&(at, _)| at) } else { Some(self.start) }
    }

    /// A connection that is to be ended, or that has waited long enough.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        if let Some(name) = self.doomed.pop() {
            return Some(name);
        }
        while let Some((at, name)) = self.deadlines.front().copied().filter(|&(at, _)| at <= now) {
            self.deadlines.pop_front();
            if self.by_name.get(&name).is_some_and(|connection| connection.state.until() == Some(at)) {
                return Some(name);
            }
        }
        None
    }
}
