//! A keyframe whose first packet comes late: what was here before it follows it, as fast as the link takes it.

use sfu::Codec;

use crate::call::{Call, Rtp, VIDEO, VIDEO_MID, h264};

const SSRC: u32 = 1000;
const PACKETS: u64 = 40;

#[test]
fn what_follows_a_late_keyframe_waits_for_the_link() {
    let mut call = Call::new();
    let (anna, bert) = (call.join(), call.join());
    let track = call.publish(anna, Codec::H264);
    // Nothing is known of his link, so 300 kbit/s are assumed of it.
    let (ssrc, _) = call.subscribe(bert, track, true);
    // The first words would go ahead.
    call.run_for_ms(100);
    let rtp = Rtp {
        ssrc: SSRC,
        payload_type: VIDEO,
        sequence: 0,
        timestamp: 3000,
        mid: Some(VIDEO_MID),
        audio_level: None,
        payload: &[],
    };
    let (first, rest) = (h264(true, 1000), h264(false, 1000));
    for sequence in 101..100 + PACKETS {
        call.send(anna, Rtp { sequence, payload: &rest, ..rtp });
    }
    call.run_for_ms(5);
    assert!(call.members[bert].media.is_empty(), "nothing can be shown without its beginning");
    let began = call.at_ms();
    call.send(anna, Rtp { sequence: 100, payload: &first, ..rtp });
    call.run_for_ms(1_500);

    let sent: Vec<_> = call.members[bert].media_of(ssrc).into_iter().cloned().collect();
    assert_eq!(sent.len(), 40, "nothing of it is given up");
    assert!(sent.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1), "in order");
    assert_eq!((sent[0].at_ms, &sent[0].payload), (began, &first));
    // 1.65 times the 300 kbit/s, for a moment: 62 octets in a millisecond, and two packets at once.
    for media in &sent {
        let octets: usize =
            sent.iter().filter(|other| other.at_ms <= media.at_ms).map(|other| other.payload.len()).sum();
        let allowed = 2_000 + 62 * (media.at_ms - began) as usize;
        assert!(octets <= allowed, "{octets} octets after {} ms", media.at_ms - began);
    }
    let lasted = sent[39].at_ms - began;
    assert!((600..1_000).contains(&lasted), "{lasted} ms");
}
