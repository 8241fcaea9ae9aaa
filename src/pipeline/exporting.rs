use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::USERS_EXPORTS;
use super::shared::Shared;
use crate::config::Config;
use crate::domain::Version;
use crate::store::{Exports, SledWriter, StoreError};

/// Users in files of our own, now and then: what is recovered from when sled is lost.
pub(super) struct Exporting {
    exports: Exports,
    model: String,
    every: Duration,
    /// Checkpoints that were exported, when they could last be listed.
    known: BTreeSet<u64>,
}

impl Exporting {
    pub(super) fn new(config: &Config) -> Self {
        let exports = Exports::new(&config.state.dir.join(USERS_EXPORTS));
        Exporting { exports, model: config.name.clone(), every: config.state.export_every.0, known: BTreeSet::new() }
    }

    /// Checkpoints whose commits must be kept: an export is of use with its commit alone.
    pub(super) fn needed(&mut self) -> BTreeSet<u64> {
        match self.exports.checkpoints() {
            Ok(checkpoints) => self.known = checkpoints.into_iter().collect(),
            Err(error) => tracing::warn!(%error, "exports cannot be listed; the commits of those known before are kept"),
        }
        self.known.clone()
    }

    /// Writes one as of the commit that was just made, unless the last one is young. That it cannot be written costs safety, not the
    /// pipeline.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]: the users that were read are not those that were written.
    pub(super) fn if_due(&self, users: &SledWriter, shared: &Shared) -> Result<(), StoreError> {
        if self.exports.age().is_some_and(|age| age < self.every) {
            return Ok(());
        }
        let started = Instant::now();
        match self.exports.add(users, &self.model) {
            Ok(path) => {
                let (path, ms) = (path.display(), started.elapsed().as_millis());
                tracing::info!(checkpoint = users.checkpoint(), users = users.users(), %path, ms, "users exported");
                shared.update(|status| status.users_export = Some(Version(users.checkpoint())));
            }
            Err(corrupt @ StoreError::Corrupt { .. }) => return Err(corrupt),
            Err(error) => tracing::error!(%error, "users not exported; the last export stands"),
        }
        Ok(())
    }
}
