use std::time::Duration;

use livekit_protocol::participant_info::State;
use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{
    DisconnectReason, JoinRequest, SimulateScenario, leave_request::Action, simulate_scenario::Scenario,
};
use sfu::{Command, Event, TransportEnd};
use signaling::livekit::ConnectionId;

use crate::client::Client;
use crate::house::{House, claims, request};
use crate::publishing::publish;

fn resume(house: &mut House, identity: &str, sid: &str) -> ConnectionId {
    let back = JoinRequest { reconnect: true, participant_sid: sid.into(), ..request() };
    house.connect(claims(identity), back).unwrap()
}

#[test]
fn a_client_comes_back_to_its_session() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let mut bert = house.arrive("bert");
    let clara = house.arrive("clara");
    publish(&mut house, &mut bert);
    house.settle(&mut [&mut anna, &mut bert]);
    house.lose(&anna);
    assert!(!house.leaves(anna.participant));
    house.ask(&clara, Asked::Leave(Default::default()));
    house.pass(Duration::from_secs(3));
    house.take_commands();
    let old = anna.connection;
    anna.connection = resume(&mut house, "anna", &anna.sid);
    assert!(!house.closed.contains(&old));
    anna.first = None;
    let told = house.told(&anna);
    assert!(matches!(told[0], Told::Reconnect(_)));
    assert!(matches!(told[1], Told::Update(_)));
    assert!(matches!(told[2], Told::RoomUpdate(_)));
    assert!(matches!(told[3], Told::RefreshToken(_)));
    anna.hear(told);
    assert_eq!(anna.first, Some("reconnect"));
    assert!(!anna.others.contains_key("clara"));
    assert_eq!(anna.others["bert"].tracks.len(), 2);
    assert!(house.take_commands().is_empty());
    let before = anna.receiving();
    anna.restart_ice();
    house.offer(&mut anna);
    assert_eq!(anna.receiving(), before);
    let [Command::SetTransport { participant, .. }] = &house.take_commands()[..] else {
        panic!("no restart");
    };
    assert_eq!(*participant, anna.participant);
}

/// Of whom the snapshot after a resume says that they are gone.
fn gone(told: &[Told]) -> Vec<String> {
    let Told::Update(update) = &told[1] else {
        panic!("{told:?}");
    };
    let gone = update.participants.iter().filter(|info| info.state() == State::Disconnected);
    gone.map(|info| info.identity.clone()).collect()
}

#[test]
fn what_went_into_a_dead_connection_is_said_again() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let clara = house.arrive("clara");
    let dora = house.arrive("dora");
    let mut bert = house.arrive("bert");
    anna.hear(house.told(&anna));
    house.ask(&clara, Asked::Leave(Default::default()));
    anna.hear(house.told(&anna));
    house.pass(Duration::from_secs(61));
    house.ask(&anna, Asked::Ping(1));
    house.pass(Duration::from_secs(1));
    // Nothing of this arrives, and nobody knows yet.
    house.ask(&dora, Asked::Leave(Default::default()));
    house.ask(&bert, Asked::Leave(Default::default()));
    bert = house.arrive("bert");
    house.told(&anna);
    for _ in 0..3 {
        // Nor does the first answer to its return.
        house.pass(Duration::from_secs(45));
        anna.connection = resume(&mut house, "anna", &anna.sid);
    }
    let told = house.told(&anna);
    assert_eq!(gone(&told), ["dora"], "clara's leave was heard, and bert is back");
    anna.hear(told);
    assert_eq!(anna.others.keys().collect::<Vec<_>>(), ["bert"]);
    assert_eq!(anna.others["bert"].sid, bert.sid);
    house.ask(&anna, Asked::Ping(1));
    house.pass(Duration::from_secs(61));
    house.ask(&anna, Asked::Ping(1));
    anna.connection = resume(&mut house, "anna", &anna.sid);
    assert!(gone(&house.told(&anna)).is_empty());
}

#[test]
fn what_an_offer_after_a_resume_has_no_place_for_is_asked_for_at_once() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    house.lose(&anna);
    let mut others: Vec<Client> = (0..4).map(|index| house.arrive(&format!("p{index}"))).collect();
    for other in &mut others {
        publish(&mut house, other);
    }
    anna.connection = resume(&mut house, "anna", &anna.sid);
    anna.hear(house.told(&anna));
    anna.restart_ice();
    house.offer(&mut anna);
    let bound = anna.receiving().len();
    assert!(bound < 8, "the layout has no place for all of them");
    house.pass(Duration::from_millis(200));
    let told = house.told(&anna);
    assert!(anna.hear(told), "no offer is asked for");
    house.offer(&mut anna);
    assert_eq!(anna.receiving().len(), 8);
}

#[test]
fn a_resume_takes_the_place_of_a_connection_that_we_still_had() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let old = anna.connection;
    anna.connection = resume(&mut house, "anna", &anna.sid);
    assert!(house.closed.contains(&old));
    // The end of the old one means nothing now.
    let mut gone = Client::new("anna");
    gone.connection = old;
    house.lose(&gone);
    house.told(&anna);
    house.ask(&anna, Asked::Ping(1));
    assert!(matches!(house.told(&anna)[..], [Told::Pong(_)]));
}

#[test]
fn what_nobody_knows_is_sent_to_begin_anew() {
    let mut house = House::new();
    for sid in ["PA_before_restart", ""] {
        let connection = resume(&mut house, "anna", sid);
        let told = house.take(connection);
        let [Told::Leave(leave)] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(leave.action(), Action::Reconnect);
        assert_eq!(leave.reason(), DisconnectReason::StateMismatch);
        assert!(house.closed.contains(&connection));
    }
    // Somebody else's sid is as good as none.
    let anna = house.arrive("anna");
    let connection = resume(&mut house, "bert", &anna.sid);
    assert!(matches!(house.take(connection)[..], [Told::Leave(_)]));
    house.told(&anna);
    house.ask(&anna, Asked::Ping(1));
    assert_eq!(house.told(&anna).len(), 1);
}

#[test]
fn a_cut_cable_is_noticed_in_steps() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    let mut bert = house.arrive("bert");
    house.told(&anna);
    let silent = Event::Disconnected { participant: anna.participant, end: TransportEnd::Silent };
    house.event(silent.clone());
    house.pass(Duration::from_secs(4));
    house.connected(&anna);
    house.pass(Duration::from_secs(20));
    assert!(!house.leaves(anna.participant));
    house.told(&anna);
    house.event(silent);
    house.pass(Duration::from_millis(5_001));
    let told = house.told(&anna);
    let [Told::Leave(leave)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(leave.action(), Action::Resume);
    assert!(house.closed.contains(&anna.connection));
    assert!(!house.leaves(anna.participant));
    house.pass(Duration::from_secs(5));
    assert!(house.leaves(anna.participant));
    let told = house.told(&bert);
    let reason = told.iter().rev().find_map(|message| match message {
        Told::Update(update) => Some(update.participants[0].disconnect_reason()),
        _ => None,
    });
    assert_eq!(reason, Some(DisconnectReason::ConnectionTimeout));
    bert.hear(told);
    assert!(bert.others.is_empty());
}

#[test]
fn a_client_without_transport_has_nothing_to_come_back_to() {
    let mut house = House::new();
    let anna = house.join("anna");
    house.lose(&anna);
    assert!(house.leaves(anna.participant));
}

#[test]
fn a_tab_that_closed_its_transport_is_gone_at_once() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    house.lose(&anna);
    house.event(Event::Disconnected { participant: anna.participant, end: TransportEnd::Closed });
    assert!(house.leaves(anna.participant));
}

#[test]
fn misbehaviour_is_simulated_on_request() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let simulate = |scenario| Asked::Simulate(SimulateScenario { scenario: Some(scenario) });
    house.ask(&anna, simulate(Scenario::DisconnectSignalOnResume(true)));
    house.lose(&anna);
    anna.connection = resume(&mut house, "anna", &anna.sid);
    assert!(matches!(house.told(&anna)[0], Told::Reconnect(_)));
    assert!(house.closed.contains(&anna.connection));
    anna.connection = resume(&mut house, "anna", &anna.sid);
    assert!(!house.closed.contains(&anna.connection));
    house.told(&anna);
    house.ask(&anna, simulate(Scenario::SubscriberBandwidth(100_000)));
    assert!(matches!(house.commands.last(), Some(Command::LimitBandwidth { bitrate_bps: Some(100_000), .. })));
    house.ask(&anna, simulate(Scenario::SpeakerUpdate(3)));
    house.pass(Duration::from_secs(4));
    let levels: Vec<bool> = house
        .told(&anna)
        .into_iter()
        .filter_map(|message| match message {
            Told::SpeakersChanged(changed) => Some(changed.speakers[0].active),
            _ => None,
        })
        .collect();
    assert_eq!(levels, [true, false]);
    house.ask(&anna, simulate(Scenario::NodeFailure(true)));
    assert!(house.closed.contains(&anna.connection));
    assert!(house.told(&anna).is_empty());
    let connection = resume(&mut house, "anna", &anna.sid);
    assert!(matches!(house.take(connection)[..], [Told::Leave(_)]));
}
