//! A participant's address changes under it. The server follows, but only somebody who has shown the ICE password.

use std::net::Ipv4Addr;
use std::time::Duration;

use datapath::stun::{Class, Key, Method, TransactionId, Writer};
use datapath::{Datagram, Deadline, Discard, Endpoint, Node, Now, Outbox, SocketEvent};
use netsim::check::Sequences;
use netsim::link::Settings;
use netsim::meeting::{Access, MEDIA_PORT, Meeting, Member, SERVER_IP};
use netsim::nat::{Dependence, Nat, NatSpec};
use netsim::world::{HostId, HostSpec};
use sfu::TrackId;

struct Call {
    meeting: Meeting,
    nat: HostId,
    anna: Member,
    bert: Member,
    /// Anna's, and Bert's.
    cameras: [TrackId; 2],
}

/// Anna calls from behind a NAT; both send and both watch.
fn call(seed: u64, behaviour: Dependence) -> Call {
    let mut meeting = Meeting::new(seed);
    let nat = Nat::new(NatSpec {
        outside: Ipv4Addr::new(203, 0, 113, 1),
        inside: (Ipv4Addr::new(192, 168, 0, 0), 24),
        mapping: behaviour,
        filtering: behaviour,
        timeout: Duration::from_secs(120),
        hairpinning: false,
    });
    let line = Access::good([203, 0, 113, 1]);
    let gateway = HostSpec {
        name: "nat",
        addresses: vec![line.address.into()],
        listeners: Vec::new(),
        gateway: None,
        up: line.up,
        down: line.down,
    };
    let nat = meeting.world.add_host(gateway, nat);
    let home = Access { gateway: Some(nat), ..Access::good([192, 168, 0, 2]) };
    let anna = meeting.join(1, "anna", home);
    let bert = meeting.join(1, "bert", Access::good([198, 51, 100, 22]));
    meeting.connect(&[anna, bert]);
    let cameras = [meeting.publish_camera(anna), meeting.publish_camera(bert)];
    meeting.subscribe(bert, cameras[0]);
    meeting.subscribe(anna, cameras[1]);
    meeting.run_for(Duration::from_secs(3));
    Call { meeting, nat, anna, bert, cameras }
}

impl Call {
    fn shown(&mut self) -> [usize; 2] {
        let [annas, berts] = self.cameras;
        [self.meeting.shown(self.bert, annas), self.meeting.shown(self.anna, berts)]
    }

    /// Both see the other within two seconds from now on, and steadily after that.
    fn recovers(&mut self) {
        self.meeting.run_for(Duration::from_secs(2));
        let before = self.shown();
        self.meeting.run_for(Duration::from_secs(2));
        for (before, after) in before.into_iter().zip(self.shown()) {
            assert!(after >= before + 55, "{} frames in 2 s", after - before);
        }
        // What was sent was numbered without gaps, whether or not it arrived; but what waited for a silent link for a
        // second was not sent.
        let holes = self.meeting.world.check::<Sequences>().holes();
        assert!(holes <= 2, "{holes}");
    }

    fn discarded(&self, reason: Discard) -> u64 {
        self.meeting.world.counters(self.meeting.server).discarded(reason)
    }
}

fn rebinding(behaviour: Dependence) -> u64 {
    let mut call = call(1, behaviour);
    assert_eq!(call.discarded(Discard::UnknownFiveTuple), 0);
    call.meeting.world.program::<Nat>(call.nat).reboot();
    // Media comes from an unknown address now: it counts for nothing until a check has verified.
    call.meeting.run_for(Duration::from_millis(45));
    assert!(call.discarded(Discard::UnknownFiveTuple) > 0);
    call.recovers();
    let mapped = call.meeting.caller(call.anna).ice.mapped.unwrap();
    assert_eq!(mapped.ip(), Ipv4Addr::new(203, 0, 113, 1));
    assert_ne!(mapped.port(), 20_000, "the port that it had before");
    call.meeting.world.digest()
}

#[test]
fn a_nat_that_forgets_its_mappings() {
    for behaviour in
        [Dependence::EndpointIndependent, Dependence::AddressDependent, Dependence::AddressAndPortDependent]
    {
        assert_eq!(rebinding(behaviour), rebinding(behaviour));
    }
}

#[test]
fn a_host_that_moves_to_another_network() {
    let mut call = call(2, Dependence::EndpointIndependent);
    let new = [198, 51, 100, 77];
    let bert = call.bert;
    call.meeting.world.set_addresses(bert.host, vec![new.into()]);
    call.meeting.caller(bert).set_local(Endpoint::Listener { index: 0, ip: new.into() });
    call.recovers();
    assert_eq!(call.meeting.caller(bert).ice.mapped.unwrap().ip(), std::net::IpAddr::from(new));
}

/// Knows a participant's ufrag (it stands in the clear in every check) and not the password.
#[derive(Default)]
struct Impostor {
    answers: u64,
}

impl Impostor {
    fn attack(username: &[u8], out: &mut Outbox) {
        let local = Endpoint::Listener { index: 0, ip: IMPOSTOR.into() };
        let server = (SERVER_IP, MEDIA_PORT).into();
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, TransactionId([1; 12]));
        writer.username(username).priority(1).ice_controlling(1).use_candidate();
        let length = writer.finish_with_integrity(&Key::new(b"a guess"), true).unwrap();
        out.send(local, server, &buffer[..length]);
        // Something like media and like DTLS as well.
        out.send(local, server, &[0x80; 200]);
        out.send(local, server, &[22; 200]);
    }
}

impl Node for Impostor {
    fn handle_batch(&mut self, _: Now, batch: &mut [Datagram<'_>], _: &mut Outbox) {
        self.answers += batch.len() as u64;
    }
    fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}
    fn handle_timeout(&mut self, _: Now, _: &mut Outbox) {}
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

const IMPOSTOR: [u8; 4] = [198, 51, 100, 66];

#[test]
fn a_check_without_the_password_moves_nothing() {
    let mut call = call(3, Dependence::EndpointIndependent);
    let line = Access::good(IMPOSTOR);
    let spec = HostSpec {
        name: "impostor",
        addresses: vec![IMPOSTOR.into()],
        listeners: vec![40_000],
        gateway: None,
        up: line.up,
        down: line.down,
    };
    let impostor = call.meeting.world.add_host(spec, Impostor::default());
    let username = call.meeting.caller(call.bert).ice.username().to_owned();
    let before = call.shown();
    for _ in 0..50 {
        call.meeting.world.act(impostor, |_: &mut Impostor, _, out| Impostor::attack(username.as_bytes(), out));
        call.meeting.run_for(Duration::from_millis(20));
    }
    assert_eq!(call.discarded(Discard::BadIntegrity), 50);
    assert_eq!(call.discarded(Discard::UnknownFiveTuple), 100);
    assert_eq!(call.meeting.world.program::<Impostor>(impostor).answers, 0);
    for (before, after) in before.into_iter().zip(call.shown()) {
        assert!(after >= before + 29, "the call goes on: {} frames in 1 s", after - before);
    }
}

#[test]
fn after_the_network_heals_media_flows() {
    for (seed, outage) in [(4, 3), (5, 8), (6, 25)] {
        let mut call = call(seed, Dependence::EndpointIndependent);
        let good = Access::good([0; 4]);
        let cut = Settings { rate_bps: Some(0), ..good.up };
        call.meeting.world.set_links(call.bert.host, cut, cut);
        call.meeting.run_for(Duration::from_secs(outage));
        let during = call.shown();
        call.meeting.world.set_links(call.bert.host, good.up, good.down);
        call.meeting.run_for(Duration::from_millis(1500));
        let after = call.shown();
        assert!(after[0] > during[0] && after[1] > during[1], "{outage} s: {during:?} then {after:?}");
        call.recovers();
        let told = call.meeting.events.iter().any(|(_, event)| matches!(event, sfu::Event::Disconnected { .. }));
        assert_eq!(told, outage > 10, "{outage} s: a transport counts as silent after ten seconds");
    }
}
