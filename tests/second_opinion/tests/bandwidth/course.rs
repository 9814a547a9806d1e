//! What a link does over time, and the stretches of it in which an estimate has come to rest.

use std::ops::Range;
use std::time::Duration;

use netsim::link::{Link, Settings, Step};

/// IPv4 and UDP headers.
pub const IP_AND_UDP: usize = 28;
/// The queue is so long that nothing is ever dropped: a course without loss.
const QUEUE: Duration = Duration::from_secs(30);
const CROSS_OCTETS: u32 = 1_000;

#[derive(Clone, Debug)]
pub struct Course {
    /// From when on (s) so much (kbit/s) passes, IP headers included.
    pub rates: Vec<(f64, u64)>,
    pub one_way: Duration,
    /// Somebody else's packets, at an even rate in kbit/s that nothing changes.
    pub cross: Option<(Range<f64>, f64)>,
    /// Stretches in which the rate has been the same for long, in s.
    pub steady: Vec<Range<f64>>,
}

impl Course {
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.steady.iter().map(|stretch| stretch.end).fold(0.0, f64::max))
    }

    /// What is left beside the cross traffic at a time, in bit/s.
    pub fn capacity_bps(&self, at: f64) -> f64 {
        let rate = self.rates.iter().rev().find(|(from, _)| *from <= at).map_or(0, |(_, kbps)| *kbps);
        let cross = self.cross.as_ref().filter(|(when, _)| when.contains(&at)).map_or(0.0, |(_, kbps)| *kbps);
        (rate as f64 - cross) * 1e3
    }
}

/// Both directions of a course's link. The way back has room for everything.
pub struct Path<T> {
    forward: Link<Option<T>>,
    pub back: Link<T>,
    cross: Option<(Range<f64>, f64)>,
    next_cross: Duration,
}

impl<T: Clone> Path<T> {
    pub fn new(course: &Course) -> Path<T> {
        let step = |(from, kbps): &(f64, u64)| {
            let settings =
                Settings { rate_bps: Some(kbps * 1000), queue: QUEUE, delay: course.one_way, ..Settings::default() };
            Step { at: Duration::from_secs_f64(*from), settings }
        };
        Path {
            forward: Link::new(course.rates.iter().map(step).collect(), 1),
            back: Link::constant(Settings { delay: course.one_way, ..Settings::default() }, 2),
            cross: course.cross.clone(),
            next_cross: course.cross.as_ref().map_or(Duration::MAX, |(when, _)| Duration::from_secs_f64(when.start)),
        }
    }

    pub fn send(&mut self, now: Duration, octets: usize, packet: T) {
        self.forward.push(now, octets as u32, Some(packet));
    }

    /// What has arrived at the far end by now.
    pub fn poll(&mut self, now: Duration) -> Option<T> {
        if let Some((when, kbps)) = &self.cross {
            while self.next_cross <= now {
                self.forward.push(self.next_cross, CROSS_OCTETS, None);
                self.next_cross += Duration::from_secs_f64(f64::from(CROSS_OCTETS) * 8.0 / (kbps * 1e3));
                if self.next_cross.as_secs_f64() >= when.end {
                    self.next_cross = Duration::MAX;
                }
            }
        }
        std::iter::from_fn(|| self.forward.poll(now)).find_map(|packet| packet)
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        let cross = Some(self.next_cross).filter(|at| *at != Duration::MAX);
        [self.forward.poll_timeout(), self.back.poll_timeout(), cross].into_iter().flatten().min()
    }

    /// No course loses anything.
    pub fn dropped(&self) -> u64 {
        self.forward.counters().dropped + self.forward.counters().lost
    }
}

/// Values from a moment on.
#[derive(Clone, Debug, Default)]
pub struct Estimates(pub Vec<(Duration, f64)>);

impl Estimates {
    pub fn note(&mut self, at: Duration, bps: f64) {
        self.0.push((at, bps));
    }

    /// The mean over a stretch of seconds.
    pub fn mean(&self, stretch: &Range<f64>) -> f64 {
        let mut sum = 0.0;
        for (index, (at, bps)) in self.0.iter().enumerate() {
            let until = self.0.get(index + 1).map_or(stretch.end, |(next, _)| next.as_secs_f64());
            sum += bps * (until.min(stretch.end) - at.as_secs_f64().max(stretch.start)).max(0.0);
        }
        sum / (stretch.end - stretch.start)
    }
}
