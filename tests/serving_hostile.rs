//! Promise: a snapshot that is damaged, altered, forged or of another kind is refused for its own reason, and the old model serves on.

mod serving_support;

use rocket_launching::domain::Version;
use rocket_launching::serving::Subscriber;
use rocket_launching::wire::snapshot::{Key, Manifest, PROTOCOL_MAX, Pointer};
use safetensors::tensor::Dtype;
use serving_support::{MODEL, Snapshot, Tensor, Topic, config, follow, scores, tensors, until, until_serves};

const BAD: u64 = 2;

/// Version 1 is served, version 2 is altered: how it is refused, and that a good one after it is taken.
fn refused(reason: &str, text: &str, alter: impl Fn(&mut Snapshot)) {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    let good = topic.publish(1).open();
    let subscriber = follow(dir.path(), &topic);
    until_serves(&subscriber, 1);

    let mut bad = Snapshot::new(BAD);
    alter(&mut bad);
    topic.send(&bad);
    topic.promote(BAD);
    let status = until(&subscriber, reason, |status| !status.rejected.is_empty());
    assert_eq!(status.rejected.get(reason), Some(&1), "{status:?}");
    let error = status.last_error.expect("a refusal has a text").what;
    assert!(error.contains("version 2") && error.contains(text), "{error:?} does not say {text:?}");
    serves_as_before(&subscriber, &good);
    assert_eq!(subscriber.status().target, Some(Version(BAD)));

    // Not tried again by itself; published again, it is.
    topic.promote(BAD);
    topic.publish(3);
    let status = until_serves(&subscriber, 3);
    assert_eq!(status.rejected.values().sum::<u64>(), 1, "{status:?}");
    topic.publish(BAD);
    until_serves(&subscriber, BAD);
    subscriber.stop().expect("no panic");
}

fn serves_as_before(subscriber: &Subscriber, good: &rocket_launching::serving::ServedModel) {
    let served = subscriber.model().expect("a model is served");
    assert_eq!(served.version(), good.version());
    assert_eq!(scores(&served, 10), scores(good, 10));
}

/// Alters the tensors and hashes the result as an honest publisher would: only the reader's own checks can tell.
fn with_tensors(alter: impl Fn(&mut Vec<Tensor>)) -> impl Fn(&mut Snapshot) {
    move |snapshot| {
        let mut tensors = tensors(BAD);
        alter(&mut tensors);
        snapshot.hold(&tensors);
    }
}

#[test]
fn a_truncated_chunk() {
    refused("truncated", "chunk 1 is cut short: 100 bytes of 700", |snapshot| snapshot.chunks[1].truncate(100));
    refused("truncated", "is cut short: 0 bytes of", |snapshot| {
        snapshot.chunks.last_mut().expect("there are chunks").clear();
    });
}

#[test]
fn a_truncated_chunk_of_a_publisher_that_did_not_say_how_long_they_are() {
    refused("hash", "chunk 1 does not hash", |snapshot| {
        snapshot.manifest.artifact.chunk_bytes = None;
        snapshot.chunks[1].truncate(100);
    });
}

#[test]
fn an_altered_chunk() {
    refused("hash", "chunk 2 does not hash", |snapshot| snapshot.chunks[2][5] ^= 1);
}

#[test]
fn two_chunks_swapped() {
    refused("hash", "chunk 0 does not hash", |snapshot| snapshot.chunks.swap(0, 1));
}

#[test]
fn chunks_in_another_order_hashed_one_by_one() {
    refused("hash", "artifact does not hash", |snapshot| {
        snapshot.chunks.swap(1, 2);
        snapshot.manifest.artifact.chunks.swap(1, 2);
    });
}

#[test]
fn a_wrong_hash_of_the_whole() {
    refused("hash", "artifact does not hash", |snapshot| snapshot.manifest.artifact.blake3 = blake3::hash(b"another").to_hex().to_string());
}

#[test]
fn a_header_that_claims_a_gigabyte() {
    refused("header_bomb", "header of 1073741824 bytes; at most 65536", |snapshot| {
        let mut bytes = snapshot.chunks.concat();
        bytes[..8].copy_from_slice(&(1u64 << 30).to_le_bytes());
        snapshot.hold_bytes(&bytes);
    });
}

#[test]
fn a_header_full_of_spaces() {
    refused("header_bomb", "header of 70000 bytes; at most 65536", |snapshot| {
        let mut bytes = vec![b' '; 70_008];
        bytes[..8].copy_from_slice(&70_000u64.to_le_bytes());
        snapshot.hold_bytes(&bytes);
    });
}

#[test]
fn a_weight_that_is_not_a_number() {
    refused(
        "not_finite",
        "tensor light.0.weight holds a weight that is not finite",
        with_tensors(|tensors| {
            tensors[2].data[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
    );
}

#[test]
fn an_infinite_row() {
    refused(
        "not_finite",
        "tensor embedding.rows",
        with_tensors(|tensors| {
            tensors[1].data[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
        }),
    );
}

#[test]
fn a_wrong_shape() {
    refused(
        "artifact",
        "light.0.weight is F32 [8, 13]; the architecture says F32 [13, 8]",
        with_tensors(|tensors| tensors[2].shape.reverse()),
    );
}

#[test]
fn a_wrong_type() {
    refused("artifact", "light.1.bias is I32", with_tensors(|tensors| tensors[5].dtype = Dtype::I32));
}

#[test]
fn a_missing_tensor() {
    refused(
        "artifact",
        "tensor light.1.bias is missing",
        with_tensors(|tensors| {
            tensors.pop();
        }),
    );
}

#[test]
fn an_extra_tensor() {
    refused(
        "artifact",
        "tensor booster.0.weight is not one of the architecture's",
        with_tensors(|tensors| {
            tensors.push(Tensor { name: "booster.0.weight".to_owned(), dtype: Dtype::F32, shape: vec![1], data: vec![0; 4] });
        }),
    );
}

#[test]
fn a_list_of_other_tensors() {
    refused("artifact", "the manifest lists other tensors", |snapshot| {
        snapshot.manifest.artifact.tensors.pop();
    });
}

#[test]
fn a_length_that_is_not_the_artifacts() {
    refused("truncated", "artifact is cut short", |snapshot| snapshot.manifest.artifact.bytes += 1);
    refused("artifact", "are longer than the artifact's 1 bytes", |snapshot| snapshot.manifest.artifact.bytes = 1);
}

#[test]
fn an_artifact_above_the_limit() {
    refused("artifact", "at most 1073741824 are fetched", |snapshot| snapshot.manifest.artifact.bytes = u64::MAX);
}

#[test]
fn an_unknown_codec() {
    refused("artifact", "codec lz4", |snapshot| snapshot.manifest.artifact.codec = "lz4".to_owned());
    refused("artifact", "is not zstd", |snapshot| snapshot.manifest.artifact.codec = "zstd".to_owned());
}

/// A snapshot of an encoded artifact, hashed as an honest publisher would.
fn encoded(snapshot: &mut Snapshot, artifact: &[u8]) {
    let (bytes, blake3) = (snapshot.manifest.artifact.bytes, snapshot.manifest.artifact.blake3.clone());
    let encoded = zstd::encode_all(artifact, 3).expect("memory takes it");
    snapshot.hold_bytes(&encoded);
    let said = &mut snapshot.manifest.artifact;
    (said.codec, said.encoded_bytes, said.bytes, said.blake3) = ("zstd".to_owned(), Some(encoded.len() as u64), bytes, blake3);
}

#[test]
fn a_decompression_bomb() {
    refused("decompression_bomb", "artifact decodes to more than the", |snapshot| encoded(snapshot, &vec![0; 64 << 20]));
}

#[test]
fn an_encoded_artifact_that_ends_early() {
    refused("truncated", "decoded artifact is cut short", |snapshot| {
        let artifact = snapshot.chunks.concat();
        encoded(snapshot, &artifact[..artifact.len() - 1]);
    });
}

#[test]
fn another_schema_than_was_hashed() {
    refused("schema", "the schema does not hash", |snapshot| snapshot.manifest.schema.features.swap(0, 1));
}

#[test]
fn an_architecture_that_does_not_fit_the_schema() {
    refused("schema", "do not make 14 inputs", |snapshot| snapshot.manifest.architecture.inputs += 1);
    refused("schema", "do not make", |snapshot| snapshot.manifest.architecture.embedding_dim = usize::MAX);
}

#[test]
fn a_probe_that_comes_out_wrong() {
    refused("probe", "probe 3 gives", |snapshot| snapshot.manifest.probes[3].logit += 0.01);
}

#[test]
fn a_probe_that_would_pass_anything() {
    refused("probe", "probe 0 gives", |snapshot| {
        snapshot.manifest.probes[0].tolerance = f32::MAX;
    });
}

#[test]
fn a_probe_of_another_schema() {
    refused("schema", "probe 2: 3 fields, the schema has 4", |snapshot| {
        snapshot.manifest.probes[2].fields.pop();
    });
    refused("schema", "probe 2: true is no field", |snapshot| snapshot.manifest.probes[2].fields[0] = true.into());
}

/// A record is refused for `reason`, and changes nothing.
fn record_refused(reason: &str, write: impl Fn(&mut Topic)) {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    topic.send(&Snapshot::new(BAD));
    let good = topic.publish(1).open();
    let subscriber = follow(dir.path(), &topic);
    until_serves(&subscriber, 1);
    write(&mut topic);
    let status = until(&subscriber, reason, |status| !status.rejected.is_empty());
    assert_eq!(status.rejected.get(reason), Some(&1), "{status:?}");
    assert_eq!((status.version, status.target), (Some(Version(1)), Some(Version(1))));
    serves_as_before(&subscriber, &good);
    topic.promote(BAD);
    until_serves(&subscriber, BAD);
    subscriber.stop().expect("no panic");
}

#[test]
fn a_pointer_of_another_model() {
    record_refused("record_other_model", |topic| {
        let pointer = topic.pointer(BAD);
        topic.record(&Key::Current, &Pointer { model: format!("not-{MODEL}"), ..pointer });
    });
}

#[test]
fn a_manifest_of_another_model() {
    record_refused("record_other_model", |topic| {
        let manifest = Snapshot::new(9).manifest;
        topic.record(&Key::Manifest(Version(9)), &Manifest { model: "search".to_owned(), ..manifest });
    });
}

#[test]
fn an_old_pointer_put_back() {
    record_refused("record_replayed", |topic| {
        let old = topic.pointer(BAD);
        topic.record(&Key::Current, &Pointer { seq: 2, ..old });
    });
}

#[test]
fn a_pointer_of_a_superseded_trainer() {
    record_refused("record_superseded", |topic| {
        topic.lease();
        let pointer = topic.pointer(BAD);
        topic.record(&Key::Current, &Pointer { epoch: 1, ..pointer });
    });
}

#[test]
fn a_record_of_a_newer_program() {
    record_refused("record_protocol", |topic| {
        let pointer = topic.pointer(BAD);
        topic.record(&Key::Current, &Pointer { proto: PROTOCOL_MAX + 1, ..pointer });
    });
}

#[test]
fn garbage_and_giants() {
    record_refused("record_malformed", |topic| topic.put(&Key::Current, Some(b"{ not an envelope".to_vec())));
    record_refused("record_too_large", |topic| topic.put(&Key::Current, Some(vec![b' '; 2 << 20])));
}

#[test]
fn a_version_that_is_not_whole_is_waited_for() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    let good = topic.publish(1).open();
    let subscriber = follow(dir.path(), &topic);
    until_serves(&subscriber, 1);
    let snapshot = Snapshot::new(BAD);
    topic.send(&snapshot);
    topic.put(&Key::Chunk(Version(BAD), 1), None);
    topic.promote(BAD);
    let status = until(&subscriber, "waiting", |status| status.waiting.is_some());
    assert!(status.waiting.as_deref().is_some_and(|why| why.contains("version 2: its manifest or a chunk")), "{status:?}");
    assert!(status.rejected.is_empty(), "{status:?}");
    serves_as_before(&subscriber, &good);
    topic.put(&Key::Chunk(Version(BAD), 1), Some(snapshot.chunks[1].clone()));
    let status = until_serves(&subscriber, BAD);
    assert_eq!(status.waiting, None);
    subscriber.stop().expect("no panic");
}

#[test]
fn a_setting_that_cannot_be_ends_the_following_and_says_so() {
    use rocket_launching::stream::StreamError;
    let dir = tempfile::tempdir().expect("tempdir");
    let subscriber = Subscriber::start(config(dir.path()), || {
        Err(StreamError::Setting { key: "securty.protocol".to_owned(), why: "no such setting".to_owned() })
    })
    .expect("the cache is usable");
    until(&subscriber, "the end", |status| !status.following);
    assert!(subscriber.refusal().is_some_and(|refusal| refusal.contains("securty.protocol")));
}
