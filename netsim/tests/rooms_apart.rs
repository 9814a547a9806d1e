//! Two rooms on one server, with the same SSRCs in both: nothing crosses. (Every payload names its room and track, and
//! every simulated decoder refuses another's.)

use std::time::Duration;

use netsim::meeting::{Access, Meeting, Member};
use sfu::TrackId;

fn run(seed: u64) -> u64 {
    let mut meeting = Meeting::new(seed);
    let mut rooms: Vec<[Member; 2]> = Vec::new();
    for room in 1..=2u8 {
        let mut member =
            |number: u8| meeting.join(room.into(), "member", Access::good([198, 51, 100, 20 * room + number]));
        rooms.push([member(1), member(2)]);
    }
    meeting.connect(&rooms.concat());
    let cameras: Vec<TrackId> = rooms.iter().map(|[publisher, _]| meeting.publish_camera(*publisher)).collect();
    // The second room's publisher takes the first one's SSRCs.
    let ssrcs: Vec<_> = meeting.caller(rooms[0][0]).sent.iter().map(|sent| (sent.spec.ssrc, sent.spec.rtx)).collect();
    for (sent, (ssrc, rtx)) in meeting.caller(rooms[1][0]).sent.iter_mut().zip(ssrcs) {
        (sent.spec.ssrc, sent.spec.rtx) = (ssrc, rtx);
    }
    for (&[_, viewer], &camera) in rooms.iter().zip(&cameras) {
        meeting.subscribe(viewer, camera);
    }
    meeting.run_for(Duration::from_secs(4));
    for (&[publisher, viewer], &camera) in rooms.iter().zip(&cameras) {
        assert!(meeting.shown(viewer, camera) >= 100);
        assert_eq!(meeting.reception(viewer, camera).reception.missed, 0);
        assert_eq!(meeting.caller(viewer).counters.unknown, 0);
        assert!(meeting.caller(publisher).received.is_empty());
    }
    // A keyframe asked for in one room is not asked of the other.
    let asked = |meeting: &mut Meeting, room: usize| meeting.caller(rooms[room][0]).counters.keyframes_asked;
    let before = [asked(&mut meeting, 0), asked(&mut meeting, 1)];
    meeting.set_wish(rooms[0][1], cameras[0], sfu::LayerWish { spatial_max: 0, ..sfu::LayerWish::EVERYTHING });
    meeting.run_for(Duration::from_secs(1));
    assert!(asked(&mut meeting, 0) > before[0]);
    assert_eq!(asked(&mut meeting, 1), before[1]);
    meeting.world.digest()
}

#[test]
fn nothing_crosses_from_one_room_to_another() {
    assert_eq!(run(1), run(1));
}
