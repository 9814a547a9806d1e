//! Two workers on one port: what names the other one finds it, and its client with it.

use std::net::SocketAddr;
use std::time::Instant;

use datapath::mux::Mux;
use datapath::neighbours::Neighbours;
use datapath::stun::{Message, Method, Writer, channel_data};
use datapath::{Datagram, Deadline, Discard, Endpoint, Entropy, Node, Now, Order, Outbox, SocketEvent};
use relay::{Server, Settings, Share, partition};

use crate::client::{Client, LISTENER};
use crate::world::{PEER, UNIX, address, settings};

/// There is no call.
struct Nobody;

impl Node for Nobody {
    fn handle_batch(&mut self, _: Now, _: &mut [Datagram<'_>], _: &mut Outbox) {}
    fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}
    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

struct Worker {
    plane: Mux<Server, Nobody>,
    out: Outbox,
}

struct Two {
    workers: Vec<Worker>,
    now: Now,
}

/// Which worker has sent, where to, and what.
type Sent = (usize, Endpoint, SocketAddr, Vec<u8>);

impl Two {
    #[expect(clippy::disallowed_methods, reason = "a monotonic time to start from")]
    fn with(change: impl FnOnce(&mut Settings)) -> Two {
        let now = Now { instant: Instant::now(), unix: UNIX };
        let mut settings = settings();
        change(&mut settings);
        let ports = [0, 1].map(|worker| partition(settings.ports.clone(), worker, 2));
        let neighbours = Neighbours::connect(&ports, &[None, None], now.instant);
        let worker = |(share, neighbours)| {
            let settings = Settings { share, ..settings.clone() };
            let server = Server::new(settings, Entropy::from_seed([3; 32]), now);
            Worker { plane: Mux::new(server, Nobody, Vec::new()).with_neighbours(neighbours), out: Outbox::new() }
        };
        Two { workers: Share::among(2).zip(neighbours).map(worker).collect(), now }
    }

    /// A datagram arrives at one of them, and both act until nothing is left to do.
    fn deliver(&mut self, at: usize, local: Endpoint, remote: SocketAddr, payload: &[u8]) -> Vec<Sent> {
        let mut payload = payload.to_vec();
        let payload = &mut payload[..];
        let mut batch = [Datagram { local, remote, ecn: 0, received_at: self.now.instant, payload, origin: None }];
        let Worker { plane, out } = &mut self.workers[at];
        plane.handle_batch(self.now, &mut batch, out);
        let mut sent = Vec::new();
        for _ in 0..4 {
            for (index, Worker { plane, out }) in self.workers.iter_mut().enumerate() {
                plane.handle_timeout(self.now, out);
                for order in out.take_orders() {
                    let event = match order {
                        Order::ProbeRelay { relayed, .. } => SocketEvent::Free { relayed },
                        Order::OpenRelay { relayed } => SocketEvent::Opened { relayed },
                        other => panic!("{other:?}"),
                    };
                    plane.handle_event(self.now, event, out);
                }
                let octets =
                    |entry: &datapath::Entry| out.arena()[entry.head.start as usize..][..entry.head.len()].to_vec();
                sent.extend(out.entries().iter().map(|entry| (index, entry.local, entry.remote, octets(entry))));
                out.clear();
            }
        }
        sent
    }

    /// The answer to a request, and who gave it.
    fn ask(&mut self, at: usize, client: &mut Client, method: Method, fill: impl FnOnce(&mut Writer<'_>)) -> Answer {
        let request = client.request(method, fill);
        let mut sent = self.deliver(at, client.local, client.address, &request);
        assert_eq!(sent.len(), 1, "{sent:?}");
        let (worker, local, remote, octets) = sent.remove(0);
        assert_eq!((local, remote), (client.local, client.address));
        Answer { worker, octets }
    }

    fn challenge(&mut self, at: usize, client: &mut Client) {
        let request = client.plain(Method::ALLOCATE);
        let sent = self.deliver(at, client.local, client.address, &request);
        client.nonce = Message::parse(&sent[0].3).unwrap().nonce().unwrap().to_vec();
    }

    fn allocate(&mut self, at: usize, client: &mut Client, fill: impl FnOnce(&mut Writer<'_>)) -> Answer {
        self.challenge(at, client);
        let answer = self.ask(at, client, Method::ALLOCATE, |writer| fill(writer.requested_transport(17)));
        if answer.message().error_code().is_none() {
            client.relayed = answer.message().xor_relayed_address().unwrap();
        }
        answer
    }

    fn passed(&self) -> [u64; 2] {
        [0, 1].map(|worker: usize| self.workers[worker].out.counters.passed_to_workers)
    }
}

struct Answer {
    worker: usize,
    octets: Vec<u8>,
}

impl Answer {
    fn message(&self) -> Message<'_> {
        Message::parse(&self.octets).unwrap()
    }

    fn error(&self) -> Option<u16> {
        self.message().error_code().map(|code| code.0)
    }
}

#[test]
fn a_client_that_moves_to_the_other_worker_is_served_by_its_own() {
    let mut two = Two::with(|_| ());
    let mut bob = Client::bob();
    let answer = two.allocate(0, &mut bob, |writer| _ = writer.mobility_ticket(&[]));
    let ticket = answer.message().mobility_ticket().unwrap().to_vec();
    assert!(ticket.starts_with(b"00"));
    // What comes from the new address reaches the other worker, now and from then on.
    bob.address = address("8.8.8.8:9");
    two.challenge(1, &mut bob);
    let answer = two.ask(1, &mut bob, Method::REFRESH, |writer| _ = writer.lifetime(600).mobility_ticket(&ticket));
    assert_eq!((answer.worker, answer.error()), (0, None));
    let answer = two.ask(1, &mut bob, Method::CHANNEL_BIND, |writer| {
        writer.channel_number(0x4001).xor_peer_address(address(PEER));
    });
    assert_eq!((answer.worker, answer.error()), (0, None));
    let data = [&channel_data::header(0x4001, 5)[..], b"hello"].concat();
    let sent = two.deliver(1, LISTENER, bob.address, &data);
    assert_eq!(sent, [(0, Endpoint::Relay { address: bob.relayed }, address(PEER), b"hello".to_vec())]);
    let sent = two.deliver(0, Endpoint::Relay { address: bob.relayed }, address(PEER), b"hello");
    assert_eq!(sent, [(0, LISTENER, bob.address, data)]);
    assert_eq!(two.passed(), [0, 3]);
}

#[test]
fn a_ticket_in_strange_hands_makes_no_owner() {
    let mut two = Two::with(|_| ());
    let mut bob = Client::bob();
    let answer = two.allocate(0, &mut bob, |writer| _ = writer.mobility_ticket(&[]));
    let ticket = answer.message().mobility_ticket().unwrap().to_vec();
    let mut eve = Client::rest("1900000000:eve", "6.6.6.6:6");
    two.challenge(1, &mut eve);
    let answer = two.ask(1, &mut eve, Method::REFRESH, |writer| _ = writer.mobility_ticket(&ticket));
    assert_eq!((answer.worker, answer.error()), (0, Some(400)));
    let answer = two.allocate(1, &mut eve, |_| ());
    assert_eq!((answer.worker, answer.error()), (1, None));
}

#[test]
fn a_reserved_port_is_claimed_through_the_other_worker() {
    let mut two = Two::with(|_| ());
    let mut bob = Client::bob();
    let answer = two.allocate(1, &mut bob, |writer| _ = writer.even_port(true));
    let token = answer.message().reservation_token().unwrap();
    let mut second = Client { address: address("7.7.7.7:1001"), ..Client::bob() };
    let answer = two.allocate(0, &mut second, |writer| _ = writer.reservation_token(token));
    assert_eq!((answer.worker, answer.error()), (1, None));
    assert_eq!(second.relayed.port(), bob.relayed.port() + 1);
    let answer = two.ask(0, &mut second, Method::REFRESH, |writer| _ = writer.lifetime(600));
    assert_eq!((answer.worker, answer.error()), (1, None));
    // It ends, and the five-tuple is served where it was last, until it is forgotten.
    two.ask(0, &mut second, Method::REFRESH, |writer| _ = writer.lifetime(0));
    let answer = two.allocate(0, &mut second, |_| ());
    assert_eq!((answer.worker, answer.error()), (1, None));
}

#[test]
fn a_limit_is_one_limit() {
    let mut two = Two::with(|settings| settings.limits.allocations_per_user = 3);
    let mut clients: Vec<Client> =
        (0..4).map(|port| Client { address: ([7, 7, 7, 7], 1000 + port).into(), ..Client::bob() }).collect();
    let refused: Vec<Option<u16>> =
        clients.iter_mut().enumerate().map(|(index, bob)| two.allocate(index % 2, bob, |_| ()).error()).collect();
    assert_eq!(refused, [None, None, None, Some(486)]);
    two.ask(0, &mut clients[0], Method::REFRESH, |writer| _ = writer.lifetime(0));
    let [.., last] = &mut clients[..] else { unreachable!() };
    assert_eq!(two.allocate(1, last, |_| ()).error(), None);
}

#[test]
fn permissions_and_bandwidth_are_one_limit_too() {
    let mut two = Two::with(|settings| {
        settings.limits.permissions_per_user = 2;
        settings.limits.octets_per_second_of_user = Some(100_000);
    });
    let mut clients = [1000, 1001].map(|port| Client { address: ([7, 7, 7, 7], port).into(), ..Client::bob() });
    let permit = |two: &mut Two, clients: &mut [Client; 2], at: usize, host: u8| {
        two.ask(at, &mut clients[at], Method::CREATE_PERMISSION, |writer| {
            writer.xor_peer_address(([9, 9, 9, host], 1).into());
        })
        .error()
    };
    let relayed = [0, 1].map(|at| {
        two.allocate(at, &mut clients[at], |_| ());
        clients[at].relayed
    });
    assert_eq!([0, 1, 0, 1].map(|at| permit(&mut two, &mut clients, at, 9)), [None; 4]);
    assert_eq!([0, 1].map(|at| permit(&mut two, &mut clients, at, 8)), [Some(508); 2]);
    let mut passed = [0, 0];
    for _ in 0..200 {
        for at in [0, 1] {
            let peer = ([9, 9, 9, 9], 1).into();
            passed[at] += two.deliver(at, Endpoint::Relay { address: relayed[at] }, peer, &[7; 1000]).len();
        }
    }
    assert!((97..=100).contains(&(passed[0] + passed[1])) && passed.iter().all(|passed| *passed > 40), "{passed:?}");
}

#[test]
fn two_clients_meet_in_memory_and_nobody_else_does() {
    let mut two = Two::with(|_| ());
    let (mut bob, mut carol) = (Client::bob(), Client::rest("1900000000:carol", "8.8.8.1:1"));
    two.allocate(0, &mut bob, |_| ());
    two.allocate(1, &mut carol, |_| ());
    let peers = [carol.relayed, bob.relayed];
    for ((at, client), peer) in [(0, &mut bob), (1, &mut carol)].into_iter().zip(peers) {
        let answer = two.ask(at, client, Method::CHANNEL_BIND, |writer| {
            writer.channel_number(0x4001).xor_peer_address(peer);
        });
        assert_eq!(answer.error(), None);
    }
    let data = [&channel_data::header(0x4001, 5)[..], b"hello"].concat();
    assert_eq!(two.deliver(0, LISTENER, bob.address, &data), [(1, LISTENER, carol.address, data.clone())]);
    // Out of the network nothing comes under the address of another worker.
    let forged = two.deliver(0, Endpoint::Relay { address: bob.relayed }, carol.relayed, b"hello");
    assert_eq!(forged, []);
    assert_eq!(two.workers[0].out.counters.discarded(Discard::UnsolicitedPeer), 1);
    // When the other is gone, it is gone.
    two.ask(1, &mut carol, Method::REFRESH, |writer| _ = writer.lifetime(0));
    assert_eq!(two.deliver(0, LISTENER, bob.address, &data), []);
    assert_eq!(two.workers[1].out.counters.discarded(Discard::NoAllocation), 1);
}
