//! What leaves for a participant by its own clock: packets that waited, copies of audio, probes.

use std::time::Instant;

use datapath::{Discard, Now, Outbox, Traffic};

use crate::congestion::Priority;
use crate::deadlines::Timer;
use crate::forwarder::Rewrite;
use crate::participant::Participant;
use crate::rtp::Extensions;
use crate::sfu::Sfu;
use crate::subscription::Text;

/// Octets of the IPv4 and UDP headers.
pub const IP_AND_UDP: usize = 28;
/// What comes to a payload on the wire, about: headers of RTP with extensions, UDP and IP, and SRTP's tag.
pub const DEPARTURE_OVERHEAD: usize = IP_AND_UDP + 12 + 8 + 16;
/// The most octets of padding in one packet (RFC 3550 §5.1) with everything around it.
const PADDING_PACKET: usize = 255 + DEPARTURE_OVERHEAD;
/// A burst of a probe has at least so many packets, so that losing one does not spoil it.
const BURST_PACKETS: usize = 2;

/// A packet that waits. Its payload lies in the publisher's history until then, and it is protected when it leaves.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// Slab key.
    pub subscription: usize,
    pub encoding: u8,
    /// The source's, unwrapped.
    pub sequence: u64,
    pub rewrite: Rewrite,
    /// Leaves on the retransmission stream.
    pub is_repair: bool,
}

impl Participant {
    pub fn wait(&mut self, now: Now, priority: Priority, payload_len: usize, departure: Departure, out: &mut Outbox) {
        if !self.pacer.push(now.instant, priority, payload_len + DEPARTURE_OVERHEAD, departure) {
            out.counters.discard(Discard::LimitReached);
        }
    }

    /// When something of what waits, or a copy of audio, is next to leave.
    pub fn next_departure(&self) -> Option<Instant> {
        [self.pacer.next_departure(), self.audio_repair.next_copy()].into_iter().flatten().min()
    }
}

impl Sfu {
    pub(crate) fn send_departures(&mut self, now: Now, key: usize, out: &mut Outbox) {
        self.send_waiting(now, key, out);
        self.send_audio_copies(now, key, out);
        self.send_probe(now, key, out);
        self.schedule_departures(key);
    }

    pub(crate) fn schedule_departures(&mut self, key: usize) {
        let participant = &mut self.participants[key];
        let burst = participant.estimate.send_side().and_then(|send_side| send_side.next_burst());
        let next = [participant.next_departure(), burst];
        if let Some(at) = next.into_iter().flatten().min() {
            participant.departures_due.schedule(at, Timer::Departures(key), &mut self.deadlines);
        }
    }

    fn send_waiting(&mut self, now: Now, key: usize, out: &mut Outbox) {
        let participant = &mut self.participants[key];
        while let Some(departure) = participant.pacer.pop(now.instant) {
            let subscription = &mut self.subscriptions[departure.subscription];
            let track = &self.tracks[subscription.track];
            let history = &track.encodings[usize::from(departure.encoding)].history;
            // Overwritten meanwhile: then it is lost.
            let Some((_, payload)) = history.get(departure.sequence) else { continue };
            let rewrite = &departure.rewrite;
            let sent = if departure.is_repair {
                subscription.resend(now, participant, rewrite, payload, out)
            } else {
                let text = Text::of(rewrite, payload);
                subscription.send_copy(now, participant, rewrite, &Extensions::default(), text, out)
            };
            participant.sent.receive(now.instant, sent);
        }
    }

    fn send_audio_copies(&mut self, now: Now, key: usize, out: &mut Outbox) {
        let participant = &mut *self.participants[key];
        let address = participant.address();
        let Participant { audio_repair, estimate, pacer, .. } = participant;
        audio_repair.poll(now.instant, |packet| {
            let Some(to) = address else { return };
            out.send(to.local, to.remote, packet);
            out.counters.sent(Traffic::Retransmission, packet.len());
            pacer.spend(now.instant, packet.len() + IP_AND_UDP);
            if let Some(send_side) = estimate.send_side() {
                send_side.send_unnumbered(now.instant, packet.len() + IP_AND_UDP);
            }
        });
    }

    fn send_probe(&mut self, now: Now, key: usize, out: &mut Outbox) {
        let participant = &mut self.participants[key];
        let Some(burst) = participant.estimate.send_side().and_then(|send_side| send_side.poll_burst(now.instant))
        else {
            return;
        };
        // Padding goes out on a retransmission stream that numbers its packets.
        let carrier = participant
            .sinks
            .iter()
            .filter(|sink| sink.is_repair)
            .map(|sink| sink.subscription)
            .find(|&key| self.subscriptions[key].spec.extensions.transport_cc.is_some());
        if let Some(carrier) = carrier {
            let packets = burst.octets.div_ceil(PADDING_PACKET).max(BURST_PACKETS);
            for _ in 0..packets {
                let octets = burst.octets / packets;
                let sent = self.subscriptions[carrier].send_padding(now, participant, octets, out);
                participant.pacer.spend(now.instant, sent + IP_AND_UDP);
            }
        }
        if let Some(send_side) = participant.estimate.send_side() {
            send_side.finish_burst(now.instant);
        }
        self.tell_shared_link_of_burst(now, key);
    }
}
