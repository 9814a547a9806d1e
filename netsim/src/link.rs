//! One direction of a link: loss, then a serialiser with a drop-tail queue, then the delay.
//!
//! Pure: times are offsets from the moment at which the schedule starts, and the same seed and the same packets give
//! the same fates. The real-time emulator and the virtual world ride on the same code.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use datapath::Entropy;

use crate::loss::{Loss, LossState, unit};

/// What a direction does to packets from some moment on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Serialisation rate in bit/s of IP packets; `None`: no serialiser. At 0 the link is cut: what arrives is
    /// dropped, what stands in the queue waits.
    pub rate_bps: Option<u64>,
    /// Longest time that the drop-tail queue may hold at the present rate: its limit in bytes is rate × time. When the
    /// rate falls, packets already accepted stay.
    pub queue: Duration,
    /// Propagation delay.
    pub delay: Duration,
    /// Standard deviation of the delay: a normal distribution cut at three deviations and at a delay of zero. Packets
    /// keep their order: one that is faster than its forerunner waits for it.
    pub jitter: Duration,
    pub loss: Loss,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Probability that a packet is held back by `reorder_by` while those behind it pass.
    pub reorder: f64,
    pub reorder_by: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            rate_bps: None,
            queue: Duration::from_millis(300),
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: Loss::NONE,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(20),
        }
    }
}

/// Settings from `at` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub at: Duration,
    pub settings: Settings,
}

/// Everything that happened to packets since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    /// Lost at random.
    pub lost: u64,
    /// Dropped because the queue was full, or the link cut.
    pub dropped: u64,
    pub duplicated: u64,
    pub reordered: u64,
}

struct Queued<T> {
    bytes: u32,
    packet: T,
}

/// One direction of a link carrying packets of type `T`.
pub struct Link<T> {
    steps: Vec<Step>,
    current: usize,
    /// The serialiser has done all its work up to here.
    clock: Duration,
    queue: VecDeque<Queued<T>>,
    queued_bytes: u64,
    /// Work left on the queue's head, in 10⁻⁹ bit: what a rate in bit/s does in a nanosecond.
    head_left: u128,
    /// On the way to the far end, by arrival and then by departure.
    flying: BTreeMap<(Duration, u64), Queued<T>>,
    departures: u64,
    /// Nothing that keeps its order may arrive before this.
    latest_arrival: Duration,
    loss: LossState,
    chance: Entropy,
    counters: LinkCounters,
}

const NANO: u128 = 1_000_000_000;

fn work(bytes: u32) -> u128 {
    u128::from(bytes) * 8 * NANO
}

impl<T: Clone> Link<T> {
    /// `steps` are in the order of time and the first is at zero (else [`Settings::default`] holds until the first).
    pub fn new(mut steps: Vec<Step>, seed: u64) -> Link<T> {
        if steps.first().is_none_or(|step| step.at > Duration::ZERO) {
            steps.insert(0, Step { at: Duration::ZERO, settings: Settings::default() });
        }
        assert!(steps.is_sorted_by_key(|step| step.at));
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut entropy = Entropy::from_seed(bytes);
        Link {
            steps,
            current: 0,
            clock: Duration::ZERO,
            queue: VecDeque::new(),
            queued_bytes: 0,
            head_left: 0,
            flying: BTreeMap::new(),
            departures: 0,
            latest_arrival: Duration::ZERO,
            loss: LossState::new(entropy.fork()),
            chance: entropy,
            counters: LinkCounters::default(),
        }
    }

    /// A link whose settings do not change by themselves.
    pub fn constant(settings: Settings, seed: u64) -> Link<T> {
        Link::new(vec![Step { at: Duration::ZERO, settings }], seed)
    }

    /// Replaces the rest of the schedule by `settings`, from `now` on.
    pub fn set(&mut self, now: Duration, settings: Settings) {
        self.advance(now);
        self.steps.truncate(self.current + 1);
        self.steps.push(Step { at: now, settings });
        self.advance(now);
    }

    pub fn settings(&self) -> Settings {
        self.steps[self.current].settings
    }

    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// Bytes that stand in the queue, the packet on the serialiser included whole.
    pub fn standing_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// The time that the standing queue takes at the present rate; zero for a cut link.
    pub fn standing_delay(&self) -> Duration {
        match self.settings().rate_bps {
            None | Some(0) => Duration::ZERO,
            Some(rate) => {
                let nanos = u128::from(self.queued_bytes) * 8 * NANO / u128::from(rate);
                Duration::from_nanos(nanos as u64)
            }
        }
    }

    /// Packets that have neither arrived nor been dropped.
    pub fn in_flight(&self) -> usize {
        self.queue.len() + self.flying.len()
    }

    /// A packet of `bytes` (IP header included) enters the link. `now` never goes back.
    pub fn push(&mut self, now: Duration, bytes: u32, packet: T) {
        self.advance(now);
        let settings = self.settings();
        self.counters.packets_in += 1;
        self.counters.bytes_in += u64::from(bytes);
        if self.loss.loses(settings.loss) {
            self.counters.lost += 1;
            return;
        }
        match settings.rate_bps {
            Some(rate) => {
                let limit = u128::from(rate) * settings.queue.as_nanos() / (8 * NANO);
                let full = u128::from(self.queued_bytes) + u128::from(bytes) > limit;
                // An idle serialiser takes a packet longer than its queue: else a slow link would pass nothing.
                if rate == 0 || (full && !self.queue.is_empty()) {
                    self.counters.dropped += 1;
                    return;
                }
                if self.queue.is_empty() {
                    self.head_left = work(bytes);
                }
                self.queue.push_back(Queued { bytes, packet });
                self.queued_bytes += u64::from(bytes);
            }
            None => self.depart(Queued { bytes, packet }),
        }
    }

    /// The next packet that has arrived by `now`.
    pub fn poll(&mut self, now: Duration) -> Option<T> {
        self.advance(now);
        let entry = self.flying.first_entry()?;
        if entry.key().0 > now {
            return None;
        }
        let arrived = entry.remove();
        self.counters.packets_out += 1;
        self.counters.bytes_out += u64::from(arrived.bytes);
        Some(arrived.packet)
    }

    /// When [`Link::poll`] is worth calling next.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
        let departure = self.head_finished().or((!self.queue.is_empty()).then_some(Duration::MAX));
        let change = self.steps.get(self.current + 1).map(|step| step.at);
        let departure = match (departure, change) {
            (Some(departure), Some(change)) => Some(departure.min(change)),
            (Some(Duration::MAX), None) => None,
            (departure, _) => departure,
        };
        match (arrival, departure) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// When the queue's head leaves the serialiser, if the settings stay.
    fn head_finished(&self) -> Option<Duration> {
        if self.queue.is_empty() {
            return None;
        }
        match self.settings().rate_bps {
            None => Some(self.clock),
            Some(0) => None,
            Some(rate) => {
                let nanos = self.head_left.div_ceil(u128::from(rate));
                Some(self.clock + Duration::from_nanos(nanos as u64))
            }
        }
    }

    /// Lets the serialiser work up to `to`, through the changes of the schedule on the way.
    fn advance(&mut self, to: Duration) {
        loop {
            let change = self.steps.get(self.current + 1).map(|step| step.at);
            let end = change.map_or(to, |change| change.min(to)).max(self.clock);
            match self.head_finished() {
                Some(finished) if finished <= end => {
                    self.clock = finished;
                    let head = self.queue.pop_front().expect("its end was computed");
                    self.queued_bytes -= u64::from(head.bytes);
                    self.head_left = self.queue.front().map_or(0, |next| work(next.bytes));
                    self.depart(head);
                }
                _ => {
                    let rate = u128::from(self.settings().rate_bps.unwrap_or(0));
                    let done = rate * (end - self.clock).as_nanos();
                    self.head_left = self.head_left.saturating_sub(done);
                    self.clock = end;
                    if change.is_none_or(|change| change > to) {
                        return;
                    }
                    self.current += 1;
                }
            }
        }
    }

    /// A packet leaves the serialiser at `self.clock` and starts on its way.
    fn depart(&mut self, packet: Queued<T>) {
        let settings = self.settings();
        // Drawn whatever the settings, for the same reason as in `LossState::loses`.
        let duplicate = unit(&mut self.chance) < settings.duplicate;
        let reorder = unit(&mut self.chance) < settings.reorder;
        let deviation = truncated_normal(&mut self.chance);
        let jittered = settings.delay.as_secs_f64() + settings.jitter.as_secs_f64() * deviation;
        let mut arrival = self.clock + Duration::from_secs_f64(jittered.max(0.0));
        if settings.jitter.is_zero() {
            arrival = self.clock + settings.delay;
        }
        arrival = arrival.max(self.latest_arrival);
        if reorder {
            self.counters.reordered += 1;
            arrival += settings.reorder_by;
        } else {
            self.latest_arrival = arrival;
        }
        if duplicate {
            self.counters.duplicated += 1;
            let copy = Queued { bytes: packet.bytes, packet: packet.packet.clone() };
            self.flying.insert((arrival, self.departures), copy);
            self.departures += 1;
        }
        self.flying.insert((arrival, self.departures), packet);
        self.departures += 1;
    }
}

/// A normally distributed number (Box-Muller), cut at three deviations by drawing again.
fn truncated_normal(entropy: &mut Entropy) -> f64 {
    loop {
        let radius = (-2.0 * (1.0 - unit(entropy)).ln()).sqrt();
        let value = radius * (std::f64::consts::TAU * unit(entropy)).cos();
        if value.abs() <= 3.0 {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Everything that arrives, and when.
    fn arrivals(link: &mut Link<u32>) -> Vec<(Duration, u32)> {
        let mut arrived = Vec::new();
        while let Some(at) = link.poll_timeout() {
            while let Some(packet) = link.poll(at) {
                arrived.push((at, packet));
            }
        }
        arrived
    }

    fn kbps(rate: u64) -> Settings {
        Settings { rate_bps: Some(rate * 1000), queue: ms(500), delay: ms(150), ..Settings::default() }
    }

    #[test]
    fn a_packet_takes_its_serialisation_time_and_the_delay() {
        // 1000 bytes at 200 kbit/s take 40 ms.
        let mut link = Link::constant(kbps(200), 1);
        link.push(ms(5), 1000, 1);
        link.push(ms(5), 1000, 2);
        assert_eq!(arrivals(&mut link), [(ms(195), 1), (ms(235), 2)]);
    }

    #[test]
    fn the_tail_is_dropped_at_rate_times_queue_time() {
        // 200 kbit/s × 500 ms = 12,500 bytes: twelve packets of 1000.
        let mut link = Link::constant(kbps(200), 1);
        for packet in 0..20 {
            link.push(ms(0), 1000, packet);
        }
        assert_eq!(link.standing_bytes(), 12_000);
        assert_eq!(link.standing_delay(), ms(480));
        assert_eq!(link.counters().dropped, 8);
        let arrived = arrivals(&mut link);
        assert_eq!(arrived.len(), 12);
        assert_eq!(arrived[11], (ms(480 + 150), 11));
    }

    #[test]
    fn a_packet_longer_than_the_queue_passes_an_idle_link() {
        let mut link = Link::constant(Settings { queue: ms(1), ..kbps(200) }, 1);
        link.push(ms(0), 1000, 1);
        link.push(ms(1), 1000, 2);
        assert_eq!(arrivals(&mut link), [(ms(190), 1)]);
    }

    #[test]
    fn a_change_of_rate_serves_the_rest_of_a_packet_at_the_new_rate() {
        let steps = vec![Step { at: ms(0), settings: kbps(200) }, Step { at: ms(20), settings: kbps(100) }];
        let mut link = Link::new(steps, 1);
        link.push(ms(0), 1000, 1);
        // Half of it in 20 ms, the other half in 40.
        assert_eq!(arrivals(&mut link), [(ms(60 + 150), 1)]);
    }

    #[test]
    fn a_cut_link_drops_what_arrives_and_keeps_what_stands() {
        let cut = Settings { rate_bps: Some(0), ..kbps(0) };
        let steps = vec![
            Step { at: ms(0), settings: kbps(200) },
            Step { at: ms(10), settings: cut },
            Step { at: ms(1000), settings: kbps(200) },
        ];
        let mut link = Link::new(steps, 1);
        link.push(ms(0), 1000, 1);
        link.push(ms(500), 1000, 2);
        assert_eq!(link.counters().dropped, 1);
        assert_eq!(arrivals(&mut link), [(ms(1030 + 150), 1)]);
    }

    #[test]
    fn jitter_varies_the_delay_and_keeps_the_order() {
        let settings = Settings { delay: ms(50), jitter: ms(10), ..Settings::default() };
        let mut link = Link::constant(settings, 3);
        for packet in 0..2000 {
            link.push(ms(u64::from(packet) * 100), 100, packet);
        }
        let arrived = arrivals(&mut link);
        let late: Vec<f64> =
            (0u64..).zip(&arrived).map(|(sent, (at, _))| (*at - ms(sent * 100)).as_secs_f64() * 1e3).collect();
        let mean = late.iter().sum::<f64>() / 2000.0;
        let variance = late.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 2000.0;
        assert!((mean - 50.0).abs() < 1.0, "{mean}");
        assert!((variance.sqrt() - 10.0).abs() < 0.6, "{}", variance.sqrt());
        assert!(late.iter().all(|ms| (20.0..=80.0).contains(ms)));
        // Sent close together, they still arrive in order.
        let mut link = Link::constant(settings, 4);
        for packet in 0..2000 {
            link.push(Duration::from_micros(u64::from(packet) * 100), 100, packet);
        }
        assert!(arrivals(&mut link).is_sorted_by_key(|(_, packet)| *packet));
    }

    #[test]
    fn reordering_and_duplication_are_counted() {
        let settings = Settings { delay: ms(10), duplicate: 0.1, reorder: 0.1, ..Settings::default() };
        let mut link = Link::constant(settings, 5);
        for packet in 0..1000 {
            link.push(ms(u64::from(packet)), 100, packet);
        }
        let arrived = arrivals(&mut link);
        let counters = link.counters();
        assert!((70..130).contains(&counters.duplicated), "{counters:?}");
        assert!((70..130).contains(&counters.reordered), "{counters:?}");
        assert_eq!(arrived.len() as u64, 1000 + counters.duplicated);
        assert!(!arrived.is_sorted_by_key(|(_, packet)| *packet));
        assert_eq!(counters.packets_out, arrived.len() as u64);
    }

    #[test]
    fn the_same_seed_gives_the_same_fates() {
        let settings = Settings { loss: Loss::Bernoulli(0.2), jitter: ms(5), ..kbps(500) };
        let run = |seed| {
            let mut link = Link::constant(settings, seed);
            for packet in 0..500 {
                link.push(ms(u64::from(packet) * 7), 700, packet);
            }
            arrivals(&mut link)
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn settings_can_be_replaced_on_the_way() {
        let mut link = Link::constant(kbps(200), 1);
        link.push(ms(0), 1000, 1);
        link.set(ms(20), kbps(100));
        assert_eq!(arrivals(&mut link), [(ms(210), 1)]);
    }
}
