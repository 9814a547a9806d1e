//! `netsim link`: a poor link between two network namespaces, or as a UDP proxy. `netsim swarm`: random calls.
//! `netsim suite`: the named scenarios of poor links.

use std::fs::{File, read_to_string};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser};
use netsim::emulator::{Emulator, Ends};
use netsim::kernel::{Signals, Tun, TunSpec};
use netsim::schedule::Schedule;

#[derive(Parser)]
#[command(about = "Poor networks: in real time for real clients, and in virtual time for the server alone")]
enum Cli {
    /// A link with rate, queue, delay, jitter and loss, in real time.
    ///
    /// Between two network namespaces (as root, through TUN devices: everything crosses it), or as a UDP proxy. Prints
    /// `ready` and the names of its ends on the first line of the standard output, then (without --log) a line of CSV
    /// per direction every 100 ms. SIGHUP reads the schedule again and starts it anew; SIGTERM ends it.
    Link(Box<LinkArguments>),
    /// Random calls over random networks in virtual time; a failure names the seed that reproduces it.
    Swarm {
        /// The first seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many seeds
        #[arg(long, default_value_t = 100)]
        runs: u64,
    },
    /// The named scenarios of poor links in virtual time: a table of scores, and plots.
    Suite(SuiteArguments),
}

#[derive(Args)]
struct SuiteArguments {
    /// Scenarios whose name contains this, such as "P1 10"
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds
    #[arg(long, default_value_t = 5)]
    runs: u64,
    /// The server alone, without the policies that it is compared with
    #[arg(long)]
    without_baselines: bool,
    /// A folder for plots (SVG) of the first seed
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Runs at once; as many as there are processors by default
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Args)]
struct LinkArguments {
    /// One end: a namespace's name (`ip netns add NAME`), a path to one, or `.` for the present one
    #[arg(long, value_name = "NETNS", requires = "b", conflicts_with = "listen")]
    a: Option<String>,
    /// The other end
    #[arg(long, value_name = "NETNS", requires = "a")]
    b: Option<String>,
    /// Address of the device at A in CIDR notation, such as 10.9.0.1/24; may be repeated
    #[arg(long, value_name = "CIDR", requires = "a")]
    a_address: Vec<String>,
    /// Address of the device at B
    #[arg(long, value_name = "CIDR", requires = "b")]
    b_address: Vec<String>,
    /// Name of the device at A; %d becomes the first free number
    #[arg(long, value_name = "NAME", default_value = "link%d")]
    a_device: String,
    /// Name of the device at B
    #[arg(long, value_name = "NAME", default_value = "link%d")]
    b_device: String,
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    mtu: u16,
    /// UDP proxy: where clients (end A) send to
    #[arg(long, value_name = "ADDR:PORT", requires = "to")]
    listen: Option<SocketAddr>,
    /// UDP proxy: where it sends their datagrams (end B)
    #[arg(long, value_name = "ADDR:PORT", requires = "listen")]
    to: Option<SocketAddr>,
    /// What the link does when (TOML: see `netsim/schedules`); without it the link is perfect
    #[arg(long, value_name = "FILE")]
    schedule: Option<PathBuf>,
    /// Where the CSV goes instead of the standard output
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse() {
        Cli::Link(arguments) => link(&arguments),
        Cli::Suite(arguments) => suite(arguments),
        Cli::Swarm { seed, runs } => {
            for seed in seed..seed.saturating_add(runs) {
                println!("seed {seed}: digest {:016x}", netsim::swarm::run(seed));
            }
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("netsim: {message}");
            ExitCode::FAILURE
        }
    }
}

fn suite(arguments: SuiteArguments) -> Result<(), String> {
    use netsim::suite::{Order, Policy};
    let mut policies = vec![Policy::Ours];
    if !arguments.without_baselines {
        policies.extend([Policy::Remb, Policy::Unadapted]);
    }
    if let Some(folder) = &arguments.plots {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let order = Order {
        only: arguments.only,
        seed: arguments.seed,
        runs: arguments.runs,
        policies,
        plots: arguments.plots,
        jobs: arguments.jobs.unwrap_or(processors),
    };
    let (table, digest) = netsim::suite::run(&order).map_err(|error| error.to_string())?;
    println!("{table}\ndigest {digest:016x}");
    let flicker: Vec<String> =
        (order.seed..order.seed + order.runs).map(|seed| netsim::suite::flicker::changes(seed).to_string()).collect();
    println!("D: visible changes in seven minutes, by seed: {}", flicker.join(", "));
    Ok(())
}

fn link(arguments: &LinkArguments) -> Result<(), String> {
    let path = arguments.schedule.as_deref();
    let schedule = path.map_or(Ok(Schedule::default()), read_schedule)?;
    let mut log: Box<dyn Write> = match &arguments.log {
        Some(path) => {
            Box::new(io::BufWriter::new(File::create(path).map_err(|error| format!("{}: {error}", path.display()))?))
        }
        None => Box::new(io::stdout()),
    };
    let mut signals = Signals::new().map_err(|error| error.to_string())?;
    let (ends, names) = ends(arguments)?;
    println!("ready {names}");
    let reload = || match path.map(read_schedule)? {
        Ok(schedule) => Some(schedule),
        Err(message) => {
            eprintln!("netsim link: {message}; the old schedule goes on");
            None
        }
    };
    Emulator::new(ends, &schedule).run(&mut signals, &mut log, reload).map_err(|error| error.to_string())
}

fn ends(arguments: &LinkArguments) -> Result<(Ends, String), String> {
    if let (Some(a), Some(b)) = (&arguments.a, &arguments.b) {
        let open = |namespace: &str, device: &str, addresses: &[String]| {
            Tun::open(&TunSpec {
                namespace: namespace.into(),
                device: device.into(),
                addresses: addresses.to_vec(),
                mtu: arguments.mtu,
            })
        };
        let a = open(a, &arguments.a_device, &arguments.a_address)?;
        let b = open(b, &arguments.b_device, &arguments.b_address)?;
        let names = format!("a={} b={}", a.name, b.name);
        Ok((Ends::Tuns { a, b }, names))
    } else if let (Some(listen), Some(to)) = (arguments.listen, arguments.to) {
        let ends = Ends::proxy(listen, to).map_err(|error| format!("{listen}: {error}"))?;
        let Ends::Proxy { listener, .. } = &ends else {
            unreachable!("a proxy was made");
        };
        let bound = listener.local_addr().map_err(|error| error.to_string())?;
        Ok((ends, format!("listen={bound} to={to}")))
    } else {
        Err("give --a and --b (two namespaces), or --listen and --to (a UDP proxy)".into())
    }
}

fn read_schedule(path: &Path) -> Result<Schedule, String> {
    let text = read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Schedule::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}
