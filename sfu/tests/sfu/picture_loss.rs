//! Who cannot go on asks for a keyframe (RFC 4585 §6.3.1), and when its publisher is asked for one.

use sfu::congestion::FeedbackGenerator;
use sfu::{Codec, Event};

use crate::call::{AUDIO_MID, Call, OPUS, Rtp, VIDEO, VIDEO_MID, VIDEO_RTX, Who, h264};

const SSRC: u32 = 1000;
const RTX_SSRC: u32 = 1001;

/// A call in which anna publishes to bert, who gives transport-wide feedback.
struct Published {
    call: Call,
    anna: Who,
    bert: Who,
    ssrc: u32,
    /// Of anna's next packet.
    sequence: u64,
    frame: u32,
    feedback: FeedbackGenerator,
    /// How many packets bert has reported on.
    reported: usize,
}

impl Published {
    fn new(codec: Codec) -> Published {
        let mut call = Call::new();
        let (anna, bert) = (call.join(), call.join());
        let track = call.publish(anna, codec);
        let (ssrc, _) = call.subscribe(bert, track, true);
        // The first words would go ahead.
        call.run_for_ms(100);
        Published {
            call,
            anna,
            bert,
            ssrc,
            sequence: 100,
            frame: 0,
            feedback: FeedbackGenerator::default(),
            reported: 0,
        }
    }

    fn video<'a>(&self, payload: &'a [u8]) -> Rtp<'a> {
        Rtp {
            ssrc: SSRC,
            payload_type: VIDEO,
            sequence: self.sequence,
            timestamp: self.frame * 3000,
            mid: Some(VIDEO_MID),
            audio_level: None,
            payload,
        }
    }

    /// A frame of two packets, of which the second may be lost.
    fn show(&mut self, is_cut: bool) {
        let payloads = [h264(self.frame == 0, 300), h264(false, 300)];
        for payload in &payloads[..if is_cut { 1 } else { 2 }] {
            let rtp = self.video(payload);
            self.call.send(self.anna, rtp);
            self.sequence += 1;
        }
        self.sequence += u64::from(is_cut);
        self.frame += 1;
        self.call.run_for_ms(33);
    }

    /// Bert's feedback about what has come since the last; of every `lost_of` packets one has not.
    fn report(&mut self, lost_of: Option<u16>) {
        let now = self.call.now().instant;
        for media in &self.call.members[self.bert].media[self.reported..] {
            let number = media.number.expect("a number on every packet");
            if lost_of.is_none_or(|lost_of| number % lost_of != 0) {
                self.feedback.receive(number, now);
            }
        }
        self.reported = self.call.members[self.bert].media.len();
        let feedback = &mut self.feedback;
        self.call.send_control(self.bert, |writer| _ = feedback.write(now, writer, 1, 1));
    }

    /// Bert asks for a keyframe while a packet of anna's is missing here. Returns how often anna is asked for one at once,
    /// and by half a second after the packet was repaired.
    fn ask_while_one_is_missing(&mut self) -> [usize; 2] {
        self.show(true);
        let missing = self.sequence - 1;
        self.show(false);
        self.show(false);
        assert_eq!(self.call.members[self.anna].packets_asked(SSRC), [missing as u16]);
        let before = self.call.members[self.anna].keyframes_asked(SSRC).len();
        let ssrc = self.ssrc;
        self.call.send_control(self.bert, |writer| _ = writer.picture_loss(1, ssrc));
        let at_once = self.call.members[self.anna].keyframes_asked(SSRC).len() - before;
        let repair = [&(missing as u16).to_be_bytes()[..], &h264(false, 300)].concat();
        let rtp = Rtp { ssrc: RTX_SSRC, payload_type: VIDEO_RTX, sequence: 1, ..self.video(&repair) };
        self.call.send(self.anna, rtp);
        for _ in 0..15 {
            self.show(false);
        }
        [at_once, self.call.members[self.anna].keyframes_asked(SSRC).len() - before]
    }
}

#[test]
fn what_the_publishers_link_has_lost_is_repaired_without_a_keyframe() {
    let mut published = Published::new(Codec::H264);
    for _ in 0..60 {
        published.show(false);
        published.report(None);
    }
    assert_eq!(published.ask_while_one_is_missing(), [0, 0]);
}

#[test]
fn what_a_viewers_own_link_has_lost_is_not() {
    let mut published = Published::new(Codec::H264);
    for _ in 0..60 {
        published.show(false);
        published.report(Some(10));
    }
    let bert = published.call.id_of(published.bert);
    let loss = published.call.sfu.link_state(bert).and_then(|link| link.loss).unwrap();
    assert!(loss > 0.01, "{loss}");
    let [at_once, later] = published.ask_while_one_is_missing();
    assert_eq!(at_once, 1, "nothing that comes here mends his picture");
    // Again after half a second, since none has come.
    assert!((1..=2).contains(&later), "{later}");
}

/// Opus goes on with the next packet, whatever was lost.
#[test]
fn nobody_is_asked_for_a_keyframe_of_audio() {
    let mut published = Published::new(Codec::Opus);
    let rtp = Rtp {
        ssrc: SSRC,
        payload_type: OPUS,
        sequence: 0,
        timestamp: 0,
        mid: Some(AUDIO_MID),
        audio_level: Some(20),
        payload: &[1; 80],
    };
    // One is missing until it is given up; then more than can be asked for.
    for sequence in (1..10).chain(11..60).chain(400..450) {
        published.call.send(published.anna, Rtp { sequence, timestamp: sequence as u32 * 960, ..rtp });
        published.call.run_for_ms(20);
    }
    assert!(published.call.members[published.anna].packets_asked(SSRC).iter().all(|&lost| lost == 10));
    let ssrc = published.ssrc;
    published.call.send_control(published.bert, |writer| _ = writer.picture_loss(1, ssrc));
    published.call.run_for_ms(2_000);
    assert_eq!(published.call.members[published.bert].media_of(ssrc).len(), 108);
    assert_eq!(published.call.members[published.anna].keyframes_asked(SSRC), []);
    let measured = published.call.events.iter().filter_map(|event| match event {
        Event::Measured { links } => Some(links),
        _ => None,
    });
    let requested = measured.flatten().map(|(_, link)| link.requested);
    assert!(requested.clone().any(|requested| requested.packets > 0), "the lost one was asked for");
    assert!(requested.clone().all(|requested| requested.keyframes == 0));
}
