//! What an operator sees.

use std::time::Duration;

use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{DisconnectReason, leave_request::Action};
use sfu::{Command, Event, Kind, LinkStatistics, Portion, ReceivedStatistics, SentStatistics, Tally, TrackId};
use signaling::livekit::Survey;

use crate::house::{House, member_claims, request};
use crate::publishing::publish;

fn survey(house: &mut House, sids: &[&str]) -> Survey {
    house.step(|rooms, _| rooms.survey(sids, |room| (room == "!kitchen").then(|| "Kitchen".to_owned())))
}

#[test]
fn participants_of_the_rooms_asked_for_are_shown() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    house.arrive("bert");
    house.join("not connected");
    let room = survey(&mut house, &[]).rooms[0].clone();
    assert!(room.participants.is_empty());
    assert_eq!(room.participant_count, 3);
    let link = Box::new(LinkStatistics { sent_bps: 7, ..LinkStatistics::default() });
    house.event(Event::Measured { links: vec![(anna.participant, link)] });
    let seen = survey(&mut house, &[&room.sid]).rooms[0].participants.clone();
    assert_eq!(seen[0].link.as_ref().map(|link| link.down_bps), Some(7));
    assert_eq!(seen[1].link, None, "not measured yet");
    assert_eq!((seen[0].transport, seen[2].transport), ("connected", "connecting"));
}

#[test]
fn a_link_is_shown_with_what_it_carries() {
    let mut house = House::new();
    let mut anna = house.join_as(member_claims("anna", "PHONE"), request());
    house.connected(&anna);
    let mut bert = house.arrive("bert");
    publish(&mut house, &mut anna);
    house.settle(&mut [&mut anna, &mut bert]);
    let tracks: Vec<(TrackId, bool)> = house
        .take_commands()
        .iter()
        .filter_map(|command| match command {
            Command::Publish { track, spec, .. } => Some((*track, spec.codec.kind() == sfu::Kind::Video)),
            _ => None,
        })
        .collect();
    let video = tracks.iter().find(|(_, video)| *video).unwrap().0;
    let sid = survey(&mut house, &[]).rooms[0].sid.clone();
    let tally = Tally { expected: 1, lost: 0 };
    let received = ReceivedStatistics {
        track: video,
        kind: Kind::Video,
        encoding: 0,
        bitrate_bps: 300_000,
        is_missing: false,
        tally,
    };
    let up = LinkStatistics { received: vec![received], ..LinkStatistics::default() };
    house.event(Event::Measured { links: vec![(anna.participant, Box::new(up))] });
    let sent =
        SentStatistics { track: video, kind: Kind::Video, encoding: Some(0), portion: Portion::Lowered, tally: None };
    let round_trip = Some(Duration::from_micros(42_360));
    let down =
        LinkStatistics { sent: vec![sent], round_trip, estimate_bps: Some(900_000), ..LinkStatistics::default() };
    house.event(Event::Measured { links: vec![(bert.participant, Box::new(down))] });
    let room = survey(&mut house, &[&sid]).rooms.remove(0);
    assert_eq!((room.title.as_deref(), room.matrix_room.as_deref()), (Some("Kitchen"), Some("!kitchen")));
    let [anna, bert] = &room.participants[..] else { panic!("{room:?}") };
    assert_eq!(anna.member.as_ref().unwrap().user_id, "@anna:example.org");
    let camera = anna.tracks.iter().find(|track| track.video).unwrap();
    assert_eq!((camera.source.as_str(), &camera.encodings_bps[..]), ("camera", &[300_000][..]));
    assert_eq!(anna.link.as_ref().unwrap().up_bps, 300_000);
    let link = bert.link.as_ref().unwrap();
    assert_eq!((link.round_trip_ms, link.estimate_bps), (Some(42.4), Some(900_000)));
    assert_eq!(link.videos.len(), 1);
    assert_eq!((link.videos[0].publisher.as_str(), link.videos[0].layer), (anna.sid.as_str(), Some(1)));
    assert_eq!(link.videos[0].portion, "lowered");
}

#[test]
fn an_operator_removes_somebody_and_ends_a_call() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    let bert = house.arrive("bert");
    let sid = survey(&mut house, &[]).rooms[0].sid.clone();
    let people = survey(&mut house, &[&sid]).rooms[0].participants.clone();
    assert!(!house.step(|rooms, now| rooms.remove_session(now, "RM_other", &people[0].sid)));
    assert!(house.step(|rooms, now| rooms.remove_session(now, &sid, &people[0].sid)));
    assert!(!house.step(|rooms, now| rooms.remove_session(now, &sid, &people[0].sid)));
    let told = house.told(&anna);
    let Some(Told::Leave(leave)) = told.last() else { panic!("{told:?}") };
    assert_eq!((leave.action(), leave.reason()), (Action::Disconnect, DisconnectReason::ParticipantRemoved));
    assert!(house.step(|rooms, now| rooms.end_room(now, &sid)));
    let told = house.told(&bert);
    let Some(Told::Leave(leave)) = told.last() else { panic!("{told:?}") };
    assert_eq!((leave.action(), leave.reason()), (Action::Disconnect, DisconnectReason::RoomDeleted));
    assert!(!house.step(|rooms, now| rooms.end_room(now, &sid)));
    assert_eq!(house.rooms.room_count(), 0);
}

#[test]
fn what_a_link_did_is_told_while_it_is_here_and_for_a_while_after() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    let links = |house: &mut House| house.step(|rooms, now| rooms.links(now));
    for second in 0..20u64 {
        let silent = Duration::from_secs(second.saturating_sub(5));
        let link = Box::new(LinkStatistics { silent, sent_bps: 64_000, ..LinkStatistics::default() });
        house.event(Event::Measured { links: vec![(anna.participant, link)] });
        house.pass(Duration::from_secs(1));
    }
    let [entry] = &links(&mut house)[..] else { panic!("one") };
    assert_eq!((entry.name.as_str(), entry.present), ("ANNA", true));
    assert_eq!((entry.from, entry.to), (Some(1_000_000_000), Some(1_000_000_019)));
    let sid = entry.sid.clone();
    assert!(house.step(|rooms, now| rooms.remove_session(now, &entry.room.sid, &sid)));
    house.pass(Duration::from_secs(14 * 60));
    let answer = house.step(|rooms, now| rooms.link(now, &sid, 0)).unwrap();
    // Of the time before the silence, in which nothing was sent either way, the ends.
    assert_eq!((answer.name.as_str(), answer.seconds.len()), ("ANNA", 13));
    let sentence = "At 01:46:45-01:46:59 ANNA's client was silent (no packet for 14 s): network or laptop asleep, and it did not come back.";
    assert_eq!(answer.sentences, [sentence]);
    let events: Vec<&str> = answer.events.iter().map(|event| event.event).collect();
    assert_eq!(events, ["joined", "connected", "left"]);
    house.pass(Duration::from_secs(60));
    assert_eq!(links(&mut house), []);
    assert_eq!(house.step(|rooms, now| rooms.link(now, &sid, 0)), None);
}
