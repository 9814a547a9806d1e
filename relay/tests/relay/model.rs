//! Random histories against a model that keeps everything in ordered maps, cleans nothing up and asks for each datagram
//! what RFC 8656 says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use datapath::stun::{ChannelData, Class, Message, Method};
use datapath::{Endpoint, Order, SocketEvent};
use proptest::prelude::*;

use crate::client::Client;
use crate::world::{CANDIDATE, Turn, World, address};

const PERMISSIONS: usize = 3;
const CHANNELS: usize = 2;
const PER_USER: usize = 1;

/// Outside peers, a forbidden one, the candidate, a closed port of ours, and a peer of the other family.
const PEERS: [&str; 8] =
    ["9.9.9.9:1", "9.9.9.9:2", "9.9.9.8:1", "9.9.9.7:1", "10.0.0.1:1", CANDIDATE, "5.5.5.5:22", "[2600::9]:1"];

#[derive(Clone, Debug)]
enum Step {
    Allocate,
    /// The client's last Allocate once more.
    AllocateAgain,
    Refresh {
        seconds: u32,
    },
    Permit {
        peers: Vec<usize>,
    },
    Bind {
        number: u16,
        peer: usize,
    },
    Send {
        peer: usize,
    },
    SendChannel {
        number: u16,
    },
    /// A datagram from a peer arrives at the client's relay socket or in memory.
    FromPeer {
        peer: usize,
        in_memory: bool,
    },
    /// What became of the client's relay socket.
    Socket {
        opened: bool,
    },
    SocketGone,
    Pass {
        seconds: u64,
        woken: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    // The last three stand for the clients' relayed addresses.
    let peer = || prop_oneof![4 => 0usize..2, 3 => 0..PEERS.len() + 3];
    let number = || prop_oneof![1 => Just(0x3FFF), 8 => Just(0x4000u16), 3 => Just(0x4001), 1 => Just(0x7FFE)];
    prop_oneof![
        3 => Just(Step::Allocate),
        1 => Just(Step::AllocateAgain),
        2 => prop_oneof![Just(0), Just(600), Just(1200), Just(9999)].prop_map(|seconds| Step::Refresh { seconds }),
        4 => prop::collection::vec(peer(), 0..3).prop_map(|peers| Step::Permit { peers }),
        4 => (number(), peer()).prop_map(|(number, peer)| Step::Bind { number, peer }),
        4 => peer().prop_map(|peer| Step::Send { peer }),
        4 => number().prop_map(|number| Step::SendChannel { number }),
        6 => (peer(), any::<bool>()).prop_map(|(peer, in_memory)| Step::FromPeer { peer, in_memory }),
        4 => prop::bool::weighted(0.8).prop_map(|opened| Step::Socket { opened }),
        1 => Just(Step::SocketGone),
        4 => (prop_oneof![Just(1u64), Just(150), Just(300), Just(450)], any::<bool>())
            .prop_map(|(seconds, woken)| Step::Pass { seconds, woken }),
    ]
}

/// Mostly the same one, so that histories go deep.
fn client() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(0), 1 => Just(1), 2 => Just(2)]
}

/// What a turn did, without what only chance decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Success { client: usize, method: u16 },
    Refusal { client: usize, code: u16 },
    ToPeer { relayed: SocketAddr, peer: SocketAddr, outside: bool },
    DataToClient { client: usize, peer: SocketAddr },
    ChannelToClient { client: usize, number: u16 },
    Open { relayed: SocketAddr },
    Close { relayed: SocketAddr },
}

#[derive(Clone, Debug)]
enum Wish {
    Permit(Vec<SocketAddr>),
    Bind(u16, SocketAddr),
}

#[derive(Debug)]
enum Socket {
    Closed,
    Opening(Vec<Wish>),
    Open,
}

#[derive(Debug)]
struct Allocation {
    relayed: SocketAddr,
    transaction: u64,
    expires: u64,
    permissions: BTreeMap<IpAddr, u64>,
    /// The peer, whether it is outside, and the end.
    channels: BTreeMap<u16, (SocketAddr, bool, u64)>,
    socket: Socket,
}

#[derive(Default)]
struct Model {
    now: u64,
    allocations: BTreeMap<usize, Allocation>,
}

const USERS: [&str; 3] = ["1900000000:ann", "1900000001:ann", "1900000000:bea"];

impl Model {
    /// Ends what has run out.
    fn expire(&mut self) -> Vec<Effect> {
        let ended: Vec<usize> =
            self.allocations.iter().filter(|(_, a)| a.expires <= self.now).map(|(client, _)| *client).collect();
        ended.into_iter().flat_map(|client| self.end(client)).collect()
    }

    fn end(&mut self, client: usize) -> Option<Effect> {
        let allocation = self.allocations.remove(&client)?;
        let relayed = allocation.relayed;
        (!matches!(allocation.socket, Socket::Closed)).then_some(Effect::Close { relayed })
    }

    fn peer(&self, index: usize) -> SocketAddr {
        match PEERS.get(index) {
            Some(peer) => address(peer),
            None => {
                let relayed = self.allocations.get(&(index - PEERS.len())).map(|allocation| allocation.relayed);
                relayed.unwrap_or(address("5.5.5.5:49999"))
            }
        }
    }

    fn is_in_memory(&self, peer: SocketAddr) -> bool {
        peer == address(CANDIDATE) || self.allocations.values().any(|allocation| allocation.relayed == peer)
    }

    /// `Some(true)`: outside.
    fn reach(&self, peer: SocketAddr) -> Option<bool> {
        if self.is_in_memory(peer) { Some(false) } else { peer.ip().to_string().starts_with("9.9.9.").then_some(true) }
    }

    fn has_room(&self, client: usize, wish: &Wish) -> Result<(), u16> {
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

    fn fulfil(&mut self, client: usize, wish: &Wish) -> Effect {
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

    fn ask(&mut self, client: usize, wish: Wish) -> Vec<Effect> {
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
        if let Err(code) = self.has_room(client, &wish) {
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

    fn send(&mut self, client: usize, peer: SocketAddr, outside: bool) -> Vec<Effect> {
        let allocation = self.allocations.get_mut(&client).unwrap();
        let relayed = allocation.relayed;
        let mut effects = vec![Effect::ToPeer { relayed, peer, outside }];
        if outside && matches!(allocation.socket, Socket::Closed) {
            allocation.socket = Socket::Opening(vec![]);
            effects.push(Effect::Open { relayed });
        }
        effects
    }

    fn is_permitted(&self, client: usize, peer: SocketAddr) -> bool {
        self.allocations[&client].permissions.get(&peer.ip()).is_some_and(|end| *end > self.now)
    }

    fn peer_sends(&self, client: usize, peer: SocketAddr, in_memory: bool) -> Option<Effect> {
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

    fn allocate(&mut self, client: usize, transaction: u64) -> Result<(), u16> {
        if let Some(allocation) = self.allocations.get(&client) {
            return if allocation.transaction == transaction { Ok(()) } else { Err(437) };
        }
        let user = |client: usize| USERS[client].split_once(':').unwrap().1;
        if self.allocations.keys().filter(|other| user(**other) == user(client)).count() >= PER_USER {
            return Err(486);
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

/// What the real server did, in the model's words.
fn effects(turn: &Turn, clients: &[Client]) -> Vec<Effect> {
    let orders = turn.orders.iter().map(|order| match *order {
        Order::OpenRelay { relayed } => Effect::Open { relayed },
        Order::CloseRelay { relayed } => Effect::Close { relayed },
        Order::ProbeRelay { .. } => unreachable!("the world answers these"),
        Order::KeepStream { .. } => unreachable!("nobody comes over TCP"),
    });
    let sent = turn.sent.iter().map(|sent| match sent.local {
        Endpoint::Relay { address } => Effect::ToPeer { relayed: address, peer: sent.remote, outside: true },
        Endpoint::Memory { address } => Effect::ToPeer { relayed: address, peer: sent.remote, outside: false },
        Endpoint::Listener { .. } | Endpoint::Stream { .. } => {
            let client = clients.iter().position(|client| client.address == sent.remote).unwrap();
            if let Some(channel_data) = ChannelData::parse(&sent.payload) {
                assert_eq!(&sent.payload[channel_data.payload], b"payload");
                return Effect::ChannelToClient { client, number: channel_data.number };
            }
            let message = Message::parse(&sent.payload).unwrap();
            match message.class() {
                Class::SuccessResponse => Effect::Success { client, method: message.method().0 },
                Class::ErrorResponse => Effect::Refusal { client, code: message.error_code().unwrap().0 },
                _ => {
                    assert_eq!((message.method(), message.data()), (Method::DATA, Some(&b"payload"[..])));
                    Effect::DataToClient { client, peer: message.xor_peer_address().unwrap() }
                }
            }
        }
    });
    orders.chain(sent).collect()
}

/// The real server, the model, and the clients of both.
struct Pair {
    world: World,
    model: Model,
    clients: Vec<Client>,
    last_allocate: Vec<Option<(Vec<u8>, u64)>>,
}

impl Pair {
    fn new() -> Pair {
        let mut world = World::with(|settings| {
            settings.limits.permissions = PERMISSIONS;
            settings.limits.channels = CHANNELS;
            settings.limits.allocations_per_user = PER_USER;
            settings.limits.nonce_lifetime = Duration::from_secs(1 << 30);
        });
        let clients = USERS.iter().enumerate().map(|(index, user)| {
            let mut client = Client::rest(user, &format!("7.7.7.{index}:1"));
            client.challenge(&mut world);
            client
        });
        Pair { clients: clients.collect(), world, model: Model::default(), last_allocate: vec![None; USERS.len()] }
    }

    /// Lets both take the step and returns what each did.
    fn take(&mut self, client: usize, step: &Step) -> (Vec<Effect>, Vec<Effect>) {
        let Pair { world, model, clients, last_allocate } = self;
        if let Step::Pass { seconds, woken } = *step {
            let time = Duration::from_secs(seconds);
            model.now += seconds;
            if !woken {
                world.advance(time);
                return (vec![], vec![]);
            }
            return (effects(&world.pass(time), clients), model.expire());
        }
        let peers: Vec<SocketAddr> = (0..PEERS.len() + USERS.len()).map(|index| model.peer(index)).collect();
        let relayed = model.allocations.get(&client).map(|allocation| allocation.relayed);
        let mut expected = model.expire();
        let asker = &mut clients[client];
        let turn = match step {
            Step::Allocate | Step::AllocateAgain => {
                let (request, transaction) = match &last_allocate[client] {
                    Some(last) if matches!(step, Step::AllocateAgain) => last.clone(),
                    _ => {
                        let request = asker.request(Method::ALLOCATE, |writer| _ = writer.requested_transport(17));
                        (request, asker.transactions)
                    }
                };
                let turn = asker.send(world, &request);
                last_allocate[client] = Some((request, transaction));
                match model.allocate(client, transaction) {
                    Ok(()) => {
                        let answer = turn.sent.iter().find_map(|sent| Message::parse(&sent.payload).ok());
                        let relayed = answer.and_then(|answer| answer.xor_relayed_address()).expect("an allocation");
                        model.allocations.get_mut(&client).unwrap().relayed = relayed;
                        let distinct: BTreeSet<SocketAddr> = model.allocations.values().map(|a| a.relayed).collect();
                        assert_eq!(distinct.len(), model.allocations.len(), "a relayed address is nobody else's");
                        expected.push(Effect::Success { client, method: Method::ALLOCATE.0 });
                    }
                    Err(code) => expected.push(Effect::Refusal { client, code }),
                }
                turn
            }
            Step::Refresh { seconds } => {
                let now = model.now;
                match model.allocations.get_mut(&client) {
                    None => expected.push(Effect::Refusal { client, code: 437 }),
                    Some(_) if *seconds == 0 => {
                        expected.extend(model.end(client));
                        expected.push(Effect::Success { client, method: Method::REFRESH.0 });
                    }
                    Some(allocation) => {
                        allocation.expires = now + u64::from(*seconds).clamp(600, 3600);
                        expected.push(Effect::Success { client, method: Method::REFRESH.0 });
                    }
                }
                asker.refresh(world, *seconds)
            }
            Step::Permit { peers: chosen } => {
                let chosen: Vec<SocketAddr> = chosen.iter().map(|index| peers[*index]).collect();
                expected.extend(model.ask(client, Wish::Permit(chosen.clone())));
                asker.ask(world, Method::CREATE_PERMISSION, |writer| {
                    for peer in chosen {
                        writer.xor_peer_address(peer);
                    }
                })
            }
            Step::Bind { number, peer } => {
                expected.extend(model.ask(client, Wish::Bind(*number, peers[*peer])));
                asker.bind(world, *number, &peers[*peer].to_string())
            }
            Step::Send { peer } => {
                let peer = peers[*peer];
                if model.allocations.contains_key(&client)
                    && model.is_permitted(client, peer)
                    && let Some(outside) = model.reach(peer)
                {
                    expected.extend(model.send(client, peer, outside));
                }
                asker.send_data(world, &peer.to_string(), b"payload")
            }
            Step::SendChannel { number } => {
                let now = model.now;
                let channel = model.allocations.get(&client).and_then(|a| a.channels.get(number)).copied();
                if let Some((peer, outside, end)) = channel
                    && end > now
                    && model.is_permitted(client, peer)
                {
                    expected.extend(model.send(client, peer, outside));
                }
                asker.send_channel(world, *number, b"payload")
            }
            Step::FromPeer { peer, in_memory } => {
                let Some(relayed) = relayed else {
                    return (effects(&world.event(gone(address("5.5.5.5:1"))), clients), expected);
                };
                expected.extend(model.peer_sends(client, peers[*peer], *in_memory));
                let peer = peers[*peer].to_string();
                if *in_memory {
                    world.deliver_memory(relayed, &peer, b"payload")
                } else {
                    world.deliver_outside(relayed, &peer, b"payload")
                }
            }
            Step::Socket { opened } => {
                let relayed = relayed.unwrap_or(address("5.5.5.5:1"));
                if let Some(allocation) = model.allocations.get_mut(&client)
                    && let Socket::Opening(held) = &mut allocation.socket
                {
                    let held = std::mem::take(held);
                    allocation.socket = if *opened { Socket::Open } else { Socket::Closed };
                    for wish in held {
                        expected.push(match opened {
                            true => model.fulfil(client, &wish),
                            false => Effect::Refusal { client, code: 508 },
                        });
                    }
                }
                world.event(match opened {
                    true => SocketEvent::Opened { relayed },
                    false => SocketEvent::Failed { relayed },
                })
            }
            Step::SocketGone => {
                if let Some(allocation) = model.allocations.get_mut(&client)
                    && matches!(allocation.socket, Socket::Open)
                {
                    allocation.socket = Socket::Closed;
                }
                world.event(gone(relayed.unwrap_or(address("5.5.5.5:1"))))
            }
            Step::Pass { .. } => unreachable!("taken above"),
        };
        (effects(&turn, clients), expected)
    }
}

fn gone(relayed: SocketAddr) -> SocketEvent {
    SocketEvent::Closed { relayed }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_server_does_what_the_model_does(history in prop::collection::vec((client(), step()), 1..80)) {
        let mut pair = Pair::new();
        let beginning = (0..USERS.len()).map(|client| (client, Step::Allocate));
        for (index, (client, step)) in beginning.chain(history).enumerate() {
            let (mut real, mut expected) = pair.take(client, &step);
            real.sort();
            expected.sort();
            prop_assert_eq!(real, expected, "step {} of client {}: {:?}", index, client, step);
            prop_assert!(pair.world.server.allocations() >= pair.model.allocations.len());
        }
        pair.world.pass(Duration::from_secs(3600));
        prop_assert_eq!(pair.world.server.allocations(), 0);
        prop_assert!(datapath::Node::poll_timeout(&pair.world.server).is_none());
    }
}
