//! H.264, of which only a dependency descriptor tells the layers.

use super::*;

#[test]
fn h264_passes_as_it_is() {
    let now = start();
    let mut encoder = Encoder::new(0, 65_536, 0, 0);
    let mut forwarder = Forwarder::new(Codec::H264, 0);
    forwarder.set_target(Some(0));
    let packet = MediaPacket { vp8: None, ..encoder.frame(true, now)[0] };
    let rewrite = forward(&mut forwarder, &packet);
    assert!(rewrite.descriptor().is_empty());
    assert_eq!(rewrite.payload(&[1, 2, 3]), [1, 2, 3]);
}

#[test]
fn a_frame_of_h264_that_was_lost_whole_is_left_out_late() {
    let now = start();
    let mut encoder = Encoder::new(0, 65_536, 0, 0);
    let mut forwarder = Forwarder::new(Codec::H264, 0);
    forwarder.set_target(Some(0));
    forwarder.set_temporal_max(0);
    let mut frame = |keyframe| -> Vec<MediaPacket> {
        let packets = encoder.frame(keyframe, now).into_iter();
        packets.map(|packet| MediaPacket { vp8: None, ..packet }).collect()
    };
    for packet in frame(true) {
        forward(&mut forwarder, &packet);
    }
    let [upper, middle, second] = [false; 3].map(&mut frame);
    let base = frame(false);
    // Three frames of nine packets are missing, whatever they are.
    assert_eq!(forward(&mut forwarder, &base[0]).sequence, 12);
    let late = [&middle[1], &middle[0], &upper[2]].map(|packet| forward(&mut forwarder, packet));
    assert_eq!(late.map(|rewrite| rewrite.sequence), [7, 6, 5]);
    assert!(late.iter().all(|rewrite| rewrite.payload(&[0; 1000]).is_empty() && !rewrite.marker));
    assert_eq!(forwarder.rewrite_again(&middle[1]), Some(late[0]), "as it was the first time");
    // A rest of the base layer is needed, and what is of no known layer may be.
    assert_eq!(forward(&mut forwarder, &base[2]).sequence, 14);
    assert_eq!(forward(&mut forwarder, &base[1]).payload(&[0; 1000]).len(), 1000);
    let unknown = MediaPacket { layer: None, ..second[0] };
    assert_eq!(forward(&mut forwarder, &unknown).payload(&[0; 1000]).len(), 1000);
}

/// As a dependency descriptor tells them: a frame of the base layer opens all, one of the middle layer the upper one.
#[test]
fn temporal_layers_of_h264_are_entered_where_everything_after_is_decodable() {
    let now = start();
    let mut encoder = Encoder::new(0, 65_536, 0, 0);
    let mut forwarder = Forwarder::new(Codec::H264, 0);
    forwarder.set_target(Some(0));
    let mut expected = 0;
    // What is forwarded of a period: layers 0, 2, 1, 2.
    let mut period = |forwarder: &mut Forwarder, keyframe: bool, wishes: [u8; 4]| {
        [0, 1, 2, 3].map(|index| {
            forwarder.set_temporal_max(wishes[index]);
            let mut count = 0;
            for packet in encoder.frame(keyframe && index == 0, now) {
                let id = packet.layer.unwrap().id;
                let layer = Some(TemporalLayer { id, needs: id, opens: 2 });
                match forwarder.handle(&MediaPacket { vp8: None, layer, ..packet }, &[]) {
                    Decision::Forward(rewrite) => {
                        assert_eq!(rewrite.sequence, expected, "without a gap");
                        expected += 1;
                        count += 1;
                    }
                    Decision::Drop(reason) => assert_eq!(reason, Reason::TemporalLayer),
                }
            }
            assert!(count == 0 || count == 3, "whole frames");
            count > 0
        })
    };
    assert_eq!(period(&mut forwarder, true, [0; 4]), [true, false, false, false]);
    assert_eq!(period(&mut forwarder, false, [1; 4]), [true, false, true, false]);
    assert_eq!(period(&mut forwarder, false, [2; 4]), [true; 4]);
    assert_eq!(period(&mut forwarder, false, [2, 0, 0, 0]), [true, false, false, false]);
    assert_eq!(
        period(&mut forwarder, false, [0, 7, 7, 7]),
        [true, false, false, false],
        "not before a frame of layer 0"
    );
    assert_eq!(
        period(&mut forwarder, false, [1, 1, 2, 2]),
        [true, false, true, true],
        "the middle layer opens the upper"
    );
    assert_eq!(period(&mut forwarder, true, [7; 4]), [true; 4]);
}
