//! Promise: a server that follows deltas serves, bit for bit, what one that loads whole snapshots serves; and whatever of them is missing,
//! damaged, repeated or out of order, it finds another way, waits, or refuses for its own reason.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

#[path = "support/snapshots.rs"]
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rocket_launching::checkpoint::{Loaded, ProbeSample};
use rocket_launching::config::{Codec, Config, RowType};
use rocket_launching::domain::Version;
use rocket_launching::features::slot_key;
use rocket_launching::keys::Keyring;
use rocket_launching::publish::{Operator, Published, Publisher};
use rocket_launching::serving::{Catalog, Subscriber, SubscriberConfig, SubscriberStatus};
use rocket_launching::stream::{LogReader, LogRecord, LogWriter, MemoryLog, StreamError};
use rocket_launching::wire::snapshot::{Key, Manifest, PROTOCOL, PROTOCOL_MAX, Pointer, seal};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use snapshots::{MODEL, commit};
use tempfile::TempDir;

const NOW_MS: i64 = snapshots::CREATED_MS + 1000;
const NO_WAIT: Duration = Duration::ZERO;
const PATIENCE: Duration = Duration::from_secs(60);
/// Enough that a few of them are less than half.
const ITEMS: usize = 400;

/// A light net and its rows, as the trainer would have them.
#[derive(Debug, Clone)]
struct Net {
    bias: f32,
    rows: BTreeMap<usize, [f32; 2]>,
}

impl Net {
    fn new() -> Self {
        Net { bias: 0.0625, rows: (0..ITEMS).map(|item| (item, [item as f32 / 100.0, 1.0 - item as f32 / 70.0])).collect() }
    }

    /// Another one: a few rows changed, some gone, some new.
    fn next(&self, step: usize) -> Net {
        let mut next = self.clone();
        next.bias += 0.125;
        for item in (step..ITEMS).step_by(41) {
            next.rows.insert(item, [step as f32 / 16.0, item as f32 / 256.0]);
        }
        next.rows.remove(&(step * 7));
        next.rows.insert(ITEMS + step, [0.5, step as f32]);
        next
    }

    fn logit(&self, item: usize, age: f64) -> f32 {
        let [first, second] = self.rows.get(&item).copied().unwrap_or_default();
        0.5 * first - 0.25 * second + 0.125 * age.ln_1p() as f32 + self.bias
    }

    fn loaded(&self, number: u64) -> Loaded {
        let mut loaded = snapshots::loaded(number);
        loaded.learner.dense.params[3] = self.bias;
        let rows = &mut loaded.learner.rows[0];
        rows.keys = self.rows.keys().map(|item| slot_key("item", &format!("item{item}"))).collect();
        rows.data = self.rows.values().flat_map(|row| row.iter().copied().chain([888.0; 2])).collect();
        let probe = |item: usize| ProbeSample {
            time_ms: snapshots::CREATED_MS,
            fields: vec![format!("item{item}").into(), (item as f64).into()],
            logit: self.logit(item, item as f64),
        };
        loaded.probes = [0, 7, 41, 333].map(probe).to_vec();
        loaded
    }
}

/// A topic, its publisher's files and its servers' disks.
struct Site {
    dir: TempDir,
    log: MemoryLog,
    config: Config,
}

impl Site {
    fn new(full_every: u64) -> Self {
        let mut config = snapshots::config(8);
        config.publish.full_every = full_every;
        Site { dir: tempfile::tempdir().unwrap(), log: MemoryLog::default(), config }
    }

    fn bases(&self) -> std::path::PathBuf {
        self.dir.path().join("bases")
    }

    fn publisher(&self) -> Publisher {
        self.publisher_through(self.log.clone())
    }

    fn publisher_through(&self, writer: impl LogWriter + 'static) -> Publisher {
        Publisher::open(&self.config, "test", Box::new(self.log.clone()), Box::new(writer)).unwrap().keeping_bases(&self.bases())
    }

    fn operator(&self) -> Operator {
        Operator::open(MODEL, "ann", Keyring::default(), Box::new(self.log.clone()), Box::new(self.log.clone())).unwrap()
    }

    /// The artifact as whoever reads the topic gets it.
    fn artifact(&self, version: u64) -> Vec<u8> {
        self.operator().fetch(Version(version)).unwrap().1
    }

    fn server(&self, name: &str) -> Subscriber {
        let log = self.log.clone();
        self.server_through(name, move || Ok(Box::new(log.clone()) as Box<dyn LogReader>))
    }

    fn server_through(&self, name: &str, open: impl Fn() -> Result<Box<dyn LogReader>, StreamError> + Send + 'static) -> Subscriber {
        let config = SubscriberConfig {
            poll: Duration::from_millis(5),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(20),
            ..SubscriberConfig::new(MODEL, self.disk(name))
        };
        Subscriber::start(config, open).unwrap()
    }

    fn disk(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Where a version's artifact lies on a server's disk.
    fn file(&self, name: &str, version: u64) -> std::path::PathBuf {
        self.disk(name).join(format!("{version:020}.safetensors"))
    }

    /// What lies there.
    fn on_disk(&self, name: &str, version: u64) -> Vec<u8> {
        std::fs::read(self.file(name, version)).unwrap()
    }

    fn put(&self, key: &Key, value: Option<Vec<u8>>) {
        self.log.append(&[(key.encode().into_bytes(), value)]).unwrap();
    }

    fn catalog(&self) -> Catalog {
        catalog(&self.log)
    }

    fn manifest(&self, version: u64) -> Manifest {
        self.catalog().manifests()[&Version(version)].clone()
    }

    /// Takes away the chunks of a version that was sent whole, but not of its delta.
    fn lose_whole(&self, version: u64) -> Vec<(Key, Vec<u8>)> {
        let chunks = self.manifest(version).artifact.chunks.len() as u32;
        let lost = (0..chunks).map(|index| (Key::Chunk(Version(version), index), self.chunk(version, index))).collect();
        (0..chunks).for_each(|index| self.put(&Key::Chunk(Version(version), index), None));
        lost
    }

    fn chunk(&self, version: u64, index: u32) -> Vec<u8> {
        let offset = self.catalog().chunk_offset(Version(version), index).unwrap();
        self.log.clone().read_at(&[offset], NO_WAIT).unwrap().remove(0).value.unwrap()
    }

    /// Sends a version's manifest again, altered.
    fn send_again(&self, manifest: &Manifest) {
        let manifest = Manifest { seq: self.catalog().seq() + 1, ..manifest.clone() };
        self.put(&Key::Manifest(manifest.version), Some(seal(&manifest)));
    }

    fn point(&self, version: u64) {
        let catalog = self.catalog();
        let pointer = Pointer {
            proto: PROTOCOL,
            model: MODEL.to_owned(),
            seq: catalog.seq() + 1,
            epoch: catalog.epoch(),
            version: Version(version),
            highest: None,
            actor: "test".to_owned(),
            reason: "test".to_owned(),
            at_ms: NOW_MS,
        };
        self.put(&Key::Current, Some(seal(&pointer)));
    }
}

fn records(log: &MemoryLog) -> Vec<LogRecord> {
    let mut reader = log.clone();
    std::iter::from_fn(|| reader.next(NO_WAIT).unwrap()).collect()
}

fn catalog(log: &MemoryLog) -> Catalog {
    let mut catalog = Catalog::new(MODEL);
    records(log).iter().for_each(|record| catalog.apply(record).unwrap());
    catalog
}

fn publish(publisher: &mut Publisher, net: &Net, number: u64) -> Published {
    publisher.publish(&commit(number), &net.loaded(number), NOW_MS).unwrap()
}

/// Publishes versions 1 to `last`, each a few rows further.
fn publish_to(publisher: &mut Publisher, last: u64) -> Net {
    let mut net = Net::new();
    publish(publisher, &net, 1);
    for number in 2..=last {
        net = net.next(number as usize);
        publish(publisher, &net, number);
    }
    net
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

fn until_serves(subscriber: &Subscriber, version: u64) -> SubscriberStatus {
    until(subscriber, &format!("version {version}"), |status| status.version == Some(Version(version)))
}

#[test]
fn a_server_that_follows_deltas_has_the_bits_of_one_that_loads_the_whole() {
    for (codec, rows) in [(Codec::None, RowType::F32), (Codec::Zstd, RowType::F16), (Codec::Zstd, RowType::I8)] {
        let (mut with, mut without) = (Site::new(4), Site::new(1));
        for site in [&mut with, &mut without] {
            (site.config.publish.codec, site.config.publish.rows) = (codec, rows);
        }
        let (follower, mut deltas, mut wholes) = (with.server("follower"), with.publisher(), without.publisher());
        let (mut net, mut whole) = (Net::new(), Vec::new());
        for number in 1..=9 {
            let published = publish(&mut deltas, &net, number);
            assert_eq!(published.base.map(|base| base.0), (number > 1).then(|| number - 1));
            whole.extend((!with.manifest(number).artifact.chunks.is_empty()).then_some(number));
            publish(&mut wholes, &net, number);
            let status = until_serves(&follower, number);
            assert!(status.rejected.is_empty(), "{status:?}");
            assert_eq!(with.on_disk("follower", number), without.artifact(number), "{rows:?} version {number}");
            net = net.next(number as usize);
        }
        assert_eq!(whole, [1, 5, 9], "every fourth");
        let fresh = with.server("fresh");
        until_serves(&fresh, 9);
        assert_eq!(with.on_disk("fresh", 9), without.artifact(9));
        follower.stop().unwrap();
        fresh.stop().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sequence_of_states_comes_out_bit_for_bit(
        rows in prop_oneof![Just(RowType::F32), Just(RowType::F16), Just(RowType::I8)],
        full_every in 2_u64..5,
        steps in proptest::collection::vec(
            (
                -1.0_f32..1.0,
                proptest::collection::vec((0..ITEMS + 50, proptest::option::weighted(0.7, (-2.0_f32..2.0, -2.0_f32..2.0))), 0..40),
            ),
            1..7,
        ),
    ) {
        let (mut with, mut without) = (Site::new(full_every), Site::new(1));
        (with.config.publish.rows, without.config.publish.rows) = (rows, rows);
        let (mut deltas, mut wholes) = (with.publisher(), without.publisher());
        let mut net = Net::new();
        publish(&mut deltas, &net, 1);
        for (number, (bias, changes)) in (2..).zip(steps) {
            net.bias = bias;
            for (item, row) in changes {
                match row {
                    Some((first, second)) => drop(net.rows.insert(item, [first, second])),
                    None => drop(net.rows.remove(&item)),
                }
            }
            publish(&mut deltas, &net, number);
            publish(&mut wholes, &net, number);
            prop_assert!(with.artifact(number) == without.artifact(number), "version {}", number);
            prop_assert!(with.manifest(number).delta.is_some());
        }
    }
}

#[test]
fn a_delta_bears_what_has_changed_and_nothing_else() {
    let site = Site::new(16);
    let mut publisher = site.publisher();
    let mut net = Net::new();
    publish(&mut publisher, &net, 1);
    net.rows.insert(7, [9.0, 9.5]);
    net.rows.remove(&8);
    // The same value written again is no change.
    net.rows.insert(9, net.rows[&9]);
    let published = publish(&mut publisher, &net, 2);
    let manifest = site.manifest(2);
    assert_eq!((manifest.proto, manifest.artifact.chunks.len(), site.manifest(1).proto), (PROTOCOL_MAX, 0, PROTOCOL));
    let delta: Vec<u8> = (0..published.chunks as u32).flat_map(|index| site.chunk(2, index)).collect();
    assert_eq!((published.sent_bytes, published.bytes), (delta.len() as u64, site.artifact(2).len() as u64));
    let tensors = SafeTensors::deserialize(&delta).unwrap();
    let key = |item: usize| slot_key("item", &format!("item{item}")).to_le_bytes();
    assert_eq!(tensors.tensor("embedding.keys").unwrap().data(), key(7));
    assert_eq!(tensors.tensor("embedding.rows").unwrap().data(), [9.0_f32.to_le_bytes(), 9.5_f32.to_le_bytes()].concat());
    assert_eq!(tensors.tensor("embedding.gone").unwrap().data(), key(8));
}

#[test]
fn a_version_of_which_half_is_new_is_sent_whole() {
    let site = Site::new(16);
    let mut publisher = site.publisher();
    let mut net = Net::new();
    publish(&mut publisher, &net, 1);
    net.rows.values_mut().for_each(|row| row[0] += 1.0);
    let published = publish(&mut publisher, &net, 2);
    assert_eq!((published.base, published.sent_bytes), (None, published.bytes));
}

#[test]
fn a_base_that_is_gone_or_damaged_costs_a_whole_version() {
    type Fault = fn(&Path);
    let faults: [Fault; 3] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::write(path, b"not it").unwrap(),
        |path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes[999] ^= 1;
            std::fs::write(path, bytes).unwrap();
        },
    ];
    for fault in faults {
        let site = Site::new(16);
        let net = publish_to(&mut site.publisher(), 2);
        fault(&site.bases().join("snapshot-00000000000000000002.safetensors"));
        let mut publisher = site.publisher();
        assert_eq!(publish(&mut publisher, &net.next(3), 3).base, None);
        assert_eq!(publish(&mut publisher, &net.next(4), 4).base, Some(Version(3)));
    }
}

/// Fails for good from its n-th append on, like a process that is killed there.
struct Killed {
    log: MemoryLog,
    appends_left: AtomicUsize,
}

impl LogWriter for Killed {
    fn append(&self, entries: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StreamError> {
        self.appends_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .map_err(|_| StreamError::NotAcknowledged { topic: "snapshots".to_owned(), why: "killed".to_owned() })?;
        self.log.append(entries)
    }
}

#[test]
fn killed_anywhere_and_repeated_sends_the_same_delta() {
    let whole = Site::new(16);
    publish_to(&mut whole.publisher(), 3);
    let expected = whole.manifest(3);
    let mut killed = 0;
    for appends in 1.. {
        let site = Site::new(16);
        let net = publish_to(&mut site.publisher(), 2).next(3);
        let mut first = site.publisher_through(Killed { log: site.log.clone(), appends_left: AtomicUsize::new(appends) });
        let survived = first.publish(&commit(3), &net.loaded(3), NOW_MS).is_ok();
        killed += usize::from(!survived);
        publish(&mut site.publisher(), &net, 3);
        let manifest = site.manifest(3);
        assert_eq!(Manifest { seq: expected.seq, epoch: expected.epoch, ..manifest }, expected, "killed after {appends} appends");
        assert_eq!(site.artifact(3), whole.artifact(3));
        if survived {
            break;
        }
    }
    assert!(killed >= 3, "chunks, manifest and pointer are sent apart: {killed}");
}

#[test]
fn collection_keeps_what_a_kept_version_builds_on() {
    let mut site = Site::new(6);
    site.config.publish.keep = 1;
    publish_to(&mut site.publisher(), 12);
    let held: Vec<u64> = site.catalog().manifests().keys().map(|version| version.0).collect();
    assert_eq!(held, [7, 8, 9, 10, 11, 12], "the last three promoted, and what leads to them from version 7, which is whole");
    let mut operator = site.operator();
    for version in held {
        operator.verify(Version(version)).unwrap();
    }
    let chunks: BTreeSet<u64> = site.catalog().chunks().map(|(version, _)| version.0).collect();
    assert_eq!(chunks, (7..=12).collect());
}

#[test]
fn a_server_that_was_away_catches_up_by_the_deltas_it_missed() {
    let site = Site::new(4);
    let mut publisher = site.publisher();
    let server = site.server("away");
    let mut net = publish_to(&mut publisher, 2);
    until_serves(&server, 2);
    server.stop().unwrap();
    for number in 3..=7 {
        net = net.next(number as usize);
        publish(&mut publisher, &net, number);
    }
    // There is no other way: nothing is whole any more.
    let expected = site.artifact(7);
    for version in [1, 5] {
        site.lose_whole(version);
    }
    let server = site.server("away");
    let status = until_serves(&server, 7);
    assert!(status.rejected.is_empty(), "{status:?}");
    server.stop().unwrap();
    assert_eq!(site.on_disk("away", 7), expected);
}

#[test]
fn a_damaged_base_on_disk_is_moved_aside_and_the_whole_is_fetched() {
    let site = Site::new(4);
    let mut publisher = site.publisher();
    let server = site.server("bad-disk");
    let net = publish_to(&mut publisher, 2);
    until_serves(&server, 2);
    // What is served is a base from memory: now that is another version.
    site.point(1);
    until_serves(&server, 1);
    let path = site.file("bad-disk", 2);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    publish(&mut publisher, &net.next(3), 3);
    let status = until_serves(&server, 3);
    assert_eq!(status.rejected, BTreeMap::from([("wrong_base".to_owned(), 1)]));
    server.stop().unwrap();
    assert_eq!(site.on_disk("bad-disk", 3), site.artifact(3));
    assert!(site.disk("bad-disk").join("00000000000000000002.safetensors.bad").exists());
}

#[test]
fn a_base_that_is_served_is_taken_from_memory() {
    let site = Site::new(4);
    let mut publisher = site.publisher();
    let server = site.server("no-disk");
    let net = publish_to(&mut publisher, 2);
    until_serves(&server, 2);
    std::fs::remove_file(site.file("no-disk", 2)).unwrap();
    site.lose_whole(1);
    publish(&mut publisher, &net.next(3), 3);
    let status = until_serves(&server, 3);
    assert!(status.rejected.is_empty(), "{status:?}");
    server.stop().unwrap();
    assert_eq!(blake3::hash(&site.on_disk("no-disk", 3)).to_hex().as_str(), site.manifest(3).artifact.blake3);
}

#[test]
fn what_a_delta_builds_on_is_waited_for_and_named() {
    let site = Site::new(16);
    publish_to(&mut site.publisher(), 3);
    let lost = site.lose_whole(1);
    let server = site.server("new");
    let status = until(&server, "waiting", |status| status.waiting.is_some());
    assert_eq!(status.waiting.as_deref(), Some("version 1: its manifest or a chunk is not on the topic"));
    assert!(status.rejected.is_empty() && status.version.is_none(), "{status:?}");
    let last = site.chunk(2, 0);
    site.put(&Key::Chunk(Version(2), 0), None);
    until(&server, "another reason", |status| status.waiting.as_deref().is_some_and(|why| why.starts_with("version 2: its manifest")));
    let manifest = site.manifest(2);
    site.put(&Key::Manifest(Version(2)), None);
    let gone = "version 3: version 2, which it builds on, is not on the topic";
    until(&server, "a third", |status| status.waiting.as_deref() == Some(gone));
    // In any order.
    site.send_again(&manifest);
    site.put(&Key::Chunk(Version(2), 0), Some(last));
    lost.into_iter().rev().for_each(|(key, value)| site.put(&key, Some(value)));
    let status = until_serves(&server, 3);
    assert!(status.rejected.is_empty(), "{status:?}");
    server.stop().unwrap();
}

#[test]
fn chunks_that_come_twice_and_in_another_order_change_nothing() {
    let site = Site::new(16);
    publish_to(&mut site.publisher(), 2);
    let server = site.server("one");
    until_serves(&server, 2);
    let mixed = Site::new(16);
    let mut all = records(&site.log);
    let chunks: Vec<LogRecord> = all.iter().filter(|record| record.key.starts_with(b"c/")).rev().cloned().collect();
    all.splice(0..0, chunks);
    for record in all {
        mixed.log.append(&[(record.key, record.value)]).unwrap();
    }
    let other = mixed.server("other");
    let status = until_serves(&other, 2);
    assert!(status.rejected.is_empty(), "{status:?}");
    server.stop().unwrap();
    other.stop().unwrap();
    assert_eq!(mixed.on_disk("other", 2), site.on_disk("one", 2));
}

/// Version 3 is altered and sent again before it is pointed at: how a server that serves version 2 refuses it, and that it takes the next.
fn refused(reason: &str, text: &str, alter: impl Fn(&Site, &mut Manifest)) {
    let site = Site::new(16);
    let mut publisher = site.publisher();
    let net = publish_to(&mut publisher, 2);
    let server = site.server("server");
    until_serves(&server, 2);
    // Another topic has the honest version; this one gets it altered.
    let honest = Site::new(16);
    publish_to(&mut honest.publisher(), 3);
    let mut manifest = honest.manifest(3);
    for index in 0..manifest.chunks().count() as u32 {
        site.put(&Key::Chunk(Version(3), index), Some(honest.chunk(3, index)));
    }
    alter(&site, &mut manifest);
    site.send_again(&manifest);
    site.point(3);
    let status = until(&server, reason, |status| !status.rejected.is_empty());
    assert_eq!(status.rejected, BTreeMap::from([(reason.to_owned(), 1)]), "{status:?}");
    let error = status.last_error.unwrap().what;
    assert!(error.contains("version 3") && error.contains(text), "{error:?} does not say {text:?}");
    assert_eq!(status.version, Some(Version(2)));
    // The bad one is collected, as an operator would do it, and the trainer goes on.
    site.put(&Key::Manifest(Version(3)), None);
    publish(&mut publisher, &net.next(4), 4);
    let status = until_serves(&server, 4);
    assert_eq!(status.rejected.values().sum::<u64>(), 1, "{status:?}");
    server.stop().unwrap();
}

#[test]
fn an_altered_chunk_of_a_delta() {
    refused("hash", "chunk 1 does not hash", |site, _| {
        let mut chunk = site.chunk(3, 1);
        chunk[5] ^= 1;
        site.put(&Key::Chunk(Version(3), 1), Some(chunk));
    });
}

#[test]
fn a_chunk_of_a_delta_that_is_cut_short() {
    refused("truncated", "chunk 0 is cut short: 99 bytes of 256", |site, _| {
        site.put(&Key::Chunk(Version(3), 0), Some(site.chunk(3, 0)[..99].to_vec()));
    });
}

#[test]
fn a_delta_from_another_base_than_the_topic_holds() {
    refused("wrong_base", "it builds on another version 2 than the topic holds", |_, manifest| {
        manifest.delta.as_mut().unwrap().base_blake3 = blake3::hash(b"another").to_hex().to_string();
    });
}

#[test]
fn a_delta_from_itself_or_from_above() {
    for base in [3, 4] {
        refused("wrong_base", "which is not below it", |_, manifest| manifest.delta.as_mut().unwrap().base = Version(base));
    }
}

#[test]
fn a_delta_that_does_not_make_what_its_manifest_says() {
    refused("hash", "artifact does not hash", |_, manifest| manifest.artifact.blake3 = blake3::hash(b"another").to_hex().to_string());
    refused("artifact", "header", |_, manifest| manifest.artifact.bytes += 1);
}

#[test]
fn a_version_that_was_not_sent_at_all() {
    refused("artifact", "neither whole nor as a delta", |_, manifest| manifest.delta = None);
}

#[test]
fn a_delta_above_the_limit() {
    refused("artifact", "at most 1073741824 are fetched", |_, manifest| manifest.artifact.bytes = u64::MAX);
    refused("artifact", "at most 1073741824 are fetched", |_, manifest| manifest.delta.as_mut().unwrap().payload.bytes = u64::MAX);
}

/// Puts other bytes in the delta's place, hashed as an honest publisher would: only the reader's own checks can tell.
fn with_delta(alter: impl Fn(&mut Vec<u8>)) -> impl Fn(&Site, &mut Manifest) {
    move |site, manifest| {
        let payload = &mut manifest.delta.as_mut().unwrap().payload;
        let mut bytes: Vec<u8> = (0..payload.chunks.len() as u32).flat_map(|index| site.chunk(3, index)).collect();
        alter(&mut bytes);
        let hex = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        let encoded = if payload.codec == "zstd" { zstd::encode_all(bytes.as_slice(), 3).unwrap() } else { bytes.clone() };
        (payload.bytes, payload.encoded_bytes, payload.blake3) = (bytes.len() as u64, encoded.len() as u64, hex(&bytes));
        payload.chunks = encoded.chunks(256).map(hex).collect();
        for (index, chunk) in (0..).zip(encoded.chunks(256)) {
            site.put(&Key::Chunk(Version(3), index), Some(chunk.to_vec()));
        }
    }
}

#[test]
fn a_header_bomb_in_a_delta() {
    let claims = with_delta(|bytes| bytes[..8].copy_from_slice(&(1u64 << 30).to_le_bytes()));
    refused("header_bomb", "header of 1073741824 bytes", claims);
}

#[test]
fn a_decompression_bomb_in_a_delta() {
    refused("decompression_bomb", "delta decodes to more than the 4000 bytes", |site, manifest| {
        manifest.delta.as_mut().unwrap().payload.codec = "zstd".to_owned();
        with_delta(|bytes| *bytes = vec![0; 64 << 20])(site, manifest);
        manifest.delta.as_mut().unwrap().payload.bytes = 4000;
    });
}

/// The tensors of a delta, altered.
fn with_tensors(alter: impl Fn(&mut BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>)) -> impl Fn(&Site, &mut Manifest) {
    with_delta(move |bytes| {
        let tensors = SafeTensors::deserialize(bytes).unwrap();
        let mut held: BTreeMap<_, _> =
            tensors.iter().map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect();
        alter(&mut held);
        let views = held.iter().map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        *bytes = safetensors::serialize(views, None).unwrap();
    })
}

#[test]
fn a_delta_whose_tensors_do_not_add_up() {
    type Alter = fn(&mut BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);
    let cases: [(&str, &str, Alter); 6] = [
        ("artifact", "tensor light.0.weight is missing", |tensors| drop(tensors.remove("light.0.weight"))),
        ("artifact", "tensor artifact.header is missing", |tensors| drop(tensors.remove("artifact.header"))),
        ("artifact", "table embedding: nothing says what is gone", |tensors| drop(tensors.remove("embedding.gone"))),
        ("artifact", "rows of embedding.keys do not add up", |tensors| {
            let gone = tensors.get_mut("embedding.gone").unwrap();
            (gone.1, gone.2) = (vec![0], Vec::new());
        }),
        ("artifact", "keys do not rise", |tensors| tensors.get_mut("embedding.keys").unwrap().2.rotate_left(8)),
        ("wrong_base", "what it takes away is not in its base", |tensors| tensors.get_mut("embedding.gone").unwrap().2[0] ^= 1),
    ];
    for (reason, text, alter) in cases {
        refused(reason, text, with_tensors(alter));
    }
}

#[test]
fn a_delta_that_brings_a_weight_which_is_not_a_number() {
    refused("not_finite", "tensor light.0.bias holds a weight that is not finite", |site, manifest| {
        with_tensors(|tensors| tensors.get_mut("light.0.bias").unwrap().2.copy_from_slice(&f32::NAN.to_le_bytes()))(site, manifest);
        // Hashed by whoever made it: the artifact is what the delta makes.
        manifest.artifact.blake3 = blake3::hash(&artifact_with_bias(f32::NAN)).to_hex().to_string();
    });
}

/// Version 3's artifact with another bias.
fn artifact_with_bias(bias: f32) -> Vec<u8> {
    let honest = Site::new(16);
    publish_to(&mut honest.publisher(), 3);
    let mut artifact = honest.artifact(3);
    let tensors = SafeTensors::deserialize(&artifact).unwrap();
    let place = tensors.tensor("light.0.bias").unwrap().data().as_ptr() as usize - artifact.as_ptr() as usize;
    artifact[place..place + 4].copy_from_slice(&bias.to_le_bytes());
    artifact
}

#[test]
fn a_bad_delta_of_a_version_that_is_also_whole_is_counted_and_gone_around() {
    let site = Site::new(2);
    let mut publisher = site.publisher();
    let net = publish_to(&mut publisher, 2);
    let server = site.server("server");
    until_serves(&server, 2);
    server.stop().unwrap();
    publish(&mut publisher, &net.next(3), 3);
    let delta_from = site.manifest(3).artifact.chunks.len() as u32;
    assert!(delta_from > 0 && site.manifest(3).delta.is_some());
    site.put(&Key::Chunk(Version(3), delta_from), Some(b"other bytes".to_vec()));
    let server = site.server("server");
    let status = until_serves(&server, 3);
    assert_eq!(status.rejected, BTreeMap::from([("truncated".to_owned(), 1)]));
    server.stop().unwrap();
}

/// Says of the first chunks asked for that they are gone, as a broker does that has compacted them away.
struct Compacted {
    log: MemoryLog,
    gone: Arc<AtomicBool>,
}

impl LogReader for Compacted {
    fn next(&mut self, timeout: Duration) -> Result<Option<LogRecord>, StreamError> {
        self.log.next(timeout)
    }

    fn end(&mut self) -> Result<i64, StreamError> {
        self.log.end()
    }

    fn position(&self) -> i64 {
        self.log.position()
    }

    fn read_at(&mut self, offsets: &[i64], timeout: Duration) -> Result<Vec<LogRecord>, StreamError> {
        if !self.gone.swap(true, Ordering::SeqCst) {
            return Err(StreamError::Gone { topic: "snapshots".to_owned(), offset: offsets[0] });
        }
        self.log.read_at(offsets, timeout)
    }
}

#[test]
fn a_chunk_that_was_compacted_away_meanwhile_is_found_where_it_was_sent_again() {
    let site = Site::new(16);
    publish_to(&mut site.publisher(), 3);
    let mut operator = site.operator();
    let before = site.catalog();
    for version in 1..=3 {
        for index in 0..site.manifest(version).chunks().count() as u32 {
            site.put(&Key::Chunk(Version(version), index), Some(site.chunk(version, index)));
        }
    }
    site.log.compact(true);
    assert_ne!(before.chunk_offset(Version(1), 0), site.catalog().chunk_offset(Version(1), 0));
    operator.verify(Version(3)).unwrap();

    let (log, gone) = (site.log.clone(), Arc::new(AtomicBool::new(false)));
    let server = site.server_through("server", {
        let gone = Arc::clone(&gone);
        move || Ok(Box::new(Compacted { log: log.clone(), gone: Arc::clone(&gone) }) as Box<dyn LogReader>)
    });
    let status = until_serves(&server, 3);
    assert!(status.rejected.is_empty() && gone.load(Ordering::SeqCst), "{status:?}");
    server.stop().unwrap();
}
