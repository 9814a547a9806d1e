//! `benches all`: every claim about speed in one run, each beside the floor (and a peer where there is one), interleaved.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::cases::{CASES, Case, FEW_ALLOCATIONS, Load, MANY_ALLOCATIONS};
use crate::servers::{Running, Server};

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The program under test; without it, the one that was built beside this
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// LiveKit's server, to be measured as well
    #[arg(long)]
    pub livekit: Option<PathBuf>,
    /// coturn's turnserver, to be measured as well
    #[arg(long)]
    pub coturn: Option<PathBuf>,
    /// Every figure is the median of this many, the servers taking turns
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Rounds of what is measured by time, not by CPU
    #[arg(long, default_value_t = 15)]
    pub latency_rounds: usize,
    /// Idle participants for the figure about memory
    #[arg(long, default_value_t = 200)]
    pub idle: usize,
    /// Idle TURN allocations for the figures about memory and about making them
    #[arg(long, default_value_t = 10_000)]
    pub idle_allocations: usize,
    /// Only the cases whose name contains this
    #[arg(long)]
    pub only: Option<String>,
    /// Write the figures there as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// We are in a network namespace of our own already
    #[arg(long, hide = true)]
    pub inside: bool,
}

/// The cores that a run is pinned to.
pub const SERVER_CORE: &str = "0";
const GENERATOR_CORE: &str = "1";

/// One measurement.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sample {
    ns_per_packet: f64,
    packets_per_second: f64,
    /// The generator's CPU time for each of the server's.
    generator_share: f64,
    /// Of the packets that carried their time, in microseconds.
    latency_median_us: Option<f64>,
    latency_p99_us: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct Figure {
    case: String,
    server: Server,
    median: Sample,
    ns_per_packet: Vec<f64>,
    times_floor: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct Memory {
    server: Server,
    participants: usize,
    bytes_per_participant: f64,
}

/// What allocations cost that nobody uses.
#[derive(Clone, Debug, Serialize)]
struct Allocations {
    server: Server,
    allocations: usize,
    bytes_per_allocation: f64,
    /// How many one core makes in a second.
    per_second: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Results {
    command: String,
    rounds: usize,
    seconds: f64,
    figures: Vec<Figure>,
    memory: Vec<Memory>,
    allocations: Vec<Allocations>,
}

pub fn run(options: &Options) -> Result<()> {
    if !options.inside {
        return enter_namespace();
    }
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    ensure!(status.context("running ip (Debian: iproute2)")?.success(), "cannot bring lo up");
    // The generator's sockets keep out of the range from which relays take their ports.
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "10000 39999").context("reserving the relays' ports")?;
    let mut servers = vec![Server::Floor, Server::Hausruf];
    servers.extend(options.livekit.iter().map(|_| Server::LiveKit));
    servers.extend(options.coturn.iter().map(|_| Server::Coturn));
    let running = servers.iter().map(|&server| Running::start(server, options)).collect::<Result<Vec<_>>>()?;
    let mut figures = Vec::new();
    for case in CASES.iter().filter(|case| options.only.as_ref().is_none_or(|only| case.name.contains(only))) {
        figures.extend(measure_case(case, &running, options)?);
    }
    drop(running);
    let mut memory = Vec::new();
    for server in [Server::Hausruf, Server::LiveKit] {
        if servers.contains(&server) && options.idle > 0 {
            memory.push(measure_memory(server, options)?);
        }
    }
    let mut allocations = Vec::new();
    for server in [Server::Hausruf, Server::Coturn] {
        if servers.contains(&server) && options.idle_allocations > 0 {
            allocations.push(measure_allocations(server, options)?);
        }
    }
    let results = Results {
        command: std::env::args().collect::<Vec<_>>().join(" "),
        rounds: options.rounds,
        seconds: options.seconds,
        figures,
        memory,
        allocations,
    };
    print(&results);
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
    }
    Ok(())
}

/// Runs this very command again where no packet can leave the host.
fn enter_namespace() -> Result<()> {
    let own = std::env::current_exe()?;
    let root = std::fs::metadata("/proc/self")
        .map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
        .unwrap_or(false);
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !root {
        command.arg("--map-root-user");
    }
    let status = command.arg(own).args(std::env::args_os().skip(1)).arg("--inside").status();
    ensure!(status.context("running unshare (Debian: util-linux)")?.success(), "the run failed");
    Ok(())
}

fn measure_case(case: &Case, running: &[Running], options: &Options) -> Result<Vec<Figure>> {
    let able: Vec<_> = running.iter().filter(|running| case.concerns(running.server)).collect();
    let rounds = if matches!(case.load, Load::Latency) { options.latency_rounds } else { options.rounds };
    let mut samples = vec![Vec::new(); able.len()];
    for round in 0..rounds {
        for (samples, running) in samples.iter_mut().zip(&able) {
            match attempt(case, running, round, options) {
                Ok(sample) => {
                    eprintln!("{} | {} | {:.0} ns", case.name, running.server.name(), sample.ns_per_packet);
                    samples.push(sample);
                }
                Err(error) => eprintln!("{} | {} | {error:#}", case.name, running.server.name()),
            }
        }
    }
    for (samples, running) in samples.iter().zip(&able) {
        ensure!(!samples.is_empty(), "{}: no measurement of {} succeeded", case.name, running.server.name());
    }
    let floor = median(&samples[0]).ns_per_packet;
    Ok(able
        .iter()
        .zip(&samples)
        .map(|(running, samples)| {
            let median = median(samples);
            Figure {
                case: case.name.to_owned(),
                server: running.server,
                median,
                ns_per_packet: samples.iter().map(|sample| sample.ns_per_packet).collect(),
                times_floor: (running.server != Server::Floor).then_some(median.ns_per_packet / floor),
            }
        })
        .collect())
}

/// A machine that is busy with something else loses packets and time-outs now and then: three tries.
fn attempt(case: &Case, running: &Running, round: usize, options: &Options) -> Result<Sample> {
    let mut result = measure(case, running, round, options);
    for _ in 0..2 {
        if result.is_err() {
            result = measure(case, running, round, options);
        }
    }
    result
}

/// The sample of the median cost; its latencies are medians of their own.
fn median(samples: &[Sample]) -> Sample {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.ns_per_packet.total_cmp(&b.ns_per_packet));
    let of = |figure: fn(&Sample) -> Option<f64>| {
        let mut figures: Vec<f64> = samples.iter().filter_map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied()
    };
    Sample {
        latency_median_us: of(|sample| sample.latency_median_us),
        latency_p99_us: of(|sample| sample.latency_p99_us),
        ..sorted[sorted.len() / 2]
    }
}

/// One run of the generator against one server.
fn measure(case: &Case, running: &Running, round: usize, options: &Options) -> Result<Sample> {
    let mut arguments = words(&case.arguments(running, round));
    arguments.extend(words(&format!("--duration {} --pid {}", options.seconds, running.pid())));
    let report = generate(&arguments)?;
    let number = |key: &str| report[key].as_f64().unwrap_or(0.0);
    let received = number("packets_received") + number("video_packets") + number("retransmissions");
    let server_ns = number("server_cpu_ns");
    ensure!(received > 0.0 && server_ns > 0.0, "nothing was measured: {report}");
    ensure!(number("lost") + number("bad_tags") == 0.0, "packets were lost or broken: {report}");
    let offered = case.packets_per_second() * number("window_ms") / 1e3;
    // What a peer cannot keep up with shows in the table, as packets per second.
    let is_peer = matches!(running.server, Server::LiveKit | Server::Coturn);
    ensure!(is_peer || received >= 0.95 * offered, "{received} of {offered:.0} packets came: {report}");
    let latency_us = |key: &str| report["latency"][key].as_f64().map(|ns| ns / 1e3);
    Ok(Sample {
        ns_per_packet: server_ns / received,
        packets_per_second: received * 1e3 / number("window_ms"),
        generator_share: number("generator_cpu_ns") / server_ns,
        latency_median_us: latency_us("median_ns"),
        latency_p99_us: latency_us("p99_ns"),
    })
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Runs this program as the generator on its core and returns the line that it prints.
fn generate(arguments: &[String]) -> Result<Value> {
    let output = Command::new("taskset")
        .args(["-c", GENERATOR_CORE])
        .arg(std::env::current_exe()?)
        .args(arguments)
        .output()
        .context("running taskset (Debian: util-linux)")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "generator {arguments:?}: {error}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What an idle participant costs: connected, nothing published, rooms of ten.
fn measure_memory(server: Server, options: &Options) -> Result<Memory> {
    let running = Running::start(server, options)?;
    let rooms = options.idle.div_ceil(10);
    let participants = rooms * 10;
    // One room before, so that what the first participant brings once is not counted.
    let warm = format!("loadgen {} --room warm --publishers 0 --subscribers 10 --duration 0.2", running.login());
    generate(&words(&warm))?;
    let load = format!(
        "loadgen {} --room idle --rooms {rooms} --publishers 0 --subscribers 10 --settle 3 --duration 1 --pid {}",
        running.login(),
        running.pid()
    );
    let report = generate(&words(&load))?;
    let number = |key: &str| report[key].as_f64().context("no such figure").with_context(|| key.to_owned());
    let grown = number("server_rss")? - number("server_rss_before")?;
    Ok(Memory { server, participants, bytes_per_participant: grown / participants as f64 })
}

/// What an idle allocation costs, and making it.
fn measure_allocations(server: Server, options: &Options) -> Result<Allocations> {
    let running = Running::start(server, options)?;
    let count = options.idle_allocations;
    let report =
        generate(&words(&format!("allocate {} --count {count} --pid {}", running.turn_login(), running.pid())))?;
    let number = |key: &str| report[key].as_f64().context("no such figure").with_context(|| key.to_owned());
    Ok(Allocations {
        server,
        allocations: count,
        bytes_per_allocation: (number("resident_bytes")? - number("resident_bytes_before")?) / count as f64,
        per_second: count as f64 * 1e9 / number("server_cpu_ns")?,
    })
}

fn print(results: &Results) {
    println!("\nServer CPU per forwarded or relayed packet; median of {}, {} s each.", results.rounds, results.seconds);
    println!("Servers on core {SERVER_CORE}, generator on core {GENERATOR_CORE}. {}\n", machine());
    println!(
        "| case | server | ns per packet | × floor | × coturn or LiveKit | goal | packets/s | generator CPU / server CPU |"
    );
    println!("| --- | --- | ---: | ---: | ---: | --- | ---: | ---: |");
    for figure in &results.figures {
        let times = |others: &[Server]| {
            let other =
                results.figures.iter().find(|other| other.case == figure.case && others.contains(&other.server));
            other.filter(|other| other.server != figure.server).map_or(String::new(), |other| {
                format!("{:.2}", figure.median.ns_per_packet / other.median.ns_per_packet)
            })
        };
        let case = CASES.iter().find(|case| case.name == figure.case).filter(|_| figure.server == Server::Hausruf);
        let goals = case.map_or(&[][..], |case| case.goals);
        let goals: Vec<String> = goals.iter().map(|(server, times)| format!("≤ {times} × {}", server.name())).collect();
        println!(
            "| {} | {} | {:.0} | {} | {} | {} | {:.0} | {:.2} |",
            figure.case,
            figure.server.name(),
            figure.median.ns_per_packet,
            times(&[Server::Floor]),
            times(&[Server::Coturn, Server::LiveKit]),
            goals.join(", "),
            figure.median.packets_per_second,
            figure.median.generator_share
        );
    }
    println!();
    for Figure { case, server, median, .. } in &results.figures {
        if let Some((middle, late)) = median.latency_median_us.zip(median.latency_p99_us) {
            println!("{case}, {}: median {middle:.1} µs, 99th percentile {late:.1} µs", server.name());
        }
    }
    let cost = |case: &str| {
        let found = results.figures.iter().find(|figure| figure.case == case && figure.server == Server::Hausruf);
        found.map(|figure| figure.median.ns_per_packet)
    };
    if let Some((few, many)) = cost(FEW_ALLOCATIONS).zip(cost(MANY_ALLOCATIONS)) {
        println!("hausruf: with 10,000 allocations a packet costs {:.2} × that with 10 (goal ≤ 1.2)", many / few);
    }
    for memory in &results.memory {
        println!(
            "{}: {:.0} KB resident per idle participant ({} of them)",
            memory.server.name(),
            memory.bytes_per_participant / 1e3,
            memory.participants
        );
    }
    for Allocations { server, allocations, bytes_per_allocation, per_second } in &results.allocations {
        println!(
            "{}: {bytes_per_allocation:.0} B resident per idle allocation ({allocations} of them), {per_second:.0} made a second",
            server.name()
        );
    }
    println!("\n`{}`", results.command);
}

/// The processor and the kernel, for the reader of the figures.
fn machine() -> String {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = text("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let model = model.trim_start_matches([' ', '\t', ':']);
    format!("{model}, Linux {}.", text("/proc/sys/kernel/osrelease").trim())
}
