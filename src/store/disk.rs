//! Opening sled, and making what was written outlive a power cut.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::StoreError;
use super::error::refusal;
use crate::failpoint;

/// sled's log.
const LOG: &str = "db";
/// sled's directory of values too large for a segment of the log.
const BLOBS: &str = "blobs";

/// How long a lock may outlive its holder: sled's workers keep the log open for some moments after the last handle is dropped, as does a
/// process that is just ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How often the lock is tried.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// A failed write is the end of an open sled: it refuses everything from then on. So room is looked for before each batch: its bytes this
/// often (pages are written whole, and again when they split) ...
const ROOM_FACTOR: u64 = 4;
/// ... and this much beside, for segments (512 KiB each) that sled's cleaner writes anew by itself.
const ROOM_SPARE: u64 = 16 << 20;

/// Opens the store in `path`, or makes it. Blocks for [`LOCK_PATIENCE`] at most where another holds it.
pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new().path(path).cache_capacity(cache_bytes);
    let deadline = Instant::now() + LOCK_PATIENCE;
    let db = loop {
        match guarded(path, || config.open())? {
            Err(error) if is_lock(&error) && Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            result => break result.map_err(|e| refused(path, &e))?,
        }
    };
    // A directory is there after a power cut only if the one above it was synced.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_directory(parent).map_err(|e| StoreError::io("syncing directory", parent, &e))?;
    Ok(db)
}

/// Runs `work` on sled, which panics on some damage of its files: here that is an error like any other.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> T) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| StoreError::Sled { path: path.to_owned(), why: "sled panicked on its files; its message is in the log".to_owned() })
}

/// An operation on the open store failed.
pub(super) fn failed(path: &Path, error: &sled::Error) -> StoreError {
    match error {
        sled::Error::Io(e) if refusal(e).is_some() => StoreError::io("using store", path, e),
        _ => StoreError::Sled {
            path: path.to_owned(),
            why: format!("{error}; a restart goes on from the last commit once the disk is well"),
        },
    }
}

fn refused(path: &Path, error: &sled::Error) -> StoreError {
    match error {
        sled::Error::Io(_) if is_lock(error) => StoreError::Refused {
            doing: "opening store",
            path: path.to_owned(),
            why: "another process has it open: stop that one first".to_owned(),
        },
        sled::Error::Io(e) if refusal(e).is_some() => StoreError::io("opening store", path, e),
        _ => StoreError::Sled { path: path.to_owned(), why: format!("cannot be opened: {error}") },
    }
}

/// sled says so in words alone.
fn is_lock(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

/// Is there room on the file system of `path` for a batch of so many bytes?
pub(super) fn room(path: &Path, bytes: u64) -> Result<(), StoreError> {
    let found = statvfs(path).map_err(|e| StoreError::io("looking for room at", path, &e.into()))?;
    let no_room = |why| Err(StoreError::NoRoom { path: path.to_owned(), why });
    if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return no_room("its file system is read-only".to_owned());
    }
    let (free, needed) = (found.f_bavail.saturating_mul(found.f_frsize), bytes.saturating_mul(ROOM_FACTOR) + ROOM_SPARE);
    if free < needed { no_room(format!("its file system has {free} bytes left, {needed} may be needed")) } else { Ok(()) }
}

/// Makes everything written so far durable.
///
/// `sled::Db::flush` ends in `sync_file_range`, which leaves the disk's own cache and the directories out, and it never syncs blobs.
#[derive(Debug)]
pub(super) struct Durability {
    path: PathBuf,
    /// Blobs that are on disk; sled writes each once.
    synced_blobs: HashSet<OsString>,
}

impl Durability {
    pub(super) fn new(path: &Path) -> Self {
        Durability { path: path.to_owned(), synced_blobs: HashSet::new() }
    }

    pub(super) fn flush(&mut self, db: &sled::Db) -> Result<(), StoreError> {
        let path = self.path.clone();
        let at = |stage: &str| failpoint::reach(format_args!("users.{stage}")).map_err(|e| failed(&path, &e.into()));
        at("flush")?;
        db.flush().map_err(|e| failed(&self.path, &e))?;
        at("sync")?;
        self.sync().map_err(|e| failed(&self.path, &e.into()))?;
        at("durable")
    }

    fn sync(&mut self) -> io::Result<()> {
        File::open(self.path.join(LOG))?.sync_data()?;
        let blobs = self.path.join(BLOBS);
        let mut present = HashSet::new();
        for entry in std::fs::read_dir(&blobs)? {
            let name = entry?.file_name();
            if !self.synced_blobs.contains(&name) {
                match File::open(blobs.join(&name)).and_then(|blob| blob.sync_all()) {
                    // sled's cleaner removes blobs that nothing points at any more.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    result => result?,
                }
            }
            present.insert(name);
        }
        self.synced_blobs = present;
        sync_directory(&blobs)?;
        sync_directory(&self.path)
    }
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
