//! What is known about the homeserver's side for longer than one request: the one object that the sockets feed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datapath::Now;

use super::delayed_leave::{self, Change, JobId, Record};
use super::introduction::{Finding, Question};
use super::tokens::Tokens;
use super::{Answer, Appservice, Ask, AskId, Census, Limits, Seat, ServerName, Settings, segment};

/// A homeserver that did not answer is asked again after this.
const INTRODUCTION_RETRY: Duration = Duration::from_secs(5);

const DELAYED_EVENTS: &str = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events";

/// What the service wants done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Ask the homeserver; the answer comes back through [`Service::handle_answer`].
    Ask { id: AskId, ask: Ask },
    /// A user is no longer in a room: its sessions there are to end.
    Depart { room_id: String, user_id: String },
}

/// Why something was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Introduction(Question),
    /// To put a delegated leave off, or to send it.
    Leave(JobId),
}

pub struct Service {
    settings: Settings,
    /// Numbers are ours.
    asked: BTreeMap<AskId, Purpose>,
    last_ask: u64,
    introduce_at: Option<Instant>,
    /// Whether it was told that the homeserver does not answer.
    is_waiting: bool,
    appservice: Appservice,
    pub(super) tokens: Tokens,
    out: Vec<Output>,
}

impl Service {
    /// `leaves`: what an earlier run owed.
    pub fn new(now: Now, settings: Settings, leaves: Vec<Record>) -> Service {
        let urls = [settings.service_url.as_str(), settings.websocket_url.as_str()];
        let appservice = Appservice::new(now, &settings.server_name, &urls, Limits::default(), leaves);
        Service {
            settings,
            asked: BTreeMap::new(),
            last_ask: 0,
            introduce_at: Some(now.instant),
            is_waiting: false,
            appservice,
            tokens: Tokens::default(),
            out: Vec::new(),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the last inputs want done, in order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// Runs one step of the appservice, and takes up what it wants done.
    pub fn appservice<R>(&mut self, step: impl FnOnce(&mut Appservice) -> R) -> R {
        let result = step(&mut self.appservice);
        for call in self.appservice.leaves.take_calls() {
            let path = format!("{DELAYED_EVENTS}/{}/{}", segment(&call.delay_id), call.action.name());
            self.ask(Purpose::Leave(call.job), Ask::post(path, serde_json::json!({})));
        }
        for (room_id, user_id) in self.appservice.take_departures() {
            self.out.push(Output::Depart { room_id, user_id });
        }
        result
    }

    pub(super) fn seen_user(&self, room_id: &str, user_id: &str) -> Option<bool> {
        self.appservice.is_joined(room_id, user_id)
    }

    pub(super) fn seen_server(&self, room_id: &str, server: &ServerName) -> Option<bool> {
        self.appservice.is_server_joined(room_id, server)
    }

    pub fn leaves_changed(&self) -> bool {
        self.appservice.leaves.has_changes()
    }

    pub fn take_leave_changes(&mut self) -> Vec<Change> {
        self.appservice.leaves.take_changes()
    }

    pub fn retake_leave_changes(&mut self, seats: Vec<Seat>) {
        self.appservice.leaves.retake_changes(seats);
    }

    pub fn room_name(&self, room_id: &str) -> Option<&str> {
        self.appservice.room_name(room_id)
    }

    pub fn census(&self) -> Census {
        Census { tokens: self.token_census(), ..self.appservice.census() }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.introduce_at, self.appservice.poll_timeout()].into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Now) {
        self.appservice(|appservice| appservice.handle_timeout(now));
        if self.introduce_at.is_some_and(|at| at <= now.instant) {
            self.introduce_at = None;
            self.introduce(Question::AsToken);
        }
    }

    pub fn handle_answer(&mut self, now: Now, id: AskId, answer: &Answer) {
        match self.asked.remove(&id) {
            None => {}
            Some(Purpose::Introduction(question)) => self.handle_introduction(now, question, answer),
            Some(Purpose::Leave(job)) => {
                let answer = match answer.status() {
                    Some(status) => delayed_leave::Answer::from_status(status, answer.retry_after()),
                    None => delayed_leave::Answer::Failed,
                };
                self.appservice(|appservice| appservice.leaves.handle_answer(now, job, answer));
            }
        }
    }

    fn ask(&mut self, purpose: Purpose, ask: Ask) {
        self.last_ask += 1;
        let id = AskId(self.last_ask);
        self.asked.insert(id, purpose);
        self.out.push(Output::Ask { id, ask });
    }

    fn handle_introduction(&mut self, now: Now, question: Question, answer: &Answer) {
        match question.judge(answer) {
            Finding::Fine if question == Question::AsToken => {
                tracing::info!("the homeserver knows this appservice");
                self.introduce(Question::OpenId);
                self.introduce(Question::Membership);
            }
            Finding::Fine => {}
            Finding::Trouble(text) => tracing::error!("{text}"),
            Finding::Lack(text) => tracing::warn!("{text}"),
            Finding::NoAnswer => {
                if question == Question::AsToken && !self.is_waiting {
                    tracing::warn!("the homeserver at matrix.homeserver does not answer; calls wait for it");
                }
                self.is_waiting = true;
                self.introduce_at = Some(now.instant + INTRODUCTION_RETRY);
                return;
            }
        }
        self.is_waiting = false;
    }

    fn introduce(&mut self, question: Question) {
        let ask = question.ask(&self.settings);
        self.ask(Purpose::Introduction(question), ask);
    }
}
