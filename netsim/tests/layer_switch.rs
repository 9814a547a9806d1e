//! A subscriber asks for other layers: the picture changes at a keyframe, without a gap.

use std::time::Duration;

use netsim::check::Sequences;
use netsim::link::Settings;
use netsim::meeting::{Access, Meeting};
use sfu::{Codec, Event, LayerWish};

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

fn temporal_layers(codec: Codec) {
    let mut meeting = Meeting::new(3);
    let anna = meeting.join(1, "anna", Access::good([198, 51, 100, 21]));
    let bert = meeting.join(1, "bert", Access::good([198, 51, 100, 22]));
    meeting.connect(&[anna, bert]);
    let camera = meeting.publish(anna, codec, &[("q", 150_000, (320, 180)), ("f", 900_000, (640, 360))]);
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
fn temporal_layers_are_left_out_and_taken_in_again_without_a_gap() {
    temporal_layers(Codec::Vp8);
}

#[test]
fn temporal_layers_of_h264_are_told_by_its_dependency_descriptors() {
    temporal_layers(Codec::H264);
}

#[test]
fn descriptors_that_are_cut_off_are_counted_and_leave_nothing_out() {
    let mut meeting = Meeting::new(3);
    meeting.cut_descriptors = true;
    let anna = meeting.join(1, "anna", Access::good([198, 51, 100, 21]));
    let bert = meeting.join(1, "bert", Access::good([198, 51, 100, 22]));
    meeting.connect(&[anna, bert]);
    let camera = meeting.publish(anna, Codec::H264, &[("q", 150_000, (320, 180))]);
    meeting.subscribe(bert, camera);
    meeting.set_wish(bert, camera, LayerWish { temporal_max: 0, ..LayerWish::EVERYTHING });
    meeting.run_for(Duration::from_secs(3));
    assert!(meeting.shown(bert, camera) > 75, "every picture is shown, though one in four is wished for");
    let counters = meeting.world.counters(meeting.server);
    assert!(counters.malformed_extensions > 80, "{}", counters.malformed_extensions);
}

/// The link carries the base layer (two fifths of the bits), and later the whole.
#[test]
fn h264_is_thinned_to_its_base_layer_when_the_link_demands_it() {
    let mut meeting = Meeting::new(4);
    meeting.transport_cc = true;
    meeting.first_sequence = 1;
    let line =
        |rate_bps| Settings { rate_bps: Some(rate_bps), delay: Duration::from_millis(30), ..Settings::default() };
    let narrow = line(450_000);
    let viewer = meeting.join(1, "viewer", Access { up: narrow, down: narrow, ..Access::good([198, 51, 100, 20]) });
    let anna = meeting.join(1, "anna", Access::good([198, 51, 100, 21]));
    meeting.connect(&[viewer, anna]);
    let camera = meeting.publish(anna, Codec::H264, &[("q", 800_000, (640, 360))]);
    meeting.run_for(Duration::from_millis(500));
    meeting.subscribe(viewer, camera);
    meeting.run_for(Duration::from_secs(15));
    let before = meeting.shown(viewer, camera);
    let keyframes = meeting.caller(anna).counters.keyframes_asked;
    meeting.run_for(Duration::from_secs(20));
    let shown = meeting.reception(viewer, camera).shown[before..].to_vec();
    assert!((148..=152).contains(&shown.len()), "{} frames in 20 s, a quarter of 600", shown.len());
    assert!(shown.windows(2).all(|pair| pair[1].frame == pair[0].frame + 4), "frames of the base layer alone");
    let pause = shown.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap();
    assert!(pause < Duration::from_millis(250), "the picture stood for {pause:?}");
    meeting.world.set_links(viewer.host, line(5_000_000), line(5_000_000));
    meeting.run_for(Duration::from_secs(15));
    let before = meeting.shown(viewer, camera);
    meeting.run_for(Duration::from_secs(4));
    assert!(meeting.shown(viewer, camera) - before >= 118, "all of them when there is room");
    assert_eq!(meeting.caller(anna).counters.keyframes_asked, keyframes, "no keyframe is needed for it");
    assert_eq!(meeting.world.check::<Sequences>().holes(), 0);
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
