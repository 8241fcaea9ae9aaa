use crate::domain::UserId;

/// Why a metric could not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// The store of users failed.
    #[error("per-user store: {0}")]
    Store(String),
    /// A user's record cannot be read.
    #[error("per-user record of user {user}: {why}")]
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
}

/// Per-user records, opaque bytes (the codec is `evaluate`'s), as of the last commit.
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
pub struct MemoryUsers {}
