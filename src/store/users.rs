use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::{self, Durability};
use super::record::{self, Record, Value};
use super::seal::{self, Seal, Sum};
use super::{StoreError, export, keys, migrate, rebuild};
use crate::domain::UserId;
use crate::evaluate::{EvaluateError, UserStates, UserWriter};
use crate::failpoint;

/// Records per batch that sled applies at once: bounds the memory of a write.
pub(super) const BATCH_RECORDS: usize = 1024;

/// Per-user records in sled, each tagged with the checkpoint that wrote it and keeping its value as of the commit before: the reading half.
/// Clones share the store.
///
/// | tag of the record | read as of the last commit | written under N |
/// |---|---|---|
/// | ≤ last commit | its current value | current becomes previous |
/// | > last commit: a write that was never committed | its previous value, if any | previous stays previous |
#[derive(Debug, Clone)]
pub struct SledUsers {
    store: Arc<Store>,
}

/// The writing half; there is one.
#[derive(Debug)]
pub struct SledWriter {
    store: Arc<Store>,
    durability: Durability,
    /// The users as of the last commit.
    base: Seal,
    /// The users of the last write that reached its end.
    written: Seal,
}

/// What both halves see.
#[derive(Debug)]
struct Store {
    path: PathBuf,
    db: sled::Db,
    committed: AtomicU64,
}

impl SledUsers {
    /// Opens (or makes) the store, runs migrations, reads every record and misses what sled lost, and takes back whatever was written
    /// under checkpoints above `committed`: those numbers may be committed yet, with other values. A store that has grown far beyond
    /// what it holds is built anew first.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::OtherCommit`] if it has no users as of `committed`.
    pub fn open(dir: &Path, cache_bytes: u64, committed: u64) -> Result<(Self, SledWriter), StoreError> {
        rebuild::settle(dir)?;
        let writer = open_whole(dir, cache_bytes, committed)?;
        if !rebuild::is_bloated(writer.size_on_disk()?, writer.live_bytes()) {
            return Ok((SledUsers { store: Arc::clone(&writer.store) }, writer));
        }
        if let Err(error) = rebuild::from_store(&writer, dir, cache_bytes) {
            tracing::warn!(%error, "the per-user store is larger than it need be and could not be built anew");
            return Ok((SledUsers { store: Arc::clone(&writer.store) }, writer));
        }
        drop(writer);
        rebuild::settle(dir)?;
        let writer = open_whole(dir, cache_bytes, committed)?;
        Ok((SledUsers { store: Arc::clone(&writer.store) }, writer))
    }
}

/// Every sled error or panic on the way is ours to name.
fn open_whole(dir: &Path, cache_bytes: u64, committed: u64) -> Result<SledWriter, StoreError> {
    let db = disk::open(dir, cache_bytes)?;
    let store = Arc::new(Store { path: dir.to_owned(), db, committed: AtomicU64::new(committed) });
    let whole = disk::guarded(dir, || store.whole(committed)).and_then(|whole| whole);
    match whole {
        Ok((durability, base)) => Ok(SledWriter { store, durability, base, written: base }),
        Err(error) => {
            disk::guarded(dir, move || drop(store))?;
            Err(error)
        }
    }
}

impl Store {
    /// Brings the store to `committed` and checks every user.
    fn whole(&self, committed: u64) -> Result<(Durability, Seal), StoreError> {
        let mut durability = Durability::new(&self.path);
        migrate::migrate(&self.db, &self.path, &mut durability)?;
        let written = keys::number(&self.db, &self.path, keys::WRITTEN)?.map(u64::from_le_bytes);
        let seal = self.seal(written, committed)?;
        let sum = self.sum(committed)?;
        if let Some(seal) = seal {
            self.compare(seal.sum, sum)?;
        }
        let base = Seal { checkpoint: committed, sum };
        let dead = written.is_some_and(|written| written > committed);
        if seal.is_some() && !dead {
            return Ok((durability, base));
        }
        if dead {
            self.take_back(committed)?;
        }
        let mut batch = sled::Batch::default();
        // Last: until then the next start takes back the rest.
        batch.insert(keys::WRITTEN, &committed.to_le_bytes());
        batch.insert(keys::SEALS, seal::encode(&[base, base]));
        self.apply(batch)?;
        durability.flush(&self.db)?;
        Ok((durability, base))
    }

    /// The seal of `committed`. `None`: there is none yet, neither has anything been lost.
    fn seal(&self, written: Option<u64>, committed: u64) -> Result<Option<Seal>, StoreError> {
        let other = |holds| Err(StoreError::OtherCommit { path: self.path.clone(), holds, committed });
        match (self.get_raw(keys::SEALS)?, written) {
            (Some(bytes), written) if bytes.is_empty() => {
                let written = written.unwrap_or(0);
                if written < committed { other(written) } else { Ok(None) }
            }
            (Some(bytes), _) => {
                let Some(seals) = seal::decode(&bytes) else { return Err(self.corrupt(keys::SEALS, "these are no seals")) };
                match seals.into_iter().find(|seal| seal.checkpoint == committed) {
                    Some(seal) => Ok(Some(seal)),
                    None => other(seals[0].checkpoint),
                }
            }
            (None, None) if keys::users(&self.db).next().is_none() => Ok(None),
            (None, _) => Err(self.corrupt(keys::SEALS, "they are missing, though there are users")),
        }
    }

    /// The users as of `committed`, every record read.
    fn sum(&self, committed: u64) -> Result<Sum, StoreError> {
        let mut sum = Sum::default();
        for entry in keys::users(&self.db) {
            let (key, record) = self.decode(entry)?;
            let value = record.value_at(committed);
            if let Some(value) = value.map_err(|found| StoreError::OtherCommit { path: self.path.clone(), holds: found, committed })? {
                sum.add(&key, &value);
            }
        }
        Ok(sum)
    }

    fn compare(&self, sealed: Sum, found: Sum) -> Result<(), StoreError> {
        if sealed == found {
            return Ok(());
        }
        let why = format!("{} users of {} bytes instead of {} of {}, or other ones", found.users, found.bytes, sealed.users, sealed.bytes);
        Err(self.corrupt(keys::SEALS, why))
    }

    fn take_back(&self, committed: u64) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        let mut changes = 0;
        for entry in keys::users(&self.db) {
            let (key, record) = self.decode(entry)?;
            if record.current.tag <= committed {
                continue;
            }
            let id = record.id.clone();
            match self.as_of(&key, record)? {
                Some(current) => batch.insert(&*key, record::encode(&key, &Record { id, current, previous: None })),
                None => batch.remove(&*key),
            }
            changes += 1;
            if changes % BATCH_RECORDS == 0 {
                disk::room(&self.path, 0)?;
                self.apply(std::mem::take(&mut batch))?;
            }
        }
        self.apply(batch)
    }

    fn apply(&self, batch: sled::Batch) -> Result<(), StoreError> {
        let apply = || {
            failpoint::reach(format_args!("users.batch"))?;
            self.db.apply_batch(batch)
        };
        apply().map_err(|e| disk::failed(&self.path, &e))
    }

    fn get_raw(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        self.db.get(key).map_err(|e| disk::failed(&self.path, &e))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        let Some(value) = self.get_raw(key)? else { return Ok(None) };
        self.as_of(key, self.parse(key, &value)?)
    }

    /// Users and their values as of the last commit.
    fn users(&self) -> impl Iterator<Item = Result<User, StoreError>> {
        keys::users(&self.db).filter_map(|entry| self.user(entry).transpose())
    }

    fn user(&self, entry: sled::Result<(sled::IVec, sled::IVec)>) -> Result<Option<User>, StoreError> {
        let (key, mut record) = self.decode(entry)?;
        let id = match record.id.take() {
            Some(id) => id,
            None => String::from_utf8(key.to_vec()).map_err(|_| self.corrupt(&key, "its key is no UTF-8"))?.into(),
        };
        let value = self.as_of(&key, record)?;
        Ok(value.map(|value| User { key, id: UserId(id), value }))
    }

    fn decode(&self, entry: sled::Result<(sled::IVec, sled::IVec)>) -> Result<(sled::IVec, Record), StoreError> {
        let (key, value) = entry.map_err(|e| disk::failed(&self.path, &e))?;
        let record = self.parse(&key, &value)?;
        Ok((key, record))
    }

    fn parse(&self, key: &[u8], value: &[u8]) -> Result<Record, StoreError> {
        record::decode(key, value).map_err(|why| self.corrupt(key, why))
    }

    /// The commit is asked for after the record was read: a write that replaced a previous value was begun after its commit was known here.
    fn as_of(&self, key: &[u8], record: Record) -> Result<Option<Value>, StoreError> {
        let committed = self.committed.load(Ordering::Acquire);
        record
            .value_at(committed)
            .map_err(|found| self.corrupt(key, format_args!("its oldest value is of checkpoint {found}, after {committed}")))
    }

    fn corrupt(&self, key: &[u8], why: impl std::fmt::Display) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), key: keys::printable(key), why: why.to_string() }
    }
}

/// One user as of the last commit.
pub(super) struct User {
    pub(super) key: sled::IVec,
    pub(super) id: UserId,
    pub(super) value: Value,
}

impl SledWriter {
    /// The last commit.
    #[must_use]
    pub fn checkpoint(&self) -> u64 {
        self.base.checkpoint
    }

    /// Users as of the last commit.
    #[must_use]
    pub fn users(&self) -> u64 {
        self.base.sum.users
    }

    /// Bytes of ids and values as of the last commit.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.base.sum.bytes
    }

    /// Bytes that sled takes for them.
    ///
    /// # Errors
    /// [`StoreError::Sled`].
    pub fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.store.db.size_on_disk().map_err(|e| disk::failed(&self.store.path, &e))
    }

    /// Sled has outgrown its users: the next start builds it anew.
    ///
    /// # Errors
    /// [`StoreError::Sled`].
    pub fn is_bloated(&self) -> Result<bool, StoreError> {
        Ok(rebuild::is_bloated(self.size_on_disk()?, self.live_bytes()))
    }

    /// Writes the users as of the last commit to a file ([`crate::store::Export`] reads it). Replaces a file of that name only once it is whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn export(&self, model: &str, file: &Path) -> Result<(), StoreError> {
        let mut writer = export::Writer::create(file, model, self.base.checkpoint)?;
        let mut sum = Sum::default();
        for user in self.as_of_commit() {
            let User { key, id, value } = user?;
            sum.add(&key, &value);
            writer.put(&id, &value.bytes)?;
        }
        self.store.compare(self.base.sum, sum)?;
        writer.finish()
    }

    /// Users and their values as of the last commit.
    pub(super) fn as_of_commit(&self) -> impl Iterator<Item = Result<User, StoreError>> {
        self.store.users()
    }

    /// The users as of the last commit, in a few numbers.
    pub(super) fn base(&self) -> Seal {
        self.base
    }

    fn put(&mut self, number: u64, records: &mut dyn Iterator<Item = (UserId, Vec<u8>)>) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        // First: from now on a start with an older commit looks for what is to be taken back.
        disk::room(&store.path, 0)?;
        store.db.insert(keys::WRITTEN, &number.to_le_bytes()).map_err(|e| disk::failed(&store.path, &e))?;
        let mut sum = self.base.sum;
        let mut records = records.peekable();
        while records.peek().is_some() {
            let (mut batch, mut bytes) = (sled::Batch::default(), 0);
            for (user, value) in records.by_ref().take(BATCH_RECORDS) {
                let (key, hashed) = keys::user_key(&user);
                let previous = store.get(&key)?;
                let current = Value { tag: number, bytes: value };
                if let Some(previous) = &previous {
                    sum.take(&key, previous);
                }
                sum.add(&key, &current);
                let record = record::encode(&key, &Record { id: hashed.then(|| user.0.clone()), current, previous });
                bytes += (key.len() + record.len()) as u64;
                batch.insert(key, record);
            }
            disk::room(&store.path, bytes)?;
            store.apply(batch)?;
        }
        let written = Seal { checkpoint: number, sum };
        store.db.insert(keys::SEALS, seal::encode(&[written, self.base])).map_err(|e| disk::failed(&store.path, &e))?;
        self.durability.flush(&store.db)?;
        self.written = written;
        Ok(())
    }
}

impl UserStates for SledUsers {
    fn load(&self, user: &UserId) -> Result<Option<Vec<u8>>, EvaluateError> {
        let (key, _) = keys::user_key(user);
        let value = self.store.get(&key).map_err(|e| EvaluateError::Store(e.to_string()))?;
        Ok(value.map(|value| value.bytes))
    }

    fn scan(&self, visit: &mut dyn FnMut(UserId, Vec<u8>) -> ControlFlow<()>) -> Result<(), EvaluateError> {
        for user in self.store.users() {
            let user = user.map_err(|e| EvaluateError::Store(e.to_string()))?;
            if visit(user.id, user.value.bytes).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl UserWriter for SledWriter {
    type Error = StoreError;

    fn write(&mut self, number: u64, records: &mut dyn Iterator<Item = (UserId, Vec<u8>)>) -> Result<(), StoreError> {
        self.put(number, records)
    }

    fn committed(&mut self, number: u64) {
        if self.written.checkpoint == number {
            self.base = self.written;
            self.store.committed.store(number, Ordering::Release);
        }
    }
}
