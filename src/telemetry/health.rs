use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Is it alive, is it ready? Shared by the training loop (which reports progress), HTTP and systemd's watchdog.
#[derive(Debug, Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    stall: Duration,
    /// Milliseconds from `started` to the last progress.
    progress_ms: AtomicU64,
    ready: AtomicBool,
    /// What the start waits for.
    waiting: Mutex<Option<String>>,
}

/// An answer with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Yes or no.
    pub ok: bool,
    /// Why, for people.
    pub why: String,
}

impl Health {
    /// Not ready; live until `stall` passes without progress.
    #[must_use]
    pub fn new(stall: Duration) -> Self {
        Health {
            shared: Arc::new(Shared {
                started: Instant::now(),
                stall,
                progress_ms: AtomicU64::new(0),
                ready: AtomicBool::new(false),
                waiting: Mutex::new(None),
            }),
        }
    }

    /// The training loop went round (trained a batch, or found nothing to do).
    pub fn progress(&self) {
        let now = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.progress_ms.fetch_max(now, Ordering::Relaxed);
    }

    /// Recovered and reading.
    pub fn ready(&self, ready: bool) {
        self.shared.ready.store(ready, Ordering::Release);
    }

    /// The start waits for something outside, or (`None`) no longer does. That is no stall.
    pub fn waiting_for(&self, what: Option<String>) {
        self.progress();
        *self.waiting() = what;
    }

    fn waiting(&self) -> MutexGuard<'_, Option<String>> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Progress within `stall`?
    #[must_use]
    pub fn live(&self) -> Verdict {
        self.live_at(self.shared.started.elapsed())
    }

    fn live_at(&self, since_start: Duration) -> Verdict {
        if let Some(what) = &*self.waiting() {
            return Verdict { ok: true, why: format!("waiting: {what}") };
        }
        let silent = since_start.saturating_sub(Duration::from_millis(self.shared.progress_ms.load(Ordering::Relaxed)));
        let stall = self.shared.stall;
        if silent < stall {
            Verdict { ok: true, why: format!("training loop went round {:.1} s ago", silent.as_secs_f64()) }
        } else {
            let why = format!(
                "training loop has made no progress for {:.1} s (admin.stall is {:.1} s)",
                silent.as_secs_f64(),
                stall.as_secs_f64()
            );
            Verdict { ok: false, why }
        }
    }

    /// Live and recovered?
    #[must_use]
    pub fn is_ready(&self) -> Verdict {
        if self.shared.ready.load(Ordering::Acquire) {
            self.live()
        } else {
            let why = match &*self.waiting() {
                Some(what) => format!("waiting: {what}"),
                None => "not recovered yet, or leaving".to_owned(),
            };
            Verdict { ok: false, why }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    #[test]
    fn not_ready_until_told() {
        let health = Health::new(STALL);
        assert!(!health.is_ready().ok);
        assert!(health.live().ok);
        health.clone().ready(true);
        assert!(health.is_ready().ok, "clones share one state");
        health.ready(false);
        assert!(!health.is_ready().ok);
    }

    #[test]
    fn a_stalled_loop_is_not_live() {
        let health = Health::new(STALL);
        assert!(health.live_at(STALL - Duration::from_millis(1)).ok);
        let stalled = health.live_at(STALL);
        assert!(!stalled.ok);
        assert!(stalled.why.contains("60.0 s"), "{}", stalled.why);

        health.shared.progress_ms.store(30_000, Ordering::Relaxed);
        assert!(health.live_at(STALL).ok, "progress half way counts");
        assert!(!health.live_at(STALL + Duration::from_secs(30)).ok);
    }

    #[test]
    fn who_waits_is_alive_and_says_for_what() {
        let health = Health::new(STALL);
        health.waiting_for(Some("no broker answers at b:9092".to_owned()));
        assert!(health.live_at(STALL * 9).ok);
        let verdict = health.is_ready();
        assert!(!verdict.ok && verdict.why.contains("b:9092"), "{verdict:?}");
        health.waiting_for(None);
        assert!(!health.live_at(STALL * 9).ok);
        assert!(!health.is_ready().why.contains("b:9092"));
    }

    #[test]
    fn without_a_stall_limit_reached_readiness_needs_liveness() {
        let health = Health::new(Duration::ZERO);
        health.ready(true);
        assert!(!health.is_ready().ok, "ready but stalled");
    }
}
