//! The rewriting state of one subscription: which packets go to the subscriber, and under which numbers.
//!
//! - [`Forwarder::set_target`] chooses the encoding, or none. The switch happens at the next keyframe of the target;
//!   [`Forwarder::wants_keyframe`] names the encoding from which one must be asked for.
//! - [`Forwarder::handle`] takes each packet of every encoding of the track and says whether and how it is forwarded.
//! - [`Forwarder::source_of`] and [`Forwarder::rewrite_again`] serve a NACK: from the subscriber's number to the
//!   publisher's packet (see `history`), and from that to the same octets as the first time.
//!
//! What a receiver sees: one RTP stream without gaps, except for packets that were really lost on their way to us, whose
//! numbers are kept for them; timestamps that go on over every switch; for VP8 picture ids, TL0PICIDX and KEYIDX that go
//! on too. A number never stands for two packets, and [`Forwarder::handle`] gives each out once.

mod decided;

use std::ops::RangeInclusive;
use std::time::Instant;

use decided::DecidedFrames;

use crate::media_packet::MediaPacket;
use crate::sender_report::ClockMap;
use crate::sent_window::SentWindow;
use crate::sequence::unwrap_16;
use crate::sequence_map::{Offsets, Place, SequenceMap};
use crate::track::{Codec, Kind};
use crate::vp8::{DESCRIPTOR_LEN_MAX, picture_id_add};

/// More packets missing than this and the stream begins anew: nobody can repair so much.
const MISSING_MAX: u64 = 500;
/// A keyframe whose first packet comes this many packets late is still taken.
const CATCH_UP_MAX: u64 = 128;
/// How far (in seconds) the clocks of two encodings may disagree with the arrival times.
const CLOCK_DEVIATION_MAX: u32 = 2;
/// As above, for the timestamps of one encoding before and after a pause.
const PAUSE_DEVIATION_MAX: u32 = 10;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Forward(Rewrite),
    Drop(Reason),
}

/// Why a packet is not forwarded. None of these is a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The subscription has no target.
    Paused,
    /// Another encoding is forwarded, or will be.
    OtherEncoding,
    /// The target is to begin with a keyframe.
    AwaitsKeyframe,
    /// Above the temporal layers that are wanted.
    TemporalLayer,
    /// Carries nothing.
    Padding,
    /// Before the beginning, or left out already.
    Stale,
    /// Forwarded already.
    Repeated,
}

/// How a packet is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Unwrapped: the low 16 bits are the packet's sequence number, the rest is SRTP's rollover counter.
    pub sequence: u64,
    pub timestamp: u32,
    pub marker: bool,
    descriptor: [u8; DESCRIPTOR_LEN_MAX],
    descriptor_len: u8,
    /// Octets of the source's payload that `descriptor` replaces.
    skip: u16,
    /// The payload stays away; the number alone is sent.
    is_filler: bool,
}

impl Rewrite {
    pub fn sequence_number(&self) -> u16 {
        self.sequence as u16
    }

    /// What is sent between the header and [`Rewrite::payload`].
    pub fn descriptor(&self) -> &[u8] {
        &self.descriptor[..usize::from(self.descriptor_len)]
    }

    /// The part of the source's payload (without padding) that is sent unchanged. Empty in a filler: a late packet
    /// that closes a gap and belongs to a frame that is left out.
    pub fn payload<'a>(&self, source: &'a [u8]) -> &'a [u8] {
        if self.is_filler { &[] } else { source.get(usize::from(self.skip)..).unwrap_or_default() }
    }

    /// Whether the descriptor is no longer than the source's, as with all browsers it is.
    pub fn fits(&self) -> bool {
        self.descriptor_len as u16 <= self.skip
    }

    /// Writes the descriptor, which fits, over the source's own, up to where that ended. What is returned and sent lies in
    /// one piece then.
    pub fn write_over<'a>(&self, source: &'a mut [u8]) -> &'a [u8] {
        if self.is_filler {
            return &[];
        }
        let end = usize::from(self.skip);
        let start = end - usize::from(self.descriptor_len);
        if let Some(place) = source.get_mut(start..end) {
            place.copy_from_slice(self.descriptor());
        }
        source.get(start..).unwrap_or_default()
    }
}

/// The newest frame that was forwarded.
#[derive(Clone, Copy, Debug)]
struct NewestFrame {
    /// As the subscriber sees it.
    timestamp: u32,
    arrival: Instant,
    encoding: u8,
}

#[derive(Clone, Debug)]
pub struct Forwarder {
    codec: Codec,
    target: Option<u8>,
    current: Option<u8>,
    /// The current encoding ends with its frame, whether or not the target begins then.
    is_ending: bool,
    temporal_wish: u8,
    /// In force; follows the wish where the stream allows it.
    temporal_max: u8,
    map: SequenceMap,
    sent: SentWindow,
    newest: Option<NewestFrame>,
    /// The source's timestamp of the newest frame of the current encoding, and whether it is forwarded.
    frame: Option<(u32, bool)>,
    /// The last ones that the subscriber saw.
    picture_id: Option<u16>,
    tl0_picture_index: Option<u8>,
    key_index: Option<u8>,
    decided: DecidedFrames,
    /// The highest sequence number of the target that came while it awaits its keyframe.
    awaiting: Option<u64>,
    catch_up: Option<RangeInclusive<u64>>,
    /// Packets are sent again from this number on: from the newest keyframe.
    repaired_from: u64,
}

impl Forwarder {
    /// `first_sequence` is the number of the first packet: random, and below 2¹⁵ so that a receiver that misses the
    /// first packets still guesses SRTP's rollover counter right (RFC 3711 §3.3.1).
    pub fn new(codec: Codec, first_sequence: u16) -> Forwarder {
        Forwarder {
            codec,
            target: None,
            current: None,
            is_ending: false,
            temporal_wish: u8::MAX,
            temporal_max: u8::MAX,
            map: SequenceMap::new(u64::from(first_sequence)),
            sent: SentWindow::new(u64::from(first_sequence)),
            newest: None,
            frame: None,
            picture_id: None,
            tl0_picture_index: None,
            key_index: None,
            decided: DecidedFrames::default(),
            awaiting: None,
            catch_up: None,
            repaired_from: 0,
        }
    }

    /// Chooses the encoding; `None` stops at once (a pause, a mute). Returns true when that changes anything.
    pub fn set_target(&mut self, target: Option<u8>) -> bool {
        if self.target == target {
            return false;
        }
        self.target = target;
        self.awaiting = None;
        self.is_ending = false;
        if target.is_none() {
            self.current = None;
        }
        true
    }

    /// Temporal layers above `max` are left out, from the next frame on; a higher one comes in where it may.
    pub fn set_temporal_max(&mut self, max: u8) {
        self.temporal_wish = max;
    }

    pub fn target(&self) -> Option<u8> {
        self.target
    }

    /// The encoding that is forwarded now.
    pub fn current(&self) -> Option<u8> {
        self.current
    }

    /// Ends the current encoding before the target has begun, with the frame that is under way.
    pub fn abandon(&mut self) {
        self.is_ending = self.current != self.target;
    }

    /// The subscriber lacks too much to go on: it begins again with the target's next keyframe, and nothing from before is
    /// sent to it any more.
    pub fn begin_again(&mut self) {
        self.current = None;
        self.awaiting = None;
        self.is_ending = false;
        self.repaired_from = self.map.next_number();
    }

    /// Whether the subscriber has a use for packets of the encoding: it goes on, or will from the next keyframe on.
    pub fn is_forwarding(&self, encoding: u8) -> bool {
        self.target == Some(encoding) || self.current == Some(encoding) && !self.is_ending
    }

    /// The encoding whose keyframe is awaited.
    pub fn wants_keyframe(&self) -> Option<u8> {
        self.target.filter(|_| self.current != self.target)
    }

    /// What is added to the timestamps of the current encoding, for sender reports.
    pub fn timestamp_offset(&self) -> Option<u32> {
        let (encoding, offsets) = self.map.newest()?;
        (self.current == Some(encoding)).then_some(offsets.timestamp)
    }

    /// After a switch at a keyframe whose first packet came late: the later packets of the encoding, which were dropped
    /// meanwhile. Fed to [`Forwarder::handle`] again from the history they spare the subscriber a NACK.
    pub fn take_catch_up(&mut self) -> Option<RangeInclusive<u64>> {
        self.catch_up.take()
    }

    /// Decides about a packet. `clocks` are those of the track's encodings, as far as known.
    pub fn handle(&mut self, packet: &MediaPacket, clocks: &[Option<ClockMap>]) -> Decision {
        if self.current != Some(packet.encoding) {
            return self.handle_other(packet, clocks);
        }
        match self.map.place(packet.encoding, packet.sequence) {
            Place::Newest { missing } if missing > MISSING_MAX => {
                // The publisher began anew, or was away for seconds.
                self.current = None;
                self.awaiting = None;
                self.handle_other(packet, clocks)
            }
            Place::Newest { .. } if self.is_ending && self.begins_frame(packet) => {
                self.current = None;
                self.is_ending = false;
                self.handle_other(packet, clocks)
            }
            Place::Newest { .. } => self.handle_newest(packet),
            Place::Late { number, offsets } => self.handle_late(packet, number, offsets),
            Place::Outside => Decision::Drop(Reason::Stale),
        }
    }

    fn begins_frame(&self, packet: &MediaPacket) -> bool {
        self.frame.is_none_or(|(timestamp, _)| timestamp != packet.timestamp)
    }

    /// A packet of an encoding that is not the current one.
    fn handle_other(&mut self, packet: &MediaPacket, clocks: &[Option<ClockMap>]) -> Decision {
        if self.target != Some(packet.encoding) {
            if let Place::Late { number, offsets } = self.map.place(packet.encoding, packet.sequence) {
                // It was lost before the switch: its number is still its own.
                return self.handle_late(packet, number, offsets);
            }
            return Decision::Drop(match self.target {
                None => Reason::Paused,
                Some(_) => Reason::OtherEncoding,
            });
        }
        let newest = self.awaiting.map_or(packet.sequence, |newest| newest.max(packet.sequence));
        self.awaiting = Some(newest);
        if packet.switch_point
            && newest - packet.sequence <= CATCH_UP_MAX
            && !self.map.is_old(packet.encoding, packet.sequence)
        {
            self.awaiting = None;
            self.catch_up = (newest > packet.sequence).then(|| packet.sequence + 1..=newest);
            return self.switch(packet, clocks);
        }
        match self.map.place(packet.encoding, packet.sequence) {
            Place::Late { number, offsets } => self.handle_late(packet, number, offsets),
            _ => Decision::Drop(Reason::AwaitsKeyframe),
        }
    }

    fn switch(&mut self, packet: &MediaPacket, clocks: &[Option<ClockMap>]) -> Decision {
        let mut offsets = Offsets { timestamp: self.switched_timestamp_offset(packet, clocks), ..Offsets::default() };
        if let Some(source) = packet.vp8 {
            if let Some((last, this)) = self.picture_id.zip(source.picture_id) {
                offsets.picture_id = last.wrapping_add(1).wrapping_sub(this);
            }
            if let Some((last, this)) = self.tl0_picture_index.zip(source.tl0_picture_index) {
                offsets.tl0_picture_index = last.wrapping_add(1).wrapping_sub(this);
            }
            if let Some((last, this)) = self.key_index.zip(source.key_index) {
                offsets.key_index = last.wrapping_add(1).wrapping_sub(this);
            }
        }
        self.map.begin(packet.encoding, packet.sequence, offsets);
        self.current = Some(packet.encoding);
        self.is_ending = false;
        self.frame = None;
        self.handle_newest(packet)
    }

    fn handle_newest(&mut self, packet: &MediaPacket) -> Decision {
        let (_, mut offsets) = self.map.newest().expect("the current encoding has begun");
        if packet.payload_len == 0 {
            self.map.skip(packet.sequence, offsets);
            return Decision::Drop(Reason::Padding);
        }
        let (is_new, is_wanted) = match self.frame {
            Some((timestamp, is_wanted)) if timestamp == packet.timestamp => (false, is_wanted),
            _ => (true, self.follow_temporal_wish(packet)),
        };
        self.frame = Some((packet.timestamp, is_wanted));
        if is_new {
            self.decided.note(packet, is_wanted);
        }
        if !is_wanted {
            if is_new {
                // Receivers look for every picture id between two frames.
                offsets.picture_id = offsets.picture_id.wrapping_sub(1);
                // A frame before it may be missing altogether: its numbers wait for it, through a switch as well.
                self.note_numbers(packet, offsets);
            }
            self.map.skip(packet.sequence, offsets);
            return Decision::Drop(Reason::TemporalLayer);
        }
        let number = self.map.advance(packet.sequence);
        assert!(self.sent.insert(number), "the newest number is new");
        if packet.switch_point && self.codec.kind() == Kind::Video {
            self.repaired_from = number;
        }
        if is_new {
            self.newest = Some(NewestFrame {
                timestamp: packet.timestamp.wrapping_add(offsets.timestamp),
                arrival: packet.arrival,
                encoding: packet.encoding,
            });
            self.note_numbers(packet, offsets);
        }
        Decision::Forward(rewrite(packet, number, offsets))
    }

    /// The latest picture numbers that are given out, by the latest frame that has come.
    fn note_numbers(&mut self, packet: &MediaPacket, offsets: Offsets) {
        if let Some(source) = packet.vp8 {
            self.picture_id = source.picture_id.map(|id| picture_id_add(id, offsets.picture_id));
            self.tl0_picture_index =
                source.tl0_picture_index.map(|index| index.wrapping_add(offsets.tl0_picture_index));
            self.key_index = source.key_index.map(|index| index.wrapping_add(offsets.key_index) & 0x1F);
        }
    }

    /// Whether the frame that begins with this packet is wanted.
    fn follow_temporal_wish(&mut self, packet: &MediaPacket) -> bool {
        let Some(layer) = packet.layer else {
            return true;
        };
        // A layer may be left at any frame, and entered at a keyframe or where a frame says so.
        if packet.switch_point || self.temporal_wish < self.temporal_max {
            self.temporal_max = self.temporal_wish;
        } else if layer.needs <= self.temporal_max {
            self.temporal_max = self.temporal_max.max(layer.opens.min(self.temporal_wish));
        }
        // Without a picture id a frame of VP8 cannot be taken out unnoticed. H.264 has none: what follows on what is told
        // by sequence numbers alone.
        layer.id <= self.temporal_max || packet.vp8.is_some_and(|source| source.picture_id.is_none())
    }

    fn handle_late(&mut self, packet: &MediaPacket, number: u64, offsets: Offsets) -> Decision {
        if !self.sent.insert(number) {
            return Decision::Drop(Reason::Repeated);
        }
        if packet.payload_len > 0 && self.decided.is_wanted(packet).is_none() {
            self.decide_late(packet);
        }
        Decision::Forward(self.rewrite_late(packet, number, offsets))
    }

    /// A frame whose packets are all late is left out as it would have been in time, where what it depends on may not be
    /// there. Of VP8 a picture id was kept for it, so a frame that stands on what is there goes out all the same.
    fn decide_late(&mut self, packet: &MediaPacket) {
        let is_above = packet.layer.is_some_and(|layer| layer.id > self.temporal_max);
        let stands = packet.layer.is_none_or(|layer| layer.needs <= self.temporal_max);
        let may_be_left_out = packet.vp8.is_none_or(|source| source.picture_id.is_some() && !stands);
        // Of a frame from before all that is remembered a part may be there.
        if may_be_left_out && is_above && self.decided.has_older(packet) {
            self.decided.note(packet, false);
        }
    }

    fn rewrite_late(&self, packet: &MediaPacket, number: u64, offsets: Offsets) -> Rewrite {
        let mut rewrite = rewrite(packet, number, offsets);
        if packet.payload_len == 0 || self.decided.is_wanted(packet) == Some(false) {
            // The rest of its frame is not there, and its picture id is given to another.
            rewrite.is_filler = true;
            rewrite.descriptor_len = 0;
            rewrite.marker = false;
        }
        rewrite
    }

    /// The encoding and source sequence number of a packet that the subscriber names in a NACK.
    pub fn source_of(&self, sequence_number: u16) -> Option<(u8, u64)> {
        self.map.source_of(sequence_number)
    }

    /// Whether sending the packet again is of no use, since the picture has begun, or will, after it.
    pub fn is_past(&self, sequence_number: u16) -> bool {
        unwrap_16(self.map.next_number(), sequence_number) < self.repaired_from
    }

    /// The rewriting of a packet that already has its number, for the retransmission stream.
    pub fn rewrite_again(&self, packet: &MediaPacket) -> Option<Rewrite> {
        match self.map.place(packet.encoding, packet.sequence) {
            Place::Late { number, offsets } => Some(self.rewrite_late(packet, number, offsets)),
            Place::Newest { .. } | Place::Outside => None,
        }
    }

    /// What must be added to the target's timestamps so that the subscriber's go on.
    fn switched_timestamp_offset(&self, packet: &MediaPacket, clocks: &[Option<ClockMap>]) -> u32 {
        let Some(newest) = self.newest else {
            return 0;
        };
        let clock_rate = self.codec.clock_rate();
        let elapsed = packet.arrival.saturating_duration_since(newest.arrival).as_micros() as u64;
        let by_arrival = newest.timestamp.wrapping_add((elapsed * u64::from(clock_rate) / 1_000_000) as u32);
        let (_, offsets) = self.map.newest().expect("a frame was forwarded");
        let (by_source, deviation_max) = if newest.encoding == packet.encoding {
            (Some(packet.timestamp.wrapping_add(offsets.timestamp)), PAUSE_DEVIATION_MAX)
        } else {
            let clock = |encoding: u8| clocks.get(usize::from(encoding)).copied().flatten();
            let by_clocks = clock(newest.encoding)
                .zip(clock(packet.encoding))
                .map(|(old, new)| old.timestamp_at(new.ntp_at(packet.timestamp)).wrapping_add(offsets.timestamp));
            (by_clocks, CLOCK_DEVIATION_MAX)
        };
        let is_plausible =
            |timestamp: &u32| (timestamp.wrapping_sub(by_arrival) as i32).unsigned_abs() <= deviation_max * clock_rate;
        let mut timestamp = by_source.filter(is_plausible).unwrap_or(by_arrival);
        // The frame may be of the same moment as the last one, or of one before it; two frames of one timestamp are
        // one to a receiver.
        if timestamp.wrapping_sub(newest.timestamp) as i32 <= 0 {
            timestamp = newest.timestamp.wrapping_add(1);
        }
        timestamp.wrapping_sub(packet.timestamp)
    }
}

fn rewrite(packet: &MediaPacket, number: u64, offsets: Offsets) -> Rewrite {
    let mut rewrite = Rewrite {
        sequence: number,
        timestamp: packet.timestamp.wrapping_add(offsets.timestamp),
        marker: packet.marker,
        descriptor: [0; DESCRIPTOR_LEN_MAX],
        descriptor_len: 0,
        skip: 0,
        is_filler: false,
    };
    if let Some(mut descriptor) = packet.vp8 {
        rewrite.skip = u16::from(descriptor.len);
        descriptor.picture_id = descriptor.picture_id.map(|id| picture_id_add(id, offsets.picture_id));
        descriptor.tl0_picture_index =
            descriptor.tl0_picture_index.map(|index| index.wrapping_add(offsets.tl0_picture_index));
        descriptor.key_index = descriptor.key_index.map(|index| index.wrapping_add(offsets.key_index) & 0x1F);
        rewrite.descriptor_len = descriptor.write(&mut rewrite.descriptor) as u8;
    }
    rewrite
}

#[cfg(test)]
mod tests;
