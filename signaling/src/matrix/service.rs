//! What is known about the homeserver's side for longer than one request: the one object that the sockets feed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datapath::Now;

use super::{Answer, Ask, AskId, Settings};

/// A homeserver that did not answer is asked again after this.
const INTRODUCTION_RETRY: Duration = Duration::from_secs(30);

/// What the service wants done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Ask the homeserver; the answer comes back through [`Service::handle_answer`].
    Ask { id: AskId, ask: Ask },
}

/// Why something was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Whether the homeserver knows us. Its answer goes into the log: a wrong token is the commonest mistake.
    Introduction,
}

pub struct Service {
    settings: Settings,
    /// Numbers are ours.
    asked: BTreeMap<AskId, Purpose>,
    last_ask: u64,
    introduce_at: Option<Instant>,
    out: Vec<Output>,
}

impl Service {
    pub fn new(now: Now, settings: Settings) -> Service {
        Service { settings, asked: BTreeMap::new(), last_ask: 0, introduce_at: Some(now.instant), out: Vec::new() }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the last inputs want done, in order.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.introduce_at
    }

    pub fn handle_timeout(&mut self, now: Now) {
        if self.introduce_at.is_some_and(|at| at <= now.instant) {
            self.introduce_at = None;
            self.ask(Purpose::Introduction, Ask::get("/_matrix/client/v3/account/whoami".into()));
        }
    }

    pub fn handle_answer(&mut self, now: Now, id: AskId, answer: &Answer) {
        match self.asked.remove(&id) {
            None => {}
            Some(Purpose::Introduction) => self.handle_introduction(now, answer),
        }
    }

    fn ask(&mut self, purpose: Purpose, ask: Ask) {
        self.last_ask += 1;
        let id = AskId(self.last_ask);
        self.asked.insert(id, purpose);
        self.out.push(Output::Ask { id, ask });
    }

    fn handle_introduction(&mut self, now: Now, answer: &Answer) {
        match answer.status() {
            Some(200..=299) => tracing::info!("the homeserver knows this appservice"),
            Some(401 | 403) => tracing::error!(
                "the homeserver does not know matrix.as_token: compare it with the registration file, and restart the \
                 homeserver if that is new"
            ),
            status => {
                tracing::warn!(?status, "the homeserver at matrix.homeserver does not answer; calls wait for it");
                self.introduce_at = Some(now.instant + INTRODUCTION_RETRY);
            }
        }
    }
}
