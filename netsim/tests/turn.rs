//! TURN from behind a NAT: to a peer outside, and to the SFU in memory.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use datapath::{Datagram, Deadline, Discard, Endpoint, Node, Now, Outbox, SocketEvent};
use netsim::check::{Relaying, Sequences};
use netsim::link::Settings;
use netsim::loss::Loss;
use netsim::meeting::{Access, MEDIA_PORT, Meeting, SERVER_IP, TURN_PORT, account};
use netsim::nat::{Dependence, Nat, NatSpec};
use netsim::turn_client::TurnClient;
use netsim::workers::Workers;
use netsim::world::{HostId, HostSpec};

const HOME: [u8; 4] = [192, 168, 0, 2];
const PEER: [u8; 4] = [198, 51, 100, 50];
const STRANGER: [u8; 4] = [198, 51, 100, 51];
const PORT: u16 = 40_000;

fn local(ip: [u8; 4]) -> Endpoint {
    Endpoint::Listener { index: 0, ip: ip.into() }
}

/// A TURN client that keeps what its peers send.
struct User {
    turn: TurnClient,
    dead: bool,
    received: Vec<(SocketAddr, Vec<u8>)>,
}

impl Node for User {
    fn handle_batch(&mut self, now: Now, batch: &mut [Datagram<'_>], _: &mut Outbox) {
        for datagram in batch {
            if let Some((peer, range)) = self.turn.handle(now.instant, datagram.payload) {
                self.received.push((peer, datagram.payload[range].to_vec()));
            }
        }
    }
    fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}
    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.turn.handle_timeout(now.instant, out);
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        let at = self.turn.poll_timeout().filter(|_| !self.dead)?;
        Some(Deadline { at, reason: "a TURN client" })
    }
}

/// Sends everything back, and keeps who sent it.
#[derive(Default)]
struct Echo {
    sources: Vec<SocketAddr>,
}

impl Node for Echo {
    fn handle_batch(&mut self, _: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        for datagram in batch {
            self.sources.push(datagram.remote);
            out.send(datagram.local, datagram.remote, datagram.payload);
        }
    }
    fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}
    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

/// The strictest NAT: only what was sent to may answer, from the very port.
fn add_nat(meeting: &mut Meeting) -> HostId {
    let nat = Nat::new(NatSpec {
        outside: Ipv4Addr::new(203, 0, 113, 1),
        inside: (Ipv4Addr::new(192, 168, 0, 0), 24),
        mapping: Dependence::AddressAndPortDependent,
        filtering: Dependence::AddressAndPortDependent,
        timeout: Duration::from_secs(120),
        hairpinning: false,
    });
    let spec = HostSpec { listeners: Vec::new(), ..spec("nat", [203, 0, 113, 1], None) };
    meeting.world.add_host(spec, nat)
}

fn spec(name: &'static str, address: [u8; 4], gateway: Option<HostId>) -> HostSpec {
    let line = Access::good(address);
    HostSpec { name, addresses: vec![address.into()], listeners: vec![PORT], gateway, up: line.up, down: line.down }
}

struct Relayed {
    meeting: Meeting,
    nat: HostId,
    user: HostId,
    peer: HostId,
    stranger: HostId,
}

fn peer() -> SocketAddr {
    (PEER, PORT).into()
}

/// A client behind the NAT with one peer outside.
fn relayed(seed: u64, channel: Option<u16>) -> Relayed {
    let mut meeting = Meeting::new(seed);
    let nat = add_nat(&mut meeting);
    let now = meeting.world.now().instant;
    let server = (SERVER_IP, TURN_PORT).into();
    let mut turn = TurnClient::new(server, local(HOME), account(), now, meeting.world.entropy());
    turn.add_peer(now, peer(), channel);
    let user = User { turn, dead: false, received: Vec::new() };
    let user = meeting.world.add_host(spec("user", HOME, Some(nat)), user);
    let peer = meeting.world.add_host(spec("peer", PEER, None), Echo::default());
    let stranger = meeting.world.add_host(spec("stranger", STRANGER, None), Echo::default());
    let mut relayed = Relayed { meeting, nat, user, peer, stranger };
    relayed.meeting.world.run_until("a permission", Duration::from_secs(10), |world| {
        world.program::<User>(user).turn.is_ready(SocketAddr::from((PEER, PORT)))
    });
    relayed
}

impl Relayed {
    fn user(&mut self) -> &mut User {
        self.meeting.world.program(self.user)
    }

    /// Sends `count` datagrams of several sizes to the peer; how many of their echoes have come back.
    fn exchange(&mut self, count: u8) -> usize {
        let before = self.user().received.len();
        for number in 0..count {
            let payload = vec![number; usize::from(number) * 13 % 1200];
            self.meeting.world.act(self.user, |user: &mut User, _, out| user.turn.send(peer(), &payload, out));
            self.meeting.run_for(Duration::from_millis(20));
        }
        self.meeting.run_for(Duration::from_millis(200));
        self.user().received.len() - before
    }
}

fn outside(seed: u64, channel: Option<u16>) -> u64 {
    let mut call = relayed(seed, channel);
    assert_eq!(call.exchange(100), 100);
    let mut sizes: Vec<usize> = call.user().received.iter().map(|(_, payload)| payload.len()).collect();
    assert_eq!(sizes, (0..100).map(|number| number * 13 % 1200).collect::<Vec<_>>());
    sizes.dedup();
    let address = call.user().turn.relayed.unwrap();
    let world = &mut call.meeting.world;
    assert!(world.program::<Echo>(call.peer).sources.iter().all(|&source| source == address));
    assert_eq!(world.counters(call.meeting.server).relay_sockets_opened, 1);

    // Who has no permission does not get through, from outside or to outside.
    let stranger = call.stranger;
    world.act(stranger, |_: &mut Echo, _, out| out.send(local(STRANGER), address, b"let me in"));
    call.meeting.run_for(Duration::from_millis(100));
    let counters = call.meeting.world.counters(call.meeting.server);
    assert_eq!(counters.discarded(Discard::UnsolicitedPeer), 1);
    assert_eq!(call.user().received.len(), 100);
    let check = call.meeting.world.check::<Relaying>();
    assert_eq!(check.relayed, (100, 100), "the invariant has seen what was relayed");
    call.meeting.world.digest()
}

#[test]
fn a_peer_outside_by_send_and_data_indications() {
    assert_eq!(outside(1, None), outside(1, None));
}

#[test]
fn a_peer_outside_by_a_channel() {
    assert_eq!(outside(2, Some(0x4001)), outside(2, Some(0x4001)));
}

#[test]
fn refreshing_keeps_an_allocation_for_hours_and_silence_ends_it() {
    let mut call = relayed(3, Some(0x4001));
    // A NAT's mapping lives two minutes: something must be sent meanwhile, as real clients do.
    for _ in 0..130 {
        assert_eq!(call.exchange(1), 1);
        call.meeting.run_for(Duration::from_secs(60));
    }
    let address = call.user().turn.relayed.unwrap();
    call.user().dead = true;
    let peer = call.peer;
    let knock = |call: &mut Relayed| {
        call.meeting.world.act(peer, |_: &mut Echo, _, out| out.send(local(PEER), address, b"still there?"));
        call.meeting.run_for(Duration::from_millis(200));
    };
    // The invariant judges each of these knocks: past the permission nothing may come through.
    for _ in 0..100 {
        knock(&mut call);
        call.meeting.run_for(Duration::from_secs(10));
    }
    let server = call.meeting.server;
    assert_eq!(call.meeting.world.program::<Workers>(server).allocations(), 0);
    let unreachable = call.meeting.world.unreachable();
    knock(&mut call);
    assert_eq!(call.meeting.world.unreachable(), unreachable + 1, "its socket is closed");
}

#[test]
fn another_five_tuple_has_no_allocation() {
    let mut call = relayed(4, None);
    assert_eq!(call.exchange(5), 5);
    call.meeting.world.program::<Nat>(call.nat).reboot();
    assert_eq!(call.exchange(5), 0);
    let counters = call.meeting.world.counters(call.meeting.server);
    assert_eq!(counters.discarded(Discard::NoAllocation), 5);
}

#[test]
fn forbidden_peers_are_refused() {
    let mut call = relayed(5, None);
    let now = call.meeting.world.now().instant;
    for address in [[127, 0, 0, 1], [10, 0, 0, 1], [169, 254, 169, 254], [0, 0, 0, 0]] {
        call.user().turn.add_peer(now, (address, 80).into(), None);
    }
    // The server's own address is a peer for the sake of the SFU's candidate; no other port of it is.
    for (channel, port) in [(0x4001, 22), (0x4002, TURN_PORT)] {
        call.user().turn.add_peer(now, (SERVER_IP, port).into(), Some(channel));
    }
    call.meeting.run_for(Duration::from_secs(2));
    assert_eq!(call.user().turn.refusals, [403; 6]);
}

#[test]
fn allocation_and_permission_survive_loss() {
    for seed in 10..20 {
        let mut call = relayed(seed, Some(0x4001));
        let lossy = Settings { loss: Loss::Bernoulli(0.3), ..Access::good([0; 4]).up };
        call.meeting.world.set_links(call.user, lossy, lossy);
        let now = call.meeting.world.now().instant;
        let stranger = SocketAddr::from((STRANGER, PORT));
        call.user().turn.add_peer(now, stranger, Some(0x4002));
        let user = call.user;
        call.meeting.world.run_until("a second channel", Duration::from_secs(30), |world| {
            world.program::<User>(user).turn.is_ready(stranger)
        });
        let back = call.exchange(100);
        assert!((25..=75).contains(&back), "about 0.7² of them come back: {back}");
    }
}

/// Anna is behind the strictest NAT and may use the relay alone; Bert is not.
fn in_memory(seed: u64, loss: f64) -> u64 {
    let mut meeting = Meeting::new(seed);
    let nat = add_nat(&mut meeting);
    let good = Access::good(HOME);
    let line = Settings { loss: Loss::Bernoulli(loss), ..good.up };
    let anna = meeting.join(1, "anna", Access { gateway: Some(nat), turn: true, up: line, down: line, ..good });
    let bert = meeting.join(1, "bert", Access::good([198, 51, 100, 22]));
    meeting.connect(&[anna, bert]);
    let cameras = [meeting.publish_camera(anna), meeting.publish_camera(bert)];
    meeting.subscribe(bert, cameras[0]);
    meeting.subscribe(anna, cameras[1]);
    meeting.run_for(Duration::from_secs(6));
    for (viewer, camera) in [(bert, cameras[0]), (anna, cameras[1])] {
        let shown = meeting.shown(viewer, camera);
        assert!(shown >= 150, "{shown} frames in 6 s");
    }
    // The SFU saw Anna at her relayed address, and no socket was ever opened for it.
    let relayed = meeting.caller(anna).turn.as_ref().unwrap().relayed.unwrap();
    assert_eq!(meeting.caller(anna).ice.mapped, Some(relayed));
    let counters = meeting.world.counters(meeting.server).clone();
    assert_eq!(counters.relay_sockets_opened, 0);
    assert!(counters.memory_handovers > 1000, "{}", counters.memory_handovers);
    assert_eq!(counters.discarded(Discard::MemoryLoop), 0);
    assert_ne!(relayed.port(), MEDIA_PORT);
    if loss == 0.0 {
        let video = meeting.reception(anna, cameras[1]).reception;
        assert_eq!((video.missed, video.duplicates), (0, 0));
        assert_eq!(meeting.world.check::<Sequences>().holes(), 0);
        let discarded = counters.discarded.iter().sum::<u64>();
        assert_eq!(discarded, 0, "{counters:?}");
    }
    meeting.world.digest()
}

#[test]
fn the_sfu_through_the_relay_in_memory() {
    assert_eq!(in_memory(6, 0.0), in_memory(6, 0.0));
}

#[test]
fn the_sfu_through_the_relay_with_loss() {
    in_memory(7, 0.03);
}
