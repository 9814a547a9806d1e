//! The load generator: joins rooms over LiveKit's protocol, publishes, subscribes, counts.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Queue, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::client::{Client, Identity};
use crate::process;
use crate::receiver::Totals;
use crate::recordings::Recordings;
use crate::sdp::Kind;
use crate::session::{MediaCommand, Session, SessionCommand};
use crate::socket::{Arena, Poller};
use crate::source::Pacing;
use crate::token::token;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where the server listens, ws:// only
    #[arg(long, default_value = "ws://127.0.0.1:7880")]
    pub url: String,
    #[arg(long, default_value = "devkey")]
    pub key: String,
    #[arg(long, default_value = "secret")]
    pub secret: String,
    /// Name of the room, or the beginning of the names when there are several
    #[arg(long, default_value = "load")]
    pub room: String,
    #[arg(long, default_value_t = 1)]
    pub rooms: usize,
    /// Participants per room that publish
    #[arg(long, default_value_t = 1)]
    pub publishers: usize,
    /// Participants per room that only subscribe
    #[arg(long, default_value_t = 1)]
    pub subscribers: usize,
    /// Publishers subscribe to each other, and to everybody else in the room
    #[arg(long)]
    pub publishers_subscribe: bool,
    /// Participants per room that neither publish nor subscribe
    #[arg(long, default_value_t = 0)]
    pub bystanders: usize,
    /// Publish three encodings: 180, 360 and 720 lines
    #[arg(long)]
    pub simulcast: bool,
    /// Publish this recording instead of made-up video: VP8 with three temporal layers at 30 frames a second (IVF). Twice
    /// or three times: the encodings of a simulcast, the smallest first. A clip begins with the last keyframe of its
    /// file, repeats without one, and begins anew when a keyframe is asked for
    #[arg(long, value_name = "FILE", conflicts_with = "simulcast")]
    pub video: Vec<PathBuf>,
    /// Publish this recording instead of made-up audio: Opus in packets of 20 ms (Ogg), with a voice all the time
    #[arg(long, value_name = "FILE")]
    pub voice: Option<PathBuf>,
    /// So many of a room's publishers have audio; all by default
    #[arg(long)]
    pub speakers: Option<usize>,
    /// Publish no audio
    #[arg(long)]
    pub no_audio: bool,
    /// Publish no video
    #[arg(long)]
    pub no_video: bool,
    /// How the packets of a video frame leave
    #[arg(long, value_enum, default_value_t = Pacing::Train)]
    pub pacing: Pacing,
    /// Offer no transport-wide feedback about what is received: reports and REMB have to do
    #[arg(long)]
    pub reports_only: bool,
    /// Seconds from the moment when everybody is connected and receives to the start of the measurement
    #[arg(long, default_value_t = 1.0)]
    pub settle: f64,
    /// Seconds of the measurement
    #[arg(long, default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds within which everybody must be connected and receive
    #[arg(long, default_value_t = 30.0)]
    pub join_timeout: f64,
    /// Joins per second
    #[arg(long, default_value_t = 100.0)]
    pub join_rate: f64,
    /// Local address of the clients' UDP sockets
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// Process whose CPU time and memory are measured: the server
    #[arg(long)]
    pub pid: Option<u32>,
    /// Beginning of the participants' identities
    #[arg(long, default_value = "load")]
    pub identity: String,
}

/// The line that a run prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub clients: usize,
    pub connected: usize,
    /// Clients whose three data channels are open.
    pub data_channels: usize,
    /// Tracks that subscribers should get, were told of, and got packets of.
    pub tracks_expected: usize,
    pub tracks_signalled: usize,
    pub tracks_flowing: usize,
    /// From the first join until everybody was connected and received.
    pub join_ms: u64,
    pub window_ms: u64,
    pub video_packets_sent: u64,
    pub audio_packets_sent: u64,
    #[serde(flatten)]
    pub window: Totals,
    pub bad_starts_total: u64,
    /// CPU time of the server over the window.
    pub server_cpu_ns: Option<u64>,
    pub server_ns_per_packet: Option<f64>,
    pub server_rss_before: Option<u64>,
    pub server_rss: Option<u64>,
    pub generator_cpu_ns: u64,
    pub ended: Vec<String>,
}

pub fn run(options: &Options) -> Result<Report> {
    let mut run = Run::start(options)?;
    run.join()?;
    MEASURING.store(true, Ordering::Relaxed);
    run.pass(Duration::from_secs_f64(options.settle))?;
    let report = run.measure()?;
    MEASURING.store(false, Ordering::Relaxed);
    run.leave()?;
    Ok(report)
}

struct Run<'a> {
    options: &'a Options,
    identity: Identity,
    clients: Vec<Client>,
    sessions: Vec<UnboundedSender<SessionCommand>>,
    /// Sessions that wait for their turn to join.
    waiting: std::vec::IntoIter<Box<dyn FnOnce() + Send>>,
    commands: Queue<MediaCommand>,
    poller: Poller,
    arena: Arena,
    ready: Vec<u64>,
    totals: Totals,
    rss_before: Option<u64>,
    started: Instant,
    joined: Instant,
}

#[allow(clippy::disallowed_methods)] // a program at the edge: the generator lives in real time
fn now() -> Instant {
    Instant::now()
}

impl<'a> Run<'a> {
    fn start(options: &'a Options) -> Result<Run<'a>> {
        let rss_before = options.pid.map(process::resident_bytes).transpose()?;
        let recordings = Recordings::open(options)?;
        let identity = Identity::generate()?;
        let (media, commands) = channel();
        let runtime = runtime()?;
        let poller = Poller::new()?;
        let mut clients = Vec::new();
        let mut sessions = Vec::new();
        let mut waiting: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
        for room in 0..options.rooms {
            let room_name = match options.rooms {
                1 => options.room.clone(),
                _ => format!("{}-{room}", options.room),
            };
            for member in 0..options.publishers + options.subscribers + options.bystanders {
                let publishes = member < options.publishers;
                let subscribes = !publishes && member < options.publishers + options.subscribers;
                let client = clients.len();
                let publications = if publishes { recordings.publications(options, member)? } else { Vec::new() };
                let phase = Duration::from_micros(client as u64 * 7_919 % 33_333);
                let address = SocketAddr::new(options.bind, 0);
                let mut made = Client::new(address, &identity, publications, phase, now())?;
                made.local.reports_only = options.reports_only;
                poller.add(&made.socket, client as u64)?;
                let name = format!("{}-{client}", options.identity);
                let session = Session {
                    client,
                    url: options.url.clone(),
                    token: token(&options.key, &options.secret, &room_name, &name)?,
                    auto_subscribe: subscribes || publishes && options.publishers_subscribe,
                    publications: made.publications.clone(),
                    local: made.local.clone(),
                    media: media.clone(),
                };
                clients.push(made);
                let (sender, receiver) = unbounded_channel();
                sessions.push(sender);
                let handle = runtime.clone();
                waiting.push(Box::new(move || {
                    handle.spawn(session.run(receiver));
                }));
            }
        }
        let started = now();
        Ok(Run {
            options,
            identity,
            clients,
            sessions,
            waiting: waiting.into_iter(),
            commands,
            poller,
            arena: Arena::default(),
            ready: Vec::new(),
            totals: Totals::default(),
            rss_before,
            started,
            joined: started,
        })
    }

    /// (expected, signalled, flowing) over all subscribers.
    fn tracks(&self) -> (usize, usize, usize) {
        let options = self.options;
        // What a subscriber that does not publish gets, and what the publishers get that do not get their own.
        let speakers = if options.no_audio { 0 } else { options.speakers() };
        let cameras = if options.no_video { 0 } else { options.publishers };
        let mut tracks = options.subscribers * (speakers + cameras);
        if options.publishers_subscribe {
            tracks += options.publishers.saturating_sub(1) * (speakers + cameras);
        }
        let (signalled, flowing) = self
            .clients
            .iter()
            .map(|client| client.receiver.tracks())
            .fold((0, 0), |sum, tracks| (sum.0 + tracks.0, sum.1 + tracks.1));
        (tracks * options.rooms, signalled, flowing)
    }

    fn join(&mut self) -> Result<()> {
        let deadline = self.started + Duration::from_secs_f64(self.options.join_timeout);
        let gap = Duration::from_secs_f64(1.0 / self.options.join_rate.max(0.1));
        let mut next_join = self.started;
        loop {
            let now = self.turn()?;
            if now >= next_join
                && let Some(join) = self.waiting.next()
            {
                join();
                next_join += gap;
            }
            let connected = self.clients.iter().filter(|client| client.connected).count();
            let (expected, _, flowing) = self.tracks();
            if connected == self.clients.len() && flowing >= expected {
                self.joined = now;
                return Ok(());
            }
            let ended: Vec<_> = self.clients.iter().filter_map(|client| client.ended.as_deref()).collect();
            ensure!(ended.is_empty(), "a session ended while joining: {}", ended[0]);
            ensure!(
                now < deadline,
                "after {} s only {connected} of {} are connected and {flowing} of {expected} tracks flow; {}",
                self.options.join_timeout,
                self.clients.len(),
                serde_json::to_string(&self.totals)?
            );
        }
    }

    fn pass(&mut self, time: Duration) -> Result<()> {
        let end = now() + time;
        while self.turn()? < end {}
        Ok(())
    }

    fn measure(&mut self) -> Result<Report> {
        let options = self.options;
        let cpu = || options.pid.map(process::cpu_ns).transpose();
        let own = std::process::id();
        let (totals, sent) = (self.totals, self.sent());
        let (server, generator, begun) = (cpu()?, process::cpu_ns(own)?, now());
        self.pass(Duration::from_secs_f64(options.duration))?;
        let server = cpu()?.zip(server).map(|(end, start)| end - start);
        let generator_cpu_ns = process::cpu_ns(own)? - generator;
        let window_ms = now().duration_since(begun).as_millis() as u64;
        let window = self.totals.since(&totals);
        let sent_end = self.sent();
        let packets = window.video_packets + window.audio_packets + window.retransmissions;
        let (tracks_expected, tracks_signalled, tracks_flowing) = self.tracks();
        let ended = self.clients.iter().filter_map(|client| client.ended.clone());
        Ok(Report {
            clients: self.clients.len(),
            connected: self.clients.iter().filter(|client| client.connected).count(),
            data_channels: self.clients.iter().filter(|client| client.has_data_channels()).count(),
            tracks_expected,
            tracks_signalled,
            tracks_flowing,
            join_ms: self.joined.duration_since(self.started).as_millis() as u64,
            window_ms,
            video_packets_sent: sent_end.0 - sent.0,
            audio_packets_sent: sent_end.1 - sent.1,
            window,
            bad_starts_total: self.totals.bad_starts,
            server_cpu_ns: server,
            server_ns_per_packet: server.filter(|_| packets > 0).map(|ns| ns as f64 / packets as f64),
            server_rss_before: self.rss_before,
            server_rss: options.pid.map(process::resident_bytes).transpose()?,
            generator_cpu_ns,
            ended: ended.collect(),
        })
    }

    fn sent(&self) -> (u64, u64) {
        let streams = || self.clients.iter().flat_map(|client| &client.streams);
        let of = |kind| {
            let packets = streams().filter(move |s| s.kind == kind);
            packets.map(|stream| u64::from(stream.sent_packets)).sum()
        };
        (of(Kind::Video), of(Kind::Audio))
    }

    fn leave(&mut self) -> Result<()> {
        for session in &self.sessions {
            // A session that has ended needs no word.
            let _ = session.send(SessionCommand::Leave);
        }
        let deadline = now() + Duration::from_secs(2);
        while self.clients.iter().any(|client| client.ended.is_none()) {
            if self.turn()? >= deadline {
                break;
            }
        }
        Ok(())
    }

    /// One round of the loop; returns the time at its beginning.
    fn turn(&mut self) -> Result<Instant> {
        let at = now();
        while let Ok(command) = self.commands.try_recv() {
            self.handle_command(command, at);
        }
        let mut wake = at + ROUND_MAX;
        for (client, session) in self.clients.iter_mut().zip(&self.sessions) {
            if client.handle_timeout(at, &mut self.totals)? {
                let _ = session.send(SessionCommand::Connected);
            }
            if let Some(next) = client.send_media(at, self.options.pacing) {
                wake = wake.min(next);
            }
        }
        self.poller.ready(&mut self.ready)?;
        for &key in &self.ready {
            let client = &mut self.clients[key as usize];
            let socket = Rc::clone(&client.socket);
            let mut connected = false;
            let mut failure = None;
            while self.arena.receive(&socket, |from, datagram| {
                match client.handle(at, from, datagram, &self.identity, &mut self.totals) {
                    Ok(now_connected) => connected |= now_connected,
                    Err(error) => failure = Some(error),
                }
            })? {}
            if let Some(error) = failure {
                client.ended.get_or_insert(format!("{error:#}"));
            }
            if connected {
                let _ = self.sessions[key as usize].send(SessionCommand::Connected);
            }
        }
        // Sleeping instead of waiting for the next datagram gathers what arrives meanwhile.
        std::thread::sleep(wake.saturating_duration_since(now()));
        Ok(at)
    }

    fn handle_command(&mut self, command: MediaCommand, now: Instant) {
        match command {
            MediaCommand::Connect { client, answer } => self.clients[client].connect(answer, now),
            MediaCommand::Candidate { client, address } => {
                self.clients[client].add_candidate(address);
            }
            MediaCommand::Negotiated { client, sections } => {
                self.clients[client].negotiated(&sections, now);
            }
            MediaCommand::Ended { client, why } => {
                self.clients[client].ended.get_or_insert(why);
            }
        }
    }
}

impl Options {
    /// How many publishers of a room have audio.
    pub fn speakers(&self) -> usize {
        self.speakers.map_or(self.publishers, |speakers| speakers.min(self.publishers))
    }
}

/// The longest round: what arrives is read, and answered, no later. Shorter ones would make fifty clients dearer than the
/// server that is measured with them; a frame comes every 33 ms.
const ROUND_MAX: Duration = Duration::from_millis(8);

/// While this is set the sessions are looked at ten times a second instead of at once. A server on the same machine would
/// otherwise be charged for waking our core with every pong, which costs it more than the pong.
static MEASURING: AtomicBool = AtomicBool::new(false);

/// The control plane of all clients: one thread of its own.
fn runtime() -> Result<tokio::runtime::Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let serve = move || loop {
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(2)).await });
        if MEASURING.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    std::thread::Builder::new().name("signalling".to_owned()).spawn(serve).context("starting the signalling thread")?;
    Ok(handle)
}
