//! Promise: the store gives every user's value as of the commit it is opened with, or says that it cannot; never a wrong one.
#![allow(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

mod support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use rocket_launching::domain::UserId;
use rocket_launching::evaluate::{UserStates, UserWriter};
use rocket_launching::store::{Export, Exports, SledUsers, SledWriter, StoreError, set_aside};
use support::raw_sled::{CACHE_BYTES, raw};

const SEALS_KEY: &[u8] = b"\xFFseals";

/// Both halves.
struct Store {
    users: SledUsers,
    writer: SledWriter,
}

fn try_open(dir: &Path, committed: u64) -> Result<Store, StoreError> {
    SledUsers::open(dir, CACHE_BYTES, committed).map(|(users, writer)| Store { users, writer })
}

fn open(dir: &Path, committed: u64) -> Store {
    try_open(dir, committed).unwrap()
}

fn user(id: &str) -> UserId {
    UserId(id.into())
}

fn write(store: &mut Store, number: u64, records: &[(&str, &str)]) {
    store.writer.write(number, &mut records.iter().map(|(id, value)| (user(id), value.as_bytes().to_vec()))).unwrap();
}

fn commit(store: &mut Store, number: u64, records: &[(&str, &str)]) {
    write(store, number, records);
    store.writer.committed(number);
}

fn load(store: &mut Store, id: &str) -> Option<String> {
    store.users.load(&user(id)).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
}

fn all(store: &mut Store) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let visit = &mut |id: UserId, bytes| {
        assert!(found.insert(id.0.to_string(), bytes).is_none(), "visited twice");
        ControlFlow::Continue(())
    };
    store.users.scan(visit).unwrap();
    found
}

#[test]
fn writes_above_the_commit_are_invisible_before_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), 0);
    commit(&mut store, 1, &[("kept", "k1"), ("changed", "c1")]);
    write(&mut store, 2, &[("changed", "c2"), ("new", "n2")]);
    let check = |store: &mut Store| {
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
    let refused = try_open(dir.path(), 1).err().unwrap();
    assert!(matches!(refused, StoreError::OtherCommit { holds: 3, committed: 1, .. }), "{refused}");
    assert_eq!(load(&mut open(dir.path(), 2), "a").as_deref(), Some("a2"), "the refusal changed nothing");
}

#[test]
fn a_lost_directory_and_an_old_copy_can_be_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), 4);
    assert_eq!(store.writer.users(), 0);
    commit(&mut store, 5, &[(&"x".repeat(300), "v")]);
    assert_eq!(store.writer.users(), 1);
    drop(store);
    let refused = try_open(dir.path(), 6).err().unwrap();
    assert!(matches!(refused, StoreError::OtherCommit { holds: 5, committed: 6, .. }), "{refused}");
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

    let error = try_open(dir.path(), 4).err().expect("a flipped bit was not found").to_string();
    assert!(error.contains("record 0000 is corrupt") && error.contains("recovers from the newest export"), "{error}");
    assert!(matches!(try_open(dir.path(), 3).err().unwrap(), StoreError::Corrupt { .. }));
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
    let error = try_open(dir.path(), 0).err().unwrap().to_string();
    assert!(error.contains("stop that one first") && error.contains(&dir.path().display().to_string()), "{error}");
}

#[test]
fn users_that_sled_lost_or_that_are_of_an_older_write_are_missed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), 0);
    commit(&mut store, 1, &[("a", "a1"), ("b", "b1")]);
    let older = store.users.clone();
    drop((store, older));
    let db = raw(dir.path());
    let old = db.get("a").unwrap().unwrap();
    drop(db);
    commit(&mut open(dir.path(), 1), 2, &[("a", "a2")]);
    let db = raw(dir.path());
    let new = db.insert("a", old).unwrap().unwrap();
    drop(db);
    assert!(matches!(try_open(dir.path(), 2).err().unwrap(), StoreError::Corrupt { .. }));
    let db = raw(dir.path());
    db.insert("a", new).unwrap();
    let lost = db.remove("b").unwrap().unwrap();
    drop(db);
    assert!(matches!(try_open(dir.path(), 2).err().unwrap(), StoreError::Corrupt { .. }));
    raw(dir.path()).insert("b", lost).unwrap();
    assert_eq!(load(&mut open(dir.path(), 2), "a").as_deref(), Some("a2"), "nothing else was wrong");
    raw(dir.path()).remove(SEALS_KEY).unwrap();
    assert!(matches!(try_open(dir.path(), 2).err().unwrap(), StoreError::Corrupt { .. }));
}

#[test]
fn a_value_is_that_of_the_last_commit_while_the_next_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), 0);
    let names: Vec<String> = (0..3000).map(|user| format!("{user:04}")).collect();
    let values = |value: &str| names.iter().map(|name| (user(name), value.as_bytes().to_vec())).collect::<Vec<_>>();
    store.writer.write(1, &mut values("1").into_iter()).unwrap();
    store.writer.committed(1);
    let (users, mut writer) = (store.users, store.writer);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut found = BTreeMap::<Vec<u8>, usize>::new();
            let visit = &mut |_: UserId, value| {
                *found.entry(value).or_default() += 1;
                ControlFlow::Continue(())
            };
            for _ in 0..20 {
                users.scan(visit).unwrap();
                assert!(users.load(&user("0000")).unwrap().is_some());
            }
            found.values().sum::<usize>()
        });
        for number in 2..8 {
            writer.write(number, &mut values(&number.to_string()).into_iter()).unwrap();
            writer.committed(number);
        }
        assert_eq!(reading.join().unwrap(), 20 * names.len(), "every user is there in every scan");
    });
}

#[test]
fn an_export_gives_back_the_store_it_was_made_of() {
    let dir = tempfile::tempdir().unwrap();
    let (path, exports) = (dir.path().join("users.sled"), Exports::new(&dir.path().join("exports")));
    let long = "é".repeat(300);
    let mut store = open(&path, 0);
    for number in 1..=5 {
        commit(&mut store, number, &[("a", "x"), (&long, "y"), (&number.to_string(), "z")]);
        exports.add(&store.writer, "model").unwrap();
    }
    write(&mut store, 6, &[("a", "never committed")]);
    assert_eq!(exports.checkpoints().unwrap(), [3, 4, 5], "the newest three");
    let expected = all(&mut store);
    drop(store);

    assert!(Export::open(&exports.path(5)).unwrap().check("other", 5).is_err());
    let aside = set_aside(&path, "aside").unwrap().unwrap();
    Export::open(&exports.path(5)).unwrap().import(&path, CACHE_BYTES).unwrap();
    let mut imported = open(&path, 5);
    assert_eq!(all(&mut imported), expected);
    commit(&mut imported, 6, &[("a", "a6")]);
    drop(imported);
    assert_eq!(load(&mut open(&path, 6), "a").as_deref(), Some("a6"));
    assert_eq!(all(&mut open(&aside, 5)), expected, "the old one is untouched");
}

#[test]
fn a_store_that_was_built_anew_takes_its_place_wherever_that_was_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let beside = |name: &str| dir.path().join(name);
    let exports = Exports::new(&beside("exports"));
    let mut old = open(&beside("users.sled"), 0);
    commit(&mut old, 1, &[("a", "a1")]);
    let export = exports.add(&old.writer, "model").unwrap();
    drop(old);
    let import = |to: &str| Export::open(&export).unwrap().import(&beside(to), CACHE_BYTES).unwrap();
    let check = |case: &str| {
        assert_eq!(load(&mut open(&beside("users.sled"), 1), "a").as_deref(), Some("a1"), "{case}");
        let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["exports", "users.sled"], "{case}");
    };
    std::fs::create_dir(beside("users.building")).unwrap();
    check("while building");
    import("users.other");
    std::fs::rename(beside("users.other"), beside("users.built")).unwrap();
    check("before the old one was moved");
    std::fs::rename(beside("users.sled"), beside("users.built")).unwrap();
    std::fs::create_dir(beside("users.replaced")).unwrap();
    check("between the two moves");
    std::fs::create_dir(beside("users.replaced")).unwrap();
    check("before the old one was removed");
}
