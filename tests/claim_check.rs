//! Promise: what is too large for the topic goes to an object store, and servers take it only from below their own prefix, only whole, and only
//! with the hash that the manifest says.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

#[path = "support/snapshots.rs"]
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rocket_launching::config::{ByteLength, Config};
use rocket_launching::domain::Version;
use rocket_launching::keys::Keyring;
use rocket_launching::publish::{Operator, Publisher};
use rocket_launching::serving::{ObjectError, Objects, Subscriber, SubscriberConfig, SubscriberStatus};
use rocket_launching::stream::{LogReader, MemoryLog};
use rocket_launching::wire::snapshot::{Key, PROTOCOL_MAX};
use snapshots::{CREATED_MS, MODEL, commit, config, loaded};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn claim_checking(above: u64) -> Config {
    let mut config = config(2);
    config.publish.claim_check_above = ByteLength(above);
    config
}

fn files(dir: &Path) -> Objects {
    Objects::open(&format!("file://{}", dir.display()), []).unwrap()
}

fn publish(config: &Config, log: &MemoryLog, objects: Objects, numbers: std::ops::RangeInclusive<u64>) {
    let publisher = Publisher::open(config, "test", Box::new(log.clone()), Box::new(log.clone())).unwrap();
    let mut publisher = publisher.storing_objects(objects);
    for number in numbers {
        publisher.publish(&commit(number), &loaded(number), CREATED_MS).unwrap();
    }
}

fn operator(log: &MemoryLog, objects: Objects) -> Operator {
    Operator::open(MODEL, "ann", Keyring::default(), Box::new(log.clone()), Box::new(log.clone())).unwrap().fetching_objects(objects)
}

fn server(dir: &TempDir, log: &MemoryLog, objects: Objects) -> Subscriber {
    let log = log.clone();
    let config = SubscriberConfig {
        objects,
        poll: Duration::from_millis(5),
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
        ..SubscriberConfig::new(MODEL, dir.path().join("server"))
    };
    Subscriber::start(config, move || Ok(Box::new(log.clone()) as Box<dyn LogReader>)).unwrap()
}

fn until(subscriber: &Subscriber, what: &str, holds: impl Fn(&SubscriberStatus) -> bool) -> SubscriberStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = subscriber.status();
        if holds(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "never came: {what}: {status:#?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_is_longer_than_the_bound_is_stored_and_served_from_there() {
    let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::default());
    let store = dir.path().join("store");
    std::fs::create_dir(&store).unwrap();
    publish(&claim_checking(100), &log, files(&store), 1..=1);
    assert_eq!(names(&store), BTreeSet::from(["00000000000000000001.artifact".to_owned()]));
    let mut operator = operator(&log, files(&store));
    let manifest = operator.verify(Version(1)).unwrap();
    assert_eq!((manifest.proto, manifest.chunks().count()), (PROTOCOL_MAX, 0));
    assert_eq!(operator.catalog().chunks().count(), 0);

    let server = server(&dir, &log, files(&store));
    let status = until(&server, "version 1", |status| status.version == Some(Version(1)));
    assert!(status.rejected.is_empty(), "{status:?}");
    server.stop().unwrap();

    let other = MemoryLog::default();
    publish(&claim_checking(1 << 20), &other, files(&store), 2..=2);
    assert_eq!(names(&store).len(), 1, "what is shorter goes in chunks");
}

#[test]
fn objects_of_collected_versions_are_removed() {
    let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::default());
    publish(&claim_checking(100), &log, files(dir.path()), 1..=6);
    let kept = (4..=6).map(|version| format!("{version:020}.artifact")).collect();
    assert_eq!(names(dir.path()), kept, "the last three promoted");
}

/// Version 2's object is altered after version 1 is served: how it is refused.
fn refused(reason: &str, alter: impl Fn(&mut Vec<u8>)) {
    let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::default());
    let store = dir.path().join("store");
    std::fs::create_dir(&store).unwrap();
    publish(&claim_checking(100), &log, files(&store), 1..=1);
    let first = server(&dir, &log, files(&store));
    until(&first, "version 1", |status| status.version == Some(Version(1)));
    first.stop().unwrap();
    publish(&claim_checking(100), &log, files(&store), 2..=2);
    let path = store.join("00000000000000000002.artifact");
    let mut bytes = std::fs::read(&path).unwrap();
    alter(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    let server = server(&dir, &log, files(&store));
    let status = until(&server, reason, |status| !status.rejected.is_empty());
    assert_eq!(status.rejected, BTreeMap::from([(reason.to_owned(), 1)]), "{status:?}");
    assert_eq!(status.version, Some(Version(1)));
    server.stop().unwrap();
}

#[test]
fn an_object_that_is_not_the_manifests_is_refused() {
    refused("hash", |bytes| bytes[9] ^= 1);
    refused("truncated", |bytes| bytes.truncate(99));
    refused("artifact", |bytes| bytes.push(0));
}

#[test]
fn a_server_that_is_told_no_store_says_so_and_serves_on_and_an_object_that_comes_late_is_taken() {
    let (dir, log) = (tempfile::tempdir().unwrap(), MemoryLog::default());
    let [store, empty] = ["store", "empty"].map(|name| dir.path().join(name));
    for dir in [&store, &empty] {
        std::fs::create_dir(dir).unwrap();
    }
    publish(&claim_checking(100), &log, files(&store), 1..=1);
    let lost = server(&dir, &log, Objects::default());
    let status = until(&lost, "a reason", |status| status.last_error.is_some());
    assert!(status.last_error.is_some_and(|error| error.what.contains("--claim-check")));
    lost.stop().unwrap();

    // Another prefix, though the topic is the same: nothing is taken from anywhere else.
    let server = server(&dir, &log, files(&empty));
    until(&server, "a reason", |status| {
        status.last_error.as_ref().is_some_and(|error| error.what.contains("00000000000000000001.artifact"))
    });
    assert_eq!(server.status().version, None);
    std::fs::copy(store.join("00000000000000000001.artifact"), empty.join("00000000000000000001.artifact")).unwrap();
    let status = until(&server, "version 1", |status| status.version == Some(Version(1)));
    assert!(status.rejected.is_empty(), "{status:?}");
    server.stop().unwrap();
}

#[test]
fn a_prefix_that_cannot_be_is_refused_at_once() {
    for url in ["nowhere", "http://example.org/x", "memory:///", "gs://bucket/x"] {
        assert!(matches!(Objects::open(url, []), Err(ObjectError::Unusable { .. })), "{url}");
    }
}

type Bucket = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// As much of S3 as is asked for: objects put and got by their path.
async fn s3(State(bucket): State<Bucket>, request: Request<axum::body::Body>) -> Response {
    let (parts, body) = request.into_parts();
    let signed = parts.headers.get(header::AUTHORIZATION).is_some_and(|value| value.to_str().unwrap().contains("Credential=key-of-a-test"));
    if !signed {
        return StatusCode::FORBIDDEN.into_response();
    }
    let path = parts.uri.path().to_owned();
    let tagged = |body: Bytes| ([(header::ETAG, "\"1\""), (header::LAST_MODIFIED, "Tue, 14 Nov 2023 22:13:20 GMT")], body).into_response();
    if parts.method == Method::PUT {
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        bucket.lock().unwrap().insert(path, bytes);
        return tagged(Bytes::new());
    }
    let found = bucket.lock().unwrap().get(&path).cloned();
    found.map_or_else(|| StatusCode::NOT_FOUND.into_response(), tagged)
}

#[test]
fn an_s3_bucket_serves_as_well() {
    let (bucket, log) = (Bucket::default(), MemoryLog::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(s3).with_state(Arc::clone(&bucket));
    runtime.spawn(async move { axum::serve(listener, app).await });
    let environment = [
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "key-of-a-test"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "eu-central-1"),
    ];
    let objects = Objects::open("s3://bucket/some/prefix", environment.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap();
    assert!(!format!("{objects:?}").contains("secret"));
    publish(&claim_checking(100), &log, objects.clone(), 1..=1);
    let stored: Vec<String> = bucket.lock().unwrap().keys().cloned().collect();
    assert_eq!(stored, ["/bucket/some/prefix/00000000000000000001.artifact"]);
    operator(&log, objects.clone()).verify(Version(1)).unwrap();
    assert!(log.clone().read_at(&[0], Duration::ZERO).unwrap()[0].key == Key::Lease.encode().as_bytes());
    bucket.lock().unwrap().clear();
    assert!(operator(&log, objects).verify(Version(1)).is_err());
}
