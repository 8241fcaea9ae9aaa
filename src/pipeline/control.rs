use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use super::Status;
use super::keeper::TopUsers;
use super::shared::Shared;
use super::trainer::Command;
use crate::evaluate::UserLine;
use crate::publish::Published;

/// How long a busy thread may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// A handle on a running pipeline; cheap to clone. Its calls block; never call them from async code.
#[derive(Clone)]
pub struct Control {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Sender<Command>,
    pub(super) questions: Sender<TopUsers>,
}

impl Control {
    /// Stop reading, train what is batched, checkpoint, leave. Events in the join or in an open batch are read again after the next start.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// One look.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Commits a checkpoint and publishes it; waits for both.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn snapshot_now(&self) -> Result<Published, String> {
        // 1: one answer.
        let (reply, answer) = bounded(1);
        self.commands.send(Command::SnapshotNow(reply)).map_err(|_| "the pipeline has ended".to_owned())?;
        answer.recv_timeout(ANSWER).map_err(|_| format!("no answer within {} s", ANSWER.as_secs()))?
    }

    /// The users with most impressions, as of the last commit.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn top_users(&self, n: usize) -> Result<Vec<UserLine>, String> {
        // 1: one answer.
        let (reply, answer) = bounded(1);
        self.questions.send(TopUsers { n, reply }).map_err(|_| "the pipeline has ended".to_owned())?;
        answer.recv_timeout(ANSWER).map_err(|_| format!("no answer within {} s", ANSWER.as_secs()))?
    }
}
