use super::*;
use crate::config::{HiddenConfig, SchemaConfig};
use crate::wire::snapshot::{Act, Architecture, Artifact, PROTOCOL, PROTOCOL_MAX, Provenance, Quality, schema_hash, seal};

const MODEL: &str = "ctr";

fn record(offset: i64, key: Key, value: Option<Vec<u8>>) -> LogRecord {
    LogRecord { offset, key: key.encode().into_bytes(), value }
}

fn manifest(version: u64, seq: u64, epoch: u64, chunks: usize) -> Manifest {
    let schema: SchemaConfig =
        serde_json::from_value(serde_json::json!({ "time": "ts", "user": "u", "item": "i", "features": [] })).unwrap();
    Manifest {
        proto: PROTOCOL,
        model: MODEL.into(),
        version: Version(version),
        seq,
        epoch,
        created_ms: 0,
        expires_ms: 1,
        artifact: Artifact {
            format: "safetensors".into(),
            codec: "none".into(),
            chunks: vec![String::new(); chunks],
            ..Artifact::default()
        },
        delta: None,
        rows_loss: None,
        architecture: Architecture {
            embedding_dim: 1,
            further_dims: Vec::new(),
            inputs: 1,
            shared: Vec::new(),
            light: Vec::new(),
            hidden: HiddenConfig::default(),
        },
        schema_hash: schema_hash(&schema),
        schema,
        provenance: Provenance { positions: Vec::new(), samples: 0, config_hash: String::new(), code: String::new() },
        quality: Quality::default(),
        probes: Vec::new(),
    }
}

fn pointer(version: u64, seq: u64, epoch: u64) -> Pointer {
    let (actor, reason) = ("trainer".to_owned(), "new".to_owned());
    Pointer { proto: PROTOCOL, model: MODEL.into(), seq, epoch, version: Version(version), highest: None, actor, reason, at_ms: 0 }
}

fn pin(version: Option<u64>, seq: u64, epoch: u64) -> Pin {
    let (actor, reason) = ("anna".to_owned(), "bad".to_owned());
    Pin { proto: PROTOCOL, model: MODEL.into(), seq, epoch, version: version.map(Version), expires_ms: None, actor, reason, at_ms: 0 }
}

fn lease(seq: u64, epoch: u64) -> Lease {
    Lease { proto: PROTOCOL, model: MODEL.into(), seq, epoch, instance: format!("host/{epoch}"), at_ms: 0 }
}

fn at_manifest(offset: i64, manifest: &Manifest) -> LogRecord {
    record(offset, Key::Manifest(manifest.version), Some(seal(manifest)))
}

fn at_current(offset: i64, pointer: &Pointer) -> LogRecord {
    record(offset, Key::Current, Some(seal(pointer)))
}

fn at_pin(offset: i64, pin: &Pin) -> LogRecord {
    record(offset, Key::PinAll, Some(seal(pin)))
}

fn at_lease(offset: i64, lease: &Lease) -> LogRecord {
    record(offset, Key::Lease, Some(seal(lease)))
}

fn log() -> Vec<LogRecord> {
    vec![
        at_lease(0, &lease(1, 1)),
        record(1, Key::Chunk(Version(5), 0), Some(vec![1])),
        record(2, Key::Chunk(Version(5), 1), Some(vec![2])),
        at_manifest(3, &manifest(5, 2, 1, 2)),
        at_current(4, &pointer(5, 3, 1)),
        at_lease(5, &lease(4, 2)),
        record(6, Key::Chunk(Version(6), 0), Some(vec![3])),
        at_manifest(7, &manifest(6, 5, 2, 1)),
        at_current(8, &pointer(6, 6, 2)),
    ]
}

fn folded(log: &[LogRecord]) -> Catalog {
    let mut catalog = Catalog::new(MODEL);
    for record in log {
        catalog.apply(record).unwrap();
    }
    catalog
}

fn refused(catalog: &mut Catalog, record: &LogRecord) -> String {
    let before = format!("{catalog:?}");
    let error = catalog.apply(record).unwrap_err();
    assert_eq!(before, format!("{catalog:?}"), "a refused record changes nothing");
    format!("{}: {error}", error.reason())
}

#[test]
fn a_topic_folds_to_latest_per_key() {
    let catalog = folded(&log());
    assert_eq!(catalog.target(0), Some(Version(6)));
    assert_eq!(catalog.chunk_offsets(Version(5)), Some(vec![1, 2]));
    assert_eq!(catalog.chunk_offsets(Version(6)), Some(vec![6]));
    assert_eq!(catalog.chunk_offsets(Version(7)), None);
    assert_eq!(catalog.marks(), Marks { seq: 6, epoch: 2, current_seq: 6, ..Marks::default() });
    assert_eq!(catalog.highest_version(), Some(Version(6)));
}

#[test]
fn applying_everything_again_changes_nothing() {
    let log = log();
    let mut catalog = folded(&log);
    let before = format!("{catalog:?}");
    for record in &log {
        // What a key held before is older now; what it holds is taken again.
        let _ = catalog.apply(record);
    }
    assert_eq!(before, format!("{catalog:?}"));
    assert_eq!(catalog.apply(&at_manifest(3, &manifest(5, 2, 1, 2))), Ok(()), "epoch 1 is over, but this manifest is already held");
}

#[test]
fn a_pin_overrides_current_until_unpinned() {
    let mut catalog = folded(&log());
    catalog.apply(&at_pin(9, &pin(Some(5), 7, 2))).unwrap();
    catalog.apply(&at_current(10, &pointer(8, 8, 2))).unwrap();
    assert_eq!(catalog.target(0), Some(Version(5)));
    catalog.apply(&at_pin(11, &pin(None, 9, 2))).unwrap();
    assert_eq!(catalog.target(0), Some(Version(8)));
    assert_eq!(catalog.highest_version(), Some(Version(8)));
}

#[test]
fn a_superseded_trainer_and_old_records_are_refused() {
    let mut catalog = folded(&log());
    assert!(refused(&mut catalog, &at_current(9, &pointer(7, 9, 1))).contains("epoch 2 has taken over"));
    assert!(refused(&mut catalog, &at_manifest(9, &manifest(7, 9, 1, 0))).contains("epoch 2 has taken over"));
    assert!(refused(&mut catalog, &at_lease(9, &lease(9, 1))).contains("epoch 2 has taken over"));
    assert!(refused(&mut catalog, &at_pin(9, &pin(Some(5), 9, 1))).contains("epoch 2 has taken over"));
    assert!(refused(&mut catalog, &at_current(9, &pointer(5, 5, 2))).starts_with("record_replayed: offset 9: pointer with seq 5"));
    assert!(refused(&mut catalog, &at_current(9, &pointer(5, 6, 2))).contains("another pointer already has seq 6"));
}

#[test]
fn other_models_newer_protocols_and_lying_keys_are_refused() {
    let mut catalog = folded(&log());
    let other = Pointer { model: "search".into(), ..pointer(9, 9, 9) };
    assert!(refused(&mut catalog, &at_current(9, &other)).starts_with("record_other_model"));
    let newer = Pointer { proto: PROTOCOL_MAX + 1, ..pointer(9, 9, 9) };
    assert!(refused(&mut catalog, &at_current(9, &newer)).starts_with("record_protocol"));
    let misfiled = record(9, Key::Manifest(Version(9)), Some(seal(&manifest(8, 9, 9, 0))));
    assert!(refused(&mut catalog, &misfiled).contains("its key says version 9, its payload 8"));
    let huge = record(9, Key::Chunk(Version(9), 0), Some(vec![0; RECORD_BYTES_MAX + 1]));
    assert!(refused(&mut catalog, &huge).starts_with("record_too_large"));
    assert!(refused(&mut catalog, &record(9, Key::Lease, Some(b"{}".to_vec()))).starts_with("record_malformed"));
}

#[test]
fn tombstones_collect_versions_and_nothing_else() {
    let mut catalog = folded(&log());
    catalog.apply(&at_pin(9, &pin(Some(5), 7, 2))).unwrap();
    for key in [
        Key::Current,
        Key::Canary,
        Key::PinAll,
        Key::Lease,
        Key::Manifest(Version(6)),
        Key::Chunk(Version(6), 0),
        Key::Manifest(Version(70)),
    ] {
        catalog.apply(&record(10, key, None)).unwrap();
    }
    assert_eq!(catalog.target(0), Some(Version(5)));
    assert!(catalog.current().is_some() && catalog.lease().is_some());
    assert_eq!(catalog.chunk_offsets(Version(6)), None);
    assert_eq!(catalog.highest_version(), Some(Version(70)), "a collected version's number is not free");
}

#[test]
fn a_chunk_sent_again_is_read_where_it_was_sent_last() {
    let mut catalog = folded(&log());
    catalog.apply(&record(20, Key::Chunk(Version(5), 0), Some(vec![1]))).unwrap();
    assert_eq!(catalog.chunk_offsets(Version(5)), Some(vec![20, 2]));
}

#[test]
fn unknown_kinds_are_skipped() {
    let mut catalog = folded(&log());
    let later = LogRecord { offset: 9, key: b"x/later".to_vec(), value: Some(b"?".to_vec()) };
    assert_eq!(catalog.apply(&later), Ok(()));
}

#[test]
fn audit_entries_are_kept_in_order_and_bounded() {
    let mut catalog = Catalog::new(MODEL);
    let entry = |seq: u64| AuditEntry {
        proto: PROTOCOL,
        model: MODEL.into(),
        seq,
        act: Act::Promote,
        from: None,
        to: Some(Version(seq)),
        group: None,
        expires_ms: None,
        actor: "trainer".into(),
        reason: "new".into(),
        at_ms: 0,
    };
    for seq in 1..=AUDIT_KEPT as u64 + 5 {
        catalog.apply(&record(seq as i64, Key::Audit(seq), Some(seal(&entry(seq))))).unwrap();
    }
    assert_eq!(catalog.audit().count(), AUDIT_KEPT);
    assert_eq!(catalog.audit().next().map(|entry| entry.seq), Some(6));
    assert_eq!(catalog.seq(), AUDIT_KEPT as u64 + 5);
    let altered = AuditEntry { reason: "no, another".into(), ..entry(9) };
    assert!(refused(&mut catalog, &record(1, Key::Audit(9), Some(seal(&altered)))).contains("already has seq 9"));
}

#[test]
fn an_older_copy_of_the_topic_does_not_cover_what_was_seen() {
    let log = log();
    let seen = folded(&log).marks();
    assert!(folded(&log).marks().covers(&seen));
    assert!(!folded(&log[..8]).marks().covers(&seen));
    assert!(seen.covers(&Marks::default()));
}

fn canary(version: u64, seq: u64, share_ppm: u32) -> Canary {
    let (actor, reason) = ("trainer".to_owned(), "new".to_owned());
    Canary { proto: PROTOCOL, model: MODEL.into(), seq, epoch: 2, version: Version(version), share_ppm, actor, reason, at_ms: 0 }
}

fn at_canary(offset: i64, canary: &Canary) -> LogRecord {
    record(offset, Key::Canary, Some(seal(canary)))
}

#[test]
fn a_canary_is_for_its_share_and_over_once_current_moves_or_it_is_taken_back() {
    let mut catalog = folded(&log());
    catalog.apply(&at_canary(9, &canary(7, 7, 500_000))).unwrap();
    let hosts: Vec<String> = (0..100).map(|number| format!("ad-{number}")).collect();
    let (inside, outside): (Vec<_>, Vec<_>) = hosts.iter().partition(|host| catalog.canary().unwrap().takes(host));
    assert!(inside.len() > 30 && outside.len() > 30);
    let all =
        |catalog: &Catalog, hosts: &[&String], version| hosts.iter().all(|host| catalog.target_of(host, None, 0) == Some(Version(version)));
    assert!(all(&catalog, &inside, 7) && all(&catalog, &outside, 6));
    assert_eq!((catalog.target(0), catalog.highest_version(), catalog.marks().canary_seq), (Some(Version(6)), Some(Version(7)), 7));

    let mut taken_back = catalog.clone();
    taken_back.apply(&at_canary(10, &canary(6, 8, 500_000))).unwrap();
    let mut moved = catalog.clone();
    moved.apply(&at_current(10, &pointer(5, 8, 2))).unwrap();
    for (catalog, version) in [(taken_back, 6), (moved, 5)] {
        assert!(catalog.canary().is_none() && all(&catalog, &inside, version) && all(&catalog, &outside, version));
    }
    assert!(refused(&mut catalog, &at_canary(10, &canary(8, 7, 1))).contains("another canary already has seq 7"));
    assert!(refused(&mut catalog, &at_canary(10, &canary(8, 8, WHOLE_PPM + 1))).contains("is above 1000000"));
}

#[test]
fn the_own_groups_pin_goes_before_that_of_all_and_that_before_the_canary() {
    let eu: Group = "eu".parse().unwrap();
    let at_group = |offset, pin: &Pin| record(offset, Key::PinGroup("eu".parse().unwrap()), Some(seal(pin)));
    let mut catalog = folded(&log());
    let targets =
        |catalog: &Catalog| [catalog.target_of("h", Some(&eu), 0), catalog.target_of("h", None, 0)].map(|version| version.unwrap().0);
    catalog.apply(&at_canary(9, &canary(7, 7, WHOLE_PPM))).unwrap();
    assert_eq!(targets(&catalog), [7, 7]);
    catalog.apply(&at_pin(10, &pin(Some(6), 8, 2))).unwrap();
    assert_eq!(targets(&catalog), [6, 6]);
    catalog.apply(&at_group(11, &pin(Some(5), 9, 2))).unwrap();
    assert_eq!(targets(&catalog), [5, 6]);
    assert_eq!(catalog.marks().group_pin_seqs, [(eu.clone(), 9)].into());
    let seen = catalog.marks();
    catalog.apply(&at_group(12, &pin(None, 10, 2))).unwrap();
    assert_eq!(targets(&catalog), [6, 6]);
    assert!(catalog.marks().covers(&seen) && !seen.covers(&catalog.marks()));
    assert!(refused(&mut catalog, &at_group(13, &pin(Some(5), 9, 2))).starts_with("record_replayed"));
}

#[test]
fn a_pin_counts_until_it_expires_and_one_that_never_held_is_refused() {
    let mut catalog = folded(&log());
    catalog.apply(&at_pin(9, &Pin { expires_ms: Some(100), ..pin(Some(5), 7, 2) })).unwrap();
    assert_eq!([0, 99, 100, 101].map(|now_ms| catalog.target(now_ms).unwrap().0), [5, 5, 6, 6]);
    assert!(catalog.pinned(99).is_some() && catalog.pinned(100).is_none());
    let over = Pin { expires_ms: Some(50), at_ms: 50, ..pin(Some(5), 8, 2) };
    assert!(refused(&mut catalog, &at_pin(10, &over)).starts_with("record_expired: offset 10: pin written at 50 ms"));
    let old: Pin = serde_json::from_str(&format!(
        r#"{{"proto":1,"model":"{MODEL}","seq":8,"epoch":2,"version":5,"actor":"a","reason":"r","at_ms":0}}"#
    ))
    .unwrap();
    catalog.apply(&at_pin(10, &old)).unwrap();
    assert_eq!(catalog.target(i64::MAX), Some(Version(5)), "a record of before there was an expiry");
}

#[test]
fn groups_are_bounded() {
    let mut catalog = folded(&log());
    for number in 0..GROUPS_MAX as u64 {
        let key = Key::PinGroup(format!("g{number}").parse().unwrap());
        catalog.apply(&record(9, key, Some(seal(&pin(Some(5), 10 + number, 2))))).unwrap();
    }
    let one_more = record(9, Key::PinGroup("more".parse().unwrap()), Some(seal(&pin(Some(5), 999, 2))));
    assert!(refused(&mut catalog, &one_more).contains("256 groups already"));
}
