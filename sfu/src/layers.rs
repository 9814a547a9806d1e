//! Which encodings of a track are being sent, at what bitrate, and which of them a subscriber gets.
//!
//! - [`EncodingActivity`], one per encoding, meters its packets.
//! - [`is_alive`] and [`costs`] read the activity of a track's encodings; [`choose`] picks one by wish alone, and
//!   [`crate::congestion::allocate`] by what fits.

use std::time::{Duration, Instant};

/// An encoding that is silent for this long while others of its track are not is no longer sent;
const SILENCE: Duration = Duration::from_millis(700);
/// or for so many times what lay between its packets lately, at most for the second: a still screen has a frame a second.
const SILENCE_BY_GAP: f32 = 1.5;
const SILENCE_MAX: Duration = Duration::from_millis(2_500);
/// What is left in a bucket's time of the longest gap: half in a second.
const GAP_AGEING: f32 = 0.933;
/// Packets of a stream that goes on are closer together than this.
const FLOWING: Duration = Duration::from_millis(200);
/// What an encoding costs at most is forgotten so slowly while it is sent with less.
const MEMORY: Duration = Duration::from_secs(60);
/// The window of the meter is this many buckets of this length.
const BUCKETS: usize = 10;
const BUCKET: Duration = Duration::from_millis(100);
/// A voice's rate is taken over no less than this.
const VOICE_TELLS: Duration = Duration::from_millis(200);
/// What is left in a bucket's time of what is known of temporal layers: half in about two seconds.
const LAYER_AGEING: f32 = 0.966;

/// Meters the bitrate of one encoding over the last second.
#[derive(Clone, Debug)]
pub struct EncodingActivity {
    buckets: [u32; BUCKETS],
    /// The bucket that is being filled, and when it began.
    at: usize,
    began: Option<Instant>,
    first_packet: Option<Instant>,
    last_packet: Option<Instant>,
    nominal_bps: u32,
    /// Its packets come evenly, so a part of the window tells the rate.
    is_even: bool,
    /// The longest time between two packets lately, aged; in seconds.
    gap_s: f32,
    /// The most that it had when nothing held it back, and when that was.
    usual: Option<(u64, Instant)>,
    /// Octets of the temporal layers 0 and 1 and all above, aged.
    by_layer: [f32; 3],
}

impl EncodingActivity {
    /// `nominal_bps` stands in while the encoding is younger than the window; 0 when unknown.
    pub fn new(nominal_bps: u32) -> EncodingActivity {
        EncodingActivity {
            buckets: [0; BUCKETS],
            at: 0,
            began: None,
            first_packet: None,
            last_packet: None,
            gap_s: 0.0,
            nominal_bps,
            is_even: false,
            usual: None,
            by_layer: [0.0; 3],
        }
    }

    pub fn of_voice() -> EncodingActivity {
        EncodingActivity { is_even: true, ..EncodingActivity::new(0) }
    }

    /// Counts a packet with its octets on the wire.
    pub fn receive(&mut self, now: Instant, octets: usize) {
        if self.is_silent(now) {
            self.first_packet = Some(now);
        }
        self.advance(now);
        if let Some(last) = self.last_packet {
            self.gap_s = self.gap_s.max(now.saturating_duration_since(last).as_secs_f32());
        }
        self.buckets[self.at] = self.buckets[self.at].saturating_add(octets as u32);
        self.last_packet = Some(now);
    }

    /// As [`EncodingActivity::receive`], with the packet's temporal layer where it has one.
    pub fn receive_layer(&mut self, now: Instant, octets: usize, layer: Option<u8>) {
        self.receive(now, octets);
        if let Some(layer) = layer {
            self.by_layer[usize::from(layer.min(2))] += octets as f32;
        }
    }

    /// The part of the octets that the temporal layers up to each one have; `None` while there are no layers, or nobody
    /// knows yet.
    pub fn shares(&self) -> Option<[f64; 3]> {
        let [base, middle, upper] = self.by_layer.map(f64::from);
        let all = base + middle + upper;
        (middle + upper > 0.0).then(|| [base / all, (base + middle) / all, 1.0])
    }

    /// No packet in the time of the window.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.last_packet.is_none_or(|last| now.saturating_duration_since(last) > BUCKET * BUCKETS as u32)
    }

    pub fn last_packet(&self) -> Option<Instant> {
        self.last_packet
    }

    /// Forgets everything: a muted track's encodings are not alive.
    pub fn clear(&mut self) {
        *self = EncodingActivity { is_even: self.is_even, ..EncodingActivity::new(self.nominal_bps) };
    }

    /// Bit/s over the last second. In its first second a voice's by what has come, another encoding's nominal bitrate, if
    /// that is higher.
    pub fn bitrate_bps(&mut self, now: Instant) -> u64 {
        self.advance(now);
        let octets: u64 = self.buckets.iter().copied().map(u64::from).sum();
        match self.first_packet.filter(|_| self.is_young(now)) {
            Some(first) if self.is_even => {
                let age = now.saturating_duration_since(first).max(VOICE_TELLS);
                (octets as f64 * 8.0 / age.as_secs_f64()) as u64
            }
            Some(_) => (octets * 8).max(u64::from(self.nominal_bps)),
            None => octets * 8,
        }
    }

    /// It has had a packet lately. Else it may be ending, and its meter runs down.
    pub fn is_flowing(&self, now: Instant) -> bool {
        self.last_packet.is_some_and(|last| now.saturating_duration_since(last) <= FLOWING)
    }

    /// It began less than the window ago.
    fn is_young(&self, now: Instant) -> bool {
        self.first_packet.is_some_and(|first| now.saturating_duration_since(first) < BUCKET * BUCKETS as u32)
    }

    /// How long it may be silent while others are not.
    fn patience(&self) -> Duration {
        let by_gap = Duration::from_secs_f32(self.gap_s.min(SILENCE_MAX.as_secs_f32()) * SILENCE_BY_GAP);
        by_gap.clamp(SILENCE, SILENCE_MAX)
    }

    /// Takes note that `bps` were sent lately, and that nothing but the publisher itself held them back.
    pub fn note_usual(&mut self, now: Instant, bps: u64) {
        if self.is_flowing(now) && !self.is_young(now) {
            // What begins, or comes back, is sent at less than it will be.
            self.usual = Some((bps.max(self.usual_bps(now)), now));
        }
    }

    /// Something else holds it back: what it would cost cannot be seen, and is not forgotten meanwhile.
    pub fn keep_usual(&mut self, now: Instant) {
        if let Some((_, at)) = &mut self.usual {
            *at = now;
        }
    }

    /// What it costs when it is sent, as far as that is known; 0 when it is not.
    pub fn usual_bps(&self, now: Instant) -> u64 {
        let Some((bps, at)) = self.usual else { return u64::from(self.nominal_bps) };
        let flowed = self.last_packet.map_or(at, |last| last.min(now)).saturating_duration_since(at);
        (bps as f64 * (-flowed.as_secs_f64() / MEMORY.as_secs_f64()).exp()) as u64
    }

    fn advance(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let passed = (now.saturating_duration_since(began).as_millis() / BUCKET.as_millis()) as usize;
        if passed == 0 {
            return;
        }
        for _ in 0..passed.min(BUCKETS) {
            self.at = (self.at + 1) % BUCKETS;
            self.buckets[self.at] = 0;
            self.by_layer.iter_mut().for_each(|octets| *octets *= LAYER_AGEING);
            self.gap_s *= GAP_AGEING;
        }
        self.began = Some(began + BUCKET * passed.min(u32::MAX as usize) as u32);
    }
}

/// Whether an encoding of a track is being sent: it had a packet, and is not silent while the others go on. A track
/// that is silent as a whole (a still screen) changes nothing.
pub fn is_alive(encodings: &[EncodingActivity], index: usize) -> bool {
    let newest = encodings.iter().filter_map(|encoding| encoding.last_packet).max();
    let Some(encoding) = encodings.get(index) else { return false };
    let silence = newest.zip(encoding.last_packet).map(|(newest, last)| newest.saturating_duration_since(last));
    silence.is_some_and(|silence| silence <= encoding.patience())
}

/// What each of a track's encodings costs, for the allocator.
pub fn costs(encodings: &mut [EncodingActivity], now: Instant) -> [Option<u64>; 3] {
    let mut costs = [None; 3];
    for (index, cost) in costs.iter_mut().enumerate() {
        if is_alive(encodings, index) {
            *cost = Some(encodings[index].bitrate_bps(now));
        }
    }
    costs
}

/// [`EncodingActivity::shares`] of each of a track's encodings.
pub fn shares(encodings: &[EncodingActivity]) -> [Option<[f64; 3]>; 3] {
    let mut shares = [None; 3];
    shares.iter_mut().zip(encodings).for_each(|(shares, encoding)| *shares = encoding.shares());
    shares
}

/// The highest encoding up to `wish` that is being sent, or else the lowest that is; the lowest of all when none is, so
/// that its first keyframe is awaited.
pub fn choose(encodings: &[EncodingActivity], wish: u8) -> u8 {
    let mut alive = (0..encodings.len().min(3)).filter(|index| is_alive(encodings, *index));
    let Some(lowest) = alive.next() else {
        return 0;
    };
    alive.take_while(|index| *index <= usize::from(wish)).last().unwrap_or(lowest) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_voice_tells_its_rate_as_it_begins() {
        let mut voice = EncodingActivity::of_voice();
        for packet in 0..200 {
            let now = start() + Duration::from_millis(20 * packet);
            voice.receive(now, 100);
            if packet >= 10 {
                let bps = voice.bitrate_bps(now);
                assert!((36_000..=44_000).contains(&bps), "{bps} at {packet}");
            }
        }
    }

    #[test]
    fn meters_a_second() {
        let now = start();
        let mut encoding = EncodingActivity::new(500_000);
        for index in 0..20 {
            encoding.receive(now + ms(50 * index), 1000);
        }
        assert_eq!(encoding.bitrate_bps(now + ms(950)), 500_000, "young");
        for index in 20..60 {
            encoding.receive(now + ms(50 * index), 1000);
        }
        assert_eq!(encoding.bitrate_bps(now + ms(2950)), 160_000);
        assert_eq!(encoding.bitrate_bps(now + ms(3450)), 80_000);
        assert_eq!(encoding.bitrate_bps(now + ms(9000)), 0);
        assert_eq!(encoding.bitrate_bps(now + Duration::from_secs(1 << 40)), 0);
    }

    #[test]
    fn what_an_encoding_costs_is_remembered() {
        let now = start();
        let mut encoding = EncodingActivity::new(500_000);
        assert_eq!(encoding.usual_bps(now), 500_000);
        let mut at = now;
        let mut send = |encoding: &mut EncodingActivity, octets: usize, seconds: u64| {
            for _ in 0..20 * seconds {
                encoding.receive(at, octets);
                let bps = encoding.bitrate_bps(at);
                encoding.note_usual(at, bps);
                at += ms(50);
            }
            encoding.usual_bps(at)
        };
        assert!((590_000..=600_000).contains(&send(&mut encoding, 3750, 3)));
        // It ends: its meter runs down, and is not believed.
        let (later, bps) = (now + ms(3_500), encoding.bitrate_bps(now + ms(3_500)));
        assert!(bps < 400_000);
        encoding.note_usual(later, bps);
        assert!(encoding.usual_bps(now + Duration::from_secs(500)) >= 590_000);
        // It is held back for long.
        let mut held = encoding.clone();
        for second in 3..500 {
            held.receive(now + Duration::from_secs(second), 625);
            held.keep_usual(now + Duration::from_secs(second));
        }
        assert!(held.usual_bps(now + Duration::from_secs(500)) >= 590_000);
        // It is sent with less for long.
        assert!((130_000..300_000).contains(&send(&mut encoding, 625, 60)));
    }

    #[test]
    fn a_still_screen_is_sent_as_long_as_it_has_a_frame_a_second() {
        let now = start();
        let mut encodings = [EncodingActivity::new(0), EncodingActivity::new(0)];
        let mut at = now;
        for _ in 0..5 {
            at += Duration::from_secs(1);
            for _ in 0..7 {
                encodings[0].receive(at, 1000);
            }
            let is_known = at > now + Duration::from_secs(2);
            assert!(!is_known || is_alive(&encodings, 1), "its packets are still to come");
            for _ in 0..7 {
                encodings[1].receive(at, 1000);
            }
        }
        // It ends, and the other one goes on as a camera does.
        let ended = at;
        while at - ended < Duration::from_secs(2) {
            at += ms(33);
            encodings[0].receive(at, 1000);
        }
        assert!(!is_alive(&encodings, 1));
    }

    #[test]
    fn silence_is_told_by_the_others() {
        let now = start();
        let mut encodings = [EncodingActivity::new(0), EncodingActivity::new(0), EncodingActivity::new(0)];
        assert_eq!(choose(&encodings, 2), 0);
        encodings[0].receive(now, 1000);
        encodings[1].receive(now, 1000);
        assert!(is_alive(&encodings, 0) && is_alive(&encodings, 1) && !is_alive(&encodings, 2));
        assert_eq!(choose(&encodings, 2), 1);
        assert_eq!(choose(&encodings, u8::MAX), 1);
        assert_eq!(choose(&encodings, 0), 0);
        encodings[0].receive(now + ms(700), 1000);
        assert_eq!(choose(&encodings, 2), 1);
        encodings[0].receive(now + ms(701), 1000);
        assert_eq!(choose(&encodings, 2), 0);
        assert_eq!(costs(&mut encodings, now + ms(701)), [Some(24_000), None, None]);
        // The low one ends (dynacast) and the high one alone goes on.
        encodings[2].receive(now + ms(2000), 1000);
        assert_eq!(choose(&encodings, 0), 2);
        assert!(!is_alive(&encodings, 7));
        encodings[2].clear();
        assert_eq!(choose(&encodings, 2), 0);
    }
}
