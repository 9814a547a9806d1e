//! Clients that do anything in any order: nothing panics, every offer is answered or refused, and when all have left
//! nothing is left of them.

use std::time::Duration;

use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{JoinRequest, MuteTrackRequest, UpdateSubscription, UpdateTrackSettings};
use proptest::prelude::*;
use sfu::{Event, TrackId, TransportEnd};

use crate::client::{Client, camera, microphone};
use crate::house::{House, claims, request};

#[derive(Clone, Debug)]
enum Act {
    Join(u8),
    Connect(u8),
    Publish(u8, bool),
    Stop(u8),
    Offer(u8),
    Mute(u8, bool),
    Subscribe(u8, bool),
    Setting(u8, u32),
    Lose(u8),
    Resume(u8),
    Leave(u8),
    Silent(u8),
    Wanted(u8, Option<u8>),
    Pass(u16),
}

fn act() -> impl Strategy<Value = Act> {
    let who = 0..4_u8;
    prop_oneof![
        who.clone().prop_map(Act::Join),
        who.clone().prop_map(Act::Connect),
        (who.clone(), any::<bool>()).prop_map(|(who, video)| Act::Publish(who, video)),
        who.clone().prop_map(Act::Stop),
        who.clone().prop_map(Act::Offer),
        (who.clone(), any::<bool>()).prop_map(|(who, muted)| Act::Mute(who, muted)),
        (who.clone(), any::<bool>()).prop_map(|(who, yes)| Act::Subscribe(who, yes)),
        (who.clone(), 0..2000_u32).prop_map(|(who, height)| Act::Setting(who, height)),
        who.clone().prop_map(Act::Lose),
        who.clone().prop_map(Act::Resume),
        who.clone().prop_map(Act::Leave),
        who.clone().prop_map(Act::Silent),
        (who, proptest::option::of(0..4_u8)).prop_map(|(who, highest)| Act::Wanted(who, highest)),
        (0..20_000_u16).prop_map(Act::Pass),
    ]
}

/// Answers what the server asks of a client that is still there.
fn hear(house: &mut House, client: &mut Client) {
    let told = house.told(client);
    if client.hear(told) && !house.closed.contains(&client.connection) {
        house.offer(client);
    }
}

fn perform(house: &mut House, clients: &mut [Option<Client>], serial: &mut u32, act: Act) {
    let all_tracks: Vec<String> =
        clients.iter().flatten().flat_map(|client| client.published.values().cloned()).collect();
    match act {
        Act::Join(who) => clients[usize::from(who)] = Some(house.join(&format!("p{who}"))),
        Act::Pass(millis) => house.pass(Duration::from_millis(millis.into())),
        Act::Wanted(track, highest) => house.event(Event::EncodingsWanted { track: TrackId(track.into()), highest }),
        Act::Connect(who)
        | Act::Publish(who, _)
        | Act::Stop(who)
        | Act::Offer(who)
        | Act::Mute(who, _)
        | Act::Subscribe(who, _)
        | Act::Setting(who, _)
        | Act::Lose(who)
        | Act::Resume(who)
        | Act::Leave(who)
        | Act::Silent(who) => {
            let Some(mut client) = clients[usize::from(who)].take() else {
                return;
            };
            one(house, &mut client, serial, act, &all_tracks);
            clients[usize::from(who)] = Some(client);
        }
    }
}

fn one(house: &mut House, client: &mut Client, serial: &mut u32, act: Act, tracks: &[String]) {
    match act {
        Act::Connect(_) => house.connected(client),
        Act::Publish(_, video) => {
            *serial += 1;
            let cid = format!("cid-{serial}");
            if video {
                house.ask(client, Asked::AddTrack(camera(&cid)));
                client.add_camera(&cid);
            } else {
                house.ask(client, Asked::AddTrack(microphone(&cid)));
                client.add_microphone(&cid);
            }
        }
        Act::Stop(_) => {
            if client.published.len() > 1 {
                client.stop("7");
            }
        }
        Act::Offer(_) => {
            hear(house, client);
            let gone = house.closed.contains(&client.connection);
            let answers = client.answers.len();
            house.offer(client);
            let alive = !gone && client.answers.len() > answers;
            if alive {
                assert_eq!(client.answers.last().unwrap().0, client.offer_id);
            }
        }
        Act::Mute(_, muted) => {
            for sid in client.published.values() {
                let sid = sid.clone();
                house.ask(client, Asked::Mute(MuteTrackRequest { sid, muted }));
            }
        }
        Act::Subscribe(_, subscribe) => house.ask(
            client,
            Asked::Subscription(UpdateSubscription { track_sids: tracks.to_vec(), subscribe, ..Default::default() }),
        ),
        Act::Setting(_, height) => house.ask(
            client,
            Asked::TrackSetting(UpdateTrackSettings {
                track_sids: tracks.to_vec(),
                width: height,
                height,
                ..Default::default()
            }),
        ),
        Act::Lose(_) => house.lose(client),
        Act::Resume(_) => {
            let back = JoinRequest { reconnect: true, participant_sid: client.sid.clone(), ..request() };
            let identity = client.own.as_ref().unwrap().identity.clone();
            let connection = house.connect(claims(&identity), back).unwrap();
            let told = house.take(connection);
            assert!(matches!(told[0], Told::Reconnect(_) | Told::Leave(_)));
            if matches!(told[0], Told::Reconnect(_)) {
                client.connection = connection;
                client.hear(told);
            }
        }
        Act::Leave(_) => house.ask(client, Asked::Leave(Default::default())),
        Act::Silent(_) => {
            house.event(Event::Disconnected { participant: client.participant, end: TransportEnd::Silent })
        }
        Act::Join(_) | Act::Pass(_) | Act::Wanted(..) => {}
    }
    hear(house, client);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn whatever_clients_do_the_rooms_stay_whole(acts in proptest::collection::vec(act(), 1..60)) {
        let mut house = House::new();
        let mut clients: [Option<Client>; 4] = [None, None, None, None];
        let mut serial = 0;
        for act in acts {
            perform(&mut house, &mut clients, &mut serial, act);
        }
        for client in clients.iter().flatten() {
            house.ask(client, Asked::Leave(Default::default()));
            house.lose(client);
            house.event(Event::Disconnected { participant: client.participant, end: TransportEnd::Closed });
        }
        house.pass(Duration::from_secs(600));
        prop_assert_eq!(house.rooms.participant_count(), 0);
        prop_assert_eq!(house.rooms.room_count(), 0);
        prop_assert_eq!(house.rooms.connection_count(), 0);
        prop_assert_eq!(house.rooms.poll_timeout(), None);
    }
}
