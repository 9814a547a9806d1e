//! The leaves under test, a stand-in homeserver that knows delayed events, and a clock that the test moves.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use datapath::Now;
use signaling::matrix::delayed_leave::{Action, Answer, Call, JobId, Record};
use signaling::matrix::{DelayedLeaves, Delegation, Member, Presence, Seat};

/// How long a request takes.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// How long a request waits for a homeserver that does not answer.
const GIVE_UP: Duration = Duration::from_secs(10);

pub struct House {
    pub leaves: DelayedLeaves,
    start: Instant,
    elapsed: Duration,
    /// Requests under way: when they are over, and what comes of them then.
    calls: VecDeque<(Duration, JobId, String, Action)>,
    /// The homeserver's delayed events: after how long, and when, they are sent by themselves.
    pub events: BTreeMap<String, (Duration, Duration)>,
    /// Leaves in the state of rooms, and since when.
    pub left: BTreeMap<String, Duration>,
    /// Every request that reached somebody or nobody.
    pub requests: Vec<(Duration, String, Action)>,
    pub away: bool,
    /// Requests that are answered with 429, and how long they ask us to wait.
    pub limited: usize,
    pub store: BTreeMap<Seat, Record>,
}

pub fn seat(user: &str) -> Seat {
    let user_id = format!("@{user}:example.org");
    let identity = format!("{user_id}:PHONE");
    let member = Member { room_id: "!kitchen".into(), user_id, device_id: "PHONE".into() };
    Seat { member, call: "call".into(), identity }
}

impl House {
    #[allow(clippy::disallowed_methods)] // Some instant to count from; the clock is the test's.
    pub fn new() -> House {
        let start = Instant::now();
        let now = Now { instant: start, unix: unix(Duration::ZERO) };
        House {
            leaves: DelayedLeaves::new(now, 1_000, Vec::new()),
            start,
            elapsed: Duration::ZERO,
            calls: VecDeque::new(),
            events: BTreeMap::new(),
            left: BTreeMap::new(),
            requests: Vec::new(),
            away: false,
            limited: 0,
            store: BTreeMap::new(),
        }
    }

    pub fn now(&self) -> Now {
        Now { instant: self.start + self.elapsed, unix: unix(self.elapsed) }
    }

    /// A client makes a delayed event, and hands it over.
    pub fn delegate(&mut self, user: &str, delay_id: &str, timeout: Duration) {
        self.events.insert(delay_id.into(), (timeout, self.elapsed + timeout));
        let delegation = Delegation::new(delay_id, timeout.as_millis() as u64).unwrap();
        let now = self.now();
        self.leaves.delegate(now, seat(user), delegation).unwrap();
        self.collect();
    }

    pub fn tell(&mut self, user: &str, presence: Presence) {
        let now = self.now();
        self.leaves.handle_presence(now, &seat(user), presence);
        self.collect();
    }

    pub fn end(&mut self, user: &str) -> bool {
        let now = self.now();
        let any = self.leaves.end(now, &seat(user).member);
        self.collect();
        any
    }

    /// What a kill -9 leaves: the store.
    pub fn kill(&mut self, down: Duration) {
        self.calls.clear();
        self.elapsed += down;
        self.homeserver();
        let records = self.store.values().cloned().collect();
        self.leaves = DelayedLeaves::new(self.now(), 1_000, records);
        self.collect();
    }

    /// Lets time pass: for the leaves, for requests, and at the homeserver.
    pub fn pass(&mut self, time: Duration) {
        let until = self.elapsed + time;
        loop {
            let answered = self.calls.iter().map(|(at, ..)| *at).min();
            let wanted = self.leaves.poll_timeout().map(|at| at.saturating_duration_since(self.start));
            let Some(next) = answered.into_iter().chain(wanted).min().filter(|next| *next <= until) else { break };
            assert!(next > self.elapsed || answered == Some(next) || wanted <= Some(self.elapsed), "no progress");
            self.elapsed = self.elapsed.max(next);
            self.homeserver();
            if let Some(index) = self.calls.iter().position(|(at, ..)| *at <= self.elapsed) {
                let (_, job, delay_id, action) = self.calls.remove(index).unwrap();
                let answer = self.answer(&delay_id, action);
                let now = self.now();
                self.leaves.handle_answer(now, job, answer);
            } else {
                let now = self.now();
                self.leaves.handle_timeout(now);
            }
            self.collect();
        }
        self.elapsed = until;
        self.homeserver();
    }

    fn homeserver(&mut self) {
        if self.away {
            return;
        }
        let due: Vec<String> =
            self.events.iter().filter(|(_, (_, at))| *at <= self.elapsed).map(|(id, _)| id.clone()).collect();
        for delay_id in due {
            self.events.remove(&delay_id);
            self.left.insert(delay_id, self.elapsed);
        }
    }

    fn answer(&mut self, delay_id: &str, action: Action) -> Answer {
        if self.away {
            return Answer::Failed;
        }
        if self.limited > 0 {
            self.limited -= 1;
            return Answer::from_status(429, Some(s(7)));
        }
        let Some((timeout, at)) = self.events.get_mut(delay_id) else {
            return Answer::from_status(404, None);
        };
        match action {
            Action::Restart => *at = self.elapsed + *timeout,
            Action::Send => {
                self.events.remove(delay_id);
                self.left.insert(delay_id.to_owned(), self.elapsed);
            }
        }
        Answer::from_status(200, None)
    }

    fn collect(&mut self) {
        for change in self.leaves.take_changes() {
            match change.record {
                Some(record) => {
                    assert_eq!(record.seat, change.seat);
                    self.store.insert(record.seat.clone(), record);
                }
                None => {
                    self.store.remove(&change.seat);
                }
            }
        }
        for Call { job, delay_id, action } in self.leaves.take_calls() {
            self.requests.push((self.elapsed, delay_id.clone(), action));
            let takes = if self.away { GIVE_UP } else { ROUND_TRIP };
            self.calls.push_back((self.elapsed + takes, job, delay_id, action));
        }
    }

    pub fn restarts(&self, delay_id: &str) -> Vec<Duration> {
        let restarts = self.requests.iter().filter(|(_, id, action)| id == delay_id && *action == Action::Restart);
        restarts.map(|(at, ..)| *at).collect()
    }

    pub fn sends(&self, delay_id: &str) -> Vec<Duration> {
        let sends = self.requests.iter().filter(|(_, id, action)| id == delay_id && *action == Action::Send);
        sends.map(|(at, ..)| *at).collect()
    }
}

fn unix(elapsed: Duration) -> Duration {
    Duration::from_secs(1_800_000_000) + elapsed
}

pub fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
