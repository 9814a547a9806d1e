//! A video over a link between two `str0m`s, at the rate that the sender's estimator says.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use str0m::bwe::{Bitrate, BweKind};
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RawPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc};

use crate::course::{Course, Estimates, IP_AND_UDP, Path};

const FRAME: Duration = Duration::from_nanos(33_333_333);
const PAYLOAD: usize = 1_150;
/// The encoder leaves a frame out while so much of the last ones waits in the pacer.
const WAITS_MAX: Duration = Duration::from_millis(150);

struct Peer {
    rtc: Rtc,
    address: SocketAddr,
    timeout: Instant,
    /// Events, and datagrams to send, of the present turn.
    events: Vec<Event>,
    transmits: Vec<Vec<u8>>,
}

impl Peer {
    fn new(start: Instant, last: u8, bwe: Option<Bitrate>) -> Peer {
        let address = SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), 5000));
        let builder = Rtc::builder().clear_codecs().enable_vp8(true).set_rtp_mode(true);
        let mut rtc = builder.enable_bwe(bwe).enable_raw_packets(bwe.is_some()).build(start);
        rtc.add_local_candidate(Candidate::host(address, "udp").unwrap());
        Peer { rtc, address, timeout: start, events: Vec::new(), transmits: Vec::new() }
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => return self.timeout = at,
                Output::Transmit(transmit) => self.transmits.push(transmit.contents.to_vec()),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn receive(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let contents = datagram.try_into().unwrap();
        let receive = Receive { proto: Protocol::Udp, source, destination: self.address, contents };
        self.rtc.handle_input(Input::Receive(now, receive)).unwrap();
        self.drain();
    }

    fn advance(&mut self, now: Instant) {
        self.rtc.handle_input(Input::Timeout(now)).unwrap();
        self.drain();
    }
}

/// The encoder: frames at the rate that it was told last.
struct Video {
    mid: Mid,
    pt: Pt,
    bps: f64,
    sequence: u64,
    /// Octets that wait in the pacer, packet by packet.
    waiting: VecDeque<usize>,
    next_frame: Duration,
}

impl Video {
    fn encode(&mut self, now: Duration, wallclock: Instant, rtc: &mut Rtc) {
        self.next_frame = now + FRAME;
        let waits = self.waiting.iter().sum::<usize>() as f64 * 8.0;
        if waits > self.bps * WAITS_MAX.as_secs_f64() {
            return;
        }
        let frame = (self.bps * FRAME.as_secs_f64() / 8.0) as usize;
        let packets = frame.div_ceil(PAYLOAD).max(1);
        let timestamp = (now.as_secs_f64() * 90e3) as u32;
        for _ in 0..packets {
            let payload = vec![0; frame / packets];
            self.waiting.push_back(payload.len());
            let write = RtpWrite::new(self.pt, self.sequence.into(), timestamp, wallclock, payload).nackable(true);
            rtc.direct_api().stream_tx_by_mid(self.mid, None).unwrap().write_rtp(write);
            self.sequence += 1;
        }
    }
}

struct Call {
    start: Instant,
    wanted_bps: f64,
    sender: Peer,
    receiver: Peer,
    path: Path<Vec<u8>>,
    video: Video,
    is_connected: bool,
    estimates: Estimates,
    payload_octets: usize,
    wire_octets: usize,
}

/// What the estimate was, in octets on the wire (str0m counts those of the payload). `start` is any instant; time is
/// virtual from there on.
pub fn run(course: &Course, start: Instant, begin_bps: f64, wanted_bps: f64) -> Estimates {
    let mut sender = Peer::new(start, 1, Some(Bitrate::from(begin_bps)));
    let mut receiver = Peer::new(start, 2, None);
    let mut change = sender.rtc.sdp_api();
    let mid = change.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
    let (offer, pending) = change.apply().unwrap();
    let answer = receiver.rtc.sdp_api().accept_offer(offer).unwrap();
    sender.rtc.sdp_api().accept_answer(pending, answer).unwrap();
    sender.rtc.bwe().set_bitrate(Bitrate::ZERO, Bitrate::from(wanted_bps));
    let pt = sender.rtc.codec_config().find(|params| params.spec().codec == Codec::Vp8).unwrap().pt();
    let video = Video { mid, pt, bps: begin_bps, sequence: 1, waiting: VecDeque::new(), next_frame: Duration::ZERO };
    let mut call = Call {
        start,
        wanted_bps,
        sender,
        receiver,
        path: Path::new(course),
        video,
        is_connected: false,
        estimates: Estimates::default(),
        payload_octets: 0,
        wire_octets: 0,
    };
    let mut now = Duration::ZERO;
    call.sender.drain();
    call.receiver.drain();
    while now < course.length() {
        call.turn(now);
        now = call.next(now);
    }
    assert!(call.is_connected);
    assert_eq!(call.path.dropped(), 0);
    let scale = call.wire_octets as f64 / call.payload_octets as f64;
    call.estimates.0.iter_mut().for_each(|(_, bps)| *bps *= scale);
    call.estimates
}

impl Call {
    fn next(&self, now: Duration) -> Duration {
        let timeouts = [&self.sender, &self.receiver].map(|peer| peer.timeout.saturating_duration_since(self.start));
        let frame = if self.is_connected { self.video.next_frame } else { Duration::MAX };
        let next = timeouts.into_iter().chain(self.path.poll_timeout()).fold(frame, Duration::min);
        // A timer that is not obeyed must not stop the clock.
        next.max(now + Duration::from_micros(10))
    }

    fn turn(&mut self, now: Duration) {
        let instant = self.start + now;
        while let Some(datagram) = self.path.poll(now) {
            self.receiver.receive(instant, self.sender.address, &datagram);
        }
        while let Some(datagram) = self.path.back.poll(now) {
            self.sender.receive(instant, self.receiver.address, &datagram);
        }
        if self.is_connected && self.video.next_frame <= now {
            self.video.encode(now, instant, &mut self.sender.rtc);
            self.sender.drain();
        }
        for peer in [&mut self.sender, &mut self.receiver] {
            if peer.timeout <= instant {
                peer.advance(instant);
            }
        }
        self.receiver.events.clear();
        for datagram in self.receiver.transmits.drain(..) {
            self.path.back.push(now, (datagram.len() + IP_AND_UDP) as u32, datagram);
        }
        self.note(now);
    }

    /// What the sender said in this turn.
    fn note(&mut self, now: Duration) {
        let mut sent = VecDeque::new();
        for event in std::mem::take(&mut self.sender.events) {
            match event {
                Event::Connected => {
                    self.is_connected = true;
                    self.video.next_frame = now;
                }
                Event::EgressBitrateEstimate(BweKind::Twcc { estimate, .. }) => {
                    self.video.bps = estimate.as_f64().min(self.wanted_bps);
                    self.estimates.note(now, estimate.as_f64());
                }
                Event::RawPacket(packet) => {
                    if let RawPacket::RtpTx(header, _) = *packet {
                        assert!(header.ext_vals.transport_cc.is_some(), "every packet has a number");
                        sent.push_back(header);
                    }
                }
                _ => {}
            }
        }
        for datagram in std::mem::take(&mut self.sender.transmits) {
            let octets = datagram.len() + IP_AND_UDP;
            if is_rtp(&datagram) {
                let header = sent.pop_front().expect("each packet is told of");
                if header.payload_type == self.video.pt {
                    self.payload_octets += self.video.waiting.pop_front().expect("it was written");
                    self.wire_octets += octets;
                }
            }
            self.path.send(now, octets, datagram);
        }
        assert!(sent.is_empty());
    }
}

/// RFC 7983 §7, RFC 5761 §4.
fn is_rtp(datagram: &[u8]) -> bool {
    (128..192).contains(&datagram[0]) && !(64..96).contains(&(datagram[1] & 0x7F))
}
