//! A call at the real SFU: members who send exactly what a test tells them to, and note what they are sent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use datapath::stun::{Class, Key, Method, TransactionId, Writer};
use datapath::{Datagram, Endpoint, Entropy, Node, Now, Order, Outbox, SocketEvent};
use sfu::rtcp::{self, ReportBlock, Rtcp, SenderInfo};
use sfu::rtp::{HeaderWriter, RtpHeader, RtpPacket};
use sfu::transport::srtp::{RTCP_OVERHEAD, RTP_OVERHEAD};
use sfu::transport::{Certificate, MasterKeys, Profile, SrtpReceiver, SrtpSender};
use sfu::{
    Codec, Command, Encoding, Event, ExtensionIds, Fingerprint, IceCredentials, LayerWish, Limits, ParticipantId,
    RoomId, Settings, Sfu, SubscriptionSpec, TrackId, TrackSpec, TransportSpec,
};

/// What is published has these payload types,
pub const OPUS: u8 = 111;
pub const VIDEO: u8 = 96;
pub const VIDEO_RTX: u8 = 97;
/// and these header extensions.
const MID: u8 = 1;
const AUDIO_LEVEL: u8 = 4;
/// The id of the transport-wide sequence number in what is subscribed to.
const TRANSPORT_CC: u8 = 12;
/// The mid of each published track. A test publishes one of each kind at most.
pub const AUDIO_MID: &str = "a";
pub const VIDEO_MID: &str = "v";

/// A media packet that a member was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Since the beginning, in milliseconds.
    pub at_ms: u64,
    pub ssrc: u32,
    pub payload_type: u8,
    /// Unwrapped.
    pub sequence: u64,
    pub timestamp: u32,
    pub payload: Vec<u8>,
    /// Transport-wide.
    pub number: Option<u16>,
}

/// A report or a request that a member was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    Nack { ssrc: u32, lost: Vec<u16> },
    PictureLoss { ssrc: u32 },
    Report(ReportBlock),
    SenderReport { ssrc: u32, info: SenderInfo },
}

/// A media packet as it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Rtp<'a> {
    pub ssrc: u32,
    pub payload_type: u8,
    /// Unwrapped: the low 16 bits are sent.
    pub sequence: u64,
    pub timestamp: u32,
    pub mid: Option<&'a str>,
    /// −dBov.
    pub audio_level: Option<u8>,
    pub payload: &'a [u8],
}

/// A packet of H.264 (RFC 6184 §1.3), of so many octets: the beginning of a keyframe, or a slice.
pub fn h264(begins_keyframe: bool, octets: usize) -> Vec<u8> {
    let mut payload = vec![1; octets];
    payload[0] = if begins_keyframe { 0x67 } else { 0x41 };
    payload
}

pub struct Member {
    id: ParticipantId,
    local: Endpoint,
    remote: SocketAddr,
    server_ice: IceCredentials,
    ice: IceCredentials,
    sender: SrtpSender,
    receiver: SrtpReceiver,
    pub media: Vec<Media>,
    /// With the time in milliseconds.
    pub control: Vec<(u64, Control)>,
}

/// Where a member stands in [`Call::members`].
pub type Who = usize;

pub struct Call {
    pub sfu: Sfu,
    started: Instant,
    at: Duration,
    pub members: Vec<Member>,
    next_id: u64,
    out: Outbox,
    pub orders: Vec<Order>,
    pub events: Vec<Event>,
}

#[allow(clippy::disallowed_methods, reason = "a test needs some moment to begin at")]
fn start() -> Instant {
    Instant::now()
}

impl Call {
    pub fn new() -> Call {
        Call::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Call {
        let certificate = Certificate::generate().expect("the system's entropy");
        let settings = Settings { limits, audio_repair: false, certificate };
        Call {
            sfu: Sfu::new(settings, Entropy::from_seed([7; 32])),
            started: start(),
            at: Duration::ZERO,
            members: Vec::new(),
            next_id: 1,
            out: Outbox::new(),
            orders: Vec::new(),
            events: Vec::new(),
        }
    }

    pub fn now(&self) -> Now {
        Now { instant: self.started + self.at, unix: Duration::from_secs(1_700_000_000) + self.at }
    }

    pub fn at_ms(&self) -> u64 {
        self.at.as_millis() as u64
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn discarded(&self, discard: datapath::Discard) -> u64 {
        self.out.counters.discarded(discard)
    }

    pub fn command(&mut self, command: Command) {
        self.sfu.handle_command(self.now(), command, &mut self.out);
        self.collect();
        let refused = self.events.iter().find(|event| matches!(event, Event::Refused { .. }));
        assert_eq!(refused, None);
    }

    /// A member over UDP whose transport is up.
    pub fn join(&mut self) -> Who {
        let index = self.members.len() as u8;
        let local = Endpoint::Listener { index: 0, ip: [10, 0, 0, 1].into() };
        let who = self.enter();
        self.check(who, local, ([10, 0, 1, index], 40_000).into());
        who
    }

    /// A member of whom no check has come yet.
    pub fn enter(&mut self) -> Who {
        let id = ParticipantId(self.id());
        let who = self.members.len();
        let credentials = |role: &str| IceCredentials {
            ufrag: format!("{role}{who}"),
            pwd: format!("{role}-password-of-more-than-22-{who}"),
        };
        let (server_ice, ice) = (credentials("server"), credentials("client"));
        let keys = MasterKeys::from_keying_material(Profile::AeadAes256Gcm, &[who as u8; 88]).expect("2 × (32 + 12)");
        let (sender, receiver) = keys.client_contexts();
        self.command(Command::Join { room: RoomId(1), participant: id });
        let transport = TransportSpec {
            local_ice: server_ice.clone(),
            remote_ice: ice.clone(),
            remote_fingerprint: Fingerprint([0; 32]),
        };
        self.command(Command::SetTransport { participant: id, transport });
        self.sfu.install_keys(id, &keys).expect("it has just joined");
        self.members.push(Member {
            id,
            local: Endpoint::Listener { index: 0, ip: [10, 0, 0, 1].into() },
            remote: ([0, 0, 0, 0], 0).into(),
            server_ice,
            ice,
            sender,
            receiver,
            media: Vec::new(),
            control: Vec::new(),
        });
        who
    }

    pub fn leave(&mut self, who: Who) {
        let participant = self.members[who].id;
        self.command(Command::Leave { participant });
    }

    /// What the member sends from now on comes this way.
    pub fn come_from(&mut self, who: Who, local: Endpoint, remote: SocketAddr) {
        let member = &mut self.members[who];
        (member.local, member.remote) = (local, remote);
    }

    /// A TCP connection has ended.
    pub fn close(&mut self, local: Endpoint, remote: SocketAddr) {
        self.sfu.handle_event(self.now(), SocketEvent::StreamClosed { local, remote }, &mut self.out);
        self.collect();
        self.run_for_ms(0);
    }

    /// An ICE check that nominates this way (RFC 8445 §7.2): what the member sends and is sent takes it from now on.
    pub fn check(&mut self, who: Who, local: Endpoint, remote: SocketAddr) {
        self.come_from(who, local, remote);
        self.send_check(who, true);
    }

    /// One that does not: what the member sends and is sent goes its way as before.
    pub fn check_in_reserve(&mut self, who: Who, local: Endpoint, remote: SocketAddr) {
        let Member { local: selected, remote: selected_remote, .. } = self.members[who];
        self.come_from(who, local, remote);
        self.send_check(who, false);
        self.come_from(who, selected, selected_remote);
    }

    fn send_check(&mut self, who: Who, nominates: bool) {
        let member = &self.members[who];
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, TransactionId([7; 12]));
        let username = format!("{}:{}", member.server_ice.ufrag, member.ice.ufrag);
        writer.username(username.as_bytes()).priority(1).ice_controlling(1);
        if nominates {
            writer.use_candidate();
        }
        let key = Key::new(member.server_ice.pwd.as_bytes());
        let length = writer.finish_with_integrity(&key, true).expect("a check has about 100 octets");
        self.deliver(who, &mut [buffer[..length].to_vec()]);
    }

    /// Datagrams that arrive in one batch.
    fn deliver(&mut self, who: Who, datagrams: &mut [Vec<u8>]) {
        let now = self.now();
        let Member { local, remote, .. } = self.members[who];
        let mut batch: Vec<Datagram<'_>> = datagrams
            .iter_mut()
            .map(|payload| Datagram { local, remote, ecn: 0, received_at: now.instant, payload, origin: None })
            .collect();
        self.sfu.handle_batch(now, &mut batch, &mut self.out);
        self.collect();
        self.run_for_ms(0);
    }

    pub fn publish(&mut self, who: Who, codec: Codec) -> TrackId {
        let track = TrackId(self.id());
        let is_video = codec != Codec::Opus;
        let encoding = Encoding { rid: None, ssrc: None, rtx_ssrc: None, width: 0, height: 0, bitrate_bps: 0 };
        let spec = TrackSpec {
            codec,
            mid: if is_video { VIDEO_MID } else { AUDIO_MID }.into(),
            payload_type: if is_video { VIDEO } else { OPUS },
            rtx_payload_type: is_video.then_some(VIDEO_RTX),
            encodings: vec![encoding],
            extensions: ExtensionIds { mid: Some(MID), audio_level: Some(AUDIO_LEVEL), ..ExtensionIds::default() },
            nack: true,
            muted: false,
            screen: false,
        };
        let participant = self.members[who].id;
        self.command(Command::Publish { participant, track, spec });
        track
    }

    /// Returns the SSRCs of the stream and of its retransmissions. `transport_cc`: the subscriber gives transport-wide
    /// feedback.
    pub fn subscribe(&mut self, who: Who, track: TrackId, transport_cc: bool) -> (u32, u32) {
        let ssrc = self.id() as u32;
        let rtx_ssrc = self.id() as u32;
        let spec = SubscriptionSpec {
            mid: "s".into(),
            ssrc,
            rtx_ssrc: Some(rtx_ssrc),
            payload_type: 100,
            rtx_payload_type: Some(101),
            extensions: ExtensionIds { transport_cc: transport_cc.then_some(TRANSPORT_CC), ..ExtensionIds::default() },
            nack: true,
            wish: LayerWish::EVERYTHING,
        };
        let participant = self.members[who].id;
        self.command(Command::Subscribe { participant, track, spec });
        (ssrc, rtx_ssrc)
    }

    pub fn id_of(&self, who: Who) -> ParticipantId {
        self.members[who].id
    }

    /// Lets the time pass, with everything that the SFU does meanwhile.
    pub fn run_for_ms(&mut self, ms: u64) {
        let end = self.at + Duration::from_millis(ms);
        while let Some(deadline) = self.sfu.poll_timeout().filter(|deadline| deadline.at <= self.started + end) {
            self.at = self.at.max(deadline.at.saturating_duration_since(self.started));
            self.sfu.handle_timeout(self.now(), &mut self.out);
            self.collect();
        }
        self.at = end;
    }

    pub fn send(&mut self, who: Who, rtp: Rtp<'_>) {
        self.send_batch(who, &[rtp]);
    }

    pub fn send_batch(&mut self, who: Who, packets: &[Rtp<'_>]) {
        let mut datagrams: Vec<Vec<u8>> = packets.iter().map(|rtp| self.members[who].protect(rtp)).collect();
        self.deliver(who, &mut datagrams);
    }

    /// A datagram of reports and requests.
    pub fn send_control(&mut self, who: Who, write: impl FnOnce(&mut rtcp::Writer<'_>)) {
        let mut buffer = vec![0; 60_000];
        let room = buffer.len() - RTCP_OVERHEAD;
        let mut writer = rtcp::Writer::new(&mut buffer[..room]);
        write(&mut writer);
        let length = writer.len();
        let length = self.members[who].sender.protect_rtcp(&mut buffer, length);
        self.deliver(who, &mut [buffer[..length].to_vec()]);
    }

    fn collect(&mut self) {
        let at_ms = self.at_ms();
        self.orders.extend(self.out.take_orders());
        for entry in self.out.entries() {
            let mut packet = self.out.arena()[entry.head.start as usize..entry.head.end as usize].to_vec();
            let to = |member: &&mut Member| (member.local, member.remote) == (entry.local, entry.remote);
            if let Some(member) = self.members.iter_mut().find(to) {
                member.receive(at_ms, &mut packet);
            }
        }
        self.out.clear();
        while let Some(event) = self.sfu.poll_event() {
            self.events.push(event);
        }
    }
}

impl Member {
    fn protect(&self, rtp: &Rtp<'_>) -> Vec<u8> {
        let mut buffer = vec![0; 128 + rtp.payload.len() + RTP_OVERHEAD];
        let (sequence, payload) = (rtp.sequence as u16, rtp.payload);
        let mut header =
            HeaderWriter::new(&mut buffer, rtp.payload_type, false, sequence, rtp.timestamp, rtp.ssrc, false)
                .expect("128 octets hold a header");
        if let Some(mid) = rtp.mid {
            header.extension(MID, mid.as_bytes());
        }
        if let Some(level) = rtp.audio_level {
            header.extension(AUDIO_LEVEL, &[0x80 | level]);
        }
        let header_length = header.finish();
        let length = header_length + payload.len();
        buffer[header_length..length].copy_from_slice(payload);
        let length = self.sender.protect_rtp(&mut buffer, header_length, length, rtp.ssrc, rtp.sequence);
        buffer.truncate(length);
        buffer
    }

    fn receive(&mut self, at_ms: u64, packet: &mut [u8]) {
        match packet.first() {
            Some(128..=191) if sfu::rtp::is_rtcp(packet) => self.receive_control(at_ms, packet),
            Some(128..=191) => {
                let header = RtpHeader::parse(packet).expect("the server sends RTP");
                let (length, sequence) = self
                    .receiver
                    .unprotect_rtp(packet, usize::from(header.len), header.ssrc, header.sequence_number)
                    .expect("the server sends each packet once");
                let plain = RtpPacket::with_header(header, &packet[..length]).expect("the server sends RTP");
                self.media.push(Media {
                    at_ms,
                    ssrc: header.ssrc,
                    payload_type: header.payload_type,
                    sequence,
                    timestamp: header.timestamp,
                    payload: plain.payload().to_vec(),
                    number: plain.extension(TRANSPORT_CC).map(|data| u16::from_be_bytes([data[0], data[1]])),
                });
            }
            _ => {}
        }
    }

    fn receive_control(&mut self, at_ms: u64, packet: &mut [u8]) {
        let length = self.receiver.unprotect_rtcp(packet).expect("the server sends each packet once");
        for packet in rtcp::packets(&packet[..length]) {
            match packet {
                Rtcp::Nack { media_ssrc, lost, .. } => {
                    let lost: Vec<u16> = lost.collect();
                    self.control.push((at_ms, Control::Nack { ssrc: media_ssrc, lost }));
                }
                Rtcp::PictureLoss { media_ssrc, .. } => {
                    self.control.push((at_ms, Control::PictureLoss { ssrc: media_ssrc }));
                }
                Rtcp::ReceiverReport { reports, .. } => {
                    self.control.extend(reports.map(|report| (at_ms, Control::Report(report))));
                }
                Rtcp::SenderReport { ssrc, info, .. } => {
                    self.control.push((at_ms, Control::SenderReport { ssrc, info }));
                }
                _ => {}
            }
        }
    }

    /// What it was sent of one stream.
    pub fn media_of(&self, ssrc: u32) -> Vec<&Media> {
        self.media.iter().filter(|media| media.ssrc == ssrc).collect()
    }

    /// When it was asked for a keyframe of an SSRC, in milliseconds.
    pub fn keyframes_asked(&self, ssrc: u32) -> Vec<u64> {
        let wanted = Control::PictureLoss { ssrc };
        self.control.iter().filter(|(_, control)| *control == wanted).map(|&(at_ms, _)| at_ms).collect()
    }

    /// What it was asked to send again of an SSRC.
    pub fn packets_asked(&self, ssrc: u32) -> Vec<u16> {
        let asked = self.control.iter().filter_map(|(_, control)| match control {
            Control::Nack { ssrc: of, lost } if *of == ssrc => Some(lost),
            _ => None,
        });
        asked.flatten().copied().collect()
    }
}
