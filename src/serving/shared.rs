use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};

use super::{Marks, ServedModel, SubscriberConfig};
use crate::domain::Version;
use crate::telemetry::names;
use crate::wire::snapshot::ServerState;

/// Refusals of one kind that are logged one by one.
const LINES_EACH: u64 = 16;

/// Something that went wrong, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// What, where, and the way out.
    pub what: String,
}

/// One look at a subscriber.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriberStatus {
    /// Model name.
    pub model: String,
    /// Version served.
    pub version: Option<Version>,
    /// Version that the topic says to serve, as far as it was read.
    pub target: Option<Version>,
    /// Why `version` is not `target` yet.
    pub waiting: Option<String>,
    /// A version that was refused, while it is the target: `waiting` says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Version>,
    /// The version served is past its expiry.
    pub stale: bool,
    /// The following thread runs.
    pub following: bool,
    /// A broker answers.
    pub connected: bool,
    /// Offsets between what was read and the end of the topic, at the last look; `None` before the first.
    pub behind: Option<u64>,
    /// Swaps since start.
    pub swaps: u64,
    /// How far the topic was read, in its own numbers.
    pub marks: Marks,
    /// Records and versions refused since start, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// The last thing that went wrong.
    pub last_error: Option<Incident>,
}

/// What the following thread tells and everybody else reads.
#[derive(Debug)]
pub(super) struct Shared {
    /// The label of what it counts.
    name: String,
    candidate_cache_bytes: usize,
    eight_bits: Option<f32>,
    served: ArcSwapOption<ServedModel>,
    told: Mutex<SubscriberStatus>,
    refusal: Mutex<Option<String>>,
    stop: AtomicBool,
}

impl Shared {
    /// Of the models that this configuration is for.
    pub(super) fn new(config: &SubscriberConfig) -> Self {
        let told = SubscriberStatus { model: config.model.clone(), ..SubscriberStatus::default() };
        Shared {
            name: config.model.clone(),
            candidate_cache_bytes: config.candidate_cache_bytes,
            eight_bits: config.eight_bits,
            served: ArcSwapOption::empty(),
            told: Mutex::new(told),
            refusal: Mutex::new(None),
            stop: AtomicBool::new(false),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn model(&self) -> Option<Arc<ServedModel>> {
        self.served.load_full()
    }

    pub(super) fn version(&self) -> Option<Version> {
        self.served.load().as_ref().map(|model| model.version())
    }

    pub(super) fn status(&self, following: bool) -> SubscriberStatus {
        let model = self.model();
        let version = model.as_ref().map(|model| model.version());
        let stale = model.is_some_and(|model| is_stale(&model));
        metrics::gauge!(names::SNAPSHOT_STALE, "model" => self.name.clone()).set(f64::from(u8::from(stale)));
        SubscriberStatus { version, stale, following, ..self.told().clone() }
    }

    /// The first model, from disk.
    pub(super) fn booted(&self, model: ServedModel) {
        self.store(model);
    }

    /// Serves `model` from the next request on; requests in flight finish on the one before.
    pub(super) fn swap(&self, model: ServedModel) {
        metrics::counter!(names::SNAPSHOT_SWAPS, "model" => self.name.clone()).increment(1);
        self.store(model);
        let mut told = self.told();
        told.swaps += 1;
        told.waiting = None;
        told.refused = None;
    }

    fn store(&self, model: ServedModel) {
        let model = model.with_candidate_cache(self.candidate_cache_bytes);
        let model = match self.eight_bits {
            Some(error_max) => model.in_eight_bits(error_max),
            None => model,
        };
        if let Some(before) = self.model() {
            model.remember_as(&before);
        }
        metrics::gauge!(names::SERVED_VERSION, "model" => self.name.clone()).set(model.version().0 as f64);
        self.served.store(Some(Arc::new(model)));
    }

    pub(super) fn read_to(&self, marks: Marks, target: Option<Version>) {
        let mut told = self.told();
        told.refused = told.refused.filter(|refused| target == Some(*refused));
        told.marks = marks;
        told.target = target;
    }

    pub(super) fn connected(&self, connected: bool) {
        self.told().connected = connected;
    }

    pub(super) fn behind(&self, behind: u64) {
        self.told().behind = Some(behind);
    }

    /// Says why the target is not served yet; logged when it changes. True if it did.
    pub(super) fn waiting(&self, why: Option<String>) -> bool {
        let mut told = self.told();
        if told.waiting == why {
            return false;
        }
        if let Some(why) = &why {
            tracing::warn!("not served yet: {why}");
        }
        told.waiting = why;
        true
    }

    /// What is served, what is to be, and how far that is.
    pub(super) fn standing(&self) -> (Option<Version>, Option<Version>, ServerState) {
        let version = self.version();
        let told = self.told();
        let state = match (&told.waiting, told.refused) {
            (Some(why), Some(_)) => ServerState::refused(why),
            _ if version.is_some() && version == told.target => ServerState::Serving,
            _ => ServerState::Waiting,
        };
        (version, told.target, state)
    }

    /// The target is whole and was refused: it is not tried again.
    pub(super) fn refused_version(&self, version: Version, why: &str) {
        self.waiting(Some(format!("version {version} was refused: {why}")));
        self.told().refused = Some(version);
    }

    /// Counts a refusal and keeps its text: who sees the one sees the other.
    pub(super) fn rejected(&self, reason: &'static str, what: &str) {
        metrics::counter!(names::SNAPSHOT_REJECTED, "model" => self.name.clone(), "reason" => reason).increment(1);
        let mut told = self.told();
        told.last_error = Some(Incident { at_ms: now_ms(), what: what.to_owned() });
        let count = told.rejected.entry(reason.to_owned()).or_default();
        *count += 1;
        if worth_a_line(*count) {
            tracing::warn!(reason, count = *count, "snapshots: {what}");
        }
    }

    /// Keeps the text of what went wrong.
    pub(super) fn failed(&self, what: &str) {
        tracing::warn!("snapshots: {what}");
        self.told().last_error = Some(Incident { at_ms: now_ms(), what: what.to_owned() });
    }

    pub(super) fn refused(&self, what: &str) {
        self.failed(what);
        *lock(&self.refusal) = Some(what.to_owned());
    }

    pub(super) fn refusal(&self) -> Option<String> {
        lock(&self.refusal).clone()
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn told(&self) -> MutexGuard<'_, SubscriberStatus> {
        lock(&self.told)
    }
}

/// Whether the `count`-th refusal of a kind is logged: the first few, then ever fewer, so that whoever may write to the topic cannot fill the
/// disk with log lines.
pub(crate) fn worth_a_line(count: u64) -> bool {
    count <= LINES_EACH || count.is_power_of_two()
}

/// Each holder writes whole values, so what a panicked one left is still right.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Past its expiry: a trainer that stopped must not stop the ads, so this is only ever reported.
pub(super) fn is_stale(model: &ServedModel) -> bool {
    now_ms() > model.manifest().expires_ms
}

/// Milliseconds since 1970; 0 for a clock set before that.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
