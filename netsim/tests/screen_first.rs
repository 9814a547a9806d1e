//! A screen and a camera that are shown as large, through a link for one of them.

use std::time::Duration;

use netsim::link::Settings;
use netsim::meeting::{Access, Meeting};

fn run(seed: u64) -> u64 {
    let mut meeting = Meeting::new(seed);
    meeting.first_sequence = 1;
    let line = Settings { rate_bps: Some(1_100_000), delay: Duration::from_millis(30), ..Settings::default() };
    let viewer = meeting.join(1, "viewer", Access { up: line, down: line, ..Access::good([198, 51, 100, 20]) });
    let anna = meeting.join(1, "anna", Access::good([198, 51, 100, 21]));
    let bert = meeting.join(1, "bert", Access::good([198, 51, 100, 22]));
    meeting.connect(&[viewer, anna, bert]);
    // Who speaks is not who shares.
    let microphone = meeting.publish_microphone(anna);
    let camera = meeting.publish_camera(anna);
    meeting.next_is_screen = true;
    let screen = meeting.publish_camera(bert);
    meeting.run_for(Duration::from_millis(500));
    for track in [microphone, camera, screen] {
        meeting.subscribe(viewer, track);
    }
    meeting.run_for(Duration::from_secs(15));
    let before = [camera, screen].map(|track| meeting.shown(viewer, track));
    meeting.run_for(Duration::from_secs(20));
    let frames = [camera, screen].map(|track| meeting.shown(viewer, track));
    let frames = [frames[0] - before[0], frames[1] - before[1]];
    let mut encodings = |track, shown: usize| {
        let all = &meeting.reception(viewer, track).shown;
        let last = &all[all.len() - shown..];
        last.iter().map(|frame| f64::from(frame.encoding)).sum::<f64>() / shown as f64
    };
    let sharpness = [encodings(camera, frames[0]), encodings(screen, frames[1])];
    assert!(sharpness[1] >= 1.7, "the screen is sharp: {sharpness:?}, frames {frames:?}");
    assert!((140..500).contains(&frames[1]), "and less smooth, by its temporal layers: {frames:?} in 20 s");
    assert!(sharpness[0] <= 0.3, "the camera has what is left: {sharpness:?}, frames {frames:?}");
    assert!(frames[0] >= 140, "{frames:?}");
    meeting.world.digest()
}

#[test]
fn a_screen_comes_first_and_is_sharp_before_it_is_smooth() {
    assert_eq!(run(1), run(1));
    run(2);
}
