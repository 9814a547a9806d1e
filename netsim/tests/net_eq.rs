//! The model of a browser's audio jitter buffer beside the browser: what Chromium made up of a voice, when its packets came
//! as they are listed in `arrivals/` (recorded by `tests/interop/audio-arrivals.mjs`), is what the model makes up of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use netsim::net_eq::NetEq;

/// In percent of what was played, and of a single stretch of five seconds.
const APART_MAX: f64 = 2.0;
const APART_MAX_STRETCH: f64 = 3.0;
/// Stretches on the good link before.
const LEAD_IN: usize = 2;
/// A packet before the first one to arrive still has a number.
const FIRST: i64 = 1_000;

/// Chromium's counters over a stretch of time.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: Duration,
    to: Duration,
    samples: f64,
    made_up: f64,
}

struct Recording {
    stretches: Vec<Stretch>,
    /// When a packet came, and its number; copies are in it.
    packets: Vec<(Duration, u64)>,
}

fn read(text: &str) -> Recording {
    let ms = |field: &str| Duration::from_secs_f64(field.parse::<f64>().unwrap() / 1e3);
    let mut recording = Recording { stretches: Vec::new(), packets: Vec::new() };
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        match *fields {
            ["heard", from, to, samples, made_up, _silent] => {
                let (samples, made_up) = (samples.parse().unwrap(), made_up.parse().unwrap());
                recording.stretches.push(Stretch { from: ms(from), to: ms(to), samples, made_up });
            }
            [at, number] => recording.packets.push((ms(at), (number.parse::<i64>().unwrap() + FIRST) as u64)),
            _ => panic!("{line}"),
        }
    }
    recording
}

/// Percent made up by Chromium and by the model: in each stretch, and in all after the lead-in.
fn compare(text: &str) -> (Vec<(f64, f64)>, (f64, f64)) {
    #[allow(clippy::disallowed_methods)] // Tests need some instant to count from.
    let start = Instant::now();
    let Recording { stretches, packets } = read(text);
    let mut net_eq = NetEq::default();
    let mut seen = BTreeSet::new();
    for (at, number) in packets {
        // SRTP lets no packet through twice.
        if seen.insert(number) {
            net_eq.receive(start + at, number);
        }
    }
    let model = |from: Duration, to: Duration| {
        let (made_up, pieces, _) = net_eq.heard.between(start + from, start + to);
        100.0 * f64::from(made_up) / f64::from(pieces.max(1))
    };
    let each =
        stretches.iter().map(|stretch| (100.0 * stretch.made_up / stretch.samples, model(stretch.from, stretch.to)));
    let poor = &stretches[LEAD_IN..];
    let sum = |of: fn(&Stretch) -> f64| poor.iter().map(of).sum::<f64>();
    let chromium = 100.0 * sum(|stretch| stretch.made_up) / sum(|stretch| stretch.samples);
    (each.collect(), (chromium, model(poor[0].from, poor[poor.len() - 1].to)))
}

fn judge(text: &str) {
    let (each, (chromium, model)) = compare(text);
    assert!(each.len() >= LEAD_IN + 4, "{each:?}");
    assert!((chromium - model).abs() <= APART_MAX, "Chromium {chromium:.2} %, the model {model:.2} %: {each:.2?}");
    assert!(each.iter().all(|(chromium, model)| (chromium - model).abs() <= APART_MAX_STRETCH), "{each:.2?}");
}

#[test]
fn independent_losses() {
    judge(include_str!("arrivals/loss.txt"));
}

#[test]
fn losses_in_bursts() {
    judge(include_str!("arrivals/bursts.txt"));
}

#[test]
fn a_queue_that_comes_and_goes_and_jitter() {
    judge(include_str!("arrivals/queue.txt"));
}
