use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_128;

use super::columns::{Columns, Raw};
use crate::config::{FeatureKind, SchemaConfig, TimeUnit};
use crate::domain::{Event, EventTime, Field, ImpressionId, Label, Record, Role, UserId};

/// Longest event record, as long as Kafka's own default limit for a message.
pub const EVENT_BYTES_MAX: usize = 1 << 20;
/// Most values in one bag: beyond it a broken producer is likelier than a real event.
pub const LIST_VALUES_MAX: usize = 1024;
/// Longest id or categorical value in bytes: user ids are keys of the store, and a longer value is a document, not an id.
pub const TEXT_BYTES_MAX: usize = 4096;
/// 9999-12-31T23:59:59.999Z, the last time RFC 3339 can write. Microseconds read as milliseconds lie beyond it.
const TIME_MS_MAX: i64 = 253_402_300_799_999;

const ID: &str = "an id: text of at most 4096 bytes, or an integer";
const CATEGORY: &str = "a category: text of at most 4096 bytes, a number below 2^53, or true or false";
const LIST: &str = "a list of at most 1024 categories of at most 4096 bytes each, or text that separates them";
const NUMBER: &str = "a finite number";
const LABEL: &str = "a label: 0, 1, true or false";

/// Why an event cannot be used. Its text goes into the dead letter's headers; it names the column, the value and what is allowed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not a JSON object.
    #[error("not a JSON object: {0}")]
    NotJson(String),
    /// Longer than [`EVENT_BYTES_MAX`].
    #[error("a record of {0} bytes; at most {EVENT_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A column of the schema stands in the object twice; which one counts would be a guess.
    #[error("column `{0}` stands in the object twice")]
    DuplicateColumn(String),
    /// A column the schema needs is absent, null or empty.
    #[error("column `{0}` is missing")]
    MissingColumn(String),
    /// A column holds something else than the schema says.
    #[error("column `{column}` is {found}; expected {expected}")]
    WrongType {
        /// Column.
        column: String,
        /// What was found, shortened.
        found: String,
        /// What the schema says.
        expected: &'static str,
    },
}

impl DecodeError {
    /// The class name in dead letters and metrics; stable.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            DecodeError::NotJson(_) => "DecodeError::NotJson",
            DecodeError::TooLong(_) => "DecodeError::TooLong",
            DecodeError::DuplicateColumn(_) => "DecodeError::DuplicateColumn",
            DecodeError::MissingColumn(_) => "DecodeError::MissingColumn",
            DecodeError::WrongType { .. } => "DecodeError::WrongType",
        }
    }
}

/// What a record is.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// An event.
    Event(Event),
    /// A record without a value.
    Tombstone,
}

/// Decodes events as a schema says.
#[derive(Debug, Clone)]
pub struct EventDecoder {
    columns: Columns,
    time: usize,
    time_unit: TimeUnit,
    user: usize,
    item: usize,
    label: usize,
    impression: Option<usize>,
    features: Vec<Shape>,
}

/// What one feature's column has to hold.
#[derive(Debug, Clone)]
enum Shape {
    Category {
        column: usize,
    },
    List {
        column: usize,
        separator: String,
    },
    Number {
        column: usize,
    },
    /// Made of the event time; no column.
    Time,
}

impl EventDecoder {
    /// For this schema.
    #[must_use]
    pub fn new(schema: &SchemaConfig) -> Self {
        let mut columns = Columns::default();
        let features = schema
            .features
            .iter()
            .map(|feature| match &feature.kind {
                FeatureKind::Categorical => Shape::Category { column: columns.number(feature.column()) },
                FeatureKind::Bag { separator, .. } => {
                    Shape::List { column: columns.number(feature.column()), separator: separator.clone() }
                }
                FeatureKind::Log1p | FeatureKind::Standardise { .. } | FeatureKind::Buckets { .. } => {
                    Shape::Number { column: columns.number(feature.column()) }
                }
                FeatureKind::Hour => Shape::Time,
            })
            .collect();
        EventDecoder {
            time: columns.number(&schema.time),
            time_unit: schema.time_unit,
            user: columns.number(&schema.user),
            item: columns.number(&schema.item),
            label: columns.number(&schema.label),
            impression: schema.impression.as_deref().map(|name| columns.number(name)),
            features,
            columns,
        }
    }

    /// Decodes one record. Numbers may come as JSON numbers or text; lists as arrays or separated text; ids as text or integers.
    ///
    /// | role | needed | read where there |
    /// |---|---|---|
    /// | labelled | time, user, item, label | impression, features |
    /// | impression | time, user, item, impression | features |
    /// | click | time, impression | – |
    ///
    /// # Errors
    /// [`DecodeError`]: the record belongs to the dead letters.
    pub fn decode(&self, record: &Record) -> Result<Decoded, DecodeError> {
        let Some(payload) = &record.payload else { return Ok(Decoded::Tombstone) };
        if payload.len() > EVENT_BYTES_MAX {
            return Err(DecodeError::TooLong(payload.len()));
        }
        let row = self.columns.read(payload).map_err(|e| DecodeError::NotJson(e.to_string()))?;
        if let Some(column) = row.twice {
            return Err(DecodeError::DuplicateColumn(self.columns.name(column).to_owned()));
        }
        let values: Vec<&Raw<'_>> = row.values.iter().collect();
        let time = self.time(&values)?;
        let impression = self.impression(&values, record.role)?;
        let (user, label, fields) = match record.role {
            Role::Click => (UserId("".into()), None, Box::default()),
            Role::Impression => (self.viewer(&values)?, None, self.all_fields(&values)?),
            Role::Labelled => (self.viewer(&values)?, Some(self.label(&values)?), self.all_fields(&values)?),
        };
        Ok(Decoded::Event(Event { origin: record.origin, role: record.role, time, impression, user, label, fields }))
    }

    /// The fields of one candidate or user for scoring: columns from both objects, `item` winning; absent columns are [`Field::Missing`].
    ///
    /// # Errors
    /// [`DecodeError`] for columns of a wrong type.
    pub fn fields(
        &self,
        context: &serde_json::Map<String, serde_json::Value>,
        item: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Box<[Field]>, DecodeError> {
        let value = |column: usize| {
            let name = self.columns.name(column);
            item.get(name).or_else(|| context.get(name)).map_or(Raw::Null, Raw::from)
        };
        self.features
            .iter()
            .map(|shape| match shape {
                Shape::Time => Ok(Field::Missing),
                Shape::Category { column } | Shape::List { column, .. } | Shape::Number { column } => self.field(shape, &value(*column)),
            })
            .collect()
    }

    fn all_fields(&self, values: &[&Raw<'_>]) -> Result<Box<[Field]>, DecodeError> {
        self.features
            .iter()
            .map(|shape| match shape {
                Shape::Time => Ok(Field::Missing),
                Shape::Category { column } | Shape::List { column, .. } | Shape::Number { column } => self.field(shape, values[*column]),
            })
            .collect()
    }

    fn field(&self, shape: &Shape, raw: &Raw<'_>) -> Result<Field, DecodeError> {
        if raw.is_missing() {
            return Ok(Field::Missing);
        }
        match shape {
            Shape::Time => Ok(Field::Missing),
            Shape::Category { column } => match category(raw) {
                Some(text) => Ok(Field::Text(text.into())),
                None => Err(self.wrong(*column, raw, CATEGORY)),
            },
            Shape::Number { column } => raw.number().map(Field::Number).ok_or_else(|| self.wrong(*column, raw, NUMBER)),
            Shape::List { column, separator } => {
                let values = list(raw, separator).ok_or_else(|| self.wrong(*column, raw, LIST))?;
                Ok(if values.is_empty() { Field::Missing } else { Field::List(values.into()) })
            }
        }
    }

    fn time(&self, values: &[&Raw<'_>]) -> Result<EventTime, DecodeError> {
        let raw = self.needed(values, self.time)?;
        match time_ms(raw, self.time_unit).filter(|ms| (0..=TIME_MS_MAX).contains(ms)) {
            Some(ms) => Ok(EventTime(ms)),
            None => Err(self.wrong(self.time, raw, time_expected(self.time_unit))),
        }
    }

    fn impression(&self, values: &[&Raw<'_>], role: Role) -> Result<Option<ImpressionId>, DecodeError> {
        let optional = role == Role::Labelled;
        match self.impression {
            None if optional => Ok(None),
            None => Err(DecodeError::MissingColumn("schema.impression".to_owned())),
            Some(column) if optional && values[column].is_missing() => Ok(None),
            Some(column) => Ok(Some(ImpressionId(xxh3_128(self.id(values, column)?.as_bytes())))),
        }
    }

    fn viewer(&self, values: &[&Raw<'_>]) -> Result<UserId, DecodeError> {
        self.id(values, self.item)?;
        Ok(UserId(self.id(values, self.user)?.into()))
    }

    fn label(&self, values: &[&Raw<'_>]) -> Result<Label, DecodeError> {
        let raw = self.needed(values, self.label)?;
        let label = match raw {
            Raw::Bool(label) => Some(*label),
            Raw::Text(text) => match text.trim() {
                "1" | "true" => Some(true),
                "0" | "false" => Some(false),
                _ => None,
            },
            _ => match raw.number() {
                Some(1.0) => Some(true),
                Some(0.0) => Some(false),
                _ => None,
            },
        };
        label.ok_or_else(|| self.wrong(self.label, raw, LABEL))
    }

    fn id<'r>(&self, values: &[&'r Raw<'_>], column: usize) -> Result<Cow<'r, str>, DecodeError> {
        let raw = self.needed(values, column)?;
        let whole = match raw {
            Raw::Bool(_) => false,
            Raw::Float(x) => x.fract() == 0.0,
            _ => true,
        };
        category(raw).filter(|_| whole).ok_or_else(|| self.wrong(column, raw, ID))
    }

    fn needed<'r, 'a>(&self, values: &[&'r Raw<'a>], column: usize) -> Result<&'r Raw<'a>, DecodeError> {
        let raw = values[column];
        if raw.is_missing() { Err(DecodeError::MissingColumn(self.columns.name(column).to_owned())) } else { Ok(raw) }
    }

    fn wrong(&self, column: usize, raw: &Raw<'_>, expected: &'static str) -> DecodeError {
        DecodeError::WrongType { column: self.columns.name(column).to_owned(), found: raw.describe(), expected }
    }
}

fn category<'r>(raw: &'r Raw<'_>) -> Option<Cow<'r, str>> {
    raw.canonical().filter(|text| text.len() <= TEXT_BYTES_MAX)
}

/// The values of a bag; `None` if it has too many, or values that no category can be.
fn list(raw: &Raw<'_>, separator: &str) -> Option<Vec<Box<str>>> {
    let values: Vec<Box<str>> = match raw {
        Raw::List(values) if values.len() > LIST_VALUES_MAX => return None,
        Raw::List(values) => {
            values.iter().filter(|value| !value.is_missing()).map(|value| category(value).map(Into::into)).collect::<Option<_>>()?
        }
        Raw::Text(text) => {
            let parts = text.split(separator).map(str::trim).filter(|part| !part.is_empty());
            let values: Vec<Box<str>> = parts.take(LIST_VALUES_MAX + 1).map(Into::into).collect();
            if values.len() > LIST_VALUES_MAX || values.iter().any(|value| value.len() > TEXT_BYTES_MAX) {
                return None;
            }
            values
        }
        _ => vec![category(raw)?.into()],
    };
    Some(values)
}

fn time_ms(raw: &Raw<'_>, unit: TimeUnit) -> Option<i64> {
    let (numerator, denominator) = match unit {
        TimeUnit::Rfc3339 => {
            let Raw::Text(text) = raw else { return None };
            return text.trim().parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
        }
        TimeUnit::S => (1000i128, 1i128),
        TimeUnit::Ms => (1, 1),
        TimeUnit::Us => (1, 1000),
    };
    let whole = match raw {
        Raw::Signed(value) => Some(i128::from(*value)),
        Raw::Unsigned(value) => Some(i128::from(*value)),
        Raw::Text(text) => text.trim().parse::<i64>().ok().map(i128::from),
        _ => None,
    };
    match whole {
        Some(value) => i64::try_from((value * numerator).div_euclid(denominator)).ok(),
        // The cast saturates; the caller's bounds refuse what does.
        None => raw.number().map(|x| (x * numerator as f64 / denominator as f64).round() as i64),
    }
}

fn time_expected(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::S => "a time in seconds since 1970, before the year 10000",
        TimeUnit::Ms => "a time in milliseconds since 1970, before the year 10000",
        TimeUnit::Us => "a time in microseconds since 1970, before the year 10000",
        TimeUnit::Rfc3339 => "a time in RFC 3339 since 1970, e.g. \"2026-01-31T12:00:00Z\"",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{FeatureConfig, Pooling};
    use crate::domain::{Origin, PartitionIndex};

    fn schema(time_unit: TimeUnit) -> SchemaConfig {
        let feature = |name: &str, column: Option<&str>, kind| FeatureConfig { name: name.into(), column: column.map(Into::into), kind };
        SchemaConfig {
            time: "ts".into(),
            time_unit,
            user: "user".into(),
            item: "item".into(),
            label: "label".into(),
            impression: Some("imp".into()),
            features: vec![
                feature("item", None, FeatureKind::Categorical),
                feature("tags", None, FeatureKind::Bag { pooling: Pooling::Mean, separator: "|".into() }),
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
        fn a_cut_event_is_an_error(cut in 0usize..100) {
            let text = whole().to_string();
            let cut = cut.min(text.len() - 1);
            prop_assert!(decode_bytes(&text.as_bytes()[..cut], Role::Labelled).is_err());
        }
    }
}
