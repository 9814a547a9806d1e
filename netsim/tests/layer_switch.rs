//! A subscriber asks for other layers: the picture changes at a keyframe, without a gap.

use std::time::Duration;

use netsim::check::Sequences;
use netsim::meeting::{Access, Meeting};
use sfu::{Event, LayerWish};

fn up_to(spatial_max: u8) -> LayerWish {
    LayerWish { spatial_max, ..LayerWish::EVERYTHING }
}

fn run(seed: u64) -> u64 {
    let mut meeting = Meeting::new(seed);
    let anna = meeting.join(1, "anna", Access::good([198, 51, 100, 21]));
    let bert = meeting.join(1, "bert", Access::good([198, 51, 100, 22]));
    meeting.connect(&[anna, bert]);
    let camera = meeting.publish_camera(anna);
    meeting.run_for(Duration::from_millis(500));
    meeting.subscribe(bert, camera);
    meeting.run_for(Duration::from_secs(3));
    let mut wanted = Vec::new();
    for layer in [0, 2, 1, 0, 1] {
        meeting.set_wish(bert, camera, up_to(layer));
        meeting.run_for(Duration::from_secs(3));
        wanted.push(layer);
        let shown = meeting.reception(bert, camera).shown.last().copied().unwrap();
        assert_eq!(shown.encoding, layer, "after {wanted:?}");
    }
    let video = meeting.reception(bert, camera);
    assert!(video.layers().ends_with(&[0, 2, 1, 0, 1]), "{:?}", video.layers());
    for pair in video.shown.windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause < Duration::from_millis(120), "the picture stood for {pause:?} at {pair:?}");
        assert!(pair[1].keyframe || pair[1].encoding == pair[0].encoding, "{pair:?}");
    }
    assert_eq!(video.reception.missed, 0);
    assert_eq!(video.reception.keyframe_requests, 0);
    assert_eq!(meeting.world.check::<Sequences>().holes(), 0);

    // What nobody wants is said, so that its encoder can rest.
    let told: Vec<Option<u8>> = meeting
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::EncodingsWanted { highest, .. } => Some(*highest),
            _ => None,
        })
        .collect();
    assert_eq!(told, [Some(2), Some(0), Some(2), Some(1), Some(0), Some(1)]);
    meeting.world.digest()
}

#[test]
fn a_layer_switch_happens_at_a_keyframe() {
    assert_eq!(run(1), run(1));
}

#[test]
fn temporal_layers_are_left_out_and_taken_in_again_without_a_gap() {
    let mut meeting = Meeting::new(3);
    let anna = meeting.join(1, "anna", Access::good([198, 51, 100, 21]));
    let bert = meeting.join(1, "bert", Access::good([198, 51, 100, 22]));
    meeting.connect(&[anna, bert]);
    let camera = meeting.publish_camera(anna);
    meeting.subscribe(bert, camera);
    meeting.run_for(Duration::from_secs(3));
    let keyframes = meeting.caller(anna).counters.keyframes_asked;
    for (temporal_max, per_second) in [(7, 30.0), (0, 7.5), (1, 15.0), (2, 30.0), (0, 7.5), (7, 30.0)] {
        meeting.set_wish(bert, camera, LayerWish { temporal_max, ..LayerWish::EVERYTHING });
        meeting.run_for(Duration::from_millis(500));
        let before = meeting.shown(bert, camera);
        meeting.run_for(Duration::from_secs(4));
        let shown = (meeting.shown(bert, camera) - before) as f64;
        assert!((shown - 4.0 * per_second).abs() <= 3.0, "{shown} frames in 4 s with {temporal_max}");
    }
    let video = meeting.reception(bert, camera);
    assert_eq!((video.reception.missed, video.reception.keyframe_requests), (0, 0));
    assert_eq!(meeting.world.check::<Sequences>().holes(), 0);
    assert_eq!(meeting.caller(anna).counters.keyframes_asked, keyframes, "no keyframe is needed for it");
}

#[test]
fn a_paused_video_sends_nothing_and_comes_back_with_a_keyframe() {
    let mut meeting = Meeting::new(2);
    let anna = meeting.join(1, "anna", Access::good([198, 51, 100, 21]));
    let bert = meeting.join(1, "bert", Access::good([198, 51, 100, 22]));
    meeting.connect(&[anna, bert]);
    let camera = meeting.publish_camera(anna);
    meeting.subscribe(bert, camera);
    meeting.run_for(Duration::from_secs(3));
    meeting.set_wish(bert, camera, LayerWish { paused: true, ..LayerWish::EVERYTHING });
    meeting.run_for(Duration::from_millis(100));
    let before = meeting.shown(bert, camera);
    meeting.run_for(Duration::from_secs(5));
    assert_eq!(meeting.shown(bert, camera), before);
    meeting.set_wish(bert, camera, LayerWish::EVERYTHING);
    meeting.run_for(Duration::from_millis(500));
    let video = meeting.reception(bert, camera);
    assert!(video.shown.len() > before + 5, "it is back within half a second");
    assert!(video.shown[before].keyframe);
    assert_eq!(video.reception.missed, 0, "the pause leaves no gap");
}
