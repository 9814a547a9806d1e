//! The configuration file, read again while the program runs.

use std::path::PathBuf;

use config::Config;
use tokio::sync::watch;

use crate::addresses::Addresses;
use crate::worker::{Instruction, Operator};
use crate::{logging, settings};

/// Where the configuration comes from.
pub struct File {
    pub path: PathBuf,
    pub refilter: logging::Refilter,
}

/// What a file that is read again is measured by, and where it goes; beside the workers.
pub struct Reload {
    pub file: File,
    /// What holds.
    pub config: Config,
    pub addresses: Addresses,
    pub secret_of_this_run: String,
    /// With which clients of a call get their TURN credentials.
    pub turn_secret: watch::Sender<String>,
}

impl Reload {
    /// All that can change takes effect; of a file in which anything is wrong, nothing. Returns the keys that were changed
    /// but need a restart.
    pub fn run(&mut self, workers: &[Operator]) -> anyhow::Result<Vec<&'static str>> {
        let File { path, refilter } = &self.file;
        let file = crate::load(path)?;
        let filter = logging::filter(&file.log)?;
        let (config, restart) = self.config.reloaded(file);
        self.config = config;
        refilter(filter);
        let turn_secret = settings::turn_secret(&self.config, &self.secret_of_this_run);
        let terms = settings::relay_terms(&self.config, &self.addresses, &turn_secret);
        for worker in workers {
            worker.instruct(Instruction::Reload(Box::new(terms.clone())));
        }
        self.turn_secret.send_replace(turn_secret);
        Ok(restart)
    }
}
