//! Promise: what is to be published belongs to the commit: a daemon that is killed before, while or after it publishes comes to publish the
//! same bytes under the same number once, and still says after a restart what it published last.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rocket_launching::checkpoint::{self, CheckpointStore};
use rocket_launching::config::{Config, Mismatch};
use rocket_launching::domain::{Record, TopicPartition, Version};
use rocket_launching::pipeline::{State, Status};
use rocket_launching::publish::Publisher;
use rocket_launching::serving::Catalog;
use rocket_launching::stream::{LogReader, LogRecord, LogWriter, MemoryLog, StreamError};
use support::{wait_for, world};

/// Appends that never fail.
const ALL: usize = usize::MAX;

/// Takes so many appends and then no more, like the broker of a daemon that is killed there.
struct Killed {
    log: MemoryLog,
    appends_left: Arc<AtomicUsize>,
}

impl LogWriter for Killed {
    fn append(&self, entries: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StreamError> {
        self.appends_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .map_err(|_| StreamError::NotAcknowledged { topic: "world.snapshots".to_owned(), why: "killed".to_owned() })?;
        self.log.append(entries)
    }
}

/// Takes no chunk before checkpoint `until` is committed, like a broker that is slow for a while.
struct Slow {
    log: MemoryLog,
    state: PathBuf,
    until: u64,
}

impl LogWriter for Slow {
    fn append(&self, entries: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StreamError> {
        if entries[0].0.starts_with(b"c/") {
            let newest = || checkpoint::list(&self.state).unwrap().last().map(|kept| kept.number);
            wait_for("newer checkpoints", || newest().filter(|newest| *newest >= self.until));
        }
        self.log.append(entries)
    }
}

/// 400 samples are due for a version, and no other checkpoint is on its way just then.
fn config(dir: &Path) -> Config {
    let mut config = world::config(dir, "labelled", "");
    config.checkpoint.every_samples = 1_000_000;
    config
}

/// Runs over the first `events`, the end of which is no end of the input; the publisher is killed after so many appends.
fn run(config: &Config, log: &MemoryLog, events: usize, appends: usize) -> Status {
    let writer = Killed { log: log.clone(), appends_left: Arc::new(AtomicUsize::new(appends)) };
    let publisher = Publisher::open(config, "test", Box::new(log.clone()), Box::new(writer)).unwrap();
    let (partitions, records): (Vec<TopicPartition>, Vec<Record>) = world::labelled_stream(2000);
    world::run(config, State::Durable, (partitions, records[..events].to_vec()), Some(publisher), false).0.status
}

fn records(log: &MemoryLog) -> Vec<LogRecord> {
    let mut reader = log.clone();
    std::iter::from_fn(|| reader.next(Duration::ZERO).unwrap()).collect()
}

fn catalog(config: &Config, log: &MemoryLog) -> Catalog {
    let mut catalog = Catalog::new(&config.name);
    records(log).iter().for_each(|record| catalog.apply(record).unwrap());
    catalog
}

#[test]
fn killed_anywhere_in_a_publication_the_next_start_ends_it_with_the_same_bytes() {
    // The lease; then chunks, manifest and pointer each fail once.
    for appends in 1..=4 {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let log = MemoryLog::default();
        let status = run(&config, &log, 500, appends);
        assert_eq!(status.publish_problem.is_some(), appends < 4, "{appends}");
        let commit = CheckpointStore::open(dir.path(), 3).unwrap().latest().unwrap().clone();
        let version = Version(commit.publish_mark.unwrap().number.unwrap());
        assert!(version.0 < commit.number, "the last commit is that of the stop");

        let (before, ends) = (records(&log).len(), run(&config, &log, 500, ALL));
        assert_eq!((ends.published, ends.promoted, ends.publish_problem), (Some(version), true, None), "{appends}");
        assert_eq!(ends.checkpoint, status.checkpoint, "nothing was committed for it");
        let catalog = catalog(&config, &log);
        assert_eq!(catalog.manifests().keys().copied().collect::<Vec<_>>(), [version]);
        assert_eq!(catalog.audit().count(), 1, "promoted once");
        if appends == 4 {
            assert_eq!(records(&log).len(), before + 1, "where all was sent, only the lease is new");
        }

        let whole = MemoryLog::default();
        let mut publisher = Publisher::open(&config, "test", Box::new(whole.clone()), Box::new(whole.clone())).unwrap();
        let store = CheckpointStore::open(dir.path(), 3).unwrap();
        let commit = store.commit(version.0).unwrap();
        publisher.publish(&commit, &CheckpointStore::load(dir.path(), &commit).unwrap(), 0).unwrap();
        let artifact = |catalog: &Catalog| catalog.manifests()[&version].artifact.blake3.clone();
        assert_eq!(artifact(&catalog), artifact(&self::catalog(&config, &whole)));
    }
}

#[test]
fn what_was_due_before_a_change_of_the_schema_is_published_under_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let log = MemoryLog::default();
    // Killed between chunks and manifest.
    assert!(run(&config, &log, 500, 2).publish_problem.is_some());
    let before = config.schema.clone();
    config.schema.features.retain(|feature| !["tags", "user_tags"].contains(&feature.name.as_str()));
    config.checkpoint.mismatch = Mismatch::WarmStart;
    let status = run(&config, &log, 500, ALL);
    assert!(status.promoted && status.publish_problem.is_none(), "{status:?}");
    let catalog = catalog(&config, &log);
    assert_eq!(catalog.manifests()[&status.published.unwrap()].schema, before);
}

#[test]
fn a_restart_still_says_what_was_published_last() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let log = MemoryLog::default();
    let first = run(&config, &log, 500, ALL);
    assert!(first.published.is_some() && first.promoted);
    let mut quiet = config.clone();
    quiet.publish.enabled = false;
    assert_eq!(run(&config, &log, 700, ALL).published, first.published);
    let (second, _) = world::run(&quiet, State::Durable, world::labelled_stream(700), None, false);
    assert_eq!((second.status.published, second.status.promoted), (first.published, true));
}

#[test]
fn a_daemon_that_never_lives_for_the_whole_interval_publishes_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let log = MemoryLog::default();
    // Every run trains 100.
    let published = (1..=12).map(|run| self::run(&config, &log, run * 100, ALL).published);
    let mut published: Vec<Version> = published.flatten().collect();
    published.dedup();
    assert_eq!(published.len(), 2, "{published:?}");
}

#[test]
fn a_publisher_that_was_held_up_goes_on_with_the_newest_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.publish.every_samples = 100;
    let log = MemoryLog::default();
    let writer = Slow { log: log.clone(), state: dir.path().to_owned(), until: 4 };
    let publisher = Publisher::open(&config, "test", Box::new(log.clone()), Box::new(writer)).unwrap();
    let (summary, _) = world::run(&config, State::Durable, world::labelled_stream(8000), Some(publisher), false);
    let commit = CheckpointStore::open(dir.path(), 3).unwrap().latest().unwrap().clone();
    assert_eq!(summary.status.published.map(|version| version.0), commit.publish_mark.unwrap().number, "the last that was due");
    let versions: Vec<u64> = catalog(&config, &log).audit().filter_map(|entry| entry.to).map(|version| version.0).collect();
    assert_eq!(versions[0], 1);
    assert!(!versions.contains(&2), "the third was there before the first was out: {versions:?}");
}
