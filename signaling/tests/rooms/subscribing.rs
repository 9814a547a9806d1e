use std::time::Duration;

use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{SubscriptionPermission, TrackPermission, UpdateSubscription, UpdateTrackSettings};
use sfu::{Command, Event, Speaker};

use crate::client::{Client, camera, microphone};
use crate::house::{House, claims, request};
use crate::publishing::{publish, track_ids};

#[test]
fn a_new_track_is_announced_then_asked_for_then_described() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let mut bert = house.arrive("bert");
    house.told(&bert);
    publish(&mut house, &mut anna);
    let tracks = track_ids(&house.take_commands());
    assert!(matches!(house.told(&bert)[..], [Told::Update(_)]));
    house.pass(Duration::from_millis(20));
    let told = house.told(&bert);
    let [Told::MediaSectionsRequirement(requirement)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!((requirement.num_audios, requirement.num_videos), (0, 0));
    // The client hears it in the right order; the update was taken above, so it is told again here.
    let info = house.rooms.list_participants(&livekit_protocol::ListParticipantsRequest { room: "kitchen".into() });
    for other in info.participants {
        bert.others.insert(other.identity.clone(), other);
    }
    house.offer(&mut bert);
    assert_eq!(bert.receiving().len(), 2);
    let sid = &anna.published["cid-cam"];
    let mid = bert.mid_of(sid).unwrap();
    let lines = bert.answered(&mid);
    assert!(lines.contains(&"sendonly".to_owned()));
    assert!(lines.contains(&format!("msid:{}|{sid} {sid}", anna.sid)));
    let spec = house
        .commands
        .iter()
        .find_map(|command| match command {
            Command::Subscribe { participant, track, spec } if *track == tracks[1] => {
                assert_eq!(*participant, bert.participant);
                Some(spec.clone())
            }
            _ => None,
        })
        .unwrap();
    assert_eq!((spec.payload_type, spec.rtx_payload_type), (96, Some(97)));
    let rtx = spec.rtx_ssrc.unwrap();
    assert!(lines.contains(&format!("ssrc-group:FID {} {rtx}", spec.ssrc)));
    assert_eq!(spec.mid, mid);
    // An adaptive client begins with the lowest layer.
    assert_eq!(spec.wish.spatial_max, 0);
    assert!(spec.extensions.abs_send_time.is_none() && spec.extensions.transport_cc.is_some());
    // The publisher hears of its first subscriber, once for each track.
    let told = house.told(&anna);
    let subscribed = told.iter().filter(|message| matches!(message, Told::TrackSubscribed(_)));
    assert_eq!(subscribed.count(), 2);
}

#[test]
fn a_late_joiner_gets_everything_with_the_first_answer() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    publish(&mut house, &mut anna);
    let bert = house.join("bert");
    assert_eq!(bert.receiving().len(), 2);
    assert_eq!(bert.answers.len(), 1);
}

#[test]
fn five_participants_get_eight_tracks_each() {
    let mut house = House::new();
    let mut all: Vec<Client> = (0..5).map(|index| house.arrive(&format!("p{index}"))).collect();
    for client in &mut all {
        publish(&mut house, client);
    }
    let mut everybody: Vec<&mut Client> = all.iter_mut().collect();
    house.settle(&mut everybody);
    for client in &all {
        assert_eq!(client.receiving().len(), 8, "{}", client.sid);
        assert_eq!(client.others.len(), 4);
    }
    let SubscriptionCount { begun, .. } = count(&house.commands);
    assert_eq!(begun, 5 * 8);
    // One goes: the others' sections become free, and a new one fits in without more being asked for.
    let gone = all.pop().unwrap();
    house.ask(&gone, Asked::Leave(Default::default()));
    let mut rest: Vec<&mut Client> = all.iter_mut().collect();
    house.settle(&mut rest);
    assert!(all.iter().all(|client| client.receiving().len() == 6));
    let sections = all[0].answers.last().unwrap().1.medias.len();
    let mut newcomer = house.arrive("newcomer");
    publish(&mut house, &mut newcomer);
    all.push(newcomer);
    let mut everybody: Vec<&mut Client> = all.iter_mut().collect();
    house.settle(&mut everybody);
    assert!(all.iter().all(|client| client.receiving().len() == 8));
    assert_eq!(all[0].answers.last().unwrap().1.medias.len(), sections);
}

struct SubscriptionCount {
    begun: usize,
    ended: usize,
}

fn count(commands: &[Command]) -> SubscriptionCount {
    let of = |is: fn(&Command) -> bool| commands.iter().filter(|command| is(command)).count();
    SubscriptionCount {
        begun: of(|command| matches!(command, Command::Subscribe { .. })),
        ended: of(|command| matches!(command, Command::Unsubscribe { .. })),
    }
}

#[test]
fn settings_become_wishes() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    publish(&mut house, &mut anna);
    let bert = house.arrive("bert");
    house.take_commands();
    let set = |house: &mut House, width, height, disabled| {
        house.ask(
            &bert,
            Asked::TrackSetting(UpdateTrackSettings {
                track_sids: vec![anna.published["cid-cam"].clone()],
                width,
                height,
                disabled,
                ..Default::default()
            }),
        );
        match &house.take_commands()[..] {
            [Command::SetWish { wish, .. }] => (wish.paused, wish.spatial_max),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(set(&mut house, 640, 360, false), (false, 1));
    assert_eq!(set(&mut house, 1280, 720, false), (false, 2));
    assert_eq!(set(&mut house, 1280, 720, true), (true, 2));
}

#[test]
fn a_track_named_again_and_again_is_looked_at_once() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    publish(&mut house, &mut anna);
    let bert = house.arrive("bert");
    house.take_commands();
    let track_sids = vec![anna.published["cid-cam"].clone(); 100_000];
    house.ask(&bert, Asked::TrackSetting(UpdateTrackSettings { track_sids, disabled: true, ..Default::default() }));
    assert!(matches!(house.take_commands()[..], [Command::SetWish { .. }]));
}

#[test]
fn nobody_is_subscribed_against_its_will() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    publish(&mut house, &mut anna);
    let mut manual = request();
    manual.connection_settings.as_mut().unwrap().auto_subscribe = false;
    let mut bert = house.join_as(claims("bert"), manual);
    house.connected(&bert);
    assert!(bert.receiving().is_empty());
    let sid = anna.published["cid-cam"].clone();
    let subscription = |subscribe| {
        Asked::Subscription(UpdateSubscription { track_sids: vec![sid.clone()], subscribe, ..Default::default() })
    };
    house.ask(&bert, subscription(true));
    house.settle(&mut [&mut bert]);
    assert_eq!(bert.receiving(), std::slice::from_ref(&sid));
    house.ask(&bert, subscription(false));
    assert_eq!(count(&house.commands).ended, 1);
    house.settle(&mut [&mut bert]);
    assert!(bert.receiving().is_empty());
    let mut deaf = claims("clara");
    deaf.video.as_mut().unwrap().can_subscribe = Some(false);
    let clara = house.join_as(deaf, request());
    assert!(clara.receiving().is_empty());
}

#[test]
fn a_subscription_may_be_wished_for_before_the_track_exists() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let mut manual = request();
    manual.connection_settings.as_mut().unwrap().auto_subscribe = false;
    let mut bert = house.join_as(claims("bert"), manual);
    house.ask(&anna, Asked::AddTrack(camera("cid-cam")));
    anna.hear(house.told(&anna));
    let sid = anna.published["cid-cam"].clone();
    house.ask(
        &bert,
        Asked::Subscription(UpdateSubscription {
            track_sids: vec![sid.clone()],
            subscribe: true,
            ..Default::default()
        }),
    );
    anna.add_camera("cid-cam");
    house.offer(&mut anna);
    house.settle(&mut [&mut anna, &mut bert]);
    assert_eq!(bert.receiving(), [sid]);
}

#[test]
fn a_publisher_decides_who_may_subscribe() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    publish(&mut house, &mut anna);
    let mut bert = house.arrive("bert");
    let mut clara = house.arrive("clara");
    house.told(&bert);
    house.told(&clara);
    let microphone = anna.published["cid-mic"].clone();
    house.ask(
        &anna,
        Asked::SubscriptionPermission(SubscriptionPermission {
            all_participants: false,
            track_permissions: vec![TrackPermission {
                participant_identity: "bert".into(),
                track_sids: vec![microphone.clone()],
                ..Default::default()
            }],
        }),
    );
    let refused = |told: &[Told]| {
        let updates = told
            .iter()
            .filter(|message| matches!(message, Told::SubscriptionPermissionUpdate(update) if !update.allowed));
        updates.count()
    };
    assert_eq!(refused(&house.told(&bert)), 1);
    assert_eq!(refused(&house.told(&clara)), 2);
    house.settle(&mut [&mut bert, &mut clara]);
    assert_eq!(bert.receiving(), [microphone]);
    assert!(clara.receiving().is_empty());
    house.ask(
        &anna,
        Asked::SubscriptionPermission(SubscriptionPermission { all_participants: true, ..Default::default() }),
    );
    house.settle(&mut [&mut bert, &mut clara]);
    assert_eq!(bert.receiving().len(), 2);
    assert_eq!(clara.receiving().len(), 2);
}

#[test]
fn speakers_are_told_to_themselves_and_to_who_hears_them() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let room = match house.commands[0] {
        Command::Join { room, .. } => room,
        _ => panic!("no join"),
    };
    publish(&mut house, &mut anna);
    let bert = house.arrive("bert");
    let mut deaf = claims("clara");
    deaf.video.as_mut().unwrap().can_subscribe = Some(false);
    let clara = house.join_as(deaf, request());
    for client in [&anna, &bert, &clara] {
        house.told(client);
    }
    house.event(Event::Speakers { room, speakers: vec![Speaker { participant: anna.participant, level: 0.5 }] });
    for client in [&anna, &bert] {
        let told = house.told(client);
        let [Told::SpeakersChanged(changed)] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(changed.speakers[0].sid, anna.sid);
        assert!(changed.speakers[0].active);
    }
    assert!(house.told(&clara).is_empty());
}

/// A room that keeps what belongs together in one stream.
fn in_synchrony() -> House {
    let mut house = House::new();
    let created = house.step(|rooms, now| {
        let request =
            livekit_protocol::CreateRoomRequest { name: "kitchen".into(), sync_streams: true, ..Default::default() };
        rooms.create_room(now, request)
    });
    assert!(created.is_ok());
    house
}

#[test]
fn a_room_may_keep_lips_and_voice_in_one_stream() {
    let mut house = in_synchrony();
    let mut anna = house.arrive("anna");
    publish(&mut house, &mut anna);
    let bert = house.join("bert");
    for sid in bert.receiving() {
        let mid = bert.mid_of(&sid).unwrap();
        let line = format!("msid:{}|camera {sid}", anna.sid);
        assert!(bert.answered(&mid).contains(&line));
    }
}

#[test]
fn what_a_publisher_calls_its_stream_is_one_word_or_nothing_in_the_descriptions_of_others() {
    let mut house = in_synchrony();
    let mut anna = house.arrive("anna");
    let mut microphone = microphone("cid-mic");
    microphone.stream = "mine\r\na=candidate:1 1 udp 1 203.0.113.1 9 typ host".into();
    house.ask(&anna, Asked::AddTrack(microphone));
    anna.add_microphone("cid-mic");
    house.offer(&mut anna);
    let bert = house.join("bert");
    let sid = &bert.receiving()[0];
    let lines = bert.answered(&bert.mid_of(sid).unwrap());
    assert!(lines.contains(&format!("msid:{}|{sid} {sid}", anna.sid)), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("203.0.113.1")), "{lines:?}");
}
