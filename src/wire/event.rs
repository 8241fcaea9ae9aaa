mod request;

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_128;

use super::columns::{Columns, Raw};
use crate::config::{FeatureKind, SchemaConfig, Span, TimeUnit};
use crate::domain::{Event, EventTime, Field, ImpressionId, Label, Record, Role, UserId};

pub use request::RequestColumns;

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
            DecodeError::TooLong(_) => "DecodeError::TooLong",
            DecodeError::DuplicateColumn(_) => "DecodeError::DuplicateColumn",
            DecodeError::MissingColumn(_) => "DecodeError::MissingColumn",
            DecodeError::WrongType { .. } => "DecodeError::WrongType",
            DecodeError::Ahead { .. } => "DecodeError::Ahead",
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
    /// For this schema.
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
        self.refuse_ahead(time, record.timestamp_ms)?;
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
                Shape::Derived => Ok(Field::Missing),
                Shape::Category { column } | Shape::List { column, .. } | Shape::Number { column } => self.field(shape, &value(*column)),
            })
            .collect()
    }

    fn all_fields(&self, values: &[&Raw<'_>]) -> Result<Box<[Field]>, DecodeError> {
        self.features
            .iter()
            .map(|shape| match shape {
                Shape::Derived => Ok(Field::Missing),
                Shape::Category { column } | Shape::List { column, .. } | Shape::Number { column } => self.field(shape, values[*column]),
            })
            .collect()
    }

    fn field(&self, shape: &Shape, raw: &Raw<'_>) -> Result<Field, DecodeError> {
        if raw.is_missing() {
            return Ok(Field::Missing);
        }
        match shape {
            Shape::Derived => Ok(Field::Missing),
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

    /// A record without a timestamp says nothing.
    fn refuse_ahead(&self, time: EventTime, record_ms: Option<i64>) -> Result<(), DecodeError> {
        let ahead_ms = record_ms.filter(|ms| *ms >= 0).map_or(0, |ms| time.0.saturating_sub(ms));
        if ahead_ms > self.ahead_ms { Err(DecodeError::Ahead { ahead_ms, allowed_ms: self.ahead_ms }) } else { Ok(()) }
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
mod tests;
