use std::collections::HashMap;

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

/// Per-user records, opaque bytes (the codec is `evaluate`'s), as of the last commit.
///
/// A write that is never committed is replaced by the next one, which must bring its records again.
pub trait UserStates: Send {
    /// The record of a user as of the last commit.
    ///
    /// # Errors
    /// [`EvaluateError::Store`].
    fn load(&mut self, user: &UserId) -> Result<Option<Vec<u8>>, EvaluateError>;

    /// Writes records under checkpoint `number`, durably (flush and fsync), keeping each one's value as of the last commit.
    ///
    /// # Errors
    /// [`EvaluateError::Store`].
    fn write(&mut self, number: u64, records: &[(UserId, Vec<u8>)]) -> Result<(), EvaluateError>;

    /// Checkpoint `number` is committed: [`UserStates::load`] sees its values from now on.
    fn committed(&mut self, number: u64);

    /// Calls `visit` with every user's record as of the last commit.
    ///
    /// # Errors
    /// [`EvaluateError::Store`].
    fn scan(&mut self, visit: &mut dyn FnMut(UserId, Vec<u8>)) -> Result<(), EvaluateError>;
}

/// Users in memory: for backtests and tests.
#[derive(Debug, Default)]
pub struct MemoryUsers {
    committed: HashMap<UserId, Vec<u8>>,
    written: Option<Written>,
}

/// A write that is not committed yet.
#[derive(Debug)]
struct Written {
    number: u64,
    records: Vec<(UserId, Vec<u8>)>,
}

impl UserStates for MemoryUsers {
    fn load(&mut self, user: &UserId) -> Result<Option<Vec<u8>>, EvaluateError> {
        Ok(self.committed.get(user).cloned())
    }

    fn write(&mut self, number: u64, records: &[(UserId, Vec<u8>)]) -> Result<(), EvaluateError> {
        self.written = Some(Written { number, records: records.to_vec() });
        Ok(())
    }

    fn committed(&mut self, number: u64) {
        if let Some(written) = self.written.take_if(|written| written.number == number) {
            self.committed.extend(written.records);
        }
    }

    fn scan(&mut self, visit: &mut dyn FnMut(UserId, Vec<u8>)) -> Result<(), EvaluateError> {
        for (user, record) in &self.committed {
            visit(user.clone(), record.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_seen_once_committed() {
        let (mut users, user) = (MemoryUsers::default(), UserId("u".into()));
        users.write(1, &[(user.clone(), vec![1])]).unwrap();
        assert_eq!(users.load(&user).unwrap(), None);
        users.committed(1);
        users.write(2, &[(user.clone(), vec![2])]).unwrap();
        assert_eq!(users.load(&user).unwrap(), Some(vec![1]));
        users.write(3, &[(user.clone(), vec![3])]).unwrap();
        users.committed(2);
        assert_eq!(users.load(&user).unwrap(), Some(vec![1]), "the write of 3 replaced that of 2");
        users.committed(3);
        assert_eq!(users.load(&user).unwrap(), Some(vec![3]));
    }
}
