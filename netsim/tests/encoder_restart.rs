//! A publisher's encoders start over under other SSRCs: the call goes on.

use std::time::Duration;

use netsim::link::Settings;
use netsim::loss::Loss;
use netsim::meeting::{Access, Meeting};

/// How far the numbers of the new encoder are behind those of the one before.
const BEHIND: [u64; 5] = [1, 50, 500, 2_500, 30_000];

fn run(seed: u64) -> u64 {
    let mut meeting = Meeting::new(seed);
    let up = Settings {
        rate_bps: Some(20_000_000),
        delay: Duration::from_millis(20),
        reorder: 0.01,
        loss: Loss::Bernoulli(0.01),
        ..Settings::default()
    };
    let anna = meeting.join(1, "anna", Access { up, ..Access::good([198, 51, 100, 21]) });
    let bert = meeting.join(1, "bert", Access::good([198, 51, 100, 22]));
    meeting.connect(&[anna, bert]);
    let (camera, microphone) = (meeting.publish_camera(anna), meeting.publish_microphone(anna));
    meeting.run_for(Duration::from_millis(500));
    meeting.subscribe(bert, camera);
    meeting.subscribe(bert, microphone);
    meeting.run_for(Duration::from_secs(5));
    for behind in BEHIND {
        meeting.caller(anna).start_over(camera.0, behind);
        meeting.caller(anna).start_over(microphone.0, behind);
        meeting.run_for(Duration::from_secs(4));
    }
    let words = meeting.reception(bert, microphone).reception.packets;
    let spoken = 50 * (5 + 4 * BEHIND.len() as u64);
    assert!((spoken - 50..=spoken).contains(&words), "{words} of {spoken} words, where one in a hundred is lost");
    let shown = meeting.reception(bert, camera).shown.clone();
    for pair in shown.windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause < Duration::from_millis(400), "the picture stood for {pause:?} at {pair:?}");
    }
    let end = meeting.world.now().instant;
    assert!(end - shown.last().unwrap().at < Duration::from_millis(200), "it moves to the end");
    meeting.world.digest()
}

#[test]
fn a_call_goes_on_when_an_encoder_starts_over() {
    assert_eq!(run(1), run(1));
    run(2);
    run(3);
}
