//! Somebody leaves in the middle of a frame: nobody else notices.

use std::time::Duration;

use datapath::Discard;
use netsim::check::Sequences;
use netsim::link::Settings;
use netsim::meeting::{Access, MEDIA_PORT, Meeting, Member, SERVER_IP};
use netsim::world::{Check, Passage};
use sfu::{Command, TrackId};

/// Counts what the server sends to one address.
struct SentTo {
    address: [u8; 4],
    datagrams: u64,
}

impl Check for SentTo {
    fn handle_sent(&mut self, passage: &Passage<'_>) {
        let from_server = passage.source == (SERVER_IP, MEDIA_PORT).into();
        if from_server && passage.destination.ip() == std::net::IpAddr::from(self.address) {
            self.datagrams += 1;
        }
    }
    fn handle_delivered(&mut self, _: &Passage<'_>) {}
}

const BERT: [u8; 4] = [198, 51, 100, 22];

struct Call {
    meeting: Meeting,
    anna: Member,
    bert: Member,
    carla: Member,
    camera: TrackId,
}

/// Three in a call; the publisher's uplink is so narrow that the packets of a frame arrive one by one.
fn call(seed: u64) -> Call {
    let mut meeting = Meeting::new(seed);
    let good = Access::good([198, 51, 100, 21]);
    let narrow = Settings { rate_bps: Some(4_000_000), ..good.up };
    let anna = meeting.join(1, "anna", Access { up: narrow, ..good });
    let bert = meeting.join(1, "bert", Access::good(BERT));
    let carla = meeting.join(1, "carla", Access::good([198, 51, 100, 23]));
    meeting.connect(&[anna, bert, carla]);
    let camera = meeting.publish_camera(anna);
    meeting.run_for(Duration::from_millis(500));
    meeting.subscribe(bert, camera);
    meeting.subscribe(carla, camera);
    meeting.run_for(Duration::from_secs(3));
    Call { meeting, anna, bert, carla, camera }
}

impl Call {
    /// Runs until the server has sent a member some packets of a frame and not all.
    fn run_into_a_frame(&mut self, member: Member) {
        let track = self.camera.0;
        self.meeting.world.run_until("a frame half sent", Duration::from_secs(1), |world| {
            world.program::<netsim::caller::Caller>(member.host).reception(track).packets_waiting() >= 2
        });
    }
}

fn subscriber_leaves(seed: u64) -> u64 {
    let mut call = call(seed);
    call.run_into_a_frame(call.bert);
    let (bert, carla, camera) = (call.bert, call.carla, call.camera);
    let meeting = &mut call.meeting;
    meeting.world.add_check(SentTo { address: BERT, datagrams: 0 });
    meeting.command(Command::Leave { participant: bert.id });
    let before = meeting.shown(carla, camera);
    meeting.run_for(Duration::from_secs(3));
    assert_eq!(meeting.world.check::<SentTo>().datagrams, 0, "nothing goes to somebody who left");
    let video = meeting.reception(carla, camera);
    assert!(video.shown.len() >= before + 88, "{} frames in 3 s", video.shown.len() - before);
    assert_eq!((video.reception.missed, video.reception.keyframe_requests), (0, 0));
    assert_eq!(meeting.world.check::<Sequences>().holes(), 0);
    meeting.world.digest()
}

#[test]
fn a_subscriber_leaves_mid_frame() {
    assert_eq!(subscriber_leaves(1), subscriber_leaves(1));
}

#[test]
fn a_publisher_leaves_mid_frame_and_comes_back() {
    let mut call = call(2);
    call.run_into_a_frame(call.carla);
    let (anna, carla) = (call.anna, call.carla);
    let meeting = &mut call.meeting;
    meeting.command(Command::Leave { participant: anna.id });
    meeting.caller(anna).dead = true;
    let before = meeting.shown(carla, call.camera);
    meeting.run_for(Duration::from_secs(2));
    assert!(meeting.shown(carla, call.camera) <= before + 1);
    let again = meeting.join(1, "anna again", Access::good([198, 51, 100, 24]));
    meeting.connect(&[again]);
    let camera = meeting.publish_camera(again);
    meeting.subscribe(carla, camera);
    meeting.run_for(Duration::from_secs(2));
    assert!(meeting.shown(carla, camera) >= 50);
    assert_eq!(meeting.world.check::<Sequences>().holes(), 0);
}

#[test]
fn the_room_is_empty_when_all_have_left() {
    let mut call = call(3);
    for member in [call.bert, call.anna, call.carla] {
        call.meeting.command(Command::Leave { participant: member.id });
        call.meeting.run_for(Duration::from_millis(37));
    }
    let server = call.meeting.server;
    let population = call.meeting.world.program::<netsim::workers::Workers>(server).planes[0].sfu.population();
    assert_eq!(population, sfu::Population::default());
    let sent = call.meeting.world.counters(server).clone();
    call.meeting.run_for(Duration::from_secs(5));
    assert_eq!(call.meeting.world.counters(server).sent, sent.sent, "an empty house is silent");
}

#[test]
fn media_that_is_still_under_way_when_its_track_ends() {
    let mut meeting = Meeting::new(4);
    let good = Access::good([198, 51, 100, 21]);
    let far = Settings { delay: Duration::from_millis(200), ..good.up };
    let anna = meeting.join(1, "anna", Access { up: far, ..good });
    let bert = meeting.join(1, "bert", Access::good(BERT));
    meeting.connect(&[anna, bert]);
    let camera = meeting.publish_camera(anna);
    meeting.subscribe(bert, camera);
    meeting.run_for(Duration::from_secs(1));
    meeting.unpublish(camera);
    let before = meeting.world.counters(meeting.server).discarded(Discard::UnknownSsrc);
    meeting.run_for(Duration::from_secs(1));
    let unknown = meeting.world.counters(meeting.server).discarded(Discard::UnknownSsrc) - before;
    assert!(unknown > 20, "{unknown} packets were on their way");
    let again = meeting.publish_camera(anna);
    meeting.subscribe(bert, again);
    meeting.run_for(Duration::from_secs(2));
    assert!(meeting.shown(bert, again) >= 45);
}
