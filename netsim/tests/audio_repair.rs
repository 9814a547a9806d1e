//! Audio over a link that loses every tenth packet: sent twice, unless that is switched off.

use std::time::Duration;

use netsim::link::Settings;
use netsim::loss::Loss;
use netsim::meeting::{Access, Meeting};
use sfu::Event;

/// What the listener does not hear, in percent, packets that came twice, and whether the server says that it repeats audio.
fn run(mut meeting: Meeting) -> (f64, u64, bool) {
    meeting.first_sequence = 1;
    let line = Settings {
        rate_bps: Some(5_000_000),
        delay: Duration::from_millis(30),
        loss: Loss::Bernoulli(0.1),
        ..Settings::default()
    };
    let listener = meeting.join(1, "listener", Access { up: line, down: line, ..Access::good([198, 51, 100, 20]) });
    let speaker = meeting.join(1, "speaker", Access::good([198, 51, 100, 21]));
    meeting.connect(&[listener, speaker]);
    let microphone = meeting.publish_microphone(speaker);
    meeting.run_for(Duration::from_millis(500));
    meeting.subscribe(listener, microphone);
    // A jitter buffer learns to wait for copies within some seconds.
    meeting.run_for(Duration::from_secs(15));
    let (from, twice) = (meeting.world.now().instant, meeting.caller(listener).counters.replayed);
    meeting.run_for(Duration::from_secs(30));
    let repeats = |(_, event): &(Duration, Event)| event.link_of(listener.id).is_some_and(|link| link.audio_copies > 0);
    let until = meeting.world.now().instant;
    let mut net_eq = meeting.reception(listener, microphone).net_eq.clone();
    net_eq.advance(until);
    let (made_up, pieces, _) = net_eq.heard.between(from, until);
    (
        100.0 * f64::from(made_up) / f64::from(pieces),
        meeting.caller(listener).counters.replayed - twice,
        meeting.events.iter().any(repeats),
    )
}

#[test]
fn copies_fill_most_holes_and_there_are_none_when_switched_off() {
    let (made_up, twice, repeats) = run(Meeting::new(1));
    assert!(repeats && twice > 1_000, "{twice} came twice");
    assert!(made_up < 3.0, "{made_up} %");
    let (made_up, twice, repeats) = run(Meeting::without_audio_repair(1));
    assert!(!repeats && twice == 0, "{twice} came twice");
    assert!((7.0..14.0).contains(&made_up), "{made_up} %");
}
