//! The values of a schema's columns out of one JSON object; every other column is skipped without being built.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Integers up to this magnitude have a double of their own; a number written with a point or exponent beyond it may have lost digits.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// One value as JSON has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw<'a> {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Raw<'a>>),
    Object,
}

impl Raw<'_> {
    /// Null and empty text stand for no value.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Raw::Null => true,
            Raw::Text(text) => text.is_empty(),
            _ => false,
        }
    }

    /// The text that ids and categorical values are known by (the specification stands at [`crate::features::slot_key`]); `None` for
    /// lists, objects and numbers that may have lost digits on the way.
    pub(super) fn canonical(&self) -> Option<Cow<'_, str>> {
        match self {
            Raw::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
            Raw::Signed(value) => Some(value.to_string().into()),
            Raw::Unsigned(value) => Some(value.to_string().into()),
            Raw::Float(x) if x.abs() >= EXACT_INTEGER_MAX || !x.is_finite() => None,
            Raw::Float(x) if x.fract() == 0.0 => Some((*x as i64).to_string().into()),
            Raw::Float(x) => Some(x.to_string().into()),
            Raw::Text(text) => Some(Cow::Borrowed(text)),
            Raw::Null | Raw::List(_) | Raw::Object => None,
        }
    }

    /// A finite number, also where it comes as text.
    pub(super) fn number(&self) -> Option<f64> {
        let number = match self {
            Raw::Signed(value) => *value as f64,
            Raw::Unsigned(value) => *value as f64,
            Raw::Float(x) => *x,
            Raw::Text(text) => text.trim().parse().ok()?,
            Raw::Null | Raw::Bool(_) | Raw::List(_) | Raw::Object => return None,
        };
        number.is_finite().then_some(number)
    }

    /// The value in a few words, for an error that ends in a header.
    pub(super) fn describe(&self) -> String {
        const CHARS_SHOWN: usize = 40;
        match self {
            Raw::Null => "null".to_owned(),
            Raw::Bool(value) => value.to_string(),
            Raw::Signed(value) => value.to_string(),
            Raw::Unsigned(value) => value.to_string(),
            Raw::Float(x) => format!("{x:e}"),
            Raw::Text(text) => {
                let start: String = text.chars().take(CHARS_SHOWN).collect();
                if start.len() < text.len() { format!("text of {} bytes starting {start:?}", text.len()) } else { format!("{start:?}") }
            }
            Raw::List(values) => format!("a list of {}", values.len()),
            Raw::Object => "an object".to_owned(),
        }
    }
}

impl<'a> From<&'a serde_json::Value> for Raw<'a> {
    fn from(value: &'a serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Raw::Null,
            serde_json::Value::Bool(value) => Raw::Bool(*value),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(signed), _) => Raw::Signed(signed),
                (None, Some(unsigned)) => Raw::Unsigned(unsigned),
                // A number that is neither is a double; serde_json has none that are not finite.
                (None, None) => number.as_f64().map_or(Raw::Null, Raw::Float),
            },
            serde_json::Value::String(text) => Raw::Text(Cow::Borrowed(text)),
            serde_json::Value::Array(values) => Raw::List(values.iter().map(Raw::from).collect()),
            serde_json::Value::Object(_) => Raw::Object,
        }
    }
}

/// The distinct columns of a schema, by number.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    names: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Columns {
    /// The number of this column; a new one if it was not known.
    pub(super) fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len();
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn name(&self, number: usize) -> &str {
        &self.names[number]
    }

    /// Reads one JSON object. A schema column that stands in it twice is reported by number.
    pub(super) fn read<'a>(&self, json: &'a [u8]) -> Result<Row<'a>, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let row = RowSeed(self).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(row)
    }
}

/// The values of one object, by column number; absent ones are null.
pub(super) struct Row<'a> {
    pub(super) values: Vec<Raw<'a>>,
    /// The first schema column that stood in the object twice.
    pub(super) twice: Option<usize>,
}

struct RowSeed<'c>(&'c Columns);

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = Row<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Row<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = Row<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row<'de>, A::Error> {
        let mut values: Vec<Option<Raw<'de>>> = vec![None; self.0.names.len()];
        let mut twice = None;
        while let Some(column) = map.next_key_seed(KeySeed(self.0))? {
            match column {
                Some(column) if values[column].is_some() => {
                    twice.get_or_insert(column);
                    map.next_value::<IgnoredAny>()?;
                }
                Some(column) => values[column] = Some(map.next_value_seed(RawSeed)?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Row { values: values.into_iter().map(|value| value.unwrap_or(Raw::Null)).collect(), twice })
    }
}

/// A key → its column's number, without keeping the key.
struct KeySeed<'c>(&'c Columns);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a column name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.numbers.get(key).copied())
    }
}

struct RawSeed;

impl<'de> DeserializeSeed<'de> for RawSeed {
    type Value = Raw<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RawSeed {
    type Value = Raw<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Raw<'de>, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Raw<'de>, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Raw<'de>, E> {
        Ok(Raw::Signed(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Raw<'de>, E> {
        Ok(Raw::Unsigned(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Raw<'de>, E> {
        Ok(Raw::Float(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Raw<'de>, E> {
        Ok(Raw::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Raw<'de>, E> {
        Ok(Raw::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw<'de>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(RawSeed)? {
            values.push(value);
        }
        Ok(Raw::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Raw::Object)
    }
}
