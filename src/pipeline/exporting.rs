use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::USERS_EXPORTS;
use super::shared::Shared;
use crate::config::Config;
use crate::store::{Exports, SledWriter};

/// Users in files of our own, now and then: what is recovered from when sled is lost.
pub(super) struct Exporting {
    exports: Exports,
    model: String,
    every: Duration,
}

impl Exporting {
    pub(super) fn new(config: &Config) -> Self {
        let exports = Exports::new(&config.state.dir.join(USERS_EXPORTS));
        Exporting { exports, model: config.name.clone(), every: config.state.export_every.0 }
    }

    /// Checkpoints whose commits must be kept: an export is of use with its commit alone.
    pub(super) fn needed(&self) -> HashSet<u64> {
        let checkpoints = self.exports.checkpoints().inspect_err(|error| tracing::warn!(%error, "exports cannot be listed"));
        checkpoints.unwrap_or_default().into_iter().collect()
    }

    /// Writes one as of the commit that was just made, unless the last one is young. A failure costs safety, not the pipeline.
    pub(super) fn if_due(&self, users: &SledWriter, shared: &Shared) {
        if self.exports.age().is_some_and(|age| age < self.every) {
            return;
        }
        let started = Instant::now();
        match self.exports.add(users, &self.model) {
            Ok(path) => {
                let (path, ms) = (path.display(), started.elapsed().as_millis());
                tracing::info!(checkpoint = users.checkpoint(), users = users.users(), %path, ms, "users exported");
                shared.update(|status| status.users_export = Some(crate::domain::Version(users.checkpoint())));
            }
            Err(error) => tracing::error!(%error, "users not exported; the last export stands"),
        }
    }
}
