//! The SFU as a node: who a datagram belongs to, and the transports. Commands are carried out in [`crate::control`],
//! media is handled in [`crate::media`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use datapath::stun::Message;
use datapath::{Datagram, Deadline, Discard, Entropy, Node, Now, Outbox, SocketEvent, Traffic};
use slab::Slab;

use crate::Limits;
use crate::backlog::{Backlog, Budget, Waiting};
use crate::command::{Event, ParticipantId, RoomId, TrackId, TransportEnd};
use crate::congestion::VideoDemand;
use crate::deadlines::{Deadlines, Due, Timer};
use crate::fan_out::FanOut;
use crate::loudest::Voice;
use crate::participant::{Connection, Participant};
use crate::published_track::PublishedTrack;
use crate::room::Room;
use crate::routes::Routes;
use crate::rtp;
use crate::subscription::Subscription;
use crate::transport::ice::let_go;
use crate::transport::{Certificate, Check, DataChannels, DtlsEvent, DtlsOutput, FiveTuple};

/// What an SFU is made with.
#[derive(Clone)]
pub struct Settings {
    pub limits: Limits,
    /// Audio is sent twice, or three times, to a subscriber whose link loses packets.
    pub audio_repair: bool,
    /// The identity whose fingerprint stands in the answers.
    pub certificate: Certificate,
}

/// A participant is looked at no more often than this by its own timer.
pub(crate) const TICK_MIN: Duration = Duration::from_millis(1);

/// The selective forwarding unit of one worker.
///
/// Datagrams come in through [`Node`], commands through [`Sfu::handle_command`]; after either, events are taken with
/// [`Sfu::poll_event`].
pub struct Sfu {
    pub(crate) settings: Settings,
    pub(crate) entropy: Entropy,
    /// Boxed, so that where each lies is known without a look at it, and growing moves nobody.
    pub(crate) participants: Slab<Box<Participant>>,
    pub(crate) participant_keys: HashMap<ParticipantId, usize>,
    pub(crate) rooms: BTreeMap<RoomId, Room>,
    pub(crate) tracks: Slab<PublishedTrack>,
    pub(crate) track_keys: HashMap<TrackId, usize>,
    pub(crate) subscriptions: Slab<Box<Subscription>>,
    pub(crate) routes: Routes,
    pub(crate) deadlines: Deadlines,
    /// Those of regular work, which need not be met exactly.
    pub(crate) regular: Deadlines,
    pub(crate) speakers_due: Due,
    backlog_due: Due,
    pub(crate) uplink_due: Due,
    pub(crate) backlog: Backlog,
    pub(crate) events: VecDeque<Event>,
    pub(crate) fan_out: FanOut,
    /// Memory for DTLS records.
    scratch: Vec<u8>,
    /// Memory of an allocation: the voices and videos of one subscriber, what each demands, and what it
    /// would if its publisher sent everything.
    pub(crate) voices: Vec<Voice>,
    pub(crate) videos: Vec<usize>,
    pub(crate) demands: Vec<VideoDemand>,
    pub(crate) prospects: Vec<VideoDemand>,
}

impl Sfu {
    pub fn new(settings: Settings, entropy: Entropy) -> Sfu {
        Sfu {
            settings,
            entropy,
            participants: Slab::new(),
            participant_keys: HashMap::new(),
            rooms: BTreeMap::new(),
            tracks: Slab::new(),
            track_keys: HashMap::new(),
            subscriptions: Slab::new(),
            routes: Routes::default(),
            deadlines: Deadlines::default(),
            regular: Deadlines::default(),
            speakers_due: Due::default(),
            backlog_due: Due::default(),
            uplink_due: Due::default(),
            backlog: Backlog::default(),
            events: VecDeque::new(),
            fan_out: FanOut::default(),
            scratch: Vec::new(),
            voices: Vec::new(),
            videos: Vec::new(),
            demands: Vec::new(),
            prospects: Vec::new(),
        }
    }

    /// The next event for the control plane.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Rooms, participants, tracks and subscriptions, for the metrics.
    pub fn population(&self) -> Population {
        Population {
            rooms: self.rooms.len(),
            participants: self.participants.len(),
            tracks: self.tracks.len(),
            subscriptions: self.subscriptions.len(),
        }
    }

    /// How a participant's link towards it stands.
    pub fn link_state(&self, participant: ParticipantId) -> Option<LinkState> {
        let participant = &self.participants[*self.participant_keys.get(&participant)?];
        let available_bps = participant.estimate.available_bps();
        Some(LinkState {
            available_bps: (available_bps < u64::MAX).then_some(available_bps),
            loss: participant.estimate.loss(),
            queue: participant.estimate.queue(),
            round_trip: participant.round_trip,
            audio_copies: participant.audio_repair.copies(),
            waiting_octets: participant.pacer.waiting_octets(),
        })
    }

    /// The encoding of a track that a participant is being sent; `None` while it gets none.
    pub fn forwarded_encoding(&self, participant: ParticipantId, track: TrackId) -> Option<u8> {
        let subscriber = *self.participant_keys.get(&participant)?;
        let track = &self.tracks[*self.track_keys.get(&track)?];
        let mut subscriptions = track.subscriptions.iter().map(|&key| &self.subscriptions[key]);
        subscriptions.find(|subscription| subscription.subscriber == subscriber)?.forwarder.current()
    }

    /// `index` is that of the datagram in its batch.
    fn handle_datagram(&mut self, now: Now, index: usize, datagram: &mut Datagram<'_>, out: &mut Outbox) {
        let from = FiveTuple { local: datagram.local, remote: datagram.remote };
        match datagram.payload.first() {
            Some(0..=3) => self.handle_stun(now, from, datagram.payload, out),
            Some(20..=63) => self.handle_dtls(now, from, datagram.payload, out),
            Some(128..=191) => {
                let Some(key) = self.routes.find(from) else {
                    return out.counters.discard(Discard::UnknownFiveTuple);
                };
                if rtp::is_rtcp(datagram.payload) {
                    self.handle_rtcp(now, key, datagram.payload, out);
                } else {
                    self.handle_rtp(now, key, index, datagram, out);
                }
            }
            _ => out.counters.discard(Discard::UnknownProtocol),
        }
    }

    /// Trip 1: an ICE check. Nothing is learned, and nothing answered, before its MESSAGE-INTEGRITY verifies.
    fn handle_stun(&mut self, now: Now, from: FiveTuple, payload: &[u8], out: &mut Outbox) {
        out.counters.received(Traffic::Stun, payload.len());
        let Ok(message) = Message::parse(payload) else {
            return out.counters.discard(Discard::MalformedStun);
        };
        let Some(key) = message.username().and_then(|username| self.routes.find_username(username)) else {
            return out.counters.discard(Discard::UnknownUfrag);
        };
        let participant = &mut self.participants[key];
        let Some(ice) = &mut participant.ice else {
            return out.counters.discard(Discard::UnknownUfrag);
        };
        let (displaced, retired) = match ice.handle_check(now.instant, &message, from, out) {
            Check::Verified { displaced, retired } => (displaced, retired),
            Check::Refused => return out.counters.discard(Discard::BadIntegrity),
            Check::Excessive => return out.counters.discard(Discard::LimitReached),
        };
        if let Some(retired) = retired {
            self.routes.remove_ufrag(&retired);
        }
        if let Some(displaced) = displaced {
            self.routes.unbind(displaced, key);
            let_go(displaced, out);
        }
        if let Some(before) = self.routes.bind(from, key) {
            self.forget_address(now, before, from);
        }
        out.prove(from.local, from.remote);
        self.mark_heard(now, key);
    }

    /// DTLS of a proved address waits until the turn's media is out.
    fn handle_dtls(&mut self, now: Now, from: FiveTuple, payload: &[u8], out: &mut Outbox) {
        out.counters.received(Traffic::Dtls, payload.len());
        let Some(key) = self.routes.find(from) else {
            return out.counters.discard(Discard::UnknownFiveTuple);
        };
        let is_handshake = self.participants[key].dtls.as_ref().is_none_or(|dtls| !dtls.is_connected());
        let waiting = Waiting { participant: key, datagram: payload.to_vec(), is_handshake };
        if !self.backlog.push(waiting, self.settings.limits.handshakes) {
            return out.counters.discard(Discard::LimitReached);
        }
        self.backlog_due.schedule(now.instant, Timer::Backlog, &mut self.deadlines);
    }

    fn work_off_backlog(&mut self, now: Now, out: &mut Outbox) {
        let mut budget = Budget::default();
        while let Some(waiting) = self.backlog.pop(&mut budget) {
            if let Some(dtls) = &mut self.participants[waiting.participant].dtls {
                dtls.handle_packet(now.instant, &waiting.datagram);
                self.drive_secure_channel(now, waiting.participant, out);
            }
        }
        if !self.backlog.is_empty() {
            self.backlog_due.schedule(now.instant, Timer::Backlog, &mut self.deadlines);
        }
    }

    /// Lets DTLS and the SCTP inside it say what they have to say.
    pub(crate) fn drive_secure_channel(&mut self, now: Now, key: usize, out: &mut Outbox) {
        let participant = &mut self.participants[key];
        let address = participant.address();
        let Some(dtls) = &mut participant.dtls else { return };
        let mut arrived = Vec::new();
        let mut emit = |output: DtlsOutput<'_>, out: &mut Outbox| match (output, address) {
            (DtlsOutput::Packet(packet), Some(to)) => {
                out.send(to.local, to.remote, packet);
                out.counters.sent(Traffic::Dtls, packet.len());
            }
            (DtlsOutput::Packet(_), None) => {}
            (DtlsOutput::Data(data), _) => arrived.push(data.to_vec()),
        };
        let mut event = dtls.poll(&mut self.scratch, |output| emit(output, out));
        if !arrived.is_empty() {
            let limit = self.settings.limits.data_buffer_bytes;
            let data = participant.data.get_or_insert_with(|| Box::new(DataChannels::new(limit)));
            for packet in &arrived {
                data.handle_packet(now.instant, packet);
            }
            participant.heard = now.instant;
        }
        if let Some(data) = &mut participant.data {
            data.poll_transmit(now.instant, |packet| {
                let end = dtls.send(packet, &mut self.scratch, |output| {
                    if let (DtlsOutput::Packet(packet), Some(to)) = (output, address) {
                        out.send(to.local, to.remote, packet);
                        out.counters.sent(Traffic::Dtls, packet.len());
                    }
                });
                event = event.take().or(end);
            });
            while let Some((label, payload)) = data.poll_message() {
                self.events.push_back(Event::Data { participant: participant.id, label, payload });
            }
        }
        if let Some(at) = participant.secure_channel_due() {
            let at = at.max(now.instant + TICK_MIN);
            participant.due.schedule(at, Timer::Participant(key), &mut self.deadlines);
        }
        match event {
            Some(DtlsEvent::Keys(keys)) => {
                let (sender, receiver) = keys.server_contexts();
                participant.sender = Some(sender);
                participant.receiver = Some(receiver);
                self.mark_heard(now, key);
            }
            Some(DtlsEvent::Failed) => self.end_transport(key, TransportEnd::HandshakeFailed),
            Some(DtlsEvent::Closed) => self.end_transport(key, TransportEnd::Closed),
            None => {}
        }
    }

    fn end_transport(&mut self, key: usize, end: TransportEnd) {
        let participant = &mut self.participants[key];
        participant.connection = Connection::Ended;
        participant.sender = None;
        participant.receiver = None;
        self.events.push_back(Event::Disconnected { participant: participant.id, end });
    }

    /// An authenticated packet came: the transport lives.
    pub(crate) fn mark_heard(&mut self, now: Now, key: usize) {
        let participant = &mut self.participants[key];
        participant.heard = now.instant;
        let ready = participant.sender.is_some();
        if ready
            && matches!(participant.connection, Connection::New | Connection::Silent)
            && let Some(address) = participant.address()
        {
            if participant.connection == Connection::New {
                participant.pacer.open(now.instant);
                participant.comes_in = true;
            }
            participant.connection = Connection::Connected;
            let id = participant.id;
            self.events.push_back(Event::Connected { participant: id, remote: address.remote });
            self.wake(key, now.instant);
            self.start_subscriptions(now, key);
        }
    }

    /// Has the participant looked at no later than `at`.
    pub(crate) fn wake(&mut self, key: usize, at: Instant) {
        self.participants[key].due.schedule(at, Timer::Participant(key), &mut self.deadlines);
    }

    /// What has its moment.
    fn tick_participant(&mut self, now: Now, key: usize, out: &mut Outbox) {
        if self.participants[key].secure_channel_due().is_some_and(|at| at <= now.instant) {
            self.participants[key].handle_secure_channel_timeout(now.instant);
            self.drive_secure_channel(now, key, out);
        }
        let mut next = self.participants[key].secure_channel_due();
        if self.participants[key].sender.is_some() {
            if std::mem::take(&mut self.participants[key].comes_in) {
                self.send_last_words(now, key, out);
            }
            let request = self.ask_for_missing(now, key, out);
            next = [next, request].into_iter().flatten().min();
        }
        if let Some(at) = next {
            // Never at once again: whatever cannot be done now would be tried for ever within this turn.
            self.wake(key, at.max(now.instant + TICK_MIN));
        }
        self.do_or_schedule_regular_work(now, key, out);
    }
}

/// How the link towards a participant stands, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkState {
    /// What may be sent, in bit/s; `None` while nothing bounds it.
    pub available_bps: Option<u64>,
    /// The part of the packets that is lost at first, 0 to 1; `None` without transport-wide feedback.
    pub loss: Option<f64>,
    /// What stands on the way.
    pub queue: Duration,
    pub round_trip: Duration,
    /// Sent of each packet of audio.
    pub audio_copies: usize,
    /// What waits in the pacer.
    pub waiting_octets: usize,
}

/// How many of each there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Population {
    pub rooms: usize,
    pub participants: usize,
    pub tracks: usize,
    pub subscriptions: usize,
}

impl Node for Sfu {
    fn handle_batch(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        for (index, datagram) in batch.iter_mut().enumerate() {
            self.handle_datagram(now, index, datagram, out);
        }
        self.forward_gathered(now, batch, out);
        self.do_regular_work_early(now, out);
    }

    /// The SFU has no sockets of its own, but the connections of those who come over TCP end.
    fn handle_event(&mut self, now: Now, event: SocketEvent, _: &mut Outbox) {
        if let SocketEvent::StreamClosed { local, remote } = event {
            self.handle_stream_closed(now, FiveTuple { local, remote });
        }
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outbox) {
        while let Some((at, timer)) = self.deadlines.pop_due(now.instant) {
            match timer {
                Timer::Backlog if self.backlog_due.take(at) => {
                    self.work_off_backlog(now, out);
                    // What is left waits for the next turn, so that media comes in between.
                    if !self.backlog.is_empty() {
                        break;
                    }
                }
                Timer::Speakers if self.speakers_due.take(at) => self.compare_speakers(now),
                Timer::Uplink if self.uplink_due.take(at) => self.share_uplink(now),
                Timer::Participant(key)
                    if self.participants.get_mut(key).is_some_and(|participant| participant.due.take(at)) =>
                {
                    self.tick_participant(now, key, out);
                }
                Timer::Departures(key)
                    if self
                        .participants
                        .get_mut(key)
                        .is_some_and(|participant| participant.departures_due.take(at)) =>
                {
                    self.send_departures(now, key, out);
                }
                _ => {}
            }
        }
        self.do_regular_work(now, now.instant, usize::MAX, out);
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        [self.deadlines.next(), self.regular.next()].into_iter().flatten().min().map(|(at, timer)| {
            let reason = match timer {
                Timer::Backlog => "backlog of DTLS datagrams",
                Timer::Speakers => "audio levels",
                Timer::Uplink => "shares of the uplink",
                Timer::Departures(_) => "paced packets of a participant",
                Timer::Participant(_) => "repair and handshakes of a participant",
                Timer::Regular(_) => "feedback, reports and encodings of a participant",
            };
            Deadline { at, reason }
        })
    }
}
