//! A server and its callers in a virtual world, and the control plane between them: what signalling would do.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use datapath::mux::Mux;
use datapath::stun::Key;
use datapath::{Endpoint, Entropy, steering};
use sfu::transport::{Certificate, MasterKeys, Profile};
use sfu::{
    Codec, Command, Encoding, Event, ExtensionIds, Fingerprint, IceCredentials, LayerWish, Limits, ParticipantId,
    RoomId, Sfu, SubscriptionSpec, TrackId, TrackSpec, TransportSpec,
};

use crate::caller::{Caller, CallerSpec};
use crate::check::{Amplification, Relaying, Sequences};
use crate::link::Settings;
use crate::received_stream::{ReceivedStream, ReceptionSpec};
use crate::sent_stream::{StreamSpec, interval};
use crate::turn_client::{TurnAccount, TurnClient};
use crate::workers::{Steering, Workers};
use crate::world::{HostId, HostSpec, World};

pub const SERVER_IP: [u8; 4] = [198, 51, 100, 10];
pub const MEDIA_PORT: u16 = 3478;
/// UDP TURN for clients of the SFU has a listener of its own.
pub const TURN_PORT: u16 = 3479;
const CALLER_PORT: u16 = 40_000;

const OPUS: u8 = 111;
const VP8: u8 = 96;
const RTX: u8 = 97;
/// The ids of the send time, and
pub const ABS_SEND_TIME: u8 = 10;
/// of the transport-wide sequence number in what is subscribed to.
pub const TRANSPORT_CC: u8 = 12;

/// The simulcast layers of a camera: rid, bit/s, size.
const LAYERS: [(&str, u32, (u16, u16)); 3] =
    [("q", 150_000, (320, 180)), ("h", 450_000, (640, 360)), ("f", 1_700_000, (1280, 720))];

/// The ids of the sections that publish.
fn published_extensions(codec: Codec) -> ExtensionIds {
    let video = codec != Codec::Opus;
    ExtensionIds {
        mid: Some(1),
        rid: video.then_some(2),
        repaired_rid: video.then_some(3),
        audio_level: (!video).then_some(4),
        transport_cc: Some(5),
        abs_send_time: Some(6),
        // As signalling has it: in VP8 the payload tells the temporal layer.
        dependency_descriptor: (codec == Codec::H264).then_some(7),
        ..ExtensionIds::default()
    }
}

/// The ids of the sections that are subscribed to: others, so that a mix-up shows.
fn subscribed_extensions() -> ExtensionIds {
    ExtensionIds { mid: Some(9), abs_send_time: Some(ABS_SEND_TIME), audio_level: Some(11), ..ExtensionIds::default() }
}

/// How a member reaches the server.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub address: [u8; 4],
    pub gateway: Option<HostId>,
    pub up: Settings,
    pub down: Settings,
    /// Through the relay alone.
    pub turn: bool,
}

impl Access {
    /// A good line: 50 Mbit/s, 10 ms away.
    pub fn good(address: [u8; 4]) -> Access {
        let line = Settings { rate_bps: Some(50_000_000), delay: Duration::from_millis(5), ..Settings::default() };
        Access { address, gateway: None, up: line, down: line, turn: false }
    }
}

/// The account of every TURN client.
pub fn account() -> TurnAccount {
    TurnAccount { username: "caller".into(), password: "opens the relay".into() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub host: HostId,
    pub id: ParticipantId,
    pub room: RoomId,
}

pub struct Meeting {
    pub world: World,
    pub server: HostId,
    /// Everything that the SFU told the control plane, and when.
    pub events: Vec<(Duration, Event)>,
    /// How many of them [`Meeting::follow_wishes`] has seen.
    followed: usize,
    /// Where published streams begin: close to the top, so that every run wraps around. A stream whose first rollover
    /// the receiver does not see cannot be unprotected any more (RFC 3711 §3.3.1), so where a link may be cut from the
    /// start it begins below 2¹⁵, as in browsers.
    pub first_sequence: u16,
    /// Octets that end-to-end encryption adds to each frame.
    pub encryption: usize,
    /// The track that is published next is that of a screen.
    pub next_is_screen: bool,
    /// What H.264 is published with from now on has dependency descriptors that are cut off.
    pub cut_descriptors: bool,
    /// Whether the transport-wide extension is negotiated for what is subscribed to.
    pub transport_cc: bool,
    entropy: Entropy,
    members: Vec<Member>,
    published: Vec<(TrackId, Member, Codec)>,
    next_id: u64,
    /// The workers of rooms go round.
    workers: usize,
    participants: BTreeMap<ParticipantId, usize>,
    tracks: BTreeMap<TrackId, usize>,
}

/// Ports of relayed addresses.
const RELAY_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

impl Meeting {
    pub fn new(seed: u64) -> Meeting {
        Meeting::among(1, |_, _| 0, seed)
    }

    pub fn with_limits(seed: u64, limits: Limits) -> Meeting {
        Meeting::make(1, |_, _| 0, seed, limits, true)
    }

    /// No audio is sent twice.
    pub fn without_audio_repair(seed: u64) -> Meeting {
        Meeting::make(1, |_, _| 0, seed, Limits::default(), false)
    }

    /// The server has so many workers; a room is at that of its number.
    pub fn among(workers: u8, steering: Steering, seed: u64) -> Meeting {
        Meeting::make(workers, steering, seed, Limits::default(), true)
    }

    fn make(workers: u8, steering: Steering, seed: u64, limits: Limits, audio_repair: bool) -> Meeting {
        let mut world = World::new(seed);
        // Before the workers have theirs, so that callers do the same whatever their number.
        let entropy = world.entropy();
        let candidate = SocketAddr::from((SERVER_IP, MEDIA_PORT));
        let settings =
            sfu::Settings { limits, audio_repair, certificate: Certificate::generate().expect("the system's entropy") };
        let sfus: Vec<Sfu> = (0..workers).map(|_| Sfu::new(settings.clone(), world.entropy())).collect();
        let mut nonce_key = [0; 32];
        world.entropy().fill(&mut nonce_key);
        let settings = relay::Settings {
            credentials: relay::Credentials::new("sim").with_user(&account().username, &account().password),
            // The addresses of documentation, which the world uses, are forbidden by default.
            peer_policy: relay::PeerPolicy::new(
                vec!["198.51.100.0/24".parse().expect("a prefix"), "203.0.113.0/24".parse().expect("a prefix")],
                vec!["198.51.100.10/32".parse().expect("a prefix")],
                vec![IpAddr::from(SERVER_IP)],
            ),
            relayed: vec![IpAddr::from(SERVER_IP)],
            ports: RELAY_PORTS,
            share: relay::Share::default(),
            candidates: vec![candidate],
            nonce_key,
            alternate_server: None,
            limits: relay::Limits::default(),
        };
        let planes = sfus.into_iter().zip(relay::Share::among(workers)).map(|(sfu, share)| {
            let settings = relay::Settings { share, ..settings.clone() };
            let relay = relay::Server::new(settings, world.entropy(), world.now());
            Mux::new(relay, sfu, vec![candidate])
        });
        let planes = planes.collect();
        let program = Workers::new(planes, RELAY_PORTS, steering, world.now());
        let line = Settings { delay: Duration::from_millis(1), ..Settings::default() };
        let spec = HostSpec {
            name: "server",
            addresses: vec![IpAddr::from(SERVER_IP)],
            listeners: vec![MEDIA_PORT, TURN_PORT],
            gateway: None,
            up: line,
            down: line,
        };
        let server = world.add_host(spec, program);
        let mut amplification = Amplification::new(server, vec![MEDIA_PORT, TURN_PORT]);
        amplification.add_key(account().key(b"sim"));
        world.add_check(amplification);
        world.add_check(Sequences::new(server));
        world.add_check(Relaying::new(server, IpAddr::from(SERVER_IP)));
        Meeting {
            world,
            server,
            events: Vec::new(),
            followed: 0,
            first_sequence: 65_100,
            encryption: 0,
            next_is_screen: false,
            cut_descriptors: false,
            transport_cc: true,
            entropy,
            members: Vec::new(),
            published: Vec::new(),
            next_id: 1,
            workers: workers.into(),
            participants: BTreeMap::new(),
            tracks: BTreeMap::new(),
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn command(&mut self, command: Command) {
        let worker = self.worker_of(&command);
        self.world.act(self.server, |server: &mut Workers, now, out| {
            server.act(worker, now, out, |sfu, out| sfu.handle_command(now, command, out));
        });
        self.poll_events();
    }

    /// The worker that has what a command is about.
    fn worker_of(&mut self, command: &Command) -> usize {
        match *command {
            Command::Join { room, participant } => {
                let worker = self.worker_of_room(room);
                self.participants.insert(participant, worker);
                worker
            }
            Command::Publish { participant, track, .. } => {
                let worker = self.participants[&participant];
                self.tracks.insert(track, worker);
                worker
            }
            Command::Unpublish { track } | Command::SetMuted { track, .. } => self.tracks[&track],
            _ => self.participants[&command.participant().expect("all others are about one")],
        }
    }

    fn worker_of_room(&self, room: RoomId) -> usize {
        (room.0 % self.workers as u64) as usize
    }

    /// Takes what the SFU has to tell.
    pub fn poll_events(&mut self) {
        let at = self.world.elapsed();
        for worker in 0..self.workers {
            while let Some(event) = self.world.program::<Workers>(self.server).planes[worker].sfu.poll_event() {
                self.events.push((at, event));
            }
        }
    }

    pub fn run_for(&mut self, duration: Duration) {
        self.world.run_for(duration);
        self.poll_events();
    }

    fn credentials(&mut self, ufrag: impl FnOnce(&str) -> String) -> IceCredentials {
        let random = format!("{:08x}", self.entropy.u64());
        IceCredentials { ufrag: ufrag(&random), pwd: format!("{:024x}", self.entropy.u64()) }
    }

    pub fn join(&mut self, room: u64, name: &'static str, access: Access) -> Member {
        let id = ParticipantId(self.id());
        let room = RoomId(room);
        let worker = self.worker_of_room(room);
        let server_ice = self.credentials(|random| steering::ufrag(worker as u8, random));
        let caller_ice = self.credentials(|random| format!("cli{random}"));
        let mut material = [0; 88];
        self.entropy.fill(&mut material);
        let keys = MasterKeys::from_keying_material(Profile::AeadAes256Gcm, &material).expect("2 × (32 + 12) octets");
        self.command(Command::Join { room, participant: id });
        self.command(Command::SetTransport {
            participant: id,
            transport: TransportSpec {
                local_ice: server_ice.clone(),
                remote_ice: caller_ice.clone(),
                remote_fingerprint: Fingerprint([0; 32]),
            },
        });
        let sfu = &mut self.world.program::<Workers>(self.server).planes[worker].sfu;
        sfu.install_keys(id, &keys).expect("it has just joined");

        let now = self.world.now().instant;
        let local = Endpoint::Listener { index: 0, ip: access.address.into() };
        let candidate = SocketAddr::from((SERVER_IP, MEDIA_PORT));
        let turn = access.turn.then(|| {
            let server = SocketAddr::from((SERVER_IP, TURN_PORT));
            let mut client = TurnClient::new(server, local, account(), now, self.entropy.fork());
            client.add_peer(now, candidate, Some(0x4000));
            client
        });
        self.world.check::<Amplification>().add_key(Key::new(server_ice.pwd.as_bytes()));
        let spec = CallerSpec { local, server: candidate, local_ice: caller_ice, remote_ice: server_ice, keys, turn };
        let caller = Caller::new(spec, now, self.entropy.fork());
        let host = HostSpec {
            name,
            addresses: vec![access.address.into()],
            listeners: vec![CALLER_PORT],
            gateway: access.gateway,
            up: access.up,
            down: access.down,
        };
        let host = self.world.add_host(host, caller);
        let member = Member { host, id, room };
        self.members.push(member);
        member
    }

    pub fn caller(&mut self, member: Member) -> &mut Caller {
        self.world.program(member.host)
    }

    /// Waits for ICE.
    pub fn connect(&mut self, members: &[Member]) {
        self.world.run_until("ICE connects", Duration::from_secs(10), |world| {
            members.iter().all(|member| world.program::<Caller>(member.host).can_send())
        });
        self.poll_events();
    }

    pub fn publish_camera(&mut self, member: Member) -> TrackId {
        self.publish(member, Codec::Vp8, &LAYERS)
    }

    pub fn publish_microphone(&mut self, member: Member) -> TrackId {
        self.publish(member, Codec::Opus, &[("", 32_000, (0, 0))])
    }

    /// `layers`: rid, bit/s and size of each encoding, lowest first; one without a rid for audio.
    pub fn publish(&mut self, member: Member, codec: Codec, layers: &[(&str, u32, (u16, u16))]) -> TrackId {
        let track = TrackId(self.id());
        let video = codec != Codec::Opus;
        let mid = format!("p{}", track.0);
        let (payload_type, rtx_payload_type) = if video { (VP8, Some(RTX)) } else { (OPUS, None) };
        let rid = |name: &str| video.then(|| name.to_owned());
        let encodings = layers
            .iter()
            .map(|&(name, bitrate_bps, (width, height))| Encoding {
                rid: rid(name),
                // As in a simulcast offer: the SSRC is learned from mid and rid.
                ssrc: None,
                rtx_ssrc: None,
                width,
                height,
                bitrate_bps,
            })
            .collect();
        let extensions = published_extensions(codec);
        let spec = TrackSpec {
            codec,
            mid: mid.clone(),
            payload_type,
            rtx_payload_type,
            encodings,
            extensions,
            nack: video,
            muted: false,
            screen: std::mem::take(&mut self.next_is_screen),
        };
        self.command(Command::Publish { participant: member.id, track, spec });
        // Else all cameras would take their pictures at one moment, and a seed without loss would be as every other.
        let phase = Duration::from_nanos(self.entropy.below(interval(codec).as_nanos() as u64));
        for (encoding, &(name, bitrate_bps, size)) in (0u8..).zip(layers) {
            let stream = StreamSpec {
                room: member.room.0,
                track: track.0,
                encoding,
                codec,
                mid: mid.clone(),
                rid: rid(name),
                ssrc: self.entropy.u32(),
                payload_type,
                rtx: rtx_payload_type.map(|payload_type| (self.entropy.u32(), payload_type)),
                extensions,
                bitrate_bps,
                size,
                temporal: video,
                cut_descriptors: self.cut_descriptors,
                first_sequence: self.first_sequence,
                phase,
                encryption: self.encryption,
            };
            self.world.act(member.host, |caller: &mut Caller, now, _| caller.publish(now.instant, stream));
        }
        self.published.push((track, member, codec));
        track
    }

    pub fn subscribe(&mut self, member: Member, track: TrackId) {
        let &(_, publisher, codec) =
            self.published.iter().find(|(known, _, _)| *known == track).expect("a published track");
        let video = codec != Codec::Opus;
        // The subscriber's own numbers.
        let (payload_type, rtx) = if video { (120, Some((self.entropy.u32(), 121))) } else { (63, None) };
        let ssrc = self.entropy.u32();
        let spec = SubscriptionSpec {
            mid: format!("s{}", track.0),
            ssrc,
            rtx_ssrc: rtx.map(|(ssrc, _)| ssrc),
            payload_type,
            rtx_payload_type: rtx.map(|(_, payload_type)| payload_type),
            extensions: ExtensionIds {
                transport_cc: self.transport_cc.then_some(TRANSPORT_CC),
                ..subscribed_extensions()
            },
            nack: video,
            wish: LayerWish::EVERYTHING,
        };
        let reception = ReceptionSpec { room: publisher.room.0, track: track.0, codec, ssrc, payload_type, rtx };
        self.caller(member).receive(reception);
        self.command(Command::Subscribe { participant: member.id, track, spec });
    }

    pub fn unsubscribe(&mut self, member: Member, track: TrackId) {
        self.command(Command::Unsubscribe { participant: member.id, track });
        self.caller(member).received.retain(|stream| stream.spec.track != track.0);
    }

    /// Ends a track for everybody.
    pub fn unpublish(&mut self, track: TrackId) {
        let at = self.published.iter().position(|(known, _, _)| *known == track).expect("a published track");
        let (_, publisher, _) = self.published.remove(at);
        self.command(Command::Unpublish { track });
        self.caller(publisher).sent.retain(|stream| stream.spec.track != track.0);
        for member in self.members.clone() {
            self.caller(member).received.retain(|stream| stream.spec.track != track.0);
        }
    }

    /// The publisher stops sending, and everybody is told so.
    pub fn set_muted(&mut self, track: TrackId, muted: bool) {
        let &(_, publisher, _) =
            self.published.iter().find(|(known, _, _)| *known == track).expect("a published track");
        let streams = self.caller(publisher).sent.iter_mut().filter(|stream| stream.spec.track == track.0);
        streams.for_each(|stream| stream.paused = muted);
        self.command(Command::SetMuted { track, muted });
    }

    pub fn leave(&mut self, member: Member) {
        let tracks: Vec<TrackId> = self
            .published
            .iter()
            .filter(|(_, publisher, _)| *publisher == member)
            .map(|(track, _, _)| *track)
            .collect();
        tracks.into_iter().for_each(|track| self.unpublish(track));
        self.command(Command::Leave { participant: member.id });
        self.caller(member).dead = true;
        self.members.retain(|known| *known != member);
    }

    /// Lets publishers rest what the server has said that nobody wants, and send what it wants again.
    pub fn follow_wishes(&mut self) {
        self.poll_events();
        for at in std::mem::replace(&mut self.followed, self.events.len())..self.events.len() {
            let (_, Event::EncodingsWanted { track, highest }) = self.events[at] else { continue };
            let Some(&(_, publisher, _)) = self.published.iter().find(|(known, ..)| *known == track) else { continue };
            for stream in self.caller(publisher).sent.iter_mut().filter(|stream| stream.spec.track == track.0) {
                stream.paused = highest.is_none_or(|highest| stream.spec.encoding > highest);
            }
        }
    }

    /// Another network: another address, with a port of its own on the way. ICE goes on from there.
    pub fn move_to(&mut self, member: Member, address: [u8; 4]) {
        self.world.set_addresses(member.host, vec![address.into()]);
        self.caller(member).set_local(Endpoint::Listener { index: 0, ip: address.into() });
    }

    /// Everybody who is there, by the time of joining.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Every track, its publisher and its codec.
    pub fn tracks(&self) -> &[(TrackId, Member, Codec)] {
        &self.published
    }

    pub fn set_wish(&mut self, member: Member, track: TrackId, wish: LayerWish) {
        self.command(Command::SetWish { participant: member.id, track, wish });
    }

    pub fn reception(&mut self, member: Member, track: TrackId) -> &ReceivedStream {
        self.caller(member).reception(track.0)
    }

    /// Frames that a member has been shown of a track so far.
    pub fn shown(&mut self, member: Member, track: TrackId) -> usize {
        self.reception(member, track).shown.len()
    }
}
