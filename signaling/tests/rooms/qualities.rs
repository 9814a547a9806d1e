//! What clients hear of connections.

use std::time::Duration;

use livekit_protocol::ConnectionQuality;
use livekit_protocol::signal_response::Message as Told;
use sfu::{Event, LinkStatistics};

use crate::client::Client;
use crate::house::{House, claims, request};
use crate::publishing::publish;

fn measure(house: &mut House, client: &Client, loss: f64) {
    let link = Box::new(LinkStatistics { loss: Some(loss), ..LinkStatistics::default() });
    house.event(Event::Measured { links: vec![(client.participant, link)] });
}

/// Who was told of whom, by name.
fn heard(house: &mut House, client: &Client, names: &[&Client]) -> Vec<(String, ConnectionQuality)> {
    let told = house.told(client);
    let updates = told.into_iter().filter_map(|message| match message {
        Told::ConnectionQuality(update) => Some(update.updates),
        _ => None,
    });
    let named = |sid: &str| {
        names.iter().find(|client| client.sid == sid).and_then(|client| client.own.as_ref()).unwrap().identity.clone()
    };
    updates.flatten().map(|info| (named(&info.participant_sid), info.quality())).collect()
}

#[test]
fn each_hears_of_itself_and_of_whom_it_listens_to() {
    use ConnectionQuality::{Excellent, Poor};
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let mut bert = house.arrive("bert");
    publish(&mut house, &mut anna);
    house.settle(&mut [&mut anna, &mut bert]);
    let everybody = [&anna, &bert];
    house.pass(Duration::from_secs(5));
    assert_eq!(heard(&mut house, &bert, &everybody), [], "nothing is known yet");
    measure(&mut house, &anna, 0.0);
    measure(&mut house, &bert, 0.3);
    house.pass(Duration::from_secs(5));
    let named = |name: &str, quality| (name.to_owned(), quality);
    assert_eq!(heard(&mut house, &anna, &everybody), [named("anna", Excellent)], "bert publishes nothing");
    assert_eq!(heard(&mut house, &bert, &everybody), [named("anna", Excellent), named("bert", Poor)]);
    house.pass(Duration::from_secs(20));
    assert_eq!(heard(&mut house, &bert, &everybody), [], "no news");
    for _ in 0..5 {
        measure(&mut house, &anna, 0.2);
        measure(&mut house, &bert, 0.0);
    }
    house.pass(Duration::from_secs(5));
    assert_eq!(heard(&mut house, &anna, &everybody), [named("anna", Poor)]);
    assert_eq!(heard(&mut house, &bert, &everybody), [named("anna", Poor), named("bert", Excellent)]);
}

#[test]
fn who_comes_later_or_comes_back_hears_how_things_are() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    publish(&mut house, &mut anna);
    measure(&mut house, &anna, 0.0);
    house.pass(Duration::from_secs(6));
    let mut bert = house.arrive("bert");
    house.settle(&mut [&mut anna, &mut bert]);
    house.pass(Duration::from_secs(5));
    let of_anna = [("anna".to_owned(), ConnectionQuality::Excellent)];
    assert_eq!(heard(&mut house, &bert, &[&anna, &bert]), of_anna);
    house.lose(&bert);
    let mut again = request();
    again.reconnect = true;
    again.participant_sid = bert.sid.clone();
    bert.connection = house.connect(claims("bert"), again).unwrap();
    house.pass(Duration::from_secs(5));
    assert_eq!(heard(&mut house, &bert, &[&anna, &bert]), of_anna);
}
