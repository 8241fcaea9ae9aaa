use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::UserId;

/// Why a metric could not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// The store of users failed.
    #[error("per-user store: {0}")]
    Store(String),
    /// A user's record cannot be read.
    #[error("per-user record of user {user}: {why}; move the store's directory away to start GAUC afresh (weights do not depend on it)")]
    Record {
        /// User id.
        user: String,
        /// Why.
        why: String,
    },
    /// `evaluate.from` is no time.
    #[error("evaluate.from = \"{value}\": {why}; write it like \"2022-04-27T00:00:00Z\"")]
    From {
        /// As configured.
        value: String,
        /// Why.
        why: String,
    },
    /// A setting that cannot be.
    #[error("evaluate.{key} = {value}: allowed is {allowed}")]
    Setting {
        /// Key below `evaluate`.
        key: &'static str,
        /// As configured.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// Per-user records as of the last commit, opaque bytes (the codec is `evaluate`'s): the reading half of a store. Threads share it.
pub trait UserStates: Send + Sync {
    /// The record of a user as of the last commit.
    ///
    /// # Errors
    /// [`EvaluateError::Store`].
    fn load(&self, user: &UserId) -> Result<Option<Vec<u8>>, EvaluateError>;

    /// Calls `visit` with every user's record as of the last commit, until it breaks off. A commit meanwhile may be seen by some of them.
    ///
    /// # Errors
    /// [`EvaluateError::Store`].
    fn scan(&self, visit: &mut dyn FnMut(UserId, Vec<u8>) -> ControlFlow<()>) -> Result<(), EvaluateError>;
}

/// The writing half: one thread's.
///
/// A write that is never committed is replaced by the next one, which must bring its records again.
pub trait UserWriter: Send {
    /// Why a write failed.
    type Error;

    /// Writes records under checkpoint `number`, durably (flush and fsync), keeping each one's value as of the last commit.
    ///
    /// # Errors
    /// As the store has them.
    fn write(&mut self, number: u64, records: &mut dyn Iterator<Item = (UserId, Vec<u8>)>) -> Result<(), Self::Error>;

    /// Checkpoint `number` is committed: [`UserStates::load`] sees its values from now on.
    fn committed(&mut self, number: u64);
}

/// Users in memory: for backtests and tests. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryUsers {
    shared: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    committed: HashMap<UserId, Vec<u8>>,
    written: Option<Written>,
}

/// A write that is not committed yet.
#[derive(Debug)]
struct Written {
    number: u64,
    records: Vec<(UserId, Vec<u8>)>,
}

impl MemoryUsers {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UserStates for MemoryUsers {
    fn load(&self, user: &UserId) -> Result<Option<Vec<u8>>, EvaluateError> {
        Ok(self.lock().committed.get(user).cloned())
    }

    fn scan(&self, visit: &mut dyn FnMut(UserId, Vec<u8>) -> ControlFlow<()>) -> Result<(), EvaluateError> {
        let _broken_off = self.lock().committed.iter().try_for_each(|(user, record)| visit(user.clone(), record.clone()));
        Ok(())
    }
}

impl UserWriter for MemoryUsers {
    type Error = Infallible;

    fn write(&mut self, number: u64, records: &mut dyn Iterator<Item = (UserId, Vec<u8>)>) -> Result<(), Infallible> {
        self.lock().written = Some(Written { number, records: records.collect() });
        Ok(())
    }

    fn committed(&mut self, number: u64) {
        let mut memory = self.lock();
        if let Some(written) = memory.written.take_if(|written| written.number == number) {
            memory.committed.extend(written.records);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_seen_once_committed() {
        let (mut users, user) = (MemoryUsers::default(), UserId("u".into()));
        users.write(1, &mut std::iter::once((user.clone(), vec![1]))).unwrap();
        assert_eq!(users.load(&user).unwrap(), None);
        users.committed(1);
        users.write(2, &mut std::iter::once((user.clone(), vec![2]))).unwrap();
        assert_eq!(users.load(&user).unwrap(), Some(vec![1]));
        users.write(3, &mut std::iter::once((user.clone(), vec![3]))).unwrap();
        users.committed(2);
        assert_eq!(users.load(&user).unwrap(), Some(vec![1]), "the write of 3 replaced that of 2");
        users.committed(3);
        assert_eq!(users.load(&user).unwrap(), Some(vec![3]));
    }
}
