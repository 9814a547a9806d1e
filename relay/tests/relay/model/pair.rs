use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use datapath::SocketEvent;
use datapath::stun::{Message, Method};

use super::effect::{Effect, effects};
use super::reference::{Model, Socket, Wish};
use super::step::Step;
use super::{CHANNELS, IN_TOTAL, OF_SOURCE, OF_USER, PEERS, PERMISSIONS, USERS};
use crate::client::Client;
use crate::world::{World, address};

/// The real server, the model, and the clients of both.
pub struct Pair {
    pub world: World,
    pub model: Model,
    pub clients: Vec<Client>,
    pub last_allocate: Vec<Option<(Vec<u8>, u64)>>,
}

impl Pair {
    pub fn new() -> Pair {
        let mut world = World::with(|settings| {
            let limits = &mut settings.limits;
            (limits.permissions, limits.channels) = (PERMISSIONS, CHANNELS);
            [limits.allocations_per_user, limits.permissions_per_user, limits.channels_per_user] = OF_USER;
            [limits.allocations_per_prefix, limits.permissions_per_prefix, limits.channels_per_prefix] = OF_SOURCE;
            [limits.allocations, limits.permissions_in_total, limits.channels_in_total] = IN_TOTAL;
            settings.limits.nonce_lifetime = Duration::from_secs(1 << 30);
        });
        let clients = USERS.iter().enumerate().map(|(index, user)| {
            let mut client = Client::rest(user, &format!("7.7.{}.{index}:1", index % 2));
            client.challenge(&mut world);
            client
        });
        Pair { clients: clients.collect(), world, model: Model::default(), last_allocate: vec![None; USERS.len()] }
    }

    /// Lets both take the step and returns what each did.
    pub fn take(&mut self, client: usize, step: &Step) -> (Vec<Effect>, Vec<Effect>) {
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
