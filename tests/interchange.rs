//! Promise: what `rocketctl snapshot export` writes gives the scorer's numbers elsewhere, to 1e-5: the ONNX file in ONNX Runtime, and the
//! safetensors file in the Python server of `ops/interchange`, which computes the whole path from raw columns to probability.

mod serving_support;

use std::path::Path;
use std::process::Command;

use rocket_launching::config::{Activation, HiddenConfig, SchemaConfig};
use rocket_launching::domain::EventTime;
use rocket_launching::features::{FeatureSpec, Features, NO_KEY};
use rocket_launching::interchange::{to_onnx, to_safetensors};
use rocket_launching::serving::ServedModel;
use rocket_launching::wire::EventDecoder;
use rocket_launching::wire::snapshot::{Architecture, schema_hash};
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use serving_support::{Noise, Snapshot, Tensor};

const TIME: EventTime = EventTime(1_700_000_000_000);
const DIM: usize = 4;
const ITEM_DIM: usize = 6;
const SHARED: usize = 12;
const LIGHT: usize = 8;
/// Of the slots below: eight of the table's dim, two of the item's; two numbers, two click rates.
const INPUTS: usize = 8 * DIM + 2 * ITEM_DIM + 2 + 2 * 2;

/// Every kind of feature.
fn schema() -> SchemaConfig {
    let vectors: Value = serde_json::from_str(include_str!("fixtures/feature_vectors.json")).expect("JSON");
    let mut schema = vectors["schema"].clone();
    // A rate of a cross beside that of a feature alone.
    schema["features"][14]["of"] = json!(["country_hour"]);
    serde_json::from_value(schema).expect("a good schema")
}

fn request() -> (Map<String, Value>, Vec<Map<String, Value>>) {
    let context = json!({ "user_id": "u3", "clicked": "1|2|3|4|5", "age": 33.5, "country": "cz", "position": 1 });
    let candidate = |n: usize| match n {
        0 => json!({}),
        1 => json!({ "item_id": 1, "tags": "t1, t2 ,unseen", "price": "17.5", "user_id": null, "country": "" }),
        n => json!({ "item_id": n % 9, "tags": [format!("t{}", n % 5), "t0", n % 3], "price": n as f64 * 3.7 - 20.0 }),
    };
    let objects = (0..40).map(|n| candidate(n).as_object().expect("an object").clone());
    (context.as_object().expect("an object").clone(), objects.collect())
}

/// Rows for most of the ids of the request, by table, and counts for most keys of its click rates.
fn known(schema: &SchemaConfig) -> ([Vec<u64>; 2], Vec<u64>) {
    let spec = FeatureSpec::new(schema).expect("a good schema").for_serving();
    let decoder = EventDecoder::new(schema);
    let (context, candidates) = request();
    let (mut tables, mut counted) = ([Vec::new(), Vec::new()], vec![NO_KEY]);
    for candidate in &candidates {
        let mut features = Features::default();
        spec.extract(TIME, &decoder.fields(&context, candidate).expect("good columns"), &mut features);
        for (slot, bounds) in spec.slots().iter().zip(features.bounds.windows(2)) {
            let ids = &features.ids[bounds[0] as usize..bounds[1] as usize];
            tables[usize::from(slot.dim.is_some())].extend(ids.iter().filter(|id| *id % 8 != 0));
        }
        counted.extend(features.click_rates.iter().filter(|key| *key % 8 != 0));
    }
    for keys in tables.iter_mut().chain([&mut counted]) {
        keys.sort_unstable();
        keys.dedup();
    }
    (tables, counted)
}

/// A random net with every kind of tensor that this form of hidden layer has.
fn snapshot(hidden: HiddenConfig) -> Snapshot {
    let schema = schema();
    let ([keys, item_keys], counted) = known(&schema);
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    let numbers = |name: &str, shape: &[usize], make: &mut dyn FnMut() -> f32| Tensor {
        name: name.to_owned(),
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        data: (0..shape.iter().product()).flat_map(|_| make().to_le_bytes()).collect(),
    };
    let keyed = |name: &str, keys: &[u64]| Tensor {
        name: name.to_owned(),
        dtype: Dtype::U64,
        shape: vec![keys.len()],
        data: keys.iter().flat_map(|key| key.to_le_bytes()).collect(),
    };
    let mut tensors = vec![keyed("embedding.keys", &keys), keyed("embedding.6.keys", &item_keys), keyed("click_rates.keys", &counted)];
    tensors.push(numbers("embedding.rows", &[keys.len(), DIM], &mut || noise.float()));
    tensors.push(numbers("embedding.6.rows", &[item_keys.len(), ITEM_DIM], &mut || noise.float()));
    // Impressions and clicks in turn, the whole stream's first.
    let mut turn = 0;
    let mut count = || {
        turn += 1;
        if turn % 2 == 1 { 20.0 + turn as f32 } else { (turn % 17) as f32 }
    };
    tensors.push(numbers("click_rates.counts", &[counted.len(), 2], &mut count));
    let layers = [("shared.0", INPUTS, SHARED), ("light.0", SHARED, LIGHT), ("light.1", LIGHT, 1)];
    for (layer, input, output) in layers {
        tensors.push(numbers(&format!("{layer}.weight"), &[input, output], &mut || 0.6 * noise.float()));
        tensors.push(numbers(&format!("{layer}.bias"), &[output], &mut || noise.float()));
    }
    for (layer, _, output) in &layers[..2] {
        let mut more = |name: &str| tensors.push(numbers(&format!("{layer}.{name}"), &[*output], &mut || 1.2 + noise.float()));
        if hidden.layer_norm {
            ["norm.scale", "norm.shift"].into_iter().for_each(&mut more);
        }
        match hidden.activation {
            Activation::Relu => {}
            Activation::Prelu => more("slope"),
            Activation::Dice => ["slope", "mean", "variance"].into_iter().for_each(more),
        }
    }
    let mut snapshot = Snapshot::new(7);
    let manifest = &mut snapshot.manifest;
    manifest.schema_hash = schema_hash(&schema);
    manifest.schema = schema;
    manifest.probes.clear();
    manifest.architecture =
        Architecture { embedding_dim: DIM, further_dims: vec![ITEM_DIM], inputs: INPUTS, shared: vec![SHARED], light: vec![LIGHT], hidden };
    snapshot.hold(&tensors);
    snapshot
}

fn answer(model: &ServedModel) -> Value {
    let (context, candidates) = request();
    json!({ "version": model.version(), "scores": model.score(TIME, &context, &candidates).expect("good columns") })
}

/// Runs a program of `ops/interchange` with the packages it needs.
fn python(script: &str, argument: &Path) -> (bool, String) {
    let command = format!("eval \"$(ops/compare/packages interchange)\" && exec \"$PYTHON\" ops/interchange/{script} \"$1\"");
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &command, "bash"])
        .arg(argument)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("bash runs");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

fn write(dir: &Path, snapshot: &Snapshot) {
    let (manifest, artifact) = (&snapshot.manifest, snapshot.chunks.concat());
    let (context, candidates) = request();
    let request = json!({ "context": context, "candidates": candidates, "time_ms": TIME.0 });
    let put = |name: &str, bytes: Vec<u8>| std::fs::write(dir.join(name), bytes).expect("writes");
    put("model.safetensors", to_safetensors(manifest, &artifact).expect("it exports"));
    put("model.onnx", to_onnx(manifest, &artifact).expect("it exports"));
    put("request.json", request.to_string().into_bytes());
    put("answer.json", answer(&snapshot.open()).to_string().into_bytes());
}

#[test]
fn onnx_runtime_and_python_give_the_scorers_numbers_for_every_form_of_hidden_layer() {
    for activation in [Activation::Relu, Activation::Prelu, Activation::Dice] {
        for layer_norm in [false, true] {
            let dir = tempfile::tempdir().expect("tempdir");
            write(dir.path(), &snapshot(HiddenConfig { layer_norm, activation }));
            let (ok, said) = python("check.py", dir.path());
            assert!(ok, "{activation:?}, LayerNorm {layer_norm}: {said}");
            println!("{activation:?}, LayerNorm {layer_norm}: {said}");
            let said: Value = serde_json::from_str(said.trim()).expect("JSON");
            assert!(said["spread"].as_f64() > Some(0.1), "scores that differ, or nothing is shown: {said}");
            assert_eq!(said["onnx"]["model"], serving_support::MODEL);
        }
    }
}

#[test]
fn a_candidate_scores_the_same_whatever_stands_in_the_context_or_beside_it() {
    let model = snapshot(HiddenConfig::default()).open();
    let (context, candidates) = request();
    let score =
        |context: &Map<String, Value>, candidates: &[Map<String, Value>]| model.score(TIME, context, candidates).expect("good columns");
    let nearly =
        |found: &[f32], expected: &[f32]| found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
    let expected = score(&context, &candidates);
    let whole: Vec<Map<String, Value>> = candidates
        .iter()
        .map(|candidate| context.iter().chain(candidate).map(|(name, value)| (name.clone(), value.clone())).collect())
        .collect();
    // Nothing shared, and all of it; far more candidates than go through the net at a time, in any order, most of them twice.
    assert!(nearly(&score(&Map::new(), &whole), &expected));
    for (candidate, expected) in whole.iter().zip(&expected) {
        assert!(nearly(&score(candidate, &[Map::new(), Map::new()]), &[*expected; 2]));
    }
    let order = |n: usize| n * 7 % candidates.len();
    let many: Vec<_> = (0..1300).map(|n| candidates[order(n)].clone()).collect();
    assert!(nearly(&score(&context, &many), &(0..1300).map(|n| expected[order(n)]).collect::<Vec<_>>()));
    // Columns of another request, then those of the first again, in the same memory.
    assert!(nearly(&score(&context, &candidates), &expected));
    assert_eq!(score(&context, &[]), Vec::<f32>::new());
}

#[test]
fn a_column_of_a_wrong_type_is_told_by_the_candidate_that_has_it() {
    let model = snapshot(HiddenConfig::default()).open();
    let object = |value: Value| value.as_object().expect("an object").clone();
    let index = |context: Value, candidates: Vec<Value>| {
        let candidates: Vec<_> = candidates.into_iter().map(object).collect();
        model.score(TIME, &object(context), &candidates).map_err(|(index, error)| (index, error.to_string()))
    };
    let (dear, good) = (json!({ "price": "dear" }), json!({ "price": 3 }));
    let (at, why) = index(json!({}), vec![good.clone(), json!({}), dear.clone()]).expect_err("no number");
    assert_eq!((at, why.contains("`price`")), (2, true), "{why}");
    // In the context it is everybody's who has none of his own.
    assert_eq!(index(dear.clone(), vec![json!({}), json!({})]).expect_err("no number").0, 0);
    assert_eq!(index(dear.clone(), vec![good.clone(), json!({})]).expect_err("no number").0, 1);
    assert_eq!(index(dear, vec![good; 3]).expect("all have their own").len(), 3);
}

#[test]
fn a_row_that_differs_is_seen() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plain = snapshot(HiddenConfig::default());
    write(dir.path(), &plain);
    let mut altered = answer(&plain.open());
    altered["scores"][3] = json!(altered["scores"][3].as_f64().expect("a number") + 3e-5);
    std::fs::write(dir.path().join("answer.json"), altered.to_string()).expect("writes");
    let (ok, said) = python("check.py", dir.path());
    assert!(!ok, "{said}");
}

#[test]
fn the_python_server_makes_the_same_features_of_the_test_vectors() {
    let (ok, said) = python("vectors.py", &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/feature_vectors.json"));
    assert!(ok, "{said}");
}

#[test]
fn the_safetensors_file_holds_the_artifact_and_its_manifest() {
    let snapshot = snapshot(HiddenConfig::default());
    let file = to_safetensors(&snapshot.manifest, &snapshot.chunks.concat()).expect("it exports");
    let (_, header) = safetensors::SafeTensors::read_metadata(&file).expect("safetensors");
    let facts = header.metadata().as_ref().expect("metadata");
    let manifest = serde_json::from_str(&facts["manifest"]).expect("a manifest");
    assert_eq!((facts["version"].as_str(), &manifest), ("7", &snapshot.manifest));
    let artifact = snapshot.chunks.concat();
    let held = safetensors::SafeTensors::deserialize(&artifact).expect("safetensors");
    let found = safetensors::SafeTensors::deserialize(&file).expect("safetensors");
    assert!(held.iter().all(|(name, view)| found.tensor(name).is_ok_and(|other| other.data() == view.data())));
    assert_eq!(held.len(), found.len());
}
