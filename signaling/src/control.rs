//! The one place where sockets, workers and the clock meet the state machine of the rooms.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datapath::Now;
use livekit_protocol::signal_response::Message;
use sfu::{Command, Event};
use tokio::sync::{Notify, mpsc, watch};

use crate::inbox::{Inbox, InboxSender, SendError, inbox};
use crate::links::LinkCensus;
use crate::livekit::{ConnectionId, Join, JoinRefusal, Output, Request, Rooms, Survey};
use crate::matrix::delayed_leave::Change;
use crate::matrix::{self, Answer, Ask, AskId, Delegation, Seat, Service};
use crate::options::{CommandSink, TurnWithdrawals};

/// How soon a command that found its queue full is offered again.
const RETRY: Duration = Duration::from_millis(20);
/// A disk that has not taken a delegated leave by then does not take it.
const KEEP_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Control {
    state: Mutex<State>,
    /// A deadline moved: the timer task is to look again.
    deadline_moved: Notify,
    /// A delegated leave is not as it was last kept.
    leaves_changed: Notify,
    /// The changes up to this generation are kept.
    leaves_kept: watch::Sender<u64>,
    queued_messages: usize,
}

struct State {
    rooms: Rooms,
    matrix: Option<Service>,
    /// To whoever asks the homeserver; a full queue is a homeserver that does not answer.
    asks: mpsc::Sender<(AskId, Ask)>,
    /// How often changes of delegated leaves were taken.
    leaves_generation: u64,
    workers: Vec<CommandSink>,
    turn_withdrawals: TurnWithdrawals,
    /// Commands that found their queue full and must not be lost.
    backlog: VecDeque<(usize, Command)>,
    connections: BTreeMap<ConnectionId, InboxSender>,
    last_connection: u64,
    commands_lost: u64,
    slow_clients: u64,
}

/// For `/metrics`.
#[derive(Clone, Debug, Default)]
pub struct Census {
    pub rooms: usize,
    pub participants: usize,
    pub connections: usize,
    pub commands_lost: u64,
    pub slow_clients: u64,
    /// `None` without a homeserver.
    pub matrix: Option<matrix::Census>,
}

/// A delegated leave that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelegateRefusal {
    NoHomeserver,
    /// There are too many.
    Full,
    /// It would not survive a restart.
    NotKept,
}

/// The program's edge: the clocks are read here and handed down.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Now {
    Now { instant: Instant::now(), unix: std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default() }
}

impl Control {
    /// What `matrix` asks goes into `asks`, and its answers come back through [`Control::step_matrix`].
    pub fn new(
        rooms: Rooms,
        workers: Vec<CommandSink>,
        turn_withdrawals: TurnWithdrawals,
        matrix: Option<Service>,
        asks: mpsc::Sender<(AskId, Ask)>,
    ) -> Control {
        let queued_messages = rooms.settings().limits.queued_messages;
        Control {
            state: Mutex::new(State {
                rooms,
                matrix,
                asks,
                leaves_generation: 0,
                workers,
                turn_withdrawals,
                backlog: VecDeque::new(),
                connections: BTreeMap::new(),
                last_connection: 0,
                commands_lost: 0,
                slow_clients: 0,
            }),
            deadline_moved: Notify::new(),
            leaves_changed: Notify::new(),
            leaves_kept: watch::Sender::new(u64::MAX),
            queued_messages,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held has been reported already; refusing everybody would make it worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one step of the rooms and does what they want done.
    pub fn step<R>(&self, step: impl FnOnce(&mut Rooms, Now) -> R) -> R {
        self.step_state(|state, now| step(&mut state.rooms, now))
    }

    /// Runs one step of the Matrix side, which may act on the rooms; `None` if there is no homeserver.
    pub fn step_matrix<R>(&self, step: impl FnOnce(&mut Service, &mut Rooms, Now) -> R) -> Option<R> {
        self.step_state(|state, now| Some(step(state.matrix.as_mut()?, &mut state.rooms, now)))
    }

    fn step_state<R>(&self, step: impl FnOnce(&mut State, Now) -> R) -> R {
        let now = now();
        let mut state = self.lock();
        let before = state.deadline(now.instant);
        let result = step(&mut state, now);
        state.dispatch(now);
        let after = state.deadline(now.instant);
        let leaves_changed = state.matrix.as_ref().is_some_and(Service::leaves_changed);
        drop(state);
        if leaves_changed {
            self.leaves_changed.notify_one();
        }
        if after < before || before.is_none() && after.is_some() {
            self.deadline_moved.notify_one();
        }
        result
    }

    /// Lets a client in. Its first messages wait in the inbox.
    pub fn join(&self, join: Join) -> Result<Inbox, JoinRefusal> {
        let now = now();
        let mut state = self.lock();
        state.last_connection += 1;
        let connection = ConnectionId(state.last_connection);
        let (sender, inbox) = inbox(connection, self.queued_messages);
        state.connections.insert(connection, sender);
        let joined = state.rooms.join(now, connection, join);
        let complete = state.dispatch(now);
        if joined.is_err() || !complete {
            state.connections.remove(&connection);
            state.rooms.handle_connection_lost(now, connection);
            state.dispatch(now);
        }
        let leaves_changed = state.matrix.as_ref().is_some_and(Service::leaves_changed);
        drop(state);
        if leaves_changed {
            self.leaves_changed.notify_one();
        }
        self.deadline_moved.notify_one();
        joined?;
        if !complete {
            return Err(JoinRefusal { status: 503, text: "server is at its limit" });
        }
        Ok(inbox)
    }

    pub fn handle_request(&self, connection: ConnectionId, request: Request) {
        self.step(|rooms, now| rooms.handle_request(now, connection, request));
    }

    pub fn handle_connection_lost(&self, connection: ConnectionId) {
        self.step(|rooms, now| rooms.handle_connection_lost(now, connection));
        self.lock().connections.remove(&connection);
    }

    pub fn census(&self) -> Census {
        let state = self.lock();
        Census {
            rooms: state.rooms.room_count(),
            participants: state.rooms.participant_count(),
            connections: state.connections.len(),
            commands_lost: state.commands_lost,
            slow_clients: state.slow_clients,
            matrix: state.matrix.as_ref().map(Service::census),
        }
    }

    pub fn link_census(&self) -> LinkCensus {
        self.lock().rooms.link_census()
    }

    /// What an operator is shown, the participants of the rooms in `sids` included.
    pub fn survey(&self, sids: &[&str]) -> Survey {
        self.step_state(|state, _| {
            let matrix = state.matrix.as_ref();
            state.rooms.survey(sids, |room_id| matrix?.room_name(room_id).map(str::to_owned))
        })
    }

    /// Takes over a delayed leave. Returns when it will survive a restart of ours.
    pub async fn delegate(&self, seat: Seat, delegation: Delegation) -> Result<(), DelegateRefusal> {
        let delegated = self.step_state(|state, now| {
            let service = state.matrix.as_mut()?;
            let delegated = service.appservice(|appservice| appservice.leaves.delegate(now, seat, delegation));
            Some((delegated, state.leaves_generation + 1))
        });
        let generation = match delegated {
            None => return Err(DelegateRefusal::NoHomeserver),
            Some((Err(_), _)) => return Err(DelegateRefusal::Full),
            Some((Ok(()), generation)) => generation,
        };
        let mut kept = self.leaves_kept.subscribe();
        let waited = tokio::time::timeout(KEEP_TIMEOUT, kept.wait_for(|kept| *kept >= generation)).await;
        if matches!(waited, Ok(Ok(_))) { Ok(()) } else { Err(DelegateRefusal::NotKept) }
    }

    /// From now on somebody keeps what [`Control::leave_changes`] tells.
    pub fn keep_leaves(&self) {
        self.leaves_kept.send_replace(0);
    }

    /// What is to be kept next, as soon as there is something, with its generation.
    pub async fn leave_changes(&self) -> (u64, Vec<Change>) {
        loop {
            let taken = self.step_state(|state, _| {
                let changes = state.matrix.as_mut()?.take_leave_changes();
                state.leaves_generation += u64::from(!changes.is_empty());
                (!changes.is_empty()).then_some((state.leaves_generation, changes))
            });
            match taken {
                Some(taken) => return taken,
                None => self.leaves_changed.notified().await,
            }
        }
    }

    pub fn leaves_kept(&self, generation: u64) {
        self.leaves_kept.send_replace(generation);
    }

    pub fn leaves_not_kept(&self, seats: Vec<Seat>) {
        self.step_matrix(|service, _, _| service.retake_leave_changes(seats));
    }

    /// Feeds the SFU's events in, until there are no more.
    pub async fn run_events(&self, mut events: mpsc::Receiver<Event>) {
        let mut batch = Vec::new();
        while events.recv_many(&mut batch, 64).await > 0 {
            self.step(|rooms, now| {
                for event in batch.drain(..) {
                    rooms.handle_event(now, event);
                }
            });
        }
    }

    /// Wakes the rooms when they asked for it. Never ends.
    pub async fn run_timers(&self) {
        loop {
            let deadline = self.lock().deadline(now().instant);
            match deadline {
                None => self.deadline_moved.notified().await,
                Some(at) => {
                    tokio::select! {
                        () = self.deadline_moved.notified() => {}
                        () = tokio::time::sleep_until(at.into()) => {
                            self.step_state(State::handle_timeout);
                        }
                    }
                }
            }
        }
    }
}

impl State {
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let rooms = self.rooms.poll_timeout();
        let matrix = self.matrix.as_ref().and_then(Service::poll_timeout);
        let retry = (!self.backlog.is_empty()).then(|| now + RETRY);
        [rooms, matrix, retry].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Now) {
        self.rooms.handle_timeout(now);
        if let Some(matrix) = &mut self.matrix {
            matrix.handle_timeout(now);
        }
    }

    /// False if a command was lost.
    fn dispatch(&mut self, now: Now) -> bool {
        let mut complete = true;
        while let Some((worker, command)) = self.backlog.pop_front() {
            if !self.offer(worker, command.clone()) {
                self.backlog.push_front((worker, command));
                break;
            }
        }
        loop {
            let asked = self.dispatch_matrix(now);
            let outputs = self.rooms.take_outputs();
            if outputs.is_empty() && !asked {
                return complete;
            }
            for output in outputs {
                match output {
                    Output::Command { worker, command } => {
                        complete &= self.command(now, worker, command);
                    }
                    Output::Send { connection, message } => self.send(now, connection, message),
                    Output::Presence { seat, presence } => {
                        if let Some(service) = &mut self.matrix {
                            service.appservice(|appservice| appservice.handle_presence(now, &seat, presence));
                        }
                    }
                    Output::WithdrawTurn { users, time } => (self.turn_withdrawals)(users, time),
                    Output::Close { connection } => {
                        self.connections.remove(&connection);
                    }
                }
            }
        }
    }

    /// False if the Matrix side wanted nothing.
    fn dispatch_matrix(&mut self, now: Now) -> bool {
        let Some(service) = &mut self.matrix else {
            return false;
        };
        let outputs = service.take_outputs();
        let any = !outputs.is_empty();
        for output in outputs {
            match output {
                matrix::Output::Ask { id, ask } => {
                    if self.asks.try_send((id, ask)).is_err() {
                        service.handle_answer(now, id, &Answer::Unreachable);
                    }
                }
                matrix::Output::Depart { room_id, user_id } => {
                    let sessions = self.rooms.remove_member(now, &room_id, &user_id);
                    service.appservice(|appservice| appservice.count_removed(sessions));
                }
            }
        }
        any
    }

    fn offer(&mut self, worker: usize, command: Command) -> bool {
        match self.workers.get_mut(worker) {
            Some(sink) => sink(command),
            None => false,
        }
    }

    fn command(&mut self, now: Now, worker: usize, command: Command) -> bool {
        if must_arrive(&command) {
            // In order among themselves.
            if !self.backlog.is_empty() || !self.offer(worker, command.clone()) {
                self.put_by(worker, command);
            }
            return true;
        }
        let participant = command.participant();
        let may_be_lost = matches!(command, Command::SendData { .. });
        if self.offer(worker, command) {
            return true;
        }
        self.commands_lost += 1;
        // A lost message is one; anything else and the SFU is no longer what we believe it to be.
        if let Some(participant) = participant.filter(|_| !may_be_lost) {
            self.rooms.handle_command_lost(now, participant);
        }
        false
    }

    fn put_by(&mut self, worker: usize, command: Command) {
        if let Command::SetMuted { track, .. } = command {
            // However often a client says so while it waits, the last word counts.
            let of_it =
                |waiting: &Command| matches!(waiting, Command::SetMuted { track: other, .. } if *other == track);
            self.backlog.retain(|(_, waiting)| !of_it(waiting));
        }
        self.backlog.push_back((worker, command));
    }

    fn send(&mut self, now: Now, connection: ConnectionId, message: Message) {
        let Some(sender) = self.connections.get(&connection) else {
            return;
        };
        match sender.send(message) {
            Ok(()) => {}
            Err(SendError::Closed) => {
                self.connections.remove(&connection);
            }
            // It may come back when it reads.
            Err(SendError::Full) => {
                self.slow_clients += 1;
                self.connections.remove(&connection);
                self.rooms.handle_connection_lost(now, connection);
            }
        }
    }
}

/// Without it something would live on in the SFU for ever, or be heard although it is muted.
fn must_arrive(command: &Command) -> bool {
    matches!(
        command,
        Command::Leave { .. } | Command::Unpublish { .. } | Command::Unsubscribe { .. } | Command::SetMuted { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use datapath::Entropy;
    use sfu::{ParticipantId, TrackId};

    use super::*;
    use crate::livekit::Settings;
    use crate::options::{Limits, RoomDefaults};
    use crate::test_clock::start;

    fn control(worker: CommandSink) -> Control {
        let settings = Settings {
            api_keys: BTreeMap::new(),
            candidates: Vec::new(),
            tcp_candidates: Vec::new(),
            fingerprint: sfu::Fingerprint([0; 32]),
            turn: None,
            limits: Limits::default(),
            room_defaults: RoomDefaults::default(),
            workers: 1,
            node_id: "ND_test".into(),
        };
        let rooms = Rooms::new(settings, Entropy::from_seed([0; 32]));
        Control::new(rooms, vec![worker], Box::new(|_, _| {}), None, mpsc::channel(1).0)
    }

    #[test]
    fn what_must_arrive_waits_in_order_while_the_queue_is_full() {
        let queue: Arc<Mutex<Option<Vec<Command>>>> = Arc::default();
        let worker = queue.clone();
        let control = control(Box::new(move |command| match &mut *worker.lock().unwrap() {
            Some(queue) => {
                queue.push(command);
                true
            }
            None => false,
        }));
        let (participant, one, other) = (ParticipantId(1), TrackId(2), TrackId(3));
        let mut state = control.lock();
        for command in [
            Command::SetMuted { track: one, muted: true },
            Command::SetMuted { track: other, muted: true },
            Command::SetMuted { track: one, muted: false },
            Command::SetMuted { track: one, muted: true },
            Command::Leave { participant },
        ] {
            assert!(state.command(start(), 0, command));
        }
        state.dispatch(start());
        *queue.lock().unwrap() = Some(Vec::new());
        state.dispatch(start());
        let arrived = queue.lock().unwrap().take().unwrap();
        let expected = [
            Command::SetMuted { track: other, muted: true },
            Command::SetMuted { track: one, muted: true },
            Command::Leave { participant },
        ];
        assert_eq!(arrived, expected);
        assert_eq!(state.commands_lost, 0);
    }
}
