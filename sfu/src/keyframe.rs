//! Asks a publisher for keyframes (PLI, RFC 4585 §6.3.1), not too often, until one comes.
//!
//! Over an uplink that loses packets a keyframe costs more than it repairs: it is several times as large as a frame, and
//! as likely to lose a part. So there the requests back off while they bring nothing, or nothing that lasts.

use std::time::{Duration, Instant};

/// Between two requests for the lowest encoding, and for the ones above: their keyframes are larger.
const INTERVAL_LOWEST: Duration = Duration::from_millis(500);
const INTERVAL_HIGHER: Duration = Duration::from_secs(1);
/// A picture that lasts for so long after its keyframe was worth it.
const WORTH: Duration = Duration::from_secs(5);
/// A loss from which, and below which, an uplink counts as poor and as good.
const POOR: f64 = 0.05;
const GOOD: f64 = 0.02;
/// The longest that a request waits after one that was not answered, and after one that brought a picture for a moment.
const PAUSE_MAX: Duration = Duration::from_secs(8);
const PAUSE_SPOILT_MAX: Duration = Duration::from_secs(1);
const VAIN_MAX: u32 = 7;

/// The requests for one encoding.
#[derive(Clone, Debug)]
pub struct KeyframeRequests {
    interval: Duration,
    wanted_since: Option<Instant>,
    /// It is wanted because the picture that began with the last one did not last.
    is_spoilt: bool,
    /// When a request is due that repair may yet make needless.
    put_off: Option<Instant>,
    requested: Option<Instant>,
    /// When a keyframe came after the last request.
    answered: Option<Instant>,
    /// Requests in a row that brought nothing that lasted.
    vain: u32,
    /// After the last request.
    pause: Duration,
    is_poor: bool,
}

impl KeyframeRequests {
    /// `encoding` is the index in its track, lowest first.
    pub fn new(encoding: u8) -> KeyframeRequests {
        let interval = if encoding == 0 { INTERVAL_LOWEST } else { INTERVAL_HIGHER };
        KeyframeRequests {
            interval,
            wanted_since: None,
            is_spoilt: false,
            put_off: None,
            requested: None,
            answered: None,
            vain: 0,
            pause: interval,
            is_poor: false,
        }
    }

    /// Somebody needs a keyframe to begin, or to switch.
    pub fn want(&mut self, now: Instant) {
        self.wanted_since.get_or_insert(now);
        self.put_off = None;
        if self.answered.is_some() {
            // It is another one who begins.
            self.pause = self.pause.min(self.interval);
        }
    }

    /// Something was lost for good that the picture needs.
    pub fn want_repair(&mut self, now: Instant) {
        self.wanted_since.get_or_insert(now);
        self.note_spoilt(now);
        self.put_off = None;
    }

    /// A subscriber cannot go on. If that is for a packet that is being asked for, a keyframe is needed only if it has
    /// not come at `repaired`.
    pub fn want_unless_repaired(&mut self, now: Instant, repaired: Option<Instant>) {
        if self.wanted_since.is_none() {
            self.put_off = repaired;
        }
        self.wanted_since.get_or_insert(now);
        self.note_spoilt(now);
    }

    fn note_spoilt(&mut self, now: Instant) {
        self.is_spoilt |= self.answered.is_some_and(|at| now.saturating_duration_since(at) < WORTH);
    }

    /// Nobody needs one any more.
    pub fn forget(&mut self) {
        self.wanted_since = None;
        self.is_spoilt = false;
        self.put_off = None;
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted_since.is_some()
    }

    pub fn wanted_since(&self) -> Option<Instant> {
        self.wanted_since
    }

    /// One came: everybody who waits begins with it.
    pub fn handle_keyframe(&mut self, now: Instant) {
        self.forget();
        self.answered = Some(now);
    }

    /// Nothing is missing any more.
    pub fn handle_repaired(&mut self) {
        if self.put_off.is_some() {
            self.forget();
        }
    }

    /// The part of the publisher's packets that was lost on the way here lately, 0 to 1, repaired or not.
    pub fn handle_loss(&mut self, loss: f64) {
        self.is_poor = loss >= if self.is_poor { GOOD } else { POOR };
        if !self.is_poor {
            self.pause = self.pause.min(2 * self.interval);
        }
    }

    /// The encoding is there again after a silence: what was in vain before says nothing.
    pub fn restart(&mut self) {
        self.vain = 0;
        self.pause = self.interval;
    }

    /// Whether this uplink is poor: then one encoding of a track is asked for at a time.
    pub fn is_poor(&self) -> bool {
        self.is_poor
    }

    /// True when a request is to be sent now; it counts as sent then.
    pub fn poll(&mut self, now: Instant, round_trip: Duration) -> bool {
        if self.next_request(now).is_none_or(|at| at > now) {
            return false;
        }
        let is_vain = self.requested.is_some() && (self.answered.is_none() || self.is_spoilt);
        self.vain = if is_vain { (self.vain + 1).min(VAIN_MAX) } else { 0 };
        let pause_max = if self.answered.is_some() { PAUSE_SPOILT_MAX } else { PAUSE_MAX };
        // An answer takes a round trip and a frame or two, and one that is lost in part another to be repaired. Two may
        // be lost as a whole, or the requests.
        self.pause = if self.is_poor {
            let pause = self.interval.max(round_trip * 5 / 2);
            (pause * (1 << self.vain.saturating_sub(2))).min(pause_max.max(pause))
        } else {
            self.interval.max(round_trip * 3 / 2)
        };
        self.requested = Some(now);
        self.answered = None;
        self.is_spoilt = false;
        self.put_off = None;
        true
    }

    /// When a request is due; `None` while none is wanted.
    pub fn next_request(&self, now: Instant) -> Option<Instant> {
        self.wanted_since?;
        let at = self.requested.map_or(now, |at| at + self.pause);
        Some(self.put_off.map_or(at, |put_off| at.max(put_off)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// When requests were sent within a minute, in ms, if each is answered after `answer` and the picture is lost again
    /// `spoilt` later.
    fn asked(start: Instant, requests: &mut KeyframeRequests, answer: Option<u64>, spoilt: u64) -> Vec<u64> {
        let (mut sent, mut answers, mut spoils) = (Vec::new(), None, None);
        requests.want_repair(start);
        for at in (0..60_000).step_by(10) {
            let now = start + ms(at);
            if requests.poll(now, ROUND_TRIP) {
                sent.push(at);
                answers = answer.map(|after| at + after);
            }
            if answers == Some(at) {
                requests.handle_keyframe(now);
                spoils = Some(at + spoilt);
            }
            if spoils == Some(at) {
                requests.want_repair(now);
            }
        }
        sent
    }

    #[test]
    fn repeated_until_it_comes() {
        let now = start();
        let mut requests = KeyframeRequests::new(0);
        assert!(!requests.poll(now, ROUND_TRIP));
        assert_eq!(requests.next_request(now), None);
        requests.want(now);
        assert!(requests.poll(now, ROUND_TRIP));
        requests.want(now);
        assert!(!requests.poll(now + ms(499), ROUND_TRIP));
        assert_eq!(requests.next_request(now), Some(now + ms(500)));
        assert!(requests.poll(now + ms(500), ROUND_TRIP));
        requests.handle_keyframe(now + ms(600));
        assert!(!requests.poll(now + ms(5000), ROUND_TRIP));
        // Wanted again at once: still not more often.
        requests.want(now);
        assert!(requests.poll(now + ms(5000), ROUND_TRIP));
        requests.forget();
        requests.want(now);
        assert!(!requests.poll(now + ms(5499), ROUND_TRIP));
        let mut higher = KeyframeRequests::new(1);
        higher.want(now);
        assert!(higher.poll(now, ROUND_TRIP) && !higher.poll(now + ms(999), ROUND_TRIP));
        assert!(higher.poll(now + ms(1000), ROUND_TRIP));
        higher.want(now);
        assert!(higher.poll(now + ms(5000), ms(2000)));
        assert_eq!(higher.next_request(now), Some(now + ms(8000)), "an answer takes that long");
    }

    #[test]
    fn a_good_uplink_is_asked_as_often_as_before() {
        assert_eq!(asked(start(), &mut KeyframeRequests::new(0), None, 0).len(), 120);
    }

    #[test]
    fn a_poor_uplink_is_asked_more_rarely_while_that_is_in_vain() {
        let mut requests = KeyframeRequests::new(0);
        requests.handle_loss(0.1);
        let sent = asked(start(), &mut requests, None, 0);
        assert_eq!(sent[..8], [0, 500, 1000, 1500, 2500, 4500, 8500, 16_500]);
        assert_eq!(sent.len(), 13);
        // Keyframes come, and what follows them is lost after a second each time.
        let mut requests = KeyframeRequests::new(0);
        requests.handle_loss(0.1);
        let spoilt = asked(start(), &mut requests, Some(300), 1000);
        assert!((44..=47).contains(&spoilt.len()), "{spoilt:?}");
        // They last.
        let mut requests = KeyframeRequests::new(0);
        requests.handle_loss(0.1);
        let lasting = asked(start(), &mut requests, Some(300), 6_000);
        assert!(lasting.windows(2).all(|pair| pair[1] - pair[0] <= 6_310), "{lasting:?}");
    }

    #[test]
    fn a_new_viewer_of_a_poor_publisher_waits_no_longer_than_elsewhere() {
        let mut requests = KeyframeRequests::new(0);
        requests.handle_loss(0.1);
        let start = start();
        asked(start, &mut requests, Some(300), 1000);
        let now = start + ms(70_000);
        requests.want_repair(now);
        requests.poll(now, ROUND_TRIP);
        requests.handle_keyframe(now + ms(100));
        requests.want(now);
        assert!(requests.poll(now + ms(500), ROUND_TRIP));
    }

    #[test]
    fn a_link_that_is_good_again_or_there_again_is_asked_soon() {
        for restart in [false, true] {
            let mut requests = KeyframeRequests::new(0);
            requests.handle_loss(0.5);
            let start = start();
            let sent = asked(start, &mut requests, None, 0);
            let last = start + ms(*sent.last().unwrap());
            assert_eq!(requests.next_request(last), Some(last + PAUSE_MAX));
            if restart {
                requests.restart();
            } else {
                requests.handle_loss(0.03);
                assert!(requests.is_poor(), "not yet");
                requests.handle_loss(0.0);
            }
            assert!(requests.next_request(last) <= Some(last + ms(1000)));
        }
    }

    #[test]
    fn repair_has_its_chance_first() {
        let now = start();
        let mut requests = KeyframeRequests::new(0);
        requests.want_unless_repaired(now, Some(now + ms(250)));
        assert!(!requests.poll(now + ms(249), ROUND_TRIP));
        requests.handle_repaired();
        assert!(!requests.is_wanted());
        requests.want_unless_repaired(now, Some(now + ms(250)));
        requests.want_unless_repaired(now, Some(now + ms(750)));
        assert!(requests.poll(now + ms(250), ROUND_TRIP), "it has not come");
        requests.handle_keyframe(now + ms(300));
        requests.want_unless_repaired(now, None);
        assert!(requests.poll(now + ms(900), ROUND_TRIP), "nothing is missing here");
        requests.handle_keyframe(now + ms(1000));
        requests.want_unless_repaired(now, Some(now + ms(1250)));
        requests.want(now);
        requests.handle_repaired();
        assert!(requests.is_wanted(), "somebody else begins");
    }
}
