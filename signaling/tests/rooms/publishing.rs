use std::time::Duration;

use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{AddTrackRequest, JoinRequest, MuteTrackRequest, SyncState, TrackPublishedResponse, TrackType};
use sfu::{Codec, Command, Event, TrackId};

use crate::client::{Client, camera, microphone};
use crate::house::{House, claims, request};

/// Announces and offers a microphone and a camera.
pub fn publish(house: &mut House, client: &mut Client) -> (String, String) {
    house.ask(client, Asked::AddTrack(microphone("cid-mic")));
    house.ask(client, Asked::AddTrack(camera("cid-cam")));
    let mics = client.add_microphone("cid-mic");
    let cams = client.add_camera("cid-cam");
    house.offer(client);
    (mics, cams)
}

pub fn track_ids(commands: &[Command]) -> Vec<TrackId> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::Publish { track, .. } => Some(*track),
            _ => None,
        })
        .collect()
}

#[test]
fn a_camera_is_announced_negotiated_and_known_to_others() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let mut bert = house.arrive("bert");
    house.take_commands();
    let (mic, cam) = publish(&mut house, &mut anna);
    assert_eq!(anna.answers.last().unwrap().0, 2);
    let lines = anna.answered(&cam);
    for line in ["recvonly", "rid:q recv", "rid:h recv", "rid:f recv", "simulcast:recv q;h;f"] {
        assert!(lines.contains(&line.to_owned()), "{line} is not in {lines:?}");
    }
    let lines = anna.answered(&mic);
    assert!(lines.contains(&"fmtp:111 minptime=10;useinbandfec=1;usedtx=1".to_owned()));
    let published: Vec<_> = house
        .take_commands()
        .into_iter()
        .filter_map(|command| match command {
            Command::Publish { spec, .. } => Some(spec),
            _ => None,
        })
        .collect();
    let [audio, video] = &published[..] else {
        panic!("{published:?}");
    };
    assert_eq!((audio.codec, audio.payload_type), (Codec::Opus, 111));
    assert_eq!(audio.encodings[0].ssrc, Some(461_076_484));
    assert_eq!(audio.extensions.audio_level, Some(1));
    assert_eq!((video.codec, video.payload_type), (Codec::Vp8, 96));
    assert_eq!(video.rtx_payload_type, Some(97));
    assert_eq!(video.extensions.transport_cc, Some(3));
    assert!(video.nack && !video.muted);
    let layers: Vec<_> = video.encodings.iter().map(|layer| (layer.rid.as_deref().unwrap(), layer.height)).collect();
    assert_eq!(layers, [("q", 180), ("h", 360), ("f", 720)]);
    bert.hear(house.told(&bert));
    let info = &bert.others["anna"];
    assert!(info.is_publisher);
    let camera = &info.tracks[1];
    assert_eq!(camera.sid, anna.published["cid-cam"]);
    assert!(camera.sid.starts_with("TR_VC"));
    assert_eq!(camera.mime_type, "video/VP8");
    assert_eq!(camera.codecs[0].mime_type, "video/VP8");
    assert_eq!((camera.mid.as_str(), camera.encryption), (cam.as_str(), 1));
    #[allow(deprecated)]
    let simulcast = camera.simulcast;
    assert!(simulcast);
    let microphone = &info.tracks[0];
    assert_eq!(microphone.mime_type, "audio/opus");
    assert_eq!(microphone.codecs[0].cid, "cid-mic");
    assert_eq!(microphone.codecs[0].mime_type, "audio/opus");
}

#[test]
fn a_section_with_another_track_id_is_the_first_pending_of_its_kind() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    house.ask(&anna, Asked::AddTrack(camera("cid-cam")));
    house.ask(&anna, Asked::AddTrack(microphone("cid-mic")));
    let mid = anna.add_microphone("renamed");
    house.take_commands();
    house.offer(&mut anna);
    assert!(anna.answered(&mid).contains(&"recvonly".to_owned()));
    assert_eq!(track_ids(&house.commands).len(), 1);
}

#[test]
fn what_was_not_announced_is_not_received() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    house.take_commands();
    let mid = anna.add_camera("unknown");
    house.offer(&mut anna);
    assert!(anna.answered(&mid).contains(&"inactive".to_owned()));
    assert!(track_ids(&house.commands).is_empty());
}

#[test]
fn announcing_twice_keeps_the_sid_and_bad_requests_are_answered() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    house.ask(&anna, Asked::AddTrack(microphone("cid")));
    anna.hear(house.told(&anna));
    let sid = anna.published["cid"].clone();
    house.ask(&anna, Asked::AddTrack(microphone("cid")));
    anna.hear(house.told(&anna));
    assert_eq!(anna.published["cid"], sid);
    let mut data = microphone("data");
    data.r#type = TrackType::Data as i32;
    let mut backup = camera("backup");
    backup.sid = "TR_unknown".into();
    for (request, expected) in [(data, Reason::UnsupportedType), (backup, Reason::NotFound)] {
        house.ask(&anna, Asked::AddTrack(request));
        let told = house.told(&anna);
        let [Told::RequestResponse(response)] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(response.reason(), expected);
    }
    let mut listener = claims("bert");
    listener.video.as_mut().unwrap().can_publish_sources = Some(vec!["camera".into()]);
    let bert = house.join_as(listener, request());
    house.told(&bert);
    house.ask(&bert, Asked::AddTrack(microphone("cid")));
    let told = house.told(&bert);
    let [Told::RequestResponse(response)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(response.reason(), Reason::NotAllowed);
}

#[test]
fn too_many_tracks_are_refused() {
    let mut house = House::new();
    let anna = house.arrive("anna");
    for index in 0..33 {
        house.ask(&anna, Asked::AddTrack(microphone(&format!("cid-{index}"))));
    }
    let told = house.told(&anna);
    let Some(Told::RequestResponse(response)) = told.last() else {
        panic!("{told:?}");
    };
    assert_eq!(response.reason(), Reason::LimitExceeded);
}

#[test]
fn a_track_with_a_name_beyond_all_bounds_is_refused() {
    let long = "x".repeat(257);
    let changes: [fn(&mut AddTrackRequest, String); 6] = [
        |request, long| request.cid = long,
        |request, long| request.name = long,
        |request, long| request.stream = long,
        |request, long| request.layers[2].rid = long,
        |request, long| request.simulcast_codecs[0].codec = long,
        |request, long| request.simulcast_codecs[0].layers[0].rid = long,
    ];
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    for change in changes {
        house.told(&anna);
        let mut request = camera("cid-cam");
        change(&mut request, long.clone());
        house.ask(&anna, Asked::AddTrack(request));
        let told = house.told(&anna);
        let [Told::RequestResponse(response)] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(response.reason(), Reason::LimitExceeded);
    }
    let mut request = camera("cid-cam");
    request.name = "x".repeat(256);
    request.packet_trailer_features = vec![1; 1_000];
    request.audio_features = vec![1; 1_000];
    house.ask(&anna, Asked::AddTrack(request));
    let told = house.told(&anna);
    let [Told::TrackPublished(TrackPublishedResponse { track: Some(track), .. })] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!((track.packet_trailer_features.len(), track.audio_features.len()), (16, 16));
    anna.hear(told);
}

#[test]
fn a_join_announces_no_more_tracks_than_there_may_be() {
    let mut house = House::new();
    let tracks = (0..1_000).map(|index| microphone(&format!("cid-{index}"))).collect();
    let connection = house.connect(claims("anna"), JoinRequest { add_track_requests: tracks, ..request() }).unwrap();
    let told = house.take(connection);
    assert_eq!(told.iter().filter(|message| matches!(message, Told::TrackPublished(_))).count(), 32);
    assert!(!told.iter().any(|message| matches!(message, Told::RequestResponse(_))));
}

#[test]
fn a_mute_sticks_and_is_told_once() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let mut bert = house.arrive("bert");
    publish(&mut house, &mut anna);
    house.settle(&mut [&mut anna, &mut bert]);
    house.take_commands();
    let sid = anna.published["cid-mic"].clone();
    let mute = |muted| Asked::Mute(MuteTrackRequest { sid: sid.clone(), muted });
    house.ask(&anna, mute(true));
    anna.hear(house.told(&anna));
    bert.hear(house.told(&bert));
    assert!(anna.own.as_ref().unwrap().tracks[0].muted);
    assert!(bert.others["anna"].tracks[0].muted);
    let [Command::SetMuted { muted: true, .. }] = &house.take_commands()[..] else {
        panic!("no mute");
    };
    house.ask(&anna, mute(true));
    assert!(house.told(&bert).is_empty());
    house.ask(&anna, mute(false));
    assert!(matches!(house.take_commands()[..], [Command::SetMuted { muted: false, .. }]));
    house.ask(&anna, Asked::Mute(MuteTrackRequest { sid: "TR_none".into(), muted: true }));
    anna.hear(house.told(&anna));
}

#[test]
fn a_track_muted_before_it_is_negotiated_starts_muted() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    house.ask(&anna, Asked::AddTrack(microphone("cid-mic")));
    anna.hear(house.told(&anna));
    let sid = anna.published["cid-mic"].clone();
    house.ask(&anna, Asked::Mute(MuteTrackRequest { sid, muted: true }));
    anna.add_microphone("cid-mic");
    house.take_commands();
    house.offer(&mut anna);
    let muted = house.commands.iter().any(|command| matches!(command, Command::Publish { spec, .. } if spec.muted));
    assert!(muted);
}

#[test]
fn a_stopped_section_ends_the_track_everywhere() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    let mut bert = house.arrive("bert");
    let (mic, cam) = publish(&mut house, &mut anna);
    let tracks = track_ids(&house.commands);
    house.settle(&mut [&mut anna, &mut bert]);
    let freed = bert.mid_of(&anna.published["cid-cam"]).unwrap();
    assert_eq!(bert.receiving().len(), 2);
    anna.stop(&cam);
    house.take_commands();
    house.offer(&mut anna);
    assert!(anna.answered(&cam).contains(&"inactive".to_owned()));
    assert!(house.commands.contains(&Command::Unpublish { track: tracks[1] }));
    house.settle(&mut [&mut anna, &mut bert]);
    assert_eq!(bert.others["anna"].tracks.len(), 1);
    assert_eq!(bert.receiving(), [anna.published["cid-mic"].clone()]);
    assert!(bert.answered(&freed).contains(&"inactive".to_owned()));
    // The section serves the next camera.
    house.ask(&anna, Asked::AddTrack(camera("second")));
    anna.add_camera("second");
    house.offer(&mut anna);
    house.settle(&mut [&mut anna, &mut bert]);
    assert_eq!(bert.mid_of(&anna.published["second"]), Some(freed));
    assert!(anna.answered(&mic).contains(&"recvonly".to_owned()));
}

#[test]
fn the_publisher_hears_which_layers_are_wanted() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    publish(&mut house, &mut anna);
    let track = track_ids(&house.commands)[1];
    house.told(&anna);
    house.pass(Duration::from_secs(20));
    house.told(&anna);
    let wanted = |house: &mut House, highest| {
        house.event(Event::EncodingsWanted { track, highest });
    };
    wanted(&mut house, Some(0));
    assert!(house.told(&anna).is_empty());
    house.pass(Duration::from_secs(6));
    let enabled = |house: &mut House, anna: &Client| -> Vec<bool> {
        let told = house.told(anna);
        let found = told.iter().find_map(|message| match message {
            Told::SubscribedQualityUpdate(update) => Some(update.clone()),
            _ => None,
        });
        let codecs = found.map(|update| update.subscribed_codecs).unwrap_or_default();
        let list = codecs.into_iter().flat_map(|codec| codec.qualities);
        list.map(|quality| quality.enabled).collect()
    };
    assert_eq!(enabled(&mut house, &anna), [true, false, false]);
    wanted(&mut house, Some(2));
    assert_eq!(enabled(&mut house, &anna), [true, true, true]);
    wanted(&mut house, None);
    house.pass(Duration::from_secs(6));
    assert_eq!(enabled(&mut house, &anna), [false, false, false]);
}

#[test]
fn a_track_that_only_the_client_knows_makes_it_begin_anew() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    publish(&mut house, &mut anna);
    house.told(&anna);
    let state = |sid: &str| {
        Asked::SyncState(SyncState {
            publish_tracks: vec![TrackPublishedResponse {
                cid: "cid-mic".into(),
                track: Some(livekit_protocol::TrackInfo { sid: sid.into(), ..Default::default() }),
            }],
            ..Default::default()
        })
    };
    let sid = anna.published["cid-mic"].clone();
    house.ask(&anna, state(&sid));
    assert!(house.told(&anna).is_empty());
    house.ask(&anna, state("TR_lost"));
    assert!(matches!(house.told(&anna)[..], [Told::Leave(_)]));
}

#[test]
fn a_video_of_an_unknown_codec_stays_silent_and_ends_nothing() {
    let mut house = House::new();
    let mut anna = house.arrive("anna");
    house.take_commands();
    house.ask(&anna, Asked::AddTrack(camera("cid-cam")));
    let mid = anna.add_camera("cid-cam");
    anna.offer_only(&mid, 98);
    house.offer(&mut anna);
    let lines = anna.answered(&mid);
    assert!(["inactive", "rtpmap:98 VP9/90000"].iter().all(|line| lines.contains(&(*line).to_owned())), "{lines:?}");
    let (_, answer, _) = anna.answers.last().unwrap();
    assert!(answer.medias.iter().all(|media| media.port != 0), "the client would take it for stopped");
    assert_eq!(track_ids(&house.take_commands()), []);
    // The call goes on.
    house.ask(&anna, Asked::AddTrack(microphone("cid-mic")));
    anna.add_microphone("cid-mic");
    house.offer(&mut anna);
    assert_eq!(track_ids(&house.take_commands()).len(), 1);
}
