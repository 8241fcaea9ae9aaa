//! Users in a file of our own: what the store is built anew from when sled will not open.
//!
//! ```text
//! "rocket-launching users\n" · u32 format = 1 · u32 length, model · u64 checkpoint
//! · users × (u32 length, user id · u32 length, record) · u32 end = 2³² − 1 · u64 users · blake3 of all before it
//! ```
//!
//! Numbers are little-endian; the hash takes 32 bytes and ends the file.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{SledWriter, StoreError, disk, rebuild};
use crate::domain::UserId;
use crate::failpoint;

const MAGIC: &[u8] = b"rocket-launching users\n";
const FORMAT: u32 = 1;
/// In the place of a user id's length: no more users.
const END: u32 = u32::MAX;
/// One system call for many small fields.
const BUFFER_BYTES: usize = 1 << 20;
/// Extension of files that are being written.
const UNFINISHED: &str = "tmp";
/// Exports kept, the newest ones: the older ones are for a fault that went unnoticed for a while.
const KEPT: usize = 3;

/// Writes one file; it has its name once it is whole.
pub(super) struct Writer {
    path: PathBuf,
    unfinished: PathBuf,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    users: u64,
}

impl Writer {
    pub(super) fn create(path: &Path, model: &str, checkpoint: u64) -> Result<Self, StoreError> {
        let unfinished = path.with_added_extension(UNFINISHED);
        let file = File::create(&unfinished).map_err(|e| StoreError::io("creating export", &unfinished, &e))?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        let mut writer = Writer { path: path.to_owned(), unfinished, file, hasher: blake3::Hasher::new(), users: 0 };
        writer.bytes(MAGIC)?;
        writer.bytes(&FORMAT.to_le_bytes())?;
        writer.field(model.as_bytes())?;
        writer.bytes(&checkpoint.to_le_bytes())?;
        Ok(writer)
    }

    pub(super) fn put(&mut self, user: &UserId, record: &[u8]) -> Result<(), StoreError> {
        self.users += 1;
        self.field(user.0.as_bytes())?;
        self.field(record)
    }

    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.bytes(&END.to_le_bytes())?;
        let users = self.users;
        self.bytes(&users.to_le_bytes())?;
        let hash = self.hasher.finalize();
        self.bytes(hash.as_bytes())?;
        let Writer { path, unfinished, file, .. } = self;
        let failed = |e: io::Error| StoreError::io("writing export", &path, &e);
        let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
        failpoint::reach(format_args!("export.sync")).and_then(|()| file.sync_all()).map_err(failed)?;
        failpoint::reach(format_args!("export.rename")).and_then(|()| fs::rename(&unfinished, &path)).map_err(failed)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        disk::sync_directory(parent).map_err(failed)
    }

    fn field(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes(&(bytes.len() as u32).to_le_bytes())?;
        self.bytes(bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|e| StoreError::io("writing export", &self.unfinished, &e))
    }
}

/// A file of exported users, open for reading.
pub struct Export {
    path: PathBuf,
    file: BufReader<File>,
    hasher: blake3::Hasher,
    model: String,
    checkpoint: u64,
}

impl Export {
    /// Opens the file and reads its head.
    ///
    /// # Errors
    /// [`StoreError::Export`]; [`StoreError::Refused`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|e| unusable(path, &e))?;
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut export = Export { path: path.to_owned(), file, hasher: blake3::Hasher::new(), model: String::new(), checkpoint: 0 };
        if export.bytes(MAGIC.len() as u64)? != MAGIC {
            return Err(export.fault("it does not begin like one"));
        }
        let format = export.number()?;
        if format != FORMAT {
            return Err(export.fault(format_args!("its format is {format}, this program reads {FORMAT}")));
        }
        let model = export.field()?;
        export.model = String::from_utf8(model).map_err(|_| export.fault("its model's name is no UTF-8"))?;
        export.checkpoint = export.long()?;
        Ok(export)
    }

    /// Model whose users these are.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Checkpoint that they are as of.
    #[must_use]
    pub fn checkpoint(&self) -> u64 {
        self.checkpoint
    }

    /// Calls `visit` with every user, then checks the hash of the whole: until this returns, nothing that was visited may be relied on.
    /// Returns how many there are.
    ///
    /// # Errors
    /// [`StoreError::Export`]; [`StoreError::Refused`]; whatever `visit` returns.
    pub fn read(mut self, mut visit: impl FnMut(UserId, Vec<u8>) -> Result<(), StoreError>) -> Result<u64, StoreError> {
        let mut users = 0;
        loop {
            let length = self.number()?;
            if length == END {
                break;
            }
            let id = self.bytes(length.into())?;
            let id = String::from_utf8(id).map_err(|_| self.fault("a user id is no UTF-8"))?;
            visit(UserId(id.into()), self.field()?)?;
            users += 1;
        }
        if self.long()? != users {
            return Err(self.fault("it says that it holds another number of users"));
        }
        let found = self.hasher.finalize();
        let written = self.bytes(blake3::OUT_LEN as u64)?;
        if found.as_bytes() != written.as_slice() {
            return Err(self.fault("its hash differs from what its end says"));
        }
        let mut beyond = [0];
        match self.file.read(&mut beyond) {
            Ok(0) => Ok(users),
            Ok(_) => Err(self.fault("there are bytes after its end")),
            Err(error) => Err(unusable(&self.path, &error)),
        }
    }

    /// Reads the whole file: is it good, and of this model and checkpoint? Returns how many users it holds.
    ///
    /// # Errors
    /// As [`Export::read`].
    pub fn check(self, model: &str, checkpoint: u64) -> Result<u64, StoreError> {
        if (self.model.as_str(), self.checkpoint) != (model, checkpoint) {
            let found = format!("it holds users of model `{}` as of checkpoint {}", self.model, self.checkpoint);
            return Err(self.fault(format_args!("{found}, not of `{model}` as of {checkpoint}")));
        }
        self.read(|_, _| Ok(()))
    }

    /// Makes the users the content of the store in `dir`, which must not be there; sealed as of the export's checkpoint.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is in `dir` then.
    pub fn import(self, dir: &Path, cache_bytes: u64) -> Result<(), StoreError> {
        rebuild::from_export(self, dir, cache_bytes)?;
        rebuild::settle(dir)
    }

    fn number(&mut self) -> Result<u32, StoreError> {
        let bytes = self.bytes(4)?;
        Ok(bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    }

    fn long(&mut self) -> Result<u64, StoreError> {
        let bytes = self.bytes(8)?;
        Ok(bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    fn field(&mut self) -> Result<Vec<u8>, StoreError> {
        let length = self.number()?;
        self.bytes(length.into())
    }

    /// Memory is taken for bytes that are there, not for a length that says so.
    fn bytes(&mut self, length: u64) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.file.by_ref().take(length).read_to_end(&mut bytes).map_err(|e| unusable(&self.path, &e))?;
        if (bytes.len() as u64) < length {
            return Err(self.fault("it ends early"));
        }
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    fn fault(&self, why: impl std::fmt::Display) -> StoreError {
        StoreError::Export { path: self.path.clone(), why: why.to_string() }
    }
}

fn unusable(path: &Path, error: &io::Error) -> StoreError {
    match StoreError::io("reading export", path, error) {
        refused @ StoreError::Refused { .. } => refused,
        _ => StoreError::Export { path: path.to_owned(), why: error.to_string() },
    }
}

/// Exports that the daemon made by itself, in a directory of their own.
#[derive(Debug, Clone)]
pub struct Exports {
    dir: PathBuf,
}

impl Exports {
    /// Those in `dir`, which need not exist.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Exports { dir: dir.to_owned() }
    }

    /// The file of a checkpoint.
    #[must_use]
    pub fn path(&self, checkpoint: u64) -> PathBuf {
        self.dir.join(format!("users-{checkpoint:020}.export"))
    }

    /// Checkpoints that there are files of, oldest first; whether they are whole shows when they are read.
    ///
    /// # Errors
    /// [`StoreError::Sled`], [`StoreError::Refused`]: the directory cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<u64>, StoreError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(StoreError::io("listing exports", &self.dir, &e)),
        };
        let mut checkpoints = Vec::new();
        for entry in entries {
            let name = entry.map_err(|e| StoreError::io("listing exports", &self.dir, &e))?.file_name();
            let number: Option<u64> = name.to_str().and_then(|name| name.strip_prefix("users-")?.strip_suffix(".export")?.parse().ok());
            checkpoints.extend(number);
        }
        checkpoints.sort_unstable();
        Ok(checkpoints)
    }

    /// How long ago the newest one was written; `None` without one, or where the clock has gone back.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let newest = self.checkpoints().ok()?.pop()?;
        fs::metadata(self.path(newest)).and_then(|file| file.modified()).ok()?.elapsed().ok()
    }

    /// Writes the users as of the last commit under their checkpoint's number, then removes the oldest files beyond three.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn add(&self, writer: &SledWriter, model: &str) -> Result<PathBuf, StoreError> {
        fs::create_dir_all(&self.dir).map_err(|e| StoreError::io("creating directory", &self.dir, &e))?;
        self.remove_unfinished()?;
        disk::room(&self.dir, writer.live_bytes())?;
        let path = self.path(writer.checkpoint());
        if let Err(error) = writer.export(model, &path) {
            // What is left of it would only take space.
            let _still_there = self.remove_unfinished();
            return Err(error);
        }
        let checkpoints = self.checkpoints()?;
        self.remove(&checkpoints[..checkpoints.len().saturating_sub(KEPT)])?;
        Ok(path)
    }

    /// Removes those after a checkpoint that was gone back to: they belong to what was left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_after(&self, checkpoint: u64) -> Result<(), StoreError> {
        let mut checkpoints = self.checkpoints()?;
        checkpoints.retain(|exported| *exported > checkpoint);
        self.remove(&checkpoints)
    }

    /// What a run that was killed, or a full disk, has left.
    fn remove_unfinished(&self) -> Result<(), StoreError> {
        let failed = |e: io::Error| StoreError::io("removing unfinished exports in", &self.dir, &e);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn remove(&self, checkpoints: &[u64]) -> Result<(), StoreError> {
        for checkpoint in checkpoints {
            let path = self.path(*checkpoint);
            // Whatever stands there under its name, a damaged file system's directory too.
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|e| StoreError::io("removing export", &path, &e))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(path: &Path, users: &[(String, Vec<u8>)]) {
        let mut writer = Writer::create(path, "model", 7).unwrap();
        for (id, record) in users {
            writer.put(&UserId(id.as_str().into()), record).unwrap();
        }
        writer.finish().unwrap();
    }

    fn read(path: &Path) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut users = Vec::new();
        let count = Export::open(path)?.read(|id, record| {
            users.push((id.0.into(), record));
            Ok(())
        })?;
        assert_eq!(count, users.len() as u64);
        Ok(users)
    }

    fn is_refused(path: &Path) -> bool {
        matches!(read(path), Err(StoreError::Export { .. }))
    }

    fn users() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
        prop::collection::vec((".{0,9}", prop::collection::vec(any::<u8>(), 0..30)), 0..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn exports_survive_the_round_trip(users in users()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.export");
            written(&path, &users);
            let export = Export::open(&path).unwrap();
            prop_assert_eq!((export.model(), export.checkpoint()), ("model", 7));
            prop_assert_eq!(read(&path).unwrap(), users);
            prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }

        #[test]
        fn every_flipped_bit_and_every_cut_is_found(users in users(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.export");
            written(&path, &users);
            let mut bytes = fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            fs::write(&path, &bytes[..at]).unwrap();
            prop_assert!(is_refused(&path));
            bytes[at] ^= 1_u8 << bit;
            fs::write(&path, &bytes).unwrap();
            prop_assert!(is_refused(&path));
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.export");
            fs::write(&path, [MAGIC, &FORMAT.to_le_bytes(), &bytes].concat()).unwrap();
            prop_assert!(read(&path).is_err());
        }
    }
}
