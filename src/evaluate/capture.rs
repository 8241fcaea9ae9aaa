use std::sync::Arc;

use super::user::User;
use super::{AggregateState, Report, record};
use crate::domain::UserId;

/// Metrics as of one moment, on their way to a checkpoint.
pub struct Capture {
    /// Checkpoint number.
    pub number: u64,
    /// What goes into the commit record.
    pub aggregates: AggregateState,
    /// Metrics, for people and manifests.
    pub report: Report,
    users: Vec<(UserId, Arc<User>)>,
    lengths: Vec<i64>,
}

impl Capture {
    pub(super) fn new(number: u64, aggregates: AggregateState, report: Report, users: Vec<(UserId, Arc<User>)>, lengths: Vec<i64>) -> Self {
        Capture { number, aggregates, report, users, lengths }
    }

    /// Records of the users that differ from the last commit, by id. Each is encoded when it is taken, and its user let go.
    pub fn records(&mut self) -> impl Iterator<Item = (UserId, Vec<u8>)> {
        let mut users = std::mem::take(&mut self.users);
        users.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let lengths = self.lengths.as_slice();
        users.into_iter().map(move |(id, user)| (id, record::encode(&user, lengths)))
    }
}
