//! The DTLS handshake over links that lose packets. DTLS draws entropy of its own, so there is no digest: the outcome
//! is judged, over many seeds.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use datapath::stun::{Key, Message};
use datapath::{Datagram, Deadline, Endpoint, Node, Now, Outbox, SocketEvent};
use dimpl::{Dtls, Output};
use netsim::check::Amplification;
use netsim::ice_agent::IceAgent;
use netsim::link::Settings;
use netsim::loss::Loss;
use netsim::meeting::{MEDIA_PORT, Meeting, SERVER_IP};
use netsim::world::HostSpec;
use sfu::transport::Certificate;
use sfu::{Command, Event, Fingerprint, IceCredentials, ParticipantId, RoomId, TransportSpec};

const CALLER: [u8; 4] = [198, 51, 100, 21];
const LOCAL: Endpoint = Endpoint::Listener {
    index: 0,
    ip: std::net::IpAddr::V4(std::net::Ipv4Addr::new(CALLER[0], CALLER[1], CALLER[2], CALLER[3])),
};

/// A DTLS client behind ICE, as a browser is.
struct DtlsCaller {
    ice: IceAgent,
    dtls: Dtls,
    wake: Option<Instant>,
    connected: bool,
    failed: bool,
    has_keys: bool,
    server_certificate: Option<Vec<u8>>,
}

impl DtlsCaller {
    fn drive(&mut self, out: &mut Outbox) {
        let server = SocketAddr::from((SERVER_IP, MEDIA_PORT));
        let mut buffer = vec![0; 4096];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => out.send(LOCAL, server, packet),
                Output::Connected => self.connected = true,
                Output::PeerCert(der) => self.server_certificate = Some(der.to_vec()),
                Output::KeyingMaterial(..) => self.has_keys = true,
                Output::Timeout(at) => {
                    self.wake = Some(at);
                    return;
                }
                _ => {}
            }
        }
    }
}

impl Node for DtlsCaller {
    fn handle_batch(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        for datagram in batch {
            match datagram.payload.first() {
                Some(0..=3) => {
                    let message = Message::parse(datagram.payload).unwrap();
                    self.ice.handle_answer(now.instant, &message);
                }
                Some(20..=63) => self.failed |= self.dtls.handle_packet(datagram.payload).is_err(),
                _ => {}
            }
        }
        if self.ice.is_connected() {
            self.failed |= self.dtls.handle_timeout(now.instant).is_err();
            self.drive(out);
        }
    }

    fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if let Some(check) = self.ice.poll_check(now.instant) {
            out.send(LOCAL, (SERVER_IP, MEDIA_PORT).into(), &check);
        }
        if self.ice.is_connected() && !self.failed {
            self.failed |= self.dtls.handle_timeout(now.instant).is_err();
            self.drive(out);
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let dtls = self.wake.filter(|_| self.ice.is_connected() && !self.failed);
        let at = dtls.into_iter().chain([self.ice.poll_timeout()]).min()?;
        Some(Deadline { at, reason: "a DTLS client" })
    }
}

/// How long the handshake took until both sides had it, if they did within half a minute.
fn handshake(seed: u64, loss: Loss, expected: impl Fn(&Certificate) -> Fingerprint) -> (Meeting, Option<Duration>) {
    let mut meeting = Meeting::new(seed);
    let id = ParticipantId(1);
    let credentials =
        |name: &str| IceCredentials { ufrag: name.into(), pwd: format!("{name}-password-of-22-characters") };
    let (ours, theirs) = (credentials("server"), credentials("caller"));
    let certificate = Certificate::generate().unwrap();
    meeting.world.check::<Amplification>().add_key(Key::new(ours.pwd.as_bytes()));
    meeting.command(Command::Join { room: RoomId(1), participant: id });
    let remote_fingerprint = expected(&certificate);
    let transport = TransportSpec { local_ice: ours.clone(), remote_ice: theirs.clone(), remote_fingerprint };
    meeting.command(Command::SetTransport { participant: id, transport });
    let now = meeting.world.now().instant;
    let mut dtls = certificate.endpoint(now);
    dtls.set_active(true);
    let caller = DtlsCaller {
        ice: IceAgent::new(&theirs, &ours, now, meeting.world.entropy()),
        dtls,
        wake: Some(now),
        connected: false,
        failed: false,
        has_keys: false,
        server_certificate: None,
    };
    let line = Settings { delay: Duration::from_millis(20), loss, ..Settings::default() };
    let spec = HostSpec {
        name: "caller",
        addresses: vec![CALLER.into()],
        listeners: vec![40_000],
        gateway: None,
        up: line,
        down: line,
    };
    let host = meeting.world.add_host(spec, caller);
    for _ in 0..3000 {
        meeting.run_for(Duration::from_millis(10));
        let server = meeting.events.iter().any(|(_, event)| matches!(event, Event::Connected { .. }));
        let caller = meeting.world.program::<DtlsCaller>(host);
        if server && caller.connected && caller.has_keys {
            let elapsed = meeting.world.elapsed();
            return (meeting, Some(elapsed));
        }
    }
    (meeting, None)
}

#[test]
fn a_clean_handshake_takes_two_round_trips_after_ice() {
    let (_, took) = handshake(1, Loss::NONE, Certificate::fingerprint);
    // One-way 21 ms: a round trip for ICE, two for DTLS 1.2, and the steps of this test.
    let took = took.expect("connected");
    assert!((120..180).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn loss_delays_the_handshake_and_does_not_end_it() {
    for (share, patience) in [(0.05, 3), (0.2, 10)] {
        let mut times = Vec::new();
        for seed in 0..20 {
            let (_, took) = handshake(seed, Loss::Bernoulli(share), Certificate::fingerprint);
            times.push(took.unwrap_or_else(|| panic!("seed {seed}: no handshake with {share} lost")));
        }
        times.sort();
        assert!(times[10] < Duration::from_secs(patience) / 2, "median at {share}: {:?}", times[10]);
        assert!(times[18] < Duration::from_secs(patience), "95th percentile at {share}: {:?}", times[18]);
    }
}

#[test]
fn another_certificate_is_not_let_in() {
    let (meeting, took) = handshake(1, Loss::NONE, |_| Fingerprint([7; 32]));
    assert_eq!(took, None);
    let ends: Vec<&Event> = meeting.events.iter().map(|(_, event)| event).collect();
    assert!(
        ends.iter().any(|event| matches!(event, Event::Disconnected { end: sfu::TransportEnd::HandshakeFailed, .. })),
        "{ends:?}"
    );
}
