//! Homeservers that are away or busy, and a kill -9 of our own.

use signaling::matrix::Presence;

use crate::homeserver::{House, s, seat};

#[test]
fn leaves_are_sent_when_the_homeserver_is_back_after_ten_minutes() {
    let mut house = House::new();
    for user in ["anna", "bert", "clara"] {
        house.delegate(user, user, s(3600));
        house.tell(user, Presence::Present);
    }
    house.pass(s(60));
    house.away = true;
    house.pass(s(30));
    house.tell("anna", Presence::Absent);
    house.tell("bert", Presence::Absent);
    house.pass(s(120));
    house.tell("bert", Presence::Present);
    house.pass(s(480));
    let tries = house.sends("anna");
    assert!((8..=25).contains(&tries.len()), "{tries:?}");
    house.away = false;
    house.pass(s(75));
    assert!(house.left.contains_key("anna"));
    assert!(!house.left.contains_key("bert"), "it came back before anybody heard that it was gone");
    assert!(!house.left.contains_key("clara"));
    house.pass(s(7200));
    assert!(!house.left.contains_key("bert") && !house.left.contains_key("clara"));
}

#[test]
fn pauses_between_tries_grow_up_to_a_minute() {
    let mut house = House::new();
    house.delegate("anna", "leave", s(3600));
    house.tell("anna", Presence::Present);
    house.pass(s(1));
    house.away = true;
    house.tell("anna", Presence::Absent);
    house.pass(s(900));
    let tries = house.sends("leave");
    // Each takes the ten seconds until it is given up.
    let pauses: Vec<f64> = tries.windows(2).map(|pair| (pair[1] - pair[0] - s(10)).as_secs_f64()).collect();
    assert_eq!(pauses[..3], [1.0, 1.5, 2.25]);
    assert!(pauses.iter().all(|pause| *pause <= 60.0));
    assert_eq!(pauses.last(), Some(&60.0));
}

#[test]
fn what_the_homeserver_will_have_sent_by_itself_is_let_go() {
    let mut house = House::new();
    house.delegate("anna", "leave", s(60));
    house.tell("anna", Presence::Present);
    house.pass(s(1));
    house.away = true;
    house.tell("anna", Presence::Absent);
    house.pass(s(300));
    assert_eq!(house.leaves.outcomes().expired, 1);
    assert!(house.store.is_empty());
    house.away = false;
    house.pass(s(1));
    assert!(house.left.contains_key("leave"));
}

#[test]
fn a_busy_homeserver_is_left_alone_for_as_long_as_it_asks() {
    let mut house = House::new();
    for user in ["anna", "bert"] {
        house.delegate(user, user, s(3600));
        house.tell(user, Presence::Present);
    }
    house.pass(s(10));
    house.limited = 1;
    house.requests.clear();
    house.tell("anna", Presence::Absent);
    house.pass(s(1));
    house.tell("bert", Presence::Absent);
    house.pass(s(5));
    assert_eq!(house.requests.len(), 1, "{:?}", house.requests);
    house.pass(s(2));
    assert_eq!(house.left.len(), 2);
}

#[test]
fn a_thousand_leaves_go_a_few_at_a_time() {
    let mut house = House::new();
    for index in 0..1_000 {
        let user = format!("p{index}");
        house.delegate(&user, &user, s(3600));
        house.tell(&user, Presence::Present);
    }
    house.pass(s(10));
    house.requests.clear();
    for index in 0..1_000 {
        house.tell(&format!("p{index}"), Presence::Absent);
    }
    assert_eq!(house.requests.len(), 16);
    house.pass(s(2));
    assert_eq!(house.left.len(), 1_000);
}

#[test]
fn after_a_kill_clients_have_half_a_minute_to_come_back() {
    let mut house = House::new();
    for user in ["anna", "bert"] {
        house.delegate(user, user, s(3600));
        house.tell(user, Presence::Present);
    }
    house.pass(s(100));
    house.kill(s(5));
    house.pass(s(20));
    house.tell("anna", Presence::Present);
    house.pass(s(9));
    assert!(house.left.is_empty());
    house.pass(s(2));
    assert_eq!(house.left.keys().collect::<Vec<_>>(), ["bert"]);
    house.pass(s(7200));
    assert_eq!(house.left.len(), 1, "anna's is put off");
}

#[test]
fn a_leave_that_was_under_way_at_a_kill_is_sent_after_it() {
    let mut house = House::new();
    house.delegate("anna", "leave", s(3600));
    house.tell("anna", Presence::Present);
    house.pass(s(100));
    house.away = true;
    house.tell("anna", Presence::Absent);
    house.pass(s(15));
    house.away = false;
    house.kill(s(1));
    house.pass(s(1));
    assert!(house.left.contains_key("leave"));
    assert!(house.store.is_empty());
}

#[test]
fn sending_our_clients_away_ends_nobody() {
    let mut house = House::new();
    house.delegate("anna", "leave", s(3600));
    house.tell("anna", Presence::Present);
    house.pass(s(100));
    house.leaves.drain();
    house.tell("anna", Presence::Absent);
    house.pass(s(5));
    house.kill(s(1));
    house.tell("anna", Presence::Present);
    house.pass(s(3600));
    assert!(house.left.is_empty());
    assert!(house.leaves.is_present(&seat("anna")));
}
