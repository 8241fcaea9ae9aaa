mod request;

use std::borrow::Borrow;

use xxhash_rust::xxh3::xxh3_128;

use super::columns::{Columns, Raw};
use super::protobuf;
use crate::config::{EventFormat, FeatureKind, SchemaConfig, Span, TimeUnit};
use crate::domain::{Event, EventTime, Field, ImpressionId, Label, Record, Role, Text, UserId};

pub use request::{Object, ObjectColumns};

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
    /// Not a message of the kind that `topics.format` says.
    #[error("not a rocket.v1.Columns message: {0}")]
    NotProtobuf(&'static str),
    /// Longer than [`EVENT_BYTES_MAX`].
    #[error("a record of {0} bytes; at most {EVENT_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A column of the schema stands in the event twice; which one counts would be a guess.
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
    /// Dated later than its record. One such event would end the windows of all that are not.
    #[error("dated {ahead_ms} ms after its own record was written; topics.ahead allows {allowed_ms}: a clock is wrong, or the time's unit")]
    Ahead {
        /// Event time less the record's timestamp.
        ahead_ms: i64,
        /// How much is allowed.
        allowed_ms: i64,
    },
}

impl DecodeError {
    /// The class name in dead letters and metrics; stable.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            DecodeError::NotJson(_) => "DecodeError::NotJson",
            DecodeError::NotProtobuf(_) => "DecodeError::NotProtobuf",
            DecodeError::TooLong(_) => "DecodeError::TooLong",
            DecodeError::DuplicateColumn(_) => "DecodeError::DuplicateColumn",
            DecodeError::MissingColumn(_) => "DecodeError::MissingColumn",
            DecodeError::WrongType { .. } => "DecodeError::WrongType",
            DecodeError::Ahead { .. } => "DecodeError::Ahead",
        }
    }
}

/// An event, or any of its parts, as producers write it in this format. Objects within it, which no column can be, are null in Protobuf.
#[must_use]
pub fn encode(format: EventFormat, columns: &serde_json::Map<String, serde_json::Value>) -> Vec<u8> {
    match format {
        EventFormat::Json => serde_json::to_vec(columns).expect("a map with text keys is JSON"),
        EventFormat::Protobuf => protobuf::write(columns),
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
    format: EventFormat,
    columns: Columns,
    time: usize,
    time_unit: TimeUnit,
    /// How much later than its record an event may be dated.
    ahead_ms: i64,
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
    /// Made of the event time or of other features; no column.
    Derived,
}

impl EventDecoder {
    /// For this schema; events are JSON.
    #[must_use]
    pub fn new(schema: &SchemaConfig) -> Self {
        let mut columns = Columns::default();
        let features = schema
            .features
            .iter()
            .map(|feature| {
                let Some(column) = feature.column().map(|name| columns.number(name)) else { return Shape::Derived };
                match &feature.kind {
                    FeatureKind::Bag { separator, .. } => Shape::List { column, separator: separator.clone() },
                    FeatureKind::Log1p | FeatureKind::Standardise { .. } | FeatureKind::Buckets { .. } => Shape::Number { column },
                    _ => Shape::Category { column },
                }
            })
            .collect();
        EventDecoder {
            format: EventFormat::Json,
            time: columns.number(&schema.time),
            time_unit: schema.time_unit,
            ahead_ms: i64::MAX,
            user: columns.number(&schema.user),
            item: columns.number(&schema.item),
            label: columns.number(&schema.label),
            impression: schema.impression.as_deref().map(|name| columns.number(name)),
            features,
            columns,
        }
    }

    /// Likewise, and refuses events that are dated later than their records by more than `ahead`.
    #[must_use]
    pub fn refusing_ahead(self, ahead: Span) -> Self {
        EventDecoder { ahead_ms: ahead.as_millis(), ..self }
    }

    /// Likewise, and events come in this format.
    #[must_use]
    pub fn reading(self, format: EventFormat) -> Self {
        EventDecoder { format, ..self }
    }

    /// Decodes one record. Numbers may come as numbers or text; lists as arrays or separated text; ids as text or integers.
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
        let row = match self.format {
            EventFormat::Json => self.columns.read_json(payload).map_err(|e| DecodeError::NotJson(e.to_string()))?,
            EventFormat::Protobuf => protobuf::read(&self.columns, payload).map_err(DecodeError::NotProtobuf)?,
        };
        if let Some(column) = row.twice {
            return Err(DecodeError::DuplicateColumn(self.columns.name(column).to_owned()));
        }
        let values = row.values.as_slice();
        let time = self.time(values)?;
        self.refuse_ahead(time, record.timestamp_ms)?;
        let impression = self.impression(values, record.role)?;
        let (user, label, fields) = match record.role {
            Role::Click => (UserId("".into()), None, Box::default()),
            Role::Impression => (self.viewer(values)?, None, self.all_fields(|column| &values[column])?),
            Role::Labelled => (self.viewer(values)?, Some(self.label(values)?), self.all_fields(|column| &values[column])?),
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
        self.all_fields(value)
    }

    /// One per feature of the schema. `value` gives a column's.
    fn all_fields<'a, V: Borrow<Raw<'a>>>(&self, value: impl Fn(usize) -> V) -> Result<Box<[Field]>, DecodeError> {
        // Of this length from the beginning: it is made for every event.
        let mut fields = Vec::with_capacity(self.features.len());
        for shape in &self.features {
            fields.push(match shape {
                Shape::Derived => Field::Missing,
                Shape::Category { column } | Shape::List { column, .. } | Shape::Number { column } => {
                    let value = value(*column);
                    let raw = value.borrow();
                    field(shape, raw).map_err(|expected| self.wrong(*column, raw, expected))?
                }
            });
        }
        Ok(fields.into())
    }

    fn time(&self, values: &[Raw<'_>]) -> Result<EventTime, DecodeError> {
        let raw = self.needed(values, self.time)?;
        match time_ms(raw, self.time_unit).filter(|ms| (0..=TIME_MS_MAX).contains(ms)) {
            Some(ms) => Ok(EventTime(ms)),
            None => Err(self.wrong(self.time, raw, time_expected(self.time_unit))),
        }
    }

    /// A record without a timestamp says nothing.
    fn refuse_ahead(&self, time: EventTime, record_ms: Option<i64>) -> Result<(), DecodeError> {
        let ahead_ms = record_ms.filter(|ms| *ms >= 0).map_or(0, |ms| time.0.saturating_sub(ms));
        if ahead_ms > self.ahead_ms { Err(DecodeError::Ahead { ahead_ms, allowed_ms: self.ahead_ms }) } else { Ok(()) }
    }

    fn impression(&self, values: &[Raw<'_>], role: Role) -> Result<Option<ImpressionId>, DecodeError> {
        let optional = role == Role::Labelled;
        match self.impression {
            None if optional => Ok(None),
            None => Err(DecodeError::MissingColumn("schema.impression".to_owned())),
            Some(column) if optional && values[column].is_missing() => Ok(None),
            Some(column) => Ok(Some(ImpressionId(xxh3_128(self.id(values, column)?.as_bytes())))),
        }
    }

    fn viewer(&self, values: &[Raw<'_>]) -> Result<UserId, DecodeError> {
        self.id(values, self.item)?;
        Ok(UserId(self.id(values, self.user)?))
    }

    fn label(&self, values: &[Raw<'_>]) -> Result<Label, DecodeError> {
        let raw = self.needed(values, self.label)?;
        let label = match raw {
            Raw::Bool(label) => Some(*label),
            Raw::Text(text) if text.trim() == "true" => Some(true),
            Raw::Text(text) if text.trim() == "false" => Some(false),
            _ => match raw.number() {
                Some(1.0) => Some(true),
                Some(0.0) => Some(false),
                _ => None,
            },
        };
        label.ok_or_else(|| self.wrong(self.label, raw, LABEL))
    }

    fn id(&self, values: &[Raw<'_>], column: usize) -> Result<Text, DecodeError> {
        let raw = self.needed(values, column)?;
        let whole = match raw {
            Raw::Bool(_) => false,
            Raw::Float(x) => x.fract() == 0.0,
            _ => true,
        };
        raw.canonical().filter(|_| whole).ok_or_else(|| self.wrong(column, raw, ID))
    }

    fn needed<'r, 'a>(&self, values: &'r [Raw<'a>], column: usize) -> Result<&'r Raw<'a>, DecodeError> {
        let raw = &values[column];
        if raw.is_missing() { Err(DecodeError::MissingColumn(self.columns.name(column).to_owned())) } else { Ok(raw) }
    }

    fn wrong(&self, column: usize, raw: &Raw<'_>, expected: &'static str) -> DecodeError {
        DecodeError::WrongType { column: self.columns.name(column).to_owned(), found: raw.describe(), expected }
    }
}

/// `Err`: what the column should hold.
#[inline]
fn field(shape: &Shape, raw: &Raw<'_>) -> Result<Field, &'static str> {
    if raw.is_missing() {
        return Ok(Field::Missing);
    }
    match shape {
        Shape::Derived => Ok(Field::Missing),
        Shape::Category { .. } => raw.canonical().map(Field::Text).ok_or(CATEGORY),
        Shape::Number { .. } => raw.number().map(Field::Number).ok_or(NUMBER),
        Shape::List { separator, .. } => {
            let values = list(raw, separator).ok_or(LIST)?;
            Ok(if values.is_empty() { Field::Missing } else { Field::List(values.into()) })
        }
    }
}

/// The values of a bag; `None` if it has too many, or values that no category can be.
fn list(raw: &Raw<'_>, separator: &str) -> Option<Vec<Text>> {
    let values: Vec<Text> = match raw {
        Raw::List(values) if values.len() > LIST_VALUES_MAX => return None,
        Raw::List(values) => values.iter().filter(|value| !value.is_missing()).map(Raw::canonical).collect::<Option<_>>()?,
        Raw::Text(text) => {
            let parts = text.split(separator).map(str::trim).filter(|part| !part.is_empty());
            let values: Vec<Text> = parts.take(LIST_VALUES_MAX + 1).map(Into::into).collect();
            if values.len() > LIST_VALUES_MAX || values.iter().any(|value| value.len() > TEXT_BYTES_MAX) {
                return None;
            }
            values
        }
        _ => vec![raw.canonical()?],
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
mod tests;
