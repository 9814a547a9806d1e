//! Whose TURN credentials are taken back, and whose are not.

use std::time::Duration;

use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::{DeleteRoomRequest, JoinRequest, RoomParticipantIdentity};

use crate::client::Client;
use crate::house::{House, TURN_TTL, claims, member_claims, request, settings};

fn withdrawn(house: &mut House) -> Vec<String> {
    std::mem::take(&mut house.withdrawn)
}

fn remove(house: &mut House, identity: &str) {
    let identity = RoomParticipantIdentity { room: "kitchen".into(), identity: identity.into(), ..Default::default() };
    house.step(|rooms, now| rooms.remove_participant(now, &identity)).unwrap();
}

fn sorted(clients: &[&Client]) -> Vec<String> {
    let mut sids: Vec<String> = clients.iter().map(|client| client.sid.clone()).collect();
    sids.sort_unstable();
    sids
}

#[test]
fn those_of_who_is_removed_with_those_from_before_it_came_back() {
    let mut house = House::new();
    let first = house.arrive("anna");
    house.arrive("bert");
    let second = house.arrive("anna");
    assert!(withdrawn(&mut house).is_empty(), "a new place of the same identity");
    remove(&mut house, "anna");
    assert_eq!(withdrawn(&mut house), sorted(&[&first, &second]));
    let third = house.arrive("anna");
    remove(&mut house, "anna");
    assert_eq!(withdrawn(&mut house), [third.sid], "the others are taken back already");
}

#[test]
fn nobody_s_who_leaves_gets_lost_or_resumes() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    let bert = house.arrive("bert");
    house.lose(&bert);
    let back = JoinRequest { reconnect: true, participant_sid: bert.sid.clone(), ..request() };
    house.connect(claims("bert"), back).unwrap();
    house.ask(&anna, Asked::Leave(Default::default()));
    let clara = house.arrive("clara");
    house.lose(&clara);
    house.pass(Duration::from_secs(3600));
    house.drain();
    assert!(withdrawn(&mut house).is_empty());
}

#[test]
fn a_resume_s_count_from_then_on() {
    let mut house = House::new();
    house.arrive("bert");
    let anna = house.arrive("anna");
    house.pass(TURN_TTL - Duration::from_secs(1));
    let back = JoinRequest { reconnect: true, participant_sid: anna.sid.clone(), ..request() };
    house.connect(claims("anna"), back).unwrap();
    // It goes, and comes back as another.
    let again = house.arrive("anna");
    house.pass(Duration::from_secs(2));
    remove(&mut house, "anna");
    assert_eq!(withdrawn(&mut house), sorted(&[&anna, &again]));
}

#[test]
fn everybody_s_when_the_room_is_deleted_and_only_of_this_room() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    let bert = house.arrive("bert");
    house.ask(&bert, Asked::Leave(Default::default()));
    let mut elsewhere = claims("anna");
    elsewhere.video.as_mut().unwrap().room = "cellar".into();
    house.join_as(elsewhere, request());
    house.step(|rooms, now| rooms.delete_room(now, &DeleteRoomRequest { room: "kitchen".into() })).unwrap();
    assert_eq!(withdrawn(&mut house), sorted(&[&anna, &bert]));
}

#[test]
fn as_the_page_for_operators_has_it_too() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    let bert = house.arrive("bert");
    let room = house.rooms.list_rooms(&Default::default()).rooms.remove(0).sid;
    assert!(house.step(|rooms, now| rooms.remove_session(now, &room, &anna.sid)));
    assert_eq!(withdrawn(&mut house), [anna.sid]);
    assert!(house.step(|rooms, now| rooms.end_room(now, &room)));
    assert_eq!(withdrawn(&mut house), [bert.sid]);
}

#[test]
fn every_device_of_a_user_who_is_no_longer_in_the_matrix_room() {
    let mut house = House::new();
    let phone = house.join_as(member_claims("anna", "PHONE"), request());
    let laptop = house.join_as(member_claims("anna", "LAPTOP"), request());
    house.join_as(member_claims("bert", "PHONE"), request());
    // Gone from the call a moment before.
    house.ask(&laptop, Asked::Leave(Default::default()));
    assert_eq!(house.step(|rooms, now| rooms.remove_member(now, "!kitchen", "@anna:example.org")), 1);
    assert_eq!(withdrawn(&mut house), sorted(&[&phone, &laptop]));
    assert_eq!(house.step(|rooms, now| rooms.remove_member(now, "!cellar", "@bert:example.org")), 0);
    assert!(withdrawn(&mut house).is_empty());
}

#[test]
fn nobody_s_where_none_was_given() {
    let mut house = House::with(signaling::livekit::Settings { turn: None, ..settings() });
    house.arrive("anna");
    remove(&mut house, "anna");
    assert!(withdrawn(&mut house).is_empty());
}
