//! Promise: state that an earlier program wrote is read as it was meant; state of a later one is refused and left alone.
//!
//! `tests/fixtures/state/` holds a directory for each layout there was, written by the last program of that layout, and never written anew:
//!
//! | directory | what |
//! |---|---|
//! | `commit-1-store-1` | a whole state directory: commit records of format 1, per-user store of layout 1 |
//! | `store-0` | a per-user store of layout 0: the records of [`bare_records`] |
//!
//! Before a layout changes, `ROCKET_FIXTURE=tests/fixtures/state/NAME cargo test --test old_state -- --ignored` writes the directory of
//! today's; the changed program then gets a test that reads it.
#![allow(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

mod support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rocket_launching::checkpoint::{self, CheckpointError, CheckpointStore};
use rocket_launching::config::Config;
use rocket_launching::domain::UserId;
use rocket_launching::evaluate::{UserStates, UserWriter};
use rocket_launching::pipeline::State;
use rocket_launching::store::{SledUsers, StoreError, pending_migrations};
use support::raw_sled::{CACHE_BYTES, raw};
use support::world;
use tempfile::TempDir;

/// Events that the fixture of a whole state was trained on, and its last checkpoint.
const ROWS: usize = 240;
const LAST: u64 = 2;
/// What it holds.
const SAMPLES: u64 = 237;
const TABLE_ROWS: usize = 88;
const USERS: usize = 40;
const LEARNER: &str = "14b8802607b27f439c562eab2ad9f15b6a8279ebc5a48ee67818e306aba1f828";
const USER_RECORDS: &str = "ac87cd1cb88793f841c34bd1bc94a550733cc85c9dd3a356086e0ea663387c67";

const STORE: &str = "users.sled";
const FORMAT_KEY: &[u8] = b"\xFFformat";
const CURSOR_KEY: &[u8] = b"\xFFcursor";

fn config(dir: &Path) -> Config {
    let mut config = world::config(dir, "labelled", "");
    config.model.embedding.expiry.rows_max = 100;
    (config.model.shared, config.model.light, config.model.booster) = (vec![4], vec![4], vec![8]);
    config.checkpoint.every_samples = 64;
    config
}

#[test]
#[ignore = "writes a new fixture: see above"]
fn writes_a_fixture() {
    let dir = std::env::var("ROCKET_FIXTURE").expect("ROCKET_FIXTURE names the directory to write");
    world::run(&config(Path::new(&dir)), State::Durable, world::labelled_stream(ROWS), None, true);
}

/// A copy of a fixture, to be changed.
fn fixture(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state").join(name), dir.path());
    dir
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Every file below, by its path.
fn bytes(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(bytes(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

fn open(dir: &Path, committed: u64) -> SledUsers {
    SledUsers::open(dir, CACHE_BYTES, committed).unwrap().0
}

fn all(store: &mut SledUsers) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let visit = &mut |id: UserId, bytes| {
        assert!(found.insert(id.0.to_string(), bytes).is_none(), "visited twice");
        ControlFlow::Continue(())
    };
    store.scan(visit).unwrap();
    found
}

fn entries(dir: &Path) -> Vec<(sled::IVec, sled::IVec)> {
    raw(dir).iter().map(Result::unwrap).collect()
}

fn hash(parts: impl IntoIterator<Item = Vec<u8>>) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&part);
    }
    hasher.finalize().to_hex().to_string()
}

#[test]
fn commits_of_format_1_and_their_users_are_read_as_they_were_written() {
    let dir = fixture("commit-1-store-1");
    for _twice in 0..2 {
        let store = CheckpointStore::open(dir.path(), 3).unwrap();
        let commit = store.latest().unwrap();
        assert_eq!((commit.number, commit.books.samples, commit.rows.len()), (LAST, SAMPLES, 2));
        assert_eq!((commit.published, commit.publish_mark, commit.restores), (None, None, None));
        assert_eq!(checkpoint::verify(dir.path(), commit).unwrap(), [""; 0]);
        let learner = CheckpointStore::load(dir.path(), commit).unwrap().learner;
        assert_eq!(learner.rows[0].keys.len(), TABLE_ROWS);
        let floats = [&learner.dense.params, &learner.dense.m, &learner.dense.v, &learner.rows[0].data];
        let floats = floats.map(|floats| floats.iter().flat_map(|float| float.to_le_bytes()).collect());
        let keys = learner.rows[0].keys.iter().flat_map(|key| key.to_le_bytes()).collect();
        assert_eq!(hash(floats.into_iter().chain([keys])), LEARNER);

        let users = all(&mut open(&dir.path().join(STORE), LAST));
        assert_eq!(users.len(), USERS);
        assert_eq!(hash(users.into_iter().map(|(id, bytes)| [id.into_bytes(), bytes].concat())), USER_RECORDS);
    }
}

#[test]
fn training_goes_on_from_it() {
    let dir = fixture("commit-1-store-1");
    let (summary, _) = world::run(&config(dir.path()), State::Durable, world::labelled_stream(ROWS + 100), None, true);
    assert_eq!(summary.status.metrics_restarted, None);
    assert_eq!((summary.status.books.done(), summary.status.report.rows), ((ROWS + 100) as u64, summary.status.books.samples));
    assert!(summary.status.checkpoint.unwrap().0 > LAST);
}

#[test]
fn a_commit_of_a_newer_format_is_refused_and_nothing_is_changed() {
    let dir = fixture("commit-1-store-1");
    std::fs::write(dir.path().join("lock"), "").unwrap();
    let record = dir.path().join(format!("commits/commit-{LAST:020}.json"));
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replacen("\"format\":1", "\"format\":2", 1)).unwrap();
    let before = bytes(dir.path());
    let error = CheckpointStore::open(dir.path(), 3).unwrap_err();
    assert!(matches!(error, CheckpointError::Newer { found: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("run the newer program"), "{error}");
    let error = world::refused(&config(dir.path()), world::labelled_stream(ROWS)).to_string();
    assert!(error.contains("format 2"), "{error}");
    assert!(bytes(dir.path()) == before, "a refusal changes nothing");
}

#[test]
fn a_store_of_a_newer_layout_is_refused_and_nothing_is_changed() {
    let dir = fixture("commit-1-store-1");
    let store = dir.path().join(STORE);
    raw(&store).insert(FORMAT_KEY, &3_u32.to_le_bytes()).unwrap();
    let before = entries(&store);
    let newer = |result: Result<(), StoreError>| match result {
        Err(error @ StoreError::Newer { found: 3, known: 2, .. }) => assert!(error.to_string().contains("run the newer program")),
        other => panic!("{other:?}"),
    };
    newer(SledUsers::open(&store, CACHE_BYTES, LAST).map(drop));
    newer(pending_migrations(&store).map(drop));
    let checkpoints = ["checkpoints", "commits"].map(|below| bytes(&dir.path().join(below)));
    let error = world::refused(&config(dir.path()), world::labelled_stream(ROWS)).to_string();
    assert!(error.contains("format 3"), "{error}");
    assert!(entries(&store) == before, "a refusal changes nothing");
    assert!(["checkpoints", "commits"].map(|below| bytes(&dir.path().join(below))) == checkpoints, "nor here");
}

/// Layout 0: bare records under the user id. One of them looks like a record of layout 1.
fn bare_records() -> BTreeMap<String, Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut writer) = SledUsers::open(dir.path(), CACHE_BYTES, 0).unwrap();
    writer.write(9, &mut [(UserId("user0003".into()), b"inner".to_vec())].into_iter()).unwrap();
    drop(writer);
    let disguised = raw(dir.path()).get("user0003").unwrap().unwrap().to_vec();
    let plain = (0..700).map(|i| (format!("user{i:04}"), format!("record of {i}").into_bytes()));
    plain.chain([("user0003".to_owned(), disguised)]).collect()
}

#[test]
#[ignore = "writes the fixture of layout 0, which no program writes any more"]
fn writes_bare_records() {
    let db = raw(Path::new(&std::env::var("ROCKET_FIXTURE_BARE").expect("ROCKET_FIXTURE_BARE names the directory to write")));
    for (id, bytes) in bare_records() {
        db.insert(id, bytes).unwrap();
    }
}

#[test]
fn a_store_of_layout_0_is_brought_up_to_date_once() {
    let (dir, records) = (fixture("store-0"), bare_records());
    for _listing_changes_nothing in 0..2 {
        assert_eq!(pending_migrations(dir.path()).unwrap(), ["0001_record_header", "0002_seals"]);
    }
    assert_eq!(all(&mut open(dir.path(), 0)), records);
    assert!(pending_migrations(dir.path()).unwrap().is_empty());
    let migrated = entries(dir.path());
    assert_eq!(all(&mut open(dir.path(), 0)), records);
    assert!(entries(dir.path()) == migrated, "done once");
    assert!(pending_migrations(&dir.path().join("absent")).unwrap().is_empty());
    assert!(!dir.path().join("absent").exists());
}

#[test]
fn a_migration_interrupted_after_any_batch_is_resumed() {
    let (done, records) = (fixture("store-0"), bare_records());
    drop(open(done.path(), 0));
    let migrated = raw(done.path());
    // Batches of 256 records; and others, as a program with other batches would leave it.
    for stop in ["user0255", "user0511", "user0699", "user0000", "user0003"] {
        let dir = fixture("store-0");
        let db = raw(dir.path());
        for entry in migrated.range(..=stop) {
            let (key, value) = entry.unwrap();
            db.insert(key, value).unwrap();
        }
        db.insert(CURSOR_KEY, stop).unwrap();
        drop(db);
        assert_eq!(all(&mut open(dir.path(), 0)), records, "interrupted after {stop}");
        assert_eq!(raw(dir.path()).get(CURSOR_KEY).unwrap(), None);
    }
}
