use std::path::Path;

use super::StoreError;
use crate::domain::UserId;
use crate::evaluate::{EvaluateError, UserStates};

/// Per-user records in sled, each tagged with the checkpoint that wrote it and keeping its value as of the commit before.
#[derive(Debug)]
pub struct SledUsers {}

impl SledUsers {
    /// Opens (or makes) the store, runs migrations, and reads as of checkpoint `committed`: a record tagged above it yields its
    /// previous value.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(dir: &Path, cache_bytes: u64, committed: u64) -> Result<Self, StoreError> {
        let _ = (dir, cache_bytes, committed);
        todo!()
    }
}

impl UserStates for SledUsers {
    fn load(&mut self, _user: &UserId) -> Result<Option<Vec<u8>>, EvaluateError> {
        todo!()
    }
    fn write(&mut self, _number: u64, _records: &[(UserId, Vec<u8>)]) -> Result<(), EvaluateError> {
        todo!()
    }
    fn committed(&mut self, _number: u64) {
        todo!()
    }
    fn scan(&mut self, _visit: &mut dyn FnMut(UserId, Vec<u8>)) -> Result<(), EvaluateError> {
        todo!()
    }
}
