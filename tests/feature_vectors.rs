//! The hash of features is a contract with servers in other languages and with every snapshot already published: these values never
//! change. The literals were computed with the reference implementation of XXH3 (the C library), not with this program.

use rocket_launching::config::{FeatureConfig, FeatureKind, Pooling, SchemaConfig, TimeUnit};
use rocket_launching::domain::{EventTime, Field, ImpressionId, Origin, PartitionIndex, Record, Role};
use rocket_launching::features::{Counts, FeatureSpec, Features, click_rate_inputs, joint_key, slot_key};
use rocket_launching::wire::snapshot::schema_hash;
use rocket_launching::wire::{Decoded, EventDecoder};
use serde_json::{Map, Value, json};

fn vectors() -> Value {
    serde_json::from_str(include_str!("fixtures/feature_vectors.json")).expect("JSON")
}

fn list<'a>(vectors: &'a Value, name: &str) -> &'a [Value] {
    vectors[name].as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn key(value: &Value) -> u64 {
    u64::from_str_radix(text(value).trim_start_matches("0x"), 16).expect("a key")
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number") as f32).collect()
}

fn close(found: &[f32], expected: &[f32]) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 2e-6 * b.abs().max(1.0))
}

#[test]
fn the_keys_that_are_written_down() {
    let vectors = vectors();
    for said in list(&vectors, "slot_keys") {
        assert_eq!(slot_key(text(&said["table"]), text(&said["value"])), key(&said["key"]), "{said}");
    }
    for said in list(&vectors, "joint_keys") {
        assert_eq!(joint_key(text(&said["name"]), said["keys"].as_array().expect("a list").iter().map(key)), key(&said["key"]), "{said}");
    }
}

#[test]
fn the_texts_that_values_are_known_by() {
    let vectors = vectors();
    let schema = SchemaConfig::labelled(vec![FeatureConfig::new("f", FeatureKind::Categorical)]);
    let (decoder, empty) = (EventDecoder::new(&schema), Map::new());
    let fields = |value: &Value| decoder.fields(&empty, json!({ "f": value }).as_object().expect("an object"));
    for said in list(&vectors, "texts") {
        assert_eq!(fields(&said["value"]).expect("a category")[..], [Field::Text(text(&said["text"]).into())], "{said}");
    }
    for value in list(&vectors, "refused") {
        assert!(fields(value).is_err(), "{value}");
    }
}

#[test]
fn the_inputs_of_click_rates() {
    let vectors = vectors();
    for said in list(&vectors, "click_rates") {
        let counts = |name: &str| match numbers(&said[name])[..] {
            [impressions, clicks] => Counts { impressions, clicks },
            _ => panic!("{said}"),
        };
        let found = click_rate_inputs(counts("counts"), counts("stream"), said["prior"].as_f64().expect("a number") as f32);
        assert!(close(&found, &numbers(&said["inputs"])), "{found:?}: {said}");
    }
}

#[test]
fn the_examples_of_every_kind_of_feature() {
    let vectors = vectors();
    let schema: SchemaConfig = serde_json::from_value(vectors["schema"].clone()).expect("a good schema");
    let (decoder, spec) = (EventDecoder::new(&schema), FeatureSpec::new(&schema).expect("a good schema").for_serving());
    let mut found = Features::default();
    for said in list(&vectors, "examples") {
        let fields = decoder.fields(&Map::new(), said["columns"].as_object().expect("an object")).expect("good columns");
        spec.extract(EventTime(said["time_ms"].as_i64().expect("a time")), &fields, &mut found);
        let slots: Vec<Vec<u64>> =
            list(said, "slots").iter().map(|ids| ids.as_array().expect("a list").iter().map(key).collect()).collect();
        let split: Vec<&[u64]> = found.bounds.windows(2).map(|ends| &found.ids[ends[0] as usize..ends[1] as usize]).collect();
        assert_eq!(split, slots, "{said}");
        assert_eq!(found.click_rates, list(said, "click_rates").iter().map(key).collect::<Vec<_>>(), "{said}");
        assert!(close(&found.numbers, &numbers(&said["numbers"])), "{:?}: {said}", found.numbers);
    }
}

#[test]
fn keys_of_slots() {
    let long = "x".repeat(300);
    for (slot, value, key) in [
        ("user_id", "u1", 0x9664_12e9_9dc9_8502),
        ("user_id", "5", 0x124b_7191_74d4_f5f0),
        ("item_id", "5", 0x4b21_ebb8_a446_83f8),
        ("price", "0", 0xf8e6_056a_d27c_a822),
        ("hour", "23", 0x04b5_72cd_047d_7b77),
        ("tags", "žluťoučký", 0x5f21_7cce_7f7e_59f2),
        ("tags", "", 0x5669_0df7_64fa_a526),
        ("long", &long, 0xdf55_ad87_b3e1_23c1),
    ] {
        assert_eq!(slot_key(slot, value), key, "{slot} {value}");
    }
}

/// Keys at their default are not written: a schema that does not use a new one keeps its hash.
#[test]
fn the_hash_of_a_schema_and_the_keys_of_a_shared_table() {
    let mut schema = SchemaConfig {
        time: "ts".to_owned(),
        time_unit: TimeUnit::Ms,
        user: "user_id".to_owned(),
        item: "item_id".to_owned(),
        label: "label".to_owned(),
        impression: None,
        features: vec![
            FeatureConfig::new("item_id", FeatureKind::Categorical),
            FeatureConfig::new("clicked", FeatureKind::Bag { pooling: Pooling::Mean, separator: ",".to_owned(), last: Some(2) }),
        ],
    };
    assert_eq!(schema_hash(&schema), "1dda862df7b2d44232c6f42a42b486e699204060270329c38314b2617091b2f2");
    schema.features[1].table = Some("item_id".to_owned());
    let mut features = Features::default();
    let fields = [Field::Text("5".into()), Field::List(["7".into(), "5".into()].into())];
    FeatureSpec::new(&schema).expect("a good schema").extract(EventTime(0), &fields, &mut features);
    assert_eq!((features.ids[0], features.ids[2]), (0x4b21_ebb8_a446_83f8, 0x4b21_ebb8_a446_83f8));
}

#[test]
fn an_event_to_ids_and_numbers() {
    let feature = |name: &str, kind| FeatureConfig::new(name, kind);
    let schema = SchemaConfig {
        time: "ts".to_owned(),
        time_unit: TimeUnit::Ms,
        user: "user_id".to_owned(),
        item: "item_id".to_owned(),
        label: "label".to_owned(),
        impression: Some("impression".to_owned()),
        features: vec![
            feature("user_id", FeatureKind::Categorical),
            feature("item_id", FeatureKind::Categorical),
            feature("price", FeatureKind::Buckets { bounds: vec![10.0, 20.0] }),
            feature("tags", FeatureKind::Bag { pooling: Pooling::Mean, separator: ",".to_owned(), last: None }),
            feature("hour", FeatureKind::Hour),
            feature("age", FeatureKind::Standardise { mean: 30.0, std: 4.0 }),
        ],
    };
    let json = r#"{"ts": 86399999, "user_id": "u1", "item_id": 5.0, "label": 1, "impression": "i-1",
                   "price": 9.5, "tags": " žluťoučký ,", "age": 31}"#;
    let record = Record {
        origin: Origin { partition: PartitionIndex(0), offset: 0 },
        role: Role::Labelled,
        key: None,
        payload: Some(json.as_bytes().to_vec()),
        timestamp_ms: None,
    };
    let Ok(Decoded::Event(event)) = EventDecoder::new(&schema).decode(&record) else { panic!("a whole event") };
    assert_eq!(event.impression, Some(ImpressionId(0xe35a_6031_646d_4784_c5c0_a85a_e4fc_3529)));
    assert_eq!(event.time, EventTime(86_399_999));

    let mut features = Features::default();
    FeatureSpec::new(&schema).expect("a good schema").extract(event.time, &event.fields, &mut features);
    let keys = [0x9664_12e9_9dc9_8502, 0x4b21_ebb8_a446_83f8, 0xf8e6_056a_d27c_a822, 0x5f21_7cce_7f7e_59f2, 0x04b5_72cd_047d_7b77];
    assert_eq!(features.ids, keys);
    assert_eq!(features.bounds, [0, 1, 2, 3, 4, 5]);
    assert_eq!(features.numbers, [0.25]);
}
