use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::SnapshotCache;
use super::fetch::{Fetch, FetchLimits, Unobtained};
use super::shared::{Shared, now_ms};
use super::subscriber::SubscriberConfig;
use super::{Catalog, CatalogError, Marks, ModelError, ServedModel};
use crate::domain::Version;
use crate::stream::{LogReader, LogRecord, StreamError};
use crate::wire::snapshot::{Key, Manifest};

/// How often the end of the topic is asked for, to say how far behind we are.
const END_EVERY: Duration = Duration::from_secs(2);

/// By how much the thread is nicer than those that score, which it shares cores with: it gets a tenth of what one of them gets where there
/// are too few.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Opens the topic from its beginning.
type OpenReader = dyn Fn() -> Result<Box<dyn LogReader>, StreamError>;

/// Why a target is not served.
enum Refusal {
    /// Something of it is not on the topic yet.
    Waiting(String),
    /// The topic; connecting again may help.
    Stream(StreamError),
    /// The snapshot itself.
    Model(ModelError),
    /// Told to stop.
    Stopping,
}

impl From<Unobtained> for Refusal {
    fn from(unobtained: Unobtained) -> Self {
        match unobtained {
            Unobtained::Waiting(why) => Refusal::Waiting(why),
            Unobtained::Stream(error) => Refusal::Stream(error),
            Unobtained::Model(error) => Refusal::Model(error),
            Unobtained::Stopping => Refusal::Stopping,
        }
    }
}

impl From<ModelError> for Refusal {
    fn from(error: ModelError) -> Self {
        Refusal::Model(error)
    }
}

/// Lets requests go first: opening a snapshot is long work that nobody waits for. On Linux each thread has a niceness of its own; elsewhere
/// it stays as it is.
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let thread = Some(rustix::thread::gettid());
        if let Err(error) = getpriority_process(thread).and_then(|now| setpriority_process(thread, now + NICENESS)) {
            tracing::debug!(%error, "the thread that follows the topic takes as much of the cores as those that score");
        }
    }
}

/// The following thread.
pub(super) struct Follower {
    config: SubscriberConfig,
    cache: SnapshotCache,
    shared: Arc<Shared>,
    /// What is on disk in `seen.json`.
    seen: (Marks, Option<Version>),
    /// A version that failed, and the seq of its manifest: not tried again until the target moves or the version is published again.
    quarantined: Option<(Version, u64)>,
    /// Refused records at or below this offset are counted already; a new connection reads them again.
    counted_to: i64,
    backoff: Duration,
}

impl Follower {
    pub(super) fn new(config: SubscriberConfig, cache: SnapshotCache, seen: (Marks, Option<Version>), shared: Arc<Shared>) -> Self {
        let backoff = config.backoff_min;
        Follower { config, cache, shared, seen, quarantined: None, counted_to: -1, backoff }
    }

    /// Follows until told to stop, connecting again after every broker error.
    pub(super) fn run(mut self, open_reader: &OpenReader) {
        give_way();
        while !self.shared.is_stopping() {
            let Err(error) = open_reader().and_then(|reader| self.follow(reader)) else { continue };
            self.shared.connected(false);
            if matches!(error, StreamError::Setting { .. }) {
                return self.shared.refused(&error.to_string());
            }
            self.shared.failed(&error.to_string());
            let until = Instant::now() + self.backoff;
            self.backoff = (self.backoff * 2).min(self.config.backoff_max);
            while !self.shared.is_stopping() && Instant::now() < until {
                std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Folds the topic from its beginning and acts on it once its end at the time of connecting is reached.
    fn follow(&mut self, mut reader: Box<dyn LogReader>) -> Result<(), StreamError> {
        // A new fold per connection: the topic may have been compacted meanwhile, and what is gone from it must be gone here.
        let mut catalog = Catalog::trusting(&self.config.model, self.config.trust.clone());
        let mut end = reader.end()?;
        let mut asked = Instant::now();
        let mut caught_up = false;
        self.shared.connected(true);
        while !self.shared.is_stopping() {
            // The end first: what was there when we connected is acted on without waiting for more.
            caught_up = caught_up || reader.position() >= end;
            if caught_up {
                self.backoff = self.config.backoff_min;
                self.act(&catalog, reader.as_mut())?;
            }
            if asked.elapsed() >= END_EVERY {
                end = reader.end()?;
                asked = Instant::now();
            }
            self.shared.behind(u64::try_from(end.saturating_sub(reader.position())).unwrap_or(0));
            let Some(record) = reader.next(self.config.poll)? else { continue };
            match catalog.apply(&record) {
                Err(error) => self.note_refused(record.offset, &error),
                Ok(()) if caught_up => self.note_expired(&catalog, &record),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn note_refused(&mut self, offset: i64, error: &CatalogError) {
        if offset > self.counted_to {
            self.counted_to = offset;
            self.shared.rejected(error.reason(), &error.to_string());
        }
    }

    /// A pin that had already expired when it came, by this server's clock, holds nothing: the operator's clock is wrong, or ours.
    fn note_expired(&self, catalog: &Catalog, record: &LogRecord) {
        let pin = match Key::parse(&record.key) {
            Some(Key::PinAll) => catalog.pin_of(None),
            Some(Key::PinGroup(group)) => catalog.pin_of(Some(&group)),
            _ => None,
        };
        if let Some(pin) = pin
            && let (Some(version), None) = (pin.version, pin.holds(now_ms()))
        {
            let (offset, actor, expires_ms) = (record.offset, &pin.actor, pin.expires_ms.unwrap_or_default());
            let what =
                format!("offset {offset}: pin to version {version} by {actor} came after its expiry at {expires_ms} ms: compare clocks");
            self.shared.rejected("record_expired", &what);
        }
    }

    /// Remembers how far the topic was read, and serves what it says to this server.
    fn act(&mut self, catalog: &Catalog, reader: &mut dyn LogReader) -> Result<(), StreamError> {
        let target = catalog.target_of(&self.config.host, self.config.group.as_ref(), now_ms());
        let (marks, (seen, _)) = (catalog.marks(), &self.seen);
        if !marks.covers(seen) {
            let why = format!(
                "the topic is older than what this server has read before ({marks:?}, seen {seen:?}): if it was made anew on purpose, stop \
                 this server and remove seen.json from {}",
                self.config.cache_dir.display()
            );
            if self.shared.waiting(Some(why.clone())) {
                self.shared.rejected("topic_older", &why);
            }
            return Ok(());
        }
        let now = (marks, target);
        if self.seen != now {
            // Before the swap: what was read may not be undone by a crash in between.
            if let Err(error) = self.cache.remember(now.0.clone(), target) {
                self.shared.rejected("cache", &error.to_string());
            }
            self.shared.read_to(now.0.clone(), target);
            self.seen = now;
        }
        let Some(target) = target else { return Ok(()) };
        if self.quarantined.is_some_and(|(version, _)| version != target) {
            self.quarantined = None;
        }
        if self.shared.version() == Some(target) {
            self.shared.waiting(None);
            return Ok(());
        }
        let Some(manifest) = catalog.manifests().get(&target) else {
            self.shared.waiting(Some(format!("version {target}: its manifest or a chunk is not on the topic")));
            return Ok(());
        };
        if self.quarantined == Some((target, manifest.seq)) {
            return Ok(());
        }
        match self.obtain(manifest, catalog, reader) {
            Ok(model) => {
                let from = self.shared.version().map(|version| version.0);
                tracing::info!(from, version = target.0, "swapped the served snapshot");
                self.shared.swap(model);
                Ok(())
            }
            Err(Refusal::Model(error)) => {
                self.quarantined = Some((target, manifest.seq));
                self.shared.rejected(error.reason(), &error.to_string());
                self.shared.refused_version(target, &error.to_string());
                Ok(())
            }
            Err(Refusal::Waiting(why)) => {
                self.shared.waiting(Some(why));
                Ok(())
            }
            Err(Refusal::Stream(error)) => Err(error),
            Err(Refusal::Stopping) => Ok(()),
        }
    }

    /// A verified model, from disk where this very snapshot is there, else from the topic.
    fn obtain(&self, manifest: &Manifest, catalog: &Catalog, reader: &mut dyn LogReader) -> Result<ServedModel, Refusal> {
        self.refuse_unfed(manifest)?;
        if let Some(model) = self.load_cached(manifest) {
            return Ok(model);
        }
        let served = self.shared.model();
        let mut fetch = Fetch {
            catalog,
            reader,
            served: served.as_deref(),
            cache: Some(&self.cache),
            objects: &self.config.objects,
            limits: FetchLimits { bytes_max: self.config.artifact_bytes_max, timeout: self.config.fetch_timeout },
            stopping: &|| self.shared.is_stopping(),
            noted: &mut |error| self.shared.rejected(error.reason(), &error.to_string()),
        };
        let artifact = Arc::new(fetch.artifact(manifest)?);
        let model = ServedModel::open_shared(manifest.clone(), Arc::clone(&artifact))?;
        // A full disk is no reason to serve an old model; it costs the next boot.
        if let Err(error) = self.cache.save(manifest, &artifact) {
            self.shared.rejected("cache", &error.to_string());
        }
        Ok(model)
    }

    /// Refuses a version that reads a column which requests do not bear.
    fn refuse_unfed(&self, manifest: &Manifest) -> Result<(), ModelError> {
        let Some(columns) = &self.config.columns else { return Ok(()) };
        let read = manifest.schema.features.iter().filter(|feature| !feature.training_only);
        let mut unfed =
            read.filter_map(|feature| Some((&feature.name, feature.column()?))).filter(|(_, column)| !columns.contains(*column));
        match unfed.next() {
            None => Ok(()),
            Some((name, column)) => {
                let why = format!("feature {name} is read from column `{column}`, which requests to this server do not bear");
                Err(ModelError::Schema { version: manifest.version, why })
            }
        }
    }

    /// A rollback's target is usually on disk still. `None`: fetch it.
    fn load_cached(&self, manifest: &Manifest) -> Option<ServedModel> {
        let loaded = self.cache.load(manifest.version).and_then(|found| match found {
            Some((held, artifact)) if held == *manifest => Ok(Some(ServedModel::open_shared(held, Arc::new(artifact))?)),
            _ => Ok(None),
        });
        loaded.unwrap_or_else(|error| {
            self.shared.rejected("cache", &error.to_string());
            if let Err(error) = self.cache.quarantine(manifest.version) {
                self.shared.failed(&error.to_string());
            }
            None
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::{NICENESS, give_way};

    #[test]
    fn the_thread_gives_way_and_no_other_does() {
        let before = getpriority_process(None).expect("asked");
        let after = std::thread::spawn(|| {
            give_way();
            getpriority_process(None).expect("asked")
        });
        // 19 is as nice as a thread can be.
        assert_eq!(after.join().expect("no panic"), (before + NICENESS).min(19));
        assert_eq!(getpriority_process(None), Ok(before));
    }
}
