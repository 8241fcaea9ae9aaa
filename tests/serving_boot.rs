//! Promise: a server boots from its disk without a broker, on the version it was told to serve; damaged files are set aside and the older
//! good one serves; an old copy of the topic takes nobody back in time.

mod serving_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocket_launching::domain::Version;
use rocket_launching::serving::{CacheError, SnapshotCache, Subscriber, SubscriberConfig, SubscriberError};
use rocket_launching::stream::{LogReader, StreamError};
use serving_support::{MODEL, Snapshot, Topic, config, follow, scores, until, until_serves};

fn unreachable() -> Result<Box<dyn LogReader>, StreamError> {
    Err(StreamError::Unreachable { brokers: "nowhere:9092".to_owned(), why: "refused".to_owned() })
}

fn boot_alone(dir: &Path) -> Subscriber {
    Subscriber::start(config(dir), unreachable).expect("the cache is usable")
}

fn served(subscriber: &Subscriber) -> Option<u64> {
    subscriber.model().map(|model| model.version().0)
}

/// A directory in which versions 1 to `versions` were served, then `pinned`.
fn lived(dir: &Path, versions: u64, pinned: Option<u64>) -> Topic {
    let mut topic = Topic::new();
    let subscriber = follow(dir, &topic);
    for version in 1..=versions {
        topic.publish(version);
        until_serves(&subscriber, version);
    }
    if let Some(pinned) = pinned {
        topic.pin(Some(pinned));
        until_serves(&subscriber, pinned);
    }
    subscriber.stop().expect("no panic");
    topic
}

fn file(dir: &Path, version: u64, extension: &str) -> PathBuf {
    dir.join(format!("{version:020}.{extension}"))
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).expect("lists").map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn boots_without_a_broker_on_the_newest() {
    let dir = tempfile::tempdir().expect("tempdir");
    lived(dir.path(), 3, None);
    let subscriber = boot_alone(dir.path());
    let model = subscriber.model().expect("served at once");
    assert_eq!(model.version(), Version(3));
    assert_eq!(scores(&model, 20), scores(&Snapshot::new(3).open(), 20));
    let status = until(&subscriber, "the broker's absence", |status| status.last_error.is_some());
    assert!(status.last_error.is_some_and(|error| error.what.contains("no broker answers at nowhere:9092")));
    assert_eq!((status.connected, status.following, status.target), (false, true, Some(Version(3))));
    subscriber.stop().expect("no panic");
}

#[test]
fn boots_on_the_version_that_was_rolled_back_to() {
    let dir = tempfile::tempdir().expect("tempdir");
    lived(dir.path(), 3, Some(2));
    assert_eq!(served(&boot_alone(dir.path())), Some(2));
}

#[test]
fn a_damaged_file_is_set_aside_and_the_older_good_one_serves() {
    let dir = tempfile::tempdir().expect("tempdir");
    lived(dir.path(), 3, None);
    let artifact = file(dir.path(), 3, "safetensors");
    let mut bytes = fs::read(&artifact).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&artifact, bytes).expect("writes");
    fs::write(file(dir.path(), 2, "manifest"), b"{}").expect("writes");

    let subscriber = boot_alone(dir.path());
    assert_eq!(served(&subscriber), Some(1));
    assert_eq!(subscriber.status().rejected.get("cache"), Some(&2));
    subscriber.stop().expect("no panic");
    let names = names(dir.path());
    for moved in ["3.manifest.bad", "3.safetensors.bad", "2.manifest.bad", "2.safetensors.bad"] {
        assert!(names.iter().any(|name| name.ends_with(moved)), "{names:?}");
    }
    assert_eq!(served(&boot_alone(dir.path())), Some(1), "and what was set aside is not looked at again");
}

#[test]
fn every_truncation_and_every_flipped_byte_of_a_manifest_is_survived() {
    let dir = tempfile::tempdir().expect("tempdir");
    lived(dir.path(), 2, None);
    let cache = SnapshotCache::open(dir.path(), MODEL, 3).expect("opens");
    let good = fs::read(file(dir.path(), 2, "manifest")).expect("reads");
    let artifact = fs::read(file(dir.path(), 2, "safetensors")).expect("reads");
    for index in (0..good.len()).step_by(211) {
        let mut flipped = good.clone();
        flipped[index] ^= 1;
        for bytes in [&good[..index], &flipped] {
            fs::write(file(dir.path(), 2, "manifest"), bytes).expect("writes");
            fs::write(file(dir.path(), 2, "safetensors"), &artifact).expect("writes");
            assert!(cache.boot(None).model.is_some());
        }
    }
}

#[test]
fn with_the_target_damaged_the_one_above_serves_only_where_none_is_below() {
    let dir = tempfile::tempdir().expect("tempdir");
    lived(dir.path(), 3, Some(2));
    fs::write(file(dir.path(), 2, "safetensors"), b"short").expect("writes");
    assert_eq!(served(&boot_alone(dir.path())), Some(1));
    fs::write(file(dir.path(), 1, "safetensors"), b"short").expect("writes");
    assert_eq!(served(&boot_alone(dir.path())), Some(3));
}

#[test]
fn the_broker_comes_back_and_is_followed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = lived(dir.path(), 2, None);
    let (log, up) = (topic.log.clone(), Arc::new(AtomicBool::new(false)));
    let open = {
        let up = Arc::clone(&up);
        move || if up.load(Ordering::SeqCst) { Ok(Box::new(log.clone()) as Box<dyn LogReader>) } else { unreachable() }
    };
    let subscriber = Subscriber::start(config(dir.path()), open).expect("the cache is usable");
    topic.publish(3);
    until(&subscriber, "an error", |status| status.last_error.is_some());
    assert_eq!(served(&subscriber), Some(2));
    up.store(true, Ordering::SeqCst);
    let status = until_serves(&subscriber, 3);
    assert!(status.connected);
    subscriber.stop().expect("no panic");
}

#[test]
fn an_old_copy_of_the_topic_takes_nobody_back() {
    let dir = tempfile::tempdir().expect("tempdir");
    lived(dir.path(), 3, None);
    let mut old = Topic::new();
    old.publish(1);
    let subscriber = follow(dir.path(), &old);
    let status = until(&subscriber, "waiting", |status| status.waiting.is_some());
    assert!(status.waiting.is_some_and(|why| why.contains("older than what this server has read") && why.contains("seen.json")));
    assert_eq!(served(&subscriber), Some(3));
    subscriber.stop().expect("no panic");
    assert_eq!(served(&boot_alone(dir.path())), Some(3));
}

#[test]
fn a_pin_missing_from_the_topic_is_noticed_though_the_topic_went_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    lived(dir.path(), 3, Some(1));
    let mut topic = Topic::new();
    (1..=6).for_each(|version| drop(topic.publish(version)));
    let subscriber = follow(dir.path(), &topic);
    until(&subscriber, "waiting", |status| status.waiting.is_some());
    assert_eq!(served(&subscriber), Some(1));
    subscriber.stop().expect("no panic");
}

#[test]
fn only_the_newest_are_kept_and_the_served_one() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    let subscriber = Subscriber::start(SubscriberConfig { keep: 2, ..config(dir.path()) }, {
        let log = topic.log.clone();
        move || Ok(Box::new(log.clone()) as Box<dyn LogReader>)
    })
    .expect("the cache is usable");
    for version in 1..=4 {
        topic.publish(version);
        until_serves(&subscriber, version);
    }
    topic.pin(Some(1));
    until_serves(&subscriber, 1);
    subscriber.stop().expect("no panic");
    let cache = SnapshotCache::open(dir.path(), MODEL, 2).expect("opens");
    assert_eq!(cache.versions().expect("lists"), [Version(1), Version(4)]);
}

#[test]
fn what_a_crash_left_unfinished_is_removed() {
    let dir = tempfile::tempdir().expect("tempdir");
    lived(dir.path(), 1, None);
    let before = names(dir.path());
    fs::write(file(dir.path(), 9, "safetensors"), b"written before its manifest").expect("writes");
    fs::write(file(dir.path(), 9, "manifest.tmp"), b"half").expect("writes");
    assert_eq!(served(&boot_alone(dir.path())), Some(1));
    assert_eq!(names(dir.path()), before);
}

#[test]
fn a_damaged_seen_file_is_set_aside_and_reported() {
    let dir = tempfile::tempdir().expect("tempdir");
    lived(dir.path(), 2, None);
    fs::write(dir.path().join("seen.json"), b"?").expect("writes");
    let subscriber = boot_alone(dir.path());
    assert_eq!(served(&subscriber), Some(2));
    assert_eq!(subscriber.status().rejected.get("cache"), Some(&1));
    assert!(dir.path().join("seen.json.bad").exists());
}

#[test]
fn a_directory_of_another_model_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    lived(dir.path(), 1, None);
    let other = SubscriberConfig { model: "search".to_owned(), ..config(dir.path()) };
    let error = Subscriber::start(other, unreachable).expect_err("refused");
    assert!(matches!(&error, SubscriberError::Cache(CacheError::OtherModel { .. })), "{error}");
    assert!(error.to_string().contains("give each model a directory of its own"));
    assert_eq!(served(&boot_alone(dir.path())), Some(1), "and nothing in it was touched");
}

#[test]
fn past_its_expiry_a_version_is_reported_stale_and_served() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    let mut snapshot = Snapshot::new(1);
    snapshot.manifest.expires_ms = 1;
    topic.send(&snapshot);
    topic.promote(1);
    let subscriber = follow(dir.path(), &topic);
    assert!(until_serves(&subscriber, 1).stale);
    topic.publish(2);
    assert!(!until_serves(&subscriber, 2).stale);
    subscriber.stop().expect("no panic");
}

#[test]
fn a_compacted_topic_boots_as_a_whole_one_does() {
    let (dir, fresh) = (tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir"));
    let mut topic = lived(dir.path(), 3, Some(2));
    topic.lease();
    topic.pin(None);
    topic.log.compact(false);
    let subscriber = follow(fresh.path(), &topic);
    until_serves(&subscriber, 3);
    subscriber.stop().expect("no panic");
}
