use super::Status;
use crate::evaluate::UserLine;
use crate::publish::Published;

/// A handle on a running pipeline; cheap to clone. Its calls block; never call them from async code.
#[derive(Clone)]
pub struct Control {}

impl Control {
    /// Stop reading, drain what is batched, checkpoint, leave.
    pub fn stop(&self) {
        todo!()
    }

    /// One look.
    #[must_use]
    pub fn status(&self) -> Status {
        todo!()
    }

    /// Commits a checkpoint and publishes it; waits for both.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn snapshot_now(&self) -> Result<Published, String> {
        todo!()
    }

    /// The users with most impressions, as of the last commit.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn top_users(&self, n: usize) -> Result<Vec<UserLine>, String> {
        let _ = n;
        todo!()
    }
}
