use std::time::Duration;

use signaling::matrix::Presence;

use crate::homeserver::{House, s, seat};

#[test]
fn who_is_gone_is_gone_from_the_state_at_once() {
    let mut house = House::new();
    house.delegate("anna", "leave", s(3600));
    house.tell("anna", Presence::Present);
    house.pass(s(30));
    house.tell("anna", Presence::Absent);
    house.pass(s(1));
    assert_eq!(house.left["leave"], s(30) + Duration::from_millis(20));
    assert_eq!(house.leaves.outcomes().sent, 1);
    assert!(house.store.is_empty());
    assert_eq!(house.leaves.poll_timeout(), None);
}

#[test]
fn who_goes_while_its_leave_is_being_put_off_is_gone_all_the_same() {
    let mut house = House::new();
    house.delegate("anna", "leave", s(3600));
    house.tell("anna", Presence::Present);
    house.tell("anna", Presence::Absent);
    house.pass(s(1));
    assert_eq!(house.left["leave"], Duration::from_millis(40));
}

#[test]
fn who_never_comes_is_given_up_in_time() {
    let mut house = House::new();
    house.delegate("anna", "short", s(600));
    house.delegate("bert", "long", s(24 * 3600));
    house.pass(s(3601));
    assert!(house.left["short"] <= s(601));
    assert_eq!(house.left["long"], s(3600) + Duration::from_millis(20));
    assert_eq!(house.leaves.pending(), (0, 0));
}

#[test]
fn who_joins_anew_in_time_never_left() {
    let mut house = House::new();
    house.delegate("anna", "leave", s(3600));
    house.tell("anna", Presence::Present);
    house.pass(s(30));
    house.tell("anna", Presence::Returning);
    house.pass(s(9));
    house.tell("anna", Presence::Present);
    house.pass(s(60));
    assert!(house.left.is_empty());
    house.tell("anna", Presence::Returning);
    house.pass(s(11));
    assert!(house.left.contains_key("leave"));
}

#[test]
fn a_restart_that_fails_does_not_shorten_the_wait_for_who_joins_anew() {
    let mut house = House::new();
    house.delegate("anna", "leave", s(3600));
    house.tell("anna", Presence::Present);
    house.limited = 1;
    house.tell("anna", Presence::Returning);
    house.pass(s(9));
    assert!(house.sends("leave").is_empty());
    house.pass(s(2));
    assert!(house.left.contains_key("leave"));
}

#[test]
fn a_membership_without_a_participant_is_ended_if_it_was_delegated() {
    let mut house = House::new();
    assert!(!house.end("anna"));
    house.delegate("anna", "leave", s(3600));
    assert!(house.end("anna"));
    house.pass(s(1));
    assert!(house.left.contains_key("leave"));
    house.delegate("anna", "second", s(3600));
    house.tell("anna", Presence::Present);
    assert!(house.leaves.is_member_present(&seat("anna").member));
    assert!(!house.leaves.is_member_present(&seat("bert").member));
    assert!(!house.end("anna"), "it is here");
    house.pass(s(1));
    assert!(!house.left.contains_key("second"));
}

#[test]
fn there_is_an_end_to_what_is_taken() {
    let mut house = House::new();
    for index in 0..1_000 {
        house.delegate(&format!("p{index}"), &format!("d{index}"), s(3600));
    }
    let delegation = signaling::matrix::Delegation::new("one-more", 10_000).unwrap();
    let now = house.now();
    assert!(house.leaves.delegate(now, seat("late"), delegation.clone()).is_err());
    assert!(house.leaves.delegate(now, seat("p7"), delegation).is_ok(), "in place of another");
}
