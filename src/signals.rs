use std::ops::ControlFlow;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// SIGINT, which ends the program, SIGTERM, which may drain before, SIGUSR1, which drains, and SIGHUP, which reloads.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    drain: Signal,
    reload: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Drain,
    Reload,
    Terminate,
}

impl Signals {
    /// From here on the signals no longer end the process by themselves.
    pub fn listen() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            drain: listen(SignalKind::user_defined1())?,
            reload: listen(SignalKind::hangup())?,
        })
    }

    /// Until SIGINT comes, or `heed` has had enough of the others.
    pub async fn last(&mut self, heed: impl Fn(Request) -> ControlFlow<()>) {
        loop {
            let request = tokio::select! {
                _ = self.interrupt.recv() => break,
                _ = self.terminate.recv() => Request::Terminate,
                _ = self.drain.recv() => Request::Drain,
                _ = self.reload.recv() => Request::Reload,
            };
            if heed(request).is_break() {
                break;
            }
        }
        info!("ending: clients are sent away so that they reconnect; a second signal ends at once");
    }

    /// A second signal ends the process on the spot.
    pub async fn abort_on_second(mut self) -> ! {
        self.next().await;
        warn!("a second signal: ending at once");
        std::process::exit(130);
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
