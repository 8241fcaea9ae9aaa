//! Promise: who may write to the topic but holds no key changes nothing; who holds one can do what its role may do and no more; and nobody
//! takes a server back in time with records that were once right. Each refusal has its own reason, and the old model serves on.

mod serving_support;

use rocket_launching::domain::Version;
use rocket_launching::keys::{Role, Signer, Trust};
use rocket_launching::serving::{Subscriber, SubscriberConfig};
use rocket_launching::stream::{LogReader, MemoryLog};
use rocket_launching::wire::snapshot::{Envelope, Key, Lease, Manifest, PROTOCOL, Pointer, seal_as};
use serving_support::{MODEL, Snapshot, Topic, config_of, follow, operator, scores, trainer, until, until_serves};

const OTHER: u64 = 2;

/// Version 3 is served and version 2 is on the topic; what is written then is refused for `reason`, once, and changes nothing.
fn refused(reason: &str, write: impl Fn(&mut Topic)) {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::signed();
    topic.publish(OTHER);
    let good = topic.publish(3).open();
    let subscriber = follow(dir.path(), &topic);
    until_serves(&subscriber, 3);
    write(&mut topic);
    let status = until(&subscriber, reason, |status| !status.rejected.is_empty());
    assert_eq!(status.rejected.iter().collect::<Vec<_>>(), [(&reason.to_owned(), &1)], "{status:?}");
    assert_eq!((status.version, status.target), (Some(Version(3)), Some(Version(3))));
    let served = subscriber.model().expect("a model is served");
    assert_eq!(scores(&served, 10), scores(&good, 10));
    topic.publish(4);
    until_serves(&subscriber, 4);
    subscriber.stop().expect("no panic");
}

fn altered(key: &Key, record: &[u8], alter: impl Fn(&mut Envelope)) -> (Key, Vec<u8>) {
    let mut envelope: Envelope = serde_json::from_slice(record).expect("an envelope");
    alter(&mut envelope);
    (key.clone(), serde_json::to_vec(&envelope).expect("JSON"))
}

/// The newest record of `key`.
fn newest(log: &MemoryLog, key: &Key) -> Vec<u8> {
    let mut reader = log.clone();
    let records = std::iter::from_fn(|| reader.next(std::time::Duration::ZERO).expect("memory"));
    let values: Vec<Vec<u8>> = records.filter(|record| record.key == key.encode().into_bytes()).filter_map(|record| record.value).collect();
    values.into_iter().next_back().expect("there is one")
}

#[test]
fn a_signed_topic_is_followed_to_and_fro() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::signed();
    topic.publish(1);
    topic.publish(2);
    let subscriber = follow(dir.path(), &topic);
    until_serves(&subscriber, 2);
    topic.pin(Some(1));
    until_serves(&subscriber, 1);
    topic.pin(None);
    until_serves(&subscriber, 2);
    assert!(subscriber.status().rejected.is_empty(), "{:?}", subscriber.status());
    subscriber.stop().expect("no panic");
}

#[test]
fn an_unsigned_pointer() {
    refused("record_unsigned", |topic| {
        let pointer = topic.pointer(9);
        topic.record_as(&Key::Current, &pointer, None);
    });
}

#[test]
fn an_unsigned_manifest_and_an_unsigned_lease_of_the_end_of_time() {
    refused("record_unsigned", |topic| {
        topic.record_as(&Key::Manifest(Version(OTHER)), &Snapshot::new(OTHER).manifest, None);
    });
    refused("record_unsigned", |topic| {
        let lease = Lease { proto: PROTOCOL, model: MODEL.to_owned(), seq: u64::MAX, epoch: u64::MAX, instance: "m".into(), at_ms: 0 };
        topic.record_as(&Key::Lease, &lease, None);
    });
}

#[test]
fn a_pointer_signed_by_a_stranger() {
    refused("record_unknown_key", |topic| {
        let pointer = topic.pointer(9);
        topic.record_as(&Key::Current, &pointer, Some(&Signer::from_seed(&[66; 32])));
    });
}

#[test]
fn a_strangers_signature_under_a_trusted_name() {
    refused("record_signature", |topic| {
        let pointer = topic.pointer(9);
        let record = seal_as(&Key::Current, &pointer, Some(&Signer::from_seed(&[66; 32])));
        let (key, record) = altered(&Key::Current, &record, |envelope| trainer().id().clone_into(&mut envelope.sigs[0].keyid));
        topic.put(&key, Some(record));
    });
}

#[test]
fn a_pin_by_the_trainer() {
    refused("record_role", |topic| {
        let pin = topic.pin_record(Some(OTHER));
        topic.record_as(&Key::PinAll, &pin, Some(&trainer()));
    });
}

#[test]
fn a_manifest_and_a_lease_by_the_operator() {
    refused("record_role", |topic| {
        let manifest = Manifest { seq: topic.next_seq(), epoch: topic.epoch, ..Snapshot::new(9).manifest };
        topic.record_as(&Key::Manifest(Version(9)), &manifest, Some(&operator()));
    });
    refused("record_role", |topic| {
        let lease = Lease { proto: PROTOCOL, model: MODEL.to_owned(), seq: topic.next_seq(), epoch: 7, instance: "m".into(), at_ms: 0 };
        topic.record_as(&Key::Lease, &lease, Some(&operator()));
    });
}

#[test]
fn a_payload_altered_under_its_signature() {
    refused("record_signature", |topic| {
        let record = newest(&topic.log, &Key::Current);
        let another = serde_json::from_slice::<Envelope>(&seal_as(&Key::Current, &topic.pointer(9), None)).expect("an envelope");
        let (key, record) = altered(&Key::Current, &record, |envelope| envelope.payload_b64.clone_from(&another.payload_b64));
        topic.put(&key, Some(record));
    });
}

#[test]
fn a_signature_moved_to_another_key_of_the_log() {
    refused("record_signature", |topic| {
        let manifest = newest(&topic.log, &Key::Manifest(Version(OTHER)));
        topic.put(&Key::Manifest(Version(9)), Some(manifest));
    });
}

#[test]
fn an_old_record_put_back() {
    refused("record_replayed", |topic| {
        let mut reader = topic.log.clone();
        let all = std::iter::from_fn(|| reader.next(std::time::Duration::ZERO).expect("memory"));
        let first = all.filter(|record| record.key == b"a/current").find_map(|record| record.value);
        topic.put(&Key::Current, first);
    });
}

#[test]
fn a_pointer_of_a_superseded_epoch() {
    refused("record_superseded", |topic| {
        let old = topic.pointer(9);
        topic.lease();
        topic.record(&Key::Current, &Pointer { seq: topic.seq + 1, ..old });
        topic.next_seq();
    });
}

#[test]
fn a_trainers_pointer_going_back() {
    refused("record_backward", |topic| topic.promote(OTHER));
    refused("record_backward", |topic| topic.promote(3));
}

#[test]
fn what_an_operator_went_back_from_no_trainer_brings_back_not_even_on_a_compacted_topic() {
    for compacted in [false, true] {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut topic = Topic::signed();
        (1..=3).for_each(|version| drop(topic.publish(version)));
        let back = Pointer { highest: Some(Version(3)), ..topic.pointer(1) };
        topic.record_as(&Key::Current, &back, Some(&operator()));
        if compacted {
            topic.log.compact(false);
        }
        let subscriber = follow(dir.path(), &topic);
        until_serves(&subscriber, 1);
        for version in [2, 3] {
            topic.promote(version);
            until(&subscriber, "a refusal", |status| status.rejected.get("record_backward") == Some(&(version - 1)));
        }
        assert_eq!(subscriber.status().target, Some(Version(1)));
        topic.publish(4);
        until_serves(&subscriber, 4);
        subscriber.stop().expect("no panic");
    }
}

#[test]
fn an_old_record_put_back_while_a_server_is_down_and_the_newer_one_compacted_away() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::signed();
    topic.publish(1);
    let old = newest(&topic.log, &Key::Current);
    topic.publish(2);
    let subscriber = follow(dir.path(), &topic);
    until_serves(&subscriber, 2);
    subscriber.stop().expect("no panic");

    topic.put(&Key::Current, Some(old));
    topic.log.compact(false);
    let subscriber = follow(dir.path(), &topic);
    let status = until(&subscriber, "a refusal", |status| status.rejected.contains_key("topic_older"));
    assert_eq!((status.version, status.rejected["topic_older"]), (Some(Version(2)), 1), "{status:?}");
    topic.publish(3);
    until_serves(&subscriber, 3);
    subscriber.stop().expect("no panic");
}

#[test]
fn an_old_epoch_after_a_restart() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::signed();
    topic.publish(1);
    let before = topic.clone();
    topic.lease();
    topic.publish(2);
    let subscriber = follow(dir.path(), &topic);
    until_serves(&subscriber, 2);
    subscriber.stop().expect("no panic");

    // A copy of the topic as it was, gone on under the old epoch: signed rightly, with seqs as high as one likes.
    let mut forked = Topic { log: MemoryLog::default(), seq: before.seq + 100, ..before };
    forked.publish(5);
    let subscriber = follow(dir.path(), &forked);
    until(&subscriber, "a refusal", |status| status.rejected.contains_key("topic_older"));
    assert_eq!(subscriber.model().map(|model| model.version()), Some(Version(2)));
    subscriber.stop().expect("no panic");
}

#[test]
fn a_new_key_is_trusted_beside_the_old_one_and_then_alone() {
    let dir = tempfile::tempdir().expect("tempdir");
    let new = Signer::from_seed(&[3; 32]);
    let start = |topic: &Topic, keys: &[&Signer]| {
        let trust = Trust::new(keys.iter().map(|signer| (signer.public(), Role::Trainer)));
        let log = topic.log.clone();
        let config = SubscriberConfig { trust, ..config_of(dir.path(), topic) };
        Subscriber::start(config, move || Ok(Box::new(log.clone()) as Box<dyn LogReader>)).expect("the cache is usable")
    };
    let mut topic = Topic::signed();
    topic.publish(1);
    let both = start(&topic, &[&trainer(), &new]);
    until_serves(&both, 1);

    let snapshot = Snapshot::new(2);
    topic.send(&snapshot);
    let manifest = Manifest { seq: topic.next_seq(), epoch: topic.epoch, ..snapshot.manifest };
    topic.record_as(&Key::Manifest(Version(2)), &manifest, Some(&new));
    let pointer = topic.pointer(2);
    topic.record_as(&Key::Current, &pointer, Some(&new));
    until_serves(&both, 2);
    assert!(both.status().rejected.is_empty(), "{:?}", both.status());
    both.stop().expect("no panic");

    let alone = start(&topic, &[&new]);
    let status = until(&alone, "the old key's records", |status| status.rejected.get("record_unknown_key") == Some(&4));
    assert_eq!((status.version, status.waiting), (Some(Version(2)), None));
    alone.stop().expect("no panic");
}

#[test]
fn without_a_list_of_keys_signed_and_unsigned_records_count() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    topic.publish(1);
    let subscriber = follow(dir.path(), &topic);
    until_serves(&subscriber, 1);
    topic.signed = true;
    topic.publish(2);
    until_serves(&subscriber, 2);
    assert!(subscriber.status().rejected.is_empty());
    subscriber.stop().expect("no panic");
}
