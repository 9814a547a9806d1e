//! One end of a connection.

use std::time::Instant;

use super::receiver::Receiver;
use super::segment::Segment;
use super::sender::Sender;

#[derive(Clone, Debug, Default)]
pub struct Connection {
    number: u16,
    pub sender: Sender,
    receiver: Receiver,
}

impl Connection {
    pub fn new(number: u16) -> Connection {
        Connection { number, ..Connection::default() }
    }

    /// Takes a segment; what is in order now is added to `octets`.
    pub fn handle(&mut self, now: Instant, segment: &Segment, octets: &mut Vec<u8>) {
        self.sender.acknowledge(now, segment.acknowledged, &segment.sacks);
        if !segment.data.is_empty() {
            self.receiver.receive(now, segment.begin, &segment.data, octets);
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.sender.handle_timeout(now);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sender.poll_timeout().into_iter().chain(self.receiver.poll_timeout()).min()
    }

    /// The next packet to send: data that carries the acknowledgement, or that alone when it is due.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
        let segment = self.sender.poll_segment(now);
        if segment.is_none() && !self.receiver.is_due(now) {
            return None;
        }
        let (begin, data) = segment.unwrap_or_default();
        let (acknowledged, sacks) = self.receiver.acknowledge();
        // Blocks beside data would make the packet too long: they come with the next one.
        let sacks = if data.is_empty() { sacks } else { Vec::new() };
        Some(Segment { connection: self.number, reset: false, begin, data, acknowledged, sacks }.write())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::{Link, LinkCounters, Settings};
    use crate::loss::Loss;
    use crate::test_clock::start;

    struct Transfer {
        /// Octets that arrived in each second.
        seconds: Vec<usize>,
        /// Windows before and after each reduction.
        reductions: Vec<(f64, f64)>,
        standing: Vec<Duration>,
        sender: Sender,
        link: LinkCounters,
    }

    /// A sender that always has something, over a link and a good way back.
    fn transfer(there: Settings, seconds: u64) -> Transfer {
        let back = Settings { delay: there.delay, ..Settings::default() };
        let (mut there, mut back): (Link<Vec<u8>>, Link<Vec<u8>>) = (Link::constant(there, 1), Link::constant(back, 2));
        let began = start();
        let (mut a, mut b) = (Connection::new(1), Connection::new(1));
        let mut transfer = Transfer {
            seconds: vec![0; seconds as usize],
            reductions: Vec::new(),
            standing: Vec::new(),
            sender: Sender::default(),
            link: LinkCounters::default(),
        };
        let mut at = Duration::ZERO;
        let mut window = a.sender.window();
        while at < Duration::from_secs(seconds) {
            let now = began + at;
            let mut octets = Vec::new();
            while let Some(packet) = there.poll(at) {
                b.handle(now, &Segment::read(&packet).unwrap(), &mut octets);
            }
            assert!(octets.iter().all(|&octet| octet == 9));
            transfer.seconds[at.as_secs() as usize] += octets.len();
            while let Some(packet) = back.poll(at) {
                a.handle(now, &Segment::read(&packet).unwrap(), &mut octets);
            }
            a.handle_timeout(now);
            b.handle_timeout(now);
            if a.sender.unsent() < 100_000 {
                a.sender.write(&[9; 100_000]);
            }
            if a.sender.window() < window {
                transfer.reductions.push((window, a.sender.window()));
            }
            window = a.sender.window();
            while let Some(packet) = a.poll_packet(now) {
                there.push(at, packet.len() as u32 + 28, packet);
            }
            while let Some(packet) = b.poll_packet(now) {
                back.push(at, packet.len() as u32 + 28, packet);
            }
            transfer.standing.push(there.standing_delay());
            let timers = [&a, &b].into_iter().filter_map(Connection::poll_timeout).map(|timer| timer - began);
            let next = timers.chain(there.poll_timeout()).chain(back.poll_timeout()).min().unwrap();
            at = next.max(at);
        }
        transfer.sender = a.sender;
        transfer.link = there.counters();
        transfer
    }

    fn line(rate_bps: u64, queue_ms: u64, delay_ms: u64) -> Settings {
        Settings {
            rate_bps: Some(rate_bps),
            queue: Duration::from_millis(queue_ms),
            delay: Duration::from_millis(delay_ms),
            ..Settings::default()
        }
    }

    /// Mean rate from a second on, as a part of what the link can carry of data.
    fn part(transfer: &Transfer, from: usize, rate_bps: f64) -> f64 {
        let octets: usize = transfer.seconds[from..].iter().sum();
        octets as f64 * 8.0 / (transfer.seconds.len() - from) as f64 / (rate_bps * 1448.0 / 1500.0)
    }

    #[test]
    fn a_queue_of_one_bandwidth_delay_product_keeps_the_link_full() {
        let transfer = transfer(line(10_000_000, 100, 50), 60);
        let part = part(&transfer, 5, 1e7);
        assert!((0.95..=1.0).contains(&part), "{part}");
        assert_eq!(transfer.sender.timeouts, 0);
        // The window is that of the way and the queue together: 0.2 s are 167 segments.
        let steady = &transfer.reductions[1..];
        assert!(!steady.is_empty());
        for (before, after) in steady {
            assert!((150.0..190.0).contains(before), "{before}");
            assert!((after / before - 0.7).abs() < 0.01, "{before} {after}");
        }
        // Repairs cost what was lost and little more.
        let again = transfer.sender.retransmitted as f64;
        assert!(again >= transfer.link.dropped as f64 && again <= 1.2 * transfer.link.dropped as f64 + 10.0, "{again}");
    }

    #[test]
    fn the_queue_is_filled_again_and_again() {
        let transfer = transfer(line(2_000_000, 1000, 25), 60);
        assert!(part(&transfer, 2, 2e6) > 0.97);
        let fullest = transfer.standing.iter().max().unwrap();
        assert!(*fullest > Duration::from_millis(980), "{fullest:?}");
        assert_eq!(transfer.sender.timeouts, 0);
    }

    #[test]
    fn slow_start_ends_without_flooding_the_queue() {
        let transfer = transfer(line(10_000_000, 300, 25), 2);
        assert_eq!(transfer.link.dropped, 0);
        assert!(transfer.seconds[1] > 1_100_000, "{:?}", transfer.seconds);
    }

    #[test]
    fn random_loss_leaves_what_the_response_function_says() {
        // RFC 9438 §5.1, Reno-friendly region at 1 %: about 1.22 / √p segments a round trip, 12.2 at 100 ms.
        let lossy = Settings { loss: Loss::Bernoulli(0.01), ..line(100_000_000, 100, 50) };
        let transfer = transfer(lossy, 200);
        let octets: usize = transfer.seconds[10..].iter().sum();
        let window = octets as f64 / 190.0 / 1448.0 * 0.1;
        assert!((8.0..16.0).contains(&window), "{window}");
    }

    #[test]
    fn three_percent_are_repaired_without_waiting_for_the_timer_often() {
        let lossy = Settings { loss: Loss::Bernoulli(0.03), ..line(2_000_000, 300, 25) };
        let transfer = transfer(lossy, 60);
        assert!(transfer.sender.timeouts <= 12, "{}", transfer.sender.timeouts);
        let part = part(&transfer, 1, 2e6);
        assert!((0.4..1.0).contains(&part), "{part}");
        assert!(transfer.seconds[1..].iter().all(|&octets| octets > 20_000), "{:?}", transfer.seconds);
    }

    #[test]
    fn what_a_cut_link_swallowed_is_sent_again() {
        let (mut a, mut b) = (Connection::new(1), Connection::new(1));
        let began = start();
        let mut octets = Vec::new();
        a.sender.write(&[1; 5000]);
        while a.poll_packet(began).is_some() {}
        // The timer of the first packet: a second.
        let at = a.poll_timeout().unwrap();
        assert_eq!(at, began + Duration::from_secs(1));
        a.handle_timeout(at);
        let first = a.poll_packet(at).expect("a window of one");
        assert_eq!(a.poll_packet(at), None);
        b.handle(at, &Segment::read(&first).unwrap(), &mut octets);
        let answer = b.poll_packet(at).expect("acknowledged at once");
        a.handle(at, &Segment::read(&answer).unwrap(), &mut octets);
        let mut more = 0;
        while let Some(packet) = a.poll_packet(at) {
            more += 1;
            b.handle(at, &Segment::read(&packet).unwrap(), &mut octets);
        }
        assert_eq!(more, 2, "slow start");
        assert_eq!(octets.len(), 3 * super::super::segment::SEGMENT_SIZE);
    }
}
