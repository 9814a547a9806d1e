use std::time::Duration;

use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{DisconnectReason, leave_request::Action};

use crate::house::House;
use crate::publishing::publish;

#[test]
fn who_leaves_is_gone_at_once() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let mut bert = house.arrive("bert");
    publish(&mut house, &mut anna);
    house.settle(&mut [&mut anna, &mut bert]);
    house.ask(&anna, Asked::Leave(Default::default()));
    assert!(house.leaves(anna.participant));
    assert!(house.closed.contains(&anna.connection));
    assert!(house.told(&anna).is_empty());
    house.settle(&mut [&mut bert]);
    assert!(bert.others.is_empty());
    assert!(bert.receiving().is_empty());
}

#[test]
fn an_empty_room_closes_and_its_successor_is_another() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    house.ask(&anna, Asked::Leave(Default::default()));
    house.pass(Duration::from_secs(19));
    assert_eq!(house.rooms.room_count(), 1);
    let bert = house.arrive("bert");
    house.pass(Duration::from_secs(30));
    assert_eq!(house.rooms.room_count(), 1);
    house.ask(&bert, Asked::Leave(Default::default()));
    house.pass(Duration::from_secs(21));
    assert_eq!(house.rooms.room_count(), 0);
    assert_eq!(house.rooms.participant_count(), 0);
    assert_eq!(house.rooms.connection_count(), 0);
    // Nothing is left to wait for.
    assert_eq!(house.rooms.poll_timeout(), None);
}

#[test]
fn the_numbers_of_a_room_are_told_now_and_then() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    for index in 0..9 {
        house.arrive(&format!("p{index}"));
    }
    house.told(&anna);
    house.pass(Duration::from_secs(6));
    let told = house.told(&anna);
    let updates: Vec<u32> = told
        .iter()
        .filter_map(|message| match message {
            Told::RoomUpdate(update) => Some(update.room.as_ref().unwrap().num_participants),
            _ => None,
        })
        .collect();
    assert_eq!(updates, [10]);
}

#[test]
fn a_drain_sends_everybody_to_the_next_server() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    let bert = house.arrive("bert");
    for client in [&anna, &bert] {
        house.told(client);
    }
    house.drain();
    for client in [&anna, &bert] {
        let told = house.told(client);
        let [Told::Leave(leave)] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(leave.action(), Action::Reconnect);
        assert!(leave.can_reconnect);
        assert_eq!(leave.reason(), DisconnectReason::ServerShutdown);
        assert!(house.closed.contains(&client.connection));
    }
    assert_eq!(house.rooms.connection_count(), 0);
}
