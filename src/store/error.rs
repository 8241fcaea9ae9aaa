use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// sled would not open, or an operation failed: its files are damaged, or the disk under them is.
    #[error("store {path}: {why}")]
    Sled {
        /// Directory.
        path: PathBuf,
        /// sled's words, and the way out.
        why: String,
    },
    /// The operating system refuses, through no fault of what is on disk: no room, no right to write, another process.
    #[error("{doing} {path}: {why}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// Directory or file.
        path: PathBuf,
        /// Why, and the way out.
        why: String,
    },
    /// Nothing was written, because it would not have fitted. The next write may.
    #[error("store {path}: {why}; nothing was written")]
    NoRoom {
        /// Directory.
        path: PathBuf,
        /// Free and needed bytes, or that the file system is read-only.
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
    /// A record whose checksum or codec is wrong, or users that are not all there.
    #[error("store {path}: record {key} is corrupt ({why}); a restart recovers from the newest export, or starts GAUC afresh")]
    Corrupt {
        /// Directory.
        path: PathBuf,
        /// Key, printable.
        key: String,
        /// Why.
        why: String,
    },
    /// It is whole, but of another checkpoint.
    #[error("store {path}: holds users as of checkpoint {holds}, not of {committed}: it is an old copy, or the commits are")]
    OtherCommit {
        /// Directory.
        path: PathBuf,
        /// Checkpoint of the newest users that it can give.
        holds: u64,
        /// Checkpoint to go on from.
        committed: u64,
    },
    /// A file of exported users cannot be used.
    #[error("export {path}: {why}")]
    Export {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl StoreError {
    /// A file operation of ours failed. The kinds that [`refusal`] knows leave what is on disk above suspicion.
    pub(super) fn io(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        match refusal(error) {
            Some(way_out) => StoreError::Refused { doing, path: path.to_owned(), why: format!("{error}; {way_out}") },
            None => StoreError::Sled { path: path.to_owned(), why: format!("{doing}: {error}") },
        }
    }
}

/// What to do where the operating system refuses whatever is on disk; `None`: the disk, or what is on it, is at fault.
pub(super) fn refusal(error: &io::Error) -> Option<&'static str> {
    use io::ErrorKind::{FileTooLarge, OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Some("free some space"),
        ReadOnlyFilesystem => Some("mount the file system read-write"),
        PermissionDenied => Some("give this user the right to read and write there"),
        OutOfMemory => Some("free some memory"),
        _ if is_file_table_full(error) => Some("raise the limit of open files (ulimit -n)"),
        _ => None,
    }
}

/// `io::ErrorKind` has no name for it.
fn is_file_table_full(error: &io::Error) -> bool {
    let errno = |errno: rustix::io::Errno| error.raw_os_error() == Some(errno.raw_os_error());
    errno(rustix::io::Errno::MFILE) || errno(rustix::io::Errno::NFILE)
}
