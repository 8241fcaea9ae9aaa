//! Promise: on a topic that anybody may write to, a trainer with a key starts, publishes and counts on as if the others' records were not
//! there; operators likewise. Where nothing is signed, no number that somebody writes ends in a panic.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

#[path = "support/snapshots.rs"]
mod snapshots;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rocket_launching::config::{Config, KeysConfig};
use rocket_launching::domain::Version;
use rocket_launching::keys::{KeyError, Keyring, Role, Signer, Trust};
use rocket_launching::publish::{Operator, OperatorError, PublishError, Published, Publisher};
use rocket_launching::serving::Catalog;
use rocket_launching::stream::{LogReader, LogRecord, LogWriter, MemoryLog, StreamError};
use rocket_launching::wire::snapshot::{Act, Key, Lease, NUMBER_MAX, PROTOCOL, Pin, Pointer, seal, seal_as};
use serde::Serialize;
use snapshots::{MODEL, commit, config, loaded};
use tempfile::TempDir;

const NOW_MS: i64 = snapshots::CREATED_MS + 1000;

/// A directory of key files.
struct Safe {
    dir: TempDir,
    trainer: Signer,
    operator: Signer,
}

impl Safe {
    fn new() -> Self {
        let safe = Safe { dir: tempfile::tempdir().unwrap(), trainer: Signer::generate().unwrap(), operator: Signer::generate().unwrap() };
        safe.trainer.save(&safe.dir.path().join("trainer.pem")).unwrap();
        safe.operator.save(&safe.dir.path().join("operator.pem")).unwrap();
        let lines = [safe.trainer.public().trusted_as(Role::Trainer), safe.operator.public().trusted_as(Role::Operator)];
        std::fs::write(safe.dir.path().join("trusted.toml"), lines.join("\n")).unwrap();
        safe
    }

    fn config(&self) -> Config {
        let [trusted, trainer, operator] = ["trusted.toml", "trainer.pem", "operator.pem"].map(|name| self.dir.path().join(name));
        Config { keys: KeysConfig { trusted, trainer, operator }, ..config(8) }
    }

    fn trust(&self) -> Trust {
        Trust::new([(self.trainer.public(), Role::Trainer), (self.operator.public(), Role::Operator)])
    }

    fn publisher(&self, log: &MemoryLog) -> Publisher {
        Publisher::open(&self.config(), "test", Box::new(log.clone()), Box::new(log.clone())).unwrap()
    }

    fn operator(&self, log: &MemoryLog) -> Operator {
        let keys = self.config().keys;
        let keys = Keyring::load(&keys.trusted, &keys.operator, Role::Operator).unwrap();
        Operator::open(MODEL, "ann@ops", keys, Box::new(log.clone()), Box::new(log.clone())).unwrap()
    }

    fn catalog(&self, log: &MemoryLog) -> Catalog {
        let mut catalog = Catalog::trusting(MODEL, self.trust());
        for record in records(log) {
            let _refused = catalog.apply(&record);
        }
        catalog
    }
}

fn records(log: &MemoryLog) -> Vec<LogRecord> {
    let mut reader = log.clone();
    std::iter::from_fn(|| reader.next(Duration::ZERO).unwrap()).collect()
}

fn publish(publisher: &mut Publisher, number: u64) -> Published {
    publisher.publish(&commit(number), &loaded(number), NOW_MS).unwrap()
}

fn put(log: &MemoryLog, key: &Key, value: Option<Vec<u8>>) {
    log.append(&[(key.encode().into_bytes(), value)]).unwrap();
}

fn lease(number: u64) -> Lease {
    Lease { proto: PROTOCOL, model: MODEL.into(), seq: number, epoch: number, instance: "mallory".into(), at_ms: 0 }
}

fn pointer(version: u64, number: u64) -> Pointer {
    let (actor, reason) = ("trainer".to_owned(), "r".to_owned());
    Pointer {
        proto: PROTOCOL,
        model: MODEL.into(),
        seq: number,
        epoch: number,
        version: Version(version),
        highest: None,
        actor,
        reason,
        at_ms: 0,
    }
}

fn pin(version: u64, number: u64) -> Pin {
    let (actor, reason) = ("mallory".to_owned(), "r".to_owned());
    Pin {
        proto: PROTOCOL,
        model: MODEL.into(),
        seq: number,
        epoch: number,
        version: Some(Version(version)),
        expires_ms: None,
        actor,
        reason,
        at_ms: 0,
    }
}

/// Writes a record unsigned, and signed by a stranger.
fn forge(log: &MemoryLog, key: &Key, payload: &impl Serialize) {
    put(log, key, Some(seal_as(key, payload, None)));
    put(log, key, Some(seal_as(key, payload, Some(&Signer::from_seed(&[66; 32])))));
}

/// Whatever somebody without a trusted key can think of.
fn attack(log: &MemoryLog, number: u64) {
    forge(log, &Key::Lease, &lease(number));
    forge(log, &Key::Current, &pointer(number, number));
    forge(log, &Key::PinAll, &pin(number, number));
    let mut manifest = serde_json::to_value(lease(number)).unwrap();
    manifest["version"] = number.into();
    forge(log, &Key::Manifest(Version(number)), &manifest);
    put(log, &Key::Chunk(Version(number), 0), Some(b"a chunk of nothing".to_vec()));
    put(log, &Key::Chunk(Version(number - 1), 0), None);
    for key in [Key::Manifest(Version(number - 1)), Key::Current, Key::PinAll, Key::Lease, Key::Audit(number)] {
        put(log, &key, None);
    }
    put(log, &Key::Lease, Some(b"{ no envelope".to_vec()));
    put(log, &Key::PinAll, Some(vec![b' '; 2 << 20]));
}

#[test]
fn whoever_holds_no_key_stops_nobody_and_uses_up_no_number() {
    for number in [u64::MAX, NUMBER_MAX, 1 << 40, 5] {
        let (safe, log) = (Safe::new(), MemoryLog::default());
        attack(&log, number);
        let mut publisher = safe.publisher(&log);
        assert!(publisher.highest_version().is_none_or(|version| version.0 <= 5), "{:?}", publisher.highest_version());
        assert!(publish(&mut publisher, 1).promoted);
        attack(&log, number);
        assert!(publish(&mut publisher, 2).promoted);
        attack(&log, number);
        safe.operator(&log).rollback(Version(1), "a drill", NOW_MS).unwrap();
        attack(&log, number);
        assert!(publish(&mut publisher, 3).held_by.is_some_and(|by| by.contains("ann@ops")));
        safe.operator(&log).unpin("over", NOW_MS).unwrap();

        let catalog = safe.catalog(&log);
        assert_eq!((catalog.target(0), catalog.epoch(), catalog.highest_version()), (Some(Version(1)), 1, Some(Version(3))));
        let acts: Vec<Act> = catalog.audit().map(|entry| entry.act).collect();
        assert_eq!(acts, [Act::Promote, Act::Promote, Act::Rollback, Act::Unpin]);
        assert!(publish(&mut safe.publisher(&log), 4).promoted, "and a successor goes on, under the next epoch");
        assert_eq!((safe.catalog(&log).target(0), safe.catalog(&log).epoch()), (Some(Version(4)), 2));
    }
}

#[test]
fn what_was_rolled_back_from_is_not_promoted_again() {
    let (safe, log) = (Safe::new(), MemoryLog::default());
    let mut publisher = safe.publisher(&log);
    (1..=3).for_each(|number| assert!(publish(&mut publisher, number).promoted));
    safe.operator(&log).rollback(Version(1), "bad", NOW_MS).unwrap();
    safe.operator(&log).unpin("wait for the next", NOW_MS).unwrap();
    log.compact(false);
    let mut successor = safe.publisher(&log);
    let again = publish(&mut successor, 3);
    assert!(again.held_by.is_some_and(|by| by.contains("has been at version 3")));
    assert_eq!(safe.catalog(&log).target(0), Some(Version(1)));
    assert!(publish(&mut successor, 4).promoted);
    assert_eq!(safe.catalog(&log).target(0), Some(Version(4)));
}

#[test]
fn a_trainer_or_an_operator_without_its_key_writes_nothing() {
    let (safe, log) = (Safe::new(), MemoryLog::default());
    let open = |keys: KeysConfig| {
        let config = Config { keys, ..config(8) };
        Publisher::open(&config, "test", Box::new(log.clone()), Box::new(log.clone())).err().expect("refused")
    };
    let keys = safe.config().keys;
    let keyless = open(KeysConfig { trainer: Path::new("").to_owned(), ..keys.clone() });
    assert!(matches!(keyless, PublishError::Key(KeyError::NoSigner { .. })), "{keyless}");
    let other = open(KeysConfig { trainer: keys.operator.clone(), ..keys.clone() });
    assert!(matches!(other, PublishError::Key(KeyError::NotTrusted { .. })), "{other}");
    assert_eq!(records(&log), []);
    assert!(Keyring::load(&keys.trusted, &keys.trainer, Role::Operator).is_err(), "a trainer's key is no operator's");
}

#[test]
fn where_nothing_is_signed_numbers_at_the_end_are_errors_that_say_so() {
    let open = |log: &MemoryLog| Publisher::open(&config(8), "test", Box::new(log.clone()), Box::new(log.clone()));
    let log = MemoryLog::default();
    attack(&log, u64::MAX);
    assert!(publish(&mut open(&log).unwrap(), 1).promoted, "beyond what counts, nothing is taken in");

    let log = MemoryLog::default();
    put(&log, &Key::Lease, Some(seal(&lease(NUMBER_MAX))));
    let error = open(&log).err().expect("there is no next epoch");
    assert!(matches!(error, PublishError::Exhausted(_)) && error.to_string().contains("keys.trusted"), "{error}");

    let log = MemoryLog::default();
    let mut publisher = open(&log).unwrap();
    publish(&mut publisher, 1);
    put(&log, &Key::Current, Some(seal(&Pointer { epoch: 1, ..pointer(1, NUMBER_MAX - 1) })));
    assert!(matches!(publisher.publish(&commit(2), &loaded(2), NOW_MS), Err(PublishError::Exhausted(_))));
    let mut operator = Operator::open(MODEL, "ann@ops", Keyring::default(), Box::new(log.clone()), Box::new(log.clone())).unwrap();
    let error = operator.rollback(Version(1), "r", NOW_MS).unwrap_err();
    assert!(matches!(error, OperatorError::Exhausted(_)), "{error}");

    let log = MemoryLog::default();
    put(&log, &Key::Chunk(Version(NUMBER_MAX), 0), Some(vec![1]));
    let error = open(&log).unwrap().publish(&commit(NUMBER_MAX + 1), &loaded(1), NOW_MS).unwrap_err();
    assert!(error.to_string().contains("used up"), "{error}");
}

/// Lets a successor take the lease just before the n-th append, as if this trainer had been paused there.
struct Paused {
    log: MemoryLog,
    appends_left: AtomicUsize,
    successor: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl LogWriter for Paused {
    fn append(&self, entries: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StreamError> {
        if self.appends_left.fetch_sub(1, Ordering::SeqCst) == 1
            && let Some(takes_over) = self.successor.lock().unwrap().take()
        {
            takes_over();
        }
        self.log.append(entries)
    }
}

#[test]
fn paused_anywhere_and_superseded_it_stops_and_says_so_and_its_records_do_not_count() {
    let mut paused = 0;
    for appends in 2.. {
        let (safe, log) = (Safe::new(), MemoryLog::default());
        let (keys, shared) = (safe.config(), log.clone());
        let takes_over = move || drop(Publisher::open(&keys, "successor", Box::new(shared.clone()), Box::new(shared)).unwrap());
        let writer = Paused {
            log: log.clone(),
            appends_left: AtomicUsize::new(appends),
            successor: Mutex::new(Some(Box::new(takes_over) as Box<dyn FnOnce() + Send>)),
        };
        let mut old = Publisher::open(&safe.config(), "old", Box::new(log.clone()), Box::new(writer)).unwrap();
        let outcome = old.publish(&commit(1), &loaded(1), NOW_MS);
        if safe.catalog(&log).epoch() == 1 {
            assert!(outcome.is_ok_and(|published| published.promoted), "never paused");
            break;
        }
        paused += 1;
        let error = outcome.unwrap_err();
        assert!(matches!(&error, PublishError::Superseded { ours: 1, theirs: 2, instance } if instance == "successor"), "{error}");
        assert_eq!(safe.catalog(&log).target(0), None, "paused before append {appends}");
        let again = old.publish(&commit(2), &loaded(2), NOW_MS).unwrap_err();
        assert!(matches!(again, PublishError::Superseded { .. }), "{again}");

        let mut new = safe.publisher(&log);
        let next = new.highest_version().map_or(0, |version| version.0) + 1;
        assert!(publish(&mut new, next).promoted);
        assert_eq!(safe.catalog(&log).target(0), Some(Version(next)));
        assert!(safe.operator(&log).verify(Version(next)).is_ok());
    }
    assert!(paused >= 3, "chunks, manifest and pointer are sent apart: {paused}");
}
