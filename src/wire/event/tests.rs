use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::{FeatureConfig, Pooling};
use crate::domain::{Origin, PartitionIndex};

fn schema(time_unit: TimeUnit) -> SchemaConfig {
    let feature =
        |name: &str, column: Option<&str>, kind| FeatureConfig { column: column.map(Into::into), ..FeatureConfig::new(name, kind) };
    SchemaConfig {
        time: "ts".into(),
        time_unit,
        user: "user".into(),
        item: "item".into(),
        label: "label".into(),
        impression: Some("imp".into()),
        features: vec![
            feature("item", None, FeatureKind::Categorical),
            feature("tags", None, FeatureKind::Bag { pooling: Pooling::Mean, separator: "|".into(), last: None }),
            feature("price", None, FeatureKind::Log1p),
            feature("price_bucket", Some("price"), FeatureKind::Buckets { bounds: vec![1.0] }),
            feature("hour", None, FeatureKind::Hour),
        ],
    }
}

fn decode_bytes(payload: &[u8], role: Role) -> Result<Event, DecodeError> {
    let origin = Origin { partition: PartitionIndex(3), offset: 17 };
    let record = Record { origin, role, key: None, payload: Some(payload.to_vec()), timestamp_ms: None };
    match EventDecoder::new(&schema(TimeUnit::Ms)).decode(&record)? {
        Decoded::Event(event) => Ok(event),
        Decoded::Tombstone => panic!("has a payload"),
    }
}

fn decode(value: &Value, role: Role) -> Result<Event, DecodeError> {
    decode_bytes(value.to_string().as_bytes(), role)
}

fn whole() -> Value {
    json!({"ts": 1000, "user": "u1", "item": 7, "label": 1, "imp": "i-1", "tags": ["a", 2, null, ""], "price": 1.5, "other": {"x": [1]}})
}

fn with(column: &str, value: Value) -> Value {
    let mut event = whole();
    event[column] = value;
    event
}

#[test]
fn a_labelled_event() {
    let event = decode(&whole(), Role::Labelled).unwrap();
    assert_eq!(event.origin, Origin { partition: PartitionIndex(3), offset: 17 });
    assert_eq!((event.time, &*event.user.0, event.label), (EventTime(1000), "u1", Some(true)));
    assert_eq!(event.impression, Some(ImpressionId(xxh3_128(b"i-1"))));
    let fields =
        [Field::Text("7".into()), Field::List(["a".into(), "2".into()].into()), Field::Number(1.5), Field::Number(1.5), Field::Missing];
    assert_eq!(*event.fields, fields);
}

#[test]
fn each_role_needs_its_columns_and_no_others() {
    for (role, needed, spared) in [
        (Role::Labelled, ["ts", "user", "item", "label"].as_slice(), ["imp", "tags", "price"].as_slice()),
        (Role::Impression, &["ts", "user", "item", "imp"], &["label", "tags", "price"]),
        (Role::Click, &["ts", "imp"], &["user", "item", "label", "tags", "price"]),
    ] {
        for column in needed {
            for missing in [Value::Null, json!("")] {
                let error = decode(&with(column, missing), role).unwrap_err();
                assert_eq!(error, DecodeError::MissingColumn((*column).to_owned()), "{role:?}");
            }
        }
        for column in spared {
            assert!(decode(&with(column, Value::Null), role).is_ok(), "{role:?} {column}");
        }
    }
    let click = decode(&with("price", json!("not a number")), Role::Click).unwrap();
    assert_eq!((&*click.user.0, click.label, click.fields.len()), ("", None, 0));
}

#[test]
fn a_record_without_a_value_is_a_tombstone() {
    let origin = Origin { partition: PartitionIndex(0), offset: 0 };
    let record = Record { origin, role: Role::Labelled, key: None, payload: None, timestamp_ms: None };
    assert_eq!(EventDecoder::new(&schema(TimeUnit::Ms)).decode(&record), Ok(Decoded::Tombstone));
}

#[test]
fn labels_come_in_several_spellings() {
    for (value, label) in [
        (json!(true), true),
        (json!(false), false),
        (json!(1), true),
        (json!(0), false),
        (json!(1.0), true),
        (json!("1"), true),
        (json!("0"), false),
        (json!("1.0"), true),
        (json!("true"), true),
        (json!("false"), false),
    ] {
        assert_eq!(decode(&with("label", value), Role::Labelled).unwrap().label, Some(label));
    }
    for value in [json!(2), json!("yes"), json!(0.5), json!([1]), json!(-1)] {
        assert_eq!(decode(&with("label", value), Role::Labelled).unwrap_err().class(), "DecodeError::WrongType");
    }
}

#[test]
fn numbers_and_texts_of_one_id_are_one() {
    for value in [json!(7), json!(7.0), json!("7")] {
        let event = decode(&with("item", value.clone()), Role::Labelled).unwrap();
        assert_eq!(event.fields[0], Field::Text("7".into()), "{value}");
    }
    let big = decode(&with("item", json!(u64::MAX)), Role::Labelled).unwrap();
    assert_eq!(big.fields[0], Field::Text("18446744073709551615".into()));
    for (value, text) in [(json!(0.1), "0.1"), (json!(-2), "-2"), (json!(-0.0), "0"), (json!(true), "true"), (json!("7.0"), "7.0")] {
        let tags = decode(&with("tags", json!([value])), Role::Labelled).unwrap();
        assert_eq!(tags.fields[1], Field::List([text.into()].into()), "{value}");
    }
    for value in [json!(7.5), json!(true), json!([7]), json!({"id": 7}), json!(1e300), json!(9_007_199_254_740_992.0)] {
        assert_eq!(decode(&with("user", value), Role::Labelled).unwrap_err().class(), "DecodeError::WrongType");
    }
}

#[test]
fn numbers_come_as_text_and_are_finite() {
    assert_eq!(decode(&with("price", json!(" 2.5 ")), Role::Labelled).unwrap().fields[2], Field::Number(2.5));
    assert_eq!(decode(&with("price", json!("")), Role::Labelled).unwrap().fields[2], Field::Missing);
    for value in [json!("NaN"), json!("inf"), json!("1e999"), json!("x"), json!(true), json!([1])] {
        assert_eq!(decode(&with("price", value), Role::Labelled).unwrap_err().class(), "DecodeError::WrongType");
    }
    assert_eq!(decode_bytes(br#"{"price":1e999}"#, Role::Labelled).unwrap_err().class(), "DecodeError::NotJson");
}

#[test]
fn bags_come_as_lists_or_separated_text() {
    let tags = |value| decode(&with("tags", value), Role::Labelled).map(|event| event.fields[1].clone());
    let expected = Field::List(["a".into(), "b c".into()].into());
    assert_eq!(tags(json!(["a", "b c"])), Ok(expected.clone()));
    assert_eq!(tags(json!(" a |b c||")), Ok(expected));
    assert_eq!(tags(json!(5)), Ok(Field::List(["5".into()].into())));
    assert_eq!(tags(json!([])), Ok(Field::Missing));
    assert_eq!(tags(json!(" | ")), Ok(Field::Missing));
    assert!(tags(json!([["a"]])).is_err());
    assert!(tags(json!({"a": 1})).is_err());
}

#[test]
fn sizes_have_bounds() {
    let long = "x".repeat(TEXT_BYTES_MAX);
    for column in ["user", "item", "imp", "tags"] {
        assert!(decode(&with(column, json!(long)), Role::Labelled).is_ok());
        let error = decode(&with(column, json!(format!("{long}x"))), Role::Labelled).unwrap_err();
        assert!(matches!(&error, DecodeError::WrongType { column: named, .. } if named == column), "{error}");
        let message = error.to_string();
        assert!(message.contains(&TEXT_BYTES_MAX.to_string()) && message.len() < 300, "{message}");
    }
    let many = vec!["t"; LIST_VALUES_MAX];
    assert!(decode(&with("tags", json!(many)), Role::Labelled).is_ok());
    assert!(decode(&with("tags", json!(many.join("|"))), Role::Labelled).is_ok());
    for tags in [json!([many.clone(), vec!["t"]].concat()), json!(format!("{}|t", many.join("|")))] {
        let error = decode(&with("tags", tags), Role::Labelled).unwrap_err();
        assert!(error.to_string().contains(&LIST_VALUES_MAX.to_string()), "{error}");
    }
    let huge = with("other", json!("x".repeat(EVENT_BYTES_MAX)));
    assert_eq!(decode(&huge, Role::Labelled).unwrap_err().class(), "DecodeError::TooLong");
}

#[test]
fn a_schema_column_that_stands_twice_is_refused() {
    let twice = br#"{"ts":1,"user":"u","item":1,"label":0,"label":1}"#;
    assert_eq!(decode_bytes(twice, Role::Labelled).unwrap_err(), DecodeError::DuplicateColumn("label".into()));
    let other = br#"{"ts":1,"user":"u","item":1,"label":0,"note":1,"note":2}"#;
    assert!(decode_bytes(other, Role::Labelled).is_ok());
}

#[test]
fn times_come_in_the_schema_s_unit() {
    for (unit, value, ms) in [
        (TimeUnit::Ms, json!(1_650_813_611_015i64), Some(1_650_813_611_015)),
        (TimeUnit::Ms, json!("1650813611015"), Some(1_650_813_611_015)),
        (TimeUnit::S, json!(1_650_813_611), Some(1_650_813_611_000)),
        (TimeUnit::S, json!(1_650_813_611.015), Some(1_650_813_611_015)),
        (TimeUnit::Us, json!(1_650_813_611_015_999i64), Some(1_650_813_611_015)),
        (TimeUnit::Rfc3339, json!("2022-04-24T15:20:11.015Z"), Some(1_650_813_611_015)),
        (TimeUnit::Rfc3339, json!(1_650_813_611_015i64), None),
        (TimeUnit::Ms, json!(1_650_813_611_015_999i64), None),
        (TimeUnit::Ms, json!(-1), None),
        (TimeUnit::Ms, json!(1e300), None),
        (TimeUnit::S, json!(u64::MAX), None),
        (TimeUnit::Ms, json!("yesterday"), None),
        (TimeUnit::Ms, json!([1]), None),
    ] {
        let origin = Origin { partition: PartitionIndex(0), offset: 0 };
        let payload = Some(with("ts", value.clone()).to_string().into_bytes());
        let record = Record { origin, role: Role::Click, key: None, payload, timestamp_ms: None };
        let time = match EventDecoder::new(&schema(unit)).decode(&record) {
            Ok(Decoded::Event(event)) => Some(event.time.0),
            Ok(Decoded::Tombstone) => panic!("has a payload"),
            Err(error) => {
                assert!(error.to_string().contains("`ts`"), "{error}");
                None
            }
        };
        assert_eq!(time, ms, "{unit:?} {value}");
    }
}

#[test]
fn scoring_reads_both_objects_as_events_are_read() {
    let decoder = EventDecoder::new(&schema(TimeUnit::Ms));
    let object = |value: Value| value.as_object().unwrap().clone();
    let context = object(json!({"item": "no", "price": "3", "user": "u"}));
    let item = object(json!({"item": 9, "tags": "a|b"}));
    let fields = decoder.fields(&context, &item).unwrap();
    let expected =
        [Field::Text("9".into()), Field::List(["a".into(), "b".into()].into()), Field::Number(3.0), Field::Number(3.0), Field::Missing];
    assert_eq!(*fields, expected);
    let error = decoder.fields(&object(json!({"price": "dear"})), &item).unwrap_err();
    assert_eq!(error.to_string(), "column `price` is \"dear\"; expected a finite number");

    let event = whole();
    let same = decoder.fields(&serde_json::Map::new(), event.as_object().unwrap()).unwrap();
    assert_eq!(same, decode(&event, Role::Labelled).unwrap().fields);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_bytes(&bytes, Role::Labelled);
    }

    #[test]
    fn no_object_panics(
        values in proptest::collection::vec(prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            proptest::num::f64::ANY.prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            proptest::collection::vec("[a-c|]{0,3}", 0..4).prop_map(Value::from),
        ], 7),
        role in prop_oneof![Just(Role::Labelled), Just(Role::Impression), Just(Role::Click)],
    ) {
        let names = ["ts", "user", "item", "label", "imp", "tags", "price"];
        let object: serde_json::Map<_, _> = names.iter().map(|name| (*name).to_owned()).zip(values).collect();
        if let Ok(event) = decode(&Value::Object(object), role) {
            prop_assert!((0..=TIME_MS_MAX).contains(&event.time.0));
            prop_assert!(event.fields.iter().all(|field| !matches!(field, Field::Number(x) if !x.is_finite())));
        }
    }

    #[test]
    fn an_event_is_the_same_in_every_format(
        values in proptest::collection::vec(prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..2i64).prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            proptest::num::f64::ANY.prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            "-?[0-9]{1,3}(\\.[0-9]{1,3})?".prop_map(Value::from),
            proptest::collection::vec(prop_oneof![Just(Value::Null), "[a-c|]{0,3}".prop_map(Value::from), any::<i32>().prop_map(Value::from)], 0..4)
                .prop_map(Value::from),
        ], 7),
        bad in any::<prop::sample::Index>(),
        role in prop_oneof![Just(Role::Labelled), Just(Role::Impression), Just(Role::Click)],
    ) {
        // One column that may be anything, the others good: else most events are refused for the first of them.
        let names = ["ts", "user", "item", "label", "imp", "tags", "price"];
        let mut event = whole();
        let place = bad.index(names.len());
        event[names[place]] = values[place].clone();
        let in_format = |format| {
            let payload = encode(format, event.as_object().unwrap());
            let origin = Origin { partition: PartitionIndex(3), offset: 17 };
            let record = Record { origin, role, key: None, payload: Some(payload), timestamp_ms: None };
            EventDecoder::new(&schema(TimeUnit::Ms)).reading(format).decode(&record)
        };
        match (in_format(EventFormat::Json), in_format(EventFormat::Protobuf)) {
            (Err(json), Err(protobuf)) => {
                prop_assert_eq!(json.class(), protobuf.class());
                // What was found is told as the format has it.
                let column = |error: &DecodeError| error.to_string().split('`').nth(1).map(str::to_owned);
                prop_assert_eq!(column(&json), column(&protobuf));
            }
            (json, protobuf) => prop_assert_eq!(json, protobuf),
        }
    }

    #[test]
    fn a_cut_event_is_an_error(cut in 0usize..100) {
        let text = whole().to_string();
        let cut = cut.min(text.len() - 1);
        prop_assert!(decode_bytes(&text.as_bytes()[..cut], Role::Labelled).is_err());
    }
}

#[test]
fn an_event_dated_after_its_record_is_refused_beyond_what_is_allowed() {
    let decoder = EventDecoder::new(&schema(TimeUnit::Ms)).refusing_ahead(Span::from_secs(60));
    let event = json!({ "ts": 1_000_000, "user": "u", "item": "i", "label": 1 }).to_string();
    let decode = |timestamp_ms| {
        let origin = Origin { partition: PartitionIndex(0), offset: 0 };
        let payload = Some(event.clone().into_bytes());
        decoder.decode(&Record { origin, role: Role::Labelled, key: None, payload, timestamp_ms }).map(drop)
    };
    for allowed in [None, Some(-1), Some(2_000_000), Some(1_000_000), Some(940_000)] {
        assert_eq!(decode(allowed), Ok(()), "{allowed:?}");
    }
    assert_eq!(decode(Some(939_999)), Err(DecodeError::Ahead { ahead_ms: 60_001, allowed_ms: 60_000 }));
}
