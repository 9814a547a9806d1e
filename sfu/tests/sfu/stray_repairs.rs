//! Retransmissions (RFC 4588) of what a stream has not come to are counted, and those that carry nothing are not: a
//! publisher probes with them.

use datapath::Discard;
use sfu::Codec;

use crate::call::{Rtp, VIDEO_MID, VIDEO_RTX};
use crate::published::{BEFORE, BEFORE_RTX, FIRST, Published, vp8};

/// Sends packets of the repair stream.
struct Repairs {
    published: Published,
    sent: u64,
}

impl Repairs {
    fn new() -> Repairs {
        Repairs { published: Published::new(Codec::Vp8), sent: 0 }
    }

    fn send(&mut self, payload: &[u8]) {
        self.sent += 1;
        let (ssrc, payload_type, mid) = (BEFORE_RTX, VIDEO_RTX, Some(VIDEO_MID));
        let rtp = Rtp { ssrc, payload_type, sequence: self.sent, timestamp: 0, mid, audio_level: None, payload };
        self.published.call.send(self.published.anna, rtp);
    }

    /// RFC 4588 §4: the number of the original comes first. Says whether it was counted as stray.
    fn repair(&mut self, sequence: u64) -> bool {
        let before = self.stray();
        self.send(&[&(sequence as u16).to_be_bytes()[..], &vp8(0, false, false)].concat());
        self.stray() > before
    }

    /// Nothing at all, and a number alone.
    fn probe(&mut self) {
        self.send(&[]);
        self.send(&(FIRST as u16).to_be_bytes());
    }

    fn stray(&self) -> u64 {
        self.published.call.discarded(Discard::StrayRepair)
    }
}

#[test]
fn before_the_first_packet_all_are() {
    let mut repairs = Repairs::new();
    repairs.probe();
    assert_eq!(repairs.stray(), 0);
    assert!(repairs.repair(FIRST));
    assert_eq!(repairs.published.received(), []);
}

#[test]
fn so_are_those_far_from_what_has_come() {
    let mut repairs = Repairs::new();
    repairs.published.show_a_second();
    let next = FIRST + 90;
    repairs.published.show(BEFORE, next, 30, false, &[1]);
    let received = repairs.published.received().len();
    assert!(repairs.repair(FIRST - 129) && repairs.repair(next + 2 + 129));
    assert_eq!(repairs.published.received().len(), received);
    assert!(!repairs.repair(FIRST - 128) && !repairs.repair(next + 1), "they may have been lost");
    assert_eq!(repairs.published.received().len(), received + 1);
    repairs.probe();
    assert_eq!(repairs.stray(), 2);
    // What has come already is another matter.
    assert!(!repairs.repair(next + 1));
    assert_eq!(repairs.published.call.discarded(Discard::Replayed), 1);
}
