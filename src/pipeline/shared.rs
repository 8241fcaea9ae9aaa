//! What the threads and the handles on them share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::freshness::Learnt;
use super::keeper::now_ms;
use super::{PipelineError, Status};
use crate::batch::Produced;
use crate::checkpoint::LastPublished;
use crate::domain::PartitionPosition;
use crate::evaluate::Report;

/// Shared by every thread of a pipeline. Locks are held for a copy, never across work.
pub(super) struct Shared {
    stop: AtomicBool,
    failure: Mutex<Option<PipelineError>>,
    /// What the training and publishing threads last reported.
    status: Mutex<Status>,
    /// What the evaluating thread last reported.
    report: Mutex<Report>,
    /// Events handed to decoding since start, those skipped as already done left out.
    read: AtomicU64,
    /// Events done before this start.
    recovered: AtomicU64,
    /// Number of the version promoted last by this run; 0 before the first.
    promoted: AtomicU64,
    /// What versions have learnt that were not promoted yet.
    learnt: Mutex<Learnt>,
    /// Positions to tell the broker about.
    advisory: Mutex<Option<Vec<PartitionPosition>>>,
    started: Instant,
}

impl Shared {
    pub(super) fn new(status: Status, report: Report) -> Self {
        Shared {
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
            recovered: AtomicU64::new(status.books.done()),
            status: Mutex::new(status),
            report: Mutex::new(report),
            read: AtomicU64::new(0),
            promoted: AtomicU64::new(0),
            learnt: Mutex::default(),
            advisory: Mutex::new(None),
            started: Instant::now(),
        }
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Keeps the first error and stops reading.
    pub(super) fn fail(&self, error: PipelineError) {
        tracing::error!(%error, "pipeline stops");
        lock(&self.failure).get_or_insert(error);
        self.stop();
    }

    pub(super) fn take_failure(&self) -> Option<PipelineError> {
        lock(&self.failure).take()
    }

    pub(super) fn count_read(&self) {
        self.read.fetch_add(1, Ordering::Relaxed);
    }

    /// Version `number` is to be published, and is the first that has learnt from these samples.
    pub(super) fn has_learnt(&self, number: u64, produced: Produced) {
        lock(&self.learnt).by(number, produced);
    }

    pub(super) fn was_promoted(&self, number: u64) {
        self.promoted.store(number, Ordering::Relaxed);
        let promoted = lock(&self.learnt).promoted(number, now_ms());
        if let Some(freshness) = promoted {
            self.update(|status| status.freshness = Some(freshness));
        }
    }

    pub(super) fn promoted(&self) -> u64 {
        self.promoted.load(Ordering::Relaxed)
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut lock(&self.status));
    }

    /// What was last published.
    pub(super) fn published(&self) -> Option<LastPublished> {
        let status = lock(&self.status);
        status.published.map(|version| LastPublished { version, promoted: status.promoted })
    }

    pub(super) fn set_report(&self, report: Report) {
        *lock(&self.report) = report;
    }

    /// The status with everything that is known now.
    pub(super) fn status(&self) -> Status {
        let mut status = lock(&self.status).clone();
        status.uptime_s = self.started.elapsed().as_secs_f64();
        status.read = self.recovered.load(Ordering::Relaxed) + self.read.load(Ordering::Relaxed);
        status.pending = status.read.saturating_sub(status.books.done());
        status.report = lock(&self.report).clone();
        status
    }

    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    pub(super) fn advise(&self, positions: Vec<PartitionPosition>) {
        *lock(&self.advisory) = Some(positions);
    }

    pub(super) fn take_advice(&self) -> Option<Vec<PartitionPosition>> {
        lock(&self.advisory).take()
    }
}

/// A panic elsewhere ends the pipeline through its thread; the data behind the lock is a plain copy and still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
