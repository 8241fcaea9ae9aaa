use std::path::PathBuf;

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file operation failed.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what its commit record says.
    #[error("{path}: {why}")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Written by a newer program.
    #[error(
        "{path}: format {found}, newer than this program's {known}: run the newer program, or to go back to what this one wrote move the record away"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// There is no such checkpoint.
    #[error("no checkpoint {number} in {path}; kept are {kept}")]
    Unknown {
        /// The number asked for.
        number: u64,
        /// The directory.
        path: PathBuf,
        /// The numbers there are.
        kept: String,
    },
    /// Another daemon owns the directory.
    #[error("state directory {path} is in use by another process; stop it, or set another state.dir")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Every commit record is damaged.
    #[error("{path}: no commit record can be used: {why}; restore the directory from a backup, or move it away to start afresh")]
    NoUsableCommit {
        /// The directory.
        path: PathBuf,
        /// What was wrong with each.
        why: String,
    },
}

impl CheckpointError {
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| CheckpointError::Io { doing, path, source }
    }

    pub(super) fn corrupt(path: impl Into<PathBuf>, why: impl std::fmt::Display) -> Self {
        CheckpointError::Corrupt { path: path.into(), why: why.to_string() }
    }
}
