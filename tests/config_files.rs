//! The files under `config/` load, and production.toml tells the truth: every key is in it, with the default the program has.

use std::path::{Path, PathBuf};

use rocket_launching::config::{Config, StreamMode, load, parse};
use rocket_launching::features::FeatureSpec;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn loaded(file: &str) -> Config {
    load(&folder().join(file), std::iter::empty()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_file_loads_and_its_features_can_be_built() {
    let mut files = 0;
    for entry in std::fs::read_dir(folder()).expect("config/ is there") {
        let path = entry.expect("readable").path();
        let config = load(&path, std::iter::empty()).unwrap_or_else(|error| panic!("{error}"));
        FeatureSpec::new(&config.schema).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        files += 1;
    }
    assert!(files >= 4, "{files} files");
}

#[test]
fn paper_has_the_published_shapes() {
    let config = loaded("paper.toml");
    let spec = FeatureSpec::new(&config.schema).expect("a good schema");
    assert_eq!(spec.inputs(config.model.embedding.dim), 576);
    assert_eq!(config.model.light, [200, 80]);
    assert_eq!(config.model.booster, [720, 360, 240, 180, 90]);
}

/// The paper's nets end in two logits, ours in one: its counts are ours and the last hidden width more. For the booster it prints 837,900;
/// the layers that it names make 819,900.
#[test]
#[cfg(feature = "trainer")]
fn paper_costs_what_was_published() {
    use rocket_launching::domain::Head;
    use rocket_launching::nets::Layout;

    let config = loaded("paper.toml");
    let layout = Layout::new(&config.model, config.train.heads, 576);
    let two_logits = |head, last_width| layout.multiplications(head).expect("the head is there") + last_width;
    assert_eq!(layout.multiplications(Head::Light), Some(131_280));
    assert_eq!(two_logits(Head::Light, 80), 131_360);
    assert_eq!(layout.multiplications(Head::Booster), Some(819_810));
    assert_eq!(two_logits(Head::Booster, 90), 819_900);
}

#[test]
fn demo_joins_and_has_a_control_head() {
    let config = loaded("demo.toml");
    assert_eq!(config.topics.mode, StreamMode::Joined);
    assert!(config.model.control);
}

#[test]
fn no_public_data_feature_reads_what_is_known_after_the_click() {
    for file in ["kuairand.toml", "kuairand-top-users.toml"] {
        for feature in &loaded(file).schema.features {
            let leaks = feature.column().is_some_and(|column| ["label", "long_view", "is_like"].contains(&column));
            assert!(!leaks, "{file}: {}", feature.name);
        }
    }
}

#[test]
fn production_lists_every_key_with_its_default() {
    let text = std::fs::read_to_string(folder().join("production.toml")).expect("readable");
    let minimal = "name = \"a\"\n[schema]\ntime = \"t\"\nuser = \"u\"\nitem = \"i\"\nfeatures = [{ name = \"i\", kind = \"categorical\" }]";
    let defaults = serde_json::to_value(parse(minimal, "minimal", std::iter::empty()).expect("a good config")).expect("JSON");

    let mut keys = Vec::new();
    flatten("", &defaults, &mut keys);
    assert!(keys.len() > 60, "{} keys", keys.len());
    for (key, default) in keys {
        let written = written_default(&text, &key).unwrap_or_else(|| panic!("production.toml lacks `{key}`"));
        if ["name", "schema.time", "schema.user", "schema.item", "schema.features"].contains(&key.as_str()) {
            assert!(written.contains("Needed, no default."), "{key}: {written}");
            continue;
        }
        let (_, written) =
            written.rsplit_once("Default: ").unwrap_or_else(|| panic!("`{key}` has no `Default: ` in its comment: {written}"));
        if default.is_null() {
            assert_eq!(written, "none", "{key}");
            continue;
        }
        let value: toml::Value = written.parse().unwrap_or_else(|error| panic!("`{key}`, default {written}: {error}"));
        assert!(same(&serde_json::to_value(value).expect("JSON"), &default), "`{key}`: the file says {written}, the program {default}");
    }
}

/// Leaves of the tree; `kafka.properties` and lists are leaves.
fn flatten(prefix: &str, value: &Value, into: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(section) if prefix != "kafka.properties" => {
            for (key, value) in section {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, into);
            }
        }
        _ => into.push((prefix.to_owned(), value.clone())),
    }
}

/// The comment right above a key, on one line; the key itself may be commented out.
fn written_default(text: &str, key: &str) -> Option<String> {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let mut current = String::new();
    let mut comment = String::new();
    for line in text.lines() {
        let body = line.strip_prefix("# ").unwrap_or(line);
        if body.starts_with(&format!("{name} = ")) && current == section {
            return Some(comment.trim().to_owned());
        }
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            header.clone_into(&mut current);
        } else if let Some(words) = line.strip_prefix("# ") {
            comment.push_str(words);
            comment.push(' ');
            continue;
        }
        comment.clear();
    }
    None
}

/// Numbers by value (f32 defaults have a longer double), durations by what they read as.
fn same(written: &Value, default: &Value) -> bool {
    match (written, default) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            (a - b).abs() <= 1e-6 * b.abs()
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => written == default,
    }
}
