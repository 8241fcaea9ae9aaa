use std::path::PathBuf;

/// What is wrong with the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// sled would not open, or an operation failed.
    #[error("store {path}: {why}")]
    Sled {
        /// Directory.
        path: PathBuf,
        /// sled's words, and the way out.
        why: String,
    },
    /// Written by a newer program.
    #[error(
        "store {path} has format {found}, newer than this program's {known}: run the newer program, or move the directory away to start GAUC afresh"
    )]
    Newer {
        /// Directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A record whose checksum or codec is wrong.
    #[error("store {path}: record {key} is corrupt ({why}); move the directory away to start GAUC afresh (weights do not depend on it)")]
    Corrupt {
        /// Directory.
        path: PathBuf,
        /// Key, printable.
        key: String,
        /// Why.
        why: String,
    },
    /// It has been written too often since the commit to go back to it.
    #[error(
        "store {path}: record {key} was committed with checkpoint {found}, after {committed}, which is to be continued from; move the directory away to start \
         GAUC afresh (weights do not depend on it)"
    )]
    Ahead {
        /// Directory.
        path: PathBuf,
        /// Key, printable.
        key: String,
        /// Checkpoint of the oldest value there is.
        found: u64,
        /// Checkpoint to go back to.
        committed: u64,
    },
}
