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
    #[error("store {path} has format {found}, newer than this program's {known}: run the newer program, or move the directory away to start GAUC afresh")]
    Newer {
        /// Directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A record whose checksum or codec is wrong.
    #[error("store {path}: record {key} is corrupt ({why})")]
    Corrupt {
        /// Directory.
        path: PathBuf,
        /// Key, printable.
        key: String,
        /// Why.
        why: String,
    },
}
