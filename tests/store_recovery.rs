//! Promise: the store gives every user's value as of the commit it is opened with, or says that it cannot; never a wrong one.
#![allow(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rocket_launching::domain::UserId;
use rocket_launching::evaluate::UserStates;
use rocket_launching::store::{SledUsers, StoreError};

const CACHE_BYTES: u64 = 1 << 20;

fn open(dir: &Path, committed: u64) -> SledUsers {
    SledUsers::open(dir, CACHE_BYTES, committed).unwrap()
}

/// sled itself. Its workers hold the lock for some moments after a store is dropped.
fn raw(dir: &Path) -> sled::Db {
    let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("lock") && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result.unwrap(),
        }
    }
}

fn user(id: &str) -> UserId {
    UserId(id.into())
}

fn write(store: &mut SledUsers, number: u64, records: &[(&str, &str)]) {
    let records: Vec<_> = records.iter().map(|(id, value)| (user(id), value.as_bytes().to_vec())).collect();
    store.write(number, &records).unwrap();
}

fn commit(store: &mut SledUsers, number: u64, records: &[(&str, &str)]) {
    write(store, number, records);
    store.committed(number);
}

fn load(store: &mut SledUsers, id: &str) -> Option<String> {
    store.load(&user(id)).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
}

fn all(store: &mut SledUsers) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    store.scan(&mut |id, bytes| assert!(found.insert(id.0.to_string(), bytes).is_none(), "visited twice")).unwrap();
    found
}

#[test]
fn writes_above_the_commit_are_invisible_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), 0);
    commit(&mut store, 1, &[("kept", "k1"), ("changed", "c1")]);
    write(&mut store, 2, &[("changed", "c2"), ("new", "n2")]);
    let check = |store: &mut SledUsers| {
        assert_eq!(load(store, "kept").as_deref(), Some("k1"));
        assert_eq!(load(store, "changed").as_deref(), Some("c1"));
        assert_eq!(load(store, "new"), None);
        assert_eq!(all(store).into_keys().collect::<Vec<_>>(), ["changed", "kept"]);
    };
    check(&mut store);
    drop(store);
    check(&mut open(dir.path(), 1));
}

#[test]
fn numbers_of_a_dead_run_may_be_committed_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), 0);
    commit(&mut store, 1, &[("a", "a1"), ("b", "b1")]);
    write(&mut store, 2, &[("a", "dead"), ("b", "dead"), ("c", "dead")]);
    drop(store);

    let mut store = open(dir.path(), 1);
    commit(&mut store, 2, &[("a", "a2")]);
    commit(&mut store, 3, &[]);
    assert_eq!(load(&mut store, "a").as_deref(), Some("a2"));
    assert_eq!(load(&mut store, "b").as_deref(), Some("b1"));
    assert_eq!(load(&mut store, "c"), None);
}

#[test]
fn a_write_whose_commit_failed_is_replaced_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), 0);
    commit(&mut store, 1, &[("a", "a1")]);
    write(&mut store, 2, &[("a", "a2"), ("b", "b2")]);
    write(&mut store, 3, &[("a", "a3"), ("b", "b2")]);
    assert_eq!((load(&mut store, "a").as_deref(), load(&mut store, "b")), (Some("a1"), None));
    drop(store);
    let mut store = open(dir.path(), 3);
    assert_eq!((load(&mut store, "a").as_deref(), load(&mut store, "b").as_deref()), (Some("a3"), Some("b2")));
}

#[test]
fn a_store_goes_back_one_commit_and_says_so_when_it_cannot_go_further() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), 0);
    for (number, value) in [(1, "a1"), (2, "a2"), (3, "a3")] {
        commit(&mut store, number, &[("a", value)]);
    }
    drop(store);
    let refused = SledUsers::open(dir.path(), CACHE_BYTES, 1).unwrap_err();
    assert!(matches!(refused, StoreError::Ahead { found: 2, committed: 1, .. }), "{refused}");
    assert_eq!(load(&mut open(dir.path(), 2), "a").as_deref(), Some("a2"), "the refusal changed nothing");
}

#[test]
fn a_lost_directory_and_an_old_copy_can_be_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), 4);
    assert!(store.is_empty().unwrap());
    assert_eq!(store.written(), 0);
    commit(&mut store, 5, &[(&"x".repeat(300), "v")]);
    assert!(!store.is_empty().unwrap());
    assert_eq!(store.written(), 5);
}

#[test]
fn ids_of_any_length_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (edge, long, longer) = ("e".repeat(200), "é".repeat(101), "z".repeat(70_000));
    let ids = ["", "a", edge.as_str(), long.as_str(), longer.as_str(), "\u{10FFFF}"];
    let mut store = open(dir.path(), 0);
    commit(&mut store, 1, &ids.map(|id| (id, id)));
    drop(store);
    let mut store = open(dir.path(), 1);
    for id in ids {
        assert_eq!(load(&mut store, id).as_deref(), Some(id));
    }
    assert_eq!(all(&mut store), ids.iter().map(|id| ((*id).to_owned(), id.as_bytes().to_vec())).collect());
}

#[test]
fn records_too_large_for_the_log_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let value = "v".repeat(400_000);
    let mut store = open(dir.path(), 0);
    commit(&mut store, 1, &[("a", &value)]);
    commit(&mut store, 2, &[("a", "small"), ("b", &value)]);
    drop(store);
    let mut store = open(dir.path(), 1);
    assert_eq!((load(&mut store, "a"), load(&mut store, "b")), (Some(value), None));
}

#[test]
fn every_flipped_bit_of_a_record_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), 0);
    commit(&mut store, 1, &[("0000", "old")]);
    commit(&mut store, 2, &[("0000", "current")]);
    drop(store);
    let bits = 8 * raw(dir.path()).get("0000").unwrap().unwrap().len();
    let names: Vec<String> = (0..bits).map(|bit| format!("{bit:04}")).collect();
    let value = |value| names.iter().map(|name| (name.as_str(), value)).collect::<Vec<_>>();
    let mut store = open(dir.path(), 2);
    commit(&mut store, 3, &value("old"));
    commit(&mut store, 4, &value("current"));
    drop(store);

    let db = raw(dir.path());
    for (bit, name) in names.iter().enumerate() {
        let mut bytes = db.get(name).unwrap().unwrap().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        db.insert(name.as_str(), bytes).unwrap();
    }
    drop(db);

    let mut store = open(dir.path(), 4);
    for name in &names {
        let error = store.load(&user(name)).expect_err("a flipped bit was not found").to_string();
        assert!(error.contains(&format!("record {name} is corrupt")) && error.contains("move the directory away"), "{error}");
        assert!(store.write(5, &[(user(name), vec![])]).is_err(), "a corrupt record is not written over");
    }
    assert!(store.scan(&mut |_, _| ()).is_err());
    drop(store);
    assert!(matches!(SledUsers::open(dir.path(), CACHE_BYTES, 3).unwrap_err(), StoreError::Corrupt { .. }));
}

#[test]
fn a_store_can_be_reopened_at_once() {
    // More at a time than there are cores, so that sled's workers come late to let go of the log.
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let dir = tempfile::tempdir().unwrap();
                let names: Vec<String> = (0..500).map(|i| format!("{i:04}")).collect();
                let records: Vec<_> = names.iter().map(|name| (name.as_str(), "value")).collect();
                for number in 1..=20 {
                    commit(&mut open(dir.path(), number - 1), number, &records);
                }
            });
        }
    });
}

#[test]
fn a_store_that_is_open_elsewhere_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let _open = open(dir.path(), 0);
    let error = SledUsers::open(dir.path(), CACHE_BYTES, 0).unwrap_err().to_string();
    assert!(error.contains("stop that one first") && error.contains(&dir.path().display().to_string()), "{error}");
}
