//! What the Matrix side hears about who is in a call.

use std::time::Duration;

use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{DisconnectReason, JoinRequest, leave_request::Action};
use sfu::{Event, TransportEnd};
use signaling::matrix::Presence;

use crate::client::Client;
use crate::house::{House, claims, member_claims, request};

const ANNA: &str = "@anna:example.org:PHONE";

fn arrive(house: &mut House, user: &str, device: &str) -> Client {
    let client = house.join_as(member_claims(user, device), request());
    house.connected(&client);
    client
}

fn silence(house: &mut House, client: &Client) {
    house.event(Event::Disconnected { participant: client.participant, end: TransportEnd::Silent });
}

fn told(house: &mut House) -> Vec<Presence> {
    let presences = std::mem::take(&mut house.presences);
    presences.into_iter().map(|(identity, presence)| (identity == ANNA).then_some(presence).unwrap()).collect()
}

#[test]
fn who_comes_and_goes_is_told_and_nobody_else() {
    let mut house = House::new();
    let stranger = house.arrive("stranger");
    let anna = house.join_as(member_claims("anna", "PHONE"), request());
    assert!(told(&mut house).is_empty(), "before the transport is up");
    house.connected(&anna);
    assert_eq!(told(&mut house), [Presence::Present]);
    house.ask(&stranger, Asked::Leave(Default::default()));
    house.ask(&anna, Asked::Leave(Default::default()));
    assert_eq!(told(&mut house), [Presence::Absent]);
}

#[test]
fn silence_of_socket_and_media_is_absence_after_a_while() {
    let mut house = House::new();
    let anna = arrive(&mut house, "anna", "PHONE");
    told(&mut house);
    house.lose(&anna);
    house.pass(Duration::from_secs(10));
    silence(&mut house, &anna);
    house.pass(Duration::from_millis(2_499));
    assert!(told(&mut house).is_empty());
    house.pass(Duration::from_millis(1));
    assert_eq!(told(&mut house), [Presence::Absent]);
    assert!(!house.leaves(anna.participant), "it may still resume");
    house.pass(Duration::from_secs(8));
    assert!(house.leaves(anna.participant));
    assert!(told(&mut house).is_empty(), "told once");
}

#[test]
fn a_socket_that_does_not_know_that_it_is_dead_is_no_sign_of_life() {
    let mut house = House::new();
    let anna = arrive(&mut house, "anna", "PHONE");
    told(&mut house);
    house.ask(&anna, Asked::Ping(1));
    house.pass(Duration::from_secs(10));
    silence(&mut house, &anna);
    house.pass(Duration::from_secs(3));
    assert_eq!(told(&mut house), [Presence::Absent]);
}

#[test]
fn a_client_that_speaks_on_its_socket_is_there() {
    let mut house = House::new();
    let anna = arrive(&mut house, "anna", "PHONE");
    told(&mut house);
    house.pass(Duration::from_secs(10));
    silence(&mut house, &anna);
    house.ask(&anna, Asked::Ping(1));
    house.pass(Duration::from_secs(4));
    assert!(told(&mut house).is_empty());
    house.connected(&anna);
    house.pass(Duration::from_secs(30));
    assert!(told(&mut house).is_empty());
}

#[test]
fn who_resumes_after_an_absence_is_present_again() {
    let mut house = House::new();
    let anna = arrive(&mut house, "anna", "PHONE");
    house.lose(&anna);
    silence(&mut house, &anna);
    house.pass(Duration::from_secs(4));
    assert_eq!(told(&mut house), [Presence::Present, Presence::Absent]);
    let back = JoinRequest { reconnect: true, participant_sid: anna.sid.clone(), ..request() };
    house.connect(member_claims("anna", "PHONE"), back).unwrap();
    house.connected(&anna);
    assert_eq!(told(&mut house), [Presence::Present]);
}

#[test]
fn who_joins_anew_in_its_own_place_was_never_away() {
    let mut house = House::new();
    arrive(&mut house, "anna", "PHONE");
    let anna = arrive(&mut house, "anna", "PHONE");
    assert_eq!(told(&mut house), [Presence::Present]);
    house.ask(&anna, Asked::Leave(Default::default()));
    assert_eq!(told(&mut house), [Presence::Absent]);
    // A join that comes to nothing does not hide that the old self is gone: it is waited for, like whoever is to join anew.
    arrive(&mut house, "anna", "PHONE");
    let anna = house.join_as(member_claims("anna", "PHONE"), request());
    house.lose(&anna);
    assert_eq!(told(&mut house), [Presence::Present, Presence::Returning]);
}

#[test]
fn who_is_told_to_join_anew_is_expected_back() {
    let mut house = House::new();
    let anna = arrive(&mut house, "anna", "PHONE");
    house.event(Event::Refused { participant: anna.participant, reason: sfu::Refusal::LimitReached });
    assert_eq!(told(&mut house), [Presence::Present, Presence::Returning]);
}

#[test]
fn who_left_the_matrix_room_leaves_the_call_with_all_devices() {
    let mut house = House::new();
    let mut phone = arrive(&mut house, "anna", "PHONE");
    let laptop = arrive(&mut house, "anna", "LAPTOP");
    let anna_b = arrive(&mut house, "anna-b", "PHONE");
    let namesake = house.join_as(claims("@anna:example.org"), request());
    house.told(&phone);
    house.presences.clear();
    assert_eq!(house.step(|rooms, now| rooms.remove_member(now, "!hall", "@anna:example.org")), 0);
    assert_eq!(house.step(|rooms, now| rooms.remove_member(now, "!kitchen", "@anna:example.org")), 2);
    assert!(house.leaves(phone.participant) && house.leaves(laptop.participant));
    assert!(!house.leaves(anna_b.participant) && !house.leaves(namesake.participant));
    let told = house.told(&phone);
    let Some(Told::Leave(leave)) = told.last() else { panic!("{told:?}") };
    assert_eq!((leave.action(), leave.reason()), (Action::Disconnect, DisconnectReason::ParticipantRemoved));
    assert_eq!(house.presences.len(), 2);
    phone.hear(told);
    assert_eq!(house.step(|rooms, now| rooms.remove_member(now, "!kitchen", "@anna:example.org")), 0);
}
