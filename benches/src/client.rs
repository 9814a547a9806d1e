//! The media side of one client: ICE, DTLS, SRTP, what it publishes and what it receives.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aws_lc_rs::digest;
use dimpl::{Config, Dtls, DtlsCertificate, Output};

use crate::data::DataChannels;
use crate::receiver::{Receiver, Totals};
use crate::rtcp::{self, Received};
use crate::sdp::{Answer, AnswerSection, Kind, LocalTransport, Section};
use crate::session::Publication;
use crate::socket;
use crate::source::{Content, Outgoing, OutgoingStream, Pacing};
use crate::srtp::{self, Srtp};
use crate::stun::{self, Class, Message, Writer};

const CHECK_RETRY: Duration = Duration::from_millis(100);
/// RFC 7675 §5.1 wants a consent check every 4-6 s; browsers send more.
const CONSENT_INTERVAL: Duration = Duration::from_millis(2500);
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(20);
const SENDER_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The certificate of all clients of a run, and its fingerprint as SDP writes it.
pub struct Identity {
    certificate: DtlsCertificate,
    pub fingerprint: String,
    config: Arc<Config>,
}

impl Identity {
    pub fn generate() -> Result<Identity> {
        let certificate = dimpl::certificate::generate_self_signed_certificate()?;
        let digest = digest::digest(&digest::SHA256, &certificate.certificate);
        let octets: Vec<String> = digest.as_ref().iter().map(|o| format!("{o:02X}")).collect();
        Ok(Identity { certificate, fingerprint: octets.join(":"), config: Arc::new(Config::default()) })
    }
}

struct Remote {
    ufrag: String,
    pwd: String,
    fingerprint: Vec<u8>,
    is_dtls_client: bool,
}

pub struct Client {
    pub socket: Rc<UdpSocket>,
    pub local: LocalTransport,
    pub publications: Vec<Publication>,
    pub connected: bool,
    pub ended: Option<String>,
    remote: Option<Remote>,
    candidates: Vec<SocketAddrV4>,
    selected: Option<SocketAddrV4>,
    tie_breaker: u64,
    next_check: Option<Instant>,
    dtls: Option<Dtls>,
    dtls_timeout: Option<Instant>,
    data: Option<DataChannels>,
    keys: Option<(Srtp, Srtp)>,
    pub receiver: Receiver,
    pub streams: Vec<OutgoingStream>,
    transport_sequence: u16,
    next_feedback: Instant,
    next_sender_report: Instant,
    /// The moment of the first frame within the frame interval, so that publishers do not fire together.
    phase: Duration,
}

impl Client {
    pub fn new(
        address: SocketAddr,
        identity: &Identity,
        publications: Vec<Publication>,
        phase: Duration,
        now: Instant,
    ) -> Result<Client> {
        let socket = socket::bind(address)?;
        let mut random = [0; 28];
        getrandom::fill(&mut random)?;
        let hex = |octets: &[u8]| octets.iter().map(|o| format!("{o:02x}")).collect::<String>();
        let local = LocalTransport {
            ufrag: hex(&random[..4]),
            pwd: hex(&random[4..16]),
            fingerprint: identity.fingerprint.clone(),
            address: socket.local_addr()?,
            reports_only: false,
        };
        let word = |at: usize| u32::from_be_bytes([random[at], random[at + 1], random[at + 2], random[at + 3]]);
        Ok(Client {
            socket: Rc::new(socket),
            local,
            publications,
            connected: false,
            ended: None,
            remote: None,
            candidates: Vec::new(),
            selected: None,
            tie_breaker: u64::from(word(16)) << 32 | u64::from(word(20)),
            next_check: None,
            dtls: None,
            dtls_timeout: None,
            data: None,
            keys: None,
            receiver: Receiver::new(word(24), now),
            streams: Vec::new(),
            transport_sequence: 0,
            next_feedback: now,
            next_sender_report: now,
            phase,
        })
    }

    pub fn connect(&mut self, answer: Answer, now: Instant) {
        self.remote = Some(Remote {
            ufrag: answer.ufrag,
            pwd: answer.pwd,
            fingerprint: answer.fingerprint,
            is_dtls_client: answer.server_is_dtls_client,
        });
        for candidate in answer.candidates {
            self.add_candidate(candidate);
        }
        self.next_check = Some(now);
    }

    pub fn add_candidate(&mut self, candidate: SocketAddr) {
        // A client bound to loopback has no way to another address of the host, and the reverse.
        if let SocketAddr::V4(candidate) = candidate
            && candidate.ip().is_loopback() == self.local.address.ip().is_loopback()
        {
            self.candidates.push(candidate);
        }
    }

    pub fn negotiated(&mut self, sections: &[(Section, AnswerSection)], now: Instant) {
        self.receiver.negotiated(sections);
        for (section, answered) in sections {
            let Some(track) = section.track.as_ref().filter(|_| answered.receives) else {
                continue;
            };
            let known = |ssrc| self.streams.iter().any(|stream| stream.ssrc == ssrc);
            if known(track.encodings[0].ssrc) {
                continue;
            }
            let publication = self.publications.iter().find(|p| p.track.cid == track.cid);
            for (index, encoding) in track.encodings.iter().enumerate() {
                let content = publication.map_or(Content::Noise, |publication| publication.content(index));
                self.streams.push(OutgoingStream::new(section, answered, encoding, content, now, self.phase));
            }
        }
    }

    /// What is due of ICE, DTLS and feedback; true when the client has just become connected.
    pub fn handle_timeout(&mut self, now: Instant, totals: &mut Totals) -> Result<bool> {
        if self.next_check.is_some_and(|at| at <= now) {
            self.send_checks(now);
        }
        let mut connected = false;
        if self.dtls_timeout.is_some_and(|at| at <= now)
            && let Some(dtls) = &mut self.dtls
        {
            self.dtls_timeout = None;
            dtls.handle_timeout(now)?;
            connected = self.poll_dtls(now)?;
        }
        if let Some(data) = &mut self.data
            && data.poll_timeout().is_some_and(|at| at <= now)
        {
            data.handle_timeout(now);
            connected |= self.poll_dtls(now)?;
        }
        if self.connected && now >= self.next_feedback {
            self.next_feedback = now + FEEDBACK_INTERVAL;
            self.send_feedback(now, totals);
        }
        Ok(connected)
    }

    fn send_checks(&mut self, now: Instant) {
        let Some(remote) = &self.remote else { return };
        let username = format!("{}:{}", remote.ufrag, self.local.ufrag);
        let check = |to: SocketAddrV4| {
            let writer = Writer::new(Class::Request, stun::BINDING, stun::transaction_id());
            let bytes = writer.ice_check(&username, self.tie_breaker, remote.pwd.as_bytes());
            // A refused send is retried with the next check.
            let _ = self.socket.send_to(&bytes, to);
        };
        match self.selected {
            Some(selected) => {
                check(selected);
                self.next_check = Some(now + CONSENT_INTERVAL);
            }
            None => {
                self.candidates.iter().copied().for_each(check);
                self.next_check = Some(now + CHECK_RETRY);
            }
        }
    }

    fn send_feedback(&mut self, now: Instant, totals: &mut Totals) {
        let Some((send, _)) = &mut self.keys else {
            return;
        };
        let (socket, Some(to)) = (&*self.socket, self.selected) else {
            return;
        };
        let mut send_protected = |mut packet: Vec<u8>| {
            if send.protect_rtcp(&mut packet).is_some() {
                let _ = socket.send_to(&packet, to);
            }
        };
        self.receiver.poll_feedback(now, totals, &mut send_protected);
        if now >= self.next_sender_report {
            self.next_sender_report = now + SENDER_REPORT_INTERVAL;
            for stream in self.streams.iter().filter(|stream| stream.sent_packets > 0) {
                let mut packet = Vec::with_capacity(64);
                let sent = (stream.sent_packets, stream.sent_octets);
                rtcp::sender_report(&mut packet, stream.ssrc, ntp(), stream.last_timestamp, sent);
                rtcp::cname(&mut packet, stream.ssrc, "generator");
                send_protected(packet);
            }
        }
    }

    /// Sends the media that is due and returns when the next is.
    pub fn send_media(&mut self, now: Instant, pacing: Pacing) -> Option<Instant> {
        let (Some((send, _)), Some(to)) = (&self.keys, self.selected) else {
            return None;
        };
        let mut out = Outgoing { srtp: send, transport_sequence: &mut self.transport_sequence };
        let socket = &*self.socket;
        let mut next = None::<Instant>;
        for stream in &mut self.streams {
            stream.send_due(now, pacing, &mut out, |bytes, segment| {
                // A full socket buffer loses packets as a network would.
                let _ = socket::send_train(socket, to, bytes, segment);
            });
            let due = stream.next_send();
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        next
    }

    /// Whether the data channels are open on both sides.
    pub fn has_data_channels(&self) -> bool {
        self.data.as_ref().is_some_and(DataChannels::is_open)
    }

    /// Takes one datagram; true when the client has just become connected.
    pub fn handle(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &mut [u8],
        identity: &Identity,
        totals: &mut Totals,
    ) -> Result<bool> {
        let Some(&first) = datagram.first() else {
            return Ok(false);
        };
        match first {
            0..=3 => {
                self.handle_stun(now, from, datagram, identity)?;
                Ok(false)
            }
            20..=63 => {
                let Some(dtls) = &mut self.dtls else {
                    return Ok(false);
                };
                dtls.handle_packet(datagram)?;
                self.poll_dtls(now)
            }
            128..=191 => {
                // RFC 5761 §4: payload types 64-95 with the marker bit are RTCP.
                let rtcp = datagram.get(1).is_some_and(|kind| (192..=223).contains(kind));
                let Some((_, receive)) = &self.keys else {
                    return Ok(false);
                };
                if !rtcp {
                    self.receiver.handle_rtp(now, datagram, receive, totals);
                } else if let Some(length) = receive.open_rtcp(datagram) {
                    totals.rtcp_received += 1;
                    self.handle_rtcp(now, &datagram[..length], totals);
                } else {
                    totals.bad_tags += 1;
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    fn handle_stun(&mut self, now: Instant, from: SocketAddr, datagram: &[u8], identity: &Identity) -> Result<()> {
        let (Some(message), SocketAddr::V4(v4)) = (Message::parse(datagram), from) else {
            return Ok(());
        };
        match message.class {
            Class::Success if message.method == stun::BINDING && self.selected.is_none() => {
                self.selected = Some(v4);
                self.next_check = Some(now + CONSENT_INTERVAL);
                let certificate = identity.certificate.clone();
                let mut dtls = Dtls::new_12(identity.config.clone(), certificate, now);
                let active = !self.remote.as_ref().is_some_and(|remote| remote.is_dtls_client);
                dtls.set_active(active);
                // Before the first packet: the client's state begins with the first timeout.
                dtls.handle_timeout(now)?;
                self.dtls = Some(dtls);
                self.poll_dtls(now)?;
            }
            Class::Request if message.method == stun::BINDING => {
                let writer = Writer::new(Class::Success, stun::BINDING, message.transaction);
                let bytes = writer.mapped_address(from, self.local.pwd.as_bytes());
                let _ = self.socket.send_to(&bytes, from);
            }
            _ => {}
        }
        Ok(())
    }

    /// Carries what DTLS and the data channels above it have to say, until neither has anything left.
    fn poll_dtls(&mut self, now: Instant) -> Result<bool> {
        let mut connected = false;
        loop {
            connected |= self.poll_dtls_output(now)?;
            let (Some(dtls), Some(data)) = (&mut self.dtls, &mut self.data) else {
                return Ok(connected);
            };
            let mut packets = Vec::new();
            data.poll_transmit(now, |packet| packets.push(packet.to_vec()));
            if packets.is_empty() {
                return Ok(connected);
            }
            for packet in packets {
                dtls.send_application_data(&packet)?;
            }
        }
    }

    fn poll_dtls_output(&mut self, now: Instant) -> Result<bool> {
        let (Some(dtls), Some(to)) = (&mut self.dtls, self.selected) else {
            return Ok(false);
        };
        let mut buffer = vec![0; 4096];
        let mut connected = false;
        loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => {
                    let _ = self.socket.send_to(packet, to);
                }
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.dtls_timeout = Some(at);
                    break;
                }
                Output::PeerCert(der) => {
                    let digest = digest::digest(&digest::SHA256, der);
                    let expected = self.remote.as_ref().map(|remote| &remote.fingerprint[..]);
                    ensure!(expected == Some(digest.as_ref()), "another certificate than signalled");
                }
                Output::KeyingMaterial(material, profile) => {
                    let (client, server) = srtp::pair(profile, &material)?;
                    let active = dtls.is_active();
                    self.keys = Some(if active { (client, server) } else { (server, client) });
                }
                Output::Connected => {
                    self.connected = true;
                    connected = true;
                    self.data = DataChannels::connect(dtls.is_active());
                }
                Output::ApplicationData(packet) => {
                    if let Some(data) = &mut self.data {
                        data.handle_packet(now, packet);
                    }
                }
                Output::CloseNotify => {
                    self.connected = false;
                    self.ended.get_or_insert("the server closed DTLS".to_owned());
                }
                _ => {}
            }
        }
        Ok(connected)
    }

    fn handle_rtcp(&mut self, now: Instant, compound: &[u8], totals: &mut Totals) {
        for received in rtcp::parse(compound) {
            match received {
                Received::SenderReport { ssrc, ntp_middle } => {
                    self.receiver.handle_sender_report(now, ssrc, ntp_middle);
                }
                Received::KeyframeRequest { media } => {
                    totals.keyframes_requested += 1;
                    if let Some(stream) = self.streams.iter_mut().find(|s| s.ssrc == media)
                        && stream.kind == Kind::Video
                    {
                        stream.request_keyframe();
                    }
                }
                Received::Nack { media, missing } => {
                    totals.nacks_received += missing.len() as u64;
                    let (Some((send, _)), Some(to)) = (&self.keys, self.selected) else {
                        return;
                    };
                    let Some(stream) = self.streams.iter_mut().find(|s| s.ssrc == media) else {
                        continue;
                    };
                    for number in missing {
                        if let Some(packet) = stream.retransmission(number, send) {
                            let _ = self.socket.send_to(&packet, to);
                        }
                    }
                }
            }
        }
    }
}

/// Now as an NTP timestamp (RFC 3550 §4).
#[allow(clippy::disallowed_methods)] // the real clock
fn ntp() -> u64 {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = unix.as_secs() + 2_208_988_800;
    (seconds << 32) | ((u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000)
}
