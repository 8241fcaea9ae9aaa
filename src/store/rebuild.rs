//! Building the store anew beside the old one, and putting it into its place: from an export, or to shed what sled no longer needs.
//!
//! `users.building` is not whole; `users.built` is, and takes the place of `users.sled` at the next opening whatever happens meanwhile;
//! `users.replaced` is to be removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{self, Durability};
use super::record::{self, Record, Value};
use super::seal::{self, Seal, Sum};
use super::users::{BATCH_RECORDS, SledWriter};
use super::{Export, StoreError, keys, migrate};
use crate::domain::UserId;

/// At a plateau sled takes 5.6 times what it holds: beyond this it has not cleaned up after itself.
const BLOAT_RATIO: u64 = 8;
/// Below this nobody minds.
const BLOAT_MIN: u64 = 256 << 20;

/// Has sled outgrown its users?
pub(super) fn is_bloated(size_on_disk: u64, live: u64) -> bool {
    size_on_disk > BLOAT_MIN && size_on_disk / BLOAT_RATIO > live
}

/// Ends what an interrupted start left half done.
pub(super) fn settle(dir: &Path) -> Result<(), StoreError> {
    remove(&beside(dir, "building"))?;
    let (built, replaced) = (beside(dir, "built"), beside(dir, "replaced"));
    if built.exists() {
        remove(&replaced)?;
        if dir.exists() {
            rename(dir, &replaced)?;
        }
        rename(&built, dir)?;
    }
    remove(&replaced)
}

/// Builds `users.built` of the users of an open store, as of its commit.
pub(super) fn from_store(writer: &SledWriter, dir: &Path, cache_bytes: u64) -> Result<(), StoreError> {
    build(dir, cache_bytes, writer.base().checkpoint, |builder| {
        for user in writer.as_of_commit() {
            let user = user?;
            builder.put(&user.id, user.value)?;
        }
        Ok(())
    })
}

/// Builds `users.built` of an export, which is read to its end and checked before.
pub(super) fn from_export(export: Export, dir: &Path, cache_bytes: u64) -> Result<(), StoreError> {
    let checkpoint = export.checkpoint();
    build(dir, cache_bytes, checkpoint, |builder| export.read(|user, bytes| builder.put(&user, Value { tag: checkpoint, bytes })).map(drop))
}

fn build(
    dir: &Path,
    cache_bytes: u64,
    checkpoint: u64,
    fill: impl FnOnce(&mut Builder) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let building = beside(dir, "building");
    remove(&building)?;
    let built = filled(&building, cache_bytes, checkpoint, fill);
    if built.is_err() {
        // The room it takes may be what was missing.
        let _still_there = remove(&building);
    }
    built?;
    rename(&building, &beside(dir, "built"))
}

fn filled(
    path: &Path,
    cache_bytes: u64,
    checkpoint: u64,
    fill: impl FnOnce(&mut Builder) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let db = disk::open(path, cache_bytes)?;
    let mut builder = Builder { path: path.to_owned(), db, batch: sled::Batch::default(), waiting: 0, bytes: 0, sum: Sum::default() };
    fill(&mut builder)?;
    builder.finish(checkpoint)
}

/// A store that is being filled.
struct Builder {
    path: PathBuf,
    db: sled::Db,
    batch: sled::Batch,
    waiting: usize,
    bytes: u64,
    sum: Sum,
}

impl Builder {
    fn put(&mut self, user: &UserId, current: Value) -> Result<(), StoreError> {
        let (key, hashed) = keys::user_key(user);
        self.sum.add(&key, &current);
        let record = record::encode(&key, &Record { id: hashed.then(|| user.0.clone()), current, previous: None });
        self.bytes += (key.len() + record.len()) as u64;
        self.batch.insert(key, record);
        self.waiting += 1;
        if self.waiting == BATCH_RECORDS { self.apply() } else { Ok(()) }
    }

    fn apply(&mut self) -> Result<(), StoreError> {
        disk::room(&self.path, self.bytes)?;
        (self.waiting, self.bytes) = (0, 0);
        self.db.apply_batch(std::mem::take(&mut self.batch)).map_err(|e| disk::failed(&self.path, &e))
    }

    fn finish(mut self, checkpoint: u64) -> Result<(), StoreError> {
        let seal = Seal { checkpoint, sum: self.sum };
        self.batch.insert(keys::FORMAT, &migrate::FORMAT.to_le_bytes());
        self.batch.insert(keys::WRITTEN, &checkpoint.to_le_bytes());
        self.batch.insert(keys::SEALS, seal::encode(&[seal, seal]));
        self.apply()?;
        Durability::new(&self.path).flush(&self.db)
    }
}

/// Renames the store to a name that is free, so that nothing is destroyed and a second accident does not stand in the way. `None`: there
/// was none.
///
/// # Errors
/// [`StoreError::Refused`], [`StoreError::Sled`].
pub fn set_aside(dir: &Path, why: &str) -> Result<Option<PathBuf>, StoreError> {
    if fs::symlink_metadata(dir).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let mut aside = beside(dir, why);
    for again in 2.. {
        if !aside.exists() {
            break;
        }
        aside = beside(dir, &format!("{why}.{again}"));
    }
    rename(dir, &aside)?;
    Ok(Some(aside))
}

fn beside(dir: &Path, extension: &str) -> PathBuf {
    dir.with_extension(extension)
}

fn remove(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("removing", dir, &e)),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    let parent = from.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::rename(from, to).and_then(|()| disk::sync_directory(parent)).map_err(|e| StoreError::io("renaming", from, &e))
}

#[cfg(test)]
mod tests {
    use super::super::SledUsers;
    use super::*;
    use crate::evaluate::UserWriter;

    const CACHE_BYTES: u64 = 1 << 20;

    fn users(writer: &SledWriter) -> Vec<(String, Value)> {
        writer.as_of_commit().map(|user| user.map(|user| (user.id.0.into(), user.value)).unwrap()).collect()
    }

    #[test]
    fn a_store_built_anew_holds_the_same_users_in_less_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.sled");
        let (_, mut writer) = SledUsers::open(&path, CACHE_BYTES, 0).unwrap();
        let records = |number: u8| (0..500).map(move |user| (UserId(format!("user{user}").into()), vec![number; 400]));
        for number in 1..=20 {
            writer.write(number.into(), &mut records(number)).unwrap();
            writer.committed(number.into());
        }
        writer.write(21, &mut records(21)).unwrap();
        let (before, size) = (users(&writer), writer.size_on_disk().unwrap());
        assert_eq!(before.len(), 500);
        from_store(&writer, &path, CACHE_BYTES).unwrap();
        drop(writer);
        let (_, writer) = SledUsers::open(&path, CACHE_BYTES, 20).unwrap();
        assert_eq!(users(&writer), before);
        assert!(writer.size_on_disk().unwrap() < size);
        assert!(!beside(&path, "built").exists() && !beside(&path, "replaced").exists());
    }

    #[test]
    fn only_a_large_store_of_few_users_is_bloated() {
        assert!(is_bloated(1 << 30, 100 << 20));
        assert!(!is_bloated(1 << 30, 200 << 20), "sled's plateau");
        assert!(!is_bloated(100 << 20, 0), "too small to mind");
    }
}
