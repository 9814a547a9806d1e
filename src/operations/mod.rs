//! What the operator may do while the program runs, by signal or over the control socket.

pub mod command;
pub mod control_socket;
mod protocol;
mod table;

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use relay::REVOCATIONS_MAX;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::reload::Reload;
use crate::revocation_store::RevocationStore;
use crate::worker::{Instruction, Operator, Page};
use protocol::Census;

/// How often the allocations are counted that a drain waits for.
const CENSUS_INTERVAL: Duration = Duration::from_millis(250);

/// How long whoever waits for a drain may take to hear of its end.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Operations {
    workers: Vec<Operator>,
    /// `None` without a configuration file.
    reload: Option<Mutex<Reload>>,
    drain: watch::Sender<Drain>,
    revocations: RevocationStore,
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    pub begun: bool,
    /// When the program ends at the latest. It ends earlier when there is no allocation any more.
    pub ends_at: Option<Instant>,
    /// Allocations as last counted.
    pub left: Option<usize>,
    /// A SIGTERM began it, or would have.
    terminated: bool,
    /// It is over, and the program ends.
    pub over: bool,
}

impl Operations {
    pub fn new(workers: Vec<Operator>, reload: Option<Reload>, revocations: RevocationStore) -> Operations {
        Operations { workers, reload: reload.map(Mutex::new), drain: watch::Sender::default(), revocations }
    }

    /// Reads the configuration file again. Returns the keys that were changed but need a restart. The log says the same.
    pub fn reload(&self) -> anyhow::Result<Vec<&'static str>> {
        let Some(mut reload) = self.lock_reload() else {
            warn!("there is no configuration file that could be read again");
            anyhow::bail!("there is no configuration file that could be read again");
        };
        let restart = reload.run(&self.workers);
        match &restart {
            Ok(restart) => {
                for key in restart {
                    warn!("{key} needs a restart: it stays as it was");
                }
                info!("reloaded {}", reload.file.path.display());
            }
            Err(error) => error!("nothing is reloaded, the configuration stays as it was: {error:#}"),
        }
        restart
    }

    fn lock_reload(&self) -> Option<MutexGuard<'_, Reload>> {
        // Where reading the file panics, nothing has changed yet.
        self.reload.as_ref().map(|reload| reload.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on no allocation is made. With a deadline the program ends when the last one has gone, and by then in any
    /// case; a later call may set another one.
    pub fn drain(&self, deadline: Option<Duration>) {
        info!("draining: no TURN allocation is made any more, and those that there are live on");
        if let Some(deadline) = deadline {
            info!("the program ends when the last allocation has gone, and in {} s at the latest", deadline.as_secs());
        }
        self.workers.iter().for_each(|worker| worker.instruct(Instruction::Drain));
        // Far away is as good as never.
        let ends_at = deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        self.drain.send_modify(|drain| {
            drain.begun = true;
            drain.ends_at = ends_at.or(drain.ends_at);
        });
    }

    /// SIGTERM: the end, or a drain that leads to it where `relay.drain_deadline_s` says so. The second one is the end.
    pub fn terminate(&self) -> ControlFlow<()> {
        let deadline = self.lock_reload().map_or(Duration::ZERO, |reload| reload.config.relay.drain_deadline);
        let before = *self.drain.borrow();
        if deadline.is_zero() || before.terminated {
            return ControlFlow::Break(());
        }
        self.drain.send_modify(|drain| drain.terminated = true);
        // An operator's own deadline may be nearer.
        let left = before.ends_at.map(|at| at.saturating_duration_since(Instant::now()));
        self.drain(Some(left.map_or(deadline, |left| left.min(deadline))));
        info!("a second signal ends without waiting for that");
        ControlFlow::Continue(())
    }

    /// Whoever wants to know how far a drain is.
    pub fn watch_drain(&self) -> watch::Receiver<Drain> {
        self.drain.subscribe()
    }

    /// Ready when a drain with a deadline is over. Counts what is left meanwhile.
    pub async fn drained_for_good(&self) {
        let mut changes = self.drain.subscribe();
        loop {
            let drain = *changes.borrow_and_update();
            if !drain.begun {
                // The sender is ours.
                let _ = changes.changed().await;
                continue;
            }
            // A worker that has ended has nothing left, and the program ends after it.
            let left = self.census().await.map_or(0, |census| census.allocations);
            let over = drain.ends_at.is_some_and(|at| left == 0 || at <= Instant::now());
            self.drain.send_if_modified(|drain| {
                let changed = drain.left != Some(left) || over;
                (drain.left, drain.over) = (Some(left), over);
                changed
            });
            if over {
                info!("drained: {left} allocations are left, and the program ends");
                drop(changes);
                // Whoever waits is to hear how it ended before its connection ends too.
                let _ = tokio::time::timeout(TELL_TIMEOUT, self.drain.closed()).await;
                return;
            }
            let next = Instant::now() + CENSUS_INTERVAL;
            let next = drain.ends_at.map_or(next, |at| next.min(at));
            tokio::select! {
                // Where none is left, none comes.
                () = tokio::time::sleep_until(next), if left > 0 => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Counts everything. `None` when a worker has ended.
    pub async fn census(&self) -> Option<Census> {
        let draining = self.drain.borrow().begun;
        let mut sum = Census { draining, ..Census::default() };
        for worker in &self.workers {
            let (reply, answer) = oneshot::channel();
            worker.instruct(Instruction::Count(reply));
            let count = answer.await.ok()?;
            sum.allocations += count.allocations;
            sum.rooms += count.calls.rooms;
            sum.participants += count.calls.participants;
        }
        Some(sum)
    }

    /// Ends a user's allocations, and makes no more for it for so long. Returns how many there were.
    pub async fn revoke(&self, user: &str, time: Duration) -> anyhow::Result<usize> {
        let mut ended = 0;
        for worker in &self.workers {
            let (reply, answer) = oneshot::channel();
            worker.instruct(Instruction::Revoke { user: user.to_owned(), time, reply });
            ended += answer.await.context("a worker has ended, and the program ends")?.with_context(|| {
                format!("{REVOCATIONS_MAX} users are shut out already; `--for 0s` lets one of them in again")
            })?;
        }
        self.revocations.keep(&[user.to_owned()], time, false);
        info!("{ended} allocations of a user were ended; it gets no more for {} s", time.as_secs());
        Ok(ended)
    }

    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// A page of a worker's allocations. `None` when the worker has ended.
    pub async fn page(&self, worker: usize, from: usize) -> Option<Page> {
        let (reply, answer) = oneshot::channel();
        self.workers.get(worker)?.instruct(Instruction::List { from, reply });
        answer.await.ok()
    }
}
