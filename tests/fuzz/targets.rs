//! Fuzzing of everything that reads bytes it did not write. `ops/fuzz` builds it with coverage and runs it; `ROCKET_FUZZ` names the target.
//!
//! Whatever the bytes, a reader must neither panic nor take memory or time out of proportion; what it accepts, it must be able to use.
#![no_main]

#[path = "../serving_support/mod.rs"]
mod serving_support;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use rocket_launching::config::{self, EventFormat, HiddenConfig, SchemaConfig};
use rocket_launching::domain::{Origin, PartitionIndex, Record, Role};
use rocket_launching::features::FeatureSpec;
use rocket_launching::serving::{Catalog, ServedModel};
use rocket_launching::stream::LogRecord;
use rocket_launching::wire::snapshot::{Canary, Envelope, Lease, Manifest, Pin, Pointer, ServerReport, TensorInfo, open, schema_hash};
use rocket_launching::wire::{EventDecoder, RequestText};
use rocket_launching::{checkpoint, evaluate, store};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serving_support::every_kind::snapshot;
use serving_support::{MODEL, Snapshot, TIME};

/// Reads bytes that it did not write.
type Target = fn(&[u8]);

/// By name.
const TARGETS: &[(&str, Target)] = &[
    ("event", event),
    ("protobuf", protobuf),
    ("request", request),
    ("record", record),
    ("payload", payload),
    ("manifest", manifest),
    ("artifact", artifact),
    ("config", configuration),
    ("user", evaluate::fuzz_user),
    ("sled", store::fuzz_record),
    ("checkpoint", checkpoint::fuzz_file),
];

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("ROCKET_FUZZ").unwrap_or_default();
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("ROCKET_FUZZ = {name:?}: set it to one of {names:?}")).1
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));

/// Features of every kind.
static DECODER: LazyLock<EventDecoder> = LazyLock::new(|| EventDecoder::new(&schema()));

fn schema() -> SchemaConfig {
    let demo = include_str!("../../config/demo.toml");
    let kuairand = include_str!("../../config/kuairand.toml");
    let schema = |text| config::parse(text, "fuzz.toml", std::iter::empty()).expect("the repository's files are valid").schema;
    let mut features = schema(kuairand).features;
    let mut demo = schema(demo);
    features.retain(|feature| demo.features.iter().all(|known| known.name != feature.name));
    demo.features.extend(features);
    demo
}

static PROTOBUF_DECODER: LazyLock<EventDecoder> = LazyLock::new(|| EventDecoder::new(&schema()).reading(EventFormat::Protobuf));

fn event(bytes: &[u8]) {
    decode(&DECODER, bytes);
}

fn protobuf(bytes: &[u8]) {
    decode(&PROTOBUF_DECODER, bytes);
}

/// One that remembers candidates, and one that does not.
static MODELS: LazyLock<[ServedModel; 2]> = LazyLock::new(|| {
    let model = snapshot(HiddenConfig::default()).open();
    [model.clone(), model.with_candidate_cache(0)]
});

/// What is remembered, of this request or any before, changes no score and no refusal.
fn request(bytes: &[u8]) {
    let Some(RequestText { context, candidates, .. }) = RequestText::find(bytes) else { return };
    let [remembers, forgets] = &*MODELS;
    let expected = forgets.score_json(TIME, context, &candidates);
    for _ in 0..2 {
        match (remembers.score_json(TIME, context, &candidates), &expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found.len(), expected.len());
                assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-4), "{found:?}, {expected:?}");
            }
            (found, expected) => assert_eq!(found.is_err(), expected.is_err()),
        }
    }
}

fn decode(decoder: &EventDecoder, bytes: &[u8]) {
    let Some((role, payload)) = bytes.split_first() else { return };
    let role = [Role::Labelled, Role::Impression, Role::Click][usize::from(role % 3)];
    let origin = Origin { partition: PartitionIndex(0), offset: 0 };
    let record = Record { origin, role, key: None, payload: Some(payload.to_vec()), timestamp_ms: None };
    if let Err(error) = decoder.decode(&record) {
        assert!(error.to_string().len() < 4096, "it quotes its input at length: {error}");
    }
}

/// Records between zero bytes, each a key up to the first line feed, then a value.
fn record(bytes: &[u8]) {
    let mut catalog = Catalog::new(MODEL);
    for (offset, record) in (0..).zip(bytes.split(|byte| *byte == 0)) {
        let mut parts = record.splitn(2, |byte| *byte == b'\n');
        let key = parts.next().unwrap_or_default().to_vec();
        let _refused = catalog.apply(&LogRecord { offset, key, value: parts.next().map(<[u8]>::to_vec) });
    }
    let _target = catalog.target(0);
}

/// What is inside an envelope.
fn payload(bytes: &[u8]) {
    let sealed = Envelope { payload_b64: STANDARD.encode(bytes), sigs: Vec::new() };
    let sealed = serde_json::to_vec(&sealed).expect("an envelope is plain data");
    let _pointer = open::<Pointer>("pointer", &sealed);
    let _canary = open::<Canary>("canary", &sealed);
    let _pin = open::<Pin>("pin", &sealed);
    let _lease = open::<Lease>("lease", &sealed);
    let _manifest = open::<Manifest>("manifest", &sealed);
    let _report = ServerReport::decode(b"host", bytes);
}

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| Snapshot::new(1));

/// A good artifact under a manifest that was made up, but for the hashes.
fn manifest(bytes: &[u8]) {
    let Ok(mut manifest) = serde_json::from_slice::<Manifest>(bytes) else { return };
    manifest.schema_hash = schema_hash(&manifest.schema);
    let mut snapshot = Snapshot { manifest, chunks: Vec::new() };
    snapshot.hold_bytes(&SNAPSHOT.chunks.concat());
    score(snapshot);
}

/// An artifact that was made up, under a manifest that says it is what it is.
fn artifact(bytes: &[u8]) {
    let mut snapshot = SNAPSHOT.clone();
    snapshot.hold_bytes(bytes);
    // Nor can weights be guessed that give the logits of the probes.
    snapshot.manifest.probes.clear();
    if let Ok(tensors) = SafeTensors::deserialize(bytes) {
        let info = |(name, view): (&str, TensorView<'_>)| TensorInfo {
            name: name.to_owned(),
            dtype: view.dtype().to_string(),
            shape: view.shape().to_vec(),
        };
        snapshot.manifest.artifact.tensors = tensors.iter().map(info).collect();
    }
    score(snapshot);
}

fn score(snapshot: Snapshot) {
    let Ok(model) = ServedModel::open(snapshot.manifest, &snapshot.chunks.concat()) else { return };
    let _scores = model.score(TIME, &serving_support::context(), &serving_support::candidates(2));
}

fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(config) = config::parse(text, "fuzz.toml", std::iter::empty()) {
        let _features = FeatureSpec::new(&config.schema);
    }
}
