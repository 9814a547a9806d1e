use signaling::matrix::Presence;

use crate::homeserver::{House, s};

#[test]
fn the_leave_is_put_off_at_once_and_at_four_fifths_of_its_time() {
    let mut house = House::new();
    house.delegate("anna", "leave", s(3600));
    house.pass(s(5));
    assert!(house.requests.is_empty(), "nobody is there yet");
    house.tell("anna", Presence::Present);
    house.pass(s(3 * 3600));
    assert_eq!(house.restarts("leave"), [s(5), s(5 + 2880), s(5 + 2 * 2880), s(5 + 3 * 2880)]);
    assert!(house.left.is_empty());
}

#[test]
fn who_is_there_when_it_delegates_has_its_leave_put_off_at_once() {
    let mut house = House::new();
    house.tell("anna", Presence::Present);
    house.pass(s(5));
    house.delegate("anna", "leave", s(18));
    house.pass(s(60));
    assert_eq!(house.restarts("leave")[0], s(5));
    assert!(house.left.is_empty());
    assert_eq!(house.restarts("leave").len(), 5);
}

#[test]
fn a_second_leave_takes_the_place_of_the_first() {
    let mut house = House::new();
    house.tell("anna", Presence::Present);
    house.delegate("anna", "first", s(18));
    // Clients ask for their tokens twice.
    house.delegate("anna", "first", s(18));
    house.pass(s(1));
    house.delegate("anna", "second", s(18));
    assert_eq!(house.store.len(), 1);
    house.pass(s(40));
    assert_eq!(house.restarts("first").len(), 1);
    assert_eq!(house.restarts("second").len(), 3);
    assert_eq!(house.leaves.outcomes().replaced, 1);
    house.tell("anna", Presence::Absent);
    house.pass(s(1));
    assert!(house.left.contains_key("second"));
    assert!(house.sends("first").is_empty());
}

#[test]
fn a_leave_that_the_client_sent_or_cancelled_is_over() {
    let mut house = House::new();
    house.delegate("anna", "leave", s(18));
    house.tell("anna", Presence::Present);
    house.pass(s(1));
    house.events.clear();
    house.pass(s(100));
    assert_eq!(house.restarts("leave").len(), 2);
    assert_eq!(house.leaves.outcomes().gone, 1);
    assert_eq!(house.leaves.pending(), (0, 0));
    assert!(house.store.is_empty());
    assert_eq!(house.leaves.poll_timeout(), None);
}
