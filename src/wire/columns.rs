//! The values of a schema's columns out of one JSON object; every other column is skipped without being built.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use smol_str::ToSmolStr;

use super::event::TEXT_BYTES_MAX;
use super::json;
use crate::domain::Text;

/// Integers up to this magnitude have a double of their own; a number written with a point or exponent beyond it may have lost digits.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// One value as JSON has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw<'a> {
    /// Not in the object.
    Absent,
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
    #[inline]
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Raw::Absent | Raw::Null => true,
            Raw::Text(text) => text.is_empty(),
            _ => false,
        }
    }

    /// The text that ids and categorical values are known by (the specification stands at [`crate::features::slot_key`]); `None` for
    /// lists, objects, numbers that may have lost digits on the way, and text of more than [`TEXT_BYTES_MAX`] bytes.
    #[inline]
    pub(super) fn canonical(&self) -> Option<Text> {
        match self {
            Raw::Text(text) => (text.len() <= TEXT_BYTES_MAX).then(|| Text::new(text)),
            Raw::Bool(value) => Some(Text::new_static(if *value { "true" } else { "false" })),
            Raw::Signed(value) => Some(value.to_smolstr()),
            Raw::Unsigned(value) => Some(value.to_smolstr()),
            Raw::Float(x) if x.abs() >= EXACT_INTEGER_MAX || !x.is_finite() => None,
            Raw::Float(x) if x.fract() == 0.0 => Some((*x as i64).to_smolstr()),
            // No double below that takes as many digits as would be refused.
            Raw::Float(x) => Some(x.to_smolstr()),
            Raw::Absent | Raw::Null | Raw::List(_) | Raw::Object => None,
        }
    }

    /// A finite number, also where it comes as text.
    #[inline]
    pub(super) fn number(&self) -> Option<f64> {
        let number = match self {
            Raw::Signed(value) => *value as f64,
            Raw::Unsigned(value) => *value as f64,
            Raw::Float(x) => *x,
            Raw::Text(text) => text.trim().parse().ok()?,
            Raw::Absent | Raw::Null | Raw::Bool(_) | Raw::List(_) | Raw::Object => return None,
        };
        number.is_finite().then_some(number)
    }

    /// The value in a few words, for an error that ends in a header.
    pub(super) fn describe(&self) -> String {
        const CHARS_SHOWN: usize = 40;
        match self {
            Raw::Absent | Raw::Null => "null".to_owned(),
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
#[derive(Debug, Default)]
pub(super) struct Columns {
    names: Vec<String>,
    members: Vec<Member>,
    numbers: HashMap<Vec<u8>, usize>,
    /// Which column came after each in the object read last, and (the last) which came first: producers write columns in one order.
    followers: Vec<AtomicUsize>,
}

/// A column as JSON has it before its value: name and colon.
#[derive(Debug, Clone, Default)]
pub(super) struct Member {
    bytes: Vec<u8>,
    /// The first eight of them and which bits of a word those are: most members are no longer, and are compared as numbers.
    head: u64,
    mask: u64,
}

impl Member {
    fn new(name: &str) -> Self {
        let bytes = [serde_json::Value::from(name).to_string().as_bytes(), b":"].concat();
        let word = |byte: &dyn Fn(&u8) -> u8| {
            let mut word = [0; 8];
            word.iter_mut().zip(&bytes).for_each(|(into, from)| *into = byte(from));
            u64::from_le_bytes(word)
        };
        Member { head: word(&|byte| *byte), mask: word(&|_| u8::MAX), bytes }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the text begins with it.
    #[inline]
    pub(super) fn begins(&self, text: &[u8]) -> bool {
        match text.first_chunk() {
            Some(head) if u64::from_le_bytes(*head) & self.mask != self.head => false,
            Some(_) if self.bytes.len() <= 8 => true,
            _ => text.starts_with(&self.bytes),
        }
    }
}

impl Clone for Columns {
    fn clone(&self) -> Self {
        let followers = self.followers.iter().map(|follower| AtomicUsize::new(follower.load(Ordering::Relaxed)));
        let Columns { names, members, numbers, .. } = self;
        Columns { names: names.clone(), members: members.clone(), numbers: numbers.clone(), followers: followers.collect() }
    }
}

impl Columns {
    /// The number of this column; a new one if it was not known.
    pub(super) fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name.as_bytes()) {
            return *number;
        }
        let number = self.names.len();
        self.names.push(name.to_owned());
        self.members.push(Member::new(name));
        self.numbers.insert(name.as_bytes().to_vec(), number);
        self.followers.resize_with(self.names.len() + 1, AtomicUsize::default);
        number
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn name(&self, number: usize) -> &str {
        &self.names[number]
    }

    /// The column that is likely to come after `before` (`None`: first) in an object, and what JSON has before its value.
    #[inline]
    pub(super) fn likely(&self, before: Option<usize>) -> (usize, &Member) {
        let likely = self.follower(before).load(Ordering::Relaxed);
        (likely, &self.members[likely])
    }

    /// The number of the column of this name, which came after `before`, if the schema has it.
    #[inline]
    pub(super) fn find(&self, name: &[u8], before: Option<usize>) -> Option<usize> {
        let likely = self.follower(before).load(Ordering::Relaxed);
        if self.names[likely].as_bytes() == name {
            return Some(likely);
        }
        let found = *self.numbers.get(name)?;
        self.follower(before).store(found, Ordering::Relaxed);
        Some(found)
    }

    #[inline]
    fn follower(&self, before: Option<usize>) -> &AtomicUsize {
        &self.followers[before.unwrap_or(self.names.len())]
    }

    /// Reads one JSON object. A schema column that stands in it twice is reported by number.
    pub(super) fn read_json<'a>(&self, json: &'a [u8]) -> Result<Row<'a>, serde_json::Error> {
        if let Some(row) = json::read(self, json) {
            return Ok(row);
        }
        self.read_any_json(json)
    }

    /// Likewise; knows all of JSON, and takes its time.
    pub(super) fn read_any_json<'a>(&self, json: &'a [u8]) -> Result<Row<'a>, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let row = RowSeed(self).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(row)
    }
}

/// The values of one object, by column number.
#[derive(Debug, PartialEq)]
pub(super) struct Row<'a> {
    /// Absent ones are null.
    pub(super) values: Vec<Raw<'a>>,
    /// The first schema column that stood in the object twice.
    pub(super) twice: Option<usize>,
}

impl<'a> Row<'a> {
    /// Without values.
    #[inline]
    pub(super) fn new(columns: &Columns) -> Self {
        let mut values = Vec::new();
        values.resize_with(columns.names.len(), || Raw::Absent);
        Row { values, twice: None }
    }

    fn holds(&self, column: usize) -> bool {
        !matches!(self.values[column], Raw::Absent)
    }

    /// A column that was read; the first value counts.
    #[inline]
    pub(super) fn put(&mut self, column: usize, value: Raw<'a>) {
        match &mut self.values[column] {
            absent @ Raw::Absent => *absent = value,
            _ => drop(self.twice.get_or_insert(column)),
        }
    }
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
        let mut row = Row::new(self.0);
        while let Some(column) = map.next_key_seed(KeySeed(self.0))? {
            match column {
                Some(column) if !row.holds(column) => row.put(column, map.next_value_seed(RawSeed)?),
                again => {
                    map.next_value::<IgnoredAny>()?;
                    row.twice = row.twice.or(again);
                }
            }
        }
        Ok(row)
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
        Ok(self.0.numbers.get(key.as_bytes()).copied())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_member_begins_what_starts_with_it(name in "[a-b\"é]{0,9}", text in "\"[a-b\"é]{0,9}\":[a-b]{0,3}", own in any::<bool>(), cut in any::<prop::sample::Index>()) {
            let member = Member::new(&name);
            let text = if own { [&member.bytes, text.as_bytes()].concat() } else { text.into_bytes() };
            let text = &text[..cut.index(text.len() + 1)];
            prop_assert_eq!(member.begins(text), text.starts_with(&member.bytes));
        }
    }
}
