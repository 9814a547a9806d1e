//! A simulated participant: ICE, SRTP with keys given to it, a camera, a microphone, and a decoder for each
//! subscription. It reaches the server directly or through TURN.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use datapath::stun::Message;
use datapath::{Datagram, Deadline, Endpoint, Entropy, Node, Now, Outbox, SocketEvent};
use sfu::congestion::FeedbackGenerator;
use sfu::rtcp::{self, ReportBlock, Rtcp, Writer};
use sfu::rtp::{RtpHeader, RtpPacket};
use sfu::transport::srtp::RTCP_OVERHEAD;
use sfu::transport::{MasterKeys, SrtpError, SrtpReceiver, SrtpSender};
use sfu::{Codec, IceCredentials};

use crate::ice_agent::IceAgent;
use crate::meeting::{ABS_SEND_TIME, TRANSPORT_CC};
use crate::publisher_rate::PublisherRate;
use crate::received_stream::{ReceivedStream, ReceptionSpec};
use crate::remb_estimator::RembEstimator;
use crate::sent_stream::{Encoded, SentStream, StreamSpec};
use crate::turn_client::TurnClient;

/// Octets of the IPv4 and UDP headers.
const WIRE_OVERHEAD: u64 = 28;
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const REPAIR_INTERVAL: Duration = Duration::from_millis(20);

/// What a caller is made with.
pub struct CallerSpec {
    /// Its own end.
    pub local: Endpoint,
    /// The server's candidate.
    pub server: SocketAddr,
    pub local_ice: IceCredentials,
    pub remote_ice: IceCredentials,
    pub keys: MasterKeys,
    /// With a client the media goes through its allocation alone; the server's candidate must be a peer of it.
    pub turn: Option<TurnClient>,
}

/// What a caller has seen that belongs to no stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallerCounters {
    pub transport_feedback: u64,
    pub receiver_reports: u64,
    pub keyframes_asked: u64,
    pub packets_asked: u64,
    /// SRTP that came twice (a wire that duplicates).
    pub replayed: u64,
    /// Media of a subscription that is not known (any more).
    pub unknown: u64,
}

pub struct Caller {
    local: Endpoint,
    server: SocketAddr,
    pub ice: IceAgent,
    pub turn: Option<TurnClient>,
    sender: SrtpSender,
    receiver: SrtpReceiver,
    entropy: Entropy,
    /// Transport-wide, of those who send whatever the link carries.
    transport_sequence: u16,
    /// Whether and how what is published follows the link.
    rate: Option<PublisherRate>,
    pub sent: Vec<SentStream>,
    pub received: Vec<ReceivedStream>,
    pub counters: CallerCounters,
    /// A REMB to send with every report, in bit/s.
    pub remb_bps: Option<u64>,
    /// Whether its reports tell of loss.
    pub reports_loss: bool,
    /// Whether it makes a REMB of its own from send times.
    pub estimates_remb: bool,
    remb: RembEstimator,
    /// Nothing is done any more: the process was killed.
    pub dead: bool,
    ssrc: u32,
    next_report: Instant,
    next_repair: Instant,
    /// When what carries transport-wide numbers arrived.
    arrivals: FeedbackGenerator,
}

impl Caller {
    pub fn new(spec: CallerSpec, now: Instant, mut entropy: Entropy) -> Caller {
        let (sender, receiver) = spec.keys.client_contexts();
        Caller {
            local: spec.local,
            server: spec.server,
            ice: IceAgent::new(&spec.local_ice, &spec.remote_ice, now, entropy.fork()),
            turn: spec.turn,
            sender,
            receiver,
            transport_sequence: 0,
            rate: None,
            sent: Vec::new(),
            received: Vec::new(),
            counters: CallerCounters::default(),
            remb_bps: None,
            reports_loss: true,
            estimates_remb: false,
            remb: RembEstimator::default(),
            dead: false,
            ssrc: entropy.u32(),
            entropy,
            next_report: now + REPORT_INTERVAL,
            next_repair: now + REPAIR_INTERVAL,
            arrivals: FeedbackGenerator::default(),
        }
    }

    pub fn publish(&mut self, now: Instant, spec: StreamSpec) {
        let stream = SentStream::new(spec, now, &mut self.entropy);
        self.sent.push(stream);
    }

    /// Every encoder of the track starts over: see [`SentStream::start_over`].
    pub fn start_over(&mut self, track: u64, behind: u64) {
        let streams = self.sent.iter_mut().filter(|stream| stream.spec.track == track);
        streams.for_each(|stream| stream.start_over(behind, &mut self.entropy));
    }

    /// From now on what is published follows what the link carries.
    pub fn adapt(&mut self, now: Instant) {
        self.rate = Some(PublisherRate::new(now));
    }

    pub fn receive(&mut self, spec: ReceptionSpec) {
        self.received.push(ReceivedStream::new(spec));
    }

    /// The stream of this track.
    pub fn reception(&self, track: u64) -> &ReceivedStream {
        self.received.iter().find(|stream| stream.spec.track == track).expect("a subscription to this track")
    }

    pub fn can_send(&self) -> bool {
        self.ice.is_connected()
    }

    /// Its host has another address now; what it sends next leaves from there.
    pub fn set_local(&mut self, local: Endpoint) {
        self.local = local;
        if let Some(turn) = &mut self.turn {
            turn.set_local(local);
        }
    }

    fn send(&mut self, packet: &[u8], out: &mut Outbox) {
        match &mut self.turn {
            Some(turn) => {
                turn.send(self.server, packet, out);
            }
            None => out.send(self.local, self.server, packet),
        }
    }

    fn handle_packet(&mut self, now: Now, packet: &mut [u8], out: &mut Outbox) {
        match packet.first() {
            Some(0..=3) => {
                if let Ok(message) = Message::parse(packet) {
                    self.ice.handle_answer(now.instant, &message);
                }
            }
            Some(128..=191) if sfu::rtp::is_rtcp(packet) => self.handle_rtcp(now, packet, out),
            Some(128..=191) => self.handle_rtp(now, packet),
            _ => {}
        }
    }

    fn handle_rtp(&mut self, now: Now, packet: &mut [u8]) {
        let header = RtpHeader::parse(packet).expect("the server sends RTP");
        let header_length = usize::from(header.len);
        let unprotected = self.receiver.unprotect_rtp(packet, header_length, header.ssrc, header.sequence_number);
        let length = match unprotected {
            Ok((length, _)) => length,
            Err(SrtpError::Replayed) => {
                self.counters.replayed += 1;
                return;
            }
            Err(error) => panic!("the server sends what cannot be unprotected: {error:?}"),
        };
        let plain = RtpPacket::with_header(header, &packet[..length]).expect("the server sends RTP");
        if let Some(&[high, low]) = plain.extension(TRANSPORT_CC) {
            self.arrivals.receive(u16::from_be_bytes([high, low]), now.instant);
        }
        if let Some(&[a, b, c]) = plain.extension(ABS_SEND_TIME).filter(|_| self.estimates_remb) {
            self.remb.receive(now.instant, [a, b, c], packet.len() as u32);
        }
        let of = |stream: &&mut ReceivedStream| {
            let repair = stream.spec.rtx.map(|(ssrc, _)| ssrc);
            stream.spec.ssrc == header.ssrc || repair == Some(header.ssrc)
        };
        match self.received.iter_mut().find(of) {
            Some(stream) => {
                stream.wire_octets += WIRE_OVERHEAD + packet.len() as u64;
                stream.handle(now.instant, &header, plain.payload());
            }
            None => self.counters.unknown += 1,
        }
    }

    fn handle_rtcp(&mut self, now: Now, packet: &mut [u8], out: &mut Outbox) {
        let length = match self.receiver.unprotect_rtcp(packet) {
            Ok(length) => length,
            Err(SrtpError::Replayed) => {
                self.counters.replayed += 1;
                return;
            }
            Err(error) => panic!("the server sends what cannot be unprotected: {error:?}"),
        };
        let mut packets = rtcp::packets(&packet[..length]);
        for packet in packets.by_ref() {
            match packet {
                Rtcp::SenderReport { ssrc, info, .. } => {
                    if let Some(stream) = self.received.iter_mut().find(|stream| stream.spec.ssrc == ssrc) {
                        stream.handle_sender_report(info);
                    }
                }
                Rtcp::ReceiverReport { reports, .. } => {
                    for report in reports {
                        self.counters.receiver_reports += 1;
                        if let Some(stream) = self.sent.iter_mut().find(|stream| stream.spec.ssrc == report.ssrc) {
                            stream.acknowledged = true;
                            stream.fec.report(now.instant, f64::from(report.fraction_lost) / 256.0);
                        }
                    }
                }
                Rtcp::PictureLoss { media_ssrc, .. } => self.handle_keyframe_wish(media_ssrc),
                Rtcp::FullIntraRequest { entries, .. } => {
                    entries.for_each(|(ssrc, _)| self.handle_keyframe_wish(ssrc));
                }
                Rtcp::Nack { media_ssrc, lost, .. } => {
                    for sequence in lost {
                        let Some(at) = self.sent.iter().position(|stream| stream.spec.ssrc == media_ssrc) else {
                            break;
                        };
                        self.counters.packets_asked += 1;
                        if let Some(again) = self.sent[at].retransmit(sequence) {
                            self.submit(now, at, again, out);
                        }
                    }
                }
                Rtcp::TransportFeedback(feedback) => {
                    self.counters.transport_feedback += 1;
                    if let Some(rate) = &mut self.rate {
                        rate.handle_feedback(now.instant, &feedback);
                    }
                }
                Rtcp::Remb { bitrate_bps, .. } => {
                    if let Some(rate) = &mut self.rate {
                        rate.handle_remb(bitrate_bps);
                    }
                }
                _ => {}
            }
        }
        assert!(!packets.is_malformed(), "the server sends malformed RTCP");
    }

    /// One for a track that has ended meanwhile is no fault of the server.
    fn handle_keyframe_wish(&mut self, ssrc: u32) {
        match self.sent.iter_mut().find(|stream| stream.spec.ssrc == ssrc) {
            Some(stream) => {
                stream.request_keyframe();
                self.counters.keyframes_asked += 1;
            }
            None => self.counters.unknown += 1,
        }
    }

    fn send_rtcp(&mut self, write: impl FnOnce(&mut Writer<'_>), out: &mut Outbox) {
        let mut buffer = [0; 1400];
        let room = buffer.len() - RTCP_OVERHEAD;
        let mut writer = Writer::new(&mut buffer[..room]);
        write(&mut writer);
        let length = writer.len();
        if length > 0 {
            let length = self.sender.protect_rtcp(&mut buffer, length);
            self.send(&buffer[..length], out);
        }
    }

    fn send_frames(&mut self, now: Now, out: &mut Outbox) {
        if let Some(rate) = &mut self.rate {
            rate.tick(now.instant, &mut self.sent);
        }
        for at in 0..self.sent.len() {
            for encoded in self.sent[at].poll_frame(now) {
                self.submit(now, at, encoded, out);
            }
        }
        self.send_paced(now, out);
    }

    /// A packet of the stream at `at` is made. Audio leaves at once, and everything where nothing is paced.
    fn submit(&mut self, now: Now, at: usize, encoded: Encoded, out: &mut Outbox) {
        let StreamSpec { codec, ssrc, .. } = self.sent[at].spec;
        match self.rate.as_mut().filter(|_| codec != Codec::Opus) {
            Some(rate) => rate.push(ssrc, encoded),
            None => self.leave(now, at, &encoded, out),
        }
    }

    fn leave(&mut self, now: Now, at: usize, encoded: &Encoded, out: &mut Outbox) {
        let number = match &mut self.rate {
            Some(rate) => rate.number(now.instant, encoded),
            None => {
                self.transport_sequence = self.transport_sequence.wrapping_add(1);
                self.transport_sequence
            }
        };
        let packet = self.sent[at].write(now, encoded, number, &self.sender);
        self.send(&packet, out);
    }

    /// What the pacer lets go, and what is to find out whether the link carries more.
    fn send_paced(&mut self, now: Now, out: &mut Outbox) {
        while let Some((ssrc, encoded)) = self.rate.as_mut().and_then(|rate| rate.pop(now.instant)) {
            // Its track may have ended meanwhile.
            if let Some(at) = self.sent.iter().position(|stream| stream.spec.ssrc == ssrc) {
                self.leave(now, at, &encoded, out);
            }
        }
        while let Some(burst) = self.rate.as_mut().and_then(|rate| rate.poll_burst(now.instant)) {
            let largest = self.sent.iter().rposition(|stream| stream.spec.codec != Codec::Opus && !stream.starved);
            if let Some(at) = largest {
                for padding in self.sent[at].padding(burst.octets) {
                    self.leave(now, at, &padding, out);
                }
            }
            self.rate.iter_mut().for_each(|rate| rate.finish_burst(now.instant));
        }
    }

    fn send_reports(&mut self, now: Now, out: &mut Outbox) {
        let infos: Vec<_> = self
            .sent
            .iter()
            .filter(|stream| stream.packets > 0)
            .map(|stream| (stream.spec.ssrc, stream.sender_info(now)))
            .collect();
        let blocks: Vec<ReportBlock> = self.received.iter_mut().filter_map(ReceivedStream::report).collect();
        let blocks = if self.reports_loss { blocks } else { Vec::new() };
        let ssrcs: Vec<u32> = self.received.iter().map(|stream| stream.spec.ssrc).collect();
        let (ssrc, remb_bps) = (self.ssrc, self.remb_bps.or(self.remb.bps()));
        for (ssrc, info) in infos {
            self.send_rtcp(
                |writer| {
                    writer.sender_report(ssrc, &info);
                },
                out,
            );
        }
        if !blocks.is_empty() {
            self.send_rtcp(
                |writer| {
                    writer.receiver_report(ssrc, &blocks);
                    if let Some(bitrate_bps) = remb_bps {
                        writer.remb(ssrc, bitrate_bps, &ssrcs);
                    }
                },
                out,
            );
        }
    }

    fn send_transport_feedback(&mut self, now: Now, out: &mut Outbox) {
        let ssrc = self.ssrc;
        while self.arrivals.next_feedback().is_some_and(|at| at <= now.instant) {
            let mut arrivals = std::mem::take(&mut self.arrivals);
            self.send_rtcp(|writer| _ = arrivals.write(now.instant, writer, ssrc, 0), out);
            self.arrivals = arrivals;
        }
    }

    fn send_repair(&mut self, now: Now, out: &mut Outbox) {
        let ssrc = self.ssrc;
        for at in 0..self.received.len() {
            let stream = &mut self.received[at];
            let media_ssrc = stream.spec.ssrc;
            let lost = stream.poll_nack(now.instant);
            let keyframe = stream.poll_keyframe_request(now.instant);
            self.send_rtcp(
                |writer| {
                    let mut rest = &lost[..];
                    while !rest.is_empty() {
                        match writer.nack(ssrc, media_ssrc, rest) {
                            0 => break,
                            written => rest = &rest[written..],
                        }
                    }
                    if keyframe {
                        writer.picture_loss(ssrc, media_ssrc);
                    }
                },
                out,
            );
        }
    }
}

impl Node for Caller {
    fn handle_batch(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        if self.dead {
            return;
        }
        for datagram in batch {
            let range = match &mut self.turn {
                Some(turn) => match turn.handle(now.instant, datagram.payload) {
                    Some((peer, range)) => {
                        assert_eq!(peer, self.server, "the relay delivers what the peer sent");
                        range
                    }
                    None => continue,
                },
                None if datagram.remote == self.server => 0..datagram.payload.len(),
                None => continue,
            };
            self.handle_packet(now, &mut datagram.payload[range], out);
        }
    }

    fn handle_event(&mut self, _: Now, _: SocketEvent, _: &mut Outbox) {}

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        if self.dead {
            return;
        }
        if let Some(turn) = &mut self.turn {
            turn.handle_timeout(now.instant, out);
        }
        if let Some(check) = self.ice.poll_check(now.instant) {
            self.send(&check, out);
        }
        if !self.can_send() {
            return;
        }
        self.send_frames(now, out);
        self.send_transport_feedback(now, out);
        if now.instant >= self.next_report {
            self.next_report = now.instant + REPORT_INTERVAL;
            self.send_reports(now, out);
        }
        if now.instant >= self.next_repair {
            self.next_repair = now.instant + REPAIR_INTERVAL;
            self.send_repair(now, out);
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        if self.dead {
            return None;
        }
        let frames = self.sent.iter().map(SentStream::poll_timeout);
        let media = frames
            .chain([self.next_report, self.next_repair])
            .chain(self.rate.as_ref().map(PublisherRate::poll_timeout))
            .chain(self.arrivals.next_feedback())
            .filter(|_| self.can_send());
        let turn = self.turn.as_ref().and_then(TurnClient::poll_timeout);
        let at = media.chain([self.ice.poll_timeout()]).chain(turn).min()?;
        Some(Deadline { at, reason: "a simulated caller" })
    }
}
