//! The rooms under test, a clock that the test moves, and everything that came out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use datapath::{Entropy, Now};
use livekit_protocol::signal_request::Message as Asked;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{ConnectionSettings, JoinRequest, SessionDescription};
use sfu::{Command, Event, Fingerprint, ParticipantId};
use signaling::livekit::token::{Claims, VideoGrant};
use signaling::livekit::{ConnectionId, Join, JoinRefusal, Opening, Output, Request, Rooms, Settings};
use signaling::matrix::{Member, Presence};
use signaling::{Limits, RoomDefaults, Turn};
use tokio::sync::watch;

use crate::client::Client;

pub struct House {
    pub rooms: Rooms,
    start: Instant,
    elapsed: Duration,
    connections: u64,
    inboxes: BTreeMap<ConnectionId, Vec<Told>>,
    pub closed: BTreeSet<ConnectionId>,
    pub commands: Vec<Command>,
    /// What was told to whom, in order over all clients.
    pub log: Vec<(ConnectionId, Told)>,
    /// What the Matrix side was told.
    pub presences: Vec<(String, Presence)>,
    /// Whose TURN credentials were taken back.
    pub withdrawn: Vec<String>,
}

pub const TURN_TTL: Duration = Duration::from_secs(3600);

pub fn settings() -> Settings {
    Settings {
        api_keys: BTreeMap::from([("devkey".to_owned(), "secret".to_owned())]),
        candidates: vec!["192.0.2.1:3478".parse().unwrap()],
        tcp_candidates: Vec::new(),
        fingerprint: Fingerprint([7; 32]),
        turn: Some(Turn {
            secret: watch::channel("turn secret".to_owned()).1,
            urls: vec!["turn:192.0.2.1:3479?transport=udp".into()],
            ttl: TURN_TTL,
        }),
        limits: Limits::default(),
        room_defaults: RoomDefaults::default(),
        workers: 1,
        node_id: "ND_test".into(),
    }
}

pub fn claims(identity: &str) -> Claims {
    Claims {
        iss: "devkey".into(),
        sub: identity.into(),
        name: identity.to_uppercase(),
        exp: Some(1_000_000_000 + 3600),
        video: Some(VideoGrant {
            room_join: true,
            room: "kitchen".into(),
            can_update_own_metadata: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Claims for a user of the Matrix room `!kitchen`.
pub fn member_claims(user: &str, device: &str) -> Claims {
    let user_id = format!("@{user}:example.org");
    let member = Member { room_id: "!kitchen".into(), user_id: user_id.clone(), device_id: device.into() };
    Claims { matrix: Some(member), ..claims(&format!("{user_id}:{device}")) }
}

pub fn request() -> JoinRequest {
    JoinRequest {
        connection_settings: Some(ConnectionSettings {
            auto_subscribe: true,
            adaptive_stream: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

impl House {
    pub fn new() -> House {
        House::with(settings())
    }

    #[allow(clippy::disallowed_methods)] // Some instant to count from; the clock is the test's.
    pub fn with(settings: Settings) -> House {
        House {
            rooms: Rooms::new(settings, Entropy::from_seed([3; 32])),
            start: Instant::now(),
            elapsed: Duration::ZERO,
            connections: 0,
            inboxes: BTreeMap::new(),
            closed: BTreeSet::new(),
            commands: Vec::new(),
            log: Vec::new(),
            presences: Vec::new(),
            withdrawn: Vec::new(),
        }
    }

    pub fn now(&self) -> Now {
        Now { instant: self.start + self.elapsed, unix: Duration::from_secs(1_000_000_000) + self.elapsed }
    }

    /// Lets time pass, waking the rooms whenever they asked for it.
    pub fn pass(&mut self, time: Duration) {
        let until = self.elapsed + time;
        while let Some(at) = self.rooms.poll_timeout() {
            let at = at.saturating_duration_since(self.start);
            if at > until {
                break;
            }
            self.elapsed = self.elapsed.max(at);
            let now = self.now();
            self.rooms.handle_timeout(now);
            self.collect();
        }
        self.elapsed = until;
    }

    fn collect(&mut self) {
        for output in self.rooms.take_outputs() {
            match output {
                Output::Command { worker, command } => {
                    assert_eq!(worker, 0);
                    self.commands.push(command);
                }
                Output::Send { connection, message } => {
                    assert!(!self.closed.contains(&connection), "told after the close");
                    self.log.push((connection, message.clone()));
                    self.inboxes.entry(connection).or_default().push(message);
                }
                Output::Presence { seat, presence } => self.presences.push((seat.identity, presence)),
                Output::WithdrawTurn { users, time } => {
                    assert_eq!(time, TURN_TTL);
                    self.withdrawn.extend(users);
                }
                Output::Close { connection } => {
                    assert!(self.closed.insert(connection), "closed twice");
                }
            }
        }
    }

    pub fn connect(&mut self, claims: Claims, request: JoinRequest) -> Result<ConnectionId, JoinRefusal> {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let now = self.now();
        let joined = self.rooms.join(now, connection, Join::new(claims, request, Opening::AsConfigured));
        self.collect();
        joined.map(|()| connection)
    }

    /// Joins with the offer in the request, as browsers do.
    pub fn join(&mut self, identity: &str) -> Client {
        self.join_as(claims(identity), request())
    }

    pub fn join_as(&mut self, claims: Claims, mut request: JoinRequest) -> Client {
        let mut client = Client::new(claims.identity());
        request.publisher_offer =
            Some(SessionDescription { r#type: "offer".into(), sdp: client.sdp(), id: 1, ..Default::default() });
        client.connection = self.connect(claims, request).unwrap();
        client.hear(self.take(client.connection));
        client.participant = self
            .commands
            .iter()
            .rev()
            .find_map(|command| match command {
                Command::Join { participant, .. } => Some(*participant),
                _ => None,
            })
            .unwrap();
        client
    }

    /// Joins and is connected.
    pub fn arrive(&mut self, identity: &str) -> Client {
        let client = self.join(identity);
        self.connected(&client);
        client
    }

    pub fn connected(&mut self, client: &Client) {
        self.event(Event::Connected { participant: client.participant, remote: "198.51.100.1:50000".parse().unwrap() });
    }

    pub fn event(&mut self, event: Event) {
        let now = self.now();
        self.rooms.handle_event(now, event);
        self.collect();
    }

    pub fn ask(&mut self, client: &Client, message: Asked) {
        self.ask_on(client.connection, Request::Other(message));
    }

    pub fn ask_on(&mut self, connection: ConnectionId, request: Request) {
        let now = self.now();
        self.rooms.handle_request(now, connection, request);
        self.collect();
    }

    /// Sends the client's present offer and hears the answer.
    pub fn offer(&mut self, client: &mut Client) {
        client.offer_id += 1;
        let offer = Asked::Offer(SessionDescription {
            r#type: "offer".into(),
            sdp: client.sdp(),
            id: client.offer_id,
            ..Default::default()
        });
        let request = livekit_protocol::SignalRequest { message: Some(offer) };
        self.ask_on(client.connection, request.into());
        client.hear(self.take(client.connection));
    }

    pub fn lose(&mut self, client: &Client) {
        let now = self.now();
        self.rooms.handle_connection_lost(now, client.connection);
        self.collect();
    }

    pub fn drain(&mut self) {
        let now = self.now();
        self.rooms.drain(now);
        self.collect();
    }

    pub fn step<R>(&mut self, step: impl FnOnce(&mut Rooms, Now) -> R) -> R {
        let now = self.now();
        let result = step(&mut self.rooms, now);
        self.collect();
        result
    }

    /// What this connection was told since the last time.
    pub fn take(&mut self, connection: ConnectionId) -> Vec<Told> {
        self.inboxes.remove(&connection).unwrap_or_default()
    }

    pub fn told(&mut self, client: &Client) -> Vec<Told> {
        self.take(client.connection)
    }

    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Hears what came, answers requirements with offers until nothing more is asked for.
    pub fn settle(&mut self, clients: &mut [&mut Client]) {
        loop {
            self.pass(Duration::from_millis(200));
            let mut quiet = true;
            for client in clients.iter_mut() {
                let told = self.take(client.connection);
                if client.hear(told) {
                    quiet = false;
                    self.offer(client);
                }
            }
            if quiet {
                return;
            }
        }
    }

    pub fn leaves(&self, participant: ParticipantId) -> bool {
        self.commands.contains(&Command::Leave { participant })
    }
}
