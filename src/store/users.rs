use std::path::{Path, PathBuf};

use super::disk::{self, Durability};
use super::record::{self, Record, Value};
use super::{StoreError, keys, migrate};
use crate::domain::UserId;
use crate::evaluate::{EvaluateError, UserStates};
use crate::failpoint;

/// Records per batch that sled applies at once: bounds the memory of a write.
const BATCH_RECORDS: usize = 1024;

/// Per-user records in sled, each tagged with the checkpoint that wrote it and keeping its value as of the commit before.
///
/// | tag of the record | read as of the last commit | written under N |
/// |---|---|---|
/// | ≤ last commit | its current value | current becomes previous |
/// | > last commit: a write that was never committed | its previous value, if any | previous stays previous |
#[derive(Debug)]
pub struct SledUsers {
    path: PathBuf,
    db: sled::Db,
    durability: Durability,
    committed: u64,
    written: u64,
}

impl SledUsers {
    /// Opens (or makes) the store, runs migrations, and takes back whatever was written under checkpoints above `committed`: those
    /// numbers may be committed yet, with other values.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Ahead`] if `committed` is older than the commit before the last.
    pub fn open(dir: &Path, cache_bytes: u64, committed: u64) -> Result<Self, StoreError> {
        let db = disk::open(dir, cache_bytes)?;
        let mut durability = Durability::new(dir);
        migrate::migrate(&db, dir, &mut durability)?;
        let written = keys::number(&db, dir, keys::WRITTEN)?.map_or(0, u64::from_le_bytes);
        let mut users = SledUsers { path: dir.to_owned(), db, durability, committed, written };
        if written > committed {
            users.take_back()?;
        }
        Ok(users)
    }

    /// Holds no user. With a commit that counts users, the directory was lost.
    ///
    /// # Errors
    /// [`StoreError::Sled`].
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        keys::users(&self.db).next().transpose().map(|first| first.is_none()).map_err(|e| disk::failed(&self.path, &e))
    }

    /// The highest checkpoint written. Below the last commit, which writes under its number even when no user changed, the directory
    /// is an older copy.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    fn take_back(&mut self) -> Result<(), StoreError> {
        // Everything is read before anything is changed: a store that cannot go back is left as it is.
        let (db, committed) = (self.db.clone(), self.committed);
        for entry in keys::users(&db) {
            let (key, record) = self.decode(entry)?;
            self.as_of(&key, record)?;
        }
        let mut batch = sled::Batch::default();
        let mut changes = 0;
        for entry in keys::users(&db) {
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
                self.at("users.take_back")?;
                db.apply_batch(std::mem::take(&mut batch)).map_err(|e| disk::failed(&self.path, &e))?;
            }
        }
        self.at("users.take_back")?;
        // Last: until then the next start takes back the rest.
        batch.insert(keys::WRITTEN, &committed.to_le_bytes());
        db.apply_batch(batch).map_err(|e| disk::failed(&self.path, &e))?;
        self.written = committed;
        self.durability.flush(&db)
    }

    fn put(&mut self, number: u64, records: &[(UserId, Vec<u8>)]) -> Result<(), StoreError> {
        self.written = self.written.max(number);
        // First: from now on a start with an older commit looks for what is to be taken back.
        self.db.insert(keys::WRITTEN, &self.written.to_le_bytes()).map_err(|e| disk::failed(&self.path, &e))?;
        for chunk in records.chunks(BATCH_RECORDS) {
            let mut batch = sled::Batch::default();
            for (user, bytes) in chunk {
                let (key, hashed) = keys::user_key(user);
                let previous = match self.db.get(&key).map_err(|e| disk::failed(&self.path, &e))? {
                    Some(value) => self.as_of(&key, self.parse(&key, &value)?)?,
                    None => None,
                };
                let record = Record { id: hashed.then(|| user.0.clone()), current: Value { tag: number, bytes: bytes.clone() }, previous };
                let value = record::encode(&key, &record);
                batch.insert(key, value);
            }
            self.at("users.batch")?;
            self.db.apply_batch(batch).map_err(|e| disk::failed(&self.path, &e))?;
        }
        self.durability.flush(&self.db)
    }

    fn at(&self, point: &str) -> Result<(), StoreError> {
        failpoint::reach(format_args!("{point}")).map_err(|e| disk::failed(&self.path, &e.into()))
    }

    fn get(&self, user: &UserId) -> Result<Option<Vec<u8>>, StoreError> {
        let (key, _) = keys::user_key(user);
        let Some(value) = self.db.get(&key).map_err(|e| disk::failed(&self.path, &e))? else { return Ok(None) };
        Ok(self.as_of(&key, self.parse(&key, &value)?)?.map(|value| value.bytes))
    }

    fn visit(&self, visit: &mut dyn FnMut(UserId, Vec<u8>)) -> Result<(), StoreError> {
        for entry in keys::users(&self.db) {
            let (key, mut record) = self.decode(entry)?;
            let id = match record.id.take() {
                Some(id) => id,
                None => String::from_utf8(key.to_vec()).map_err(|_| self.corrupt(&key, "its key is no UTF-8".to_owned()))?.into_boxed_str(),
            };
            if let Some(value) = self.as_of(&key, record)? {
                visit(UserId(id), value.bytes);
            }
        }
        Ok(())
    }

    fn decode(&self, entry: sled::Result<(sled::IVec, sled::IVec)>) -> Result<(sled::IVec, Record), StoreError> {
        let (key, value) = entry.map_err(|e| disk::failed(&self.path, &e))?;
        let record = self.parse(&key, &value)?;
        Ok((key, record))
    }

    fn parse(&self, key: &[u8], value: &[u8]) -> Result<Record, StoreError> {
        record::decode(key, value).map_err(|why| self.corrupt(key, why.to_string()))
    }

    fn as_of(&self, key: &[u8], record: Record) -> Result<Option<Value>, StoreError> {
        record.value_at(self.committed).map_err(|found| StoreError::Ahead {
            path: self.path.clone(),
            key: keys::printable(key),
            found,
            committed: self.committed,
        })
    }

    fn corrupt(&self, key: &[u8], why: String) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), key: keys::printable(key), why }
    }
}

impl UserStates for SledUsers {
    fn load(&mut self, user: &UserId) -> Result<Option<Vec<u8>>, EvaluateError> {
        self.get(user).map_err(|e| EvaluateError::Store(e.to_string()))
    }

    fn write(&mut self, number: u64, records: &[(UserId, Vec<u8>)]) -> Result<(), EvaluateError> {
        self.put(number, records).map_err(|e| EvaluateError::Store(e.to_string()))
    }

    fn committed(&mut self, number: u64) {
        self.committed = number;
    }

    fn scan(&mut self, visit: &mut dyn FnMut(UserId, Vec<u8>)) -> Result<(), EvaluateError> {
        self.visit(visit).map_err(|e| EvaluateError::Store(e.to_string()))
    }
}
