use crate::config::{Pooling, SchemaConfig};
use crate::domain::{EventTime, Field};

/// A slot: ids that share a name, pooled to one embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSpec {
    /// Name.
    pub name: String,
    /// `Sum` for slots with one id.
    pub pooling: Pooling,
}

/// What a schema makes of fields: slots in their order, then numbers in theirs.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSpec {
    slots: Vec<SlotSpec>,
    numbers: Vec<String>,
    schema: SchemaConfig,
}

/// One example's ids and numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// Ids of all slots, one slot after the other.
    pub ids: Vec<u64>,
    /// `ids[bounds[s]..bounds[s + 1]]` belongs to slot s; length slots + 1.
    pub bounds: Vec<u32>,
    /// Numeric inputs; finite.
    pub numbers: Vec<f32>,
}

/// A schema that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema.features.{feature}: {why}")]
pub struct FeatureError {
    /// Feature name.
    pub feature: String,
    /// Why.
    pub why: String,
}

impl FeatureSpec {
    /// Builds the spec.
    ///
    /// # Errors
    /// [`FeatureError`]: duplicate names, bounds that do not rise, a standard deviation that is not above zero.
    pub fn new(schema: &SchemaConfig) -> Result<Self, FeatureError> {
        let _ = schema;
        todo!()
    }

    /// Slots.
    #[must_use]
    pub fn slots(&self) -> &[SlotSpec] {
        &self.slots
    }

    /// Names of the numeric inputs.
    #[must_use]
    pub fn numbers(&self) -> &[String] {
        &self.numbers
    }

    /// The schema it was built from.
    #[must_use]
    pub fn schema(&self) -> &SchemaConfig {
        &self.schema
    }

    /// Width of a net's input vector: slots × dim + numbers.
    #[must_use]
    pub fn inputs(&self, dim: usize) -> usize {
        self.slots.len() * dim + self.numbers.len()
    }

    /// Fields (in schema order) → ids and numbers, appended to a cleared `into`. Never fails: decoders have checked types; a missing
    /// categorical is no id (a zero vector), a missing number is 0.
    pub fn extract(&self, time: EventTime, fields: &[Field], into: &mut Features) {
        let _ = (time, fields, into);
        todo!()
    }
}
