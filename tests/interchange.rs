//! Promise: what `rocketctl snapshot export` writes gives the scorer's numbers elsewhere, to 1e-5: the ONNX file in ONNX Runtime, and the
//! safetensors file in the Python server of `ops/interchange`, which computes the whole path from raw columns to probability.

mod serving_support;

use std::path::Path;
use std::process::Command;

use rocket_launching::config::{Activation, HiddenConfig};
use rocket_launching::interchange::{to_onnx, to_safetensors};
use rocket_launching::serving::ServedModel;
use serde_json::{Map, Value, json};
use serving_support::every_kind::{request, snapshot};
use serving_support::{Snapshot, TIME};

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
