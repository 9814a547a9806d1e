mod h264;
mod histories;

use std::time::Duration;

use super::*;
use crate::media_packet::TemporalLayer;
use crate::test_clock::start;
use crate::vp8::Descriptor;

/// One simulcast encoding: frames of `per_frame` packets at 30 per second, temporal layers 0, 2, 1, 2.
struct Encoder {
    encoding: u8,
    sequence: u64,
    timestamp: u32,
    frame: u32,
    picture_id: u16,
    tl0_picture_index: u8,
    per_frame: usize,
}

impl Encoder {
    fn new(encoding: u8, sequence: u64, timestamp: u32, picture_id: u16) -> Encoder {
        Encoder { encoding, sequence, timestamp, frame: 0, picture_id, tl0_picture_index: 7, per_frame: 3 }
    }

    fn frame(&mut self, keyframe: bool, arrival: Instant) -> Vec<MediaPacket> {
        if keyframe {
            self.frame = 0;
        }
        let layer = [0, 2, 1, 2][self.frame as usize % 4];
        if layer == 0 {
            self.tl0_picture_index = self.tl0_picture_index.wrapping_add(1);
        }
        let packets = (0..self.per_frame)
            .map(|index| MediaPacket {
                encoding: self.encoding,
                sequence: self.sequence + index as u64,
                timestamp: self.timestamp,
                marker: index + 1 == self.per_frame,
                switch_point: keyframe && index == 0,
                vp8: Some(Descriptor {
                    len: 6,
                    start: index == 0,
                    picture_id: Some(self.picture_id),
                    picture_id_is_long: true,
                    tl0_picture_index: Some(self.tl0_picture_index),
                    temporal_layer: Some(layer),
                    layer_sync: layer != 0 && self.frame % 4 < 3,
                    ..Descriptor::default()
                }),
                layer: Some(TemporalLayer {
                    id: layer,
                    needs: if self.frame % 4 < 3 { 0 } else { layer },
                    opens: layer,
                }),
                payload_len: 1000,
                arrival,
            })
            .collect();
        self.sequence += self.per_frame as u64;
        self.timestamp = self.timestamp.wrapping_add(3000);
        self.picture_id = picture_id_add(self.picture_id, 1);
        self.frame += 1;
        packets
    }
}

fn forward(forwarder: &mut Forwarder, packet: &MediaPacket) -> Rewrite {
    match forwarder.handle(packet, &[]) {
        Decision::Forward(rewrite) => rewrite,
        Decision::Drop(reason) => panic!("dropped: {reason:?}"),
    }
}

fn drop_reason(forwarder: &mut Forwarder, packet: &MediaPacket) -> Reason {
    match forwarder.handle(packet, &[]) {
        Decision::Forward(rewrite) => panic!("forwarded: {rewrite:?}"),
        Decision::Drop(reason) => reason,
    }
}

fn descriptor(rewrite: &Rewrite) -> Descriptor {
    let mut payload = rewrite.descriptor().to_vec();
    payload.push(1);
    Descriptor::parse(&payload).unwrap()
}

#[test]
fn video_starts_at_a_keyframe_and_switches_at_one() {
    let now = start();
    let mut low = Encoder::new(0, 70_000, 5000, 0x7FFE);
    let mut high = Encoder::new(1, 90_000, 900_000, 300);
    let mut forwarder = Forwarder::new(Codec::Vp8, 0x7FFF);
    assert_eq!(drop_reason(&mut forwarder, &low.frame(true, now)[0]), Reason::Paused);
    forwarder.set_target(Some(0));
    assert_eq!(forwarder.wants_keyframe(), Some(0));
    assert_eq!(drop_reason(&mut forwarder, &low.frame(false, now)[0]), Reason::AwaitsKeyframe);
    let keyframe = low.frame(true, now);
    let first = forward(&mut forwarder, &keyframe[0]);
    assert_eq!((first.sequence, first.timestamp), (0x7FFF, keyframe[0].timestamp));
    assert_eq!(forwarder.wants_keyframe(), None);
    assert_eq!(forward(&mut forwarder, &keyframe[1]).sequence, 0x8000);
    let last = forward(&mut forwarder, &keyframe[2]);
    assert!(last.marker);
    let first_id = descriptor(&last).picture_id.unwrap();

    forwarder.set_target(Some(1));
    assert_eq!(forwarder.wants_keyframe(), Some(1));
    let later = now + Duration::from_millis(33);
    assert_eq!(drop_reason(&mut forwarder, &high.frame(false, later)[0]), Reason::AwaitsKeyframe);
    for (index, packet) in low.frame(false, later).iter().enumerate() {
        assert_eq!(forward(&mut forwarder, packet).sequence, 0x8002 + index as u64);
    }
    let later = now + Duration::from_millis(66);
    let switched = forward(&mut forwarder, &high.frame(true, later)[0]);
    assert_eq!(switched.sequence, 0x8005);
    assert_eq!(switched.timestamp, last.timestamp + 3000 + 33 * 90);
    let descriptor = descriptor(&switched);
    assert_eq!(descriptor.picture_id, Some(picture_id_add(first_id, 2)));
    assert_eq!(descriptor.tl0_picture_index, Some(10), "one after the low layer's");
    assert_eq!(drop_reason(&mut forwarder, &low.frame(true, later)[0]), Reason::OtherEncoding);
}

#[test]
fn an_abandoned_encoding_ends_with_its_frame() {
    let now = start();
    let mut forwarder = Forwarder::new(Codec::Vp8, 100);
    let (mut low, mut high) = (Encoder::new(0, 65_536, 0, 7), Encoder::new(2, 70_000, 0, 9));
    forwarder.set_target(Some(2));
    let frame = high.frame(true, now);
    forward(&mut forwarder, &frame[0]);
    forwarder.abandon();
    forward(&mut forwarder, &frame[1]);
    forwarder.set_target(Some(0));
    forwarder.abandon();
    assert!(forwarder.is_forwarding(0) && !forwarder.is_forwarding(2));
    assert_eq!(forward(&mut forwarder, &frame[2]).sequence, 102, "the frame is sent whole");
    assert_eq!(drop_reason(&mut forwarder, &high.frame(false, now)[0]), Reason::OtherEncoding);
    assert_eq!(forwarder.current(), None);
    assert_eq!(forward(&mut forwarder, &low.frame(true, now)[0]).sequence, 103);
    assert!(forwarder.is_forwarding(0));
}

#[test]
fn clocks_make_timestamps_exact_and_one_moment_is_still_two_frames() {
    let now = start();
    // The same moment is 1000 on one clock and 1_000_000 on the other.
    let clocks =
        [Some(ClockMap::new(5 << 32, 1000, 90_000, now)), Some(ClockMap::new(5 << 32, 1_000_000, 90_000, now))];
    let mut low = Encoder::new(0, 70_000, 1000, 1);
    let mut high = Encoder::new(1, 90_000, 1_000_000, 1);
    let mut forwarder = Forwarder::new(Codec::Vp8, 1);
    forwarder.set_target(Some(0));
    let first = low.frame(true, now);
    high.frame(false, now);
    assert!(matches!(forwarder.handle(&first[0], &clocks), Decision::Forward(_)));
    forwarder.set_target(Some(1));
    // 70 ms late, but captured 33 ms after.
    let keyframe = high.frame(true, now + Duration::from_millis(70));
    let Decision::Forward(switched) = forwarder.handle(&keyframe[0], &clocks) else { panic!() };
    assert_eq!(switched.timestamp, 4000);
    assert_eq!(forwarder.timestamp_offset(), Some(4000u32.wrapping_sub(1_003_000)));
    // Back to the low one with a frame of the very same moment.
    forwarder.set_target(Some(0));
    let keyframe = low.frame(true, now + Duration::from_millis(71));
    let Decision::Forward(switched) = forwarder.handle(&keyframe[0], &clocks) else { panic!() };
    assert_eq!(switched.timestamp, 4001);
    // Clocks that contradict the arrival are not believed.
    forwarder.set_target(Some(1));
    let lying = [clocks[0], Some(ClockMap::new(5000 << 32, 1_000_000, 90_000, now))];
    let keyframe = high.frame(true, now + Duration::from_millis(171));
    let Decision::Forward(switched) = forwarder.handle(&keyframe[0], &lying) else { panic!() };
    assert_eq!(switched.timestamp, 4001 + 9000);
}

#[test]
fn upstream_loss_keeps_its_number_until_it_comes() {
    let now = start();
    let mut encoder = Encoder::new(0, 65_536, 0, 0);
    let mut forwarder = Forwarder::new(Codec::Vp8, 100);
    forwarder.set_target(Some(0));
    let keyframe = encoder.frame(true, now);
    forward(&mut forwarder, &keyframe[0]);
    assert_eq!(forward(&mut forwarder, &keyframe[2]).sequence, 102);
    assert_eq!(forwarder.source_of(101), Some((0, 65_537)));
    let repaired = forward(&mut forwarder, &keyframe[1]);
    assert_eq!(repaired.sequence, 101);
    assert_eq!(forwarder.rewrite_again(&keyframe[1]), Some(repaired));
    assert_eq!(drop_reason(&mut forwarder, &keyframe[1]), Reason::Repeated);
    assert_eq!(drop_reason(&mut forwarder, &keyframe[2]), Reason::Repeated);
    assert_eq!(forwarder.source_of(103), None);
    let before = MediaPacket { sequence: 65_535, ..keyframe[1] };
    assert_eq!(drop_reason(&mut forwarder, &before), Reason::Stale);
}

#[test]
fn temporal_layers_leave_no_trace() {
    let now = start();
    let mut encoder = Encoder::new(0, 65_536, 0, 0x7FFD);
    let mut forwarder = Forwarder::new(Codec::Vp8, 0);
    forwarder.set_target(Some(0));
    forwarder.set_temporal_max(0);
    let mut expected = 0;
    let mut expected_id = 0x7FFD;
    for frame in 0..12 {
        for packet in encoder.frame(frame == 0, now) {
            match forwarder.handle(&packet, &[]) {
                Decision::Forward(rewrite) => {
                    assert_eq!(frame % 4, 0);
                    assert_eq!(rewrite.sequence, expected);
                    assert_eq!(descriptor(&rewrite).picture_id, Some(expected_id));
                    expected += 1;
                }
                Decision::Drop(reason) => assert_eq!(reason, Reason::TemporalLayer),
            }
        }
        if frame % 4 == 0 {
            expected_id = picture_id_add(expected_id, 1);
        }
    }
    // Up again: only where a layer may be entered.
    forwarder.set_temporal_max(7);
    assert!(matches!(forwarder.handle(&encoder.frame(false, now)[0], &[]), Decision::Forward(_)));
    let mut without_sync = encoder.frame(false, now)[0];
    without_sync.layer.as_mut().unwrap().needs = 2;
    assert_eq!(drop_reason(&mut forwarder, &without_sync), Reason::TemporalLayer);
    assert!(matches!(forwarder.handle(&encoder.frame(false, now)[0], &[]), Decision::Forward(_)), "layer 1, sync");
    assert!(matches!(forwarder.handle(&encoder.frame(false, now)[0], &[]), Decision::Drop(_)), "layer 2, no sync");
}

/// Who has been given a keyframe and is to have the base layer alone.
fn viewer_of_base_layer(now: Instant) -> (Encoder, Forwarder) {
    let mut encoder = Encoder::new(0, 65_536, 0, 0);
    let mut forwarder = Forwarder::new(Codec::Vp8, 0);
    forwarder.set_target(Some(0));
    forwarder.set_temporal_max(0);
    for packet in encoder.frame(true, now) {
        forward(&mut forwarder, &packet);
    }
    (encoder, forwarder)
}

#[test]
fn a_late_packet_of_a_frame_left_out_fills_its_gap() {
    let now = start();
    let (mut encoder, mut forwarder) = viewer_of_base_layer(now);
    let left_out = encoder.frame(false, now);
    assert_eq!(drop_reason(&mut forwarder, &left_out[0]), Reason::TemporalLayer);
    assert_eq!(drop_reason(&mut forwarder, &left_out[2]), Reason::TemporalLayer);
    let filler = forward(&mut forwarder, &left_out[1]);
    assert_eq!(filler.sequence, 3);
    assert!(filler.payload(&[0; 1000]).is_empty() && filler.descriptor().is_empty());
    assert_eq!(drop_reason(&mut forwarder, &left_out[0]), Reason::Stale);
}

#[test]
fn a_frame_that_was_lost_whole_goes_out_late_where_it_stands_on_what_is_there() {
    let now = start();
    let (mut encoder, mut forwarder) = viewer_of_base_layer(now);
    let [sync, _, upper] = [false; 3].map(|keyframe| encoder.frame(keyframe, now));
    let base = encoder.frame(false, now);
    assert_eq!(forward(&mut forwarder, &base[0]).sequence, 12);
    // It refers to the frame of the middle layer, which was not sent.
    let late = [&upper[1], &upper[0]].map(|packet| forward(&mut forwarder, packet));
    assert_eq!(late.map(|rewrite| rewrite.sequence), [10, 9]);
    assert!(late.iter().all(|rewrite| rewrite.payload(&[0; 1000]).is_empty() && !rewrite.marker));
    assert!(!forward(&mut forwarder, &sync[0]).payload(&[0; 1000]).is_empty());
}

#[test]
fn a_frame_that_was_lost_whole_before_a_switch_keeps_its_picture_id() {
    let now = start();
    let (mut high, mut low) = (Encoder::new(1, 65_536, 0, 100), Encoder::new(0, 65_536, 0, 7));
    let mut forwarder = Forwarder::new(Codec::Vp8, 0);
    forwarder.set_target(Some(1));
    forwarder.set_temporal_max(0);
    for packet in high.frame(true, now) {
        forward(&mut forwarder, &packet);
    }
    for packet in (0..3).flat_map(|_| high.frame(false, now)).collect::<Vec<_>>() {
        assert_eq!(drop_reason(&mut forwarder, &packet), Reason::TemporalLayer);
    }
    let lost = high.frame(false, now);
    // The next one says that it is missing, and is itself left out.
    for packet in high.frame(false, now) {
        assert_eq!(drop_reason(&mut forwarder, &packet), Reason::TemporalLayer);
    }
    forwarder.set_target(Some(0));
    for _ in 0..5 {
        low.frame(false, now);
    }
    let keyframe = forward(&mut forwarder, &low.frame(true, now)[0]);
    let repaired = forward(&mut forwarder, &lost[0]);
    let (keyframe, repaired) = (descriptor(&keyframe), descriptor(&repaired));
    assert_eq!(repaired.picture_id, Some(101));
    assert_eq!(keyframe.picture_id, Some(102));
    let indices = [repaired, keyframe].map(|descriptor| descriptor.tl0_picture_index.unwrap());
    assert_eq!(indices[0].wrapping_add(1), indices[1]);
}

#[test]
fn a_keyframe_whose_first_packet_is_late_is_caught_up() {
    let now = start();
    let mut encoder = Encoder::new(0, 65_536, 0, 0);
    let mut forwarder = Forwarder::new(Codec::Vp8, 0);
    forwarder.set_target(Some(0));
    let keyframe = encoder.frame(true, now);
    assert_eq!(drop_reason(&mut forwarder, &keyframe[1]), Reason::AwaitsKeyframe);
    assert_eq!(drop_reason(&mut forwarder, &keyframe[2]), Reason::AwaitsKeyframe);
    assert_eq!(forward(&mut forwarder, &keyframe[0]).sequence, 0);
    assert_eq!(forwarder.take_catch_up(), Some(65_537..=65_538));
    assert_eq!(forwarder.take_catch_up(), None);
    assert_eq!(forward(&mut forwarder, &keyframe[1]).sequence, 1);
    assert_eq!(forward(&mut forwarder, &keyframe[2]).sequence, 2);
}

#[test]
fn a_keyframe_too_late_or_from_before_is_not_taken() {
    let now = start();
    let mut encoder = Encoder::new(0, 65_536, 0, 0);
    let mut forwarder = Forwarder::new(Codec::Vp8, 0);
    forwarder.set_target(Some(0));
    let first = encoder.frame(true, now);
    let newest = MediaPacket { sequence: first[0].sequence + CATCH_UP_MAX + 1, switch_point: false, ..first[0] };
    forwarder.handle(&newest, &[]);
    assert_eq!(drop_reason(&mut forwarder, &first[0]), Reason::AwaitsKeyframe);

    let mut forwarder = Forwarder::new(Codec::Vp8, 0);
    forwarder.set_target(Some(0));
    forward(&mut forwarder, &first[0]);
    forward(&mut forwarder, &first[2]);
    forwarder.set_target(None);
    forwarder.set_target(Some(0));
    // The repeated first packet of a keyframe that was already forwarded begins nothing.
    assert_eq!(drop_reason(&mut forwarder, &first[0]), Reason::Repeated);
    assert_eq!(forwarder.wants_keyframe(), Some(0));
}

#[test]
fn a_pause_leaves_no_gap_and_audio_goes_on_at_once() {
    let now = start();
    let packet = |sequence: u64, at: u64| MediaPacket {
        encoding: 0,
        sequence,
        timestamp: (sequence * 960) as u32,
        marker: false,
        switch_point: true,
        vp8: None,
        layer: None,
        payload_len: 80,
        arrival: now + Duration::from_millis(at),
    };
    let mut forwarder = Forwarder::new(Codec::Opus, 9);
    forwarder.set_target(Some(0));
    assert_eq!(forward(&mut forwarder, &packet(70_000, 0)).sequence, 9);
    assert_eq!(forward(&mut forwarder, &packet(70_002, 40)).sequence, 11, "one is lost");
    forwarder.set_target(None);
    assert_eq!(drop_reason(&mut forwarder, &packet(70_003, 60)), Reason::Paused);
    forwarder.set_target(Some(0));
    let resumed = forward(&mut forwarder, &packet(70_050, 1000));
    assert_eq!(resumed.sequence, 12);
    assert_eq!(resumed.timestamp, 70_050 * 960, "the publisher's own timestamps go on");
    // The publisher begins anew: numbers go on, and timestamps by the time that passed.
    let mut restarted = packet(140_000, 1020);
    restarted.timestamp = 5;
    let resumed = forward(&mut forwarder, &restarted);
    assert_eq!((resumed.sequence, resumed.timestamp), (13, 70_050 * 960 + 960));
}

#[test]
fn what_came_before_the_newest_keyframe_is_past() {
    let now = start();
    let mut encoder = Encoder::new(0, 65_536, 0, 0);
    let mut forwarder = Forwarder::new(Codec::Vp8, 0x7FFF);
    forwarder.set_target(Some(0));
    let mut show = |forwarder: &mut Forwarder, keyframe: bool| {
        let packets = encoder.frame(keyframe, now);
        packets.iter().filter(|packet| matches!(forwarder.handle(packet, &[]), Decision::Forward(_))).count()
    };
    let past = |forwarder: &Forwarder| (0..9).filter(|index| forwarder.is_past(0x7FFF + index)).count();
    assert_eq!([true, false, true].map(|keyframe| show(&mut forwarder, keyframe)), [3; 3]);
    assert_eq!(past(&forwarder), 6);
    // Nothing before the next one is of use.
    forwarder.begin_again();
    assert_eq!((past(&forwarder), forwarder.wants_keyframe()), (9, Some(0)));
    assert_eq!([false, true].map(|keyframe| show(&mut forwarder, keyframe)), [0, 3]);
    assert!(forwarder.is_past(0x8007) && !forwarder.is_past(0x8008), "it goes on without a gap");

    let mut voice = Forwarder::new(Codec::Opus, 5);
    voice.set_target(Some(0));
    for sequence in 70_000..70_003 {
        let packet = MediaPacket { sequence, vp8: None, layer: None, ..encoder.frame(true, now)[0] };
        forward(&mut voice, &packet);
    }
    assert!(!voice.is_past(5), "each packet of a voice stands alone");
}

#[test]
fn padding_leaves_no_gap_and_a_great_loss_asks_for_a_keyframe() {
    let now = start();
    let mut encoder = Encoder::new(0, 65_536, 0, 0);
    let mut forwarder = Forwarder::new(Codec::Vp8, 0);
    forwarder.set_target(Some(0));
    let keyframe = encoder.frame(true, now);
    forward(&mut forwarder, &keyframe[0]);
    let padding = MediaPacket { payload_len: 0, vp8: None, ..keyframe[1] };
    assert_eq!(drop_reason(&mut forwarder, &padding), Reason::Padding);
    assert_eq!(forward(&mut forwarder, &keyframe[2]).sequence, 1);
    encoder.sequence += MISSING_MAX + 1;
    assert_eq!(drop_reason(&mut forwarder, &encoder.frame(false, now)[0]), Reason::AwaitsKeyframe);
    assert_eq!(forwarder.wants_keyframe(), Some(0));
    assert_eq!(forward(&mut forwarder, &encoder.frame(true, now)[0]).sequence, 2);
}
