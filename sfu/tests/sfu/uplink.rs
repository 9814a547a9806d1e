//! The server's own uplink is short, and voices have room in it all the same.

use sfu::{Codec, Event, Limits, TrackId};

use crate::call::{AUDIO_MID, Call, OPUS, Rtp, VIDEO, VIDEO_MID, Who, h264};

/// Five who may speak, one who shows a large picture, and who listens.
struct Room {
    call: Call,
    speakers: Vec<(Who, TrackId)>,
    painter: Who,
    /// Of the painter's next packet, and of everybody's next word.
    sequence: u64,
    word: u64,
}

impl Room {
    /// A picture of 2 Mbit/s, for which the uplink has no room beside the voices.
    fn new() -> Room {
        let mut call = Call::with_limits(Limits { uplink_bps: Some(1_200_000), ..Limits::default() });
        let speakers = (0..5)
            .map(|_| {
                let who = call.join();
                (who, call.publish(who, Codec::Opus))
            })
            .collect();
        let (painter, viewer) = (call.join(), call.join());
        let picture = call.publish(painter, Codec::H264);
        call.subscribe(viewer, picture, false);
        Room { call, speakers, painter, sequence: 0, word: 0 }
    }

    /// So many speak for so long; each takes 66 kbit/s.
    fn speak(&mut self, count: usize, ms: u64) {
        for _ in 0..ms / 20 {
            for &(who, _) in &self.speakers[..count] {
                let rtp = Rtp {
                    ssrc: 1,
                    payload_type: OPUS,
                    sequence: self.word,
                    timestamp: self.word as u32 * 960,
                    mid: Some(AUDIO_MID),
                    audio_level: Some(20),
                    payload: &[1; 100],
                };
                self.call.send(who, rtp);
            }
            self.word += 1;
            for _ in 0..5 {
                let rtp = Rtp {
                    ssrc: 2,
                    payload_type: VIDEO,
                    sequence: self.sequence,
                    timestamp: self.sequence as u32 * 360,
                    mid: Some(VIDEO_MID),
                    audio_level: None,
                    payload: &h264(self.sequence.is_multiple_of(250), 1_000),
                };
                self.call.send(self.painter, rtp);
                self.sequence += 1;
            }
            self.call.run_for_ms(20);
        }
    }

    fn listen(&mut self, who: Who) {
        for (_, track) in self.speakers.clone() {
            self.call.subscribe(who, track, false);
        }
    }

    /// What the listener was last told to have of the uplink, in bit/s.
    fn share(&self, who: Who) -> Option<u64> {
        let id = self.call.id_of(who);
        let measured = self.call.events.iter().rev().find_map(|event| event.link_of(id));
        measured.expect("a measurement each second").uplink_share_bps
    }

    /// How often a voice was left out for the listener.
    fn left_out(&self, who: Who) -> usize {
        let id = self.call.id_of(who);
        let pauses = self.call.events.iter().filter_map(|event| match event {
            Event::SubscriptionPaused { participant, paused: true, .. } => Some(*participant),
            _ => None,
        });
        pauses.filter(|&participant| participant == id).count()
    }
}

#[test]
fn a_voice_more_has_room_to_begin() {
    let mut room = Room::new();
    let listener = room.call.join();
    room.listen(listener);
    room.speak(4, 4_000);
    // Four voices take 262 kbit/s, and may take 30 % more.
    let share = room.share(listener).expect("the uplink is short");
    assert!((310_000..350_000).contains(&share), "{share}");
    room.speak(5, 3_000);
    assert_eq!(room.left_out(listener), 0);
}

#[test]
fn who_has_just_come_hears_everybody() {
    let mut room = Room::new();
    room.speak(5, 3_000);
    let listener = room.call.join();
    // While it has asked for nothing, the uplink is shared among the others.
    room.speak(5, 1_200);
    room.listen(listener);
    room.speak(5, 3_000);
    assert_eq!(room.left_out(listener), 0);
    let heard = room.call.members[listener].media.len();
    assert!((740..=750).contains(&heard), "{heard} words of 750");
}
