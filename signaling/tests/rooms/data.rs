use bytes::Bytes;
use livekit_protocol::data_packet::Value;
use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{DataPacket, UpdateParticipantMetadata, UserPacket, request_response::Reason};
use prost::Message;
use sfu::{Command, Event, ParticipantId};

use crate::client::Client;
use crate::house::{House, claims, request};

fn packet(to: &[&str], sequence: u32) -> Bytes {
    DataPacket {
        sequence,
        destination_identities: to.iter().map(|name| (*name).to_owned()).collect(),
        value: Some(Value::User(UserPacket { payload: b"hello".to_vec(), ..Default::default() })),
        ..Default::default()
    }
    .encode_to_vec()
    .into()
}

fn send(house: &mut House, from: &Client, label: &str, payload: Bytes) -> Vec<ParticipantId> {
    house.take_commands();
    house.event(Event::Data { participant: from.participant, label: label.into(), payload });
    house
        .take_commands()
        .into_iter()
        .map(|command| match command {
            Command::SendData { participant, label: sent, .. } => {
                assert_eq!(sent, label);
                participant
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn packets_go_to_the_others_or_to_those_named() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    let bert = house.arrive("bert");
    let clara = house.arrive("clara");
    let everybody = vec![bert.participant, clara.participant];
    assert_eq!(send(&mut house, &anna, "_lossy", packet(&[], 0)), everybody);
    let one = send(&mut house, &anna, "_reliable", packet(&["clara", "anna"], 1));
    assert_eq!(one, [clara.participant]);
    assert!(send(&mut house, &anna, "_reliable", packet(&[], 1)).is_empty());
    assert!(send(&mut house, &anna, "other", packet(&[], 0)).is_empty());
    assert!(send(&mut house, &anna, "_lossy", Bytes::from_static(b"\xff")).is_empty());
}

#[test]
fn who_may_not_publish_data_is_not_heard() {
    let mut house = House::new();
    let mut mute = claims("anna");
    mute.video.as_mut().unwrap().can_publish_data = Some(false);
    let anna = house.join_as(mute, request());
    house.arrive("bert");
    assert!(send(&mut house, &anna, "_lossy", packet(&[], 0)).is_empty());
}

#[test]
fn metadata_is_merged_confirmed_and_told() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let mut bert = house.arrive("bert");
    let update = |attributes: &[(&str, &str)], name: &str, request_id| {
        Asked::UpdateMetadata(UpdateParticipantMetadata {
            name: name.into(),
            attributes: attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            request_id,
            ..Default::default()
        })
    };
    house.ask(&anna, update(&[("a", "1"), ("b", "2")], "", 5));
    house.ask(&anna, update(&[("a", "")], "Ännchen", 6));
    let told = house.told(&anna);
    let answers: Vec<(u32, Reason)> = told
        .iter()
        .filter_map(|message| match message {
            Told::RequestResponse(response) => Some((response.request_id, response.reason())),
            _ => None,
        })
        .collect();
    assert_eq!(answers, [(5, Reason::Ok), (6, Reason::Ok)]);
    anna.hear(told);
    bert.hear(house.told(&bert));
    for info in [anna.own.as_ref().unwrap(), &bert.others["anna"]] {
        assert_eq!(info.name, "Ännchen");
        assert_eq!(info.attributes.len(), 1);
    }
    house.ask(&anna, update(&[("big", &"x".repeat(64 << 10))], "", 7));
    let Some(Told::RequestResponse(response)) = house.told(&anna).pop() else {
        panic!("no answer");
    };
    assert_eq!(response.reason(), Reason::LimitExceeded);
}
