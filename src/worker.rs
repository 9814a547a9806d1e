//! A worker: one thread with its own sockets, relay and SFU.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use datapath::driver::{Driver, Stream};
use datapath::mux::Mux;
use datapath::queue::{self, Receiver, Sender};
use datapath::shared_counters::SharedCounters;
use datapath::sockets::Waker;
use relay::Usage;
use sfu::{Command, Event, Sfu};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info};

use crate::event_queue::EventQueue;

pub type Plane = Mux<relay::Server, Sfu>;

/// The control plane's hold on a worker.
pub struct Worker {
    pub commands: Sender<Command>,
    /// TCP connections that carry TURN or ICE.
    pub streams: Sender<Stream>,
    pub counters: Arc<SharedCounters>,
    /// Resolves when the thread ends, for whatever reason.
    pub ended: oneshot::Receiver<()>,
    pub operator: Operator,
    pub thread: Thread,
}

/// What the operator may ask of a worker.
pub enum Instruction {
    /// To make no more allocations.
    Drain,
    /// To end a user's allocations, and to make no more for it for so long. The answer is how many there were; `None` when
    /// too many users are shut out already.
    Revoke { user: String, time: Duration, reply: oneshot::Sender<Option<usize>> },
    /// To end the allocations of users whose credentials from the join of a call are withdrawn, and to make no more for
    /// them for so long.
    Withdraw { users: Arc<[String]>, time: Duration },
    /// To serve on other terms.
    Reload(Box<relay::Terms>),
    /// To let no client of the relay reach these addresses, which are this host's.
    Own(Arc<[IpAddr]>),
    /// How much it serves.
    Count(oneshot::Sender<Count>),
    /// A page of its allocations, from a place on.
    List { from: usize, reply: oneshot::Sender<Page> },
}

pub struct Count {
    pub allocations: usize,
    pub calls: sfu::Population,
}

pub struct Page {
    pub usages: Vec<Usage>,
    /// For each whether its client's connection is encrypted (TLS).
    pub encrypted: Vec<bool>,
    /// Where the next page begins, if there is one.
    pub next: Option<usize>,
}

/// Where a worker is told what the operator wants.
#[derive(Clone)]
pub struct Operator {
    instructions: std::sync::mpsc::Sender<Instruction>,
    waker: Waker,
}

impl Operator {
    pub fn instruct(&self, instruction: Instruction) {
        // A worker that has ended is told nothing more, and the program ends after it.
        let _ = self.instructions.send(instruction);
        self.waker.wake();
    }
}

/// What is needed to end a worker.
pub struct Thread {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// Commands carried out between two turns, so that a flood of them delays media by no more than that.
const COMMANDS_MAX: usize = 64;

/// TCP connections on their way to the worker; more are refused.
const STREAMS_MAX: usize = 1024;

/// A turn ends at least this often, to publish the counters.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// How soon to look again for room in a full event queue: nothing tells when there is some.
const FULL_WAIT: Duration = Duration::from_millis(5);

impl Worker {
    /// Starts the thread. `capacity` bounds its command queue.
    pub fn start(
        index: usize,
        driver: Driver,
        plane: Plane,
        capacity: usize,
        events: mpsc::Sender<Event>,
    ) -> anyhow::Result<Worker> {
        let waker = driver.waker();
        let counters = driver.shared_counters();
        let (commands, received) = queue::bounded(capacity, waker.clone());
        let (streams, received_streams) = queue::bounded(STREAMS_MAX, waker.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let (instructions, received_instructions) = std::sync::mpsc::channel();
        let (alive, ended) = oneshot::channel();
        let mut round = Round {
            driver,
            plane,
            instructions: received_instructions,
            commands: received,
            streams: received_streams,
            events: EventQueue::new(events),
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn({
                let stop = stop.clone();
                move || {
                    // Dropped with the thread, also by a panic.
                    let _alive: oneshot::Sender<()> = alive;
                    while !stop.load(Ordering::Relaxed) {
                        round.run()?;
                    }
                    round.driver.publish();
                    Ok(())
                }
            })
            .context("cannot start a worker thread")?;
        let operator = Operator { instructions, waker: waker.clone() };
        Ok(Worker { commands, streams, counters, ended, operator, thread: Thread { stop, waker, thread } })
    }
}

impl Thread {
    /// Ends the thread and says how it went.
    pub fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => anyhow::bail!("a worker panicked; the log says where"),
        }
    }
}

struct Round {
    driver: Driver,
    plane: Plane,
    instructions: std::sync::mpsc::Receiver<Instruction>,
    commands: Receiver<Command>,
    streams: Receiver<Stream>,
    events: EventQueue,
}

impl Round {
    /// Instructions and commands, then one turn, then events.
    fn run(&mut self) -> anyhow::Result<()> {
        while let Ok(instruction) = self.instructions.try_recv() {
            self.carry_out(instruction);
        }
        let more = self.take_commands();
        while let Some(stream) = self.streams.try_recv() {
            if let Err(error) = self.driver.add_stream(stream) {
                debug!(%error, "a TCP connection ended on its way to the worker");
            }
        }
        let wait = if more {
            Duration::ZERO
        } else if self.events.is_waiting() {
            FULL_WAIT
        } else {
            WAIT_MAX
        };
        self.driver.turn(&mut self.plane, wait).context("waiting for datagrams")?;
        self.give_events();
        Ok(())
    }

    fn carry_out(&mut self, instruction: Instruction) {
        // Who asked may have gone: then nobody hears the answer.
        match instruction {
            Instruction::Drain => self.plane.relay.drain(),
            Instruction::Revoke { user, time, reply } => {
                let ended = self.driver.act(&mut self.plane, |plane, now, out| {
                    plane.relay.revoke(now, user.as_bytes(), now.instant + time, out)
                });
                let _ = reply.send(ended);
            }
            Instruction::Withdraw { users, time } => {
                let ended = self
                    .driver
                    .act(&mut self.plane, |plane, now, out| plane.relay.withdraw(now, &users, now.instant + time, out));
                if ended > 0 {
                    info!("{ended} allocations of participants ended who were removed from a call");
                }
            }
            Instruction::Reload(terms) => {
                self.driver.act(&mut self.plane, |plane, now, _| plane.relay.reload(now, *terms));
            }
            Instruction::Own(addresses) => {
                self.driver.act(&mut self.plane, |plane, _, _| plane.relay.note_own_addresses(&addresses));
            }
            Instruction::Count(reply) => {
                let (relay, sfu) = (&self.plane.relay, &self.plane.sfu);
                let _ = reply.send(Count { allocations: relay.allocations(), calls: sfu.population() });
            }
            Instruction::List { from, reply } => {
                let page = self.driver.act(&mut self.plane, |plane, now, _| plane.relay.usage(now, from));
                let encrypted = page.usages.iter().map(|usage| self.driver.is_encrypted(usage.local)).collect();
                let _ = reply.send(Page { usages: page.usages, encrypted, next: page.next });
            }
        }
    }

    /// Returns whether there may be more commands.
    fn take_commands(&mut self) -> bool {
        let Some(first) = self.commands.try_recv() else {
            return false;
        };
        let commands = &self.commands;
        let more = self.driver.act(&mut self.plane, |plane, now, out| {
            plane.with_sfu(now, out, |sfu, out| {
                sfu.handle_command(now, first, out);
                for _ in 1..COMMANDS_MAX {
                    match commands.try_recv() {
                        Some(command) => sfu.handle_command(now, command, out),
                        None => return false,
                    }
                }
                true
            })
        });
        self.give_events();
        more
    }

    fn give_events(&mut self) {
        self.events.catch_up();
        while let Some(event) = self.plane.sfu.poll_event() {
            if !self.events.send(event) {
                self.driver.counters_mut().events_lost += 1;
            }
        }
    }
}
