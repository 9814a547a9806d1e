//! Random loss on every link: NACK and RTX repair the video, both from the publisher and to the subscriber.

use std::time::Duration;

use netsim::check::Sequences;
use netsim::link::Settings;
use netsim::loss::Loss;
use netsim::meeting::{Access, Meeting};

fn lossy(address: [u8; 4]) -> Access {
    let line = Settings {
        rate_bps: Some(20_000_000),
        delay: Duration::from_millis(15),
        loss: Loss::Bernoulli(0.05),
        ..Settings::default()
    };
    Access { up: line, down: line, ..Access::good(address) }
}

fn run(seed: u64) -> u64 {
    let mut meeting = Meeting::new(seed);
    let anna = meeting.join(1, "anna", lossy([198, 51, 100, 21]));
    let bert = meeting.join(1, "bert", lossy([198, 51, 100, 22]));
    meeting.connect(&[anna, bert]);
    let camera = meeting.publish_camera(anna);
    let microphone = meeting.publish_microphone(anna);
    meeting.run_for(Duration::from_millis(500));
    meeting.subscribe(bert, camera);
    meeting.subscribe(bert, microphone);
    meeting.run_for(Duration::from_secs(20));

    let video = meeting.reception(bert, camera);
    let reception = video.reception;
    assert!(reception.missed > 50, "the link loses packets: {reception:?}");
    assert!(reception.repaired > 50 && reception.late > 50, "{reception:?}");
    assert!((reception.repaired + reception.late) * 100 >= reception.missed * 97, "{reception:?}");
    assert!(reception.abandoned * 1000 <= reception.packets, "{reception:?}");
    assert!(video.shown.len() >= 570, "{} frames of 600, {reception:?}", video.shown.len());
    let pause = video.shown.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap();
    assert!(pause < Duration::from_millis(700), "the picture stood for {pause:?}");
    // Audio has no retransmission: what two lossy links leave of it arrives.
    let audio = meeting.shown(bert, microphone);
    assert!((850..=950).contains(&audio), "{audio} of 1000 audio frames");

    let asked = meeting.caller(anna).counters.packets_asked;
    let lost = meeting.world.link_counters(anna.host).0.lost;
    assert!(asked > 100 && lost > 100, "asked for {asked} of {lost}");
    // Holes in what the server sends are packets that the publisher's link lost for good, audio's above all.
    let sequences = meeting.world.check::<Sequences>();
    let (holes, packets) = (sequences.holes(), sequences.packets());
    assert!(holes <= 80, "{holes} holes in {packets} packets");
    meeting.world.digest()
}

#[test]
fn five_percent_loss_is_repaired() {
    assert_eq!(run(1), run(1));
}
