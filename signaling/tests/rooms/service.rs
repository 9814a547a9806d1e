use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{
    CreateRoomRequest, DeleteRoomRequest, DisconnectReason, JoinRequest, ListRoomsRequest, MuteRoomTrackRequest,
    MuteTrackRequest, ParticipantPermission, RoomParticipantIdentity, SendDataRequest, UpdateParticipantRequest,
};
use sfu::Command;
use signaling::livekit::{ServiceError, token};

use crate::house::{House, claims, request, settings};
use crate::publishing::publish;

fn identity(name: &str) -> RoomParticipantIdentity {
    RoomParticipantIdentity { room: "kitchen".into(), identity: name.into(), ..Default::default() }
}

#[test]
fn rooms_are_created_once_listed_and_deleted() {
    let mut strict = settings();
    strict.room_defaults.auto_create = false;
    let mut house = House::with(strict);
    let create =
        CreateRoomRequest { name: "kitchen".into(), empty_timeout: 300, departure_timeout: 20, ..Default::default() };
    let first = house.step(|rooms, now| rooms.create_room(now, create.clone())).unwrap();
    let anna = house.arrive("anna");
    let again = house.step(|rooms, now| rooms.create_room(now, create)).unwrap();
    assert_eq!(first.sid, again.sid);
    assert_eq!(first.creation_time, again.creation_time);
    assert_eq!(again.num_participants, 1);
    let listed = house.rooms.list_rooms(&ListRoomsRequest::default()).rooms;
    assert_eq!(listed.len(), 1);
    house.told(&anna);
    let delete = DeleteRoomRequest { room: "kitchen".into() };
    house.step(|rooms, now| rooms.delete_room(now, &delete)).unwrap();
    let Some(Told::Leave(leave)) = house.told(&anna).pop() else {
        panic!("no leave");
    };
    assert_eq!(leave.reason(), DisconnectReason::RoomDeleted);
    let missing = house.step(|rooms, now| rooms.delete_room(now, &delete));
    assert_eq!(missing, Err(ServiceError::RoomNotFound));
    assert_eq!(house.rooms.poll_timeout(), None);
}

#[test]
fn participants_are_found_muted_changed_and_removed() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let mut bert = house.arrive("bert");
    publish(&mut house, &mut anna);
    house.settle(&mut [&mut anna, &mut bert]);
    assert_eq!(house.rooms.get_participant(&identity("anna")).unwrap().tracks.len(), 2);
    let absent = house.rooms.get_participant(&identity("zoe"));
    assert_eq!(absent, Err(ServiceError::ParticipantNotFound));
    let mut mute = MuteRoomTrackRequest {
        room: "kitchen".into(),
        identity: "anna".into(),
        track_sid: anna.published["cid-mic"].clone(),
        muted: true,
    };
    let muted = house.step(|rooms, now| rooms.mute_published_track(now, &mute)).unwrap();
    assert!(muted.track.unwrap().muted);
    assert!(house.told(&anna).iter().any(|message| matches!(message, Told::Mute(_))));
    mute.muted = false;
    let unmuted = house.step(|rooms, now| rooms.mute_published_track(now, &mute));
    assert_eq!(unmuted, Err(ServiceError::UnmuteRefused));
    let change = UpdateParticipantRequest {
        room: "kitchen".into(),
        identity: "anna".into(),
        metadata: "new".into(),
        permission: Some(ParticipantPermission {
            can_subscribe: true,
            can_publish: true,
            can_publish_sources: vec![2],
            ..Default::default()
        }),
        ..Default::default()
    };
    house.take_commands();
    let changed = house.step(|rooms, now| rooms.change_participant(now, &change)).unwrap();
    assert_eq!((changed.metadata.as_str(), changed.tracks.len()), ("new", 1));
    assert!(house.told(&anna).iter().any(|message| matches!(message, Told::TrackUnpublished(_))));
    house.settle(&mut [&mut bert]);
    assert_eq!(bert.receiving().len(), 1);
    let data = SendDataRequest {
        room: "kitchen".into(),
        data: b"x".to_vec(),
        destination_identities: vec!["bert".into()],
        ..Default::default()
    };
    house.take_commands();
    house.step(|rooms, now| rooms.send_data(now, data)).unwrap();
    assert!(matches!(
        house.take_commands()[..],
        [Command::SendData { participant, label: "_reliable", .. }] if participant == bert.participant
    ));
    house.step(|rooms, now| rooms.remove_participant(now, &identity("anna"))).unwrap();
    assert!(house.leaves(anna.participant));
    let Some(Told::Leave(leave)) = house.told(&anna).pop() else {
        panic!("no leave");
    };
    assert_eq!(leave.reason(), DisconnectReason::ParticipantRemoved);
}

#[test]
fn a_change_that_is_too_large_changes_nothing() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    publish(&mut house, &mut anna);
    house.told(&anna);
    let before = house.rooms.get_participant(&identity("anna")).unwrap();
    let mut change = UpdateParticipantRequest {
        room: "kitchen".into(),
        identity: "anna".into(),
        name: "x".repeat(257),
        permission: Some(ParticipantPermission { can_subscribe: true, ..Default::default() }),
        ..Default::default()
    };
    let refused = house.step(|rooms, now| rooms.change_participant(now, &change));
    assert_eq!(refused, Err(ServiceError::TooLong));
    assert_eq!(house.rooms.get_participant(&identity("anna")).unwrap(), before);
    assert!(house.told(&anna).is_empty());
    change.name.clear();
    let changed = house.step(|rooms, now| rooms.change_participant(now, &change)).unwrap();
    assert!(changed.tracks.is_empty());
}

#[test]
fn a_refreshed_token_permits_what_is_permitted_now() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    let change = UpdateParticipantRequest {
        room: "kitchen".into(),
        identity: "anna".into(),
        permission: Some(ParticipantPermission {
            can_publish: true,
            can_publish_sources: vec![2],
            ..Default::default()
        }),
        ..Default::default()
    };
    house.step(|rooms, now| rooms.change_participant(now, &change)).unwrap();
    let Some(Told::RefreshToken(token)) = house.told(&anna).pop() else {
        panic!("no token");
    };
    let grant = token::verify(&token, &settings().api_keys, house.now().unix.as_secs()).unwrap().grant();
    assert_eq!(grant.can_publish_sources, Some(vec!["microphone".to_owned()]));
    assert_eq!((grant.can_publish, grant.can_subscribe), (Some(true), Some(false)));
}

/// Where the demand to mute stands among what a client was told, and where the first update that shows the track muted.
fn mute_and_update(told: &[Told]) -> (Option<usize>, Option<usize>) {
    let shows_muted = |message: &Told| match message {
        Told::Update(update) => update.participants.iter().any(|info| info.tracks.iter().any(|track| track.muted)),
        _ => false,
    };
    (told.iter().position(|message| matches!(message, Told::Mute(_))), told.iter().position(shows_muted))
}

#[test]
fn a_client_mutes_before_it_is_shown_as_muted() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    publish(&mut house, &mut anna);
    let sid = anna.published["cid-mic"].clone();
    let mute =
        MuteRoomTrackRequest { room: "kitchen".into(), identity: "anna".into(), track_sid: sid.clone(), muted: true };
    house.told(&anna);
    house.step(|rooms, now| rooms.mute_published_track(now, &mute)).unwrap();
    assert_eq!(mute_and_update(&house.told(&anna)), (Some(0), Some(1)));
    // It may not have heard it; told again until it has muted itself.
    let back = JoinRequest { reconnect: true, participant_sid: anna.sid.clone(), ..request() };
    for _ in 0..2 {
        anna.connection = house.connect(claims("anna"), back.clone()).unwrap();
        assert_eq!(mute_and_update(&house.told(&anna)), (Some(1), Some(2)));
    }
    house.ask(&anna, Asked::Mute(MuteTrackRequest { sid, muted: true }));
    anna.connection = house.connect(claims("anna"), back).unwrap();
    assert_eq!(mute_and_update(&house.told(&anna)), (None, Some(1)));
}
