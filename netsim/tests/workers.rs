//! Several workers on one port: what arrives at the wrong one is as good as what arrives at the right one.

use std::net::SocketAddr;
use std::time::Duration;

use datapath::stun::channel_data;
use datapath::{Datagram, Deadline, Discard, Endpoint, Node, Now, Outbox, SocketEvent};
use netsim::check::Sequences;
use netsim::meeting::{Access, Meeting, Member, SERVER_IP, TURN_PORT, account};
use netsim::turn_client::TurnClient;
use netsim::workers::{Workers, by_address};
use netsim::world::{HostId, HostSpec};
use sfu::TrackId;

const WORKERS: u8 = 3;
const ANNA: [u8; 4] = [198, 51, 100, 21];
const BERT: [u8; 4] = [198, 51, 100, 22];

/// Room 1 is at worker 1, and the kernel gives everything to worker 0,
fn to_the_wrong_one(_: SocketAddr, _: usize) -> usize {
    0
}

/// or what comes from Anna to worker 0 and from Bert to worker 2.
fn to_two_wrong_ones(remote: SocketAddr, _: usize) -> usize {
    if remote.ip() == std::net::IpAddr::from(ANNA) { 0 } else { 2 }
}

struct Call {
    meeting: Meeting,
    anna: Member,
    bert: Member,
    /// Anna's, and Bert's.
    cameras: [TrackId; 2],
}

/// Both send and both watch, in room 1.
fn call(mut meeting: Meeting, turn: bool) -> Call {
    let anna = meeting.join(1, "anna", Access { turn, ..Access::good(ANNA) });
    let bert = meeting.join(1, "bert", Access { turn, ..Access::good(BERT) });
    meeting.connect(&[anna, bert]);
    let cameras = [meeting.publish_camera(anna), meeting.publish_camera(bert)];
    meeting.subscribe(bert, cameras[0]);
    meeting.subscribe(anna, cameras[1]);
    meeting.run_for(Duration::from_secs(4));
    Call { meeting, anna, bert, cameras }
}

impl Call {
    /// Whatever way it took: all of it came, once and in order.
    fn is_clean(&mut self) {
        for (viewer, camera) in [(self.bert, self.cameras[0]), (self.anna, self.cameras[1])] {
            let video = self.meeting.reception(viewer, camera);
            assert!(video.shown.len() >= 110, "{} frames in 4 s", video.shown.len());
            assert_eq!((video.reception.missed, video.reception.duplicates), (0, 0));
        }
        assert_eq!(self.meeting.world.check::<Sequences>().holes(), 0);
        let counters = self.meeting.world.counters(self.meeting.server);
        assert_eq!(counters.discarded.iter().sum::<u64>(), 0, "{counters:?}");
    }

    fn passed(&self) -> u64 {
        self.meeting.world.counters(self.meeting.server).passed_to_workers
    }
}

fn at_the_wrong_workers(steering: netsim::workers::Steering) -> u64 {
    let mut call = call(Meeting::among(WORKERS, steering, 1), false);
    call.is_clean();
    assert!(call.passed() > 1000, "{}", call.passed());
    call.meeting.world.digest()
}

#[test]
fn a_call_whose_packets_arrive_at_the_wrong_workers() {
    assert_eq!(at_the_wrong_workers(to_the_wrong_one), at_the_wrong_workers(to_the_wrong_one));
    assert_eq!(at_the_wrong_workers(to_two_wrong_ones), at_the_wrong_workers(to_two_wrong_ones));
}

#[test]
fn a_call_is_the_same_with_one_worker_and_with_three() {
    let shown = |meeting| {
        let mut call = call(meeting, false);
        [call.meeting.shown(call.bert, call.cameras[0]), call.meeting.shown(call.anna, call.cameras[1])]
    };
    assert_eq!(shown(Meeting::among(WORKERS, to_two_wrong_ones, 2)), shown(Meeting::new(2)));
}

#[test]
fn the_right_worker_passes_nothing_on() {
    let mut call = call(Meeting::among(WORKERS, |_, _| 1, 1), false);
    call.is_clean();
    assert_eq!(call.passed(), 0);
}

/// Both reach the SFU through the relay alone, whose workers are not that of the room.
fn through_the_relay(seed: u64) -> u64 {
    let mut call = call(Meeting::among(WORKERS, to_two_wrong_ones, seed), true);
    call.is_clean();
    let counters = call.meeting.world.counters(call.meeting.server).clone();
    assert_eq!(counters.relay_sockets_opened, 0);
    assert!(counters.memory_handovers > 2000 && counters.passed_to_workers > 2000, "{counters:?}");
    // Each has a port of its worker's third.
    let mut port = |member| call.meeting.caller(member).turn.as_ref().unwrap().relayed.unwrap().port();
    let part = |worker| relay::partition(49_152..=65_535, worker, WORKERS.into());
    assert!(part(0).contains(&port(call.anna)) && part(2).contains(&port(call.bert)));
    call.meeting.world.digest()
}

#[test]
fn the_sfu_of_another_worker_through_the_relay_in_memory() {
    assert_eq!(through_the_relay(3), through_the_relay(3));
}

/// Bert moves to a network whose packets arrive at another worker; later Anna comes from where Bert was.
fn moving(seed: u64) -> u64 {
    let mut call = call(Meeting::among(WORKERS, by_address, seed), false);
    for (round, host) in (40..46).enumerate() {
        let member = [call.bert, call.anna][round % 2];
        call.meeting.move_to(member, [198, 51, 100, host]);
        call.meeting.run_for(Duration::from_secs(2));
        let before = [call.meeting.shown(call.bert, call.cameras[0]), call.meeting.shown(call.anna, call.cameras[1])];
        call.meeting.run_for(Duration::from_secs(1));
        let after = [call.meeting.shown(call.bert, call.cameras[0]), call.meeting.shown(call.anna, call.cameras[1])];
        // Half of the frames at least, while it is not known yet what the new link carries.
        assert!(before.iter().zip(after).all(|(before, after)| after >= before + 14), "{before:?} then {after:?}");
    }
    assert_eq!(call.meeting.world.check::<Sequences>().holes(), 0);
    assert!(call.passed() > 1000);
    call.meeting.world.digest()
}

#[test]
fn a_host_that_moves_from_worker_to_worker() {
    assert_eq!(moving(4), moving(4));
}

#[test]
fn an_address_that_joins_another_room_belongs_to_that_worker() {
    let mut meeting = Meeting::among(WORKERS, to_the_wrong_one, 5);
    let first = meeting.join(1, "first", Access::good(ANNA));
    meeting.connect(&[first]);
    let camera = meeting.publish_camera(first);
    meeting.run_for(Duration::from_secs(1));
    // The browser is closed; another tab uses the very same port, first in the room of the worker that receives.
    for (round, room) in [3, 2, 3, 1].into_iter().enumerate() {
        if round == 0 {
            meeting.unpublish(camera);
        }
        let member = *meeting.members().last().unwrap();
        meeting.leave(member);
        meeting.world.set_addresses(member.host, vec![]);
        let next = meeting.join(room, "next", Access::good(ANNA));
        let other = meeting.join(room, "other", Access::good([198, 51, 100, 60 + round as u8]));
        meeting.connect(&[next, other]);
        let camera = meeting.publish_camera(next);
        meeting.subscribe(other, camera);
        meeting.run_for(Duration::from_secs(2));
        let shown = meeting.shown(other, camera);
        assert!(shown >= 50, "room {room}: {shown} frames in 2 s");
        meeting.leave(other);
    }
}

const PORT: u16 = 40_000;
const CHANNEL: u16 = 0x4001;

/// A TURN client that keeps what its peer sends.
struct User {
    turn: TurnClient,
    received: Vec<Vec<u8>>,
}

impl Node for User {
    fn handle_batch(&mut self, now: Now, batch: &mut [Datagram<'_>], _: &mut Outbox) {
        for datagram in batch {
            if let Some((_, range)) = self.turn.handle(now.instant, datagram.payload) {
                self.received.push(datagram.payload[range].to_vec());
            }
        }
    }
    fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}
    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        self.turn.handle_timeout(now.instant, out);
    }
    fn poll_timeout(&self) -> Option<Deadline> {
        Some(Deadline { at: self.turn.poll_timeout()?, reason: "a TURN client" })
    }
}

fn add_user(meeting: &mut Meeting, name: &'static str, ip: [u8; 4]) -> HostId {
    let local = Endpoint::Listener { index: 0, ip: ip.into() };
    let now = meeting.world.now().instant;
    let turn = TurnClient::new((SERVER_IP, TURN_PORT).into(), local, account(), now, meeting.world.entropy());
    let line = Access::good(ip);
    let spec = HostSpec {
        name,
        addresses: vec![ip.into()],
        listeners: vec![PORT],
        gateway: None,
        up: line.up,
        down: line.down,
    };
    let user = meeting.world.add_host(spec, User { turn, received: Vec::new() });
    meeting
        .world
        .run_until("an allocation", Duration::from_secs(5), |world| world.program::<User>(user).turn.relayed.is_some());
    user
}

/// Two clients whose allocations are at different workers, each the other's peer.
fn relay_to_relay(seed: u64, channel: Option<u16>) -> u64 {
    let mut meeting = Meeting::among(WORKERS, to_two_wrong_ones, seed);
    let users = [("anna", ANNA), ("bert", BERT)].map(|(name, ip)| add_user(&mut meeting, name, ip));
    let addresses = users.map(|user| meeting.world.program::<User>(user).turn.relayed.unwrap());
    let now = meeting.world.now().instant;
    for (user, peer) in users.into_iter().zip([addresses[1], addresses[0]]) {
        meeting.world.program::<User>(user).turn.add_peer(now, peer, channel);
        meeting
            .world
            .run_until("a permission", Duration::from_secs(5), |world| world.program::<User>(user).turn.is_ready(peer));
    }
    let payloads: Vec<Vec<u8>> = (0..100).map(|number| vec![number; usize::from(number) * 13 % 1200]).collect();
    for payload in &payloads {
        for (user, peer) in users.into_iter().zip([addresses[1], addresses[0]]) {
            meeting.world.act(user, |user: &mut User, _, out| user.turn.send(peer, payload, out));
        }
        meeting.run_for(Duration::from_millis(20));
    }
    for user in users {
        assert_eq!(meeting.world.program::<User>(user).received, payloads);
    }
    let counters = meeting.world.counters(meeting.server);
    assert_eq!((counters.relay_sockets_opened, counters.passed_to_workers), (0, 200));
    assert_eq!(counters.discarded.iter().sum::<u64>(), 0, "{counters:?}");
    meeting.world.digest()
}

#[test]
fn two_clients_of_different_workers_in_memory() {
    assert_eq!(relay_to_relay(6, None), relay_to_relay(6, None));
    assert_eq!(relay_to_relay(7, Some(CHANNEL)), relay_to_relay(7, Some(CHANNEL)));
}

#[test]
fn what_goes_to_nobodys_port_of_another_worker_is_lost_there() {
    let mut meeting = Meeting::among(WORKERS, to_two_wrong_ones, 8);
    let anna = add_user(&mut meeting, "anna", ANNA);
    let free = relay::partition(49_152..=65_535, 1, WORKERS.into()).start() + 100;
    let peer = SocketAddr::from((SERVER_IP, free));
    let now = meeting.world.now().instant;
    meeting.world.program::<User>(anna).turn.add_peer(now, peer, Some(CHANNEL));
    meeting
        .world
        .run_until("a channel", Duration::from_secs(5), |world| world.program::<User>(anna).turn.is_ready(peer));
    meeting.world.act(anna, |user: &mut User, _, out| user.turn.send(peer, b"anybody there?", out));
    meeting.run_for(Duration::from_millis(100));
    let counters = meeting.world.counters(meeting.server);
    assert_eq!((counters.passed_to_workers, counters.discarded(Discard::NoAllocation)), (1, 1));
    assert_eq!(counters.relay_sockets_opened, 0);
}

#[test]
fn strangers_who_name_another_worker_leave_nothing_behind() {
    let mut call = call(Meeting::among(WORKERS, to_the_wrong_one, 9), false);
    let username = call.meeting.caller(call.bert).ice.username().to_owned();
    let stranger = [198, 51, 100, 66];
    let local = Endpoint::Listener { index: 0, ip: stranger.into() };
    let line = Access::good(stranger);
    let spec = HostSpec {
        name: "stranger",
        addresses: vec![stranger.into()],
        listeners: vec![PORT],
        gateway: None,
        up: line.up,
        down: line.down,
    };
    let stranger = call.meeting.world.add_host(spec, Silent);
    let before = [call.meeting.shown(call.bert, call.cameras[0]), call.meeting.shown(call.anna, call.cameras[1])];
    for _ in 0..50 {
        call.meeting.world.act(stranger, |_: &mut Silent, _, out| {
            let server = (SERVER_IP, netsim::meeting::MEDIA_PORT).into();
            use datapath::stun::{Class, Key, Method, TransactionId, Writer};
            let mut buffer = [0; 256];
            let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, TransactionId([1; 12]));
            writer.username(username.as_bytes()).priority(1).ice_controlling(1).use_candidate();
            let length = writer.finish_with_integrity(&Key::new(b"a guess"), true).unwrap();
            out.send(local, server, &buffer[..length]);
            out.send(local, server, &[0x80; 200]);
            out.send(local, server, &channel_data::header(CHANNEL, 0));
        });
        call.meeting.run_for(Duration::from_millis(20));
    }
    let counters = call.meeting.world.counters(call.meeting.server);
    // The checks are found wanting where they lead; nothing of what follows is passed on.
    assert_eq!(counters.discarded(Discard::BadIntegrity), 50);
    assert_eq!(counters.discarded(Discard::UnknownFiveTuple), 50);
    assert_eq!(counters.discarded(Discard::NoAllocation), 50);
    let after = [call.meeting.shown(call.bert, call.cameras[0]), call.meeting.shown(call.anna, call.cameras[1])];
    assert!(before.iter().zip(after).all(|(before, after)| after >= before + 29), "the call goes on");
    let planes = &call.meeting.world.program::<Workers>(call.meeting.server).planes;
    assert!(planes.iter().all(|plane| !plane.neighbours().unwrap().is_waiting()));
}

struct Silent;

impl Node for Silent {
    fn handle_batch(&mut self, _: Now, _: &mut [Datagram<'_>], _: &mut Outbox) {}
    fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}
    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}
