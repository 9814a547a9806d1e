//! The calls by name.

use std::ops::Range;
use std::time::Duration;

use super::beside::Beside;
use super::call::{CallSpec, LinkStep, Poor};
use super::mobile::{EVDO, LTE, LTE_UP, Mobile, UMTS};
use crate::link::Settings;
use crate::loss::Loss;
use crate::tcp::download::Downloads;

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub call: CallSpec,
    /// What scores count.
    pub scored: Range<Duration>,
    /// A drop of the rate that is recovered from: when it begins and ends.
    pub drop: Option<Range<Duration>>,
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn line(rate_kbps: u64, round_trip_ms: u64, queue_ms: u64, loss: Loss) -> Settings {
    Settings {
        rate_bps: Some(rate_kbps * 1000),
        queue: ms(queue_ms),
        delay: Duration::from_micros(round_trip_ms * 500),
        loss,
        ..Settings::default()
    }
}

fn step(at: Duration, settings: Settings) -> LinkStep {
    LinkStep { at, up: settings, down: settings }
}

/// The link of the first ten seconds.
fn good() -> Settings {
    line(10_000, 30, 300, Loss::NONE)
}

fn company(steps: Vec<LinkStep>, duration: Duration) -> CallSpec {
    CallSpec {
        poor: Poor::Viewer,
        audio_bps: 32_000,
        encryption: 0,
        cameras: 3,
        others: 3,
        steps,
        duration,
        handover: None,
        beside: Vec::new(),
        downloads: None,
    }
}

/// Ten seconds on a good link, then on `settings`; counted from ten seconds after that, for forty.
fn after_onset(name: &str, settings: Settings) -> Scenario {
    Scenario {
        name: name.into(),
        call: company(vec![step(s(0), good()), step(s(10), settings)], s(60)),
        scored: s(20)..s(60),
        drop: None,
    }
}

fn from_start(name: &str, settings: Settings, duration: u64) -> Scenario {
    Scenario {
        name: name.into(),
        call: company(vec![step(s(0), settings)], s(duration)),
        scored: s(10)..s(duration),
        drop: None,
    }
}

fn during(name: &str, settings: Settings, span: Range<u64>, duration: u64) -> Scenario {
    let (from, to) = (s(span.start), s(span.end));
    Scenario {
        name: name.into(),
        call: company(vec![step(s(0), good()), step(from, settings), step(to, good())], s(duration)),
        scored: from..to,
        drop: Some(from..to),
    }
}

/// RFC 8867 §5: a list of rates of each direction (from which second on, kbit/s), 50 ms one way, a queue of 300 ms.
fn rfc8867(name: &str, down: &[(u64, u64)], up: &[(u64, u64)], duration: u64) -> Scenario {
    let rate = |list: &[(u64, u64)], at: u64| {
        let (_, kbps) = list.iter().rev().find(|(from, _)| *from <= at).expect("a list begins at 0");
        line(*kbps, 100, 300, Loss::NONE)
    };
    let mut moments: Vec<u64> = down.iter().chain(up).map(|(from, _)| *from).collect();
    moments.sort_unstable();
    moments.dedup();
    let steps = moments.iter().map(|&at| LinkStep { at: s(at), up: rate(up, at), down: rate(down, at) }).collect();
    let call = company(steps, s(duration));
    Scenario { name: name.into(), call, scored: s(0)..s(duration), drop: None }
}

/// The scenarios of RFC 8867 in which several flows share the link.
fn shared() -> [Scenario; 4] {
    let good_back = [(0, 10_000)];
    let flow = |from: u64| Beside { from: s(from), delay: Duration::from_micros(500), ..Beside::default() };
    let mut two = rfc8867("A 5.2", &[(0, 4000), (25, 2000), (50, 3500), (75, 1000), (100, 2000)], &good_back, 125);
    two.call.beside = vec![flow(0)];
    let mut three = rfc8867("A 5.4", &[(0, 3500)], &good_back, 120);
    three.call.beside = vec![flow(20), flow(40)];
    // The shortest way is the link's; the others have the rest of theirs behind it.
    let mut far = rfc8867("A 5.5", &[(0, 4000)], &good_back, 300);
    far.call.steps = vec![step(s(0), line(4000, 20, 300, Loss::NONE))];
    far.call.beside =
        [(10, 15), (20, 40), (30, 90), (40, 140)].map(|(from, more)| Beside { delay: ms(more), ..flow(from) }).to_vec();
    let mut pausing = rfc8867("A 5.8", &[(0, 3500)], &good_back, 120);
    pausing.call.beside = vec![Beside { pause: s(40)..s(60), ..flow(0) }, flow(0)];
    [two, three, far, pausing]
}

/// The scenarios of RFC 8867 with TCP in the link, one long or ten that come and go.
fn beside_tcp() -> [Scenario; 3] {
    let long = |queue: u64| {
        let mut long = rfc8867(&format!("A 5.6 {queue} ms"), &[(0, 2000)], &[(0, 10_000)], 120);
        long.call.steps[0].down.queue = ms(queue);
        long.call.downloads = Some(Downloads::Long { span: s(0)..s(120) });
        long
    };
    let mut short = rfc8867("A 5.7", &[(0, 2000)], &[(0, 10_000)], 300);
    short.call.downloads = Some(Downloads::Short { at_once: 10, octets: 30_000..50_000, pause_mean: s(10) });
    [long(300), long(1000), short]
}

/// Two minutes of a mobile link after ten seconds of a good one.
fn mobile(down: Mobile, up: Mobile, round_trip_ms: u64, seed: u64) -> Scenario {
    const SECONDS: usize = 120;
    let rates = down.trace(seed, SECONDS).into_iter().zip(up.trace(seed, SECONDS));
    let mut steps = vec![step(s(0), good())];
    for (at, (down, up)) in (10..).zip(rates) {
        let [down, up] = [down, up].map(|kbps| line(kbps, round_trip_ms, 500, Loss::NONE));
        steps.push(LinkStep { at: s(at), up, down });
    }
    Scenario { name: format!("E {}", down.name), call: company(steps, s(130)), scored: s(20)..s(130), drop: None }
}

/// All of them; the links of some depend on the seed.
pub fn scenarios(seed: u64) -> Vec<Scenario> {
    let mut all = Vec::new();
    all.push(rfc8867("A 5.1", &[(0, 1000), (40, 2500), (60, 600), (80, 1000)], &[(0, 10_000)], 100));
    // What goes back is feedback alone.
    let backward = [(0, 2000), (35, 800), (70, 2000)];
    all.push(rfc8867("A 5.3", &[(0, 2000), (20, 1000), (40, 500), (60, 2000)], &backward, 100));
    all.extend(shared());
    all.extend(beside_tcp());
    let hotel = |loss| line(200, 300, 500, loss);
    for percent in [0, 5, 10, 20] {
        all.push(after_onset(&format!("P1 {percent} %"), hotel(Loss::Bernoulli(f64::from(percent) / 100.0))));
    }
    for percent in [5, 10, 20] {
        let loss = Loss::bursts(f64::from(percent) / 100.0, 3.0).expect("a chain exists for such shares");
        all.push(after_onset(&format!("P1b {percent} %"), hotel(loss)));
    }
    let mut element = after_onset("P1e 10 %", hotel(Loss::Bernoulli(0.1)));
    element.call.audio_bps = 48_000;
    element.call.encryption = 30;
    all.push(element);
    let mut speaker = after_onset("P1u 10 %", hotel(Loss::Bernoulli(0.1)));
    speaker.call.poor = Poor::Speaker;
    all.push(speaker);
    let mut cold = from_start("P2", line(200, 100, 500, Loss::NONE), 40);
    cold.call.others = 7;
    cold.scored = s(0)..s(40);
    all.push(cold);
    all.push(from_start("P3", line(5000, 60, 300, Loss::Bernoulli(0.1)), 40));
    for seconds in [8, 25] {
        let cut = Settings { rate_bps: Some(0), ..good() };
        let mut blackout = during(&format!("P4 {seconds} s"), cut, 20..20 + seconds, 60 + seconds);
        blackout.scored = s(20 + seconds)..s(60 + seconds);
        all.push(blackout);
    }
    // The reference names no link for it.
    let mut download = from_start("P5", line(2000, 50, 300, Loss::NONE), 80);
    download.call.downloads = Some(Downloads::Long { span: s(20)..s(50) });
    (download.scored, download.drop) = (s(20)..s(50), Some(s(20)..s(50)));
    all.push(download);
    for (name, settings) in [("P6", hotel(Loss::Bernoulli(0.1))), ("P6 faultless", good())] {
        let mut publisher = after_onset(name, settings);
        publisher.call.poor = Poor::Publisher;
        all.push(publisher);
    }
    let mut steps = Vec::new();
    for (index, round_trip) in [50, 150, 300, 450, 600, 200, 50].into_iter().enumerate() {
        steps.push(step(s(10 * index as u64), line(3000, round_trip, 300, Loss::NONE)));
    }
    all.push(Scenario { name: "P7".into(), call: company(steps, s(70)), scored: s(10)..s(70), drop: None });
    let there = line(3000, 50, 300, Loss::NONE);
    let mut handover = from_start("P8", there, 40);
    handover.call.handover = Some(s(20));
    handover.scored = s(20)..s(40);
    all.push(handover.clone());
    // As real clients have it, which are away for a second or more before they notice.
    let away = Settings { rate_bps: Some(0), ..there };
    handover.name = "P8 after 2 s".into();
    handover.call.steps.extend([step(s(20), away), step(s(22), there)]);
    handover.call.handover = Some(s(22));
    (handover.scored, handover.drop) = (s(22)..s(42), Some(s(20)..s(22)));
    handover.call.duration = s(42);
    all.push(handover);
    all.push(after_onset("P9", line(500, 60, 2000, Loss::NONE)));
    for kbps in [250, 500, 750, 1000, 1500] {
        let unlimited = good();
        let mut drop = during(&format!("B {kbps} kbit/s"), line(kbps, 30, 300, Loss::NONE), 60..90, 150);
        drop.call.steps =
            vec![step(s(0), unlimited), step(s(60), line(kbps, 30, 300, Loss::NONE)), step(s(90), unlimited)];
        all.push(drop);
    }
    let mut steps = Vec::new();
    for round in 0..4 {
        steps.push(step(s(30 * round), line(4000, 50, 300, Loss::NONE)));
        steps.push(step(s(30 * round + 20), line(1000, 50, 300, Loss::NONE)));
    }
    all.push(Scenario { name: "C".into(), call: company(steps, s(120)), scored: s(20)..s(120), drop: None });
    all.push(mobile(EVDO, EVDO, 100, seed));
    all.push(mobile(UMTS, UMTS, 100, seed));
    all.push(mobile(LTE, LTE_UP, 60, seed));
    all
}
