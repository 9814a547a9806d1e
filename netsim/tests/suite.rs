//! A scenario of the suite is the same run for the same seed.

use std::time::Duration;

use netsim::suite::{Policy, call, scenarios};

#[test]
fn a_seed_is_a_run_of_a_scenario() {
    let spec = |seed| {
        let mut scenario = scenarios(seed).into_iter().find(|scenario| scenario.name == "P1 10 %").expect("its name");
        // The onset comes early, for a short run.
        scenario.call.steps[1].at = Duration::from_secs(2);
        scenario.call.duration = Duration::from_secs(8);
        scenario.call
    };
    let first = call::run(&spec(1), Policy::Ours, 1);
    let again = call::run(&spec(1), Policy::Ours, 1);
    assert_eq!(first.digest, again.digest);
    assert_ne!(first.digest, call::run(&spec(2), Policy::Ours, 2).digest);
    assert!(!first.shown[0].is_empty(), "the speaker is seen");
    assert_eq!(first.shown[0].len(), again.shown[0].len());
}
