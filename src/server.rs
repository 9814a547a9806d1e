//! Starting and ending everything.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use config::Config;
use datapath::driver::{Clock, Driver};
use datapath::mux::Mux;
use datapath::neighbours::Neighbours;
use datapath::{Entropy, Now, Outbox, sockets};
use sfu::transport::Certificate;
use sfu::{Event, Sfu};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::addresses::Addresses;
use crate::operations::Operations;
use crate::operations::control_socket::{self, ControlSocket};
use crate::reload::{File, Reload};
use crate::revocation_store::{Revocation, RevocationStore};
use crate::signals::{Request, Signals};
use crate::worker::{Instruction, Worker};
use crate::{own_addresses, remedies, settings};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Below this, a burst of video is lost when the worker is busy for a few milliseconds.
const RECEIVE_BUFFER_BYTES_MIN: usize = 2 << 20;

/// errno(3): the address family is switched off.
const EAFNOSUPPORT: i32 = 97;

/// What remains after the clients are gone ends within this.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until a signal comes. The configuration is read again from `file`. `ready` is called when clients can connect.
pub fn run(config: &Config, file: Option<File>, is_demo: bool, ready: impl FnOnce()) -> anyhow::Result<()> {
    let mut entropy = Entropy::from_seed(seed()?);
    let certificates = settings::certificates(config, entropy.fork())?;
    // The TCP port comes first and without SO_REUSEPORT: a second instance ends here.
    let listener = listen(config.listen.http, "listen.http or --listen")?;
    let listeners = config.listen.tcp.iter().map(|address| listen(*address, "listen.tcp or --udp-port"));
    let listeners = listeners.collect::<anyhow::Result<Vec<_>>>()?;
    let control_socket = ControlSocket::open(&config.control_socket, std::env::var_os("RUNTIME_DIRECTORY"))?;
    if let Err(error) = sockets::raise_descriptor_limit() {
        warn!(%error, "the limit of open descriptors stays as it is");
    }
    let addresses = Addresses::find(&config.advertise, is_demo)?;
    let certificate = Certificate::generate().context("cannot make a certificate for DTLS")?;
    let matrix = settings::matrix(config)?;
    let secret_of_this_run: String = (0..4).map(|_| format!("{:016x}", entropy.u64())).collect();
    let (turn_secret, received_turn_secret) = watch::channel(settings::turn_secret(config, &secret_of_this_run));
    let (events, received_events) = mpsc::channel(config.limits.queue);
    let (store, revocations) = settings::revocations(config);
    let workers = start_workers(
        config,
        &addresses,
        &certificate,
        Relay { turn_secret: &turn_secret.borrow(), revocations: &revocations },
        &mut entropy,
        &events,
    )?;
    drop(events);
    let mut options = settings::signaling(
        config,
        &addresses,
        settings::Signaling {
            turn_secret: received_turn_secret,
            fingerprint: certificate.fingerprint(),
            counters: workers.iter().map(|worker| worker.counters.clone()).collect(),
            matrix,
            entropy: entropy.fork(),
            is_demo,
        },
    );
    options.tcp.listeners = listeners;
    if let Some((certificates, keeper)) = certificates {
        options.tcp.certificates = Some(Arc::new(certificates));
        options.tcp.keeper = Some(keeper);
    }
    warn_of_the_unusable(config, &options);
    warn_of_the_unreachable(config);
    let config = config.clone();
    let reload = file.map(|file| Reload { file, config, addresses, secret_of_this_run, turn_secret });

    // The file stays until everything has ended.
    let (_control_file, control) = control_socket.unzip();
    let operating = Operating { control, reload, revocations: store };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start tokio")?;
    let served = runtime.block_on(serve(listener, options, workers, received_events, operating, ready));
    // Connections that still linger are cut.
    runtime.shutdown_timeout(END_TIMEOUT);
    served
}

/// `key` says where the address comes from.
fn listen(address: SocketAddr, key: &str) -> anyhow::Result<std::net::TcpListener> {
    let bind = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of an earlier run may linger in TIME_WAIT; another listener still makes this fail.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok::<_, std::io::Error>(socket.into())
    };
    let bound = match bind(address) {
        // A system without IPv6.
        Err(error) if error.raw_os_error() == Some(EAFNOSUPPORT) && address.ip().is_unspecified() => {
            bind(SocketAddr::from(([0, 0, 0, 0], address.port())))
        }
        bound => bound,
    };
    bound.map_err(|error| anyhow!("{key}: cannot listen: TCP {address}: {error}; {}", remedies::for_address(&error)))
}

/// What the relays begin with, beside the configuration.
struct Relay<'a> {
    turn_secret: &'a str,
    revocations: &'a [Revocation],
}

impl Relay<'_> {
    fn shut_out(&self, relay: &mut relay::Server, now: Now) {
        let mut nothing = Outbox::new();
        for Revocation { user, until_s, withdrawn } in self.revocations {
            let left = Duration::from_secs(*until_s).saturating_sub(now.unix);
            // Nobody is shut out for millions of years but by whoever edits the file.
            let Some(until) = now.instant.checked_add(left) else { continue };
            if *withdrawn {
                relay.withdraw(now, std::slice::from_ref(user), until, &mut nothing);
            } else if relay.revoke(now, user.as_bytes(), until, &mut nothing).is_none() {
                warn!("more users are revoked than the relay can shut out");
            }
        }
    }
}

fn start_workers(
    config: &Config,
    addresses: &Addresses,
    certificate: &Certificate,
    begin: Relay<'_>,
    entropy: &mut Entropy,
    events: &mpsc::Sender<Event>,
) -> anyhow::Result<Vec<Worker>> {
    let candidates = addresses.behind(config.listen.udp[0]);
    let now = Clock::new().read();
    let mut nonce_key = [0; 32];
    entropy.fill(&mut nonce_key);
    // All of them before the first one serves: the kernel spreads over those that are there.
    let drivers = bind_drivers(config)?;
    let mut neighbours = connect(config, &drivers, now).into_iter();
    let mut workers = Vec::new();
    for (driver, share) in drivers.into_iter().zip(relay::Share::among(config.workers)) {
        let worker = share.worker;
        let relay = settings::relay(config, addresses, begin.turn_secret, nonce_key, share);
        let mut relay = relay::Server::new(relay, entropy.fork(), now);
        begin.shut_out(&mut relay, now);
        let sfu = Sfu::new(settings::sfu(config, certificate), entropy.fork());
        let mut plane = Mux::new(relay, sfu, candidates.clone());
        if let Some(neighbours) = neighbours.next() {
            plane = plane.with_neighbours(neighbours);
        }
        workers.push(Worker::start(worker.into(), driver, plane, config.limits.queue, events.clone())?);
    }
    Ok(workers)
}

fn bind_drivers(config: &Config) -> anyhow::Result<Vec<Driver>> {
    let settings = settings::driver(config);
    let bind = || {
        if settings.shared {
            // What is shared among workers could be shared with another instance as well.
            Driver::bind(&datapath::driver::Settings { shared: false, ..settings.clone() })?;
        }
        (0..config.workers).map(|_| Driver::bind(&settings)).collect::<std::io::Result<Vec<Driver>>>()
    };
    // The error names the address.
    let drivers = bind().map_err(|error| {
        anyhow!("listen.udp or --udp-port: cannot listen: {error}; {}", remedies::for_address(&error))
    })?;
    let granted = drivers.iter().map(Driver::listener_buffer_bytes).min().unwrap_or(0);
    if granted < RECEIVE_BUFFER_BYTES_MIN {
        warn!("UDP receive buffers have {granted} bytes only; set net.core.rmem_max and wmem_max to 8388608");
    }
    Ok(drivers)
}

/// The ends of what leads from each worker to the others; nothing for an only one.
fn connect(config: &Config, drivers: &[Driver], now: Now) -> Vec<Neighbours> {
    let workers = config.workers;
    if workers == 1 {
        return Vec::new();
    }
    let ports = (0..workers).map(|worker| relay::partition(config.relay.ports.clone(), worker.into(), workers.into()));
    let wakers: Vec<_> = drivers.iter().map(|driver| Some(driver.waker())).collect();
    Neighbours::connect(&ports.collect::<Vec<_>>(), &wakers, now.instant)
}

fn warn_of_the_unusable(config: &Config, options: &signaling::Options) {
    for note in config.notes() {
        warn!("{note}");
    }
    if options.media_candidates.is_empty() {
        warn!("no advertised address belongs to the first UDP listener: no call will have media");
    }
}

/// What an ACME server connects to is decided by its challenge (RFC 8737 §3, RFC 8555 §8.3), not by us.
fn warn_of_the_unreachable(config: &Config) {
    let Some(config::Tls { certificate: config::Certificate::Acme(acme), .. }) = &config.tls else { return };
    let (port, key, serves) = match acme.challenge {
        config::Challenge::TlsAlpn01 => {
            let serves = config.listen.tcp.iter().chain([&config.listen.http]).any(|listener| listener.port() == 443);
            (443, "listen.tcp", serves)
        }
        config::Challenge::Http01 => (80, "listen.http", config.listen.http.port() == 80),
    };
    if !serves {
        let names = acme.domains.join(", ");
        info!("the ACME server will connect to port {port} of {names}: have it forwarded to {key}, which has another");
    }
}

/// What the operator reaches the program by, and what is kept of that.
struct Operating {
    control: Option<std::os::unix::net::UnixListener>,
    reload: Option<Reload>,
    revocations: RevocationStore,
}

async fn serve(
    listener: std::net::TcpListener,
    mut options: signaling::Options,
    workers: Vec<Worker>,
    events: mpsc::Receiver<Event>,
    operating: Operating,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener).context("cannot hand the TCP listener to tokio")?;
    let mut signals = Signals::listen()?;
    let mut sinks: Vec<signaling::CommandSink> = Vec::new();
    let mut ended = Vec::new();
    let mut operators = Vec::new();
    let mut relays = Vec::new();
    let mut threads = Vec::new();
    for worker in workers {
        let commands = worker.commands;
        sinks.push(Box::new(move |command| commands.try_send(command).is_ok()));
        let streams = worker.streams;
        options.tcp.streams.push(Box::new(move |stream| streams.try_send(stream).is_ok()));
        ended.push(worker.ended);
        operators.push(worker.operator.clone());
        relays.push(worker.operator);
        threads.push(worker.thread);
    }
    let Operating { control, reload, revocations } = operating;
    let withdrawals = revocations.clone();
    options.turn_withdrawals = Box::new(move |users, time| {
        withdrawals.keep(&users, time, true);
        let users: Arc<[String]> = users.into();
        for relay in &relays {
            relay.instruct(Instruction::Withdraw { users: users.clone(), time });
        }
    });
    let (end, ending) = oneshot::channel::<()>();
    let mut signaling = tokio::spawn(signaling::serve(listener, options, sinks, events, async move {
        let _ = ending.await;
    }));
    tokio::spawn(own_addresses::tell(operators.clone()));
    let operations = Arc::new(Operations::new(operators, reload, revocations));
    if let Some(control) = control {
        let control = UnixListener::from_std(control).context("cannot hand the control socket to tokio")?;
        tokio::spawn(control_socket::serve(control, operations.clone()));
    }
    info!("serving");
    ready();
    let heed = |request| {
        match request {
            Request::Drain => operations.drain(None),
            // The log says what came of it.
            Request::Reload => _ = operations.reload(),
            Request::Terminate => return operations.terminate(),
        }
        ControlFlow::Continue(())
    };
    let died = tokio::select! {
        () = signals.last(heed) => None,
        () = operations.drained_for_good() => None,
        () = any(ended) => {
            error!("a worker ended: clients are sent away, and the program ends");
            None
        }
        died = &mut signaling => {
            error!("signalling ended: the program ends");
            Some(died)
        }
    };
    tokio::spawn(signals.abort_on_second());
    let drained = match died {
        Some(died) => died,
        None => {
            let _ = end.send(());
            signaling.await
        }
    };
    let stopped = tokio::task::spawn_blocking(|| threads.into_iter().try_for_each(|thread| thread.stop()));
    stopped.await??;
    drained.context("signalling panicked; the log says where")?;
    info!("ended");
    Ok(())
}

/// Ready when the first of them is.
async fn any(ended: Vec<oneshot::Receiver<()>>) {
    let mut ended: Vec<_> = ended.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        let one = ended.iter_mut().any(|worker| worker.as_mut().poll(context).is_ready());
        if one { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

fn seed() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("the system has no randomness: {error}"))?;
    Ok(seed)
}
