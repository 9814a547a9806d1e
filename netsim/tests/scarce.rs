//! Too little for all: a link that does not carry every voice, and a server whose uplink does not carry every picture.

use std::time::Duration;

use datapath::Entropy;
use netsim::check::Sequences;
use netsim::link::Settings;
use netsim::meeting::{Access, Meeting, Member};
use sfu::{Codec, Limits, TrackId};

const SPEAKERS: [&str; 6] = ["anna", "bert", "carl", "dora", "emil", "fina"];

/// Frames of each microphone that the listener hears within so many seconds.
fn heard(meeting: &mut Meeting, listener: Member, microphones: &[TrackId], seconds: u64) -> Vec<usize> {
    let count = |meeting: &mut Meeting| -> Vec<usize> {
        microphones.iter().map(|&microphone| meeting.shown(listener, microphone)).collect()
    };
    let before = count(meeting);
    meeting.run_for(Duration::from_secs(seconds));
    count(meeting).iter().zip(before).map(|(after, before)| after - before).collect()
}

/// Six talk at once (324 kbit/s) to somebody behind 200 kbit/s.
fn six_voices(seed: u64) -> u64 {
    let mut meeting = Meeting::new(seed);
    meeting.transport_cc = true;
    meeting.first_sequence = 1;
    let line = Settings { rate_bps: Some(200_000), delay: Duration::from_millis(50), ..Settings::default() };
    let listener = meeting.join(1, "listener", Access { up: line, down: line, ..Access::good([198, 51, 100, 20]) });
    let mut speakers = Vec::new();
    for (address, name) in (21..).zip(SPEAKERS) {
        speakers.push(meeting.join(1, name, Access::good([198, 51, 100, address])));
    }
    meeting.connect(&[&speakers[..], &[listener]].concat());
    let microphones: Vec<TrackId> = speakers.iter().map(|&speaker| meeting.publish_microphone(speaker)).collect();
    // The first is the loudest: -10 dBov, and each next one 4 dB less.
    for (level, &speaker) in (10..).step_by(4).zip(&speakers) {
        meeting.caller(speaker).sent[0].audio_level = level;
    }
    meeting.run_for(Duration::from_secs(1));
    for &microphone in &microphones {
        meeting.subscribe(listener, microphone);
    }
    meeting.run_for(Duration::from_secs(15));
    let loudness = heard(&mut meeting, listener, &microphones, 20);
    assert!(loudness[0] >= 960 && loudness[1] >= 940, "the two loudest, of 1000: {loudness:?}");
    assert!(loudness[5] <= 250, "the last one seldom: {loudness:?}");
    let all: usize = loudness.iter().sum();
    assert!(all >= 2_500, "the link is used: {loudness:?}");

    // The last one raises the voice.
    meeting.caller(speakers[5]).sent[0].audio_level = 2;
    meeting.run_for(Duration::from_secs(3));
    let loudness = heard(&mut meeting, listener, &microphones, 10);
    assert!(loudness[5] >= 480, "now the loudest, of 500: {loudness:?}");
    assert_eq!(meeting.world.check::<Sequences>().holes(), 0, "who is left out leaves no gap");
    meeting.world.digest()
}

#[test]
fn the_loudest_are_heard_when_not_even_audio_fits() {
    assert_eq!(six_voices(1), six_voices(1));
    six_voices(2);
}

#[test]
fn all_are_heard_again_when_there_is_room() {
    let mut meeting = Meeting::new(3);
    meeting.transport_cc = true;
    meeting.first_sequence = 1;
    let line =
        |rate_bps| Settings { rate_bps: Some(rate_bps), delay: Duration::from_millis(50), ..Settings::default() };
    let access = Access { up: line(150_000), down: line(150_000), ..Access::good([198, 51, 100, 20]) };
    let listener = meeting.join(1, "listener", access);
    let anna = meeting.join(1, "anna", Access::good([198, 51, 100, 21]));
    let bert = meeting.join(1, "bert", Access::good([198, 51, 100, 22]));
    let carl = meeting.join(1, "carl", Access::good([198, 51, 100, 23]));
    let dora = meeting.join(1, "dora", Access::good([198, 51, 100, 24]));
    meeting.connect(&[anna, bert, carl, dora, listener]);
    let microphones = [anna, bert, carl, dora].map(|speaker| meeting.publish_microphone(speaker));
    meeting.run_for(Duration::from_secs(1));
    for microphone in microphones {
        meeting.subscribe(listener, microphone);
    }
    meeting.run_for(Duration::from_secs(15));
    let narrow = heard(&mut meeting, listener, &microphones, 10);
    assert!(narrow.iter().filter(|&&frames| frames >= 480).count() <= 3, "{narrow:?}");
    // Audio alone proves no room: the voices come back one by one.
    meeting.world.set_links(listener.host, line(5_000_000), line(5_000_000));
    meeting.run_for(Duration::from_secs(40));
    let wide = heard(&mut meeting, listener, &microphones, 10);
    assert!(wide.iter().all(|&frames| frames >= 490), "{wide:?}");
}

/// Octets on the way to each of them within so many seconds, in bit/s.
fn sent(meeting: &mut Meeting, members: &[Member], seconds: u64) -> Vec<u64> {
    let count = |meeting: &Meeting| -> Vec<u64> {
        members.iter().map(|member| meeting.world.link_counters(member.host).1.bytes_in).collect()
    };
    let before = count(meeting);
    meeting.run_for(Duration::from_secs(seconds));
    count(meeting).iter().zip(before).map(|(after, before)| (after - before) * 8 / seconds).collect()
}

#[test]
fn the_uplink_is_shared_among_rooms_and_subscribers() {
    let limits = Limits { uplink_bps: Some(5_000_000), ..Limits::default() };
    let mut meeting = Meeting::with_limits(4, limits);
    meeting.transport_cc = true;
    meeting.first_sequence = 1;
    let mut addresses = 21..;
    let mut join = |meeting: &mut Meeting, room, name| {
        meeting.join(room, name, Access::good([198, 51, 100, addresses.next().unwrap()]))
    };
    let pair = [join(&mut meeting, 1, "anna"), join(&mut meeting, 1, "bert")];
    let crowd = [("carl", 2), ("dora", 2), ("emil", 2), ("fina", 2), ("gert", 2)]
        .map(|(name, room)| join(&mut meeting, room, name));
    meeting.connect(&[&pair[..], &crowd[..]].concat());
    let mut microphones = Vec::new();
    for members in [&pair[..], &crowd[..]] {
        let (camera, microphone) = (meeting.publish_camera(members[0]), meeting.publish_microphone(members[0]));
        meeting.run_for(Duration::from_millis(500));
        for &member in &members[1..] {
            meeting.subscribe(member, camera);
            meeting.subscribe(member, microphone);
            microphones.push((member, microphone));
        }
    }
    meeting.run_for(Duration::from_secs(20));
    let rates = sent(&mut meeting, &[pair[1], crowd[1], crowd[2], crowd[3], crowd[4]], 10);
    let all: u64 = rates.iter().sum();
    assert!(all <= 5_250_000, "{rates:?}");
    assert!(all >= 3_500_000, "{rates:?}");
    assert!(rates[0] >= 1_500_000, "the pair has as much as the crowd, and needs no more than this: {rates:?}");
    let (least, most) = (rates[1..].iter().min().unwrap(), rates[1..].iter().max().unwrap());
    assert!(*most <= least * 13 / 10, "the crowd shares alike: {rates:?}");
    for (member, microphone) in microphones {
        let frames = heard(&mut meeting, member, &[microphone], 2)[0];
        assert!(frames >= 98, "audio is whole: {frames} of 100");
    }
}

/// The seconds for which each of four small cameras stood after a link of 50 Mbit/s had fallen eight times.
fn stood_after_falls(seed: u16) -> Vec<u64> {
    let mut meeting = Meeting::new(seed.into());
    meeting.transport_cc = true;
    meeting.first_sequence = 1;
    let line = |rate_bps| Settings {
        rate_bps: Some(rate_bps),
        queue: Duration::from_millis(300),
        delay: Duration::from_millis(10),
        ..Settings::default()
    };
    let good = line(50_000_000);
    let viewer = meeting.join(1, "viewer", Access { up: good, down: good, ..Access::good([198, 51, 100, 20]) });
    let others: Vec<Member> =
        (21..).zip(&SPEAKERS[..4]).map(|(at, name)| meeting.join(1, name, Access::good([198, 51, 100, at]))).collect();
    meeting.connect(&[&others[..], &[viewer]].concat());
    let cameras: Vec<TrackId> =
        others.iter().map(|&other| meeting.publish(other, Codec::Vp8, &[("q", 90_000, (160, 120))])).collect();
    meeting.run_for(Duration::from_millis(500));
    cameras.iter().for_each(|&camera| meeting.subscribe(viewer, camera));
    meeting.run_for(Duration::from_secs(3));
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&seed.to_le_bytes());
    let mut chance = Entropy::from_seed(bytes);
    for _ in 0..8 {
        let narrow = line(80_000 + chance.below(400_000));
        meeting.world.set_links(viewer.host, narrow, narrow);
        meeting.run_for(Duration::from_millis(200 + chance.below(1_800)));
        meeting.world.set_links(viewer.host, good, good);
        meeting.run_for(Duration::from_millis(500 + chance.below(5_000)));
    }
    let since = meeting.world.now().instant;
    meeting.run_for(Duration::from_secs(60));
    let mut stood = |camera: &TrackId| {
        let shown = &meeting.reception(viewer, *camera).shown;
        let first =
            shown.iter().find(|shown| shown.at >= since).map_or(since + Duration::from_secs(60), |shown| shown.at);
        (first - since).as_secs()
    };
    cameras.iter().map(&mut stood).collect()
}

/// Nobody speaks, so when the videos are paused nothing is sent, and nothing tells that the queue is gone.
#[test]
fn paused_videos_without_a_voice_come_back() {
    for seed in (0..8).chain([99, 282]) {
        let stood = stood_after_falls(seed);
        assert!(stood.iter().all(|seconds| *seconds <= 15), "{stood:?} s with seed {seed}");
    }
}
