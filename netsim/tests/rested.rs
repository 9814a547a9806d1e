//! What no link carries is not sent in the first place, and comes back when one does.

use std::time::Duration;

use netsim::link::Settings;
use netsim::meeting::{Access, Meeting, Member};
use sfu::TrackId;

const S: Duration = Duration::from_secs(1);

fn line(rate_bps: u64) -> Settings {
    Settings {
        rate_bps: Some(rate_bps),
        queue: Duration::from_millis(300),
        delay: Duration::from_millis(50),
        ..Settings::default()
    }
}

/// A call in which publishers do as they are told.
struct Call {
    meeting: Meeting,
    anna: Member,
    viewers: Vec<Member>,
    camera: TrackId,
    microphone: TrackId,
}

impl Call {
    /// `layers` as in [`Meeting::publish`].
    fn begin(seed: u64, layers: &[(&str, u32, (u16, u16))], viewers: &[(&'static str, u64)]) -> Call {
        let mut meeting = Meeting::new(seed);
        meeting.first_sequence = 1;
        let anna = meeting.join(1, "anna", Access::good([198, 51, 100, 21]));
        let mut members = Vec::new();
        for (address, &(name, rate_bps)) in (31..).zip(viewers) {
            let line = line(rate_bps);
            let access = Access { up: line, down: line, ..Access::good([198, 51, 100, address]) };
            members.push(meeting.join(1, name, access));
        }
        meeting.connect(&[&members[..], &[anna]].concat());
        // She obeys REMB as browsers do.
        let now = meeting.world.now().instant;
        meeting.caller(anna).adapt(now);
        let camera = meeting.publish(anna, sfu::Codec::Vp8, layers);
        let microphone = meeting.publish_microphone(anna);
        meeting.run_for(Duration::from_millis(500));
        for &member in &members {
            meeting.subscribe(member, camera);
            meeting.subscribe(member, microphone);
        }
        Call { meeting, anna, viewers: members, camera, microphone }
    }

    fn run(&mut self, duration: Duration) {
        for _ in 0..duration.as_millis() / 100 {
            self.meeting.run_for(S / 10);
            self.meeting.follow_wishes();
        }
    }

    /// What the publisher sends, in bit/s with all headers.
    fn uplink(&mut self, duration: Duration) -> u64 {
        let host = self.anna.host;
        let before = self.meeting.world.link_counters(host).0.bytes_in;
        self.run(duration);
        (self.meeting.world.link_counters(host).0.bytes_in - before) * 8 / duration.as_secs()
    }

    fn set_line(&mut self, viewer: usize, rate_bps: u64) {
        let line = line(rate_bps);
        self.meeting.world.set_links(self.viewers[viewer].host, line, line);
    }

    /// How long it takes until the viewer is shown the encoding.
    fn until_shown(&mut self, viewer: usize, encoding: u8) -> Duration {
        let began = self.meeting.world.elapsed();
        loop {
            self.run(S / 10);
            let waited = self.meeting.world.elapsed() - began;
            let (member, camera) = (self.viewers[viewer], self.camera);
            let shown = self.meeting.reception(member, camera).shown.last().copied();
            if shown.is_some_and(|shown| shown.encoding == encoding) {
                return waited;
            }
            assert!(waited < 60 * S, "encoding {encoding} has not come back: {shown:?}");
        }
    }

    /// Frames a second that a viewer is shown.
    fn frames(&mut self, viewer: usize, duration: Duration) -> f64 {
        let (member, camera) = (self.viewers[viewer], self.camera);
        let before = self.meeting.shown(member, camera);
        self.run(duration);
        (self.meeting.shown(member, camera) - before) as f64 / duration.as_secs_f64()
    }

    /// How often the publisher was told to send more, and less.
    fn changes(&self) -> usize {
        self.meeting.events.iter().filter(|(_, event)| matches!(event, sfu::Event::EncodingsWanted { .. })).count()
    }
}

const CAMERA: [(&str, u32, (u16, u16)); 3] =
    [("q", 150_000, (320, 180)), ("h", 450_000, (640, 360)), ("f", 1_700_000, (1280, 720))];

fn all_poor(seed: u64) -> u64 {
    let mut call = Call::begin(seed, &CAMERA, &[("bert", 5_000_000), ("carl", 5_000_000), ("dora", 5_000_000)]);
    call.run(10 * S);
    let whole = call.uplink(5 * S);
    assert!(whole > 2_300_000, "{whole}");
    for viewer in 0..3 {
        call.set_line(viewer, 250_000);
    }
    call.run(15 * S);
    let rested = call.uplink(20 * S);
    assert!(rested < 350_000, "the lowest encoding and the voice: {rested}");
    for viewer in 0..3 {
        let frames = call.frames(viewer, 5 * S);
        assert!(frames >= 7.0, "{frames}");
    }
    let before = call.changes();
    call.set_line(1, 5_000_000);
    let waited = call.until_shown(1, 2);
    assert!(waited < 5 * S, "the top layer is back after {waited:?}");
    call.run(20 * S);
    assert!(call.changes() - before <= 2, "{} changes", call.changes() - before);
    call.meeting.world.digest()
}

#[test]
fn layers_that_no_link_reaches_rest_until_one_does() {
    assert_eq!(all_poor(1), all_poor(1));
    all_poor(2);
}

#[test]
fn one_good_link_keeps_all_layers() {
    let mut call = Call::begin(3, &CAMERA, &[("bert", 250_000), ("carl", 5_000_000)]);
    call.run(30 * S);
    assert!(call.uplink(5 * S) > 2_300_000);
    // It leaves, and what is left reaches no further than the lowest.
    let (carl, camera) = (call.viewers[1], call.camera);
    call.meeting.unsubscribe(carl, camera);
    call.run(6 * S);
    let rested = call.uplink(5 * S);
    assert!(rested < 350_000, "{rested}");
    // A new viewer is given the benefit of the doubt.
    call.meeting.subscribe(carl, camera);
    let waited = call.until_shown(1, 2);
    assert!(waited < 5 * S, "{waited:?}");
}

#[test]
fn a_single_encoding_is_capped_to_what_its_viewers_can_take() {
    // As small as it is, since the simulated encoder does not make less than 600 kbit/s of a large picture.
    let mut call = Call::begin(4, &[("f", 1_700_000, (320, 180))], &[("bert", 400_000), ("carl", 300_000)]);
    call.run(20 * S);
    let capped = call.uplink(20 * S);
    assert!((100_000..550_000).contains(&capped), "{capped}");
    let frames = call.frames(0, 10 * S);
    assert!(frames >= 20.0, "{frames}");
    let (microphone, bert) = (call.microphone, call.viewers[0]);
    let heard = call.meeting.shown(bert, microphone);
    assert!(heard > 2300, "{heard}");
    for second in 0..90 {
        let sent = call.uplink(S);
        assert!(sent < 600_000, "the cap is lifted after {second} s: {sent}");
    }
    call.set_line(0, 5_000_000);
    let began = call.meeting.world.elapsed();
    while call.uplink(S) < 1_600_000 {
        assert!(call.meeting.world.elapsed() - began < 30 * S, "the cap stays");
    }
    let waited = call.meeting.world.elapsed() - began;
    assert!(waited <= 6 * S, "{waited:?}");
    assert!(call.frames(0, 5 * S) >= 28.0);
}
