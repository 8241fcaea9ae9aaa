use crate::config::SchemaConfig;
use crate::domain::{Event, Field, Record};

/// Why an event cannot be used. Its text goes into the dead letter's headers; it names the column, the value and what is allowed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not a JSON object.
    #[error("not a JSON object: {0}")]
    NotJson(String),
    /// A column the schema needs is absent or null.
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
pub struct EventDecoder {}

impl EventDecoder {
    /// For this schema.
    #[must_use]
    pub fn new(schema: &SchemaConfig) -> Self {
        let _ = schema;
        todo!()
    }

    /// Decodes one record. Numbers may come as JSON numbers or text; lists as arrays or separated text; ids as text or integers.
    ///
    /// # Errors
    /// [`DecodeError`]: the record belongs to the dead letters.
    pub fn decode(&self, record: &Record) -> Result<Decoded, DecodeError> {
        let _ = record;
        todo!()
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
        let _ = (context, item);
        todo!()
    }
}
