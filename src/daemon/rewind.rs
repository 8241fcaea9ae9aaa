//! Going back to an earlier checkpoint while the daemon runs: the pipeline drains, an earlier state becomes the newest commit, and a new
//! pipeline goes on from it in the same process.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::checkpoint::{self, CheckpointError, CheckpointStore};
use crate::domain::Quarantine;
use crate::pipeline::Control;

/// Shorter than rocketctl waits for an answer: it is to hear this one.
const ANSWER: Duration = Duration::from_secs(115);

/// What an operator has asked for.
pub(super) struct Order {
    /// The checkpoint to go back to.
    pub(super) checkpoint: u64,
    /// Skipped from now on.
    pub(super) quarantine: Quarantine,
    /// The number of the new commit, or why there is none.
    pub(super) reply: SyncSender<Result<u64, String>>,
}

/// The pipeline that runs now, for whoever asks; while the daemon goes back, why there is none.
#[derive(Clone)]
pub(super) struct Live(Arc<Mutex<Result<Control, String>>>);

impl Live {
    pub(super) fn new(control: Control) -> Self {
        Live(Arc::new(Mutex::new(Ok(control))))
    }

    pub(super) fn set(&self, now: Result<Control, String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(super) fn control(&self) -> Result<Control, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Hands the order to the daemon and waits until the earlier state is committed. Blocking. What cannot be is refused before anything stops.
pub(super) fn ask(dir: &Path, orders: &mpsc::Sender<Order>, checkpoint: u64, quarantine: Quarantine) -> Result<u64, String> {
    let commit = checkpoint::commit(dir, checkpoint).map_err(|error| error.to_string())?;
    if !checkpoint::is_whole(dir, &commit) {
        return Err(format!("checkpoint {checkpoint} is damaged: see `rocketctl checkpoint verify {checkpoint}`"));
    }
    // 1: one answer.
    let (reply, answer) = sync_channel(1);
    orders.try_send(Order { checkpoint, quarantine, reply }).map_err(|_| "the daemon is going back already".to_owned())?;
    answer.recv_timeout(ANSWER).map_err(|_| format!("no answer within {} s; see the daemon's log", ANSWER.as_secs()))?
}

/// Makes the checkpoint the newest commit, with what is skipped from now on. The pipeline has ended.
pub(super) fn restore(dir: &Path, keep: usize, order: &Order, now_ms: i64) -> Result<u64, CheckpointError> {
    let mut store = CheckpointStore::open(dir, keep)?;
    Ok(store.restore_skipping(order.checkpoint, &order.quarantine, now_ms)?.number)
}
