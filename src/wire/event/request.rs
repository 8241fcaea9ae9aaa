use serde_json::{Map, Value};

use super::{DecodeError, EventDecoder, Shape, field};
use crate::domain::Field;
use crate::wire::columns::Raw;

/// A request's columns by number: the context's, over them each candidate's own.
#[derive(Debug)]
pub struct RequestColumns<'a> {
    /// One per column of the schema.
    context: Vec<Option<&'a Value>>,
    /// `[candidates, columns]`.
    values: Vec<Option<&'a Value>>,
    /// Columns that stand in any candidate.
    own: Vec<bool>,
}

impl RequestColumns<'_> {
    /// The columns that stand in any candidate; the others are the same for all of them.
    #[must_use]
    pub fn own(&self) -> &[bool] {
        &self.own
    }
}

impl EventDecoder {
    /// Sorts the columns of a request; those that the schema does not have are left out.
    #[must_use]
    pub fn columns<'a>(&self, context: &'a Map<String, Value>, candidates: &'a [Map<String, Value>]) -> RequestColumns<'a> {
        let count = self.columns.len();
        let context: Vec<_> = (0..count).map(|column| context.get(self.columns.name(column))).collect();
        let mut values = Vec::with_capacity(candidates.len() * count);
        let mut own = vec![false; count];
        for candidate in candidates {
            let start = values.len();
            values.extend_from_slice(&context);
            let mut before = None;
            for (name, value) in candidate {
                if let Some(column) = self.columns.find(name.as_bytes(), before) {
                    values[start + column] = Some(value);
                    own[column] = true;
                    before = Some(column);
                }
            }
        }
        RequestColumns { context, values, own }
    }

    /// Whether a feature is read from one of these columns; one that is made of others is read from none.
    #[must_use]
    pub fn reads_any(&self, feature: usize, columns: &[bool]) -> bool {
        self.features[feature].column().is_some_and(|column| columns[column])
    }

    /// One feature's field of a candidate, or of the context alone where none is named.
    ///
    /// # Errors
    /// [`DecodeError`] for a column of a wrong type.
    pub fn request_field(&self, feature: usize, columns: &RequestColumns<'_>, candidate: Option<usize>) -> Result<Field, DecodeError> {
        let shape = &self.features[feature];
        let Some(column) = shape.column() else { return Ok(Field::Missing) };
        let value = match candidate {
            Some(candidate) => columns.values[candidate * columns.own.len() + column],
            None => columns.context[column],
        };
        let raw = value.map_or(Raw::Null, Raw::from);
        field(shape, &raw).map_err(|expected| self.wrong(column, &raw, expected))
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
