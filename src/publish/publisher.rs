use crate::checkpoint::{Commit, Loaded};
use crate::config::Config;
use crate::domain::Version;
use crate::stream::{LogReader, LogWriter, StreamError};

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Another publisher took over.
    #[error("epoch {ours} is superseded by epoch {theirs} of {instance}: this trainer no longer publishes")]
    Superseded {
        /// Our epoch.
        ours: u64,
        /// Theirs.
        theirs: u64,
        /// Who.
        instance: String,
    },
    /// The snapshot failed its own gate (finite weights, probes through the subscriber's code).
    #[error("version {version} held back: {why}")]
    Gate {
        /// Version.
        version: Version,
        /// Which gate, and why.
        why: String,
    },
}

/// A snapshot on the topic.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Published {
    /// Version.
    pub version: Version,
    /// Artifact length.
    pub bytes: u64,
    /// Chunks.
    pub chunks: usize,
    /// `current` was moved to it.
    pub promoted: bool,
    /// Why not, if not (a pin holds another version).
    pub held_by: Option<String>,
}

/// Publishes snapshots under a lease. Used by one thread.
pub struct Publisher {}

impl Publisher {
    /// Reads the topic to its end, takes the lease with the next epoch, reads again to see that it is ours.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn open(config: &Config, instance: &str, reader: Box<dyn LogReader>, writer: Box<dyn LogWriter>) -> Result<Self, PublishError> {
        let _ = (config, instance, reader, writer);
        todo!()
    }

    /// Highest version the topic has ever shown us: checkpoint numbers must stay above it.
    #[must_use]
    pub fn highest_version(&self) -> Option<Version> {
        todo!()
    }

    /// Chunks, acknowledgements, manifest, acknowledgement, then `current` unless a pin forbids; then collects old versions.
    /// Repeating it for the same commit sends the same bytes under the same version.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn publish(&mut self, commit: &Commit, loaded: &Loaded, now_ms: i64) -> Result<Published, PublishError> {
        let _ = (commit, loaded, now_ms);
        todo!()
    }
}
