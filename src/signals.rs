use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// SIGTERM and SIGINT, which end the program, SIGUSR1, which drains, and SIGHUP, which reloads.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    drain: Signal,
    reload: Signal,
}

/// What a signal asks for that ends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Drain,
    Reload,
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

    /// Until the first signal comes that ends the program. `serve` is called for those that end nothing.
    pub async fn first(&mut self, mut serve: impl FnMut(Request)) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.drain.recv() => serve(Request::Drain),
                _ = self.reload.recv() => serve(Request::Reload),
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
