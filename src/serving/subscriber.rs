use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::cache::{CacheError, Seen, SnapshotCache};
use super::follower::Follower;
use super::objects::Objects;
use super::reports::{self, Reporting};
use super::shared::{Shared, SubscriberStatus};
use super::{CANDIDATE_CACHE_BYTES, Marks, ServedModel};
use crate::domain::Version;
use crate::keys::Trust;
use crate::stream::{LogReader, StreamError};
use crate::wire::snapshot::Group;

/// Snapshots kept on disk: the one served, and two to fall back to where a file is damaged.
const KEEP: usize = 3;
/// Largest artifact fetched: a hundred million rows of sixteen floats are seven times that, and belong on a server of another kind.
pub(crate) const ARTIFACT_BYTES_MAX: u64 = 1 << 30;
/// One wait for the next record; also how soon a stop is noticed.
const POLL: Duration = Duration::from_millis(100);
/// How long eight chunks of at most a MiB may take to come.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// First wait before connecting again; doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Longest wait before connecting again: a server is back this soon after its broker.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// How to follow a topic.
#[derive(Debug, Clone)]
pub struct SubscriberConfig {
    /// Model name; records of others are refused.
    pub model: String,
    /// Whose records count; empty: everybody's.
    pub trust: Trust,
    /// This server's name: whether it takes part in a canary follows from it, and reports are kept by it. Empty: it takes part in none.
    pub host: String,
    /// The group of servers that it is pinned with.
    pub group: Option<Group>,
    /// Directory of the snapshots on disk; this subscriber's own. What lies there was verified before it was written and is not again: it
    /// has to be served when no broker is there to say that a key is no longer trusted.
    pub cache_dir: PathBuf,
    /// Snapshots kept there.
    pub keep: usize,
    /// Columns that requests to this server bear: a version that reads another one is refused, since its feature would be missing from every
    /// request. None: every version is served.
    pub columns: Option<BTreeSet<String>>,
    /// Where this server tells how far it is; none: it does not.
    pub reports: Option<Reporting>,
    /// Largest artifact fetched, bytes.
    pub artifact_bytes_max: u64,
    /// What a model remembers of candidates that it has scored takes no more memory than this; 0: nothing is remembered. A swap waits until
    /// the new model has made its own of them, some microseconds each.
    pub candidate_cache_bytes: usize,
    /// Score in 8 bits where that moves no probe's logit by more than this ([`ServedModel::in_eight_bits`]); `None`: in floats.
    pub eight_bits: Option<f32>,
    /// Where artifacts lie that are too large for the topic.
    pub objects: Objects,
    /// One wait for the next record; also how soon [`Subscriber::stop`] is noticed.
    pub poll: Duration,
    /// How long a handful of chunks may take to come.
    pub fetch_timeout: Duration,
    /// First wait before connecting again; doubles.
    pub backoff_min: Duration,
    /// Longest wait before connecting again.
    pub backoff_max: Duration,
}

impl SubscriberConfig {
    /// With defaults; nobody's signature is asked for, the server has no name and is in no group.
    #[must_use]
    pub fn new(model: &str, cache_dir: impl Into<PathBuf>) -> Self {
        SubscriberConfig {
            model: model.to_owned(),
            trust: Trust::default(),
            host: String::new(),
            group: None,
            cache_dir: cache_dir.into(),
            keep: KEEP,
            columns: None,
            reports: None,
            artifact_bytes_max: ARTIFACT_BYTES_MAX,
            candidate_cache_bytes: CANDIDATE_CACHE_BYTES,
            eight_bits: None,
            objects: Objects::default(),
            poll: POLL,
            fetch_timeout: FETCH_TIMEOUT,
            backoff_min: BACKOFF_MIN,
            backoff_max: BACKOFF_MAX,
        }
    }
}

/// Why there is no subscriber.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriberError {
    /// The directory of snapshots.
    #[error("snapshot cache: {0}")]
    Cache(#[from] CacheError),
    /// The thread did not start.
    #[error("starting the thread that follows the snapshot topic: {0}")]
    Thread(#[from] std::io::Error),
    /// Reports go under the server's name.
    #[error("a server that reports where it stands needs a name of its own")]
    NoHost,
    /// The thread panicked.
    #[error("the thread that follows the snapshot topic panicked; the log says where")]
    Panicked,
}

/// Follows a snapshot topic on a thread of its own and serves the version it says, always the last good one.
///
/// Boots from disk, so [`Subscriber::model`] may be there before the broker is. Whatever goes wrong with the broker, a record, a snapshot or
/// the disk, the model served stays; [`Subscriber::status`] says what is wrong.
#[derive(Debug)]
pub struct Subscriber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    reporter: Option<JoinHandle<()>>,
}

impl Subscriber {
    /// Boots from the cache and starts to follow. `open_reader` is called on the thread, again after every broker error.
    ///
    /// # Errors
    /// [`SubscriberError::Cache`] where the directory cannot be used or is another model's; [`SubscriberError::NoHost`];
    /// [`SubscriberError::Thread`].
    pub fn start(
        config: SubscriberConfig,
        open_reader: impl Fn() -> Result<Box<dyn LogReader>, StreamError> + Send + 'static,
    ) -> Result<Self, SubscriberError> {
        if config.reports.is_some() && config.host.is_empty() {
            return Err(SubscriberError::NoHost);
        }
        let cache = SnapshotCache::open(&config.cache_dir, &config.model, config.keep)?;
        let shared = Arc::new(Shared::new(&config));
        let (marks, target) = match cache.seen() {
            Ok(Some(Seen { marks, target, .. })) => (marks, target),
            Ok(None) => (Marks::default(), None),
            Err(error @ CacheError::Corrupt { .. }) => {
                shared.rejected("cache", &error.to_string());
                (Marks::default(), None)
            }
            Err(error) => return Err(error.into()),
        };
        let boot = cache.boot(target);
        for fault in boot.faults {
            match fault {
                fault @ CacheError::OtherModel { .. } => return Err(fault.into()),
                fault => shared.rejected("cache", &fault.to_string()),
            }
        }
        shared.read_to(marks.clone(), target);
        if let Some(model) = boot.model {
            tracing::info!(version = model.version().0, "serving a snapshot from disk");
            shared.booted(model);
        }
        let reporter = config.reports.clone().map(|reporting| {
            let (config, shared) = (config.clone(), Arc::clone(&shared));
            let report = move || reports::report(&config, &reporting, &shared);
            std::thread::Builder::new().name("reports".to_owned()).spawn(report)
        });
        let follower = Follower::new(config, cache, (marks, target), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("snapshots".to_owned()).spawn(move || follower.run(&open_reader))?;
        Ok(Subscriber { shared, thread: Some(thread), reporter: reporter.transpose()? })
    }

    /// Name of the model that it follows.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.name()
    }

    /// The version served now.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.shared.version()
    }

    /// The model served now; never waits.
    #[must_use]
    pub fn model(&self) -> Option<Arc<ServedModel>> {
        self.shared.model()
    }

    /// One look at everything.
    #[must_use]
    pub fn status(&self) -> SubscriberStatus {
        self.shared.status(self.is_following())
    }

    /// False once the thread has ended, by a panic or by a setting that connecting again will not mend ([`Subscriber::refusal`]). The model
    /// is served on.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// The client setting for which the thread gave up, if it did.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.shared.refusal()
    }

    /// Ends the threads and waits for them, at most as long as one call of the broker takes.
    ///
    /// # Errors
    /// [`SubscriberError::Panicked`].
    pub fn stop(mut self) -> Result<(), SubscriberError> {
        self.signal();
        let threads = [self.thread.take(), self.reporter.take()];
        threads.into_iter().flatten().try_for_each(|thread| thread.join().map_err(|_| SubscriberError::Panicked))
    }

    fn signal(&self) {
        self.shared.stop();
        for thread in [&self.thread, &self.reporter].into_iter().flatten() {
            thread.thread().unpark();
        }
    }
}

/// Tells the thread to end without waiting for it: whatever it is doing, the files on disk are whole.
impl Drop for Subscriber {
    fn drop(&mut self) {
        self.signal();
    }
}
