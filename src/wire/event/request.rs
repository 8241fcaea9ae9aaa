use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{DecodeError, EventDecoder, Shape, field};
use crate::domain::Field;
use crate::wire::columns::{Raw, Row};
use crate::wire::json::RequestText;

/// Columns of a request, as whoever asks has them.
#[derive(Debug, Clone, Copy)]
pub enum Object<'a> {
    /// Parsed.
    Map(&'a Map<String, Value>),
    /// JSON of one object.
    Json(&'a str),
}

/// What [`Object::identity`] of a map begins with; no JSON does.
const MAP: u8 = 0;

impl<'a> Object<'a> {
    /// Of its [`Object::identity`]; `None` for those of a map.
    #[must_use]
    pub fn of_identity(identity: &'a [u8]) -> Option<Self> {
        let json = identity.first().is_some_and(|byte| *byte != MAP);
        std::str::from_utf8(identity).ok().filter(|_| json).map(Object::Json)
    }

    /// Bytes that no other columns have: the JSON itself, or what is made of a map. The same columns may have several.
    #[must_use]
    pub fn identity(self) -> Cow<'a, [u8]> {
        match self {
            Object::Json(json) => json.as_bytes().into(),
            Object::Map(map) => {
                let mut identity = vec![MAP];
                add_map(map, &mut identity);
                identity.into()
            }
        }
    }
}

impl<'a> RequestText<'a> {
    /// Context and candidates.
    #[must_use]
    pub fn objects(&self) -> (Object<'a>, Vec<Object<'a>>) {
        (Object::Json(self.context), self.candidates.iter().copied().map(Object::Json).collect())
    }
}

/// Appends a map: each part bears its kind and its length.
fn add_map(map: &Map<String, Value>, into: &mut Vec<u8>) {
    add_length(map.len(), into);
    for (name, value) in map {
        add_text(name, into);
        add_value(value, into);
    }
}

fn add_value(value: &Value, into: &mut Vec<u8>) {
    match value {
        Value::Null => into.push(b'n'),
        Value::Bool(value) => into.extend([b'b', u8::from(*value)]),
        Value::Number(number) => {
            let (kind, bits) = match (number.as_u64(), number.as_i64()) {
                (Some(unsigned), _) => (b'u', unsigned),
                (None, Some(signed)) => (b'i', signed.cast_unsigned()),
                (None, None) => (b'f', number.as_f64().unwrap_or(f64::NAN).to_bits()),
            };
            into.push(kind);
            into.extend(bits.to_le_bytes());
        }
        Value::String(text) => {
            into.push(b't');
            add_text(text, into);
        }
        Value::Array(values) => {
            into.push(b'l');
            add_length(values.len(), into);
            values.iter().for_each(|value| add_value(value, into));
        }
        Value::Object(map) => {
            into.push(b'o');
            add_map(map, into);
        }
    }
}

fn add_text(text: &str, into: &mut Vec<u8>) {
    add_length(text.len(), into);
    into.extend_from_slice(text.as_bytes());
}

fn add_length(length: usize, into: &mut Vec<u8>) {
    into.extend((length as u64).to_le_bytes());
}

/// The schema's columns of one object.
#[derive(Debug)]
pub struct ObjectColumns<'a>(Row<'a>);

impl ObjectColumns<'_> {
    /// Whether each column of the schema stands in the object, be it null.
    pub fn borne(&self) -> impl Iterator<Item = bool> {
        self.0.values.iter().map(|value| !matches!(value, Raw::Absent))
    }
}

impl EventDecoder {
    /// Columns of the schema.
    #[must_use]
    pub fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// Reads the schema's columns of an object; all others are left out.
    ///
    /// # Errors
    /// [`DecodeError::NotJson`] for JSON that is no object, [`DecodeError::DuplicateColumn`].
    pub fn columns<'a>(&self, object: Object<'a>) -> Result<ObjectColumns<'a>, DecodeError> {
        let row = match object {
            Object::Json(json) => self.columns.read_json(json.as_bytes()).map_err(|error| DecodeError::NotJson(error.to_string()))?,
            Object::Map(map) => {
                let mut row = Row::new(&self.columns);
                let mut before = None;
                for (name, value) in map {
                    if let Some(column) = self.columns.find(name.as_bytes(), before) {
                        row.put(column, Raw::from(value));
                        before = Some(column);
                    }
                }
                row
            }
        };
        match row.twice {
            Some(column) => Err(DecodeError::DuplicateColumn(self.columns.name(column).to_owned())),
            None => Ok(ObjectColumns(row)),
        }
    }

    /// Whether a feature is read from one of these columns; one that is made of others is read from none.
    #[must_use]
    pub fn reads_any(&self, feature: usize, columns: &[bool]) -> bool {
        self.features[feature].column().is_some_and(|column| columns[column])
    }

    /// One feature's field of a candidate, whose columns stand over the context's; of the context alone where there is none.
    ///
    /// # Errors
    /// [`DecodeError`] for a column of a wrong type.
    pub fn request_field(
        &self,
        feature: usize,
        context: &ObjectColumns<'_>,
        candidate: Option<&ObjectColumns<'_>>,
    ) -> Result<Field, DecodeError> {
        let shape = &self.features[feature];
        let Some(column) = shape.column() else { return Ok(Field::Missing) };
        let own = candidate.map(|candidate| &candidate.0.values[column]).filter(|value| !matches!(value, Raw::Absent));
        let raw = own.unwrap_or(&context.0.values[column]);
        field(shape, raw).map_err(|expected| self.wrong(column, raw, expected))
    }
}

impl Shape {
    fn column(&self) -> Option<usize> {
        match self {
            Shape::Category { column } | Shape::List { column, .. } | Shape::Number { column } => Some(*column),
            Shape::Derived => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn every_map_has_bytes_of_its_own() {
        let maps = [
            json!({}),
            json!({"a": null}),
            json!({"a": ""}),
            json!({"a": "b"}),
            json!({"ab": ""}),
            json!({"a": "", "b": ""}),
            json!({"a": true}),
            json!({"a": 1}),
            json!({"a": -1}),
            json!({"a": 1.0}),
            json!({"a": "1"}),
            json!({"a": []}),
            json!({"a": ["b"]}),
            json!({"a": [["b"]]}),
            json!({"a": ["b", "c"]}),
            json!({"a": ["bc"]}),
            json!({"a": {}}),
            json!({"a": {"b": 1}}),
        ];
        let identity = |map: &Value| Object::Map(map.as_object().expect("an object")).identity().into_owned();
        let distinct: HashSet<Vec<u8>> = maps.iter().map(identity).collect();
        assert_eq!(distinct.len(), maps.len());
        assert!(distinct.iter().all(|bytes| bytes[0] == MAP));
        let texts = ["{}", " {}"].map(|json| Object::Json(json).identity().into_owned());
        assert_eq!(texts, [b"{}".to_vec(), b" {}".to_vec()]);
        assert!(texts.iter().all(|text| matches!(Object::of_identity(text), Some(Object::Json(json)) if json.as_bytes() == text)));
        assert!(distinct.iter().all(|bytes| Object::of_identity(bytes).is_none()));
    }
}
