//! A call on good lines: everything arrives, once, in order, and nothing is asked for.

use std::time::Duration;

use netsim::meeting::{Access, Meeting};

fn run(seed: u64) -> u64 {
    let mut meeting = Meeting::new(seed);
    let anna = meeting.join(1, "anna", Access::good([198, 51, 100, 21]));
    let bert = meeting.join(1, "bert", Access::good([198, 51, 100, 22]));
    meeting.connect(&[anna, bert]);
    let camera = meeting.publish_camera(anna);
    let microphone = meeting.publish_microphone(anna);
    meeting.run_for(Duration::from_millis(500));
    meeting.subscribe(bert, camera);
    meeting.subscribe(bert, microphone);
    meeting.run_for(Duration::from_secs(10));

    let video = meeting.reception(bert, camera);
    assert_eq!(video.began_with_keyframe, Some(true));
    assert_eq!(video.layers().last(), Some(&2), "the best layer fits: {:?}", video.layers());
    assert!(video.shown.len() >= 290, "{} frames in 10 s", video.shown.len());
    assert_eq!((video.reception.missed, video.reception.duplicates), (0, 0));
    assert_eq!(video.reception.keyframe_requests, 0);
    let picture = video.clock_offset_us.expect("sender reports");
    let audio = meeting.reception(bert, microphone);
    assert!(audio.shown.len() >= 495, "{} audio frames in 10 s", audio.shown.len());
    assert_eq!((audio.reception.missed, audio.reception.duplicates), (0, 0));
    let sound = audio.clock_offset_us.expect("sender reports");
    assert!((picture - sound).abs() < 10_000, "lips and voice are {} µs apart", picture - sound);

    let counters = meeting.caller(anna).counters;
    assert!(counters.transport_feedback > 50, "{counters:?}");
    assert!(counters.receiver_reports > 5, "{counters:?}");
    assert_eq!(counters.packets_asked, 0);
    let server = meeting.world.counters(meeting.server);
    assert_eq!(server.discarded.iter().sum::<u64>(), 0, "{server:?}");
    assert_eq!(meeting.world.unreachable(), 0);
    meeting.world.digest()
}

#[test]
fn a_clean_call() {
    assert_eq!(run(1), run(1));
}
