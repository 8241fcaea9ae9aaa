//! The admin socket: one JSON request per line, one JSON answer per line.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What rocketctl may ask a running daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// One look.
    Status,
    /// Commit a checkpoint and publish it now.
    SnapshotNow,
    /// Metrics and the users that weigh most.
    Gauc {
        /// How many users.
        top: usize,
    },
}

/// The daemon's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why not.
    Error(String),
}

/// Answers requests; may block (it runs on a blocking thread).
pub type Handler = Arc<dyn Fn(Request) -> Answer + Send + Sync>;

/// Why the socket could not be used.
#[derive(Debug, thiserror::Error)]
#[error("admin socket {path}: {why}")]
pub struct AdminError {
    /// The socket.
    pub path: String,
    /// Why, and the way out.
    pub why: String,
}

/// Binds `path` (mode 0600, a stale socket replaced, a live one refused) and answers until `shutdown` resolves.
///
/// # Errors
/// [`AdminError`] if it cannot bind.
pub async fn serve(path: &Path, handler: Handler, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), AdminError> {
    let _ = (path, handler, shutdown);
    todo!()
}

/// Asks the daemon behind `path`. Blocking.
///
/// # Errors
/// [`AdminError`]: nobody listens, or the answer is none.
pub fn ask(path: &Path, request: &Request) -> Result<Answer, AdminError> {
    let _ = (path, request);
    todo!()
}
