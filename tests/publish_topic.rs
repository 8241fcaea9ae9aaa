//! Promise: what is on the snapshot topic can be served, is never overwritten, and can be taken back.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

#[path = "support/snapshots.rs"]
mod snapshots;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rocket_launching::domain::{EventTime, Version};
use rocket_launching::keys::Keyring;
use rocket_launching::publish::{Operator, OperatorError, PublishError, Published, Publisher};
use rocket_launching::serving::{Catalog, ServedModel};
use rocket_launching::stream::{LogReader, LogRecord, LogWriter, MemoryLog, StreamError};
use rocket_launching::wire::snapshot::{Act, Key, Manifest, PROTOCOL, Pin, seal};
use safetensors::SafeTensors;
use serde_json::json;
use snapshots::{MODEL, commit, config, loaded};

const NOW_MS: i64 = snapshots::CREATED_MS + 1000;
const NO_WAIT: Duration = Duration::ZERO;

type Entries = [(Vec<u8>, Option<Vec<u8>>)];

fn publisher(log: &MemoryLog, keep: usize) -> Publisher {
    Publisher::open(&config(keep), "test", Box::new(reader(log)), Box::new(log.clone())).unwrap()
}

fn operator(log: &MemoryLog) -> Operator {
    Operator::open(MODEL, "ann@ops", Keyring::default(), Box::new(reader(log)), Box::new(log.clone())).unwrap()
}

/// A clone that reads from the beginning.
fn reader(log: &MemoryLog) -> MemoryLog {
    let reader = log.clone();
    assert_eq!(reader.position(), 0, "only clones are read");
    reader
}

fn publish(publisher: &mut Publisher, number: u64) -> Published {
    publisher.publish(&commit(number), &loaded(number), NOW_MS).unwrap()
}

fn records(log: &MemoryLog) -> Vec<LogRecord> {
    let mut reader = reader(log);
    std::iter::from_fn(|| reader.next(NO_WAIT).unwrap()).collect()
}

fn catalog(log: &MemoryLog) -> Catalog {
    let mut catalog = Catalog::new(MODEL);
    records(log).iter().for_each(|record| catalog.apply(record).unwrap());
    catalog
}

/// Latest value by key, as compaction would leave it.
fn compacted(log: &MemoryLog) -> BTreeMap<String, Option<Vec<u8>>> {
    records(log).into_iter().map(|record| (String::from_utf8(record.key).unwrap(), record.value)).collect()
}

/// Manifest and artifact of a version, put together from the topic as a subscriber does.
fn fetch(log: &MemoryLog, version: u64) -> (Manifest, Vec<u8>) {
    let catalog = catalog(log);
    let offsets = catalog.chunk_offsets(Version(version)).unwrap();
    let chunks = reader(log).read_at(&offsets, NO_WAIT).unwrap();
    let artifact = chunks.into_iter().flat_map(|chunk| chunk.value.unwrap()).collect();
    (catalog.manifests()[&Version(version)].clone(), artifact)
}

fn versions(log: &MemoryLog) -> Vec<u64> {
    catalog(log).manifests().keys().map(|version| version.0).collect()
}

#[test]
fn what_is_published_scores_like_the_trainer() {
    let log = MemoryLog::default();
    let mut publisher = publisher(&log, 8);
    assert_eq!(publisher.highest_version(), None);
    let first = publish(&mut publisher, 1);
    assert!(first.promoted && first.held_by.is_none() && first.chunks > 1, "{first:?}");
    publish(&mut publisher, 2);
    assert_eq!(publisher.highest_version(), Some(Version(2)));
    assert_eq!(catalog(&log).target(NOW_MS), Some(Version(2)));

    let (manifest, artifact) = fetch(&log, 2);
    let model = ServedModel::open(manifest, &artifact).unwrap();
    let object = |value: serde_json::Value| value.as_object().unwrap().clone();
    let candidates: Vec<_> = [3, 17, 41].map(|item| object(json!({ "item": format!("item{item}") }))).to_vec();
    let scores = model.score(EventTime(NOW_MS), &object(json!({ "age": 30 })), &candidates).unwrap();
    for (score, item) in scores.into_iter().zip([3, 17, 41]) {
        let expected = snapshots::probability(2, item, 30.0);
        assert!((score - expected).abs() < 1e-6, "{score} {expected}");
    }
}

#[test]
fn the_manifest_says_where_the_model_comes_from_and_how_good_it_is() {
    let log = MemoryLog::default();
    publish(&mut publisher(&log, 8), 7);
    let (manifest, artifact) = fetch(&log, 7);
    assert_eq!((manifest.proto, manifest.model.as_str(), manifest.version, manifest.epoch), (PROTOCOL, MODEL, Version(7), 1));
    assert_eq!(manifest.created_ms, snapshots::CREATED_MS);
    assert_eq!(manifest.expires_ms, snapshots::CREATED_MS + config(8).publish.expires.as_millis());
    assert_eq!(manifest.artifact.bytes, artifact.len() as u64);
    assert_eq!(manifest.artifact.blake3, blake3::hash(&artifact).to_hex().to_string());
    assert_eq!(manifest.provenance.samples, 700);
    assert_eq!((manifest.provenance.positions[0].low, manifest.provenance.positions[0].done.len()), (100, 0));
    assert_eq!(manifest.quality.heads["light"].gauc, Some(0.607));
    assert_eq!(manifest.quality.heads["light"].calibration, None);
    assert_eq!(manifest.probes.len(), 4);
    let tolerances: Vec<(f32, f32)> = manifest.probes.iter().map(|probe| (probe.logit, probe.tolerance)).collect();
    assert!(tolerances.iter().all(|(logit, tolerance)| (tolerance - 1e-4 * logit.abs().max(1.0)).abs() < 1e-9), "{tolerances:?}");
}

#[test]
fn neither_booster_nor_optimizer_leaves_the_trainer() {
    let log = MemoryLog::default();
    publish(&mut publisher(&log, 8), 1);
    let (manifest, artifact) = fetch(&log, 1);
    let tensors = SafeTensors::deserialize(&artifact).unwrap();
    let mut names = tensors.names();
    names.sort_unstable();
    assert_eq!(names, ["embedding.keys", "embedding.rows", "light.0.bias", "light.0.weight"]);
    assert_eq!(manifest.artifact.tensors.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), names);
    assert_eq!(tensors.tensor("embedding.rows").unwrap().shape(), [snapshots::ITEMS, 2]);
    let floats = ["embedding.rows", "light.0.bias", "light.0.weight"].map(|name| tensors.tensor(name).unwrap().data().to_vec()).concat();
    let stowaway = |value: f32| floats.chunks_exact(4).any(|four| four == value.to_le_bytes());
    for value in [777.0, 888.0, 999.0] {
        assert!(!stowaway(value), "{value}");
    }
}

#[test]
fn a_pin_holds_promotion_until_it_is_lifted() {
    let log = MemoryLog::default();
    let mut publisher = publisher(&log, 8);
    publish(&mut publisher, 1);
    publish(&mut publisher, 2);
    operator(&log).pin(Version(1), "2 is bad", NOW_MS).unwrap();
    assert_eq!(catalog(&log).target(NOW_MS), Some(Version(1)));

    let held = publish(&mut publisher, 3);
    assert!(!held.promoted);
    assert_eq!(held.held_by.as_deref(), Some("version 1 is pinned by ann@ops: 2 is bad"));
    assert_eq!(catalog(&log).target(NOW_MS), Some(Version(1)));
    assert_eq!(catalog(&log).current().unwrap().version, Version(2));

    operator(&log).unpin("3 is good", NOW_MS).unwrap();
    assert_eq!(catalog(&log).target(NOW_MS), Some(Version(2)));
    assert!(matches!(operator(&log).unpin("again", NOW_MS), Err(OperatorError::NotPinned { .. })));
    assert!(publish(&mut publisher, 4).promoted);
    assert_eq!(catalog(&log).target(NOW_MS), Some(Version(4)));
}

#[test]
fn a_rollback_is_served_and_the_trainer_does_not_promote_over_it() {
    let log = MemoryLog::default();
    let mut publisher = publisher(&log, 8);
    for number in [1, 2, 3] {
        publish(&mut publisher, number);
    }
    operator(&log).rollback(Version(1), "revenue fell", NOW_MS).unwrap();
    assert!(!publish(&mut publisher, 4).promoted);

    let catalog = catalog(&log);
    assert_eq!(catalog.target(NOW_MS), Some(Version(1)));
    assert_eq!(catalog.current().unwrap().version, Version(1));
    let history: Vec<_> =
        catalog.audit().map(|entry| (entry.act, entry.from.map(|v| v.0), entry.to.map(|v| v.0), entry.actor.as_str())).collect();
    assert_eq!(
        history,
        [
            (Act::Promote, None, Some(1), "trainer"),
            (Act::Promote, Some(1), Some(2), "trainer"),
            (Act::Promote, Some(2), Some(3), "trainer"),
            (Act::Rollback, Some(3), Some(1), "ann@ops"),
        ]
    );
    let last = catalog.audit().next_back().unwrap();
    assert_eq!((last.reason.as_str(), last.at_ms), ("revenue fell", NOW_MS));
}

#[test]
fn an_operator_promotes_forward_and_not_over_a_pin() {
    let log = MemoryLog::default();
    let mut publisher = publisher(&log, 8);
    for number in [1, 2, 3] {
        publish(&mut publisher, number);
    }
    let back = operator(&log).promote(Version(2), "back", NOW_MS).unwrap_err();
    assert!(matches!(back, OperatorError::NotForward { version: Version(2), current: Version(3) }), "{back}");
    operator(&log).pin(Version(1), "hold", NOW_MS).unwrap();
    assert!(!publish(&mut publisher, 4).promoted);
    let before = records(&log);
    let pinned = operator(&log).promote(Version(4), "now", NOW_MS).unwrap_err();
    assert_eq!(
        pinned.to_string(),
        "version 4 would not be served: version 1 is pinned by ann@ops: hold; lift that with `rocketctl unpin` first"
    );
    assert_eq!(records(&log), before);
    operator(&log).unpin("on", NOW_MS).unwrap();
    operator(&log).promote(Version(4), "now", NOW_MS).unwrap();
    assert_eq!(catalog(&log).target(NOW_MS), Some(Version(4)));
    let audit = catalog(&log);
    let last = audit.audit().next_back().unwrap();
    assert_eq!((last.act, last.from, last.to, last.actor.as_str()), (Act::Promote, Some(Version(3)), Some(Version(4)), "ann@ops"));
    assert!(publish(&mut publisher, 5).promoted, "the trainer goes on above it");
}

#[test]
fn an_expired_pin_no_longer_holds_promotion_and_a_groups_never_does() {
    let log = MemoryLog::default();
    let mut publisher = publisher(&log, 8);
    publish(&mut publisher, 1);
    operator(&log).pin_for(Version(1), Some("eu".parse().unwrap()), None, "apart", NOW_MS).unwrap();
    assert!(publish(&mut publisher, 2).promoted);
    operator(&log).pin_for(Version(2), None, Some(NOW_MS + 1000), "for a while", NOW_MS).unwrap();
    assert!(!publish(&mut publisher, 3).promoted);
    assert!(publisher.publish(&commit(4), &loaded(4), NOW_MS + 1000).unwrap().promoted);
    assert!(matches!(operator(&log).unpin("late", NOW_MS + 1000), Err(OperatorError::NotPinned { group: None })));
    for number in 5..=15 {
        publisher.publish(&commit(number), &loaded(number), NOW_MS + 1000).unwrap();
    }
    assert_eq!(versions(&log)[0], 1, "what a group is pinned to stays on the topic");
    operator(&log).unpin_from(Some("eu".parse().unwrap()), "together", NOW_MS).unwrap();
    publisher.publish(&commit(16), &loaded(16), NOW_MS + 1000).unwrap();
    assert!(versions(&log)[0] > 1);
    let entry = catalog(&log).audit().nth(1).cloned().unwrap();
    assert_eq!((entry.act, entry.group.map(|group| group.to_string()).as_deref()), (Act::Pin, Some("eu")));
}

#[test]
fn an_unknown_version_is_refused_with_what_there_is_and_nothing_is_written() {
    let log = MemoryLog::default();
    let mut publisher = publisher(&log, 8);
    publish(&mut publisher, 1);
    publish(&mut publisher, 2);
    let before = records(&log);
    let error = operator(&log).rollback(Version(9), "typo", NOW_MS).unwrap_err();
    assert_eq!(error.to_string(), "version 9 is not on the snapshot topic; it holds 1, 2");
    assert!(matches!(operator(&log).pin(Version(9), "typo", NOW_MS), Err(OperatorError::UnknownVersion { .. })));
    assert_eq!(records(&log), before);
}

#[test]
fn an_altered_or_missing_chunk_is_found_before_anybody_is_sent_to_it() {
    for (damage, named) in [(Some(b"other bytes".to_vec()), "chunk 1"), (None, "a chunk is not on the topic")] {
        let log = MemoryLog::default();
        let mut publisher = publisher(&log, 8);
        publish(&mut publisher, 1);
        publish(&mut publisher, 2);
        log.append(&[(Key::Chunk(Version(1), 1).encode().into_bytes(), damage)]).unwrap();
        let before = records(&log);
        let mut operator = operator(&log);
        let error = operator.rollback(Version(1), "bad day", NOW_MS).unwrap_err();
        assert!(matches!(error, OperatorError::Damaged { version: Version(1), .. }), "{error}");
        assert!(error.to_string().contains(named), "{error}");
        assert!(operator.verify(Version(2)).is_ok());
        assert_eq!(records(&log), before);
    }
}

#[test]
fn collection_keeps_the_newest_the_last_promoted_and_what_is_pinned() {
    let log = MemoryLog::default();
    let mut publisher = publisher(&log, 1);
    for number in 1..=6 {
        publish(&mut publisher, number);
    }
    assert_eq!(versions(&log), [4, 5, 6], "the last three promoted");

    operator(&log).pin(Version(4), "hold", NOW_MS).unwrap();
    for number in 7..=12 {
        publish(&mut publisher, number);
    }
    assert_eq!(versions(&log), [4, 5, 6, 12], "the pinned, the last three promoted, the newest");
    operator(&log).verify(Version(4)).unwrap();

    let chunks: std::collections::BTreeSet<Version> = compacted(&log)
        .into_iter()
        .filter(|(_, value)| value.is_some())
        .filter_map(|(key, _)| match Key::parse(key.as_bytes())? {
            Key::Chunk(version, _) => Some(version),
            _ => None,
        })
        .collect();
    assert_eq!(chunks, [4, 5, 6, 12].map(Version).into());
}

#[test]
fn a_manifest_is_collected_before_its_chunks() {
    let log = MemoryLog::default();
    let mut publisher = publisher(&log, 1);
    for number in 1..=4 {
        publish(&mut publisher, number);
    }
    let tombstones: Vec<String> =
        records(&log).into_iter().filter(|record| record.value.is_none()).map(|record| String::from_utf8(record.key).unwrap()).collect();
    assert_eq!(tombstones.first().unwrap(), &Key::Manifest(Version(1)).encode());
    assert!(tombstones.len() > 2 && tombstones[1..].iter().all(|key| key.starts_with("c/")), "{tombstones:?}");
}

#[test]
fn a_paused_trainer_cannot_publish_over_its_successor() {
    let log = MemoryLog::default();
    let mut old = publisher(&log, 8);
    publish(&mut old, 1);
    let mut new = Publisher::open(&config(8), "successor", Box::new(reader(&log)), Box::new(log.clone())).unwrap();
    let before = records(&log);
    let error = old.publish(&commit(2), &loaded(2), NOW_MS).unwrap_err();
    assert!(matches!(&error, PublishError::Superseded { ours: 1, theirs: 2, instance } if instance == "successor"), "{error}");
    assert_eq!(records(&log), before);
    assert!(publish(&mut new, 2).promoted);
    assert_eq!(catalog(&log).manifests()[&Version(2)].epoch, 2);
}

#[test]
fn repeating_a_publication_sends_nothing() {
    let log = MemoryLog::default();
    let mut publisher = publisher(&log, 8);
    let first = publish(&mut publisher, 1);
    let before = records(&log);
    assert_eq!(publish(&mut publisher, 1), first);
    assert_eq!(records(&log), before);
}

/// Fails for good from its n-th append on, like a process that is killed there.
struct Killed {
    log: MemoryLog,
    appends_left: AtomicUsize,
}

impl LogWriter for Killed {
    fn append(&self, entries: &Entries) -> Result<(), StreamError> {
        self.appends_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .map_err(|_| StreamError::NotAcknowledged { topic: "hand.snapshots".to_owned(), why: "killed".to_owned() })?;
        self.log.append(entries)
    }
}

#[test]
fn killed_anywhere_and_repeated_gives_the_same_bytes() {
    let whole = MemoryLog::default();
    publish(&mut publisher(&whole, 8), 1);
    let (expected_manifest, expected) = fetch(&whole, 1);

    let mut killed = 0;
    for appends in 1.. {
        let log = MemoryLog::default();
        let writer = Killed { log: log.clone(), appends_left: AtomicUsize::new(appends) };
        let mut first = Publisher::open(&config(8), "first", Box::new(reader(&log)), Box::new(writer)).unwrap();
        let survived = first.publish(&commit(1), &loaded(1), NOW_MS).is_ok();
        killed += usize::from(!survived);
        assert!(publish(&mut publisher(&log, 8), 1).promoted);

        let (manifest, artifact) = fetch(&log, 1);
        assert_eq!(artifact, expected, "killed after {appends} appends");
        assert_eq!(Manifest { seq: expected_manifest.seq, epoch: expected_manifest.epoch, ..manifest }, expected_manifest);
        assert_eq!(catalog(&log).target(NOW_MS), Some(Version(1)));
        assert_eq!(catalog(&log).audit().count(), 1, "promoted once");
        if survived {
            break;
        }
    }
    assert!(killed >= 3, "chunks, manifest and pointer are sent apart: {killed}");
}

#[test]
fn a_manifest_is_on_the_topic_only_after_all_its_chunks() {
    let log = MemoryLog::default();
    publish(&mut publisher(&log, 8), 1);
    let keys: Vec<Key> = records(&log).iter().filter_map(|record| Key::parse(&record.key)).collect();
    let at = |wanted: &Key| keys.iter().position(|key| key == wanted).unwrap();
    let manifest = at(&Key::Manifest(Version(1)));
    let last_chunk = keys.iter().rposition(|key| matches!(key, Key::Chunk(..))).unwrap();
    assert!(last_chunk < manifest && manifest < at(&Key::Current), "{keys:?}");
}

#[test]
fn what_a_killed_publisher_left_is_collected() {
    let log = MemoryLog::default();
    log.append(&[(Key::Chunk(Version(3), 0).encode().into_bytes(), Some(b"half a snapshot".to_vec()))]).unwrap();
    let mut publisher = publisher(&log, 8);
    assert_eq!(publisher.highest_version(), Some(Version(3)), "its number is used up");
    publish(&mut publisher, 4);
    assert_eq!(compacted(&log)[&Key::Chunk(Version(3), 0).encode()], None);
}

#[test]
fn a_number_is_never_reused() {
    let log = MemoryLog::default();
    let mut publisher = publisher(&log, 8);
    publish(&mut publisher, 5);
    let before = records(&log);
    let other_bytes = publisher.publish(&commit(5), &loaded(6), NOW_MS).unwrap_err().to_string();
    assert!(other_bytes.contains("version 5 held back") && other_bytes.contains("other bytes"), "{other_bytes}");
    let below = publisher.publish(&commit(4), &loaded(4), NOW_MS).unwrap_err().to_string();
    assert!(below.contains("version 4 held back") && below.contains("already shown version 5"), "{below}");
    assert_eq!(records(&log), before);
}

#[test]
fn a_snapshot_that_servers_would_refuse_is_not_sent() {
    let log = MemoryLog::default();
    let mut publisher = publisher(&log, 8);
    let before = records(&log);
    let mut not_finite = loaded(1);
    not_finite.learner.dense.params[0] = f32::NAN;
    let mut wrong_probe = loaded(1);
    wrong_probe.probes[2].logit += 0.01;
    let mut cut = loaded(1);
    cut.learner.rows[0].data.pop();
    for (bad, named) in [(not_finite, "light.0.weight"), (wrong_probe, "probe 2"), (cut, "embedding.rows holds")] {
        let error = publisher.publish(&commit(1), &bad, NOW_MS).unwrap_err();
        assert!(matches!(error, PublishError::Gate { version: Version(1), .. }), "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    assert_eq!(records(&log), before);
    assert!(publish(&mut publisher, 1).promoted);
}

/// Lets another operator's pin go first.
struct Overtaken {
    log: MemoryLog,
    first: Mutex<Option<Vec<u8>>>,
}

impl LogWriter for Overtaken {
    fn append(&self, entries: &Entries) -> Result<(), StreamError> {
        if let Some(pin) = self.first.lock().unwrap().take() {
            self.log.append(&[(Key::PinAll.encode().into_bytes(), Some(pin))])?;
        }
        self.log.append(entries)
    }
}

#[test]
fn an_act_that_was_overtaken_says_so() {
    let log = MemoryLog::default();
    let mut publisher = publisher(&log, 8);
    publish(&mut publisher, 1);
    publish(&mut publisher, 2);
    let seq = catalog(&log).seq() + 1;
    let other = Pin {
        proto: PROTOCOL,
        model: MODEL.to_owned(),
        seq,
        epoch: 1,
        version: Some(Version(2)),
        expires_ms: None,
        actor: "bob@ops".to_owned(),
        reason: "mine".to_owned(),
        at_ms: NOW_MS,
    };
    let writer = Overtaken { log: log.clone(), first: Mutex::new(Some(seal(&other))) };
    let mut operator = Operator::open(MODEL, "ann@ops", Keyring::default(), Box::new(reader(&log)), Box::new(writer)).unwrap();
    let error = operator.pin(Version(1), "also mine", NOW_MS).unwrap_err();
    assert!(matches!(error, OperatorError::Contended { .. }), "{error}");
    assert!(error.to_string().contains("bob@ops"), "{error}");
    assert_eq!(operator.catalog().target(NOW_MS), Some(Version(2)));
}
