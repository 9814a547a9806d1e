//! Trip 3, second half: what was gathered of a batch, to the subscribers.
//!
//! The packets of a batch are read one by one, as they came; then they are forwarded by track and subscriber. So a
//! subscriber's state and keys are fetched once for all the packets of a frame, and its copies of them lie side by side
//! in the arena and leave as one piece.

use std::ops::Range;

use datapath::{Datagram, Now, Outbox, prefetch};
use slab::Slab;

use crate::deadlines::Timer;
use crate::forwarder::{Decision, Rewrite};
use crate::media_packet::MediaPacket;
use crate::pacing::{DEPARTURE_OVERHEAD, Departure, IP_AND_UDP};
use crate::participant::Participant;
use crate::published_track::PublishedTrack;
use crate::rtp::{Extensions, RtpHeader, RtpPacket};
use crate::sfu::Sfu;
use crate::subscription::{Subscription, Text};
use crate::track::ExtensionIds;

/// A range of the payload of one of the batch's datagrams.
#[derive(Clone, Debug)]
pub struct Place {
    pub datagram: usize,
    pub octets: Range<usize>,
}

/// What waits for the end of its batch. Empty between batches, but for its memory.
#[derive(Debug, Default)]
pub struct FanOut {
    gathered: Vec<Gathered>,
}

/// A plain packet of an encoding, described.
#[derive(Debug)]
struct Gathered {
    /// Slab key.
    track: usize,
    /// How many were gathered before it.
    order: usize,
    media: MediaPacket,
    header: RtpHeader,
    place: Place,
}

impl Gathered {
    /// `packet` is the plain packet. `None` if it is malformed.
    fn original<'a>(&'a self, packet: &'a mut [u8], ids: &ExtensionIds) -> Option<Original<'a>> {
        let length = RtpPacket::with_header(self.header, packet).ok()?.payload().len();
        let (header, payload) = packet.split_at_mut(usize::from(self.header.len));
        let extensions = Extensions::of(&self.header, header, ids);
        Some(Original { media: &self.media, extensions, payload: Payload::Arrived(&mut payload[..length]) })
    }
}

impl FanOut {
    /// `place` holds the plain packet that `header` and `media` describe.
    pub fn push(&mut self, track: usize, media: MediaPacket, header: RtpHeader, place: Place) {
        let order = self.gathered.len();
        self.gathered.push(Gathered { track, order, media, header, place });
    }
}

/// What the copies of a packet are made from.
pub struct Original<'a> {
    pub media: &'a MediaPacket,
    pub extensions: Extensions<'a>,
    pub payload: Payload<'a>,
}

pub enum Payload<'a> {
    /// Where it came in. It is nobody else's any more, so each copy's descriptor is written over its own and the cipher reads
    /// the copy from there.
    Arrived(&'a mut [u8]),
    /// In a publisher's history.
    Kept(&'a [u8]),
}

impl Payload<'_> {
    fn len(&self) -> usize {
        match self {
            Payload::Arrived(payload) => payload.len(),
            Payload::Kept(payload) => payload.len(),
        }
    }

    fn text<'a>(&'a mut self, rewrite: &'a Rewrite) -> Text<'a> {
        match self {
            Payload::Arrived(payload) => Text::over(rewrite, payload),
            Payload::Kept(payload) => Text::of(rewrite, payload),
        }
    }
}

/// Packets that one subscriber is given in a row. More than two usual frames of video gain nothing.
const ROW: usize = 16;

impl Sfu {
    /// Forwards what was gathered of `batch`.
    pub(crate) fn forward_gathered(&mut self, now: Now, batch: &mut [Datagram<'_>], out: &mut Outbox) {
        let mut gathered = std::mem::take(&mut self.fan_out.gathered);
        // Most often of one track, and in order already.
        gathered.sort_unstable_by_key(|packet| (packet.track, packet.order));
        for packets in gathered.chunk_by(|a, b| a.track == b.track) {
            for row in packets.chunks(ROW) {
                self.forward_row(now, row, batch, out);
            }
        }
        gathered.clear();
        self.fan_out.gathered = gathered;
    }

    /// Forwards packets of one track to everybody who is to have them.
    fn forward_row(&mut self, now: Now, row: &[Gathered], batch: &mut [Datagram<'_>], out: &mut Outbox) {
        let Some(Gathered { track: key, .. }) = row.first() else { return };
        let track = &mut self.tracks[*key];
        let ids = self.participants[track.publisher].extensions;
        let mut originals = [const { None }; ROW];
        let mut behind = batch;
        let mut passed = 0;
        for (place, packet) in originals.iter_mut().zip(row) {
            // In the order of their datagrams.
            let Some((datagram, rest)) = behind[packet.place.datagram - passed..].split_first_mut() else { break };
            (behind, passed) = (rest, packet.place.datagram + 1);
            *place = packet.original(&mut datagram.payload[packet.place.octets.clone()], &ids);
        }
        let originals = &mut originals[..row.len()];
        // Bits by encoding.
        let mut wanted = 0u32;
        for step in 0..LEAD {
            fetch_ahead(step, &track.subscriptions, &self.subscriptions, &self.participants);
        }
        for (at, &key) in track.subscriptions.iter().enumerate() {
            fetch_ahead(at + LEAD, &track.subscriptions, &self.subscriptions, &self.participants);
            let subscription = &mut self.subscriptions[key];
            let subscriber_key = subscription.subscriber;
            let subscriber = &mut self.participants[subscriber_key];
            let sent: usize = originals
                .iter_mut()
                .flatten()
                .map(|original| forward(now, track, (key, subscription), subscriber, original, out))
                .sum();
            if sent > 0 {
                subscriber.sent.receive(now.instant, sent);
            }
            if let Some(at) = subscriber.next_departure() {
                let timer = Timer::Departures(subscriber_key);
                subscriber.departures_due.schedule(at, timer, &mut self.deadlines);
            }
            let forwarder = &subscription.forwarder;
            for encoding in [forwarder.current(), forwarder.target()].into_iter().flatten() {
                wanted |= 1 << encoding;
            }
        }
        let publisher = track.publisher;
        let mut missing_at = None;
        for (encoding, stream) in track.encodings.iter_mut().enumerate() {
            if !row.iter().any(|packet| usize::from(packet.media.encoding) == encoding) {
                continue;
            }
            if wanted & 1 << encoding == 0 {
                stream.want_nothing();
            }
            missing_at = [missing_at, stream.missing.next_poll()].into_iter().flatten().min();
        }
        if let Some(at) = missing_at {
            self.wake(publisher, at);
        }
    }
}

/// How many subscribers ahead of the one that is served what is kept of them begins to be fetched.
const LEAD: usize = 5;

/// Has in the cache soon what is kept of the subscriber that is served [`LEAD`] steps later: among many it has not stayed there
/// since the last frame. Where the one thing lies is known when the other has come, so each is fetched some steps later.
fn fetch_ahead(
    step: usize,
    served: &[usize],
    subscriptions: &Slab<Box<Subscription>>,
    participants: &Slab<Box<Participant>>,
) {
    let reached = |after: usize| step.checked_sub(after).and_then(|at| served.get(at)).map(|&key| &*subscriptions[key]);
    let subscriber = |after: usize| reached(after).map(|subscription| &*participants[subscription.subscriber]);
    if let Some(subscription) = reached(0) {
        prefetch(subscription);
    }
    if let Some(participant) = subscriber(2) {
        participant.prefetch();
    }
    if let Some(participant) = subscriber(3) {
        if let Some(send_side) = participant.estimate.shared_send_side() {
            send_side.prefetch();
        }
        if let Some(sender) = &participant.sender {
            sender.prefetch();
        }
    }
    if let Some(send_side) = subscriber(4).and_then(|participant| participant.estimate.shared_send_side()) {
        send_side.prefetch_history();
    }
}

/// Sends the subscriber its copy, if it gets one; and after a switch at a keyframe that came late, the packets behind it that
/// were here before it. Returns the octets sent.
pub fn forward(
    now: Now,
    track: &PublishedTrack,
    (key, subscription): (usize, &mut Subscription),
    subscriber: &mut Participant,
    original: &mut Original<'_>,
    out: &mut Outbox,
) -> usize {
    // Not moved from where it was written: a move would read it in other pieces, and wait until the packet before is written out.
    let decision = subscription.forwarder.handle(original.media, &track.clocks);
    let Decision::Forward(rewrite) = &decision else { return 0 };
    let mut sent = send_or_wait(now, track, (key, subscription), subscriber, original, rewrite, out);
    if let Some(range) = subscription.forwarder.take_catch_up() {
        let history = &track.encodings[usize::from(original.media.encoding)].history;
        for (media, payload) in range.filter_map(|sequence| history.get(sequence)) {
            let mut original = Original { media, extensions: Extensions::default(), payload: Payload::Kept(payload) };
            if let Decision::Forward(rewrite) = subscription.forwarder.handle(media, &track.clocks) {
                sent += send_or_wait(now, track, (key, subscription), subscriber, &mut original, &rewrite, out);
            }
        }
    }
    sent
}

/// Video that the link has no room for now waits in the history. Returns the octets sent.
fn send_or_wait(
    now: Now,
    track: &PublishedTrack,
    (key, subscription): (usize, &mut Subscription),
    subscriber: &mut Participant,
    original: &mut Original<'_>,
    rewrite: &Rewrite,
    out: &mut Outbox,
) -> usize {
    let Original { media, extensions, payload } = original;
    if track.is_video() && !subscriber.pacer.admits(now.instant, payload.len() + DEPARTURE_OVERHEAD) {
        let MediaPacket { encoding, sequence, .. } = **media;
        let departure = Departure { subscription: key, encoding, sequence, rewrite: *rewrite, is_repair: false };
        subscriber.wait(now, subscription.priority, payload.len(), departure, out);
        return 0;
    }
    let sent = subscription.send_copy(now, subscriber, rewrite, extensions, payload.text(rewrite), out);
    if !track.is_video() {
        subscriber.pacer.spend(now.instant, sent + IP_AND_UDP);
    }
    sent
}
