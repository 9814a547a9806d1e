//! Delegated delayed leaves: restarted while their participants are here, sent when they are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use datapath::Now;
use serde::{Deserialize, Serialize};

use super::{Delegation, Member, Presence, Seat};

/// A participant that never comes is given up after this, or after the delegation's own time if that is shorter.
const EXPECTED_MAX: Duration = Duration::from_secs(3600);
/// One that was told to join anew is expected back within this.
const RETURN_MAX: Duration = Duration::from_secs(10);
/// After a start of ours all clients come back, within this.
const GRACE: Duration = Duration::from_secs(30);
/// What the homeserver did not take is tried again after this, then after half as much more each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The longest that a homeserver can make us wait.
const HOLD_MAX: Duration = Duration::from_secs(600);
/// Requests under way at once.
const CALLS_MAX: usize = 16;

/// A job's number; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(u64);

/// What the homeserver is asked to do with a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Restart,
    Send,
}

impl Action {
    /// As MSC4140 has it in the path.
    pub fn name(self) -> &'static str {
        match self {
            Action::Restart => "restart",
            Action::Send => "send",
        }
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// There is no such delayed event (any more).
    Gone,
    /// Not before this time has passed.
    Limited(Duration),
    /// No answer, or one that may be another the next time.
    Failed,
}

impl Answer {
    /// Of an HTTP status, and of how long the homeserver asks us to wait.
    pub fn from_status(status: u16, retry_after: Option<Duration>) -> Answer {
        match status {
            200..=299 => Answer::Done,
            404 => Answer::Gone,
            429 => Answer::Limited(retry_after.unwrap_or(RETRY_FIRST)),
            _ => Answer::Failed,
        }
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The participant is to come, or to come back.
    Expected,
    /// It is here: the event is put off.
    Present,
    /// It is gone: the event is sent.
    Leaving,
}

/// What outlives a kill -9.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub seat: Seat,
    pub delegation: Delegation,
    pub stage: Stage,
    /// Unix time at which the homeserver sends the event by itself.
    pub expires: Duration,
}

/// What the homeserver is to be asked; the answer goes to [`DelayedLeaves::handle_answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub job: JobId,
    pub delay_id: String,
    pub action: Action,
}

/// What is to be kept for a seat from now on, in place of what was kept before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub seat: Seat,
    /// `None`: nothing.
    pub record: Option<Record>,
}

/// How jobs ended, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The homeserver took our word.
    pub sent: u64,
    /// It knew no such event any more: the client had sent or cancelled it.
    pub gone: u64,
    /// It could not be reached until it was to send the event by itself.
    pub expired: u64,
    /// The client delegated another event for the same seat.
    pub replaced: u64,
}

impl Outcomes {
    pub fn named(&self) -> [(&'static str, u64); 4] {
        [("sent", self.sent), ("gone", self.gone), ("expired", self.expired), ("replaced", self.replaced)]
    }
}

/// No more delegations are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

struct Job {
    seat: Seat,
    delegation: Delegation,
    stage: Stage,
    expires: Duration,
    /// How long an expected participant is waited for.
    wait_until: Instant,
    /// When something is to be done next. While a request is under way, its answer decides.
    due: Option<Instant>,
    retry: Duration,
    /// The request under way, and since when it is.
    asked: Option<(Action, Instant)>,
}

/// All delegated leaves. Holds at most as many as it was made for.
pub struct DelayedLeaves {
    jobs_max: usize,
    jobs: BTreeMap<JobId, Job>,
    /// One job a seat. Members come first in the order, so that those of one are beside each other.
    seats: BTreeMap<Seat, JobId>,
    /// Who is here, with a job or without. Bounded by the rooms.
    present: BTreeSet<Seat>,
    due: BTreeSet<(Instant, JobId)>,
    last_job: u64,
    /// Requests under way.
    asked: usize,
    /// A homeserver that limits us limits all of our requests.
    held_until: Option<Instant>,
    draining: bool,
    outcomes: Outcomes,
    calls: Vec<Call>,
    /// Whose record is not what is kept.
    changed: BTreeSet<Seat>,
}

impl DelayedLeaves {
    /// With the jobs of an earlier run, whose participants get some time to come back.
    pub fn new(now: Now, jobs_max: usize, records: Vec<Record>) -> DelayedLeaves {
        let mut leaves = DelayedLeaves {
            jobs_max,
            jobs: BTreeMap::new(),
            seats: BTreeMap::new(),
            present: BTreeSet::new(),
            due: BTreeSet::new(),
            last_job: 0,
            asked: 0,
            held_until: None,
            draining: false,
            outcomes: Outcomes::default(),
            calls: Vec::new(),
            changed: BTreeSet::new(),
        };
        for record in records {
            let (stage, due) = match record.stage {
                Stage::Expected | Stage::Present => (Stage::Expected, now.instant + GRACE),
                Stage::Leaving => (Stage::Leaving, now.instant),
            };
            leaves.insert(record.seat, record.delegation, stage, record.expires, due);
        }
        leaves
    }

    /// To be asked after [`DelayedLeaves::take_changes`] is kept.
    pub fn take_calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    pub fn take_changes(&mut self) -> Vec<Change> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|seat| Change { record: self.record(&seat), seat }).collect()
    }

    /// Whether [`DelayedLeaves::take_changes`] has any.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What was taken could not be kept, and is to be taken again.
    pub fn retake_changes(&mut self, seats: Vec<Seat>) {
        self.changed.extend(seats);
    }

    fn record(&self, seat: &Seat) -> Option<Record> {
        let job = self.jobs.get(self.seats.get(seat)?)?;
        Some(Record { seat: seat.clone(), delegation: job.delegation.clone(), stage: job.stage, expires: job.expires })
    }

    pub fn outcomes(&self) -> Outcomes {
        self.outcomes
    }

    /// Jobs that are not at their end, and how many of them are about participants who are gone.
    pub fn pending(&self) -> (usize, usize) {
        let leaving = self.jobs.values().filter(|job| job.stage == Stage::Leaving).count();
        (self.jobs.len(), leaving)
    }

    pub fn is_present(&self, seat: &Seat) -> bool {
        self.present.contains(seat)
    }

    /// Whether the device has any seat in the room's call that it holds now.
    pub fn is_member_present(&self, member: &Member) -> bool {
        self.present.range(first_seat(member)..).next().is_some_and(|seat| seat.member == *member)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.asked >= CALLS_MAX {
            return None;
        }
        let (first, _) = *self.due.first()?;
        Some(self.held_until.map_or(first, |held| first.max(held)))
    }

    /// From now on the clients are sent away by us: that they go means nothing, and the next run waits for them.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// The client of `seat` hands over its delayed leave, in place of an earlier one.
    pub fn delegate(&mut self, now: Now, seat: Seat, delegation: Delegation) -> Result<(), Full> {
        let expires = now.unix + delegation.timeout();
        let known = self.seats.get(&seat).copied();
        if let Some(id) = known
            && let Some(job) = self.jobs.get_mut(&id)
            && job.delegation.delay_id() == delegation.delay_id()
        {
            job.delegation = delegation;
            // Who asks is alive, and about to come.
            if job.stage == Stage::Leaving {
                self.turn_to(id, Stage::Expected, now.instant + RETURN_MAX);
            }
            self.save(id);
            return Ok(());
        }
        if known.is_none() && self.jobs.len() >= self.jobs_max {
            return Err(Full);
        }
        if let Some(id) = known {
            self.forget(id);
            self.outcomes.replaced += 1;
        }
        let (stage, due) = if self.present.contains(&seat) {
            (Stage::Present, now.instant)
        } else {
            (Stage::Expected, now.instant + delegation.timeout().min(EXPECTED_MAX))
        };
        let id = self.insert(seat, delegation, stage, expires, due);
        self.save(id);
        self.handle_timeout(now);
        Ok(())
    }

    pub fn handle_presence(&mut self, now: Now, seat: &Seat, presence: Presence) {
        if self.draining {
            return;
        }
        match presence {
            Presence::Present => self.present.insert(seat.clone()),
            Presence::Returning | Presence::Absent => self.present.remove(seat),
        };
        let Some(id) = self.seats.get(seat).copied() else {
            return;
        };
        match presence {
            Presence::Present => self.turn_to(id, Stage::Present, now.instant),
            Presence::Returning => self.turn_to(id, Stage::Expected, now.instant + RETURN_MAX),
            Presence::Absent => self.turn_to(id, Stage::Leaving, now.instant),
        }
        self.handle_timeout(now);
    }

    /// Sends the leaves of a member that is in the state of its room and not in the call. `false`: there are none.
    pub fn end(&mut self, now: Now, member: &Member) -> bool {
        let absent: Vec<JobId> = self
            .seats
            .range(first_seat(member)..)
            .take_while(|(seat, _)| seat.member == *member)
            .filter(|(seat, _)| !self.present.contains(seat))
            .map(|(_, id)| *id)
            .collect();
        for id in &absent {
            if self.jobs.get(id).is_some_and(|job| job.stage != Stage::Leaving) {
                self.turn_to(*id, Stage::Leaving, now.instant);
            }
        }
        self.handle_timeout(now);
        !absent.is_empty()
    }

    pub fn handle_answer(&mut self, now: Now, id: JobId, answer: Answer) {
        self.asked = self.asked.saturating_sub(1);
        // A job that was replaced meanwhile has nothing more to learn.
        if let Some(job) = self.jobs.get_mut(&id)
            && let Some((action, since)) = job.asked.take()
        {
            match answer {
                Answer::Done if action == Action::Restart => {
                    job.retry = RETRY_FIRST;
                    job.expires = now.unix + job.delegation.timeout();
                    // Unless the participant went meanwhile.
                    let due = match job.stage {
                        Stage::Present => since + job.delegation.timeout() * 4 / 5,
                        Stage::Expected => job.wait_until,
                        Stage::Leaving => now.instant,
                    };
                    self.schedule(id, due);
                    self.save(id);
                }
                Answer::Done => self.finish(id, |outcomes| &mut outcomes.sent),
                Answer::Gone => self.finish(id, |outcomes| &mut outcomes.gone),
                Answer::Limited(wait) => {
                    let until = now.instant + wait.min(HOLD_MAX);
                    self.held_until = self.held_until.max(Some(until));
                    self.schedule(id, until);
                }
                // By now the homeserver has sent it, or does so when it is back.
                Answer::Failed if job.stage == Stage::Leaving && job.expires <= now.unix => {
                    self.finish(id, |outcomes| &mut outcomes.expired);
                }
                Answer::Failed => {
                    let due = now.instant + job.retry;
                    job.retry = (job.retry * 3 / 2).min(RETRY_MAX);
                    self.schedule(id, due);
                }
            }
        }
        self.handle_timeout(now);
    }

    pub fn handle_timeout(&mut self, now: Now) {
        if self.held_until.is_some_and(|held| held <= now.instant) {
            self.held_until = None;
        }
        while self.held_until.is_none() && self.asked < CALLS_MAX {
            let Some(&(at, id)) = self.due.first() else { return };
            if at > now.instant {
                return;
            }
            self.due.remove(&(at, id));
            self.act(now, id);
        }
    }

    fn act(&mut self, now: Now, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.due = None;
        let was_expected = job.stage == Stage::Expected;
        if was_expected {
            if self.draining {
                return;
            }
            let until = job.wait_until;
            if now.instant < until {
                return self.schedule(id, until);
            }
            job.stage = Stage::Leaving;
        }
        let action = if job.stage == Stage::Present { Action::Restart } else { Action::Send };
        job.asked = Some((action, now.instant));
        self.asked += 1;
        let delay_id = job.delegation.delay_id().to_owned();
        self.calls.push(Call { job: id, delay_id, action });
        if was_expected {
            self.save(id);
        }
    }

    fn insert(&mut self, seat: Seat, delegation: Delegation, stage: Stage, expires: Duration, due: Instant) -> JobId {
        self.last_job += 1;
        let id = JobId(self.last_job);
        self.seats.insert(seat.clone(), id);
        let retry = RETRY_FIRST;
        let job = Job { seat, delegation, stage, expires, wait_until: due, due: None, retry, asked: None };
        self.jobs.insert(id, job);
        self.schedule(id, due);
        id
    }

    fn turn_to(&mut self, id: JobId, stage: Stage, due: Instant) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.wait_until = due;
        let changed = std::mem::replace(&mut job.stage, stage) != stage;
        if changed {
            job.retry = RETRY_FIRST;
            self.save(id);
        }
        self.schedule(id, due);
    }

    /// Not while a request is under way: the answer comes first.
    fn schedule(&mut self, id: JobId, at: Instant) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.asked.is_none()) else {
            return;
        };
        if let Some(old) = job.due.replace(at) {
            self.due.remove(&(old, id));
        }
        self.due.insert((at, id));
    }

    fn save(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get(&id) {
            self.changed.insert(job.seat.clone());
        }
    }

    fn finish(&mut self, id: JobId, outcome: impl FnOnce(&mut Outcomes) -> &mut u64) {
        *outcome(&mut self.outcomes) += 1;
        if let Some(seat) = self.forget(id) {
            self.changed.insert(seat);
        }
    }

    fn forget(&mut self, id: JobId) -> Option<Seat> {
        let job = self.jobs.remove(&id)?;
        if let Some(at) = job.due {
            self.due.remove(&(at, id));
        }
        self.seats.remove(&job.seat);
        Some(job.seat)
    }
}

fn first_seat(member: &Member) -> Seat {
    Seat { member: member.clone(), call: String::new(), identity: String::new() }
}
