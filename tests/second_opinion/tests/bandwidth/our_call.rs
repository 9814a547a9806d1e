//! A video over a link that our own estimator, pacer and probes decide about.

use std::time::{Duration, Instant};

use sfu::congestion::{FeedbackGenerator, Pacer, Priority, SendSide};
use sfu::rtcp::{Rtcp, Writer, packets};

use crate::course::{Course, Estimates, IP_AND_UDP, Path};

const FRAME: Duration = Duration::from_nanos(33_333_333);
/// A packet of video on the wire, and one of padding.
const PACKET: usize = 1_214;
const PADDING: usize = 310;
const LOOK: Duration = Duration::from_millis(100);

/// The number of a packet that goes forth, or a feedback that comes back.
#[derive(Clone, Debug)]
enum Packet {
    Media(u16),
    Feedback(Vec<u8>),
}

pub fn run(course: &Course, start: Instant, wanted_bps: f64) -> Estimates {
    let mut path: Path<Packet> = Path::new(course);
    let mut send_side = SendSide::default();
    let mut pacer: Pacer<usize> = Pacer::default();
    let mut receiver = FeedbackGenerator::default();
    let mut estimates = Estimates::default();
    let (mut now, mut next_look, mut next_frame) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    while now < course.length() {
        let instant = start + now;
        while let Some(packet) = path.poll(now) {
            let Packet::Media(number) = packet else { panic!("{packet:?}") };
            receiver.receive(number, instant);
        }
        if receiver.next_feedback().is_some_and(|at| at <= instant) {
            let mut buffer = [0; 1_200];
            let mut writer = Writer::new(&mut buffer);
            while receiver.write(instant, &mut writer, 1, 2) {}
            let octets = (writer.len() + IP_AND_UDP) as u32;
            path.back.push(now, octets, Packet::Feedback(writer.written().to_vec()));
        }
        while let Some(packet) = path.back.poll(now) {
            let Packet::Feedback(octets) = packet else { panic!("{packet:?}") };
            for packet in packets(&octets) {
                let Rtcp::TransportFeedback(feedback) = packet else { panic!("{packet:?}") };
                send_side.handle_feedback(instant, &feedback);
            }
        }
        if next_look <= now {
            send_side.handle_timeout(instant, wanted_bps);
            estimates.note(now, send_side.target_bps());
            next_look = now + LOOK;
        }
        if next_frame <= now {
            next_frame = now + FRAME;
            let target = send_side.target_bps().min(wanted_bps);
            pacer.set_estimate(target);
            let frame = (target * FRAME.as_secs_f64() / 8.0) as usize;
            let count = frame.div_ceil(PACKET).max(1);
            for _ in 0..count {
                pacer.push(instant, Priority::Stage, frame / count, frame / count);
            }
        }
        let mut leaving = Vec::new();
        while let Some(octets) = pacer.pop(instant) {
            leaving.push(octets);
        }
        if let Some(burst) = send_side.poll_burst(instant) {
            let count = burst.octets.div_ceil(PADDING).max(2);
            for _ in 0..count {
                pacer.spend(instant, burst.octets / count);
                leaving.push(burst.octets / count);
            }
            for octets in leaving.drain(..) {
                path.send(now, octets, Packet::Media(send_side.send(instant, octets)));
            }
            send_side.finish_burst(instant);
        }
        for octets in leaving {
            path.send(now, octets, Packet::Media(send_side.send(instant, octets)));
        }
        let timers = [pacer.next_departure(), send_side.next_burst(), receiver.next_feedback()];
        let timers = timers.into_iter().flatten().map(|at| at.saturating_duration_since(start));
        let next = timers.chain(path.poll_timeout()).chain([next_look, next_frame]).fold(Duration::MAX, Duration::min);
        now = next.max(now + Duration::from_micros(10));
    }
    assert_eq!(path.dropped(), 0);
    estimates
}
